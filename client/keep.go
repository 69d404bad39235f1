package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/s3fence/s3fence/internal/boottime"
)

// tick bounds the time between two looks at the clocks: timers stand still while
// the machine sleeps, so none can be set for the end of a lease.
const tick = 500 * time.Millisecond

// margin is what of a lease is given up at its end. The holder's count begins
// before the service's, so nothing but the pace of two clocks could make it end
// later: a clock that is being corrected runs up to a twelfth slow or fast.
func margin(ttl time.Duration) time.Duration { return ttl / 10 }

// holdContext is Held.Context. Done and Value are the inner one's, so that
// contexts made of it hang together as those of package context do.
type holdContext struct {
	context.Context
	held *Held
}

// Err looks at the clocks before it says that nothing has ended.
func (c *holdContext) Err() error {
	if err := c.Context.Err(); err != nil {
		return err
	}
	if over, stood, err := c.held.over(); over {
		c.held.end(ErrMaybeLost, unanswered(stood, err))
	}
	return c.Context.Err()
}

// unanswered is why nothing is known of the lease any more.
func unanswered(stood time.Duration, last error) error {
	if last == nil {
		return fmt.Errorf("no renewal was answered for %v", stood.Round(time.Millisecond))
	}
	return fmt.Errorf("no renewal was answered for %v; the last failed: %w", stood.Round(time.Millisecond), last)
}

// over reports whether the lease may be over, how long it was not renewed, and
// what the latest renewal failed with.
func (h *Held) over() (bool, time.Duration, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	stood := h.clock.Since(h.asked)
	return stood >= h.lasts, stood, h.failed
}

// left is how long Context goes on if nothing is renewed.
func (h *Held) left() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lasts - h.clock.Since(h.asked)
}

// end ends the hold; only the first call counts.
func (h *Held) end(kind, why error) {
	h.cancel(&HoldError{Scope: h.scope, Token: h.token, Kind: kind, Err: why, of: h})
}

// endedBy is the hold's own end, nil where it has not ended, or with the context that
// it was taken under.
func (h *Held) endedBy() *HoldError {
	if e, ok := errors.AsType[*HoldError](context.Cause(h.ctx)); ok && e.of == h {
		return e
	}
	return nil
}

// begin starts to renew and returns when the first renewal was answered. Until
// then it is only known that the lease began before the grant was answered.
func (h *Held) begin() error {
	h.asked, h.lasts = h.clock.Instant(), h.ttl-margin(h.ttl)
	first := make(chan struct{})
	go h.keep(first)
	select {
	case <-first:
		return nil
	case <-h.ctx.Done():
		<-h.idle
	}
	cause, own := context.Cause(h.ctx), h.endedBy()
	h.mu.Lock()
	defer h.mu.Unlock()
	if own != nil && errors.Is(own.Kind, ErrMaybeLost) && h.failed != nil {
		// Nothing has begun that could be lost.
		cause = h.failed
	}
	return fmt.Errorf("the lock on %s was granted under token %d, but not renewed at once: %w", h.scope, h.token, cause)
}

// attempt is one renewal under way.
type attempt struct {
	asked    boottime.Instant
	bound    time.Duration
	stop     context.CancelCauseFunc
	stopped  bool
	answered chan renewal
}

// renewal is what came of an attempt.
type renewal struct {
	lease Lease
	left  time.Duration // of the lease when it was asked for
	err   error
}

