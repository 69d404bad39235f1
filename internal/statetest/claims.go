package statetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// oddNames are names of jobs and slots that a careless column type would alter or
// take for one another.
var oddNames = []string{"a", "A", "a ", " a", "é", "e\u0301", "日本", "'; --", "%", "_", `\x41`, "2026-05-01T02:00:00Z", "2026-05-01T02:00:00.5Z"}

func claimOf(job, slot, holder string) state.Claim {
	return state.Claim{Slot: state.Slot{Job: job, Name: slot}, Holder: holder, Owner: "ann@host 'x'", At: moment(1), KeepUntil: moment(2)}
}

// claim is a transaction that claims a slot where nobody has; won says whether it
// would.
func claim(c state.Claim, won *bool) *state.Tx {
	tx := newTx(func(v *state.View) (state.Changes, error) {
		*won = v.Claims[c.Slot] == nil
		if !*won {
			return state.Changes{}, nil
		}
		return state.Changes{Claims: []state.Claim{c}}, nil
	})
	tx.Slots = []state.Slot{c.Slot}
	return tx
}

// testClaims defends that a slot has one claim, which never changes.
func testClaims(t *testing.T, s Subject) {
	st := s.State
	t.Run("round trip, with every name", func(t *testing.T) {
		t.Parallel()
		var slots []state.Slot
		want := map[state.Slot]*state.Claim{}
		job := newBucket()
		for i, name := range oddNames {
			c := claimOf(job+name, name, fmt.Sprint(i))
			c.Owner = []string{"", name}[i%2]
			var won bool
			require.NoError(t, st.Transact(t.Context(), claim(c, &won)))
			require.True(t, won)
			slots = append(slots, c.Slot)
			want[c.Slot] = &c
		}
		slots = append(slots, state.Slot{Job: job, Name: "none"})
		same(t, want, read(t, st, state.Query{Slots: slots}).Claims)
		tx := newTx(func(v *state.View) (state.Changes, error) {
			same(t, want, v.Claims, "a transaction sees what a read sees")
			return state.Changes{}, nil
		})
		tx.Slots = slots
		require.NoError(t, st.Transact(t.Context(), tx))
	})
	t.Run("one of many claimants wins", func(t *testing.T) {
		t.Parallel()
		const claimants = 50
		handles := s.handles(t)
		job := newBucket()
		for _, slot := range []string{"one", "two"} {
			var g errgroup.Group
			var winners atomic.Int64
			seen := make([]*state.Claim, claimants)
			for i := range claimants {
				g.Go(func() error {
					c := claimOf(job, slot, fmt.Sprint(i))
					var won bool
					tx := claim(c, &won)
					decide := tx.Decide
					tx.Decide = func(v *state.View) (state.Changes, error) {
						seen[i] = v.Claims[c.Slot]
						return decide(v)
					}
					if err := handles[i%len(handles)].Transact(t.Context(), tx); err != nil {
						return err
					}
					if won {
						winners.Add(1)
						seen[i] = &c
					}
					return nil
				})
			}
			require.NoError(t, g.Wait())
			require.EqualValues(t, 1, winners.Load())
			for _, c := range seen {
				same(t, seen[0], c, "everybody is told of the same winner")
			}
		}
	})
	t.Run("a second claim writes nothing at all", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		first := claimOf(sc.Bucket(), "slot", "ann")
		var won bool
		require.NoError(t, st.Transact(t.Context(), claim(first, &won)))
		o := small(sc, "k", 1)
		tx := newTx(func(*state.View) (state.Changes, error) {
			return state.Changes{Claims: []state.Claim{claimOf(sc.Bucket(), "slot", "bob")}, PutObjects: []state.Object{o}}, nil
		})
		tx.Scopes, tx.Keys, tx.Slots = shared(sc), []object.Ref{o.Ref}, []state.Slot{first.Slot}
		require.ErrorIs(t, st.Transact(t.Context(), tx), state.ErrUnavailable)
		require.Nil(t, seen(t, st, o.Ref))
		same(t, &first, read(t, st, state.Query{Slots: []state.Slot{first.Slot}}).Claims[first.Slot])
	})
	t.Run("a lost answer is found out", func(t *testing.T) { // F7
		t.Parallel()
		handles := s.handles(t)
		c := claimOf(newBucket(), "slot", "ann")
		var won bool
		tx := claim(c, &won)
		require.NoError(t, st.Transact(t.Context(), tx))
		o, err := verdict(t.Context(), handles[len(handles)-1], tx.ID)
		require.NoError(t, err)
		require.Equal(t, state.Committed, o)
		late := claim(claimOf(c.Job, "late", "bob"), &won)
		o, err = verdict(t.Context(), handles[len(handles)-1], late.ID)
		require.NoError(t, err)
		require.Equal(t, state.Aborted, o)
		require.ErrorIs(t, st.Transact(t.Context(), late), state.ErrUnavailable)
		late.ID = state.NewID()
		require.NoError(t, st.Transact(t.Context(), late))
		require.True(t, won, "what was aborted has claimed nothing")
	})
	t.Run("lists go backwards, page by page", func(t *testing.T) {
		t.Parallel()
		job := newBucket()
		var all []state.Claim
		for _, name := range []string{"2026-05-01T02:00:00Z", "2026-04-30T02:00:00Z", "a", "é", "B"} {
			all = append(all, claimOf(job, name, "ann"))
			var won bool
			require.NoError(t, st.Transact(t.Context(), claim(all[len(all)-1], &won)))
			require.NoError(t, st.Transact(t.Context(), claim(claimOf(job+"-other", name, "ann"), &won)))
		}
		want := []state.Claim{all[3], all[2], all[4], all[0], all[1]}
		var got []state.Claim
		for before := ""; ; {
			page, err := st.ListClaims(t.Context(), job, before, 2)
			require.NoError(t, err)
			if len(page) == 0 {
				break
			}
			got, before = append(got, page...), page[len(page)-1].Name
		}
		same(t, want, got)
		none, err := st.ListClaims(t.Context(), job+"-none", "", plenty)
		require.NoError(t, err)
		require.Empty(t, none)
	})
}

