package statetest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

func guardOf(t testing.TB, pattern string) *fence.Guard {
	t.Helper()
	p, err := fence.ParsePattern(pattern)
	require.NoError(t, err)
	return &fence.Guard{
		Pattern: p, Writes: fence.Sealed, Tokens: fence.Required, Issuer: fence.External,
		MaxJump: fence.DefaultMaxJump, State: fence.Pending, Created: moment(1), LockDelay: fence.MaxLockDelay,
	}
}

// addGuards commits guards and returns them with their ids.
func addGuards(t testing.TB, st state.State, patterns ...string) []*fence.Guard {
	t.Helper()
	var list []*fence.Guard
	for _, p := range patterns {
		list = append(list, guardOf(t, p))
	}
	write(t, st, &state.Tx{GuardList: true}, state.Changes{PutGuards: list})
	return list
}

// listed is the guard list and its version, as a proxy gets them.
func listed(t testing.TB, st state.State) (int64, []fence.Guard) {
	t.Helper()
	version, list, err := st.RenewGuards(t.Context(), uuid.New(), 0, -1)
	require.NoError(t, err)
	require.NotNil(t, list, "whoever does not know the version gets the list, even an empty one")
	return version, list
}

func testGuards(t *testing.T, s Subject) {
	st := s.State
	v0, list := listed(t, st)
	require.Empty(t, list)

	b := newBucket()
	gs := addGuards(t, st, "s3://"+b+"/b/", "s3://"+b+"/日本/*/", "s3://"+b+"/a/")
	require.Less(t, fence.GuardID(0), gs[0].ID)
	require.Less(t, gs[0].ID, gs[1].ID, "ids are set in place, in order")
	require.Less(t, gs[1].ID, gs[2].ID)
	want := []fence.Guard{*gs[0], *gs[1], *gs[2]}
	v1, list := listed(t, st)
	require.Less(t, v0, v1)
	same(t, want, list, "the list is ordered by id")

	t.Run("a transaction sees list and guards", func(t *testing.T) {
		var view *state.View
		tx := newTx(func(v *state.View) (state.Changes, error) {
			view = v
			return state.Changes{}, nil
		})
		tx.GuardList, tx.Guards = true, []fence.GuardID{gs[1].ID, 1 << 40}
		require.NoError(t, st.Transact(t.Context(), tx))
		require.Equal(t, v1, view.GuardVersion)
		same(t, want, view.GuardList)
		same(t, map[fence.GuardID]fence.Guard{gs[1].ID: *gs[1]}, view.Guards)
		same(t, view.Guards, read(t, st, state.Query{Guards: tx.Guards}).Guards)
		v, _ := listed(t, st)
		require.Equal(t, v1, v, "to look changes no version")
	})
	t.Run("a proxy that knows the version gets no list", func(t *testing.T) {
		version, list, err := st.RenewGuards(t.Context(), uuid.New(), v1, v1)
		require.NoError(t, err)
		require.Equal(t, v1, version)
		require.Nil(t, list)
	})
	t.Run("an error changes no version", func(t *testing.T) {
		tx := newTx(func(*state.View) (state.Changes, error) {
			return state.Changes{PutGuards: []*fence.Guard{guardOf(t, "s3://"+b+"/c/")}}, errDecided
		})
		tx.GuardList = true
		require.ErrorIs(t, st.Transact(t.Context(), tx), errDecided)
		v, list := listed(t, st)
		require.Equal(t, v1, v)
		same(t, want, list)
	})
	t.Run("guards are replaced, dropped, and their ids not used again", func(t *testing.T) {
		active := *gs[0]
		active.State, active.Tokens, active.Writes, active.MaxJump = fence.Active, fence.None, fence.InPlace, 1
		active.Issuer, active.Created, active.LockDelay = fence.Own, moment(2), 1500*time.Millisecond
		write(t, st, &state.Tx{GuardList: true, Guards: []fence.GuardID{active.ID}, GuardMode: state.Exclusive},
			state.Changes{PutGuards: []*fence.Guard{&active}})
		v2, list := listed(t, st)
		require.Less(t, v1, v2)
		want[0] = active
		same(t, want, list)

		write(t, st, &state.Tx{GuardList: true}, state.Changes{DropGuards: []fence.GuardID{gs[2].ID, 1 << 40}})
		v3, list := listed(t, st)
		require.Less(t, v2, v3)
		same(t, want[:2], list)
		again := addGuards(t, st, gs[2].Pattern.String())
		require.Less(t, gs[2].ID, again[0].ID)

		write(t, st, &state.Tx{GuardList: true}, state.Changes{DropGuards: []fence.GuardID{gs[0].ID, gs[1].ID, again[0].ID}})
		_, list = listed(t, st)
		require.Empty(t, list)
		last := addGuards(t, st, gs[2].Pattern.String())
		require.Less(t, again[0].ID, last[0].ID, "not even when the list was empty")
	})
	t.Run("proxies", func(t *testing.T) {
		a, b := uuid.New(), uuid.New()
		renew := func(id uuid.UUID, acked int64) {
			_, _, err := st.RenewGuards(t.Context(), id, acked, -1)
			require.NoError(t, err)
		}
		find := func(id uuid.UUID) *state.Proxy {
			list, now, err := st.Proxies(t.Context())
			require.NoError(t, err)
			require.False(t, now.IsZero())
			i := slices.IndexFunc(list, func(p state.Proxy) bool { return p.ID == id })
			if i < 0 {
				return nil
			}
			require.False(t, list[i].Seen.After(now), "seen by the database's clock")
			return &list[i]
		}
		renew(a, 3)
		renew(b, 4)
		first := find(a)
		require.Equal(t, int64(3), first.Acked)
		require.Equal(t, int64(4), find(b).Acked)
		renew(a, 5)
		require.Equal(t, int64(5), find(a).Acked)
		require.False(t, find(a).Seen.Before(first.Seen))
		require.NoError(t, st.ForgetProxy(t.Context(), a))
		require.NoError(t, st.ForgetProxy(t.Context(), uuid.New()), "to forget a stranger is fine")
		require.Nil(t, find(a))
		require.NotNil(t, find(b))
	})
}
