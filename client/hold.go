package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/s3fence/s3fence/internal/boottime"
)

// giveBackTime bounds how long a lock is tried to be given back.
const giveBackTime = 10 * time.Second

// HoldOption is a setting of [Client.Hold].
type HoldOption func(*holdOptions)

type holdOptions struct {
	owner, reason string
	ticket        string
	ttl, wait     time.Duration
	force         bool
	observe       func(HoldEvent)
	watch         func(Wait)
	clock         boottime.Clock
}

// WithOwner says who holds the lock, for people: user@host.
func WithOwner(label string) HoldOption { return func(o *holdOptions) { o.owner = label } }

// WithTTL sets the length of the lease, 1 s to 24 h; 30 s otherwise. It bounds
// how long the lock stays held when its holder dies, and how long an outage of
// the service is survived: nine tenths of it at best, and more than half at
// worst.
func WithTTL(d time.Duration) HoldOption { return func(o *holdOptions) { o.ttl = d } }

// WithWait waits for a lock that is held, for any length of time; otherwise Hold
// fails with [ErrHeld] at once.
func WithWait(d time.Duration) HoldOption { return func(o *holdOptions) { o.wait = d } }

// WithTicket makes calls of Hold one acquisition, as [Acquisition.Ticket] does: one
// that follows a failure is given the lease that the failed one was granted without
// knowing. A place in the line is kept for it only where the service did not answer.
func WithTicket(ticket string) HoldOption { return func(o *holdOptions) { o.ticket = ticket } }

// WithWatch has f told how the wait goes, as [Acquisition.Watch] is.
func WithWatch(f func(Wait)) HoldOption { return func(o *holdOptions) { o.watch = f } }

// WithForce takes the lock whoever holds it, whose writes are refused from then
// on. It needs the right admin; the reason is recorded and must not be empty.
func WithForce(reason string) HoldOption {
	return func(o *holdOptions) { o.force, o.reason = true, reason }
}

// WithObserver has f told what happens to the hold, for messages; what a program
// does about it belongs to [Held.Context]. Calls come one after the other. A
// call that takes long delays no renewal; events that come meanwhile may be
// left out, [HoldLost] never. f must not call Release.
func WithObserver(f func(HoldEvent)) HoldOption { return func(o *holdOptions) { o.observe = f } }

// Held is a lock that is kept: its lease is renewed in the background until it
// is released, lost, or the context that it was taken under ends. Safe for
// concurrent use.
type Held struct {
	client  *Client
	scope   string
	token   int64
	ttl     time.Duration
	clock   boottime.Clock
	ctx     *holdContext
	cancel  context.CancelCauseFunc
	cache   *aws.CredentialsCache
	observe *observer
	// idle is closed when nothing renews any more.
	idle chan struct{}
	// releasing is held by whoever releases; it guards released and releaseKey, the
	// name that all tries to release have in common.
	releasing  chan struct{}
	released   bool
	releaseKey string

	mu    sync.Mutex
	lease Lease
	// asked is the moment before the request whose answer is lease, lasts how long
	// from there Context goes on.
	asked boottime.Instant
	lasts time.Duration
	// failed is what the latest renewal failed with, nil if it did not.
	failed error
}

// Hold takes the lock of a scope and keeps it.
//
// It fails with [ErrHeld] while somebody else has the lock, with
// [ErrUnreachable] or [ErrUnavailable] where the service does not answer, and
// else with what [Client.Acquire] fails with. The lease has been renewed once
// when Hold returns: an acquisition that waited says little of how long its
// lease still lasts.
//
// The end of ctx ends the hold: its Context ends and renewals stop. The lock is
// not given back by that, since only the caller knows when its work has
// stopped; until the lease is over nobody else gets it. So, always:
//
//	held, err := c.Hold(ctx, "s3://data/jobs/nightly/")
//	if err != nil { … }
//	defer held.Release(ctx)
//	err = work(held.Context())
func (c *Client) Hold(ctx context.Context, scope string, opts ...HoldOption) (*Held, error) {
	o := holdOptions{clock: boottime.System()}
	for _, set := range opts {
		set(&o)
	}
	var l Lease
	var err error
	switch {
	case o.force && o.wait != 0:
		return nil, fmt.Errorf("%w: taking a lock by force does not wait; leave one of WithForce and WithWait out", ErrInvalid)
	case o.force && o.reason == "":
		return nil, fmt.Errorf("%w: taking a lock by force needs a reason", ErrInvalid)
	case o.force:
		l, err = c.Take(ctx, scope, o.owner, o.ttl, o.reason)
	default:
		l, err = c.acquire(ctx, Acquisition{Scope: scope, Owner: o.owner, TTL: o.ttl, Wait: o.wait, Ticket: o.ticket, Watch: o.watch}, false)
	}
	if err != nil {
		return nil, err
	}
	if l.TTL <= 0 || l.Scope == "" {
		return nil, fmt.Errorf("%w: %s does not answer as s3fence does: a lease without a scope or a ttl", ErrUnreachable, c.base)
	}
	h := c.hold(ctx, l, &o)
	if err := h.begin(); err != nil {
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTime)
		defer cancel()
		if rerr := h.giveBack(back); rerr != nil && !errors.Is(rerr, ErrLost) {
			err = fmt.Errorf("%w (and the lock, not given back, is free after %v: %w)", err, h.ttl, rerr)
		}
		return nil, err
	}
	return h, nil
}

