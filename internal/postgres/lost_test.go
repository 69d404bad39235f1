package postgres

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/faultproxy"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/state"
)

// network puts a proxy before a server.
func network(t *testing.T, dsn string) (*faultproxy.Proxy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	p, err := faultproxy.Listen(u.Host)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	u.Host = p.Addr()
	// Named statements would hide from the proxy what it is to look for.
	q := u.Query()
	q.Set("default_query_exec_mode", "cache_describe")
	u.RawQuery = q.Encode()
	return p, u.String()
}

// TestLostAnswerOfACommit: COMMIT takes effect and its answer is swallowed. Run
// finds the truth (F7).
func TestLostAnswerOfACommit(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	proxy, through := network(t, dsn)
	db := open(t, through, 2)
	sc := testScope(t, "s3://data/jobs/")
	// A connection's first transaction describes its statements, COMMIT among them,
	// and must not be the one whose answer is swallowed.
	warm := func() {
		tx, _ := putOne(sc, "warm", nil)
		require.NoError(t, db.Transact(t.Context(), tx))
	}
	warm()
	tx, ref := putOne(sc, "a", func() { proxy.DropAnswer(1, "COMMIT") })
	require.ErrorIs(t, db.Transact(t.Context(), tx), state.ErrUnknown)
	verdict, err := db.Resolve(t.Context(), tx.ID)
	require.NoError(t, err)
	require.Equal(t, state.Committed, verdict)
	require.True(t, exists(t, db, ref))

	warm()
	tx, ref = putOne(sc, "b", func() { proxy.DropAnswer(1, "COMMIT") })
	require.NoError(t, state.Run(t.Context(), db, tx))
	require.True(t, exists(t, db, ref))
}

// TestCommitThatArrivesAfterItsVerdict: the second flush is still in the network
// when its sender gives up. The verdict is "aborted", and the flush, delivered
// afterwards, does nothing (F7).
func TestCommitThatArrivesAfterItsVerdict(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	proxy, through := network(t, dsn)
	cut, whole := open(t, through, 2), open(t, dsn, 2)
	cut.commitTimeout = 200 * time.Millisecond
	sc := testScope(t, "s3://data/jobs/")
	warm, _ := putOne(sc, "warm", nil)
	require.NoError(t, cut.Transact(t.Context(), warm))

	tx, ref := putOne(sc, "a", func() { proxy.Hold(faultproxy.Requests, 0) })
	require.ErrorIs(t, cut.Transact(t.Context(), tx), state.ErrUnknown)
	verdict, err := whole.Resolve(t.Context(), tx.ID)
	require.NoError(t, err)
	require.Equal(t, state.Aborted, verdict)
	require.NoError(t, proxy.Release(t.Context(), faultproxy.Requests))

	// The key is free once the late flush was refused.
	again, _ := putOne(sc, "a", nil)
	again.Decide = func(v *state.View) (state.Changes, error) {
		require.Nil(t, v.Objects[ref], "the decided transaction took effect")
		return state.Changes{}, nil
	}
	require.NoError(t, whole.Transact(t.Context(), again))
	verdict, err = whole.Resolve(t.Context(), tx.ID)
	require.NoError(t, err)
	require.Equal(t, state.Aborted, verdict)
}

// TestServerKilledInATransaction: between the flushes, with everything lost that
// was not written. The next calls find the server again through a pool of dead
// connections.
func TestServerKilledInATransaction(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	dsn := server.DSN("postgres")
	_, _, err := Migrate(t.Context(), dsn)
	require.NoError(t, err)
	db := open(t, dsn, 4)
	sc := testScope(t, "s3://data/jobs/")
	kept, keptRef := putOne(sc, "kept", nil)
	require.NoError(t, db.Transact(t.Context(), kept))

	tx, ref := putOne(sc, "a", func() {
		require.NoError(t, server.Kill())
		require.NoError(t, server.Start())
	})
	require.ErrorIs(t, state.Run(t.Context(), db, tx), state.ErrUnavailable)
	require.False(t, exists(t, db, ref))
	require.True(t, exists(t, db, keptRef), "an acknowledged commit is gone (F6)")
	require.NoError(t, db.Transact(t.Context(), raise(sc, 34)))

	require.NoError(t, server.Stop(pgtest.Fast))
	_, err = db.Read(t.Context(), state.Query{Objects: []object.Ref{ref}})
	require.ErrorIs(t, err, state.ErrUnavailable, "fails closed (F9)")
	require.ErrorIs(t, db.Transact(t.Context(), raise(sc, 35)), state.ErrUnavailable)
	require.NoError(t, server.Start())
	require.NoError(t, db.Transact(t.Context(), raise(sc, 36)))
}

