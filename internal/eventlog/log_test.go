package eventlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAway = errors.New("away")

// world is a log over a state in memory that can be made to fail.
type world struct {
	t     *testing.T
	state *memory.Store
	log   *Log
	text  bytes.Buffer // of to; read it while nothing runs
	to    *slog.Logger
	fault atomic.Pointer[func(memory.Stage) error]
	skew  time.Duration
}

// newWorld is to be called inside of a bubble; the log is closed at its end.
func newWorld(t *testing.T) *world {
	w := &world{t: t, skew: -1000 * time.Hour}
	w.to = slog.New(slog.NewTextHandler(&w.text, nil))
	w.state = memory.New(
		memory.WithClock(func() time.Time { return time.Now().Add(w.skew) }),
		memory.WithFaults(func(at memory.Stage) error {
			if f := w.fault.Load(); f != nil {
				return (*f)(at)
			}
			return nil
		}))
	w.log = w.start()
	return w
}

// start is another process on the same state.
func (w *world) start() *Log {
	l := New(w.state, Options{Name: "a-host", Logger: w.to})
	w.t.Cleanup(func() { closeWithin(l, time.Minute) })
	return l
}

func closeWithin(l *Log, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	l.Close(ctx)
}

func (w *world) fail(f func(memory.Stage) error) {
	if f == nil {
		w.fault.Store(nil)
		return
	}
	w.fault.Store(&f)
}

// away fails everything that is asked of the state.
func away(memory.Stage) error { return errAway }

func (w *world) recorded() []state.Event {
	w.t.Helper()
	page, err := w.state.ListEvents(w.t.Context(), state.EventQuery{Limit: 1 << 20})
	require.NoError(w.t, err)
	return page.Events
}

func scope(name string) fence.Scope {
	s, err := fence.ParseScope(name)
	if err != nil {
		panic(err)
	}
	return s
}

func granted(token int) events.Event {
	return events.Event{Kind: events.Granted, Scope: scope("s3://data/jobs/"), Token: fence.Token(token), Owner: "ann"}
}

func refused(key string) events.Event {
	return events.Event{Kind: events.Refused, Scope: scope("s3://data/jobs/"), Bucket: "data", Key: key, Token: 1, Highest: 2, Owner: "bob",
		AccessKey: "ann", Operation: "PutObject", Access: events.Writes, Code: events.CodeStale, After: time.Second}
}

func counted(list []state.Event, kind events.Kind) (n int64) {
	for _, e := range list {
		if e.Kind == kind {
			n += e.Count
		}
	}
	return n
}

// An event is in the log a moment later, with the database's time of when it
// happened, and with who called.
func TestRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		begun := time.Now()
		w.log.Observe(t.Context(), granted(1))
		w.log.Observe(t.Context(), events.Event{Kind: events.Renewed, Token: 1})
		time.Sleep(50 * time.Millisecond)
		own := granted(2)
		own.Time = begun.Add(-time.Hour)
		own.AccessKey = "ann"
		ctx := events.WithCaller(t.Context(), events.Caller{AccessKey: "ann", RequestID: "R", Remote: "10.0.0.1"})
		w.log.Observe(ctx, own)
		time.Sleep(flushEvery)
		synctest.Wait()
		got := w.recorded()
		require.Len(t, got, 2, "renewals are not recorded")
		assert.Equal(t, begun.Add(w.skew).UTC(), got[0].Time.UTC(), "the database's clock, less the wait")
		assert.Equal(t, begun.Add(-time.Hour).UTC(), got[1].Time.UTC(), "decided there")
		assert.Equal(t, []string{"ann", "R", "10.0.0.1"}, []string{got[1].AccessKey, got[1].RequestID, got[1].Remote})
		assert.Equal(t, []int64{1, 1}, []int64{got[0].Count, got[1].Count})
	})
}

