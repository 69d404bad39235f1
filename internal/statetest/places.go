package statetest

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// seenWithin is how recently a proxy must have been seen in these tests; kept is
// how long places are kept where their lapse is not the matter.
const (
	seenWithin = time.Hour
	kept       = 12 * time.Hour
)

func placeID(s fence.Scope, holder, ticket string) state.PlaceID {
	return state.PlaceID{Scope: s, Holder: holder, Ticket: ticket}
}

// keep takes or keeps a place in which nobody waits.
func keep(t testing.TB, st state.State, id state.PlaceID) state.Place {
	t.Helper()
	return keepPlace(t, st, state.Place{PlaceID: id, Owner: id.Holder + "@host"})
}

func keepPlace(t testing.TB, st state.State, p state.Place) state.Place {
	t.Helper()
	got, err := st.KeepPlace(t.Context(), p, kept)
	require.NoError(t, err)
	require.Equal(t, p.PlaceID, got.PlaceID)
	require.Equal(t, []any{p.Owner, p.Visit, p.Proxy}, []any{got.Owner, got.Visit, got.Proxy})
	require.Positive(t, got.Turn)
	return got
}

// head is the first of a line as a read sees it, nil where nobody waits.
func head(t testing.TB, st state.State, s fence.Scope) *state.Place {
	t.Helper()
	v := read(t, st, state.Query{Lines: []fence.Scope{s}, Absent: seenWithin})
	if p, ok := v.Heads[s]; ok {
		return &p
	}
	return nil
}

// line is who waits, in order, and what the other ways to look say must agree.
func line(t testing.TB, st state.State, s fence.Scope) []state.PlaceID {
	t.Helper()
	lines, err := st.ListPlaces(t.Context(), []fence.Scope{s}, plenty, seenWithin)
	require.NoError(t, err)
	l := lines[s]
	require.Len(t, l.First, l.Length)
	var ids []state.PlaceID
	for i, p := range l.First {
		ids = append(ids, p.PlaceID)
		before, all, err := st.CountPlaces(t.Context(), s, p.Turn, seenWithin)
		require.NoError(t, err)
		require.Equal(t, []int{i, l.Length}, []int{before, all})
	}
	if h := head(t, st, s); len(ids) == 0 {
		require.Nil(t, h)
	} else {
		same(t, l.First[0], *h)
	}
	return ids
}

