package testserver

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Servers are started a moment after their port was drawn: drawn twice meanwhile, it
// would be one test's and another's.
func TestPortsAreHandedOutOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ports")
	one, err := openLedger(path)
	require.NoError(t, err)
	other, err := openLedger(path)
	require.NoError(t, err)
	take := func(l *portLedger, port int) bool {
		taken, err := l.take(port)
		require.NoError(t, err)
		return taken
	}
	require.True(t, take(one, 20000))
	require.False(t, take(one, 20000), "in one process")
	require.False(t, take(other, 20000), "in another")
	require.True(t, take(other, 20001))
	require.NoError(t, one.file.Close())
	require.True(t, take(other, 20000), "its process has ended")
	require.NoError(t, other.file.Close())

	seen := map[int]bool{}
	for range 300 {
		port, err := FreePort()
		require.NoError(t, err)
		require.False(t, seen[port])
		seen[port] = true
	}
}
