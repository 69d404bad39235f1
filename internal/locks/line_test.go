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
			"an idempotency key":     func(r *locks.Request) { r.Retry = &state.RetryID{7} },
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

// A ticket keeps the place between calls, through whatever process, for as long as
// was asked for, and says where it is.
func TestTicketKeepsThePlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		other := w.service(locks.Options{})
		hold := w.ask("ann")
		hold.TTL = time.Hour
		l := w.acquire(hold)
		try := func(s *locks.Service, name string, wait, keep time.Duration) *locks.HeldError {
			t.Helper()
			r := w.ticket(name)
			r.Wait, r.Keep = wait, keep
			_, err := s.Acquire(t.Context(), r)
			var held *locks.HeldError
			require.ErrorAs(t, err, &held)
			assert.Equal(t, "ann", held.By.Holder)
			return held
		}
		place := func(h *locks.HeldError) []int { return []int{h.Position, h.Waiting} }
		assert.Equal(t, []int{1, 1}, place(try(w.locks, "bob", time.Second, 10*time.Second)))
		assert.Equal(t, []int{2, 2}, place(try(other, "cid", 0, 10*time.Second)))
		assert.Equal(t, []int{3, 3}, place(try(w.locks, "dan", 0, 10*time.Second)))
		time.Sleep(9 * time.Second)
		assert.Equal(t, []int{1, 3}, place(try(other, "bob", 500*time.Millisecond, 10*time.Second)))
		assert.Equal(t, []string{"bob", "cid", "dan"}, w.line())
		time.Sleep(9 * time.Second) // cid and dan have not come again
		assert.Equal(t, []string{"bob"}, w.line())
		assert.Equal(t, []int{2, 2}, place(try(w.locks, "dan", 0, 10*time.Second)))
		assert.Equal(t, []int{3, 3}, place(try(w.locks, "cid", 0, 10*time.Second)), "who was away for too long begins again")
		assert.Equal(t, []int{0, 2}, place(try(w.locks, "bob", 0, 0)), "the last call keeps no place")
		assert.Equal(t, []string{"dan", "cid"}, w.line())

		// The place is kept for who has it, though the lock is free.
		require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		_, err := w.locks.Acquire(t.Context(), w.ask("eve"))
		require.ErrorIs(t, err, locks.ErrHeld)
		r := w.ticket("dan")
		r.Wait = 0
		lease, err := other.Acquire(t.Context(), r)
		require.NoError(t, err)
		assert.Equal(t, fence.Token(2), lease.Mark.Token)
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

// Nobody waits for those who died: the place of a process that is not seen any more
// is passed over. If it was only frozen and comes back in time, it has its place
// again.
func TestPlacesOfAnAbsentProcess(t *testing.T) {
	t.Parallel()
	for _, comesBack := range []bool{false, true} {
		t.Run(fmt.Sprint("comes back: ", comesBack), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, locks.Options{})
				proxy := uuid.New()
				w.seen(proxy)
				// Its calls go on in this test, but never see a turn while it is absent.
				frozen := w.service(locks.Options{Proxy: proxy, Absent: 10 * time.Second})
				hold := w.ask("ann")
				hold.TTL = 30 * time.Second
				begun := time.Now()
				w.acquire(hold)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				first := make(chan error, 1)
				var got served
				go func() {
					_, err := frozen.Acquire(ctx, w.ticket("bob"))
					if err == nil {
						got.add("bob")
					}
					first <- err
				}()
				synctest.Wait()
				var all sync.WaitGroup
				got.wait(t, &all, w.locks, w.ticket("cid"), 0)
				synctest.Wait()
				time.Sleep(20 * time.Second)
				assert.Equal(t, []string{"cid"}, w.line())
				if comesBack {
					w.seen(proxy)
					assert.Equal(t, []string{"bob", "cid"}, w.line())
					time.Sleep(5 * time.Second)
					w.seen(proxy)
					require.NoError(t, <-first)
					all.Wait()
					assert.Equal(t, []string{"bob", "cid"}, got.names)
					return
				}
				all.Wait()
				assert.InDelta(t, 30*time.Second, time.Since(begun), float64(time.Second))
				cancel()
				require.Error(t, <-first)
				assert.Equal(t, []string{"cid"}, got.names)
			})
		})
	}
}

