package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/state"
)

// freezeIdle leaves a transaction open that holds a lock, as a proxy does that
// froze between its first flush and its second.
func freezeIdle(t *testing.T, dsn string, statements ...string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	for _, sql := range append([]string{"BEGIN"}, statements...) {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	return conn
}

// freezeMidFlush does the same in the middle of a flush: statements without the
// Sync that ends them. PostgreSQL calls such a session active, and no timeout of
// idle transactions applies to it.
func freezeMidFlush(t *testing.T, dsn string, statements ...string) *pgx.Conn {
	t.Helper()
	conn := connect(t, dsn)
	flush := conn.PgConn().StartPipeline(t.Context())
	for _, sql := range append([]string{"BEGIN"}, statements...) {
		flush.SendQueryParams(sql, nil, nil, nil, nil)
	}
	flush.SendFlushRequest()
	require.NoError(t, flush.Flush())
	for range len(statements) + 1 {
		results, err := flush.GetResults()
		require.NoError(t, err)
		_, err = results.(*pgconn.ResultReader).Close()
		require.NoError(t, err)
	}
	return conn
}

func lockStatement(mode state.Mode, id int64) string {
	name := "pg_advisory_xact_lock_shared"
	if mode == state.Exclusive {
		name = "pg_advisory_xact_lock"
	}
	return fmt.Sprintf("SELECT %s('%d')", name, id)
}

// TestFrozenHolderDoesNotHoldATakeover: whoever froze with the scope's lock is put
// out, and what it might still send finds no transaction (F4).
func TestFrozenHolderDoesNotHoldATakeover(t *testing.T) {
	t.Parallel()
	for name, freeze := range map[string]func(*testing.T, string, ...string) *pgx.Conn{
		"idle in transaction": freezeIdle, "in the middle of a flush": freezeMidFlush,
	} {
		for _, through := range []string{"direct", "pgbouncer"} {
			for _, mode := range []state.Mode{state.Shared, state.Exclusive} {
				t.Run(name+"/"+through+map[state.Mode]string{state.Shared: "/shared", state.Exclusive: "/exclusive"}[mode], func(t *testing.T) {
					t.Parallel()
					dsn := migrated(t)
					if through == "pgbouncer" {
						dsn = pgtest.Bouncer(t, dsn)
					}
					db := open(t, dsn, 4)
					sc := testScope(t, "s3://data/jobs/")
					require.NoError(t, db.Transact(t.Context(), raise(sc, 33))) // describes the statements
					frozen := freeze(t, dsn, lockStatement(mode, scopeLock(sc)))
					begun := time.Now()
					require.NoError(t, db.Transact(t.Context(), raise(sc, 34)))
					// The bound is a second on an idle machine; a busy one gets two more.
					require.Less(t, time.Since(begun), 3*time.Second)
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					_, err := frozen.Exec(ctx, "COMMIT", pgx.QueryExecModeSimpleProtocol)
					require.Error(t, err, "the frozen session goes on")
				})
			}
		}
	}
}

// TestFrozenHolderOfAKey: no takeover hangs on it, so it gets more time, but not
// the two hours that TCP would give it.
func TestFrozenHolderOfAKey(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 4)
	tx, ref := putOne(testScope(t, "s3://data/jobs/"), "a", nil)
	freezeMidFlush(t, dsn, lockStatement(state.Exclusive, lockID(keyDomain, ref.Bucket, ref.Key)))
	require.NoError(t, db.Transact(t.Context(), tx))
	require.True(t, exists(t, db, ref))
}

// TestWorkingHolderIsLeftAlone: a session that holds the lock and works is not
// ended, whatever waits; the waiter is told busy after its own bound. Its own
// locks do not make the waiter end itself either.
func TestWorkingHolderIsLeftAlone(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 4)
	sc := testScope(t, "s3://data/jobs/")
	working := freezeIdle(t, dsn, lockStatement(state.Shared, scopeLock(sc)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := working.Exec(ctx, "SELECT pg_sleep(60)")
		done <- err
	}()
	tx := raise(sc, 34)
	tx.Wait, tx.GuardList, tx.Guards, tx.GuardMode = 1500*time.Millisecond, true, []fence.GuardID{1}, state.Exclusive
	require.ErrorIs(t, db.Transact(t.Context(), tx), state.ErrBusy)
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled, "the working session was ended: %v", err)
}

// TestResolveEndsACommitThatWillNeverBeSent: the proxy was cut off after its
// outcome was written and before COMMIT. Resolve ends the session and has its
// verdict; without that the key would stay locked and the verdict open.
func TestResolveEndsACommitThatWillNeverBeSent(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 4)
	id := state.NewID()
	freezeMidFlush(t, dsn, lockStatement(state.Exclusive, txLock(id)),
		"INSERT INTO outcomes VALUES ('"+outcomeDay(id).Time.Format(time.DateOnly)+"', '"+id.String()+"', 1)")
	verdict, err := db.Resolve(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, state.Aborted, verdict)
}

