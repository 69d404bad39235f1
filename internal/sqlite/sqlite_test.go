package sqlite_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/internal/sqlite"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/statetest"
)

func TestMain(m *testing.M) {
	child()
	goleak.VerifyTestMain(m)
}

// migrated is the path of a fresh state.
func migrated(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state ?#%41.db") // names that a careless URI would alter
	require.NoError(t, sqlite.Migrate(t.Context(), path))
	return path
}

func open(t testing.TB, path string, o sqlite.Options) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestState(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(t testing.TB) statetest.Subject {
		var ahead atomic.Int64
		options := sqlite.Options{Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }}
		path := migrated(t)
		return statetest.Subject{
			State:     open(t, path, options),
			Second:    func(t testing.TB) state.State { return open(t, path, options) },
			Advance:   func(_ testing.TB, d time.Duration) { ahead.Add(int64(d)) },
			OneWriter: true,
		}
	})
}