// testRequests defends that of two requests under one Idempotency-Key, which may
// write to different keys, the second sees what the first did.
func testRequests(t *testing.T, s Subject) {
	st := s.State
	t.Run("one of many takes effect", func(t *testing.T) {
		t.Parallel()
		const attempts = 20
		handles := s.handles(t)
		sc := scopeOf(newBucket(), "")
		id := state.RetryID([]byte(fmt.Sprintf("%-32s", sc.Bucket())))
		var g errgroup.Group
		var committed atomic.Int64
		var refs []object.Ref
		for i := range attempts {
			o := small(sc, fmt.Sprint(i), 1) // other keys: they exclude each other by the request alone
			refs = append(refs, o.Ref)
			g.Go(func() error {
				tx := newTx(func(v *state.View) (state.Changes, error) {
					if _, ok := v.Retries[id]; ok {
						return state.Changes{}, errDecided
					}
					return state.Changes{PutObjects: []state.Object{o}, Retries: []state.Retry{{ID: id, Result: []byte(o.Key)}}}, nil
				})
				tx.Scopes, tx.Keys, tx.Requests = shared(sc), []object.Ref{o.Ref}, []state.Request{{ID: id}}
				err := handles[i%len(handles)].Transact(t.Context(), tx)
				if err == nil {
					committed.Add(1)
				}
				if errors.Is(err, errDecided) {
					return nil
				}
				return err
			})
		}
		require.NoError(t, g.Wait(), "the others are told, not failed")
		require.EqualValues(t, 1, committed.Load())
		require.Len(t, read(t, st, state.Query{Objects: refs}).Objects, 1)
	})
	if s.Advance == nil {
		return
	}
	// Not parallel: it moves the clock of everything.
	t.Run("an answer is found for as long as it is kept", func(t *testing.T) {
		id := state.RetryID([]byte(fmt.Sprintf("%-32s", newBucket())))
		item := state.RetryID([]byte(fmt.Sprintf("%-32s", newBucket())))
		write(t, st, &state.Tx{Requests: []state.Request{{ID: id}}},
			state.Changes{Retries: []state.Retry{{ID: id, Result: []byte("r")}, {ID: item, Result: []byte("i")}}})
		s.Advance(t, 5*24*time.Hour)
		tx := newTx(func(v *state.View) (state.Changes, error) {
			same(t, map[state.RetryID][]byte{id: []byte("r"), item: []byte("i")}, v.Retries)
			return state.Changes{}, nil
		})
		tx.Requests = []state.Request{{ID: id, Items: []state.RetryID{item, {1}}}}
		require.NoError(t, st.Transact(t.Context(), tx))
	})
}