// TestStalledTransactionLosesToItsResolver: decided as aborted between its flushes,
// it cannot commit any more (F7).
func TestStalledTransactionLosesToItsResolver(t *testing.T) {
	t.Parallel()
	db := open(t, migrated(t), 4)
	var tx *state.Tx
	var ref object.Ref
	var verdict state.Outcome
	var rerr error
	tx, ref = putOne(testScope(t, "s3://data/jobs/"), "a", func() { verdict, rerr = db.Resolve(t.Context(), tx.ID) })
	err := state.Run(t.Context(), db, tx)
	require.NoError(t, rerr)
	require.Equal(t, state.Aborted, verdict)
	require.ErrorIs(t, err, state.ErrUnavailable)
	require.ErrorContains(t, err, "decided as aborted")
	require.False(t, exists(t, db, ref))
}

// TestIdleLimit: a proxy that says nothing between its flushes loses its session
// although nobody waits, and is told that nothing happened.
func TestIdleLimit(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 4)
	watch := connect(t, dsn)
	tx, ref := putOne(testScope(t, "s3://data/jobs/"), "a", func() {
		ctx, cancel := context.WithTimeout(t.Context(), 4*idleLimit)
		defer cancel()
		for held := 1; held > 0 && ctx.Err() == nil; {
			if err := watch.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&held); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(20 * time.Millisecond) // asks again; proves nothing
		}
	})
	err := state.Run(t.Context(), db, tx)
	require.Error(t, err)
	require.False(t, errors.Is(err, state.ErrUnknown), "%v", err)
	require.False(t, exists(t, db, ref))
}

// TestStuckExclusiveHoldersHoldNobodyForLong: a proxy that was cut off in the
// middle of its second flush is not idle for PostgreSQL, so nothing but the waiters
// ends its session: those that wait for a shared lock too, and those that wait for
// a lock that a decision took.
func TestStuckExclusiveHoldersHoldNobodyForLong(t *testing.T) {
	t.Parallel()
	sc := testScope(t, "s3://data/jobs/")
	for name, tc := range map[string]struct {
		lock  int64
		mode  state.Mode
		doing func(context.Context, *DB) error
	}{
		"the guard list, and a lease is renewed (F9)": {lockID(listDomain), state.Exclusive, func(ctx context.Context, db *DB) error {
			_, _, err := db.RenewGuards(ctx, state.NewID(), 0, -1)
			return err
		}},
		"a guard, and a write commits under it": {guardLock(1), state.Exclusive, func(ctx context.Context, db *DB) error {
			tx, _ := putOne(sc, "a", nil)
			tx.Guards = []fence.GuardID{1}
			return db.Transact(ctx, tx)
		}},
		"a scope, and a write commits in it": {scopeLock(sc), state.Exclusive, func(ctx context.Context, db *DB) error {
			tx, _ := putOne(sc, "a", nil)
			return db.Transact(ctx, tx)
		}},
		"the counter, and a token is drawn": {lockID(counterDomain), state.Exclusive, func(ctx context.Context, db *DB) error {
			return db.Transact(ctx, drawing(sc, func(v *state.View) error { _, err := v.Draw(); return err }))
		}},
		"the counter, and it is lifted": {lockID(counterDomain), state.Shared, func(ctx context.Context, db *DB) error {
			return db.Transact(ctx, drawing(sc, func(v *state.View) error { return v.Lift(1000) }))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := migrated(t)
			db := open(t, dsn, 4)
			freezeMidFlush(t, dsn, lockStatement(tc.mode, tc.lock))
			ctx, cancel := context.WithTimeout(t.Context(), 4500*time.Millisecond) // less than lock_timeout
			defer cancel()
			require.NoError(t, tc.doing(ctx, db))
		})
	}
}

// TestSharedHoldersAreNotEndedBySharers: they do not block each other, however
// long one of them waits for its key.
func TestSharedHoldersAreNotEndedBySharers(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 4)
	sc := testScope(t, "s3://data/jobs/")
	sharing := freezeIdle(t, dsn, lockStatement(state.Shared, scopeLock(sc)))
	working := freezeIdle(t, dsn, lockStatement(state.Exclusive, lockID(keyDomain, "data", "jobs/a")))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := working.Exec(ctx, "SELECT pg_sleep(60)")
		done <- err
	}()
	tx, _ := putOne(sc, "a", nil)
	tx.Keys = []object.Ref{{Bucket: "data", Key: "jobs/a"}}
	tx.Wait = keyPatience + time.Second
	require.ErrorIs(t, db.Transact(t.Context(), tx), state.ErrBusy)
	_, err := sharing.Exec(t.Context(), "SELECT 1")
	require.NoError(t, err, "a session that only shares the scope was ended")
	cancel()
	<-done
}

// drawing is a transaction that holds a scope exclusively and uses the counter.
func drawing(sc fence.Scope, use func(*state.View) error) *state.Tx {
	return &state.Tx{ID: state.NewID(), Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}}, Decide: func(v *state.View) (state.Changes, error) {
		return state.Changes{}, use(v)
	}}
}
