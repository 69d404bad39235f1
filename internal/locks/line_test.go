package locks_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/state"
)

// until is how a client waits for longer than one call: again and again with its
// ticket.
func until(ctx context.Context, s *locks.Service, r locks.Request) (locks.Lease, error) {
	for {
		l, err := s.Acquire(ctx, r)
		if !errors.Is(err, locks.ErrHeld) {
			return l, err
		}
	}
}

// ticket is a request that waits in the line under a name of its own.
func (w *world) ticket(name string) locks.Request {
	r := w.ask(name)
	r.Ticket, r.Wait, r.Keep = name, locks.MaxWait, locks.DefaultKeep
	return r
}

// served collects who was granted the lock, in order.
type served struct {
	mu    sync.Mutex
	names []string
}

func (s *served) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = append(s.names, name)
}

// wait has a request wait in the background; once it is granted it holds the lock
// for as long as hold says and releases it.
func (s *served) wait(t *testing.T, all *sync.WaitGroup, at *locks.Service, r locks.Request, hold time.Duration) {
	all.Go(func() {
		l, err := until(context.Background(), at, r)
		if !assert.NoError(t, err, r.Holder) {
			return
		}
		s.add(r.Holder)
		time.Sleep(hold)
		assert.NoError(t, at.Release(context.Background(), l.Scope, l.Mark.Token, r.Holder))
	})
}

func (w *world) line() []string {
	w.t.Helper()
	page, _, err := w.locks.List(w.t.Context(), "s3://data/jobs/", "", 1)
	require.NoError(w.t, err)
	require.Len(w.t, page, 1)
	var names []string
	for _, p := range page[0].First {
		names = append(names, p.Holder)
	}
	return names
}

func (w *world) mark() fence.Token {
	w.t.Helper()
	v, err := w.state.Read(w.t.Context(), state.Query{Scopes: []fence.Scope{scope(w.t, "s3://data/jobs/")}})
	require.NoError(w.t, err)
	return v.Scopes[scope(w.t, "s3://data/jobs/")].Mark.Token
}

// seen is a proxy's sign of life.
func (w *world) seen(proxy uuid.UUID) {
	_, _, err := w.state.RenewGuards(context.Background(), proxy, 0, -1)
	assert.NoError(w.t, err)
}

// counted counts reads.
func counted(n *atomic.Int64) memory.Option {
	return memory.WithFaults(func(at memory.Stage) error {
		if at == memory.Reading {
			n.Add(1)
		}
		return nil
	})
}

// First come first served, whichever process each came to; nobody starves, and
// waiting costs a few looks a second however many wait.
func TestThousandWaitersInOneLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const waiters = 1000
		var reads atomic.Int64
		w := newWorld(t, locks.Options{}, counted(&reads))
		services := []*locks.Service{w.locks, w.service(locks.Options{})}
		first := w.ask("first")
		first.TTL = time.Hour
		l := w.acquire(first)
		var got served
		var all sync.WaitGroup
		var want []string
		for i := range waiters {
			r := w.ticket(fmt.Sprintf("k%04d", i))
			want = append(want, r.Holder)
			got.wait(t, &all, services[(i*7/3)%2], r, 10*time.Millisecond)
			synctest.Wait()
		}
		page, _, err := w.locks.List(t.Context(), "s3://data/", "", 1)
		require.NoError(t, err)
		assert.Equal(t, waiters, page[0].Waiting)
		assert.Len(t, page[0].First, locks.MaxWaiters)

		before := reads.Load()
		time.Sleep(20 * time.Second)
		perSecond := float64(reads.Load()-before) / 20
		assert.LessOrEqual(t, perSecond, 11.0, "reads a second by two processes in which 1,000 calls wait")
		assert.GreaterOrEqual(t, perSecond, 7.0, "a release elsewhere is to be seen")

		require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "first"))
		all.Wait()
		assert.Equal(t, want, got.names)
		assert.Equal(t, fence.Token(waiters+1), w.mark(), "nobody was granted it twice")
	})
}

// A thousand lines are looked at in one read a round.
func TestThousandLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const lines = 1000
		var reads atomic.Int64
		w := newWorld(t, locks.Options{}, counted(&reads))
		leases := make([]locks.Lease, lines)
		var all sync.WaitGroup
		for i := range lines {
			r := locks.Request{Scope: scope(t, fmt.Sprintf("s3://data/tenants/%d/", i)), Holder: "ann", TTL: time.Hour}
			leases[i] = w.acquire(r)
			r.Holder, r.Wait = "bob", locks.MaxWait
			all.Go(func() {
				_, err := w.locks.Acquire(context.Background(), r)
				assert.NoError(t, err)
			})
		}
		synctest.Wait()
		before := reads.Load()
		time.Sleep(20 * time.Second)
		perSecond := float64(reads.Load()-before) / 20
		assert.LessOrEqual(t, perSecond, 5.5)
		assert.GreaterOrEqual(t, perSecond, 3.5)
		other := w.service(locks.Options{})
		begun := time.Now()
		for _, l := range leases {
			require.NoError(t, other.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		}
		all.Wait()
		assert.LessOrEqual(t, time.Since(begun), 250*time.Millisecond)
	})
}

