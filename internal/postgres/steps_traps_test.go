package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/pgtest"
)

// The tests of this file are the traps that the order of the statements steps around:
// each is shown to catch the form that looks right, and not to catch ours. Were
// PostgreSQL to change here, the reasons would have to be thought over again.

// twoSessions plays two transactions by hand.
type twoSessions struct {
	t      *testing.T
	first  *pgx.Conn
	second *pgx.Conn
	watch  *pgtest.Watch
}

func newTwoSessions(t *testing.T) *twoSessions {
	t.Helper()
	dsn := migrated(t)
	s := &twoSessions{t: t, first: connect(t, dsn), second: connect(t, dsn), watch: pgtest.OpenWatch(t, dsn)}
	s.do(s.first, `INSERT INTO scopes (scope, generation, token, writes, epoch, horizon, holder, owner, ttl_ns) VALUES ('s', 1, 33, 'sealed', 1, 1, '', '', 0)`)
	return s
}

// do runs one statement and returns how many rows it gave or changed.
func (s *twoSessions) do(conn *pgx.Conn, sql string) int64 {
	s.t.Helper()
	tag, err := conn.Exec(s.t.Context(), sql)
	require.NoError(s.t, err, sql)
	return tag.RowsAffected()
}

// waits begins a statement of the second session that waits for a lock of the first one.
// end lets it have its answer.
func (s *twoSessions) waits(sql string) (end func() (int64, error)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.t.Cleanup(cancel)
	done := make(chan struct{})
	var rows int64
	var err error
	go func() {
		defer close(done)
		tag, failed := s.second.Exec(ctx, sql)
		rows, err = tag.RowsAffected(), failed
	}()
	pid := int32(s.second.PgConn().PID()) //nolint:gosec // a process id
	require.True(s.t, s.watch.EndOrBlock(s.t, done, func() []int32 { return []int32{pid} }), "it did not wait: %s", sql)
	return func() (int64, error) { <-done; return rows, err }
}

const (
	trapLock   = `SELECT pg_advisory_xact_lock(1)`
	trapShared = `SELECT pg_advisory_xact_lock_shared(1)`
	trapPut    = ` INSERT INTO objects (bucket, key, scope, token, attempt, physical, size, etag, attributes)
	               SELECT 'b', 'k', 's', 33, gen_random_uuid(), 'p', 0, 'e', '{}' `
	trapUpsert = ` ON CONFLICT (bucket, key) DO UPDATE SET attempt = excluded.attempt`
	trapAbsent = ` WHERE NOT EXISTS (SELECT FROM objects WHERE bucket = 'b' AND key = 'k')`
)

// TestTrapConditionInTheStatementThatLocks: of two writers with If-None-Match: * both win
// if one statement locks and looks (F10); with the lock in a statement of its own one does.
func TestTrapConditionInTheStatementThatLocks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name         string
		lock, decide string
		second       int64
	}{
		{"one statement", `SELECT 1`, `WITH l AS MATERIALIZED (` + trapLock + `)` + trapPut + ` FROM l` + trapAbsent + trapUpsert, 1},
		{"ours", trapLock, trapPut + trapAbsent + trapUpsert, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newTwoSessions(t)
			s.do(s.first, "BEGIN")
			s.do(s.first, tc.lock)
			require.EqualValues(t, 1, s.do(s.first, tc.decide), "the first writer wins")
			s.do(s.second, "BEGIN")
			var wins int64
			if tc.lock == trapLock {
				locked := s.waits(tc.lock)
				s.do(s.first, "COMMIT")
				_, err := locked()
				require.NoError(t, err)
				wins = s.do(s.second, tc.decide)
			} else {
				decided := s.waits(tc.decide)
				s.do(s.first, "COMMIT")
				var err error
				wins, err = decided()
				require.NoError(t, err)
			}
			require.Equal(t, tc.second, wins)
		})
	}
}