// hold makes a Held that nothing renews yet.
func (c *Client) hold(ctx context.Context, l Lease, o *holdOptions) *Held {
	h := &Held{
		client: c, scope: l.Scope, token: l.Token, ttl: l.TTL, clock: o.clock, lease: l,
		observe: newObserver(o.observe), idle: make(chan struct{}), releasing: make(chan struct{}, 1),
	}
	inner, cancel := context.WithCancelCause(ctx)
	h.ctx, h.cancel = &holdContext{inner, h}, cancel
	h.cache = newCredentialsCache(h)
	return h
}

// Context is for the work under the lock. It ends when the lock is lost or may
// be, when it is released, and when the context given to Hold ends.
// context.Cause says why: a [HoldError] that wraps [ErrLost], [ErrMaybeLost] or
// [ErrReleased], or the cause of that context.
//
// Its Err looks at the clock itself, so that work which asks it before each step
// notices at once that the process or the machine stood still. Done, and what is
// derived by context.WithCancel and the like, follow within half a second of
// waking.
func (h *Held) Context() context.Context { return h.ctx }

// Scope is s3://bucket/prefix/.
func (h *Held) Scope() string { return h.scope }

// Token is the fencing token; it stays the same for as long as the lock is held.
func (h *Held) Token() int64 { return h.token }

// Lease is the latest lease that was answered.
func (h *Held) Lease() Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lease
}

// Ref is the scope as requests name it in X-Fencing-Scope: with its generation
// beyond the first.
func (l Lease) Ref() string {
	if l.Generation > 1 {
		return l.Scope + "?generation=" + strconv.FormatInt(l.Generation, 10)
	}
	return l.Scope
}

// Client is what the lock was taken with.
func (h *Held) Client() *Client { return h.client }

// Release gives the lock back. It ends Context first, with [ErrReleased], and
// stops renewing; let the work end before. Releasing again is fine, and tries
// again where it failed before.
//
// It never ends the lock of somebody else: the service compares the token. Where
// the lock was lost it returns what wraps [ErrLost]: there was nothing to give
// back, and somebody else may have been at work meanwhile. Any other error means
// that the lock is free only when its lease is over.
//
// A service that does not answer is asked again for ten seconds, or until ctx
// ends. A ctx that has ended already, as in a deferred call after a signal, does
// not keep the lock from being given back: it is asked for all the same, for as
// long.
func (h *Held) Release(ctx context.Context) error {
	h.end(ErrReleased, nil)
	if ctx.Err() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, giveBackTime)
	defer cancel()
	select {
	case h.releasing <- struct{}{}:
		defer func() { <-h.releasing }()
	case <-ctx.Done():
		return fmt.Errorf("releasing the lock on %s: waiting for another call of Release: %w", h.scope, context.Cause(ctx))
	}
	<-h.idle
	if own := h.endedBy(); own != nil && errors.Is(own.Kind, ErrLost) {
		h.observe.wait(ctx)
		return own
	}
	if !h.released {
		if err := h.giveBack(ctx); err != nil {
			return fmt.Errorf("releasing the lock on %s: %w", h.scope, err)
		}
		h.released = true
	}
	h.observe.wait(ctx)
	return nil
}

// giveBack asks the service to end the lease, until it answers or ctx ends. All its
// tries are one request: after a lost answer the next in line may have the lock, and
// what was given back in time must not read as lost.
func (h *Held) giveBack(ctx context.Context) error {
	if h.releaseKey == "" {
		h.releaseKey = rand.Text()
	}
	ctx = WithIdempotencyKey(ctx, h.releaseKey)
	for tries := 1; ; tries++ {
		err := h.client.Release(ctx, h.scope, h.token)
		if !mayPass(err) {
			return err
		}
		h.client.http.CloseIdleConnections()
		select {
		case <-time.After(backoff(tries, giveBackTime)):
		case <-ctx.Done():
			return err
		}
	}
}