// keep renews until the hold has ended. first is closed after the first success.
func (h *Held) keep(first chan struct{}) {
	defer close(h.idle)
	defer h.observe.end(h)
	var (
		under    *attempt
		failures int
		// The next attempt is due when so much has passed since then.
		since = h.asked
		after time.Duration
		timer = time.NewTimer(0)
	)
	defer timer.Stop()
	for {
		var answered chan renewal
		if under != nil {
			answered = under.answered
		}
		select {
		case <-h.ctx.Done():
			if under != nil {
				under.stop(context.Canceled)
				select {
				case <-under.answered:
				case <-time.After(giveBackTime): // a transport that does not listen
				}
			}
			return
		case r := <-answered:
			asked := under.asked
			under.stop(nil)
			under = nil
			switch {
			case r.err == nil && h.renewed(asked, r):
				failures, since, after = 0, asked, jitter(h.ttl/3)
				h.observe.tell(HoldEvent{Kind: HoldRenewed, Lease: r.lease, Left: h.left()})
				if first != nil {
					close(first)
					first = nil
				}
			case r.err == nil:
				// It came after the end of the lease as it was known until then.
			case isLoss(r.err):
				h.end(ErrLost, r.err)
			default:
				failures++
				since, after = h.clock.Instant(), backoff(failures, h.ttl)
				h.fail(r.err)
				if left := h.left(); left > 0 {
					h.observe.tell(HoldEvent{Kind: HoldRetrying, Lease: h.Lease(), Err: r.err, RetryIn: after, Left: left})
				}
			}
		case <-timer.C:
		}
		if h.ctx.Err() != nil { // looks at the clocks
			continue
		}
		left := h.left()
		wait := min(tick, h.ttl/20, left)
		switch {
		case under != nil && under.stopped:
		case under != nil:
			if gone := h.clock.Since(under.asked); gone < under.bound {
				wait = min(wait, under.bound-gone)
			} else {
				under.stopped = true
				under.stop(fmt.Errorf("no answer within %v", under.bound.Round(time.Millisecond)))
			}
		default:
			if gone := h.clock.Since(since); gone < after {
				wait = min(wait, after-gone)
			} else {
				under = h.renew(min(max(left/2, h.ttl/20), callTime))
				wait = min(wait, under.bound)
			}
		}
		timer.Reset(wait)
	}
}

// renew begins an attempt, to be stopped by keep after bound.
func (h *Held) renew(bound time.Duration) *attempt {
	ctx, stop := context.WithCancelCause(h.ctx.Context)
	a := &attempt{asked: h.clock.Instant(), bound: bound, stop: stop, answered: make(chan renewal, 1)}
	go func() {
		asked := time.Now()
		var l leaseJSON
		err := h.client.call(ctx, callTime, http.MethodPost, "locks/renew", lockBody{Scope: h.scope, Token: h.token}, &l)
		switch {
		case err != nil && ctx.Err() != nil:
			err = fmt.Errorf("%w: %s: %w", ErrUnreachable, h.client.base, context.Cause(ctx))
		case err == nil && l.Token != h.token:
			err = fmt.Errorf("%w: %s does not answer as s3fence does: a lease of token %d for token %d", ErrUnreachable, h.client.base, l.Token, h.token)
		}
		if isSilence(err) {
			// The next attempt takes a connection of its own: those that stood while the
			// machine slept, or led to a proxy that hangs, may be dead without saying so.
			h.client.http.CloseIdleConnections()
		}
		a.answered <- renewal{l.lease(asked), time.Duration(l.ExpiresInMS) * time.Millisecond, err}
	}()
	return a
}

// renewed takes a renewal over unless the lease may have been over before it was
// answered: whoever slept through its end has stopped already, or is about to.
func (h *Held) renewed(asked boottime.Instant, r renewal) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Context.Err() != nil || h.clock.Since(h.asked) >= h.lasts {
		return false
	}
	h.lease, h.asked, h.lasts, h.failed = r.lease, asked, r.left-margin(h.ttl), nil
	return true
}

func (h *Held) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = err
}

// isLoss reports an answer that says for certain that the lock is not ours.
func isLoss(err error) bool {
	if errors.Is(err, ErrLost) || errors.Is(err, ErrStale) {
		return true
	}
	e, ok := errors.AsType[*Error](err)
	// A token that was never granted: the service's state is an older one.
	return ok && (e.Code == "OtherHolder" || e.Code == "InvalidFencingToken")
}

// isSilence reports that nothing came back that the service could have sent.
func isSilence(err error) bool { return errors.Is(err, ErrUnreachable) }

// jitter is d less up to a tenth: holders that began at once do not renew at
// once for ever.
func jitter(d time.Duration) time.Duration { return d - rand.N(max(d/10, 1)) }

// backoff is the pause after so many failures in a row, for what must be done
// within a time: from a hundredth of it to a tenth, and from a second to thirty
// at most.
func backoff(failures int, within time.Duration) time.Duration {
	first, most := min(within/100, time.Second), min(within/10, 30*time.Second)
	d := most
	if failures < 16 {
		d = min(first<<(failures-1), most)
	}
	return max(d-rand.N(max(d/2, 1)), time.Millisecond)
}
