package statetest

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// testUpkeep checks what Maintain drops and what it must keep.
func testUpkeep(t *testing.T, s Subject) {
	st := s.State
	sc := scopeOf(newBucket(), "")
	type kit struct {
		tx         uuid.UUID
		retry      state.RetryID
		open, done state.Upload
		claim      state.Slot
		proxy      uuid.UUID
	}
	object1 := small(sc, "k", 1)
	make1 := func(name string) kit {
		k := kit{tx: state.NewID(), retry: state.RetryID([]byte((name + "................................")[:32])), proxy: uuid.New()}
		k.open, k.done = upload(sc, "k", name+"-open"), upload(sc, "k", name+"-done")
		k.done.Completed = true
		k.claim = state.Slot{Job: name, Name: "slot"}
		now := read(t, st, state.Query{}).Now
		row := state.NewScope(sc, fence.Sealed)
		row.Mark.Token = 1
		write(t, st, &state.Tx{ID: k.tx, Scopes: exclusive(sc), Keys: []object.Ref{object1.Ref}, Slots: []state.Slot{k.claim}}, state.Changes{
			Scopes: []state.Scope{row}, PutObjects: []state.Object{object1},
			PutUploads: []state.Upload{k.open, k.done}, Retries: []state.Retry{{ID: k.retry, Result: []byte("r")}},
			Claims:     []state.Claim{{Slot: k.claim, Holder: "ann", At: now, KeepUntil: now.Add(72 * time.Hour)}},
			AddGarbage: []state.Garbage{{Bucket: sc.Bucket(), Physical: name, Found: moment(1)}},
		})
		_, _, err := st.RenewGuards(t.Context(), k.proxy, 1, -1)
		require.NoError(t, err)
		return k
	}
	claimed := func(k kit) bool {
		return read(t, st, state.Query{Slots: []state.Slot{k.claim}}).Claims[k.claim] != nil
	}
	kept := func(k kit) (retry, done, proxy bool) {
		tx := newTx(func(v *state.View) (state.Changes, error) {
			_, retry = v.Retries[k.retry]
			done = v.Uploads[k.done.ID] != nil
			if v.Uploads[k.open.ID] == nil {
				t.Errorf("an open upload is gone")
			}
			return state.Changes{}, nil
		})
		tx.Keys, tx.Uploads, tx.Retries = []object.Ref{object1.Ref}, []string{k.open.ID, k.done.ID}, []state.RetryID{k.retry}
		require.NoError(t, st.Transact(t.Context(), tx))
		list, _, err := st.Proxies(t.Context())
		require.NoError(t, err)
		for _, p := range list {
			proxy = proxy || p.ID == k.proxy
		}
		return retry, done, proxy
	}
	old := make1("old")
	require.NoError(t, st.Maintain(t.Context(), time.Hour))
	retry, done, proxy := kept(old)
	require.True(t, retry && done && proxy, "what is young stays: %v %v %v", retry, done, proxy)
	got, err := verdict(t.Context(), st, old.tx)
	require.NoError(t, err)
	require.Equal(t, state.Committed, got)
	require.NoError(t, st.Maintain(t.Context(), 0))
	require.True(t, claimed(old), "a claim says itself how long it is kept")

	if s.Advance == nil {
		t.Skip("this state's clock cannot be moved")
	}
	s.Advance(t, 96*time.Hour)
	young := make1("young")
	require.NoError(t, st.Maintain(t.Context(), 48*time.Hour))
	retry, done, proxy = kept(old)
	require.False(t, retry || done || proxy, "what is old goes: %v %v %v", retry, done, proxy)
	retry, done, proxy = kept(young)
	require.True(t, retry && done && proxy, "what is young stays: %v %v %v", retry, done, proxy)
	got, err = verdict(t.Context(), st, young.tx)
	require.NoError(t, err)
	require.Equal(t, state.Committed, got)
	got, err = verdict(t.Context(), st, old.tx)
	require.NoError(t, err)
	require.Equal(t, state.Aborted, got, "outcomes are dropped as well; keep must outlast every Resolve")

	require.False(t, claimed(old))
	require.True(t, claimed(young))

	same(t, &object1, seen(t, st, object1.Ref))
	require.Equal(t, fence.Token(1), scopeSeen(t, st, sc).Mark.Token, "marks stay (F1)")
	garbage, err := st.ListGarbage(t.Context(), sc.Bucket(), moment(9), plenty)
	require.NoError(t, err)
	require.Len(t, garbage, 2, "garbage is the collector's")
}
