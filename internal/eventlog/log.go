package eventlog

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/state"
)

const (
	// maxQueue bounds the rows that wait to be added. Of these, rows for what can be
	// repeated at will take no more than maxRepeated: they must not push out others.
	maxQueue    = 4096
	maxRepeated = 3072
	// maxBatch bounds the rows of one transaction; flushEvery is how long it waits
	// for more.
	maxBatch   = 256
	flushEvery = 200 * time.Millisecond
	// sweepEvery is how often sums are looked at.
	sweepEvery = time.Second
	// maintainEvery is the pause between two looks for old rows.
	maintainEvery = time.Hour

	// DefaultKeep is how long events are kept.
	DefaultKeep = 30 * 24 * time.Hour
)

// State is the part of the state that a [Log] uses.
type State interface {
	state.Transactor
	ListEvents(ctx context.Context, q state.EventQuery) (state.EventPage, error)
	MaintainEvents(ctx context.Context, keep time.Duration) error
}

// Options are the settings of a [Log]; zero values stand for the defaults.
type Options struct {
	// Keep is how long events are kept, by the database's clock.
	Keep time.Duration
	// Name says whose events were dropped, in the event that tells of it.
	Name   string
	Logger *slog.Logger
}

// Log records events and reads them. Safe for concurrent use.
type Log struct {
	state State
	keep  time.Duration
	name  string
	log   *slog.Logger
	tail  *tail

	mu      sync.Mutex
	queue   []row
	hole    int // the place of the Dropped row in queue; -1: there is none
	repeats repeats
	closed  bool

	// wake has a signal when there is something to add, full when there is a whole
	// batch of it.
	wake, full chan struct{}
	stopping   chan struct{}
	ended      chan struct{}
	giveUp     context.CancelFunc
	closing    sync.Once
}

var _ events.Observer = (*Log)(nil)

// row is an event on its way into the log.
type row struct {
	state.Event
	// seen is when this process saw it, by its monotonic clock; it tells the
	// database's time of the event where Time is zero.
	seen time.Time
}

// New starts a Log; Close ends it. Old rows are dropped only if the caller calls
// [Log.Maintain].
func New(st State, o Options) *Log {
	if o.Keep == 0 {
		o.Keep = DefaultKeep
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, giveUp := context.WithCancel(context.Background())
	l := &Log{
		state: st, keep: o.Keep, name: o.Name, log: o.Logger, tail: newTail(st), hole: -1, repeats: newRepeats(),
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), stopping: make(chan struct{}), ended: make(chan struct{}), giveUp: giveUp,
	}
	go l.run(ctx)
	return l
}

// recorded says of which kinds events are recorded: of all, those of later
// versions too, but one.
func recorded(k events.Kind) bool { return k != events.Renewed }

// Kinds lists the kinds that this version knows and records.
func Kinds() []events.Kind {
	return slices.DeleteFunc(events.Kinds(), func(k events.Kind) bool { return !recorded(k) })
}

// Observe takes an event to be recorded. It waits for nothing but a mutex that is
// held for a moment.
func (l *Log) Observe(ctx context.Context, e events.Event) {
	if !recorded(e.Kind) {
		return
	}
	r := row{Event: state.Event{Event: e, Count: 1}, seen: time.Now()}
	r.From(ctx)
	clip(&r.Event.Event)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if repeatable(e.Kind) {
		if l.repeats.add(&r, len(l.queue) < maxRepeated) {
			l.push(&r)
		} else {
			l.signal(l.wake) // the sum may be due
		}
		return
	}
	if len(l.queue) >= maxQueue {
		l.drop(&r)
		return
	}
	l.push(&r)
}

// push adds a row to the queue. l.mu is held.
func (l *Log) push(r *row) {
	l.queue = append(l.queue, *r)
	switch len(l.queue) {
	case 1:
		l.signal(l.wake)
	case maxBatch:
		l.signal(l.full)
	}
}

func (l *Log) signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// drop counts a row that there is no room for. The first one leaves a row of its
// own where the hole begins, for which there is always room. l.mu is held.
func (l *Log) drop(r *row) {
	if l.hole < 0 {
		l.hole = len(l.queue)
		l.queue = append(l.queue, row{
			Event: state.Event{Event: events.Event{Kind: events.Dropped, Reason: "not recorded: the state could not take them in time" + l.of()}},
			seen:  r.seen,
		})
		l.log.Warn("events are dropped: the state has not taken any for too long", "waiting", len(l.queue))
	}
	h := &l.queue[l.hole]
	h.Count += r.Count
	if r.seen.After(h.seen) {
		h.Span += r.seen.Sub(h.seen)
		h.seen = r.seen
	}
}

func (l *Log) of() string {
	if l.name == "" {
		return ""
	}
	return " from " + l.name
}

// take takes the next batch from the queue, after a look at the sums that are due
// (all of them where it is the last look).
func (l *Log) take(last bool) []row {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := l.repeats.sweep(time.Now(), last, func(n int) bool { return last || len(l.queue)+n < maxRepeated })
	l.queue = append(l.queue, due...)
	n := min(len(l.queue), maxBatch)
	batch := l.queue[:n:n]
	l.queue = l.queue[n:]
	if l.hole >= 0 {
		l.hole = max(l.hole-n, -1)
	}
	return batch
}

