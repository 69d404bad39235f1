package locks_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/state"
)

// A proxy is frozen between the grant and its answer, the client repeats the
// request at another proxy and is given the lease, then the first proxy wakes up
// and finds its caller gone. It must not give back what was answered meanwhile.
func TestWokenFirstTryKeepsWhatItsRepetitionWasAnswered(t *testing.T) {
	t.Parallel()
	for _, why := range []string{"caller gone", "witness fails"} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, locks.Options{})
				first := w.service(locks.Options{Witness: witness(func(fence.Mark) error {
					time.Sleep(2 * time.Second)
					if why == "witness fails" {
						return errors.New("bucket gone")
					}
					return nil
				})})
				r := w.ask("ann")
				r.Retry = named(1)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() {
					_, err := first.Acquire(ctx, r)
					done <- err
				}()
				synctest.Wait()
				if why == "caller gone" {
					cancel()
				}
				l := w.acquire(r)
				require.Error(t, <-done)
				_, err := w.locks.Renew(t.Context(), l.Scope, l.Mark.Token, "ann", 0)
				require.NoError(t, err, "the lease that was answered was given back")
			})
		})
	}
}

// A request that names itself is repeated after an answer that never came, and
// gets the first try's lease.
func TestRepetitionAfterTheCallerWasGone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	w := newWorld(t, locks.Options{})
	gone := w.service(locks.Options{Witness: witness(func(fence.Mark) error { cancel(); return nil })})
	r := w.ask("ann")
	r.Retry = named(1)
	_, err := gone.Acquire(ctx, r)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, fence.Token(1), w.acquire(r).Mark.Token)
}

// A guard that was removed and added again elsewhere is another guard with the
// same scopes. A process that has not noticed yet must not answer that there is
// none.
func TestGuardAddedAgainElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	l := w.acquire(w.ask("ann"))
	require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
	again := func() {
		require.NoError(t, state.Run(t.Context(), w.state, &state.Tx{GuardList: true, Decide: func(v *state.View) (state.Changes, error) {
			for _, g := range v.GuardList {
				if g.Pattern.String() == "s3://data/jobs/" {
					return state.Changes{DropGuards: []fence.GuardID{g.ID}}, nil
				}
			}
			return state.Changes{}, errors.New("no such guard")
		}}))
		w.guard("s3://data/jobs/", func(*fence.Guard) {})
	}
	again()
	assert.Equal(t, fence.Token(2), w.acquire(w.ask("bob")).Mark.Token)
	again()
	_, err := w.locks.Take(t.Context(), w.ask("cid"), "r")
	require.NoError(t, err)
	again()
	m, err := w.locks.Raise(t.Context(), l.Scope, 0, "root", "", nil)
	require.NoError(t, err)
	again()
	_, err = w.locks.Check(t.Context(), l.Scope, 0, m.Token)
	require.NoError(t, err)
}

// F8: after a reset a token means nothing without its generation; a holder from
// before must not be told that its larger number is good.
func TestCheckAsksForTheGeneration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	w.guard("s3://ext/", func(g *fence.Guard) { g.Issuer = fence.External })
	sc := scope(t, "s3://ext/")
	_, err := w.locks.Raise(t.Context(), sc, 500, "root", "", nil)
	require.NoError(t, err)
	_, err = w.locks.Check(t.Context(), sc, 0, 500)
	require.NoError(t, err)
	_, err = w.locks.Reset(t.Context(), sc, "root", "started over", nil)
	require.NoError(t, err)
	for _, g := range []fence.Generation{0, 1, 3} {
		_, err = w.locks.Check(t.Context(), sc, g, 500)
		require.ErrorIs(t, err, locks.ErrInvalid, "generation %d", g)
		require.ErrorContains(t, err, "?generation=2")
	}
	_, err = w.locks.Check(t.Context(), sc, 2, 1)
	require.NoError(t, err)
}

// A request that names itself waits its turn like any other.
func TestNamedRequestsStandInLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		l := w.acquire(w.ask("ann"))
		got := make(chan string, 2)
		wait := func(name string, retry *idempotency.Request) {
			r := w.ask(name)
			r.Wait, r.Retry = 20*time.Second, retry
			l, err := w.locks.Acquire(t.Context(), r)
			if assert.NoError(t, err) {
				got <- name
				assert.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, name))
			}
		}
		go wait("bob", nil)
		synctest.Wait()
		// Free, and the line has not noticed yet: released in another process.
		require.NoError(t, w.service(locks.Options{}).Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		go wait("cid", named(9))
		assert.Equal(t, "bob", <-got)
		assert.Equal(t, "cid", <-got)
	})
}

// F2: the counter is the deployment's. Whoever administers one scope must not be
// able to use it up for all the others.
func TestNobodyUsesUpTheCounter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	_, err := w.locks.Raise(t.Context(), scope(t, "s3://data/tenants/mallory/"), 1<<fence.CounterBits-2, "mallory", "", nil)
	assert.ErrorIs(t, err, locks.ErrInvalid)
	for range 2 {
		l := w.acquire(w.ask("ann"))
		require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
	}
}

// Messages say what to do.
func TestHeldSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	w.acquire(w.ask("ann"))
	_, err := w.locks.Acquire(t.Context(), w.ask("bob"))
	require.ErrorContains(t, err, "s3fence lock take")
	require.ErrorContains(t, locks.ErrCrowded, "again")
}