// TestDeadConnectionsAreReplaced: a restart between two calls is no error of
// either.
func TestDeadConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	dsn := server.DSN("postgres")
	_, _, err := Migrate(t.Context(), dsn)
	require.NoError(t, err)
	db := open(t, dsn, 2)
	sc := testScope(t, "s3://data/jobs/")
	for n := range 3 {
		require.NoError(t, db.Transact(t.Context(), raise(sc, 1)))
		require.NoError(t, server.Stop(pgtest.Immediate))
		require.NoError(t, server.Start())
		if n%2 == 0 {
			_, err := db.Read(t.Context(), state.Query{})
			require.NoError(t, err)
		}
	}
}

// TestManyDeadConnectionsAreReplaced: nor is it where more connections are dead than
// anybody tries one after the other, and too fresh to be looked at before they are used.
func TestManyDeadConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	dsn := server.DSN("postgres")
	_, _, err := Migrate(t.Context(), dsn)
	require.NoError(t, err)
	db := open(t, dsn, 8)
	sc := testScope(t, "s3://data/jobs/")
	for n := range 2 {
		var conns []*pgxpool.Conn
		for range 8 {
			conn, err := db.pool.Acquire(t.Context())
			require.NoError(t, err)
			conns = append(conns, conn)
		}
		require.NoError(t, server.Stop(pgtest.Immediate))
		require.NoError(t, server.Start())
		for _, conn := range conns {
			conn.Release()
		}
		if n == 0 {
			_, err = db.Read(t.Context(), state.Query{})
		} else {
			err = db.Transact(t.Context(), raise(sc, 1))
		}
		require.NoError(t, err)
	}
}

// TestCancelledWaitForAReplica: PostgreSQL commits, warns, and answers COMMIT. What
// is not on the replica may be taken back by a failover, so it is no success (F6).
func TestCancelledWaitForAReplica(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	dsn := server.DSN("postgres")
	_, _, err := Migrate(t.Context(), dsn)
	require.NoError(t, err)
	db := open(t, dsn, 4)
	admin := connect(t, dsn)
	replicas := func(names string) {
		_, err := admin.Exec(t.Context(), "ALTER SYSTEM SET synchronous_standby_names = '"+names+"'")
		require.NoError(t, err)
		_, err = admin.Exec(t.Context(), "SELECT pg_reload_conf()")
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			var now string
			conn := connect(t, dsn)
			return conn.QueryRow(t.Context(), "SHOW synchronous_standby_names").Scan(&now) == nil && now == names
		}, 10*time.Second, 10*time.Millisecond)
	}
	sc := testScope(t, "s3://data/jobs/")
	warm, _ := putOne(sc, "warm", nil)
	require.NoError(t, db.Transact(t.Context(), warm))
	replicas("nobody")
	tx, _ := putOne(sc, "a", nil)
	done := make(chan error, 1)
	go func() { done <- db.Transact(t.Context(), tx) }()
	const cancelWaits = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	require.Eventually(t, func() bool {
		tag, err := admin.Exec(t.Context(), cancelWaits)
		return err == nil && tag.RowsAffected() > 0
	}, 10*time.Second, 5*time.Millisecond)
	err = <-done
	require.ErrorIs(t, err, state.ErrUnknown)
	require.ErrorContains(t, err, "synchronous replication")

	// While no replica answers there is no durable verdict either.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = db.Resolve(ctx, tx.ID)
	require.ErrorIs(t, err, state.ErrUnavailable)
	_, err = admin.Exec(t.Context(), "SET synchronous_commit = off")
	require.NoError(t, err)
	replicas("")
	verdict, err := db.Resolve(t.Context(), tx.ID)
	require.NoError(t, err)
	require.Equal(t, state.Committed, verdict)
}
