package guards_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/memory"
)

// A proxy slept while the state was restored from an old copy and changed until
// its list had the version that the proxy knew. The lists differ, and what the
// proxy knows must not come into force again (F9).
func TestSameVersionOfAnotherHistory(t *testing.T) {
	t.Parallel()
	c := newClock()
	lost, restored := memory.New(), memory.New()
	insert(t, lost, "s3://data/a/")
	insert(t, restored, "s3://data/b/")
	r := &switching{lost}
	l := newList(r, c.clock())
	require.NoError(t, l.Refresh(t.Context()))
	r.Registry = restored
	c.step(2*lease, 2*lease)
	require.ErrorIs(t, l.Refresh(t.Context()), guards.ErrWentBack)
	_, err := l.Current()
	require.ErrorIs(t, err, guards.ErrLeaseOver)

	// The same list is no reason to stop.
	r.Registry = lost
	c.step(2*lease, 2*lease)
	require.NoError(t, l.Refresh(t.Context()))
	list, err := l.Current()
	require.NoError(t, err)
	assert.Len(t, list.All(), 1)
}

type switching struct{ guards.Registry }
