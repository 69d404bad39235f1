package statetest

import (
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// testMarks defends F1.
func testMarks(t *testing.T, s Subject) {
	st := s.State
	mark := func(g fence.Generation, tok fence.Token) fence.Mark { return fence.Mark{Generation: g, Token: tok} }
	cases := []struct {
		name     string
		old, new fence.Mark
		falls    bool
	}{
		{"stays", mark(1, 34), mark(1, 34), false},
		{"rises", mark(1, 33), mark(1, 34), false},
		{"falls", mark(1, 34), mark(1, 33), true},
		{"falls to nothing", mark(1, 34), mark(1, 0), true},
		{"a new generation begins below", mark(1, 34), mark(2, 0), false},
		{"an old generation", mark(2, 1), mark(1, 34), true},
		{"falls in a later generation", mark(2, 5), mark(2, 4), true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sc := scopeOf(newBucket(), "")
			o := small(sc, "k", 0)
			setMark(t, st, sc, c.old)
			row := state.NewScope(sc, fence.Sealed)
			row.Mark = c.new
			tx := newTx(func(*state.View) (state.Changes, error) {
				return state.Changes{Scopes: []state.Scope{row}, PutObjects: []state.Object{o}}, nil
			})
			tx.Scopes, tx.Keys = exclusive(sc), []object.Ref{o.Ref}
			err := st.Transact(t.Context(), tx)
			if !c.falls {
				require.NoError(t, err)
				require.Equal(t, c.new, scopeSeen(t, st, sc).Mark)
				return
			}
			require.ErrorIs(t, err, state.ErrMarkFalls)
			require.Equal(t, c.old, scopeSeen(t, st, sc).Mark)
			require.Nil(t, seen(t, st, o.Ref), "nothing of the transaction stays")
		})
	}
	t.Run("epoch and horizon do not fall, nor pass each other", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		good := state.NewScope(sc, fence.Sealed)
		good.Epoch, good.Horizon = 5, 3
		write(t, st, &state.Tx{Scopes: exclusive(sc)}, state.Changes{Scopes: []state.Scope{good}})
		for _, bad := range [][2]int64{{4, 3}, {5, 2}, {5, 6}, {0, 0}} {
			row := good
			row.Epoch, row.Horizon = bad[0], bad[1]
			tx := newTx(func(*state.View) (state.Changes, error) { return state.Changes{Scopes: []state.Scope{row}}, nil })
			tx.Scopes = exclusive(sc)
			require.Error(t, st.Transact(t.Context(), tx), "epoch %d, horizon %d", bad[0], bad[1])
			same(t, good, scopeSeen(t, st, sc))
		}
	})
	t.Run("upkeep keeps marks", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		setMark(t, st, sc, mark(1, 7))
		require.NoError(t, st.Maintain(t.Context(), 0))
		require.Equal(t, mark(1, 7), scopeSeen(t, st, sc).Mark)
	})
}

