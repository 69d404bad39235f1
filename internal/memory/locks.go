package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// The kinds of locks, in the order in which a transaction takes them.
const (
	listLock = iota + 1
	guardLock
	scopeLock
	keyLock
	slotLock
	requestLock
	eventLock
)

// lockName names one lock; the fields that its kind does not use are zero.
type lockName struct {
	kind    int
	guard   fence.GuardID
	scope   fence.Scope
	key     object.Ref
	slot    state.Slot
	request state.RetryID
}

func compareLocks(a, b lockName) int {
	return cmp.Or(
		cmp.Compare(a.kind, b.kind),
		cmp.Compare(a.guard, b.guard),
		strings.Compare(a.scope.String(), b.scope.String()),
		strings.Compare(a.key.Bucket, b.key.Bucket),
		strings.Compare(a.key.Key, b.key.Key),
		strings.Compare(a.slot.Job, b.slot.Job),
		strings.Compare(a.slot.Name, b.slot.Name),
		bytes.Compare(a.request[:], b.request[:]),
	)
}

// want is a lock that a transaction asks for.
type want struct {
	name lockName
	mode state.Mode
	// try: report instead of waiting.
	try bool
}

// wants lists the locks of a transaction in the global order.
func wants(tx *state.Tx) []want {
	var ws []want
	if tx.GuardList {
		ws = append(ws, want{lockName{kind: listLock}, state.Exclusive, false})
	}
	for _, g := range tx.Guards {
		ws = append(ws, want{lockName{kind: guardLock, guard: g}, cmp.Or(tx.GuardMode, state.Shared), false})
	}
	for _, s := range tx.Scopes {
		ws = append(ws, want{lockName{kind: scopeLock, scope: s.Scope}, s.Mode, tx.Try})
	}
	for _, k := range tx.Keys {
		ws = append(ws, want{lockName{kind: keyLock, key: k}, state.Exclusive, false})
	}
	for _, s := range tx.Slots {
		ws = append(ws, want{lockName{kind: slotLock, slot: s}, state.Exclusive, false})
	}
	for _, r := range tx.Requests {
		ws = append(ws, want{lockName{kind: requestLock, request: r.ID}, state.Exclusive, false})
	}
	if tx.EventLog {
		ws = append(ws, want{lockName{kind: eventLock}, state.Exclusive, false})
	}
	slices.SortFunc(ws, func(a, b want) int { return compareLocks(a.name, b.name) })
	return ws
}

// lock is one lock with those who wait for it, first come first served: a
// waiting exclusive one holds back the shared ones that come after it, so that
// writers cannot starve a takeover.
type lock struct {
	shared    int
	exclusive bool
	queue     []*waiter
}

type waiter struct {
	mode  state.Mode
	ready chan struct{} // closed when the lock is given
}

func (l *lock) free(m state.Mode) bool {
	if m == state.Exclusive {
		return !l.exclusive && l.shared == 0
	}
	return !l.exclusive
}

func (l *lock) take(m state.Mode) {
	if m == state.Exclusive {
		l.exclusive = true
	} else {
		l.shared++
	}
}

// admit gives the lock to those at the head of the queue who can have it.
func (l *lock) admit() {
	for len(l.queue) > 0 && l.free(l.queue[0].mode) {
		l.take(l.queue[0].mode)
		close(l.queue[0].ready)
		l.queue = l.queue[1:]
	}
}

// lockTable has the locks that somebody holds or waits for.
type lockTable struct {
	mu    sync.Mutex
	locks map[lockName]*lock
}

// acquire takes one lock. It reports false if w.try and it would have to wait;
// it fails with ErrBusy after wait, with ErrUnavailable when ctx ends first. waited
// is called with the lock held where there was a wait, and its error gives it up.
func (t *lockTable) acquire(ctx context.Context, w want, wait time.Duration, waited func() error) (bool, error) {
	t.mu.Lock()
	l := t.locks[w.name]
	if l == nil {
		l = &lock{}
		t.locks[w.name] = l
	}
	if len(l.queue) == 0 && l.free(w.mode) {
		l.take(w.mode)
		t.mu.Unlock()
		return true, nil
	}
	if w.try {
		t.mu.Unlock()
		return false, nil
	}
	me := &waiter{w.mode, make(chan struct{})}
	l.queue = append(l.queue, me)
	t.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	var err error
	select {
	case <-me.ready:
		return t.keep(w, waited)
	case <-timer.C:
		err = fmt.Errorf("%w (waited %v)", state.ErrBusy, wait)
	case <-ctx.Done():
		err = fmt.Errorf("%w: gave up waiting for a lock: %w", state.ErrUnavailable, ctx.Err())
	}
	t.mu.Lock()
	select {
	case <-me.ready: // it was given at the last moment
		t.mu.Unlock()
		return t.keep(w, waited)
	default:
	}
	defer t.mu.Unlock()
	l.queue = slices.DeleteFunc(l.queue, func(o *waiter) bool { return o == me })
	l.admit()
	return false, err
}

// keep goes on with a lock that was waited for.
func (t *lockTable) keep(w want, waited func() error) (bool, error) {
	if err := waited(); err != nil {
		t.release([]want{w})
		return false, fmt.Errorf("%w: %w", state.ErrUnavailable, err)
	}
	return true, nil
}

func (t *lockTable) release(ws []want) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range ws {
		l := t.locks[w.name]
		if w.mode == state.Exclusive {
			l.exclusive = false
		} else {
			l.shared--
		}
		l.admit()
		if l.shared == 0 && !l.exclusive && len(l.queue) == 0 {
			delete(t.locks, w.name)
		}
	}
}

// acquireAll takes all locks of tx or none. held are the ones to release;
// missed the scopes that Try did not get.
func (t *lockTable) acquireAll(ctx context.Context, tx *state.Tx, waited func() error) (held []want, missed map[fence.Scope]bool, err error) {
	wait := cmp.Or(tx.Wait, state.DefaultWait)
	missed = map[fence.Scope]bool{}
	for _, w := range wants(tx) {
		got, err := t.acquire(ctx, w, wait, waited)
		if err != nil {
			t.release(held)
			return nil, nil, err
		}
		if !got {
			missed[w.name.scope] = true
			continue
		}
		held = append(held, w)
	}
	return held, missed, nil
}
