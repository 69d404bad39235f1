package eventlog

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
)

// The first refusal is seen at once, a few more are counted soon, what goes on is
// summed up for longer, and what differs in anything that matters has a row of its
// own.
func TestAlike(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		tell := func(n int, change func(*events.Event)) {
			for range n {
				e := refused("a")
				if change != nil {
					change(&e)
				}
				w.log.Observe(t.Context(), e)
				time.Sleep(time.Millisecond)
			}
		}
		tell(1, nil)
		time.Sleep(flushEvery)
		synctest.Wait()
		require.Len(t, w.recorded(), 1)
		tell(2, nil)
		time.Sleep(2 * flushEvery)
		synctest.Wait()
		require.Equal(t, int64(3), counted(w.recorded(), events.Refused))
		time.Sleep(3 * lastWindow)

		tell(500, func(e *events.Event) { e.After = time.Minute; e.RequestID = "last" })
		tell(3, func(e *events.Event) { e.Operation, e.Access = "GetObject", events.Reads })
		tell(2, func(e *events.Event) { e.Key = "b" })
		tell(1, func(e *events.Event) { e.Token = 3; e.Highest = 4 })
		tell(1, func(e *events.Event) { e.Code = "MissingFencingToken" })
		time.Sleep(2 * lastWindow)
		synctest.Wait()
		got := w.recorded()
		type line struct {
			op, key, code string
			token         fence.Token
		}
		sums := map[line]int64{}
		for _, e := range got {
			sums[line{e.Operation, e.Key, e.Code, e.Token}] += e.Count
			assert.False(t, e.Suppressed)
		}
		assert.Equal(t, map[line]int64{
			{"PutObject", "a", events.CodeStale, 1}: 503, {"GetObject", "a", events.CodeStale, 1}: 3, {"PutObject", "b", events.CodeStale, 1}: 2,
			{"PutObject", "a", events.CodeStale, 3}: 1, {"PutObject", "a", "MissingFencingToken", 1}: 1,
		}, sums)
		require.LessOrEqual(t, len(got), 5+8)
		var span time.Duration
		for _, e := range got {
			if e.Operation == "PutObject" && e.Key == "a" && e.Token == 1 && e.Count > 2 {
				assert.Equal(t, time.Minute, e.After, "of the last one")
				assert.Equal(t, "last", e.RequestID)
				span += e.Span
			}
		}
		assert.InDelta(t, 0.5, span.Seconds(), 0.01)
	})
}

// A flood leaves a bounded number of rows, whether its refusals are alike, differ
// in key, or in scope; and none of them is left uncounted.
func TestFlood(t *testing.T) {
	t.Parallel()
	const lasting = 100 * time.Second
	soon := 8 // rows while the windows grow
	for _, tc := range []struct {
		name   string
		told   int
		change func(n int, e *events.Event)
		most   int
	}{
		{"alike", 100_000, func(int, *events.Event) {}, soon + int(lasting/lastWindow) + 1},
		{"another key each", 100_000, func(n int, e *events.Event) { e.Key = fmt.Sprint(n) }, scopeBurst + scopeRate*110 + 2*(soon+12)},
		{"another scope each", 20_000, func(n int, e *events.Event) { e.Scope = scope(fmt.Sprintf("s3://data/%d/", n)) }, allBurst + allRate*110 + 2*(soon+12)},
		{"renewals of a lost lease", 10_000, func(n int, e *events.Event) { e.Kind, e.RequestID = events.RenewLost, fmt.Sprint(n) }, soon + int(lasting/lastWindow) + 1},
		{"alarms", 10_000, func(n int, e *events.Event) { e.Kind, e.RequestID = events.Alarm, fmt.Sprint(n) }, soon + int(lasting/lastWindow) + 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				var kind events.Kind
				for n := range tc.told {
					e := refused("a")
					tc.change(n, &e)
					kind = e.Kind
					w.log.Observe(t.Context(), e)
					if n%100 == 0 {
						time.Sleep(lasting / time.Duration(tc.told) * 100)
					}
				}
				time.Sleep(4 * lastWindow)
				synctest.Wait()
				got := w.recorded()
				assert.Equal(t, int64(tc.told), counted(got, kind))
				assert.LessOrEqual(t, len(got), tc.most)
				assert.Zero(t, counted(got, events.Dropped))
				w.log.mu.Lock()
				defer w.log.mu.Unlock()
				assert.LessOrEqual(t, len(w.log.repeats.sums), maxSums+10)
				assert.LessOrEqual(t, len(w.log.repeats.rates), maxSums)
			})
		})
	}
}

// What a row cannot tell of all its events it does not tell, and says so; how many
// were writes under a stale token it always tells.
func TestSuppressedRowsAreHonest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var stale int64
		for n := range 20_000 {
			e := refused(fmt.Sprint("k", n))
			switch n % 4 {
			case 1:
				e.Access = events.Reads
			case 2:
				e.Code = "MissingFencingToken"
			}
			if e.Stale() {
				stale++
			}
			w.log.Observe(t.Context(), e)
		}
		time.Sleep(4 * lastWindow)
		synctest.Wait()
		var sum, suppressed int64
		for _, e := range w.recorded() {
			if e.Stale() {
				sum += e.Count
			}
			if e.Suppressed {
				suppressed += e.Count
				assert.Empty(t, e.Key)
				assert.Equal(t, "s3://data/jobs/", e.Scope.String(), "the scope they had in common")
				assert.Equal(t, "ann", e.AccessKey)
				assert.Equal(t, fence.Token(1), e.Token)
				assert.Equal(t, fence.Token(2), e.Highest)
			}
		}
		assert.Equal(t, stale, sum)
		assert.Positive(t, suppressed)
	})
}

// After the flood all memory of it goes, and the log can be quiet.
func TestNothingStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for n := range 5000 {
			w.log.Observe(t.Context(), refused(fmt.Sprint("k", n)))
		}
		time.Sleep(10 * lastWindow)
		synctest.Wait()
		w.log.mu.Lock()
		assert.False(t, w.log.repeats.open())
		w.log.mu.Unlock()
		got := w.recorded()
		time.Sleep(time.Hour)
		assert.Len(t, w.recorded(), len(got))
	})
}