// While a process is absent less than its bound, the others wait for it.
func TestDeadProcessHoldsTheLineNoLongerThanItsBound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		l := w.acquire(w.ask("ann"))
		proxy := uuid.New()
		w.seen(proxy)
		died := time.Now()
		// What a process leaves behind that was killed while a call waited in it.
		_, err := w.state.KeepPlace(t.Context(), state.Place{
			PlaceID: state.PlaceID{Scope: l.Scope, Holder: "bob", Ticket: "t"}, Visit: uuid.New(), Proxy: proxy,
		}, time.Minute)
		require.NoError(t, err)
		require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		r := w.ask("cid")
		r.Wait = locks.MaxWait
		w.acquire(r)
		assert.InDelta(t, locks.DefaultAbsent+125*time.Millisecond, time.Since(died), float64(150*time.Millisecond))

		// The client of the killed process comes back with its ticket, elsewhere.
		got := make(chan error, 2)
		wait := func(name, ticket string) {
			r := w.ask(name)
			r.Wait, r.Ticket = locks.MaxWait, ticket
			l, err := w.locks.Acquire(context.Background(), r)
			got <- err
			if err == nil {
				assert.NoError(t, w.locks.Release(context.Background(), l.Scope, l.Mark.Token, name))
			}
		}
		go wait("eve", "")
		synctest.Wait()
		go wait("bob", "t")
		synctest.Wait()
		assert.Equal(t, []string{"bob", "eve"}, w.line(), "it has kept its place")
		require.NoError(t, <-got)
		require.NoError(t, <-got)
	})
}

// The answer to a grant is lost: whoever repeats the call with its ticket is given
// that lease, not another, through whatever process; until the lease is over.
func TestTicketFindsItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		other := w.service(locks.Options{})
		r := w.ticket("ann")
		r.TTL = 20 * time.Second
		ctx, cancel := context.WithCancel(t.Context())
		lost := w.service(locks.Options{Witness: witness(func(fence.Mark) error { cancel(); return nil })})
		_, err := lost.Acquire(ctx, r)
		require.ErrorIs(t, err, context.Canceled)
		time.Sleep(5 * time.Second)
		again, err := other.Acquire(t.Context(), r)
		require.NoError(t, err)
		assert.Equal(t, fence.Token(1), again.Mark.Token)
		assert.Equal(t, 15*time.Second, again.Left)
		_, err = other.Renew(t.Context(), r.Scope, 1, "ann", 0)
		require.NoError(t, err)
		assert.Equal(t, fence.Token(1), w.acquire(r).Mark.Token)

		// A ticket is its holder's: another key's means nothing here.
		eve := r
		eve.Holder, eve.Wait, eve.Keep = "eve", 0, 0
		_, err = w.locks.Acquire(t.Context(), eve)
		require.ErrorIs(t, err, locks.ErrHeld)

		// Two hosts that share a ticket by mistake are not one holder.
		twin := r
		twin.Owner, twin.Wait, twin.Keep = "ann@another", 0, 0
		_, err = w.locks.Acquire(t.Context(), twin)
		require.ErrorIs(t, err, locks.ErrHeld)

		// Once the lease is over the ticket asks afresh.
		require.NoError(t, w.locks.Release(t.Context(), r.Scope, 1, "ann"))
		assert.Equal(t, fence.Token(2), w.acquire(r).Mark.Token)
		_, err = w.locks.Take(t.Context(), w.ask("ann"), "a test")
		require.NoError(t, err)
		r.Wait, r.Keep = 0, 0
		_, err = w.locks.Acquire(t.Context(), r)
		require.ErrorIs(t, err, locks.ErrHeld, "the lease that stands was not granted to the ticket")
	})
}

// A proxy of an older version grants without touching the ticket.
func TestTicketOfAnEarlierGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	r := w.ticket("ann")
	r.Wait, r.Keep = 0, 0
	l := w.acquire(r)
	require.NoError(t, state.Run(t.Context(), w.state, &state.Tx{
		Scopes: []state.ScopeLock{{Scope: l.Scope, Mode: state.Exclusive}},
		Decide: func(v *state.View) (state.Changes, error) {
			row := v.Scopes[l.Scope]
			row.Mark.Token, row.LeaseUntil = 7, v.Now.Add(time.Hour)
			return state.Changes{Scopes: []state.Scope{row}}, nil
		},
	}))
	_, err := w.locks.Acquire(t.Context(), r)
	require.ErrorIs(t, err, locks.ErrHeld)
}