// TestTrapRowLockWithItsCondition: FOR UPDATE in the statement that compares gives the new
// row to the comparison of that row, and nothing new to everything else: of two writers
// with If-Match on one object both win (F10).
func TestTrapRowLockWithItsCondition(t *testing.T) {
	t.Parallel()
	s := newTwoSessions(t)
	s.do(s.first, trapPut)
	ifMatch := `
WITH held AS (SELECT FROM scopes WHERE scope = 's' FOR UPDATE), was AS MATERIALIZED (SELECT etag FROM objects WHERE bucket = 'b' AND key = 'k')
UPDATE objects SET etag = 'new' WHERE bucket = 'b' AND key = 'k' AND EXISTS (SELECT FROM held) AND (SELECT etag FROM was) = 'e'`
	s.do(s.first, "BEGIN")
	require.EqualValues(t, 1, s.do(s.first, ifMatch))
	s.do(s.second, "BEGIN")
	decided := s.waits(ifMatch)
	s.do(s.first, "COMMIT")
	wins, err := decided()
	require.NoError(t, err)
	require.EqualValues(t, 1, wins, "the trap is gone")
}

// TestTrapMarkInTheStatementThatLocks: a write that waits for a raise in the statement that
// compares the mark is admitted under the old one, after the raise (F3, F4).
func TestTrapMarkInTheStatementThatLocks(t *testing.T) {
	t.Parallel()
	admitted := ` WHERE (SELECT token FROM scopes WHERE scope = 's') <= 33`
	for _, tc := range []struct {
		name         string
		lock, decide string
		writes       int64
	}{
		{"one statement", "", `WITH l AS MATERIALIZED (` + trapShared + `)` + trapPut + ` FROM l` + admitted, 1},
		{"ours", trapShared, trapPut + admitted, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newTwoSessions(t)
			s.do(s.first, "BEGIN")
			s.do(s.first, trapLock)
			s.do(s.first, `UPDATE scopes SET token = 34 WHERE scope = 's'`)
			s.do(s.second, "BEGIN")
			var writes int64
			if tc.lock == "" {
				decided := s.waits(tc.decide)
				s.do(s.first, "COMMIT")
				var err error
				writes, err = decided()
				require.NoError(t, err)
			} else {
				locked := s.waits(tc.lock)
				s.do(s.first, "COMMIT")
				_, err := locked()
				require.NoError(t, err)
				writes = s.do(s.second, tc.decide)
			}
			require.Equal(t, tc.writes, writes, "written under 33 when the mark was 34")
		})
	}
}

// TestTrapTooWeakALock: a raise that only shares the lock with writers commits between the
// comparison of one of them and its COMMIT, and the write appears under the newer mark (F4).
func TestTrapTooWeakALock(t *testing.T) {
	t.Parallel()
	s := newTwoSessions(t)
	s.do(s.first, "BEGIN")
	s.do(s.first, trapShared)
	require.EqualValues(t, 1, s.do(s.first, `SELECT FROM scopes WHERE scope = 's' AND token <= 33`))
	s.do(s.second, "BEGIN")
	s.do(s.second, trapShared)
	s.do(s.second, `UPDATE scopes SET token = 34 WHERE scope = 's'`)
	s.do(s.second, "COMMIT")
	require.EqualValues(t, 1, s.do(s.first, trapPut))
	s.do(s.first, "COMMIT")
	require.EqualValues(t, 1, s.do(s.second, `SELECT FROM objects, scopes WHERE objects.token < scopes.token`))
}

// TestTrapUpgrade: two that share a lock and then want it for themselves wait for each
// other, until one is told that it is a deadlock: the mode is chosen before.
func TestTrapUpgrade(t *testing.T) {
	t.Parallel()
	s := newTwoSessions(t)
	for _, conn := range []*pgx.Conn{s.first, s.second} {
		s.do(conn, "BEGIN")
		s.do(conn, `SET LOCAL deadlock_timeout = '50ms'`)
		s.do(conn, trapShared)
	}
	upgraded := s.waits(trapLock)
	_, ferr := s.first.Exec(t.Context(), trapLock)
	if ferr != nil {
		s.do(s.first, "ROLLBACK")
	}
	_, serr := upgraded()
	require.Contains(t, []string{sqlState(ferr), sqlState(serr)}, deadlockDetected)
}