// Nobody passes those who wait, neither with a lucky try nor by naming itself, and
// being refused raises no mark.
func TestNobodyPassesTheLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		other := w.service(locks.Options{})
		l := w.acquire(w.ask("ann"))
		got := make(chan locks.Lease, 1)
		go func() {
			lease, err := w.locks.Acquire(context.Background(), w.ticket("bob"))
			assert.NoError(t, err)
			got <- lease
		}()
		synctest.Wait()
		// Released elsewhere: free, and bob's process has not noticed yet.
		require.NoError(t, other.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		for name, change := range map[string]func(*locks.Request){
			"a try":                  func(*locks.Request) {},
			"a try of bob's":         func(r *locks.Request) { r.Holder = "bob" },
			"somebody else's ticket": func(r *locks.Request) { r.Ticket = "bob" },
			"bob's other ticket":     func(r *locks.Request) { r.Holder, r.Ticket = "bob", "bob2" },
			"an idempotency key":     func(r *locks.Request) { r.Retry = named(7) },
		} {
			r := w.ask("eve")
			change(&r)
			_, err := other.Acquire(t.Context(), r)
			var held *locks.HeldError
			require.ErrorAs(t, err, &held, name)
			assert.Equal(t, 1, held.Waiting, name)
			assert.Zero(t, held.Position, name)
			assert.Empty(t, held.By.Holder, name)
			assert.ErrorContains(t, err, "those who wait", name)
		}
		assert.Equal(t, fence.Token(1), w.mark())
		assert.Equal(t, fence.Token(2), (<-got).Mark.Token)
		assert.Empty(t, w.line(), "who was granted the lock has left the line")
	})
}

// A waiter that goes frees its place at once, one whose wait is over too.
func TestWhoGoesFreesThePlace(t *testing.T) {
	t.Parallel()
	for name, ticket := range map[string]string{"with a ticket": "t", "without": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, locks.Options{})
				w.acquire(w.ask("ann"))
				ctx, cancel := context.WithCancel(t.Context())
				ask := func(name string) locks.Request {
					r := w.ticket(name)
					r.Ticket = ticket
					return r
				}
				gone := make(chan error, 1)
				go func() {
					_, err := w.locks.Acquire(ctx, ask("bob"))
					gone <- err
				}()
				synctest.Wait()
				other := w.service(locks.Options{})
				var got served
				var all sync.WaitGroup
				got.wait(t, &all, other, ask("cid"), 0)
				synctest.Wait()
				assert.Equal(t, []string{"bob", "cid"}, w.line())
				cancel()
				require.ErrorIs(t, <-gone, context.Canceled)
				assert.Equal(t, []string{"cid"}, w.line())
				all.Wait()
				assert.Empty(t, w.line())
			})
		})
	}
}

// The lock is taken by force while 50 wait: they go on waiting, in their order.
func TestTakenByForceWhileFiftyWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		services := []*locks.Service{w.locks, w.service(locks.Options{})}
		w.acquire(w.ask("ann"))
		var got served
		var all sync.WaitGroup
		var want []string
		for i := range 50 {
			name := fmt.Sprintf("k%02d", i)
			want = append(want, name)
			got.wait(t, &all, services[i%2], w.ticket(name), time.Second)
			synctest.Wait()
		}
		taken, err := w.locks.Take(t.Context(), w.ask("ops"), "ann hangs")
		require.NoError(t, err)
		assert.Equal(t, fence.Token(2), taken.Mark.Token)
		time.Sleep(5 * time.Second)
		assert.Empty(t, got.names)
		assert.Equal(t, want[:locks.MaxWaiters], w.line())
		require.NoError(t, w.locks.Release(t.Context(), taken.Scope, 2, "ops"))
		all.Wait()
		assert.Equal(t, want, got.names)
	})
}

// A process takes up to MaxLine calls for one scope and says so to the next.
func TestCrowdedLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		w.acquire(w.ask("ann"))
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range locks.MaxLine {
			all.Go(func() { _, _ = w.locks.Acquire(ctx, w.ticket(fmt.Sprint(i))) })
		}
		synctest.Wait()
		_, err := w.locks.Acquire(t.Context(), w.ticket("late"))
		require.ErrorIs(t, err, locks.ErrCrowded)
		require.ErrorContains(t, err, "1024 calls wait for s3://data/jobs/")
		cancel()
		all.Wait()
		assert.Empty(t, w.line())
	})
}
