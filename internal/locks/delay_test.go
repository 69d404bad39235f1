package locks_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/locks"
)

// After a lease that ran out nobody is granted the lock for the guard's lock delay;
// after one that was released, or ended by force, there is none.
func TestLockDelay(t *testing.T) {
	t.Parallel()
	const ttl, delay = 10 * time.Second, 15 * time.Second
	setup := func(t *testing.T) (*world, locks.Lease) {
		w := newWorld(t, locks.Options{})
		w.alter("s3://data/jobs/", func(g *fence.Guard) { g.LockDelay = delay })
		r := w.ask("ann")
		r.TTL = ttl
		return w, w.acquire(r)
	}
	refused := func(w *world) *locks.HeldError {
		w.t.Helper()
		_, err := w.locks.Acquire(w.t.Context(), w.ask("bob"))
		var held *locks.HeldError
		require.ErrorAs(w.t, err, &held)
		return held
	}
	for name, test := range map[string]func(*testing.T){
		"after a lease that ran out": func(t *testing.T) {
			w, l := setup(t)
			time.Sleep(ttl + 3*time.Second)
			held := refused(w)
			assert.Equal(t, delay-3*time.Second, held.Delay)
			assert.Equal(t, "ann", held.By.Holder)
			page, _, err := w.locks.List(t.Context(), "", "", 1)
			require.NoError(t, err)
			assert.Equal(t, held.Delay, page[0].Delay, "whoever looks is told why nobody gets it")
			assert.ErrorContains(t, held, "for another 12s")
			assert.ErrorContains(t, held, "lock_delay")
			assert.Equal(t, l.Mark.Token, w.mark(), "being refused raises nothing")
			_, err = w.locks.Acquire(t.Context(), w.ask("ann"))
			require.ErrorIs(t, err, locks.ErrHeld, "nor is its last holder, which may be another process")
		},
		"whoever waits is served when it is over": func(t *testing.T) {
			w, _ := setup(t)
			begun := time.Now()
			r := w.ask("bob")
			r.Wait = locks.MaxWait
			w.acquire(r)
			assert.InDelta(t, ttl+delay, time.Since(begun), float64(5*time.Millisecond))
		},
		"not after a release": func(t *testing.T) {
			w, l := setup(t)
			require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
			w.acquire(w.ask("bob"))
		},
		"a late release ends it": func(t *testing.T) {
			w, l := setup(t)
			time.Sleep(ttl + time.Second)
			refused(w)
			require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
			w.acquire(w.ask("bob"))
		},
		"force does not wait for it": func(t *testing.T) {
			w, _ := setup(t)
			time.Sleep(ttl + time.Second)
			taken, err := w.locks.Take(t.Context(), w.ask("ops"), "a test")
			require.NoError(t, err)
			require.NoError(t, w.locks.Release(t.Context(), taken.Scope, taken.Mark.Token, "ops"))
			w.acquire(w.ask("bob"))
		},
		"a raise ends it": func(t *testing.T) {
			w, l := setup(t)
			time.Sleep(ttl + time.Second)
			_, err := w.locks.Raise(t.Context(), l.Scope, 0, "root", "", nil)
			require.NoError(t, err)
			w.acquire(w.ask("bob"))
		},
		"the guard's row decides, as it stands now": func(t *testing.T) {
			w, _ := setup(t)
			time.Sleep(ttl + time.Second)
			refused(w)
			w.alter("s3://data/jobs/", func(g *fence.Guard) { g.LockDelay = 0 })
			w.acquire(w.ask("bob"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, test)
		})
	}
}
