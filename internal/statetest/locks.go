package statetest

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// brief is a wait for a lock that is expected to be in vain.
const brief = 40 * time.Millisecond

func testLocks(t *testing.T, s Subject) {
	st := s.State
	b := newBucket()
	guards := addGuards(t, st, "s3://"+newBucket()+"/", "s3://"+newBucket()+"/")
	sc, other := scopeOf(b, "one/"), scopeOf(b, "two/")
	slot, otherSlot := state.Slot{Job: b, Name: "1"}, state.Slot{Job: b, Name: "2"}
	request, otherRequest := state.RetryID([]byte(b + "......................")[:32]), state.RetryID([]byte(b + ",,,,,,,,,,,,,,,,,,,,,,")[:32])
	key, otherKey := object.Ref{Bucket: b, Key: "one/k"}, object.Ref{Bucket: b, Key: "one/l"}
	guardTx := func(i int, m state.Mode) state.Tx {
		return state.Tx{Guards: []fence.GuardID{guards[i].ID}, GuardMode: m}
	}
	cases := []struct {
		name       string
		held, want state.Tx
		waits      bool
	}{
		{"scope: exclusive after exclusive", state.Tx{Scopes: exclusive(sc)}, state.Tx{Scopes: exclusive(sc)}, true},
		{"scope: shared after exclusive", state.Tx{Scopes: exclusive(sc)}, state.Tx{Scopes: shared(sc)}, true},
		{"scope: exclusive after shared", state.Tx{Scopes: shared(sc)}, state.Tx{Scopes: exclusive(sc)}, true},
		{"scope: shared beside shared", state.Tx{Scopes: shared(sc)}, state.Tx{Scopes: shared(sc)}, false},
		{"scope: another one", state.Tx{Scopes: exclusive(sc)}, state.Tx{Scopes: exclusive(other)}, false},
		{"key: the same", state.Tx{Scopes: shared(sc), Keys: []object.Ref{key}}, state.Tx{Scopes: shared(sc), Keys: []object.Ref{key}}, true},
		{"key: another one", state.Tx{Scopes: shared(sc), Keys: []object.Ref{key}}, state.Tx{Scopes: shared(sc), Keys: []object.Ref{otherKey}}, false},
		{"slot: the same", state.Tx{Slots: []state.Slot{slot}}, state.Tx{Slots: []state.Slot{slot}}, true},
		{"slot: another one", state.Tx{Slots: []state.Slot{slot}}, state.Tx{Slots: []state.Slot{otherSlot}}, false},
		{"request: the same, for other keys", state.Tx{Scopes: shared(sc), Keys: []object.Ref{key}, Requests: []state.Request{{ID: request}}},
			state.Tx{Scopes: shared(sc), Keys: []object.Ref{otherKey}, Requests: []state.Request{{ID: request}}}, true},
		{"request: another one", state.Tx{Requests: []state.Request{{ID: request}}}, state.Tx{Requests: []state.Request{{ID: otherRequest}}}, false},
		{"guard list", state.Tx{GuardList: true}, state.Tx{GuardList: true}, true},
		{"guard: exclusive after shared", guardTx(0, 0), guardTx(0, state.Exclusive), true},
		{"guard: shared after exclusive", guardTx(0, state.Exclusive), guardTx(0, state.Shared), true},
		{"guard: shared beside shared", guardTx(0, state.Shared), guardTx(0, 0), false},
		{"guard: another one", guardTx(0, state.Exclusive), guardTx(1, state.Exclusive), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if s.OneWriter && !c.waits {
				t.Skip("this driver has one lock for everything")
			}
			for _, st := range s.handles(t) {
				release := hold(t, s.State, &c.held)
				c.want.ID = state.NewID()
				called := false
				c.want.Decide = func(*state.View) (state.Changes, error) {
					called = true
					return state.Changes{}, nil
				}
				c.want.Wait = patience
				if c.waits {
					c.want.Wait = brief
					begun := time.Now()
					require.ErrorIs(t, st.Transact(t.Context(), &c.want), state.ErrBusy)
					require.False(t, called, "nothing is decided without the lock")
					require.GreaterOrEqual(t, time.Since(begun), brief)
					release()
					c.want.ID, c.want.Wait = state.NewID(), patience
				}
				require.NoError(t, st.Transact(t.Context(), &c.want))
				require.True(t, called)
				release()
			}
		})
	}
	t.Run("a wait ends when the lock is let go", func(t *testing.T) {
		row := state.NewScope(sc, fence.Sealed)
		row.Mark.Token = 77
		release := hold(t, st, &state.Tx{Scopes: exclusive(sc), Decide: func(*state.View) (state.Changes, error) {
			return state.Changes{Scopes: []state.Scope{row}}, nil
		}})
		var view *state.View
		tx := newTx(func(v *state.View) (state.Changes, error) {
			view = v
			return state.Changes{}, nil
		})
		tx.Scopes = shared(sc)
		done := make(chan error, 1)
		go func() { done <- st.Transact(t.Context(), tx) }()
		select { // most probably it waits by now; if it comes later, all the same must hold
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		case <-time.After(brief):
		}
		held := read(t, st, state.Query{}).Now
		release()
		require.NoError(t, <-done)
		require.Equal(t, fence.Token(77), view.Scopes[sc].Mark.Token, "it sees what was committed while it waited")
		require.False(t, view.Now.Before(held), "its clock was read after the lock was had")
	})
	t.Run("a wait ends with its context", func(t *testing.T) {
		release := hold(t, st, &state.Tx{Scopes: exclusive(sc)})
		ctx, cancel := contextWithTimeout(t, brief)
		defer cancel()
		tx := newTx(nil)
		tx.Scopes = shared(sc)
		require.ErrorIs(t, st.Transact(ctx, tx), state.ErrUnavailable)
		release()
	})
	t.Run("try misses what is held and does not wait", func(t *testing.T) {
		if s.OneWriter {
			t.Skip("this driver has one lock for everything")
		}
		setMark(t, st, other, fence.Mark{Generation: 1, Token: 5})
		for _, m := range []struct{ held, want state.Mode }{
			{state.Exclusive, state.Exclusive}, {state.Exclusive, state.Shared}, {state.Shared, state.Exclusive},
		} {
			release := hold(t, st, &state.Tx{Scopes: []state.ScopeLock{{Scope: sc, Mode: m.held}}})
			var view *state.View
			o := small(other, "two/k", 5)
			tx := newTx(func(v *state.View) (state.Changes, error) {
				view = v
				return state.Changes{PutObjects: []state.Object{o}}, nil
			})
			tx.Try, tx.Keys = true, []object.Ref{key, o.Ref}
			tx.Scopes = []state.ScopeLock{{Scope: sc, Mode: m.want}, {Scope: other, Mode: state.Shared}}
			require.NoError(t, st.Transact(t.Context(), tx))
			require.Equal(t, map[fence.Scope]bool{sc: true}, view.Missed)
			require.Equal(t, fence.Token(5), view.Scopes[other].Mark.Token)
			same(t, &o, seen(t, st, o.Ref))
			release()
		}
		tx := newTx(func(v *state.View) (state.Changes, error) {
			require.Empty(t, v.Missed, "what is free is not missed")
			return state.Changes{}, nil
		})
		tx.Try, tx.Scopes = true, append(exclusive(sc), exclusive(other)...)
		require.NoError(t, st.Transact(t.Context(), tx))
	})
	t.Run("batches that overlap at random do not deadlock", func(t *testing.T) {
		const workers, each = 8, 25
		handles := s.handles(t)
		scopes := make([]fence.Scope, 5)
		keys, slots, requests := make([]object.Ref, 6), make([]state.Slot, 4), make([]state.RetryID, 4)
		for i := range scopes {
			scopes[i] = scopeOf(b, string(rune('p'+i))+"/")
		}
		for i := range keys {
			keys[i] = object.Ref{Bucket: b, Key: string(rune('p'+i)) + "/k"}
		}
		for i := range slots {
			slots[i], requests[i] = state.Slot{Job: b, Name: string(rune('p' + i))}, state.RetryID{1: byte(i)}
		}
		var g errgroup.Group
		for w := range workers {
			g.Go(func() error {
				rng := rand.New(rand.NewPCG(uint64(w), 7))
				for range each {
					tx := newTx(func(v *state.View) (state.Changes, error) { return state.Changes{}, nil })
					tx.GuardMode = state.Mode(1 + rng.IntN(2))
					for _, i := range rng.Perm(len(guards))[:rng.IntN(2)] {
						tx.Guards = append(tx.Guards, guards[i].ID)
					}
					for _, i := range rng.Perm(len(scopes))[:1+rng.IntN(4)] {
						tx.Scopes = append(tx.Scopes, state.ScopeLock{Scope: scopes[i], Mode: state.Mode(1 + rng.IntN(2))})
					}
					for _, i := range rng.Perm(len(keys))[:rng.IntN(5)] {
						tx.Keys = append(tx.Keys, keys[i])
					}
					for _, i := range rng.Perm(len(slots))[:rng.IntN(3)] {
						tx.Slots = append(tx.Slots, slots[i])
					}
					for _, i := range rng.Perm(len(requests))[:rng.IntN(3)] {
						tx.Requests = append(tx.Requests, state.Request{ID: requests[i]})
					}
					if err := handles[rng.IntN(len(handles))].Transact(t.Context(), tx); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
	})
}
