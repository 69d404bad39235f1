package statetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// addEvents adds rows to the event log in one transaction.
func addEvents(t testing.TB, st state.State, list ...state.Event) {
	t.Helper()
	write(t, st, &state.Tx{EventLog: true}, state.Changes{Events: list})
}

func listEvents(t testing.TB, st state.State, q state.EventQuery) state.EventPage {
	t.Helper()
	p, err := st.ListEvents(t.Context(), q)
	require.NoError(t, err)
	return p
}

// wholeLog reads the log from its beginning in one page.
func wholeLog(t testing.TB, st state.State) []state.Event {
	t.Helper()
	return listEvents(t, st, state.EventQuery{Limit: 100_000}).Events
}

// lately are times of which events tell: not after they are added.
func lately(n int) time.Time {
	return time.Now().UTC().Truncate(time.Hour).Add(-time.Duration(n) * 1000001 * time.Microsecond)
}

// fullEvent is one with every field set.
func fullEvent(sc fence.Scope, key string) state.Event {
	return state.Event{
		Event: events.Event{
			Time: lately(7), Kind: events.Refused, Scope: sc, Bucket: sc.Bucket(), Key: key, Guard: "s3://" + sc.Bucket() + "/*/",
			Token: 1<<53 - 1, Highest: 1 << 62, Holder: "AKIA-bob", Owner: "bob@höst <x>", Previous: "ann (AKIA-ann)",
			AccessKey: "AKIA-ann", Remote: "2001:db8::1", Operation: "PutObject", Access: events.Writes, RequestID: "0F",
			Code: events.CodeStale, After: 3*time.Hour + time.Microsecond, Reason: "line\none \u2028 \\ \" '; DROP TABLE events; --",
		},
		Count: 1 << 40, Span: 17 * time.Microsecond, Suppressed: true,
	}
}

func smallEvent(kind events.Kind, sc fence.Scope) state.Event {
	return state.Event{Event: events.Event{Time: lately(1), Kind: kind, Scope: sc}, Count: 1}
}

