package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// A counter that is used up grants nothing and says so as every state does: it
// cannot be done, and nothing happened (F2, F7).
func TestCounterUsedUp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	err := Migrate(t.Context(), path)
	require.NoError(t, err)
	s, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	sc, err := fence.ParseScope("s3://data/jobs/")
	require.NoError(t, err)
	use := func(f func(*state.View) error) error {
		return state.Run(t.Context(), s, &state.Tx{Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}}, Decide: func(v *state.View) (state.Changes, error) {
			return state.Changes{}, f(v)
		}})
	}
	require.NoError(t, use(func(v *state.View) error { return v.Lift(1<<fence.CounterBits - 2) }))
	draw := func(v *state.View) error { _, err := v.Draw(); return err }
	require.NoError(t, use(draw))
	require.ErrorIs(t, use(draw), state.ErrUnavailable)
}

// A reader or a writer that is waited for in vain costs its bound and no more,
// and leaves nothing behind.
func TestCrowdOfWriters(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	err := Migrate(t.Context(), path)
	require.NoError(t, err)
	s, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	sc, err := fence.ParseScope("s3://data/jobs/")
	require.NoError(t, err)
	hold, held := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1001)
	go func() {
		done <- state.Run(context.Background(), s, &state.Tx{Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}}, Decide: func(*state.View) (state.Changes, error) {
			close(held)
			<-hold
			return state.Changes{}, nil
		}})
	}()
	<-held
	for range 1000 {
		go func() {
			done <- state.Run(context.Background(), s, &state.Tx{Wait: 200 * time.Millisecond, Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}}, Decide: func(*state.View) (state.Changes, error) {
				return state.Changes{}, nil
			}})
		}()
	}
	for range 1000 {
		require.ErrorIs(t, <-done, state.ErrBusy)
	}
	close(hold)
	require.NoError(t, <-done)
}
