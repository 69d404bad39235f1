package statetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// verdict resolves an id, and comes again while the driver cannot tell yet.
func verdict(ctx context.Context, st state.State, id uuid.UUID) (state.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		o, err := st.Resolve(ctx, id)
		if err == nil {
			return o, nil
		}
		if !errors.Is(err, state.ErrBusy) && !errors.Is(err, state.ErrUnavailable) {
			return 0, fmt.Errorf("a failure of Resolve is neither busy nor unavailable: %w", err)
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("no verdict: %w", err)
		}
		time.Sleep(time.Millisecond) // asks again; proves nothing
	}
}

// testOutcomes defends honest answers (F7) where the answer to COMMIT is lost.
func testOutcomes(t *testing.T, s Subject) {
	handles := s.handles(t)
	other := handles[len(handles)-1]
	putTx := func() (*state.Tx, state.Object) {
		sc := scopeOf(newBucket(), "")
		o := small(sc, "k", 1)
		tx := newTx(func(*state.View) (state.Changes, error) { return state.Changes{PutObjects: []state.Object{o}}, nil })
		tx.Scopes, tx.Keys = shared(sc), []object.Ref{o.Ref}
		return tx, o
	}
	t.Run("committed stays committed", func(t *testing.T) {
		t.Parallel()
		tx, o := putTx()
		require.NoError(t, s.State.Transact(t.Context(), tx))
		for _, st := range handles {
			for range 2 {
				got, err := verdict(t.Context(), st, tx.ID)
				require.NoError(t, err)
				require.Equal(t, state.Committed, got)
			}
		}
		same(t, &o, seen(t, s.State, o.Ref))
	})
	t.Run("aborted can never commit", func(t *testing.T) {
		t.Parallel()
		tx, o := putTx()
		for _, st := range handles {
			got, err := verdict(t.Context(), st, tx.ID)
			require.NoError(t, err)
			require.Equal(t, state.Aborted, got)
		}
		require.ErrorIs(t, s.State.Transact(t.Context(), tx), state.ErrUnavailable)
		require.Nil(t, seen(t, s.State, o.Ref))
		got, err := verdict(t.Context(), s.State, tx.ID)
		require.NoError(t, err)
		require.Equal(t, state.Aborted, got)
		tx.ID = state.NewID()
		require.NoError(t, s.State.Transact(t.Context(), tx), "under a new id it goes on")
	})
	t.Run("a committed id does not run again", func(t *testing.T) {
		t.Parallel()
		tx, o := putTx()
		require.NoError(t, s.State.Transact(t.Context(), tx))
		next := small(o.Scope, o.Key, 2)
		tx.Decide = func(*state.View) (state.Changes, error) { return state.Changes{PutObjects: []state.Object{next}}, nil }
		require.Error(t, s.State.Transact(t.Context(), tx))
		same(t, &o, seen(t, s.State, o.Ref))
	})
	t.Run("resolved while it is under way", func(t *testing.T) {
		t.Parallel()
		for round := range 12 {
			tx, o := putTx()
			decide := tx.Decide
			const resolvers = 3
			begun := make(chan struct{})
			tx.Decide = func(v *state.View) (state.Changes, error) {
				close(begun)
				if round%2 == 1 { // lets Resolve be first where the driver can
					time.Sleep(5 * time.Millisecond)
				}
				return decide(v)
			}
			var g errgroup.Group
			verdicts := make([]state.Outcome, resolvers)
			for r := range resolvers {
				g.Go(func() (err error) {
					<-begun
					verdicts[r], err = verdict(t.Context(), handles[r%len(handles)], tx.ID)
					return err
				})
			}
			err := s.State.Transact(t.Context(), tx)
			require.NoError(t, g.Wait())
			for _, v := range verdicts {
				require.Equal(t, verdicts[0], v, "the verdict is one")
			}
			if verdicts[0] == state.Committed {
				require.NoError(t, err)
				same(t, &o, seen(t, other, o.Ref))
			} else {
				require.ErrorIs(t, err, state.ErrUnavailable)
				require.Nil(t, seen(t, other, o.Ref))
			}
			later, err := verdict(t.Context(), other, tx.ID)
			require.NoError(t, err)
			require.Equal(t, verdicts[0], later, "the verdict is final")
		}
	})
	t.Run("an ended context is no commit", func(t *testing.T) {
		t.Parallel()
		tx, o := putTx()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, s.State.Transact(ctx, tx), state.ErrUnavailable)
		require.Nil(t, seen(t, s.State, o.Ref))
	})
	t.Run("a context that ends under way makes no unknown of a verdict", func(t *testing.T) {
		t.Parallel()
		tx, o := putTx()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		decide := tx.Decide
		tx.Decide = func(v *state.View) (state.Changes, error) {
			cancel()
			return decide(v)
		}
		err := state.Run(ctx, s.State, tx)
		got, rerr := verdict(t.Context(), other, tx.ID)
		require.NoError(t, rerr)
		if err == nil {
			require.Equal(t, state.Committed, got)
			same(t, &o, seen(t, s.State, o.Ref))
		} else {
			require.Equal(t, state.Aborted, got)
			require.Nil(t, seen(t, s.State, o.Ref))
		}
	})
}
