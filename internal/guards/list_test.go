package guards_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// F9: past the lease nothing is decided from the list, whichever clock shows it.
func TestLease(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name        string
		wall, awake time.Duration
		current     bool // by the clocks that Current reads
		valid       bool // by all clocks
	}{
		{"fresh", 0, 0, true, true},
		{"just inside", lease - 1, lease - 1, true, true},
		{"over", lease, lease, false, false},
		{"over by the wall clock alone", lease, 0, false, false},
		{"over by the clock that runs in suspend alone", 0, lease, true, false},
		{"wall clock set back", -time.Hour, lease, true, false},
		{"wall clock set back a little", -time.Hour, lease - 1, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			l := newList(memory.New(), c.clock())
			require.NoError(t, l.Refresh(t.Context()))
			f, err := l.Begin(t.Context(), "data", "k")
			require.NoError(t, err)
			defer f.End()
			c.step(tc.wall, tc.awake)
			_, err = l.Current()
			assert.Equal(t, tc.current, err == nil, "Current: %v", err)
			err = f.StillValid()
			assert.Equal(t, tc.valid, err == nil, "StillValid: %v", err)
			if !tc.valid {
				require.ErrorIs(t, err, guards.ErrLeaseOver)
			}
			require.NoError(t, l.Refresh(t.Context()))
			require.NoError(t, f.StillValid(), "the lease is had again and no guard came")
		})
	}
}

func TestNoLeaseBeforeTheFirstRenewal(t *testing.T) {
	t.Parallel()
	l := newList(memory.New(), newClock().clock())
	_, err := l.Current()
	require.ErrorIs(t, err, guards.ErrLeaseOver)
	_, err = l.Begin(t.Context(), "data", "k")
	require.ErrorIs(t, err, guards.ErrLeaseOver)
	assert.Nil(t, l.Known())
}

// The lease counts from before the state was asked, not from its answer.
func TestLeaseCountsFromBeforeAsking(t *testing.T) {
	t.Parallel()
	c := newClock()
	var slow atomic.Bool
	s := memory.New(memory.WithFaults(func(at memory.Stage) error {
		if at == memory.Writing && slow.Load() {
			c.step(lease/4, lease/4)
		}
		return nil
	}))
	l := newList(s, c.clock())
	require.NoError(t, l.Refresh(t.Context()))
	slow.Store(true)
	require.NoError(t, l.Refresh(t.Context()))
	c.step(lease*3/4, lease*3/4)
	_, err := l.Current()
	require.ErrorIs(t, err, guards.ErrLeaseOver)
}

func TestStateUnreachable(t *testing.T) {
	t.Parallel()
	c := newClock()
	var down atomic.Bool
	boom := errors.New("no route")
	s := memory.New(memory.WithFaults(func(memory.Stage) error {
		if down.Load() {
			return boom
		}
		return nil
	}))
	insert(t, s, "s3://data/jobs/")
	l := newList(s, c.clock())
	require.NoError(t, l.Refresh(t.Context()))
	down.Store(true)
	require.ErrorIs(t, l.Refresh(t.Context()), boom)
	_, err := l.Current()
	require.NoError(t, err, "the lease is not over yet")
	c.step(lease, lease)
	_, err = l.Current()
	require.ErrorIs(t, err, guards.ErrLeaseOver)
	assert.True(t, l.Known().Guarded("data"), "reads may still look at the old list")
	down.Store(false)
	require.NoError(t, l.Refresh(t.Context()))
	_, err = l.Current()
	require.NoError(t, err)
}

// registry answers from a script.
type registry struct {
	renew func(acked, known int64) (int64, []fence.Guard, error)
}

func (r registry) RenewGuards(_ context.Context, _ uuid.UUID, acked, known int64) (int64, []fence.Guard, error) {
	return r.renew(acked, known)
}

func (registry) ForgetProxy(context.Context, uuid.UUID) error { return nil }

func TestListNeverGoesBack(t *testing.T) {
	t.Parallel()
	version := int64(7)
	c := newClock()
	l := newList(registry{func(_, _ int64) (int64, []fence.Guard, error) { return version, nil, nil }}, c.clock())
	require.NoError(t, l.Refresh(t.Context()))
	version = 6
	require.ErrorIs(t, l.Refresh(t.Context()), guards.ErrWentBack)
	c.step(lease, lease)
	_, err := l.Current()
	require.ErrorIs(t, err, guards.ErrLeaseOver)
}

// A proxy's row is committed before the list that its lease rests on is read:
// otherwise a renewal could read the list before a guard was committed and show
// its row after the adder had looked for proxies.
func TestRegistersBeforeItReads(t *testing.T) {
	t.Parallel()
	c := newClock()
	var calls int
	var atLease []int
	r := registry{func(_, known int64) (int64, []fence.Guard, error) {
		calls++
		return 3, nil, nil
	}}
	l := newList(r, c.clock())
	for range 3 {
		before := calls
		require.NoError(t, l.Refresh(t.Context()))
		atLease = append(atLease, calls-before)
	}
	assert.Equal(t, []int{3, 1, 1}, atLease, "register, read, acknowledge; then one call each")
	c.step(lease, lease)
	before := calls
	require.NoError(t, l.Refresh(t.Context()))
	assert.Equal(t, 2, calls-before, "after a lapse: register, read")
}

