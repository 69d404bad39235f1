package locks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// lapse is how much longer a place lives than the call that waits in it: enough for
// the call to end in good order, and bounding what a place can hold up that nobody
// could end.
const lapse = 10 * time.Second

// errStopping answers those who wait when the process stops. Nothing happened.
var errStopping = &stoppingError{}

// stoppingError is an unavailability, and not the database's fault.
type stoppingError struct{}

func (*stoppingError) Error() string { return "this proxy is stopping; ask again" }
func (*stoppingError) Unwrap() error { return state.ErrUnavailable }

// queue takes a place for a request that was refused and waits in it, if the request
// waits; a ticket keeps the place behind the answer.
func (s *Service) queue(ctx context.Context, g fence.Guard, r Request, refused error) (Lease, error) {
	var turn int64
	lease, err := Lease{}, refused
	switch {
	case r.Wait > 0:
		lease, turn, err = s.wait(ctx, g, r)
	case r.Ticket != "" && r.Keep > 0:
		p, kerr := s.state.KeepPlace(ctx, state.Place{PlaceID: r.place(), Owner: r.Owner}, r.Keep)
		if kerr != nil {
			return Lease{}, fmt.Errorf("keeping a place in the line of %s: %w", r.Scope, kerr)
		}
		turn = p.Turn
	}
	var held *HeldError
	if !errors.As(err, &held) {
		return lease, err
	}
	if r.Wait == 0 && r.Keep == 0 {
		if held.Waiting == 0 {
			return Lease{}, err // nobody waits, so there is no place to leave either
		}
		if r.Ticket != "" {
			// The last call of its ticket.
			s.leave(ctx, &r, 0)
		}
	}
	out := *held
	before, all, err := s.state.CountPlaces(ctx, r.Scope, turn, s.absent)
	if err != nil {
		return Lease{}, fmt.Errorf("counting the line of %s: %w", r.Scope, err)
	}
	out.Waiting = all
	if r.Ticket != "" && r.Keep > 0 {
		out.Position = before + 1
	}
	return Lease{}, &out
}

// wait takes a place and waits in it until it is granted, the wait is over or ctx
// ends. It returns the place's turn.
func (s *Service) wait(ctx context.Context, g fence.Guard, r Request) (_ Lease, turn int64, _ error) {
	r.visit = state.NewID()
	over := time.NewTimer(r.Wait)
	defer over.Stop()
	// Before the place is taken, so that nobody finds its turn and wakes nobody.
	w, err := s.join(g, &r)
	if err != nil {
		return Lease{}, 0, err
	}
	defer s.lines.leave(w)
	p, err := s.state.KeepPlace(ctx, state.Place{PlaceID: r.place(), Owner: r.Owner, Visit: r.visit, Proxy: s.proxy}, r.Wait+max(r.Keep, lapse))
	if err != nil {
		s.leave(ctx, &r, 0) // it may have been taken
		return Lease{}, 0, fmt.Errorf("taking a place in the line of %s: %w", r.Scope, err)
	}
	s.lines.placed(w, p.Turn)
	lease, err := s.turn(ctx, g, r, w, over.C)
	// Before the place is left, which has the line looked at for those who stay.
	s.lines.leave(w)
	switch {
	case err == nil:
		// The grant has ended the place.
	case ctx.Err() != nil || r.Ticket == "":
		s.leave(ctx, &r, 0)
	default:
		s.leave(ctx, &r, r.Keep)
	}
	return lease, p.Turn, err
}

// turn tries whenever it may be the call's turn.
func (s *Service) turn(ctx context.Context, g fence.Guard, r Request, w *waiter, over <-chan time.Time) (Lease, error) {
	for {
		// The end first: a call that was woken as well is granted the lock there, too.
		select {
		case <-over:
			return s.attempt(ctx, g, r)
		default:
		}
		select {
		case err := <-w.wake:
			if err != nil {
				return Lease{}, err
			}
			lease, err := s.grant(ctx, g, r, false, "")
			if err == nil || !errors.Is(err, ErrHeld) && !errors.Is(err, state.ErrBusy) {
				return lease, err
			}
		case <-over:
			// The lease may have ended with the wait; and who holds it is to be told.
			return s.attempt(ctx, g, r)
		case <-ctx.Done():
			return Lease{}, fmt.Errorf("waiting for the lock on %s: %w", r.Scope, context.Cause(ctx))
		case <-s.stopping:
			return Lease{}, errStopping
		}
	}
}

// leave ends the visit of a request's place and wakes whoever is next here. One that
// cannot be ended lapses by itself, so nobody need know.
func (s *Service) leave(ctx context.Context, r *Request, keep time.Duration) {
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterGrant)
	defer cancel()
	if err := s.state.LeavePlace(late, r.place(), r.visit, keep); err == nil {
		s.lines.hurry(r.Scope)
	}
}
