package statetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

func contextWithTimeout(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// testDecisions defends what is decided under locks that others want.
func testDecisions(t *testing.T, s Subject) {
	t.Run("an error of Decide leaves nothing", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		o := small(sc, "k", 1)
		tx := newTx(func(*state.View) (state.Changes, error) {
			return state.Changes{PutObjects: []state.Object{o}}, errDecided
		})
		tx.Scopes, tx.Keys = shared(sc), []object.Ref{o.Ref}
		require.ErrorIs(t, s.State.Transact(t.Context(), tx), errDecided)
		require.Nil(t, seen(t, s.State, o.Ref))
		outcome, err := s.State.Resolve(t.Context(), tx.ID)
		require.NoError(t, err)
		require.Equal(t, state.Aborted, outcome)
		putObjects(t, s.State, sc, o) // its locks are free again
	})
	t.Run("a panic of Decide leaves nothing and holds nothing", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		tx := newTx(func(*state.View) (state.Changes, error) { panic(errDecided) })
		tx.Scopes = exclusive(sc)
		require.PanicsWithValue(t, errDecided, func() { _ = s.State.Transact(t.Context(), tx) })
		setMark(t, s.State, sc, fence.Mark{Generation: 1, Token: 1})
	})
	t.Run("nothing to write is no transaction", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		tx := newTx(func(*state.View) (state.Changes, error) { return state.Changes{}, nil })
		tx.Scopes = exclusive(sc)
		require.NoError(t, s.State.Transact(t.Context(), tx))
		require.Empty(t, read(t, s.State, state.Query{Scopes: []fence.Scope{sc}}).Scopes, "to look at a scope makes no row")
	})
	t.Run("of the conditional writers of one key one wins (F10)", func(t *testing.T) {
		t.Parallel()
		testConditional(t, s)
	})
	t.Run("no write is decided under a mark that has risen (F4)", func(t *testing.T) {
		t.Parallel()
		testRaises(t, s)
	})
	t.Run("reads see transactions whole", func(t *testing.T) {
		t.Parallel()
		testWhole(t, s)
	})
}

// testConditional lets writers race to create one key, then to swap it.
func testConditional(t *testing.T, s Subject) {
	const writers, rounds = 12, 12
	handles := s.handles(t)
	sc := scopeOf(newBucket(), "")
	ref := object.Ref{Bucket: sc.Bucket(), Key: "k"}
	for round := range rounds {
		old := seen(t, s.State, ref)
		var won atomic.Int64
		var g errgroup.Group
		start := make(chan struct{})
		for w := range writers {
			g.Go(func() error {
				mine := small(sc, ref.Key, fence.Token(w+1))
				tx := newTx(func(v *state.View) (state.Changes, error) {
					now := v.Objects[ref]
					if (now == nil) != (old == nil) || now != nil && now.Attempt != old.Attempt {
						return state.Changes{}, object.ErrPreconditionFailed
					}
					return state.Changes{PutObjects: []state.Object{mine}}, nil
				})
				tx.Scopes, tx.Keys = shared(sc), []object.Ref{ref}
				<-start
				err := handles[w%len(handles)].Transact(t.Context(), tx)
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, object.ErrPreconditionFailed) {
					return err
				}
				return nil
			})
		}
		close(start)
		require.NoError(t, g.Wait())
		require.Equal(t, int64(1), won.Load(), "winners of round %d", round)
		if round == rounds/2 { // from here on the key has to be created again
			write(t, s.State, &state.Tx{Scopes: shared(sc), Keys: []object.Ref{ref}}, state.Changes{DropObjects: []object.Ref{ref}})
		}
	}
}

// testRaises lets writers, each on a key of its own, commit under whatever mark
// they find, while another raises it. What a read finds after a raise was
// answered may change by writes under that mark or a later one only.
func testRaises(t *testing.T, s Subject) {
	const writers, raises = 6, 15
	handles := s.handles(t)
	sc := scopeOf(newBucket(), "jobs/")
	q := state.Query{}
	for w := range writers {
		q.Objects = append(q.Objects, object.Ref{Bucket: sc.Bucket(), Key: fmt.Sprintf("jobs/%d", w)})
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var g errgroup.Group
	var writes atomic.Int64
	for w := range writers {
		g.Go(func() error {
			for ctx.Err() == nil {
				tx := newTx(func(v *state.View) (state.Changes, error) {
					return state.Changes{PutObjects: []state.Object{small(sc, q.Objects[w].Key, v.Scope(sc, fence.Sealed).Mark.Token)}}, nil
				})
				tx.Scopes, tx.Keys = shared(sc), q.Objects[w:w+1]
				if err := handles[w%len(handles)].Transact(t.Context(), tx); err != nil {
					return err
				}
				writes.Add(1)
			}
			return nil
		})
	}
	g.Go(func() error {
		defer stop()
		before := map[object.Ref]*state.Object{}
		var mark fence.Token
		for range raises {
			floor := writes.Load()
			for ctx.Err() == nil && writes.Load() < floor+writers {
				time.Sleep(time.Millisecond) // lets the writers in between two raises; proves nothing
			}
			view, err := s.State.Read(t.Context(), q)
			if err != nil {
				return err
			}
			for ref, o := range view.Objects {
				if before[ref] != nil && before[ref].Attempt != o.Attempt && o.Token < mark {
					return fmt.Errorf("F4: %s was written under %d after the mark rose to %d", ref, o.Token, mark)
				}
			}
			tx := newTx(func(v *state.View) (state.Changes, error) {
				row := v.Scope(sc, fence.Sealed)
				tok, err := v.Draw()
				row.Mark.Token, mark = tok, tok
				return state.Changes{Scopes: []state.Scope{row}}, err
			})
			tx.Scopes = exclusive(sc)
			if err := handles[len(handles)-1].Transact(t.Context(), tx); err != nil {
				return err
			}
			if view, err = s.State.Read(t.Context(), q); err != nil {
				return err
			}
			before = view.Objects
		}
		return nil
	})
	require.NoError(t, g.Wait())
}

// testWhole: a transaction moves one attempt from key to key; every read finds
// it exactly once.
func testWhole(t *testing.T, s Subject) {
	handles := s.handles(t)
	sc := scopeOf(newBucket(), "")
	refs := []object.Ref{{Bucket: sc.Bucket(), Key: "a"}, {Bucket: sc.Bucket(), Key: "b"}}
	o := small(sc, "a", 1)
	putObjects(t, s.State, sc, o)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var g errgroup.Group
	g.Go(func() error {
		defer stop()
		for i := range 60 {
			to, from := refs[(i+1)%2], refs[i%2]
			tx := newTx(func(v *state.View) (state.Changes, error) {
				next := *v.Objects[from]
				next.Ref = to
				return state.Changes{PutObjects: []state.Object{next}, DropObjects: []object.Ref{from}}, nil
			})
			tx.Scopes, tx.Keys = shared(sc), refs
			if err := s.State.Transact(t.Context(), tx); err != nil {
				return err
			}
		}
		return nil
	})
	for r := range 2 {
		g.Go(func() error {
			for ctx.Err() == nil {
				v, err := handles[r%len(handles)].Read(t.Context(), state.Query{
					Objects: refs, Scopes: []fence.Scope{sc}, Attempts: []uuid.UUID{o.Attempt},
				})
				if err != nil {
					return err
				}
				if len(v.Objects) != 1 || !v.Referenced[o.Attempt] {
					return fmt.Errorf("a read saw half of a transaction: %d objects, referenced %v", len(v.Objects), v.Referenced)
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
}
