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
		err := <-ended
		require.ErrorIs(t, err, state.ErrUnavailable)
		// Whoever reads it would go and mend the database.
		require.NotContains(t, err.Error(), "database")
		_, err = w.locks.Acquire(t.Context(), w.ticket("bob"))
		require.ErrorIs(t, err, state.ErrUnavailable)
		assert.Zero(t, time.Since(begun))
		got.wait(t, &all, other, w.ticket("bob"), 0)
		synctest.Wait()
		require.NoError(t, other.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		all.Wait()
		assert.Equal(t, []string{"bob", "cid"}, got.names)
	})
}