// Everything that was told before Close is recorded by it, sums included.
func TestCloseRecordsWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for n := range 1000 {
			w.log.Observe(t.Context(), granted(n+1))
			w.log.Observe(t.Context(), refused("a"))
		}
		closeWithin(w.log, time.Second)
		got := w.recorded()
		assert.Equal(t, int64(1000), counted(got, events.Granted))
		assert.Equal(t, int64(1000), counted(got, events.Refused))
		for i, n := 0, fence.Token(0); i < len(got); i++ {
			if got[i].Kind == events.Granted {
				n++
				require.Equal(t, n, got[i].Token, "in the order in which they were told")
			}
		}
		w.log.Observe(t.Context(), granted(1)) // forgotten, and no harm
		assert.NotContains(t, w.text.String(), "not recorded")
	})
}

// While the state is away nothing is lost that the queue has room for; what it has
// none for is counted, in the log and in one event where the hole is.
func TestStateAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fail(away)
		const told = maxQueue + 3000
		for n := range told {
			w.log.Observe(t.Context(), granted(n+1))
			if n%10 == 0 {
				w.log.Observe(t.Context(), refused(fmt.Sprint("k", n)))
			}
			if n%100 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		time.Sleep(time.Minute)
		w.fail(nil)
		time.Sleep(2 * lastPause)
		w.log.Observe(t.Context(), granted(told+1))
		time.Sleep(time.Minute)
		synctest.Wait()
		got := w.recorded()
		holes, next := 0, fence.Token(1)
		for _, e := range got {
			switch e.Kind {
			case events.Granted:
				require.Equal(t, next, e.Token)
				next++
			case events.Dropped:
				holes++
				require.NotEqual(t, fence.Token(1), next)
				next += fence.Token(e.Count)
				assert.Contains(t, e.Reason, "a-host")
				assert.Positive(t, e.Span)
			}
		}
		assert.Equal(t, fence.Token(told+2), next, "each is there, or counted where it is missing")
		assert.Equal(t, 1, holes)
		assert.Equal(t, int64((told+9)/10), counted(got, events.Refused), "a refusal is counted in any case")
		closeWithin(w.log, time.Second)
		assert.Equal(t, 1, strings.Count(w.text.String(), "events are dropped"), w.text.String())
		assert.Equal(t, 1, strings.Count(w.text.String(), "events cannot be recorded"), "said once")
		assert.Contains(t, w.text.String(), "events are recorded again")
	})
}

// An answer that was lost makes no event twice and none missing, whatever became
// of the commit (F7 for events).
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		stages []memory.Stage
		fault  error
	}{
		{"committed", []memory.Stage{memory.Committed}, errAway},
		{"not committed", []memory.Stage{memory.Committing}, errAway},
		{"on its way", []memory.Stage{memory.Committing}, memory.ErrLate},
		{"and no verdict for long", []memory.Stage{memory.Committed, memory.Resolving}, errAway},
		{"and no verdict for long, on its way", []memory.Stage{memory.Committing, memory.Resolving}, memory.ErrLate},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				var first atomic.Bool
				until := time.Now().Add(2 * state.ResolveWait)
				w.fail(func(at memory.Stage) error {
					for _, s := range tc.stages {
						if at == s && (s == memory.Resolving && time.Now().Before(until) || s != memory.Resolving && first.CompareAndSwap(false, true)) {
							return tc.fault
						}
					}
					return nil
				})
				for n := range 10 {
					w.log.Observe(t.Context(), granted(n+1))
				}
				time.Sleep(state.ResolveWait)
				w.state.Deliver()
				time.Sleep(time.Minute)
				synctest.Wait()
				got := w.recorded()
				require.Len(t, got, 10)
				for n, e := range got {
					assert.Equal(t, fence.Token(n+1), e.Token)
				}
			})
		})
	}
}

// refusing is a state that takes no batch with a certain event.
type refusing struct {
	State
	bad fence.Token
}

func (s refusing) Transact(ctx context.Context, tx *state.Tx) error {
	decide := tx.Decide
	own := *tx
	own.Decide = func(v *state.View) (state.Changes, error) {
		ch, err := decide(v)
		for _, e := range ch.Events {
			if e.Token == s.bad {
				return ch, fmt.Errorf("%w: invalid byte sequence", state.ErrUnavailable)
			}
		}
		return ch, err
	}
	return s.State.Transact(ctx, &own)
}

