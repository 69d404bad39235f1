package eventlog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// asked counts the questions to the state.
type asked struct {
	State
	n atomic.Int64
}

func (s *asked) ListEvents(ctx context.Context, q state.EventQuery) (state.EventPage, error) {
	s.n.Add(1)
	return s.State.ListEvents(ctx, q)
}

func (w *world) list(q Query) state.EventPage {
	w.t.Helper()
	page, err := w.log.List(w.t.Context(), q)
	require.NoError(w.t, err)
	return page
}

func follow(after int64, wait time.Duration) Query {
	return Query{EventQuery: state.EventQuery{After: after, Limit: 100}, Wait: wait}
}

// Who waits hears of an event soon, told here or in another process, and after the
// wait hears that there was none.
func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		begun := time.Now()
		page := w.list(follow(0, MaxWait))
		assert.Empty(t, page.Events)
		assert.Equal(t, MaxWait, time.Since(begun))

		for _, teller := range []*Log{w.log, w.start()} {
			go func() {
				time.Sleep(5 * time.Second)
				teller.Observe(context.Background(), granted(1))
			}()
			begun = time.Now()
			page = w.list(follow(page.Next, 24*time.Hour))
			require.Len(t, page.Events, 1)
			assert.Less(t, time.Since(begun), 5*time.Second+flushEvery+pollEvery+time.Millisecond)
			assert.Equal(t, page.Events[0].ID, page.Next)
		}
		begun = time.Now()
		assert.Len(t, w.list(follow(0, MaxWait)).Events, 2)
		assert.Equal(t, begun, time.Now(), "what is there is not waited for")
		assert.Len(t, w.list(Query{EventQuery: state.EventQuery{Latest: true, Limit: 1}}).Events, 1)
	})
}

// What a follower did not ask for, or may not see, wakes nobody, and is behind its
// cursor all the same.
func TestWaitForSome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		q := follow(0, MaxWait)
		q.Kinds = []events.Kind{events.Granted}
		q.May = func(e *state.Event) bool { return e.Token != 2 }
		go func() {
			for n := range 3 {
				time.Sleep(time.Second)
				w.log.Observe(context.Background(), events.Event{Kind: events.Released, Token: 9})
				w.log.Observe(context.Background(), granted(2))
				if n == 2 {
					w.log.Observe(context.Background(), granted(3))
				}
			}
		}()
		begun := time.Now()
		page := w.list(q)
		require.Len(t, page.Events, 1)
		assert.Equal(t, fence.Token(3), page.Events[0].Token)
		assert.Greater(t, time.Since(begun), 3*time.Second)
		w.log.Observe(t.Context(), granted(2))
		q.After = page.Next
		page = w.list(q)
		assert.Empty(t, page.Events)
		assert.Equal(t, w.recorded()[7].ID, page.Next)
	})
}

// However many wait, the state is asked for news by one; and by nobody when nobody
// waits.
func TestOnePollForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		st := &asked{State: w.state}
		w.log = New(st, Options{})
		defer closeWithin(w.log, time.Minute)
		var all sync.WaitGroup
		var got atomic.Int64
		for range maxWaiting {
			all.Go(func() {
				for q := follow(0, MaxWait); q.After < 20; {
					page, err := w.log.List(t.Context(), q)
					if !assert.NoError(t, err) {
						return
					}
					got.Add(int64(len(page.Events)))
					q.After = page.Next
				}
			})
		}
		for n := range 20 {
			time.Sleep(time.Second)
			w.log.Observe(t.Context(), granted(n+1))
		}
		_, err := w.log.List(t.Context(), follow(19, MaxWait))
		require.ErrorIs(t, err, ErrCrowded)
		all.Wait()
		assert.Equal(t, int64(20*maxWaiting), got.Load())
		polls := st.n.Load()
		assert.LessOrEqual(t, polls, maxWaiting+2*int64(20*time.Second/pollEvery))
		time.Sleep(linger + time.Second)
		polls = st.n.Load()
		time.Sleep(time.Hour)
		assert.Equal(t, polls, st.n.Load(), "nobody waits")
		go func() {
			time.Sleep(time.Second)
			w.log.Observe(context.Background(), granted(21))
		}()
		assert.Len(t, w.list(follow(20, MaxWait)).Events, 1, "it begins again")
	})
}