// Two calls with one ticket: the later one has the place. The earlier one, whose
// client has gone and was not noticed, is granted nothing, and its end takes nothing
// away.
func TestLaterCallOfATicketHasThePlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		other := w.service(locks.Options{})
		l := w.acquire(w.ask("ann"))
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan locks.Lease, 1)
		go func() {
			_, err := w.locks.Acquire(ctx, w.ticket("bob"))
			first <- err
		}()
		synctest.Wait()
		go func() {
			l, err := other.Acquire(t.Context(), w.ticket("bob"))
			assert.NoError(t, err)
			second <- l
		}()
		synctest.Wait()
		third := make(chan error, 1)
		go func() {
			_, err := w.locks.Acquire(context.Background(), w.ticket("cid"))
			third <- err
		}()
		synctest.Wait()
		assert.Equal(t, []string{"bob", "cid"}, w.line())
		cancel()
		require.ErrorIs(t, <-first, context.Canceled)
		assert.Equal(t, []string{"bob", "cid"}, w.line())
		require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		got := <-second
		assert.Equal(t, fence.Token(2), got.Mark.Token)
		require.NoError(t, other.Release(t.Context(), got.Scope, got.Mark.Token, "bob"))
		require.NoError(t, <-third)
	})
}

// Nor is it granted anything at the end of its wait, if the lock is free by then.
func TestEarlierCallOfATicketEndsInVain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		l := w.acquire(w.ask("ann"))
		got := make(chan error, 1)
		go func() {
			r := w.ticket("bob")
			r.Wait = 5 * time.Second
			_, err := w.locks.Acquire(context.Background(), r)
			got <- err
		}()
		synctest.Wait()
		// A call that has come since, to a process that is slow to notice its turn.
		id := state.PlaceID{Scope: l.Scope, Holder: "bob", Ticket: "bob"}
		_, err := w.state.KeepPlace(t.Context(), state.Place{PlaceID: id, Visit: uuid.New()}, time.Minute)
		require.NoError(t, err)
		require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		require.ErrorIs(t, <-got, locks.ErrHeld)
		assert.Equal(t, fence.Token(1), w.mark())
		assert.Equal(t, []string{"bob"}, w.line())
	})
}

// What happens between a call's first look and the taking of its place is not
// missed: a release, or a grant to another call of its ticket.
func TestBetweenLookAndPlace(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(w *world, other *locks.Service){
		"a release": func(*world, *locks.Service) {},
		"the ticket is granted the lock elsewhere": func(w *world, other *locks.Service) {
			r := w.ticket("bob")
			r.Wait = 0
			l, err := other.Acquire(w.t.Context(), r)
			require.NoError(w.t, err)
			require.Equal(w.t, fence.Token(2), l.Mark.Token)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var w *world
				var other *locks.Service
				var armed atomic.Bool
				w = newWorld(t, locks.Options{}, memory.WithFaults(func(at memory.Stage) error {
					if at == memory.Writing && armed.CompareAndSwap(true, false) {
						require.NoError(t, w.locks.Release(t.Context(), scope(t, "s3://data/jobs/"), 1, "ann"))
						between(w, other)
						synctest.Wait() // whoever was woken by that has looked
					}
					return nil
				}))
				other = w.service(locks.Options{})
				w.acquire(w.ask("ann"))
				armed.Store(true)
				begun := time.Now()
				assert.Equal(t, fence.Token(2), w.acquire(w.ticket("bob")).Mark.Token)
				assert.Zero(t, time.Since(begun))
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

// Lines that were lost, with a database that crashed, cost their order: whoever
// waits is still served.
func TestLostLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		l := w.acquire(w.ask("ann"))
		var got served
		var all sync.WaitGroup
		for i := range 5 {
			got.wait(t, &all, w.locks, w.ticket(fmt.Sprint("k", i)), 0)
			synctest.Wait()
		}
		require.NoError(t, state.Run(t.Context(), w.state, &state.Tx{
			Scopes: []state.ScopeLock{{Scope: l.Scope, Mode: state.Exclusive}},
			Decide: func(*state.View) (state.Changes, error) {
				var c state.Changes
				for i := range 5 {
					c.DropPlaces = append(c.DropPlaces, state.PlaceID{Scope: l.Scope, Holder: fmt.Sprint("k", i), Ticket: fmt.Sprint("k", i)})
				}
				return c, nil
			},
		}))
		assert.Empty(t, w.line())
		begun := time.Now()
		require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		all.Wait()
		assert.Equal(t, []string{"k0", "k1", "k2", "k3", "k4"}, got.names)
		assert.Less(t, time.Since(begun), 2*time.Second)
	})
}