// run adds batches until it is told to stop, then what is left.
func (l *Log) run(ctx context.Context) {
	defer close(l.ended)
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for stopping := false; !stopping; {
		var tick <-chan time.Time
		if l.summing() {
			tick = sweep.C
		}
		select {
		case <-tick:
		case <-l.stopping:
			stopping = true
		case <-l.wake:
			more := time.NewTimer(flushEvery)
			select {
			case <-more.C:
			case <-l.full:
			case <-l.stopping:
				stopping = true
			}
			more.Stop()
		}
		// A batch that is not full took all there was; what came meanwhile waits for
		// more of its kind.
		for n := maxBatch; n == maxBatch || stopping && n > 0; {
			batch := l.take(stopping)
			n = len(batch)
			if left := l.store(ctx, batch); left > 0 {
				l.lost(left)
				return
			}
		}
	}
}

func (l *Log) summing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.repeats.open()
}

// lost tells of what is not recorded any more; more is what was taken from the
// queue.
func (l *Log) lost(more int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.queue {
		more += l.queue[i].Count
	}
	l.queue = nil
	l.log.Warn("events were not recorded: the state did not take them before the end", "events", more)
}

const (
	// firstPause and lastPause bound the pause between two tries to add a batch.
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
	// triesTogether is how often a batch is tried as a whole while the state answers
	// others; then its rows are tried one by one, each triesAlone times: one that
	// cannot be added must not keep out the others for ever.
	triesTogether = 3
	triesAlone    = 10
)

// store adds a batch, however long it takes. It returns how many events it had to
// leave when ctx ended.
func (l *Log) store(ctx context.Context, batch []row) (left int64) {
	tries, alone, pause := 0, false, firstPause
	for len(batch) > 0 {
		n := len(batch)
		if alone {
			n = 1
		}
		err := l.add(ctx, batch[:n])
		if err == nil {
			if tries > 0 {
				l.log.Info("events are recorded again")
			}
			batch, tries, pause = batch[n:], 0, firstPause
			continue
		}
		if ctx.Err() == nil && tries == 0 {
			l.log.Warn("events cannot be recorded; they wait, and are tried again", "rows", len(batch), "error", err)
		}
		tries++
		switch {
		case ctx.Err() != nil:
			for i := range batch {
				left += batch[i].Count
			}
			return left
		case !alone && len(batch) > 1 && tries >= triesTogether && l.answers(ctx):
			tries, alone = 0, true
			continue
		case tries >= triesAlone && n == 1 && l.answers(ctx):
			l.log.Error("an event cannot be recorded and is dropped", "event", batch[0].Event, "error", err)
			l.mu.Lock()
			l.drop(&batch[0])
			l.mu.Unlock()
			batch, tries, pause = batch[1:], 0, firstPause
			continue
		}
		select {
		case <-time.After(pause + rand.N(pause/4)): //nolint:gosec // not a secret
		case <-ctx.Done():
		}
		pause = min(2*pause, lastPause)
	}
	l.tail.hurry()
	return 0
}

// answers reports whether the state can be asked, so that it is the events that
// it does not take.
func (l *Log) answers(ctx context.Context) bool {
	_, err := l.state.ListEvents(ctx, state.EventQuery{})
	return err == nil
}

// add adds rows in one transaction. With nil they are recorded, with every other
// error they are not and never will be, unless ctx has ended.
func (l *Log) add(ctx context.Context, batch []row) error {
	tx := &state.Tx{ID: state.NewID(), EventLog: true, Decide: func(v *state.View) (state.Changes, error) {
		now := time.Now()
		list := make([]state.Event, len(batch))
		for i := range batch {
			r := &batch[i]
			list[i] = r.Event
			if r.Time.IsZero() {
				list[i].Time = v.Now.Add(r.seen.Sub(now))
			}
			tidy(&list[i].Event)
		}
		return state.Changes{Events: list}, nil
	}}
	err := state.Run(ctx, l.state, tx)
	// The verdict that state.Run has not got is waited for: without it the rows
	// could be neither left nor added again.
	for pause := firstPause; errors.Is(err, state.ErrUnknown); pause = min(2*pause, lastPause) {
		switch outcome, rerr := l.state.Resolve(ctx, tx.ID); {
		case rerr != nil:
		case outcome == state.Committed:
			return nil
		default:
			return state.ErrDecided
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
	return err
}

// Maintain drops old rows until ctx ends: at once, then again and again. Several
// processes may do it.
func (l *Log) Maintain(ctx context.Context) {
	for {
		if err := l.state.MaintainEvents(ctx, l.keep); err != nil && ctx.Err() == nil {
			l.log.Warn("old events were not dropped; they are at the next time", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(maintainEvery + rand.N(maintainEvery/4)): //nolint:gosec // not a secret
		}
	}
}

// Close records what waits, until ctx ends at the latest, and tells of what it
// could not. Events that come later are forgotten.
func (l *Log) Close(ctx context.Context) {
	l.closing.Do(func() {
		l.tail.close()
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		close(l.stopping)
	})
	defer l.giveUp()
	select {
	case <-l.ended:
		return
	case <-ctx.Done():
	}
	l.giveUp()
	// What was sent to the state is waited for a little: it knows its own bounds.
	select {
	case <-l.ended:
	case <-time.After(time.Second):
		l.log.Warn("the last events are still on their way and are left", "error", context.Cause(ctx))
	}
}
