package sealed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
)

// Commits that arrive together share a transaction. A batch tries its scopes'
// locks; operations of scopes that it does not get at once leave it for a queue
// of their scope's own, which waits, so that a held scope delays itself only.
const (
	// committers is how many transactions of one proxy may commit at the same time,
	// and paced how many of them go about it as long as they are quick: fewer make
	// larger batches (two took a fifth less processor time than four), and one that
	// is slower than slowCommit must not hold up the others.
	committers = 4
	paced      = 2
	slowCommit = 25 * time.Millisecond
	// maxBatch bounds the operations that share one fate.
	maxBatch = 128
	// maxWaiting bounds the scopes that wait for a lock at the same time, each on
	// a connection of its own.
	maxWaiting = 4
	// lockWait bounds one wait for a held scope, and apartWait the second one of an
	// operation whose batch has waited in vain already; apartLimit is for all of a
	// batch's second waits together.
	lockWait   = 5 * time.Second
	apartWait  = 100 * time.Millisecond
	apartLimit = 2 * time.Second
	// maxHeld is how long an operation waits at most for its held scope while
	// others of that scope have their turn before it.
	maxHeld = 2 * lockWait
	// commitTimeout bounds a transaction that a client's own end no longer ends.
	commitTimeout = 10 * time.Second
)

// errNeedExclusive makes an operation begin again under the exclusive lock:
// modes are never upgraded inside a transaction.
var errNeedExclusive = errors.New("sealed: needs the exclusive lock")

// operation is one guarded change on its way through a transaction.
type operation struct {
	guard     *fence.Guard
	scope     fence.Scope
	request   fence.Request
	caller    string
	exclusive bool
	// key is locked; its row is in the view.
	key    object.Ref
	upload string         // read where not empty
	retry  *state.RetryID // read where not nil
	// named is the request that the operation belongs to, locked and read where not
	// nil. With retry as well, the operation is one of many that it consists of.
	named *idempotency.Request
	// apply decides under the locks, after the token was admitted. It may run
	// more than once, each time in a transaction of its own.
	apply func(v *state.View, row *state.Scope, ch *state.Changes) error
	// answer is what to remember of it once apply has succeeded, and replay takes
	// what was remembered of an earlier try. Both are there where retry or named is.
	answer func() result
	replay func(*result)

	since time.Time // when it was first queued
	err   error
	done  chan struct{}
}

// committer gathers operations into transactions.
type committer struct {
	state   state.Transactor
	known   *recall
	turn    func(string) // nil but in simulations
	mu      sync.Mutex
	queue   []*operation
	wake    chan struct{}
	waiting map[fence.Scope][]*operation // scopes with a waiter of their own
	raising map[fence.Scope][]*operation // scopes with a raiser of their own
	slots   chan struct{}
	pace    chan struct{}
	stop    context.Context
	wg      sync.WaitGroup
}

func newCommitter(stop context.Context, st state.Transactor, known *recall, turn func(string)) *committer {
	c := &committer{
		state: st, known: known, turn: turn, stop: stop,
		wake:    make(chan struct{}, committers),
		waiting: map[fence.Scope][]*operation{},
		raising: map[fence.Scope][]*operation{},
		slots:   make(chan struct{}, maxWaiting),
		pace:    make(chan struct{}, paced),
	}
	for range committers {
		c.wg.Go(c.run)
	}
	return c
}

// do runs one operation and returns when its fate is decided; that does not end
// with the caller's context, but is bounded by the transactions' own limits.
func (c *committer) do(op *operation) error {
	if c.turn != nil {
		c.turn(fmt.Sprintf("a change of %s %s", op.scope, op.key.Key))
	}
	if !c.enqueue(op) {
		return errStopping
	}
	<-op.done
	return op.err
}

// doAll runs many operations together.
func (c *committer) doAll(ops []*operation) {
	if c.turn != nil {
		c.turn(fmt.Sprintf("%d changes", len(ops)))
	}
	for _, op := range ops {
		if !c.enqueue(op) {
			op.err = errStopping
			close(op.done)
		}
	}
	for _, op := range ops {
		<-op.done
	}
}

var errStopping = &stoppingError{}

type stoppingError struct{}

func (*stoppingError) Error() string { return "this proxy is shutting down" }
func (*stoppingError) Unwrap() error { return state.ErrUnavailable }

func (c *committer) enqueue(op *operation) bool {
	op.done, op.since = make(chan struct{}), time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop.Err() != nil {
		return false
	}
	switch q, held := c.waiting[op.scope]; {
	case op.exclusive:
		c.raise(op)
	case held:
		c.waiting[op.scope] = append(q, op)
	default:
		c.push(op)
	}
	return true
}