// F9: without the state nobody is granted anything; a short failure costs those who
// wait nothing, a long one ends their calls.
func TestLineWithoutTheState(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		fails time.Duration
		at    memory.Stage
		want  error
	}{
		{"looks fail for 3 s", 3 * time.Second, memory.Reading, nil},
		{"looks fail for 8 s", 8 * time.Second, memory.Reading, state.ErrUnavailable},
		{"no place can be taken", time.Hour, memory.Writing, state.ErrUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var armed atomic.Bool
				w := newWorld(t, locks.Options{}, memory.WithFaults(func(at memory.Stage) error {
					if at == tc.at && armed.Load() {
						return errors.New("connection refused")
					}
					return nil
				}))
				l := w.acquire(w.ask("ann"))
				got := make(chan error, 1)
				armed.Store(tc.at == memory.Writing)
				go func() {
					_, err := w.locks.Acquire(context.Background(), w.ticket("bob"))
					got <- err
				}()
				synctest.Wait()
				armed.Store(true)
				time.AfterFunc(tc.fails, func() { armed.Store(false) })
				time.Sleep(time.Second)
				require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
				require.ErrorIs(t, <-got, tc.want)
				time.Sleep(tc.fails)
				if tc.want == nil {
					assert.Equal(t, fence.Token(2), w.mark())
				} else {
					assert.Equal(t, fence.Token(1), w.mark())
				}
			})
		})
	}
}

// A process that stops ends its calls at once; who asks elsewhere with the ticket
// has kept the place.
func TestDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		other := w.service(locks.Options{})
		l := w.acquire(w.ask("ann"))
		ended := make(chan error, 1)
		go func() {
			_, err := w.locks.Acquire(context.Background(), w.ticket("bob"))
			ended <- err
		}()
		synctest.Wait()
		var got served
		var all sync.WaitGroup
		got.wait(t, &all, other, w.ticket("cid"), 0)
		synctest.Wait()
		begun := time.Now()
		w.locks.Drain()
		w.locks.Drain()
		require.ErrorIs(t, <-ended, state.ErrUnavailable)
		_, err := w.locks.Acquire(t.Context(), w.ticket("bob"))
		require.ErrorIs(t, err, state.ErrUnavailable)
		assert.Zero(t, time.Since(begun))
		got.wait(t, &all, other, w.ticket("bob"), 0)
		synctest.Wait()
		require.NoError(t, other.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		all.Wait()
		assert.Equal(t, []string{"bob", "cid"}, got.names)
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

func TestTicketsAreChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	for name, change := range map[string]func(*locks.Request){
		"too long":      func(r *locks.Request) { r.Ticket = fmt.Sprintf("%065d", 1) },
		"a space":       func(r *locks.Request) { r.Ticket = "a b" },
		"a letter":      func(r *locks.Request) { r.Ticket = "é" },
		"a line break":  func(r *locks.Request) { r.Ticket = "a\n" },
		"kept too long": func(r *locks.Request) { r.Keep = locks.MaxKeep + 1 },
		"kept negative": func(r *locks.Request) { r.Keep = -1 },
	} {
		r := w.ask("ann")
		change(&r)
		_, err := w.locks.Acquire(t.Context(), r)
		require.ErrorIs(t, err, locks.ErrInvalid, name)
	}
	r := w.ask("ann")
	r.Ticket = fmt.Sprintf("%064d", 1)
	w.acquire(r)
}
