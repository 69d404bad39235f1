package locks_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/state"
)

// A grant whose witness does not stand is not answered and not held.
func TestWitness(t *testing.T) {
	t.Parallel()
	boom := errors.New("bucket gone")
	fail := true
	w := newWorld(t, locks.Options{Witness: witness(func(fence.Mark) error {
		if fail {
			return boom
		}
		return nil
	})})
	_, err := w.locks.Acquire(t.Context(), w.ask("ann"))
	require.ErrorIs(t, err, boom)
	require.ErrorIs(t, err, state.ErrUnavailable)
	fail = false
	assert.Equal(t, fence.Token(2), w.acquire(w.ask("bob")).Mark.Token)
}

// Of all tries of one request at most one is granted a lock, and the others are
// given that lease. Nothing is given back when a try fails: another one may have
// been answered. No try is answered before the witness stands.
func TestRetry(t *testing.T) {
	t.Parallel()
	boom := errors.New("bucket gone")
	fail := true
	w := newWorld(t, locks.Options{Witness: witness(func(fence.Mark) error {
		if fail {
			return boom
		}
		return nil
	})})
	ask := func(id byte) locks.Request {
		r := w.ask("ann")
		r.Retry = named(id)
		r.Wait = time.Millisecond
		return r
	}
	_, err := w.locks.Acquire(t.Context(), ask(1))
	require.ErrorIs(t, err, boom)
	_, err = w.locks.Acquire(t.Context(), ask(1))
	require.ErrorIs(t, err, boom)
	fail = false
	given := w.acquire(ask(1))
	assert.Equal(t, fence.Token(1), given.Mark.Token)
	require.NoError(t, w.locks.Release(t.Context(), given.Scope, given.Mark.Token, "ann"))
	_, err = w.locks.Acquire(t.Context(), ask(1))
	require.ErrorIs(t, err, locks.ErrLost)
	first := w.acquire(ask(2))
	again := w.acquire(ask(2))
	assert.Equal(t, first.Mark, again.Mark)
	_, err = w.locks.Acquire(t.Context(), ask(3))
	require.ErrorIs(t, err, locks.ErrHeld)
	fail = true
	_, err = w.locks.Acquire(t.Context(), ask(2))
	require.ErrorIs(t, err, boom, "what is answered is witnessed")
}

// A lost answer to COMMIT is resolved: the grant is answered if it committed,
// and nothing is granted twice if it did not.
func TestLostCommits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		at   memory.Stage
		want error
	}{
		{"committed", memory.Committed, nil},
		{"not committed", memory.Committing, state.ErrUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var armed atomic.Bool
			w := newWorld(t, locks.Options{}, memory.WithFaults(func(at memory.Stage) error {
				if at == tc.at && armed.CompareAndSwap(true, false) {
					return errors.New("connection reset")
				}
				return nil
			}))
			armed.Store(true)
			l, err := w.locks.Acquire(t.Context(), w.ask("ann"))
			if tc.want == nil {
				require.NoError(t, err)
				_, err = w.locks.Renew(t.Context(), l.Scope, l.Mark.Token, "ann", 0)
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tc.want)
			w.acquire(w.ask("bob"))
		})
	}
}

// A caller that has gone by the time of the grant does not block the next one
// for a whole lease.
func TestCallerGone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	w := newWorld(t, locks.Options{})
	gone := w.service(locks.Options{Witness: witness(func(fence.Mark) error { cancel(); return nil })})
	_, err := gone.Acquire(ctx, w.ask("ann"))
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, fence.Token(2), w.acquire(w.ask("bob")).Mark.Token)
}