// push queues operations for the next batches. c.mu is held.
func (c *committer) push(ops ...*operation) {
	c.queue = append(c.queue, ops...)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run takes batches until the committer stops and its queue is empty.
func (c *committer) run() {
	for {
		c.pace <- struct{}{}
		batch := c.take()
		if batch != nil {
			slow := time.AfterFunc(slowCommit, func() { <-c.pace })
			c.commit(batch, true)
			if slow.Stop() {
				<-c.pace
			}
			continue
		}
		<-c.pace
		if c.stop.Err() != nil {
			return
		}
		select {
		case <-c.wake:
		case <-c.stop.Done():
		}
	}
}

func (c *committer) take() []*operation {
	c.mu.Lock()
	defer c.mu.Unlock()
	batch, rest := pick(c.queue)
	c.queue = rest
	if len(rest) > 0 {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	return batch
}

// pick takes what may share a transaction: one operation for each key, and the
// operations of one request for each name, so that each is decided on a row that
// the transaction read and no other operation of it changes.
func pick(queue []*operation) (batch, rest []*operation) {
	if len(queue) == 0 {
		return nil, nil
	}
	if len(queue) == 1 {
		return queue, nil
	}
	seen := make(map[object.Ref]bool, len(queue))
	var named map[state.RetryID]*idempotency.Request
	for i, op := range queue {
		if len(batch) == maxBatch {
			return batch, append(rest, queue[i:]...)
		}
		if seen[op.key] {
			rest = append(rest, op)
			continue
		}
		if op.named != nil {
			if other := named[op.named.Lock()]; other != nil && other != op.named {
				rest = append(rest, op)
				continue
			}
			if named == nil {
				named = map[state.RetryID]*idempotency.Request{}
			}
			named[op.named.Lock()] = op.named
		}
		seen[op.key] = true
		batch = append(batch, op)
	}
	return batch, rest
}

// commit runs a batch in one transaction and settles every operation of it, or
// hands it on to where it is settled.
func (c *committer) commit(batch []*operation, try bool) {
	missed, err := c.transact(batch, state.Shared, try)
	switch {
	case err == nil:
		for _, op := range batch {
			switch {
			case missed[op.scope]:
				c.wait(op)
			case errors.Is(op.err, errNeedExclusive):
				c.exclusively(op)
			default:
				close(op.done)
			}
		}
	case errors.Is(err, state.ErrUnknown) || errors.Is(err, state.ErrDecided) || len(batch) == 1:
		settle(batch, err)
	default:
		c.apart(batch, err)
	}
}

// apart runs the operations of a failed batch, of which none took effect, one by
// one: one that cannot be committed must not fail the others. If the first
// fails in the same way, the state is at fault and the rest need not ask. If the
// batch failed for a lock, each has waited for it already and asks once more
// whether the lock is another's.
func (c *committer) apart(batch []*operation, err error) {
	wait, start := lockWait, time.Now()
	if errors.Is(err, state.ErrBusy) {
		wait = apartWait
	}
	for i, op := range batch {
		if wait == apartWait && time.Since(start) > apartLimit {
			settle(batch[i:], err)
			return
		}
		_, again := c.transactWithin(wait, []*operation{op}, state.Shared, false)
		switch {
		case again == nil && errors.Is(op.err, errNeedExclusive):
			c.exclusively(op)
			continue
		case again != nil:
			op.err = again
		}
		close(op.done)
		if i == 0 && errors.Is(again, state.ErrUnavailable) {
			settle(batch[1:], err)
			return
		}
	}
}

func settle(ops []*operation, err error) {
	for _, op := range ops {
		op.err = err
		close(op.done)
	}
}

// single runs an operation alone under the exclusive lock.
func (c *committer) single(op *operation) {
	pause.At(pause.BeforeRaise)
	_, err := c.transact([]*operation{op}, state.Exclusive, false)
	if err != nil {
		op.err = err
	}
	pause.At(pause.AfterRaise)
	close(op.done)
}

// exclusively hands an operation on to its scope's raiser.
func (c *committer) exclusively(op *operation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raise(op)
}

// raise queues an operation for the exclusive lock, for which each scope has one
// raiser: many that wait for one lock would take as many of the state's
// connections. c.mu is held.
func (c *committer) raise(op *operation) {
	q, runs := c.raising[op.scope]
	c.raising[op.scope] = append(q, op)
	if !runs {
		c.wg.Go(func() { c.raiser(op.scope) })
	}
}

// raiser runs one operation exclusively and gives those that have come
// meanwhile back to the batches: most need the lock no longer, and the others
// return.
func (c *committer) raiser(scope fence.Scope) {
	for {
		c.mu.Lock()
		op := c.raising[scope][0]
		c.raising[scope] = c.raising[scope][1:]
		c.mu.Unlock()
		c.single(op)
		if c.giveBack(c.raising, scope) {
			return
		}
	}
}

// giveBack ends a scope's own queue and hands what is left in it back to the
// batches; it reports false where the caller has to go on with it, because the
// batches have ended.
func (c *committer) giveBack(own map[fence.Scope][]*operation, scope fence.Scope) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(own[scope]) > 0 {
		if c.stop.Err() != nil {
			return false
		}
		c.push(own[scope]...)
	}
	delete(own, scope)
	return true
}

// wait moves an operation to the queue of its held scope and sees to it that
// someone waits there.
func (c *committer) wait(op *operation) {
	if time.Since(op.since) > maxHeld {
		settle([]*operation{op}, fmt.Errorf("%w: %s is held", state.ErrBusy, op.scope))
		return
	}
	c.mu.Lock()
	q, held := c.waiting[op.scope]
	c.waiting[op.scope] = append(q, op)
	c.mu.Unlock()
	if !held {
		c.wg.Go(func() { c.waiter(op.scope) })
	}
}

// waiter waits for a held scope with one batch, and gives the rest back: who
// stayed for as long as the scope has writers would keep its place from others.
func (c *committer) waiter(scope fence.Scope) {
	select {
	case c.slots <- struct{}{}:
	case <-time.After(lockWait):
		c.mu.Lock()
		ops := c.waiting[scope]
		delete(c.waiting, scope)
		c.mu.Unlock()
		settle(ops, fmt.Errorf("%w: too many scopes are held at the same time", state.ErrBusy))
		return
	}
	defer func() { <-c.slots }()
	for {
		c.mu.Lock()
		batch, rest := pick(c.waiting[scope])
		c.waiting[scope] = rest
		c.mu.Unlock()
		c.commit(batch, false)
		if c.giveBack(c.waiting, scope) {
			return
		}
	}
}

// transact locks, judges and commits. When it returns nil, each operation that
// is not in a missed scope has its result in err.
func (c *committer) transact(batch []*operation, mode state.Mode, try bool) (missed map[fence.Scope]bool, err error) {
	return c.transactWithin(lockWait, batch, mode, try)
}

func (c *committer) transactWithin(wait time.Duration, batch []*operation, mode state.Mode, try bool) (missed map[fence.Scope]bool, err error) {
	tx := &state.Tx{Try: try, Wait: wait, Keys: make([]object.Ref, 0, len(batch))}
	guards := map[fence.GuardID]bool{}
	scopes := map[fence.Scope]bool{}
	named := map[*idempotency.Request]int{} // where in tx.Requests
	for _, op := range batch {
		if !guards[op.guard.ID] {
			guards[op.guard.ID] = true
			tx.Guards = append(tx.Guards, op.guard.ID)
		}
		if !scopes[op.scope] {
			scopes[op.scope] = true
			tx.Scopes = append(tx.Scopes, state.ScopeLock{Scope: op.scope, Mode: mode})
		}
		if op.key != (object.Ref{}) {
			tx.Keys = append(tx.Keys, op.key)
		}
		if op.upload != "" {
			tx.Uploads = append(tx.Uploads, op.upload)
		}
		if op.named == nil && op.retry != nil {
			tx.Retries = append(tx.Retries, *op.retry)
		}
		if op.named != nil {
			at, ok := named[op.named]
			if !ok {
				at = len(tx.Requests)
				named[op.named] = at
				tx.Requests = append(tx.Requests, op.named.Locked())
			}
			if op.retry != nil {
				tx.Requests[at].Items = append(tx.Requests[at].Items, *op.retry)
			}
		}
	}
	var learnt []state.Scope
	var now time.Time
	tx.Decide = func(v *state.View) (state.Changes, error) {
		var ch state.Changes
		missed, now = v.Missed, v.Now
		learnt = learnt[:0]
		recorded := make(map[*idempotency.Request]bool, len(tx.Requests))
		for _, op := range batch {
			if v.Missed[op.scope] {
				continue
			}
			op.err = op.decide(v, mode, &ch, recorded)
		}
		for _, row := range v.Scopes {
			learnt = append(learnt, row)
		}
		learnt = append(learnt, ch.Scopes...)
		return ch, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	if err := state.Run(ctx, c.state, tx); err != nil {
		return nil, err
	}
	c.known.learn(now, learnt...)
	return missed, nil
}