// Followers of all speeds, of two processes, see every event once, in order, while
// both processes tell of many and the state fails now and then.
func TestFollowersMissNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		logs := []*Log{w.log, w.start()}
		const each = 6000
		var tellers, followers sync.WaitGroup
		for p, l := range logs {
			tellers.Go(func() {
				for n := range each {
					e := granted(n + 1)
					e.Owner = fmt.Sprint(p)
					l.Observe(context.Background(), e)
					if n%50 == 0 {
						time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
					}
				}
			})
		}
		go func() {
			for range 5 {
				time.Sleep(500 * time.Millisecond)
				w.fail(away)
				time.Sleep(300 * time.Millisecond)
				w.fail(nil)
			}
		}()
		for f := range 8 {
			followers.Go(func() {
				next := map[string]fence.Token{}
				id := int64(0)
				q := follow(0, MaxWait)
				q.Limit = 1 + rand.IntN(700)
				for count := 0; count < 2*each; {
					page, err := logs[f%2].List(context.Background(), q)
					if err != nil {
						if !assert.ErrorIs(t, err, state.ErrUnavailable) {
							return
						}
						time.Sleep(100 * time.Millisecond)
						continue
					}
					for _, e := range page.Events {
						next[e.Owner]++
						if e.ID <= id || e.Token != next[e.Owner] {
							t.Errorf("after %d, %v came %d, %s %d", id, next, e.ID, e.Owner, e.Token)
							return
						}
						id = e.ID
					}
					count += len(page.Events)
					q.After = page.Next
					if f < 4 {
						time.Sleep(time.Duration(rand.IntN(2000)) * time.Millisecond) // falls behind
					}
				}
			})
		}
		tellers.Wait()
		followers.Wait()
	})
}

// Who waits while the state goes away is told so at once, not after the wait.
func TestWaitWhileTheStateGoesAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		go func() {
			time.Sleep(3 * time.Second)
			w.fail(away)
			time.Sleep(3 * time.Second)
			w.fail(nil)
		}()
		begun := time.Now()
		_, err := w.log.List(t.Context(), follow(0, MaxWait))
		require.ErrorIs(t, err, state.ErrUnavailable)
		assert.Less(t, time.Since(begun), 4*time.Second)
		_, err = w.log.List(t.Context(), follow(0, MaxWait))
		require.ErrorIs(t, err, state.ErrUnavailable)
		time.Sleep(4 * time.Second)
		w.log.Observe(t.Context(), granted(1))
		assert.Len(t, w.list(follow(0, MaxWait)).Events, 1)
	})
}

// The end of the process, and that of the caller, end a wait at once.
func TestWaitEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		page, err := w.log.List(ctx, follow(0, MaxWait))
		require.NoError(t, err)
		assert.Empty(t, page.Events)
		go func() {
			time.Sleep(time.Second)
			w.log.StopWaiting()
		}()
		page = w.list(follow(0, MaxWait))
		assert.Empty(t, page.Events)
		w.list(follow(0, MaxWait))
		assert.Equal(t, 2*time.Second, time.Since(begun))
	})
}

// Who may see few of many events gets a page of them all the same.
func TestFewOfMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for n := range 3500 {
			w.log.Observe(t.Context(), granted(n+1))
			if n%200 == 0 {
				time.Sleep(flushEvery)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		q := Query{EventQuery: state.EventQuery{Limit: 3, Latest: true}, May: func(e *state.Event) bool { return e.Token%1000 == 7 }}
		tokens := func(p state.EventPage) (list []fence.Token) {
			for _, e := range p.Events {
				list = append(list, e.Token)
			}
			return list
		}
		page := w.list(q)
		assert.Equal(t, []fence.Token{1007, 2007, 3007}, tokens(page))
		assert.Equal(t, w.recorded()[3499].ID, page.Next)
		q.Latest, q.Limit = false, 2
		page = w.list(q)
		assert.Equal(t, []fence.Token{7}, tokens(page), "as far as one page of the state went")
		q.After = page.Next
		page = w.list(q)
		q.After = page.Next
		assert.Equal(t, []fence.Token{1007}, tokens(page))
		q.Limit, q.After = 2, 2000
		page = w.list(q)
		assert.Equal(t, []fence.Token{2007}, tokens(page))
		q.May = func(*state.Event) bool { return false }
		page = w.list(q)
		assert.Empty(t, page.Events)
		assert.Equal(t, w.recorded()[3499].ID, page.Next)
	})
}

// older is a state that was restored from an old copy.
type older struct {
	State
	on *atomic.Bool
}

func (s older) ListEvents(ctx context.Context, q state.EventQuery) (state.EventPage, error) {
	if !s.on.Load() {
		return s.State.ListEvents(ctx, q)
	}
	return q.Page(nil, 1, 1), nil
}

// Who has seen more than the log has is told by a cursor that is below its own, at
// once and not after a wait.
func TestLogThatIsAnOlderCopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var restored atomic.Bool
		w.log = New(older{w.state, &restored}, Options{})
		defer closeWithin(w.log, time.Minute)
		for n := range 3 {
			w.log.Observe(t.Context(), granted(n+1))
		}
		time.Sleep(time.Second)
		require.Equal(t, int64(3), w.list(follow(0, MaxWait)).Next)
		go func() {
			time.Sleep(time.Second)
			restored.Store(true)
		}()
		for after, tries := int64(3), 0; ; tries++ {
			require.Less(t, tries, 3)
			if next := w.list(follow(after, MaxWait)).Next; next < after {
				assert.Equal(t, int64(1), next)
				break
			}
		}
	})
}