// testCounter defends F2.
func testCounter(t *testing.T, s Subject) {
	d, err := s.State.Deployment(t.Context())
	require.NoError(t, err)

	// grant draws in a scope of its own and raises its mark, as a grant does.
	grant := func(st state.State, sc fence.Scope, lift fence.Token, fail error) (fence.Token, error) {
		var got fence.Token
		tx := newTx(func(v *state.View) (state.Changes, error) {
			if lift > 0 {
				if err := v.Lift(lift); err != nil {
					return state.Changes{}, err
				}
			}
			tok, err := v.Draw()
			if err != nil {
				return state.Changes{}, err
			}
			got = tok
			row := v.Scope(sc, fence.Sealed)
			row.Mark.Token = tok
			return state.Changes{Scopes: []state.Scope{row}}, fail
		})
		tx.Scopes = exclusive(sc)
		return got, st.Transact(t.Context(), tx)
	}
	b := newBucket()
	sc := scopeOf(b, "one/")
	first, err := grant(s.State, sc, 0, nil)
	require.NoError(t, err)
	require.Equal(t, fence.Token(d.Incarnation<<fence.CounterBits|1), first, "the counter begins at 1, in its incarnation")
	require.Equal(t, first, scopeSeen(t, s.State, sc).Mark.Token)

	t.Run("two draws of one transaction differ", func(t *testing.T) {
		var a, b fence.Token
		tx := newTx(func(v *state.View) (c state.Changes, err error) {
			if a, err = v.Draw(); err != nil {
				return c, err
			}
			if b, err = v.Draw(); err != nil {
				return c, err
			}
			row := v.Scope(sc, fence.Sealed)
			row.Mark.Token = b
			return state.Changes{Scopes: []state.Scope{row}}, nil
		})
		tx.Scopes = exclusive(sc)
		require.NoError(t, s.State.Transact(t.Context(), tx))
		require.Less(t, a, b)
		require.Less(t, first, a)
	})
	t.Run("a rolled back draw is never granted below a later one", func(t *testing.T) {
		before, err := grant(s.State, sc, 0, nil)
		require.NoError(t, err)
		_, err = grant(s.State, sc, 0, errDecided)
		require.ErrorIs(t, err, errDecided)
		require.Equal(t, before, scopeSeen(t, s.State, sc).Mark.Token)
		after, err := grant(s.State, sc, 0, nil)
		require.NoError(t, err)
		require.Less(t, before, after)
	})
	t.Run("unique and increasing under concurrency", func(t *testing.T) {
		const workers, each = 8, 15
		handles := s.handles(t)
		var mu sync.Mutex
		var all []fence.Token
		var g errgroup.Group
		for w := range workers {
			own := scopeOf(b, "common/")
			if w%2 == 0 {
				own = scopeOf(b, string(rune('a'+w))+"/")
			}
			g.Go(func() error {
				var last fence.Token
				for range each {
					tok, err := grant(handles[w%len(handles)], own, 0, nil)
					if err != nil {
						return err
					}
					if tok <= last {
						t.Errorf("token %d was granted after %d", tok, last)
					}
					last = tok
					mu.Lock()
					all = append(all, tok)
					mu.Unlock()
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		slices.Sort(all)
		require.Len(t, slices.Compact(all), workers*each, "no two grants share a token")
	})
	t.Run("lift", func(t *testing.T) {
		base, err := grant(s.State, sc, 0, nil)
		require.NoError(t, err)
		up, err := grant(s.State, sc, base+1000, nil)
		require.NoError(t, err)
		require.Equal(t, base+1001, up, "the counter continues above the token")
		kept, err := grant(s.State, sc, base, nil)
		require.NoError(t, err)
		require.Equal(t, up+1, kept, "a lift to below changes nothing")
		for _, far := range []fence.Token{
			fence.Token((d.Incarnation+1)<<fence.CounterBits | 1),
			fence.Token((d.Incarnation+1)<<fence.CounterBits - 1),
			1<<63 - 1,
		} {
			_, err = grant(s.State, sc, far, nil)
			require.Error(t, err, "no token above %d can be granted in this incarnation", far)
		}
		next, err := grant(s.State, sc, 0, nil)
		require.NoError(t, err)
		require.Equal(t, up+2, next, "a refused lift changes nothing")
	})
	t.Run("a lift alone is kept", func(t *testing.T) {
		base, err := grant(s.State, sc, 0, nil)
		require.NoError(t, err)
		tx := newTx(func(v *state.View) (state.Changes, error) {
			if err := v.Lift(base + 500); err != nil {
				return state.Changes{}, err
			}
			return state.Changes{Scopes: []state.Scope{v.Scope(sc, fence.Sealed)}}, nil
		})
		tx.Scopes = exclusive(sc)
		require.NoError(t, s.State.Transact(t.Context(), tx))
		next, err := grant(s.handles(t)[0], sc, 0, nil)
		require.NoError(t, err)
		require.Equal(t, base+501, next)
	})
}