// An event that the database does not take keeps out no other, and is counted.
func TestEventThatCannotBeAdded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := New(refusing{w.state, 3}, Options{Logger: w.to})
		for n := range 5 {
			l.Observe(t.Context(), granted(n+1))
		}
		time.Sleep(5 * time.Minute)
		closeWithin(l, time.Second)
		got := w.recorded()
		require.Len(t, got, 5)
		for i, want := range []fence.Token{1, 2, 4, 5, 0} {
			assert.Equal(t, want, got[i].Token)
		}
		assert.Equal(t, events.Dropped, got[4].Kind)
		assert.Equal(t, int64(1), got[4].Count)
		assert.Contains(t, w.text.String(), "an event cannot be recorded and is dropped")
	})
}

// The end is bounded while the state is away, and says how much was not recorded.
func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fail(away)
		for n := range 7 {
			w.log.Observe(t.Context(), granted(n+1))
		}
		time.Sleep(time.Second)
		w.log.Observe(t.Context(), granted(8))
		begun := time.Now()
		closeWithin(w.log, 5*time.Second)
		assert.LessOrEqual(t, time.Since(begun), 6*time.Second)
		assert.Contains(t, w.text.String(), "events=8")
	})
}

// Texts of clients are bounded, and are such as every database takes.
func TestTexts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		e := granted(1)
		e.Owner, e.Reason, e.Bucket = "a\x00b\xff", strings.Repeat("é", 5000), strings.Repeat("\xff", 9000)
		e.Key = strings.Repeat("\xff", 5000)
		w.log.Observe(t.Context(), e)
		time.Sleep(flushEvery)
		synctest.Wait()
		got := w.recorded()
		require.Len(t, got, 1)
		assert.Equal(t, "a\uFFFDb\uFFFD", got[0].Owner)
		assert.LessOrEqual(t, len(got[0].Reason), maxReason+2)
		assert.Equal(t, strings.Repeat("\xff", fence.MaxKeyBytes), got[0].Key, "keys are bytes")
		assert.LessOrEqual(t, len(got[0].Bucket), 3*maxText)
	})
}

// Telling costs no more while the state does not answer: nobody waits for it.
func TestObserveDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stuck := make(chan struct{})
		w.fail(func(at memory.Stage) error {
			if at == memory.Committing {
				<-stuck
			}
			return nil
		})
		begun := time.Now()
		for n := range 3 * maxQueue {
			w.log.Observe(t.Context(), granted(n+1))
			w.log.Observe(t.Context(), refused("a"))
		}
		assert.Equal(t, begun, time.Now(), "time passes only for who waits")
		close(stuck)
		closeWithin(w.log, time.Minute)
		got := w.recorded()
		assert.Equal(t, int64(3*maxQueue), counted(got, events.Granted)+counted(got, events.Dropped))
		assert.Equal(t, int64(3*maxQueue), counted(got, events.Refused))
	})
}

func BenchmarkObserve(b *testing.B) {
	st := memory.New()
	l := New(st, Options{})
	defer closeWithin(l, time.Minute)
	ctx := context.Background()
	b.Run("a refusal that is repeated", func(b *testing.B) {
		e := refused("a")
		b.ReportAllocs()
		for b.Loop() {
			l.Observe(ctx, e)
		}
	})
	b.Run("refusals that differ", func(b *testing.B) {
		keys := make([]string, 4096)
		for i := range keys {
			keys[i] = fmt.Sprint("jobs/", i)
		}
		e := refused("a")
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			e.Key = keys[i%len(keys)]
			l.Observe(ctx, e)
		}
	})
	b.Run("a grant", func(b *testing.B) {
		e := granted(1)
		b.ReportAllocs()
		for b.Loop() {
			l.Observe(ctx, e)
		}
	})
}
