package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/statetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// migrated gives the DSN of a database of the test's own with the schema.
func migrated(t testing.TB) string {
	t.Helper()
	dsn := pgtest.DSN(t)
	_, _, err := Migrate(t.Context(), dsn)
	require.NoError(t, err)
	return dsn
}

// open opens the state for as long as the test runs.
func open(t testing.TB, dsn string, connections int) *DB {
	t.Helper()
	db, err := Open(t.Context(), dsn, Options{Connections: connections})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// advance moves everything that is stored into the past: the server's clock is
// the machine's. Rows move between partitions as they would with age.
func advance(t testing.TB, dsn string, d time.Duration) {
	t.Helper()
	conn := connect(t, dsn)
	for _, statement := range []string{
		`UPDATE outcomes SET day = day - $1::int`,
		`UPDATE retries SET day = day - $1::int`,
		`UPDATE uploads SET changed = changed - make_interval(days => $1)`,
		`UPDATE claims SET keep_until = greatest(claimed + interval '1 microsecond', keep_until - make_interval(days => $1))`,
		`UPDATE events SET day = day - $1::int`,
		`UPDATE proxies SET seen = seen - make_interval(days => $1)`,
		`UPDATE places SET since = since - make_interval(days => $1), until = until - make_interval(days => $1)`,
	} {
		_, err := conn.Exec(t.Context(), statement, int(d.Hours())/24)
		require.NoError(t, err)
	}
}

// connect gives a connection beside the driver, to look and to interfere.
func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestContract holds the driver to the contract, straight and through PgBouncer
// in transaction pooling mode, where the two handles' transactions share server
// sessions.
func TestContract(t *testing.T) {
	t.Parallel()
	t.Run("direct", func(t *testing.T) {
		t.Parallel()
		statetest.Run(t, func(t testing.TB) statetest.Subject {
			dsn := migrated(t)
			return subject(t, dsn, dsn)
		})
	})
	t.Run("pgbouncer", func(t *testing.T) {
		t.Parallel()
		statetest.Run(t, func(t testing.TB) statetest.Subject {
			dsn := migrated(t)
			return subject(t, pgtest.Bouncer(t, dsn), dsn)
		})
	})
}

func subject(t testing.TB, dsn, direct string) statetest.Subject {
	return statetest.Subject{
		State:   open(t, dsn, 0),
		Second:  func(t testing.TB) state.State { return open(t, dsn, 0) },
		Advance: func(t testing.TB, d time.Duration) { advance(t, direct, d) },
	}
}
