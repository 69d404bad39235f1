package client

import (
	"cmp"
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// maxWait is the longest that the service waits in one call.
	maxWait = 50 * time.Second
	// patience is how long a waiting acquisition puts up with a service that does
	// not answer, or cannot: a proxy that restarts is back by then.
	patience = 30 * time.Second
	// findTime is how long past the wait a grant is looked for whose answer may have
	// been lost: nobody else would have the lock for a whole lease.
	findTime = 5 * time.Second
	// again bounds the pauses before a call is repeated that was not answered. They
	// stay well below the time for which the service keeps a place.
	leastAgain, mostAgain = 100 * time.Millisecond, 2 * time.Second
	// Who is told how the wait goes asks more often, less and less so: each answer
	// ends a call.
	leastPace, mostPace = time.Second, 15 * time.Second
	// troubleEvery is how often a watcher is told of one trouble.
	troubleEvery = 5 * time.Second
)

// Acquisition asks for a lock.
type Acquisition struct {
	Scope string
	// Owner is a label for people, such as user@host.
	Owner string
	// TTL is the length of the lease, 1 s to 24 h; the service's default, 30 s,
	// where zero.
	TTL time.Duration
	// Wait is how long to wait for a lock that is held; any length. Those who wait
	// are served in the order in which they came, whichever proxy they came to.
	Wait time.Duration
	// Ticket names the place in the line: at most 64 characters of printable ASCII
	// without spaces, the same for calls that are one acquisition, another one for
	// each other acquisition. Acquire makes one up for a Wait where it is empty; set
	// it to go on in another Acquire, from another process perhaps, within 10 s. While
	// a lease stands that was granted to the ticket, asking with it gives that lease.
	Ticket string
	// Watch, where not nil, is told how the wait goes: at the first refusal, when
	// something has changed, and of trouble with the service, every few seconds at
	// most. It is called by Acquire's own goroutine.
	Watch func(Wait)
}

// Wait is how waiting for a lock stands.
type Wait struct {
	Scope string
	// Holder holds the lock; nil where it is free and others come first, or a
	// Delay runs.
	Holder *Holder
	// Delay is what is left of the guard's lock_delay: nobody is granted the lock so
	// soon after a lease that ran out.
	Delay time.Duration
	// Position is the place in the line, 1 for the next; Waiting is how many wait.
	Position, Waiting int
	// Left is what is left of the wait.
	Left time.Duration
	// Trouble, where not nil, is why the service gave no such answer; it is asked
	// again, and the fields above but Scope and Left say nothing.
	Trouble error
}

// Acquire takes a lock, or fails with [ErrHeld] when it is still held, or kept for
// those who came before, after the wait.
//
// While it waits it keeps its place in the line over its calls, also when the proxy
// is restarted: calls that are not answered, or with [ErrUnavailable] or
// [ErrUnknownOutcome], are repeated for as long as the wait lasts, 30 s on end at
// most. A grant whose answer was lost is found again by the repetition; without a
// wait, and past it, it is looked for over 5 s more, and nothing else is. If ctx ends
// the place is free at once; if the answer was under way the lock may have been
// granted, and is free again when the lease is over. The same holds for an error
// other than [ErrHeld] that may mean that it happened.
//
// The deadline of the lease counts from the beginning of the call that got it,
// waiting included: renew once before starting to work.
func (c *Client) Acquire(ctx context.Context, a Acquisition) (Lease, error) {
	return c.acquire(ctx, a, a.Ticket != "")
}

// acquire is Acquire; comesBack says that the caller may ask for the place again
// after the last refusal.
func (c *Client) acquire(ctx context.Context, a Acquisition, comesBack bool) (Lease, error) {
	body := lockBody{Scope: a.Scope, Owner: a.Owner, TTL: text(a.TTL), Ticket: cmp.Or(a.Ticket, cryptorand.Text())}
	w := watcher{tell: a.Watch, scope: a.Scope, until: time.Now().Add(max(a.Wait, 0)), pace: maxWait}
	if a.Watch != nil {
		w.pace = leastPace
	}
	var failing time.Time // since when calls have failed; zero while they do not
	pause := leastAgain
	lost, onceMore := false, false // a grant may have been; it was asked for past the wait
	for {
		left := max(time.Until(w.until), 0)
		wait := min(left, maxWait, w.pace)
		body.Wait, body.Keep = text(wait), ""
		if wait == left && !comesBack {
			body.Keep = "0s"
		}
		within := callTime + wait
		if onceMore {
			within = 2 * findTime // one that hangs was waited for already
		}
		l, err := c.lease(ctx, within, "locks/acquire", body)
		now := time.Now()
		over := !now.Before(w.until)
		switch {
		case err == nil:
			return l, nil
		case ctx.Err() != nil:
			return Lease{}, ended(ctx, a.Scope)
		case errors.Is(err, ErrHeld):
			if over {
				return Lease{}, err
			}
			failing, pause, lost = time.Time{}, leastAgain, false
			w.refused(err)
			continue
		case !mayPass(err):
			return Lease{}, err
		}
		if failing.IsZero() {
			failing = now
		}
		lost = lost || isLostAnswer(err)
		sought := !lost || onceMore && now.Sub(w.until) >= findTime
		if over && sought || now.Sub(failing) >= patience {
			return Lease{}, err
		}
		onceMore = over
		w.troubled(err)
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return Lease{}, ended(ctx, a.Scope)
		case <-timer.C:
		}
		pause = min(2*pause, mostAgain)
	}
}

func ended(ctx context.Context, scope string) error {
	return fmt.Errorf("waiting for the lock on %s: %w", scope, context.Cause(ctx))
}

// watcher tells how a wait goes.
type watcher struct {
	tell  func(Wait)
	scope string
	until time.Time
	// pace is how long a call waits at most.
	pace time.Duration
	// last is what was told last, told when trouble was.
	last Wait
	told time.Time
}

func (w *watcher) refused(err error) {
	var e *Error
	if w.tell == nil || !errors.As(err, &e) {
		return
	}
	w.pace = min(2*w.pace, mostPace)
	now := Wait{Scope: w.scope, Holder: e.Holder, Delay: e.Delay, Position: e.Position, Waiting: e.Waiting, Left: time.Until(w.until)}
	if now.differs(&w.last) {
		w.last, w.told = now, time.Time{}
		w.tell(now)
	}
}

// differs reports whether there is something new in w: not that time goes by.
func (w *Wait) differs(old *Wait) bool {
	var token, was int64
	if w.Holder != nil {
		token = w.Holder.Token
	}
	if old.Holder != nil {
		was = old.Holder.Token
	}
	return old.Scope == "" || token != was || (w.Delay > 0) != (old.Delay > 0) || w.Position != old.Position || w.Waiting != old.Waiting
}

func (w *watcher) troubled(err error) {
	if w.tell == nil || time.Since(w.told) < troubleEvery {
		return
	}
	w.last, w.told = Wait{}, time.Now()
	w.tell(Wait{Scope: w.scope, Left: max(time.Until(w.until), 0), Trouble: err})
}
