package pgtest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// stepped opens a connection through a stepper.
func stepped(t *testing.T) (*Stepper, *pgx.Conn, *pgx.Conn) {
	t.Helper()
	dsn := DSN(t)
	s, through := Step(t, dsn)
	open := func(dsn string) *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	direct := open(dsn)
	_, err := direct.Exec(t.Context(), "CREATE TABLE t (n int)")
	require.NoError(t, err)
	return s, open(through), direct
}

func count(t *testing.T, conn *pgx.Conn) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&n))
	return n
}

// TestStepPipeline: of statements that are sent together one passes at a time, and COMMIT
// takes effect when it passes and not before.
func TestStepPipeline(t *testing.T) {
	t.Parallel()
	s, conn, direct := stepped(t)
	var err error
	call := func() {
		b := &pgx.Batch{}
		for _, sql := range []string{"BEGIN", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)", "COMMIT"} {
			b.Queue(sql)
		}
		err = conn.SendBatch(context.Background(), b).Close()
	}
	for n, next := range []string{"BEGIN", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)", "COMMIT"} {
		before := count(t, direct)
		passed, stopped := s.Stop(t, n, call, func(st *Statement) {
			require.Equal(t, next, st.SQL)
			require.Equal(t, int32(conn.PgConn().PID()), st.PID) //nolint:gosec // a process id
			require.Equal(t, before, count(t, direct))
		})
		require.True(t, stopped)
		require.Len(t, passed, n)
		require.NoError(t, err)
		require.Equal(t, before+2, count(t, direct))
	}
	passed, stopped := s.Stop(t, 4, call, func(*Statement) { t.Error("there is a fifth statement") })
	require.False(t, stopped)
	require.Len(t, passed, 4)
	require.NoError(t, err)
}

// TestStepSync: a statement outside of a transaction is executed and takes effect later.
func TestStepSync(t *testing.T) {
	t.Parallel()
	s, conn, direct := stepped(t)
	var err error
	_, stopped := s.Stop(t, 1, func() { _, err = conn.Exec(context.Background(), "INSERT INTO t VALUES ($1)", 1) }, func(st *Statement) {
		require.Equal(t, SyncStep, st.SQL)
		require.Zero(t, count(t, direct))
	})
	require.True(t, stopped)
	require.NoError(t, err)
	require.Equal(t, 1, count(t, direct))
}

// TestStepFaults: a statement that was cut off is not executed; one whose answer is lost
// is; and one that is never to pass does not.
func TestStepFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault func(s *Stepper, st *Statement)
		rows  int
	}{
		"cut": {func(_ *Stepper, st *Statement) { st.Cut() }, 0},
		"answer lost": {func(_ *Stepper, st *Statement) {
			st.LoseAnswer()
			<-st.Answered()
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, conn, direct := stepped(t)
			var err error
			_, stopped := s.Stop(t, 1, func() { _, err = conn.Exec(context.Background(), "INSERT INTO t VALUES ($1)", 1) }, func(st *Statement) { tc.fault(s, st) })
			require.True(t, stopped)
			require.Error(t, err)
			require.Equal(t, tc.rows, count(t, direct))
		})
	}
	t.Run("never", func(t *testing.T) {
		t.Parallel()
		s, conn, direct := stepped(t)
		s.Never("INSERT")
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		_, err := conn.Exec(ctx, "INSERT INTO t VALUES (1)")
		require.Error(t, err)
		require.Zero(t, count(t, direct))
	})
}

// TestStepAfterAnError: what the server skips is not waited for.
func TestStepAfterAnError(t *testing.T) {
	t.Parallel()
	s, conn, _ := stepped(t)
	var err error
	passed, stopped := s.Stop(t, 9, func() {
		b := &pgx.Batch{}
		for _, sql := range []string{"BEGIN", "SELECT 1 / (SELECT count(*) FROM t)", "SELECT 2", "COMMIT"} {
			b.Queue(sql)
		}
		err = conn.SendBatch(context.Background(), b).Close()
	}, func(*Statement) {})
	require.False(t, stopped)
	require.Error(t, err)
	require.Len(t, passed, 2)
}

// TestWatch tells who waits from who has ended.
func TestWatch(t *testing.T) {
	t.Parallel()
	dsn := DSN(t)
	w := OpenWatch(t, dsn)
	holder, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = holder.Close(context.Background()) })
	waiter, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = waiter.Close(context.Background()) })
	_, err = holder.Exec(t.Context(), "SELECT pg_advisory_lock(1)")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = waiter.Exec(context.Background(), "SELECT pg_advisory_lock(1)")
	}()
	pids := func() []int32 { return []int32{int32(waiter.PgConn().PID())} } //nolint:gosec // a process id
	require.True(t, w.EndOrBlock(t, done, pids))
	_, err = holder.Exec(t.Context(), "SELECT pg_advisory_unlock(1)")
	require.NoError(t, err)
	require.False(t, w.EndOrBlock(t, done, pids))
}