// testEvents checks what is added, what is selected, and what is dropped.
func testEvents(t *testing.T, s Subject) {
	st := s.State
	empty := listEvents(t, st, state.EventQuery{Limit: plenty})
	require.Empty(t, empty.Events)
	require.Zero(t, empty.Next)

	a, b := newBucket(), newBucket()
	var added []state.Event
	add := func(list ...state.Event) {
		t.Helper()
		addEvents(t, st, list...)
		added = append(added, list...)
	}
	for _, k := range oddKeys {
		add(fullEvent(scopeOf(a, "jobs/"), k))
	}
	add(smallEvent(events.Granted, scopeOf(a, "日本/")), smallEvent("of_a_later_version", fence.Scope{}))
	guard := smallEvent(events.GuardAdded, fence.Scope{})
	guard.Guard = "s3://" + b + "/*/"
	plain := smallEvent(events.Refused, fence.Scope{})
	plain.Bucket, plain.Key = b, "free/é"
	add(guard, plain, smallEvent(events.Takeover, scopeOf(b, "jobs/")), smallEvent(events.Granted, scopeOf(b, "")))
	for i := range 40 {
		e := smallEvent(events.Kinds()[i%len(events.Kinds())], scopeOf(b, fmt.Sprintf("t/%d/", i%7)))
		e.Time, e.Count = lately(i), int64(i+1) // times do not go with ids
		add(e)
	}

	log := wholeLog(t, st)
	require.Len(t, log, len(added))
	for i := range log {
		require.Positive(t, log[i].ID)
		if i > 0 {
			require.Less(t, log[i-1].ID, log[i].ID)
		}
		want := added[i]
		want.ID = log[i].ID
		same(t, want, log[i], "row %d", i)
	}
	last := log[len(log)-1].ID

	t.Run("what is selected", func(t *testing.T) {
		prefixes := []string{"", "s3://", "s3://" + a + "/", "s3://" + b, "s3://" + b + "/t/3/", "s3://" + b + "/*/", "s3://" + b + "/free/", "s3://" + a + "/a", "s3://" + a + "/\xff", "s3://" + a + "/日", "%", "s3://nowhere/"}
		kinds := [][]events.Kind{nil, {events.Refused}, {events.Takeover, events.Granted, "none"}, {"of_a_later_version"}, {"none"}}
		rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's
		for range 300 {
			q := state.EventQuery{Prefix: prefixes[rng.IntN(len(prefixes))], Kinds: kinds[rng.IntN(len(kinds))], Limit: rng.IntN(20), Latest: rng.IntN(2) == 0}
			if rng.IntN(2) == 0 {
				q.After = log[rng.IntN(len(log))].ID
			}
			if rng.IntN(3) == 0 {
				q.Before = log[rng.IntN(len(log))].ID
			}
			if rng.IntN(3) == 0 {
				q.Since = lately(rng.IntN(42)).Add(time.Duration(rng.IntN(3)-1) * time.Nanosecond)
			}
			var want []state.Event
			for i := range log {
				if q.Matches(&log[i]) {
					want = append(want, log[i])
				}
			}
			if q.Latest {
				want = want[max(0, len(want)-q.Limit):]
			} else {
				want = want[:min(len(want), q.Limit)]
			}
			page := listEvents(t, st, q)
			same(t, want, page.Events, "%+v", q)
			require.Equal(t, q.Page(want, last, last).Next, page.Next, "%+v", q)
		}
	})
	t.Run("pages miss nothing and repeat nothing", func(t *testing.T) {
		for _, limit := range []int{1, 7, len(log)} {
			var got []state.Event
			q := state.EventQuery{Limit: limit, Kinds: []events.Kind{events.Refused, events.Granted}}
			for q.After < last {
				page := listEvents(t, st, q)
				require.Less(t, q.After, page.Next)
				got, q.After = append(got, page.Events...), page.Next
			}
			want := slices.DeleteFunc(slices.Clone(log), func(e state.Event) bool { return !q.Matches(&e) && e.ID > last || !slices.Contains(q.Kinds, e.Kind) })
			same(t, want, got)
		}
	})
	t.Run("an error adds nothing", func(t *testing.T) {
		tx := newTx(func(*state.View) (state.Changes, error) {
			return state.Changes{Events: []state.Event{smallEvent(events.Alarm, fence.Scope{})}}, errDecided
		})
		tx.EventLog = true
		require.ErrorIs(t, st.Transact(t.Context(), tx), errDecided)
		same(t, log, wholeLog(t, st))
	})
	t.Run("nobody adds without the lock", func(t *testing.T) {
		if s.OneWriter {
			t.Skip("this driver has one lock for everything")
		}
		tx := newTx(func(*state.View) (state.Changes, error) {
			return state.Changes{Events: []state.Event{smallEvent(events.Alarm, fence.Scope{})}}, nil
		})
		require.Error(t, st.Transact(t.Context(), tx))
		same(t, log, wholeLog(t, st))
	})
	t.Run("old ones are dropped, and no id is used again", func(t *testing.T) {
		require.NoError(t, st.MaintainEvents(t.Context(), time.Hour))
		same(t, log, wholeLog(t, st), "what is young stays, whatever time it tells of")
		if s.Advance == nil {
			t.Skip("this state's clock cannot be moved")
		}
		s.Advance(t, 96*time.Hour)
		require.NoError(t, st.Maintain(t.Context(), 48*time.Hour))
		same(t, log, wholeLog(t, st), "events are kept for a time of their own")
		add(smallEvent(events.Released, scopeOf(a, "jobs/")))
		require.NoError(t, st.MaintainEvents(t.Context(), 48*time.Hour))
		left := wholeLog(t, st)
		require.Len(t, left, 1)
		require.Equal(t, events.Released, left[0].Kind)
		require.Less(t, last, left[0].ID)
		last = left[0].ID

		s.Advance(t, 96*time.Hour)
		require.NoError(t, st.MaintainEvents(t.Context(), 48*time.Hour))
		gone := listEvents(t, st, state.EventQuery{After: last, Limit: 1})
		require.Empty(t, gone.Events)
		require.Equal(t, last, gone.Next, "who has seen the last one goes on behind it")
		require.Less(t, listEvents(t, st, state.EventQuery{After: last + 1000, Limit: 1}).Next, last+1000, "who has seen more than there was is told")
		add(smallEvent(events.Granted, scopeOf(a, "jobs/")))
		next := listEvents(t, st, state.EventQuery{After: last, Limit: 10})
		require.Len(t, next.Events, 1)
		require.Less(t, last, next.Events[0].ID)
	})
}

// testEventsFollowed: while several add to the log, whoever follows it by id sees
// each row once, and those of one writer in their order.
func testEventsFollowed(t *testing.T, s Subject) {
	handles := s.handles(t)
	const writers, batches, perBatch = 4, 25, 3
	var g errgroup.Group
	for w := range writers {
		st := handles[w%len(handles)]
		g.Go(func() error {
			sc := scopeOf(newBucket(), fmt.Sprintf("%d/", w))
			for n := range batches {
				tx := newTx(func(*state.View) (state.Changes, error) {
					var list []state.Event
					for i := range perBatch {
						e := smallEvent(events.Granted, sc)
						e.Token = fence.Token(n*perBatch + i + 1)
						list = append(list, e)
					}
					return state.Changes{Events: list}, nil
				})
				tx.EventLog = true
				if err := st.Transact(t.Context(), tx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	follow := func(st state.State) (seen []state.Event) {
		deadline := time.Now().Add(patience)
		for q := (state.EventQuery{Limit: 5}); len(seen) < writers*batches*perBatch && time.Now().Before(deadline); {
			page := listEvents(t, st, q)
			seen, q.After = append(seen, page.Events...), page.Next
		}
		return seen
	}
	got := make([][]state.Event, len(handles))
	var f errgroup.Group
	for i, st := range handles {
		f.Go(func() error {
			got[i] = follow(st)
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.NoError(t, f.Wait())
	for _, seen := range got {
		require.Equal(t, writers*batches*perBatch, len(seen), "a row became visible behind the follower")
		next := map[fence.Scope]fence.Token{}
		for i, e := range seen {
			if i > 0 {
				require.Less(t, seen[i-1].ID, e.ID)
			}
			next[e.Scope]++
			require.Equal(t, next[e.Scope], e.Token, "%s", e.Scope)
		}
	}
}