func testPlaces(t *testing.T, s Subject) {
	handles := s.handles(t)
	st, other := handles[0], handles[len(handles)-1]
	b := newBucket()

	t.Run("who takes a place first comes first", func(t *testing.T) {
		sc := scopeOf(b, "order/日本/")
		require.Nil(t, head(t, st, sc))
		require.Empty(t, line(t, st, sc))
		var want []state.PlaceID
		last := state.Place{}
		for i := range 5 {
			p := state.Place{PlaceID: placeID(sc, "AKIA", fmt.Sprintf("t%d", 9-i)), Owner: `Zoë <&> ' " \`}
			now := read(t, st, state.Query{}).Now
			got := keepPlace(t, handles[i%len(handles)], p)
			require.Greater(t, got.Turn, last.Turn)
			require.False(t, got.Since.Before(now), "since is by the database's clock")
			require.WithinDuration(t, got.Since.Add(kept), got.Until, time.Second)
			want, last = append(want, p.PlaceID), got
		}
		same(t, want, line(t, st, sc))
		same(t, want, line(t, other, sc))
		lines, err := st.ListPlaces(t.Context(), []fence.Scope{scopeOf(b, "nobody/"), sc}, 2, seenWithin)
		require.NoError(t, err)
		require.Len(t, lines, 1)
		require.Equal(t, 5, lines[sc].Length)
		require.Len(t, lines[sc].First, 2)
		lines, err = st.ListPlaces(t.Context(), []fence.Scope{sc}, 0, seenWithin)
		require.NoError(t, err)
		require.Equal(t, state.Line{Length: 5}, lines[sc], "how many can be asked alone")
	})

	t.Run("a place is its holder's and its scope's", func(t *testing.T) {
		sc, sc2 := scopeOf(b, "whose/"), scopeOf(b, "whose2/")
		mine := keep(t, st, placeID(sc, "ann", "t"))
		theirs := keep(t, st, placeID(sc, "bob", "t"))
		elsewhere := keep(t, st, placeID(sc2, "ann", "t"))
		require.Less(t, mine.Turn, theirs.Turn, "somebody else's ticket is another one")
		same(t, []state.PlaceID{mine.PlaceID, theirs.PlaceID}, line(t, st, sc))
		same(t, []state.PlaceID{elsewhere.PlaceID}, line(t, st, sc2))
		require.NoError(t, st.LeavePlace(t.Context(), theirs.PlaceID, uuid.Nil, 0))
		same(t, []state.PlaceID{mine.PlaceID}, line(t, st, sc))
	})

	t.Run("who comes again keeps the place", func(t *testing.T) {
		sc := scopeOf(b, "again/")
		first := keep(t, st, placeID(sc, "ann", "t"))
		keep(t, st, placeID(sc, "bob", "t"))
		again := first
		again.Owner, again.Visit = "ann@other", uuid.New()
		got := keepPlace(t, other, again)
		require.Equal(t, first.Turn, got.Turn)
		require.True(t, first.Since.Equal(got.Since))
		require.False(t, got.Until.Before(first.Until))
		require.Equal(t, got, tidy(*head(t, st, sc)))
		keep(t, st, placeID(sc, "ann", "another"))
		same(t, []state.PlaceID{first.PlaceID, placeID(sc, "bob", "t"), placeID(sc, "ann", "another")}, line(t, st, sc))
	})

	t.Run("a visit is ended by itself alone", func(t *testing.T) {
		sc := scopeOf(b, "leave/")
		p := state.Place{PlaceID: placeID(sc, "ann", "t"), Visit: uuid.New()}
		old := p.Visit
		turn := keepPlace(t, st, p).Turn
		p.Visit = uuid.New()
		keepPlace(t, other, p)
		for _, d := range []time.Duration{0, time.Minute} {
			require.NoError(t, st.LeavePlace(t.Context(), p.PlaceID, old, d))
			require.NoError(t, st.LeavePlace(t.Context(), p.PlaceID, uuid.Nil, d))
			require.Equal(t, p.Visit, head(t, st, sc).Visit, "another call has come since")
		}
		require.NoError(t, st.LeavePlace(t.Context(), p.PlaceID, p.Visit, time.Hour))
		h := head(t, st, sc)
		require.Equal(t, []any{turn, uuid.Nil, uuid.Nil}, []any{h.Turn, h.Visit, h.Proxy})
		require.WithinDuration(t, read(t, st, state.Query{}).Now.Add(time.Hour), h.Until, time.Minute)
		require.Equal(t, turn, keepPlace(t, st, p).Turn)
		require.NoError(t, st.LeavePlace(t.Context(), p.PlaceID, p.Visit, 0))
		require.NoError(t, st.LeavePlace(t.Context(), p.PlaceID, p.Visit, 0), "a second time is fine")
		require.Nil(t, head(t, st, sc))
		require.Greater(t, keepPlace(t, st, p).Turn, turn, "who has left begins again at the end")
	})

	t.Run("a place lives as long as its proxy is seen", func(t *testing.T) {
		sc := scopeOf(b, "proxies/")
		proxy := uuid.New()
		ann := keepPlace(t, st, state.Place{PlaceID: placeID(sc, "ann", "t"), Visit: uuid.New(), Proxy: proxy})
		bob := keep(t, st, placeID(sc, "bob", "t"))
		same(t, []state.PlaceID{bob.PlaceID}, line(t, st, sc), "nobody has seen that proxy")
		_, _, err := st.RenewGuards(t.Context(), proxy, 1, -1)
		require.NoError(t, err)
		same(t, []state.PlaceID{ann.PlaceID, bob.PlaceID}, line(t, st, sc))
		v := read(t, st, state.Query{Lines: []fence.Scope{sc}, Absent: -time.Hour})
		require.Equal(t, bob.PlaceID, v.Heads[sc].PlaceID, "not seen recently enough")
		_, all, err := st.CountPlaces(t.Context(), sc, 0, -time.Hour)
		require.NoError(t, err)
		require.Equal(t, 1, all)
		require.NoError(t, st.ForgetProxy(t.Context(), proxy))
		same(t, []state.PlaceID{bob.PlaceID}, line(t, st, sc), "a proxy that ended has no waiters")
		_, _, err = st.RenewGuards(t.Context(), proxy, 1, -1)
		require.NoError(t, err)
		same(t, []state.PlaceID{ann.PlaceID, bob.PlaceID}, line(t, st, sc), "one that comes back has its place again")
		require.NoError(t, st.ForgetProxy(t.Context(), proxy))
		require.NoError(t, st.LeavePlace(t.Context(), ann.PlaceID, ann.Visit, time.Hour))
		same(t, []state.PlaceID{ann.PlaceID, bob.PlaceID}, line(t, st, sc), "a kept place has no proxy")
		again := keepPlace(t, st, ann)
		require.Equal(t, ann.Turn, again.Turn)
	})

	t.Run("a transaction sees the head and drops places", func(t *testing.T) {
		sc := scopeOf(b, "tx/")
		ann, bob := keep(t, st, placeID(sc, "ann", "t")), keep(t, st, placeID(sc, "bob", "t"))
		drop := func(fail error) error {
			tx := newTx(func(v *state.View) (state.Changes, error) {
				require.Len(t, v.Heads, 1)
				same(t, ann, v.Heads[sc])
				return state.Changes{DropPlaces: []state.PlaceID{ann.PlaceID, placeID(sc, "nobody", "t")}}, fail
			})
			tx.Scopes, tx.Lines, tx.Absent = exclusive(sc), []fence.Scope{sc, scopeOf(b, "nobody/")}, seenWithin
			return st.Transact(t.Context(), tx)
		}
		require.ErrorIs(t, drop(errDecided), errDecided)
		same(t, []state.PlaceID{ann.PlaceID, bob.PlaceID}, line(t, st, sc))
		require.NoError(t, drop(nil))
		same(t, []state.PlaceID{bob.PlaceID}, line(t, other, sc))
	})

	t.Run("a transaction that waited for the scope sees places taken meanwhile", func(t *testing.T) {
		sc := scopeOf(b, "late/")
		p := state.Place{PlaceID: placeID(sc, "ann", "t")}
		release := hold(t, st, &state.Tx{Scopes: exclusive(sc)})
		var seen *state.Place
		tx := newTx(func(v *state.View) (state.Changes, error) {
			if h, ok := v.Heads[sc]; ok {
				seen = &h
			}
			return state.Changes{}, nil
		})
		tx.Scopes, tx.Lines, tx.Absent = exclusive(sc), []fence.Scope{sc}, seenWithin
		done := make(chan error, 1)
		go func() { done <- other.Transact(t.Context(), tx) }()
		select { // most probably it waits by now; if it comes later, all the same must hold
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		case <-time.After(brief):
		}
		if s.OneWriter {
			release()
			require.NoError(t, <-done)
			return
		}
		// Nor does taking a place wait for the scope: it would hold up nobody's writes
		// but the waiters' own.
		keepPlace(t, st, p)
		release()
		require.NoError(t, <-done)
		require.NotNil(t, seen)
		require.Equal(t, p.PlaceID, seen.PlaceID)
	})

	t.Run("many at once", func(t *testing.T) {
		sc := scopeOf(b, "many/")
		const waiters, each = 8, 15
		var mu sync.Mutex
		turns := map[int64]state.PlaceID{}
		var all sync.WaitGroup
		for w := range waiters {
			all.Go(func() {
				last := int64(0)
				for i := range each {
					p, err := handles[(w+i)%len(handles)].KeepPlace(t.Context(), state.Place{PlaceID: placeID(sc, fmt.Sprint("k", w), fmt.Sprint(i))}, kept)
					mu.Lock()
					if err != nil || p.Turn <= last || !turns[p.Turn].Scope.IsZero() {
						t.Errorf("place %d of %d: turn %d after %d (%v), %v", i, w, p.Turn, last, turns[p.Turn], err)
					}
					turns[p.Turn], last = p.PlaceID, p.Turn
					mu.Unlock()
				}
			})
		}
		all.Wait()
		require.Len(t, turns, waiters*each)
		var want []state.PlaceID
		for _, turn := range slices.Sorted(func(yield func(int64) bool) {
			for turn := range turns {
				if !yield(turn) {
					return
				}
			}
		}) {
			want = append(want, turns[turn])
		}
		same(t, want, line(t, st, sc))
	})

	t.Run("one ticket at once", func(t *testing.T) {
		sc := scopeOf(b, "one/")
		id := placeID(sc, "ann", "t")
		turns := make([]int64, 12)
		var all sync.WaitGroup
		for i := range turns {
			all.Go(func() {
				p, err := handles[i%len(handles)].KeepPlace(t.Context(), state.Place{PlaceID: id, Visit: uuid.New()}, kept)
				if err != nil {
					t.Error(err)
				}
				turns[i] = p.Turn
			})
		}
		all.Wait()
		require.Len(t, slices.Compact(turns), 1, "all of them have the one place")
		same(t, []state.PlaceID{id}, line(t, st, sc))
	})

	t.Run("at random", func(t *testing.T) { randomPlaces(t, handles, b) })

	t.Run("a place that has lapsed is none", func(t *testing.T) {
		if s.Advance == nil {
			t.Skip("this state's clock cannot be moved")
		}
		sc, sc2, sc3 := scopeOf(b, "lapse/"), scopeOf(b, "lapse2/"), scopeOf(b, "lapse3/")
		alone := keep(t, st, placeID(sc3, "ann", "t"))
		ann := keep(t, st, placeID(sc, "ann", "t"))
		keep(t, st, placeID(sc, "bob", "t"))
		gone := keep(t, st, placeID(sc2, "ann", "t"))
		s.Advance(t, 48*time.Hour)
		require.Empty(t, line(t, st, sc))
		require.Greater(t, keep(t, st, alone.PlaceID).Turn, alone.Turn, "who comes back before anybody else, too")
		cid := keep(t, st, placeID(sc, "cid", "t"))
		again := keep(t, st, ann.PlaceID)
		require.Greater(t, again.Turn, cid.Turn, "who was away for too long begins again")
		require.True(t, again.Since.After(ann.Since))
		same(t, []state.PlaceID{cid.PlaceID, ann.PlaceID}, line(t, st, sc))
		require.NoError(t, st.Maintain(t.Context(), time.Hour))
		same(t, []state.PlaceID{cid.PlaceID, ann.PlaceID}, line(t, st, sc), "who waits is not swept")
		require.NoError(t, st.LeavePlace(t.Context(), gone.PlaceID, uuid.Nil, time.Hour))
		require.Empty(t, line(t, st, sc2), "what was swept is gone")
	})
}

// randomPlaces compares a line with what a few lines of Go make of it.
func randomPlaces(t *testing.T, handles []state.State, bucket string) {
	type entry struct {
		id    state.PlaceID
		visit uuid.UUID
	}
	rng := rand.New(rand.NewPCG(13, 7))
	scopes := []fence.Scope{scopeOf(bucket, "random/a/"), scopeOf(bucket, "random/b/")}
	want := map[fence.Scope][]entry{}
	for step := range 120 {
		st := handles[rng.IntN(len(handles))]
		sc := scopes[rng.IntN(2)]
		id := placeID(sc, fmt.Sprint("k", rng.IntN(2)), fmt.Sprint("t", rng.IntN(3)))
		at := slices.IndexFunc(want[sc], func(e entry) bool { return e.id == id })
		switch rng.IntN(4) {
		case 0, 1:
			visit := uuid.New()
			keepPlace(t, st, state.Place{PlaceID: id, Visit: visit})
			if at < 0 {
				want[sc] = append(want[sc], entry{id, visit})
			} else {
				want[sc][at].visit = visit
			}
		case 2:
			visit, d := uuid.New(), time.Duration(rng.IntN(2))*time.Hour
			if at >= 0 && rng.IntN(2) == 0 {
				visit = want[sc][at].visit
				if want[sc][at].visit = uuid.Nil; d == 0 {
					want[sc] = slices.Delete(want[sc], at, at+1)
				}
			}
			require.NoError(t, st.LeavePlace(t.Context(), id, visit, d))
		case 3:
			err := errDecided
			if at >= 0 && rng.IntN(2) == 0 {
				err = nil
				want[sc] = slices.Delete(want[sc], at, at+1)
			}
			tx := newTx(func(*state.View) (state.Changes, error) {
				return state.Changes{DropPlaces: []state.PlaceID{id}}, err
			})
			tx.Scopes = exclusive(sc)
			if got := st.Transact(t.Context(), tx); !errors.Is(got, err) {
				require.NoError(t, cmp.Or(got, errors.New("it did not fail")))
			}
		}
		var ids []state.PlaceID
		for _, e := range want[sc] {
			ids = append(ids, e.id)
		}
		same(t, ids, line(t, handles[0], sc), "step %d", step)
	}
}