// TestTrapClockFromBeforeTheWait: now() is when the transaction began. A lease that ran out
// during the wait looks alive to it.
func TestTrapClockFromBeforeTheWait(t *testing.T) {
	t.Parallel()
	s := newTwoSessions(t)
	s.do(s.first, "BEGIN")
	s.do(s.first, trapLock)
	s.do(s.second, "BEGIN")
	locked := s.waits(trapLock)
	s.do(s.first, `UPDATE scopes SET lease_until = clock_timestamp() WHERE scope = 's'`)
	s.do(s.first, "COMMIT")
	_, err := locked()
	require.NoError(t, err)
	require.EqualValues(t, 1, s.do(s.second, `SELECT FROM scopes WHERE lease_until > now()`), "alive to now()")
	require.EqualValues(t, 0, s.do(s.second, `SELECT FROM scopes WHERE lease_until > clock_timestamp()`), "over by the clock")
}

// TestTrapTokenDrawnBeforeTheLock: whoever draws first and locks second would lower the
// mark; the schema refuses it (F1, F2).
func TestTrapTokenDrawnBeforeTheLock(t *testing.T) {
	t.Parallel()
	s := newTwoSessions(t)
	s.do(s.first, `SELECT setval('fencing_token', 100)`)
	var early, late int64
	require.NoError(t, s.first.QueryRow(t.Context(), `SELECT nextval('fencing_token')`).Scan(&early))
	require.NoError(t, s.second.QueryRow(t.Context(), `SELECT nextval('fencing_token')`).Scan(&late))
	_, err := s.second.Exec(t.Context(), `UPDATE scopes SET token = $1 WHERE scope = 's'`, late)
	require.NoError(t, err)
	_, err = s.first.Exec(t.Context(), `UPDATE scopes SET token = $1 WHERE scope = 's'`, early)
	require.Equal(t, markFalls, sqlState(err))
}

// TestTrapOutcomeByTheRow: that an object's row is not there says nothing about a
// transaction that may still commit (F7); its id, claimed by somebody else, does.
func TestTrapOutcomeByTheRow(t *testing.T) {
	t.Parallel()
	s := newTwoSessions(t)
	s.do(s.first, "BEGIN")
	s.do(s.first, trapPut)
	require.EqualValues(t, 0, s.do(s.second, `SELECT FROM objects`), "not there")
	s.do(s.first, "COMMIT")
	require.EqualValues(t, 1, s.do(s.second, `SELECT FROM objects`), "and there after all")
}

// TestTrapVerdictInTheStatementThatClaims: the insert waits for the transaction and then
// does nothing; what the same statement reads is from before the wait (F7).
func TestTrapVerdictInTheStatementThatClaims(t *testing.T) {
	t.Parallel()
	const day, id = `'2031-05-06'`, `'01980000-0000-7000-8000-000000000001'`
	claim := `INSERT INTO outcomes VALUES (` + day + `, ` + id + `, 2) ON CONFLICT DO NOTHING`
	look := `SELECT verdict FROM outcomes WHERE id = ` + id
	for _, tc := range []struct {
		name, claim, look string
		sees              int64
	}{
		{"one statement", "", `WITH c AS (` + claim + `) ` + look, 0},
		{"ours", claim, look, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newTwoSessions(t)
			s.do(s.first, "BEGIN")
			s.do(s.first, `INSERT INTO outcomes VALUES (`+day+`, `+id+`, 1)`)
			s.do(s.second, "BEGIN")
			first := tc.claim
			if first == "" {
				first = tc.look
			}
			decided := s.waits(first)
			s.do(s.first, "COMMIT")
			sees, err := decided()
			require.NoError(t, err)
			if tc.claim != "" {
				sees = s.do(s.second, tc.look)
			}
			require.Equal(t, tc.sees, sees)
		})
	}
}
