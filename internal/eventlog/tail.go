package eventlog

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/s3fence/s3fence/internal/state"
)

const (
	// pollEvery is how often the state is asked for news while somebody waits for
	// some; pollTime bounds one question.
	pollEvery = 250 * time.Millisecond
	pollTime  = 10 * time.Second
	// linger is how long the poll goes on when nobody waits: those who follow are
	// back in a moment.
	linger = 10 * time.Second
	// maxTail bounds the rows in memory; who is further behind asks the state.
	maxTail = 2048
	// maxWaiting bounds those who wait at the same time.
	maxWaiting = 256
)

// Errors of this package.
var (
	// ErrCrowded: too many wait for events in this process. Ask again later.
	ErrCrowded = errors.New("too many are waiting for events; ask again later")
)

// tail has the last rows of the log, for those who follow it: one question to the
// state serves all of them.
type tail struct {
	state State

	mu sync.Mutex
	// rows are all rows with base < ID <= head; head is as far as the log was read.
	rows       []state.Event
	base, head int64
	running    bool
	err        error         // of the last poll
	change     chan struct{} // closed at the next one
	waiting    int
	left       time.Time // when the last one ceased to wait
	closed     bool

	poke chan struct{}
	stop context.CancelFunc
	ctx  context.Context //nolint:containedctx // of the poll, which outlives the calls
	wg   sync.WaitGroup
}

func newTail(st State) *tail {
	ctx, stop := context.WithCancel(context.Background())
	return &tail{state: st, change: make(chan struct{}), poke: make(chan struct{}, 1), ctx: ctx, stop: stop}
}

// close ends the poll and every wait.
func (t *tail) close() {
	t.mu.Lock()
	t.closed = true
	t.tell()
	t.mu.Unlock()
	t.stop()
	t.wg.Wait()
}

// tell wakes those who wait. t.mu is held.
func (t *tail) tell() {
	close(t.change)
	t.change = make(chan struct{})
}

// hurry makes the poll look at once: something was added here.
func (t *tail) hurry() {
	select {
	case t.poke <- struct{}{}:
	default:
	}
}

// join lets the caller wait; leave must be called afterwards.
func (t *tail) join() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting >= maxWaiting {
		return fmt.Errorf("%w (%d)", ErrCrowded, t.waiting)
	}
	t.waiting++
	if !t.running && !t.closed {
		t.running, t.err = true, nil
		// Where the log ends is not known yet: whoever comes is behind.
		t.rows, t.base, t.head = nil, -1, -1
		t.wg.Go(t.run)
	}
	return nil
}

func (t *tail) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting--
	t.left = time.Now()
}

// after returns the rows in memory above an id, and the id up to which they are
// all; ok is false where the state must be asked.
func (t *tail) after(id int64) (rows []state.Event, next int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known(id)
}

func (t *tail) known(id int64) (rows []state.Event, next int64, ok bool) {
	if !t.running || t.err != nil || t.head < 0 || id < t.base || id > t.head {
		return nil, id, false
	}
	at := sort.Search(len(t.rows), func(i int) bool { return t.rows[i].ID > id })
	// Rows are never changed, and appended behind: the slice stays as it is.
	return t.rows[at:len(t.rows):len(t.rows)], t.head, true
}

// news is what a wait ended with.
type news struct {
	rows []state.Event
	next int64
	// behind: the state must be asked. over: there is nothing new, and no more wait.
	behind, over bool
}

// wait returns when there are rows above an id, or the state could not be asked,
// or ctx or the process ends.
func (t *tail) wait(ctx context.Context, id int64) (news, error) {
	for {
		t.mu.Lock()
		rows, next, ok := t.known(id)
		change, behind, closed, err := t.change, t.head >= 0 && id < t.base, t.closed, t.err
		t.mu.Unlock()
		switch {
		case closed:
			return news{over: true}, nil
		case err != nil:
			return news{}, err
		case behind:
			return news{behind: true}, nil
		case ok && next > id:
			return news{rows: rows, next: next}, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return news{over: true}, nil
		}
	}
}

// run polls until nobody has waited for a while.
func (t *tail) run() {
	for {
		t.mu.Lock()
		q := state.EventQuery{After: t.head, Limit: maxTail / 2}
		if t.head < 0 {
			q = state.EventQuery{Latest: true}
		}
		t.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.ctx, pollTime)
		page, err := t.state.ListEvents(ctx, q)
		cancel()
		if t.learn(q, page, err) {
			return
		}
		timer := time.NewTimer(pollEvery)
		select {
		case <-timer.C:
		case <-t.poke:
		case <-t.ctx.Done():
		}
		timer.Stop()
	}
}

// learn takes over what a poll found and reports whether it was the last one.
func (t *tail) learn(q state.EventQuery, page state.EventPage, err error) (last bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed, t.waiting == 0 && time.Since(t.left) > linger:
		t.running, t.rows = false, nil
		return true
	case err != nil:
		if t.err == nil {
			t.tell()
		}
		t.err = err
		return false
	}
	changed := t.err != nil || page.Next != t.head
	t.err = nil
	if q.Latest || page.Next < t.head {
		// The beginning; or the log is an older copy of itself.
		t.rows, t.base = nil, page.Next
	}
	t.head = page.Next
	t.rows = append(t.rows, page.Events...)
	if drop := len(t.rows) - maxTail; drop > 0 {
		t.base = t.rows[drop-1].ID
		t.rows = append([]state.Event(nil), t.rows[drop:]...)
	}
	if changed {
		t.tell()
	}
	return false
}
