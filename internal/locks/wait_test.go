package locks_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/memory"
)

func TestWait(t *testing.T) {
	t.Parallel()
	t.Run("for a release here", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, locks.Options{})
			l := w.acquire(w.ask("ann"))
			time.AfterFunc(5*time.Second, func() { _ = w.locks.Release(context.Background(), l.Scope, l.Mark.Token, "ann") })
			r := w.ask("bob")
			r.Wait = 20 * time.Second
			start := time.Now()
			assert.Equal(t, fence.Token(2), w.acquire(r).Mark.Token)
			assert.Equal(t, 5*time.Second, time.Since(start), "woken, not polled")
		})
	})
	t.Run("for a release elsewhere", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, locks.Options{})
			other := w.service(locks.Options{})
			l := w.acquire(w.ask("ann"))
			time.AfterFunc(5*time.Second, func() { _ = other.Release(context.Background(), l.Scope, l.Mark.Token, "ann") })
			r := w.ask("bob")
			r.Wait = 20 * time.Second
			start := time.Now()
			w.acquire(r)
			assert.LessOrEqual(t, time.Since(start), 5*time.Second+250*time.Millisecond)
		})
	})
	t.Run("for the end of a lease", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, locks.Options{})
			w.acquire(w.ask("ann"))
			r := w.ask("bob")
			r.Wait = 40 * time.Second
			start := time.Now()
			w.acquire(r)
			assert.InDelta(t, locks.DefaultTTL, time.Since(start), float64(5*time.Millisecond))
		})
	})
	t.Run("in vain", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, locks.Options{})
			w.acquire(w.ask("ann"))
			var wg sync.WaitGroup
			start := time.Now()
			for i := range 5 {
				wg.Go(func() {
					r := w.ask(fmt.Sprint("w", i))
					r.Wait = 3 * time.Second
					_, err := w.locks.Acquire(t.Context(), r)
					assert.ErrorIs(t, err, locks.ErrHeld)
				})
			}
			synctest.Wait()
			page, _, err := w.locks.List(t.Context(), "s3://data/", "", 10)
			require.NoError(t, err)
			assert.Equal(t, 5, page[0].Waiting)
			wg.Wait()
			assert.Equal(t, 3*time.Second, time.Since(start))
		})
	})
	t.Run("until the caller goes", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, locks.Options{})
			w.acquire(w.ask("ann"))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r := w.ask("bob")
			r.Wait = 20 * time.Second
			_, err := w.locks.Acquire(ctx, r)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	})
	t.Run("who came first goes first", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, locks.Options{})
			w.acquire(w.ask("ann"))
			var mu sync.Mutex
			var order []int
			var wg sync.WaitGroup
			for i := range 5 {
				wg.Go(func() {
					r := w.ask("w")
					r.Wait = locks.MaxWait
					l, err := w.locks.Acquire(t.Context(), r)
					if assert.NoError(t, err) {
						mu.Lock()
						order = append(order, i)
						mu.Unlock()
						assert.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "w"))
					}
				})
				synctest.Wait()
			}
			wg.Wait()
			assert.Equal(t, []int{0, 1, 2, 3, 4}, order)
		})
	})
}

// F2, F4: a hundred contenders over several scopes through two processes: never
// two holders, and every token larger than all that the same scope had before.
func TestContention(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	services := []*locks.Service{w.locks, w.service(locks.Options{})}
	scopes := []string{"s3://data/jobs/", "s3://data/tenants/a/", "s3://data/tenants/b/", "s3://data/tenants/c/"}
	inside := make([]atomic.Int32, len(scopes))
	last := make([]fence.Token, len(scopes)) // written by the holder alone: the race detector watches
	var all sync.Map
	var grants atomic.Int32
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			n := i % len(scopes)
			s := services[i/len(scopes)%2]
			holder := fmt.Sprint("k", i)
			for range 3 {
				l, err := s.Acquire(t.Context(), locks.Request{Scope: scope(t, scopes[n]), Holder: holder, Wait: locks.MaxWait})
				if !assert.NoError(t, err) {
					return
				}
				assert.Equal(t, int32(1), inside[n].Add(1), "two holders of %s", scopes[n])
				assert.Greater(t, l.Mark.Token, last[n])
				last[n] = l.Mark.Token
				if _, dup := all.LoadOrStore(l.Mark.Token, scopes[n]); dup {
					t.Errorf("token %d was granted twice", l.Mark.Token)
				}
				grants.Add(1)
				inside[n].Add(-1)
				assert.NoError(t, s.Release(t.Context(), l.Scope, l.Mark.Token, holder))
			}
		})
	}
	wg.Wait()
	assert.Equal(t, int32(300), grants.Load())
}

// What was looked at without a lock decides nothing: here it changes between the
// look and the transaction.
func TestChangesBetweenLookAndGrant(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		between func(w *world, other *locks.Service)
		want    error
	}{
		{"somebody else is granted the lock", func(w *world, other *locks.Service) {
			_, err := other.Acquire(w.t.Context(), w.ask("bob"))
			require.NoError(w.t, err)
		}, locks.ErrHeld},
		{"the guard is being removed", func(w *world, _ *locks.Service) {
			w.alter("s3://data/jobs/", func(g *fence.Guard) { g.State = fence.Removing })
		}, locks.ErrNotActive},
		{"the guard takes no tokens any more", func(w *world, _ *locks.Service) {
			w.alter("s3://data/jobs/", func(g *fence.Guard) { g.Tokens = fence.None })
		}, locks.ErrNoLocks},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var w *world
			var other *locks.Service
			var looked atomic.Bool
			armed := false
			w = newWorld(t, locks.Options{}, memory.WithFaults(func(at memory.Stage) error {
				if at == memory.Reading && armed {
					looked.Store(true)
				}
				if at == memory.Beginning && looked.CompareAndSwap(true, false) {
					armed = false
					tc.between(w, other)
				}
				return nil
			}))
			other = w.service(locks.Options{})
			armed = true
			_, err := w.locks.Acquire(t.Context(), w.ask("ann"))
			require.ErrorIs(t, err, tc.want)
		})
	}
}