func TestFlightUnderANewGuard(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := memory.New()
	l := newList(s, c.clock())
	require.NoError(t, l.Refresh(t.Context()))
	acked := func() int64 {
		ps, _, err := s.Proxies(t.Context())
		require.NoError(t, err)
		require.Len(t, ps, 1)
		return ps[0].Acked
	}
	first := acked()

	inside, err := l.Begin(t.Context(), "data", "x", "jobs/a")
	require.NoError(t, err)
	outside, err := l.Begin(t.Context(), "data", "other/a")
	require.NoError(t, err)
	defer outside.End()
	bucket, err := l.BeginBucket(t.Context(), "data")
	require.NoError(t, err)

	c.step(lease/2, lease/2)
	insert(t, s, "s3://data/jobs/")
	require.NoError(t, l.Refresh(t.Context()))
	assert.Equal(t, first, acked(), "not acknowledged while flights are under the guard")
	_, err = l.Begin(t.Context(), "data", "jobs/b")
	require.ErrorIs(t, err, guards.ErrGuarded)
	_, err = l.BeginBucket(t.Context(), "data")
	require.ErrorIs(t, err, guards.ErrGuarded)
	require.NoError(t, inside.StillValid(), "it may finish")

	// F6: the renewed lease is not theirs. What they had is over a lease after the
	// last renewal that did not show the guard.
	c.step(lease/2, lease/2)
	require.NoError(t, l.Refresh(t.Context()))
	require.ErrorIs(t, inside.StillValid(), guards.ErrLeaseOver)
	require.NoError(t, outside.StillValid())

	inside.End()
	require.NoError(t, l.Refresh(t.Context()))
	assert.Equal(t, first, acked())
	bucket.End()
	bucket.End()
	require.NoError(t, l.Refresh(t.Context()))
	assert.Equal(t, first+1, acked())
}

// Guards that came and went while the lease was over may have covered anything.
func TestFlightsEndWithAGapInWhichTheListChanged(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := memory.New()
	l := newList(s, c.clock())
	require.NoError(t, l.Refresh(t.Context()))
	f, err := l.Begin(t.Context(), "data", "elsewhere")
	require.NoError(t, err)
	defer f.End()
	c.step(lease, lease)
	insert(t, s, "s3://data/jobs/")
	require.NoError(t, l.Refresh(t.Context()))
	require.Error(t, f.StillValid())
}

// While a changed list is put into force a covered flight is not lent the new
// lease, not even for the moment before it is found.
func TestInstallLendsNothing(t *testing.T) {
	t.Parallel()
	c := newClock()
	var during func()
	clock := c.clock()
	awake := clock.Awake
	clock.Awake = func() time.Duration {
		if f := during; f != nil {
			during = nil
			defer func() { during = f }()
			f()
		}
		return awake()
	}
	s := memory.New()
	l := newList(s, clock)
	require.NoError(t, l.Refresh(t.Context()))
	f, err := l.Begin(t.Context(), "data", "jobs/a")
	require.NoError(t, err)
	defer f.End()
	insert(t, s, "s3://data/jobs/")
	c.step(lease, lease)
	looked := 0
	during = func() { looked++; assert.Error(t, f.StillValid()) }
	require.NoError(t, l.Refresh(t.Context()))
	assert.Greater(t, looked, 3)
	during = nil
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := memory.New()
	l := newList(s, newClock().clock())
	require.NoError(t, l.Refresh(t.Context()))
	f, err := l.Begin(t.Context(), "data", "k")
	require.NoError(t, err)
	require.NoError(t, l.Close(t.Context()))
	require.ErrorIs(t, f.StillValid(), guards.ErrLeaseOver)
	f.End()
	require.Error(t, l.Refresh(t.Context()))
	ps, _, err := s.Proxies(t.Context())
	require.NoError(t, err)
	assert.Empty(t, ps)
}

func TestFlightEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	l := newList(memory.New(), newClock().clock())
	require.NoError(t, l.Refresh(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	f, err := l.Begin(ctx, "data", "k")
	require.NoError(t, err)
	defer f.End()
	cancel()
	<-f.Context().Done()
	require.ErrorIs(t, f.StillValid(), context.Canceled)
}

func BenchmarkCurrent(b *testing.B) {
	l := guards.NewList(memory.New(), uuid.New(), time.Hour, guards.ListOptions{Logger: quiet()})
	require.NoError(b, l.Refresh(b.Context()))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.Current(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkFlight(b *testing.B) {
	l := guards.NewList(memory.New(), uuid.New(), time.Hour, guards.ListOptions{Logger: quiet()})
	require.NoError(b, l.Refresh(b.Context()))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			f, err := l.Begin(b.Context(), "data", "k")
			if err != nil {
				b.Fatal(err)
			}
			f.End()
		}
	})
}

// asked counts renewals.
type asked struct {
	guards.Registry
	times int
}

func (a *asked) RenewGuards(ctx context.Context, proxy uuid.UUID, acked, known int64) (int64, []fence.Guard, error) {
	a.times++
	return a.Registry.RenewGuards(ctx, proxy, acked, known)
}

// TestWhoHasGoneRenewsNothing: whether a request that has ended renews is not left to
// chance, though nobody else is renewing.
func TestWhoHasGoneRenewsNothing(t *testing.T) {
	t.Parallel()
	a := &asked{Registry: memory.New()}
	l := newList(a, newClock().clock())
	gone, leave := context.WithCancel(t.Context())
	leave()
	for range 100 {
		require.ErrorIs(t, l.Refresh(gone), context.Canceled)
	}
	require.Zero(t, a.times)
}
