package locks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
)

// poll bounds the time between two looks at a held scope: a release in another
// process is seen that late.
const poll = 250 * time.Millisecond

// afterGrant bounds what is still done for a grant when its caller has gone.
const afterGrant = 5 * time.Second

// Request asks for a lock.
type Request struct {
	Scope fence.Scope
	// Holder is the access key that asks. Owner is its label for people, at most
	// MaxOwner printable bytes.
	Holder, Owner string
	// TTL is from MinTTL to MaxTTL; DefaultTTL where zero.
	TTL time.Duration
	// Wait is how long to wait for a lock that is held, up to MaxWait.
	Wait time.Duration
	// Retry, where not nil, identifies the request over its repetitions: of all
	// that carry it at most one is granted a lock, and the others are given that
	// lease, or [ErrLost] once it is over.
	Retry *state.RetryID
}

func (r *Request) check() error {
	if r.TTL == 0 {
		r.TTL = DefaultTTL
	}
	if r.Wait < 0 || r.Wait > MaxWait {
		return invalid("wait is %v; it must be from 0 to %v", r.Wait, MaxWait)
	}
	if r.Holder == "" {
		return invalid("no holder is named")
	}
	return errors.Join(checkTTL(r.TTL), checkText("owner", r.Owner, MaxOwner))
}

// Acquire grants the lock on a scope, under a token above all before it, or
// fails with [ErrHeld] when it is still held after the wait.
func (s *Service) Acquire(ctx context.Context, r Request) (Lease, error) {
	if err := r.check(); err != nil {
		return Lease{}, err
	}
	over := time.Now().Add(r.Wait)
	return underGuard(ctx, s, r.Scope, func(g fence.Guard) (Lease, error) {
		r.Wait = max(0, time.Until(over))
		return s.acquire(ctx, g, r)
	})
}

func (s *Service) acquire(ctx context.Context, g fence.Guard, r Request) (Lease, error) {
	switch {
	case r.Wait == 0 && r.Retry == nil:
		return s.attempt(ctx, g, r)
	case r.Wait == 0:
		// Without a look first: the lock may be held by the request's own first try,
		// which only the transaction knows.
		return s.grant(ctx, g, r, false, "")
	case r.Retry != nil:
		if l, found, err := s.earlier(ctx, g, r); found || err != nil {
			return l, err
		}
	}
	w, err := s.lines.join(r.Scope)
	if err != nil {
		return Lease{}, err
	}
	defer s.lines.leave(r.Scope, w)
	return s.wait(ctx, g, r, w)
}

// wait tries until the lock is had, the wait is over or ctx ends.
func (s *Service) wait(ctx context.Context, g fence.Guard, r Request, w *waiter) (Lease, error) {
	over := time.Now().Add(r.Wait)
	for {
		next := over
		var last error
		if s.lines.first(r.Scope, w) {
			lease, err := s.attempt(ctx, g, r)
			var held *HeldError
			switch {
			case errors.As(err, &held):
				soon := min(held.By.Left, poll-rand.N(poll/4))
				if at := time.Now().Add(max(soon, time.Millisecond)); at.Before(over) {
					next = at
				}
			case errors.Is(err, state.ErrBusy):
				if at := time.Now().Add(poll); at.Before(over) {
					next = at
				}
			default:
				return lease, err
			}
			last = err
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-w.wake:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Lease{}, fmt.Errorf("waiting for the lock on %s: %w", r.Scope, context.Cause(ctx))
		}
		timer.Stop()
		if !time.Now().Before(over) {
			if last == nil {
				// Never first in line: look once, to be able to say who holds it.
				return s.attempt(ctx, g, r)
			}
			if errors.Is(last, ErrHeld) {
				// The lease may have ended with the wait.
				return s.attempt(ctx, g, r)
			}
			return Lease{}, last
		}
	}
}

// attempt looks without locking first: a look must not stop the writers of the
// scope, as the exclusive lock of a grant does.
func (s *Service) attempt(ctx context.Context, g fence.Guard, r Request) (Lease, error) {
	v, err := s.state.Read(ctx, state.Query{Guards: []fence.GuardID{g.ID}, Scopes: []fence.Scope{r.Scope}})
	if err != nil {
		return Lease{}, fmt.Errorf("looking at %s: %w", r.Scope, err)
	}
	if _, err := locksIn(v, g, r.Scope); err != nil {
		return Lease{}, err
	}
	if row, ok := v.Scopes[r.Scope]; ok && row.Held(v.Now) {
		// Of what the caller holds itself, only the transaction knows whether it was
		// granted to another try of this request.
		if r.Retry == nil || row.Last.Holder != r.Holder {
			return Lease{}, heldBy(&row, v.Now)
		}
	}
	return s.grant(ctx, g, r, false, "")
}

// Take grants the lock on a scope to the caller whoever holds it. The caller has
// the right to; reason says why, in at most MaxReason printable bytes. The lease
// of the previous holder is over and its token is stale with the commit.
func (s *Service) Take(ctx context.Context, r Request, reason string) (Lease, error) {
	r.Wait = 0
	if err := r.check(); err != nil {
		return Lease{}, err
	}
	if reason == "" {
		return Lease{}, invalid("taking a lock by force needs a reason")
	}
	if err := checkText("reason", reason, MaxReason); err != nil {
		return Lease{}, err
	}
	return underGuard(ctx, s, r.Scope, func(g fence.Guard) (Lease, error) {
		return s.grant(ctx, g, r, true, reason)
	})
}

// grant is the transaction that makes a holder.
func (s *Service) grant(ctx context.Context, g fence.Guard, r Request, force bool, reason string) (Lease, error) {
	var lease Lease
	var was state.Scope
	var now time.Time
	repeated := false
	pause.At(pause.BeforeRaise)
	err := state.Run(ctx, s.state, &state.Tx{
		Guards: []fence.GuardID{g.ID}, Scopes: []state.ScopeLock{{Scope: r.Scope, Mode: state.Exclusive}},
		Retries: r.retries(),
		Decide: func(v *state.View) (state.Changes, error) {
			g, err := locksIn(v, g, r.Scope)
			if err != nil {
				return state.Changes{}, err
			}
			row := v.Scope(r.Scope, g.Writes)
			if lease, repeated, err = r.repeated(v, &row); repeated || err != nil {
				return state.Changes{}, err
			}
			if row.Held(v.Now) && !force {
				return state.Changes{}, heldBy(&row, v.Now)
			}
			was, now = row, v.Now
			token, err := draw(v, &row)
			if err != nil {
				return state.Changes{}, err
			}
			row.Mark = fence.Mark{Generation: row.Mark.Current(), Token: token}
			row.Last = fence.Grant{Holder: r.Holder, Owner: r.Owner, At: v.Now}
			row.TTL, row.LeaseUntil = r.TTL, v.Now.Add(r.TTL)
			begin(&row, v.Now)
			lease = leaseOf(&row, v.Now)
			return state.Changes{Scopes: []state.Scope{row}, Retries: r.remember(lease)}, nil
		},
	})
	if err != nil {
		s.alarm(ctx, r.Scope, err)
		return Lease{}, wrap("granting the lock on "+r.Scope.String(), err)
	}
	if repeated {
		return s.answer(ctx, lease)
	}
	pause.At(pause.AfterRaise)
	e := events.Event{Time: now, Kind: events.Granted, Scope: r.Scope, Token: lease.Mark.Token, Highest: was.Mark.Token,
		Holder: r.Holder, Owner: r.Owner, AccessKey: r.Holder, Reason: reason}
	if force {
		e.Kind = events.Takeover
		if was.Held(now) {
			e.Previous = named(was.Last.Holder, was.Last.Owner)
		}
	}
	s.tell(ctx, e)
	if r.Retry != nil {
		return s.answer(ctx, lease)
	}
	return s.confirm(ctx, lease, r.Holder)
}

// draw takes the next token, which must be above the mark it is to replace.
func draw(v *state.View, row *state.Scope) (fence.Token, error) {
	token, err := v.Draw()
	if err != nil {
		return 0, fmt.Errorf("drawing a token: %w", err)
	}
	if token <= row.Mark.Token || token > fence.MaxGranted {
		return 0, fmt.Errorf("%w: the counter gave %d and the mark of %s is %d (F2); the state may be an old copy. Stop s3fence and look",
			ErrInvariant, token, row.Scope, row.Mark.Token)
	}
	return token, nil
}

// begin fills in what a row has from its first writing on.
func begin(row *state.Scope, now time.Time) {
	if row.EpochSince.IsZero() {
		row.EpochSince = now
	}
}

// confirm lets the witness stand for a committed grant. Who cannot be answered
// does not hold: the lease is given back, and only the mark stays.
func (s *Service) confirm(ctx context.Context, l Lease, holder string) (Lease, error) {
	err := s.stand(ctx, l)
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("the caller has gone: %w", ctx.Err())
	}
	if err == nil {
		return l, nil
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterGrant)
	defer cancel()
	if rerr := s.Release(back, l.Scope, l.Mark.Token, holder); rerr != nil {
		err = fmt.Errorf("%w (and the lease, not given back, ends by itself: %w)", err, rerr)
	}
	return Lease{}, err
}

// answer lets the witness stand for the lease of a request that names itself. It
// gives nothing back: another try may have been answered with the lease already,
// here or in another process, and if none was, the next one will be.
func (s *Service) answer(ctx context.Context, l Lease) (Lease, error) {
	err := s.stand(ctx, l)
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("the caller has gone: %w", ctx.Err())
	}
	if err != nil {
		return Lease{}, err
	}
	return l, nil
}

// stand makes the witness stand for a lease before it is answered.
func (s *Service) stand(ctx context.Context, l Lease) error {
	if s.witness == nil || ctx.Err() != nil {
		return nil
	}
	// A witness half written because the caller has just gone helps nobody.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterGrant)
	defer cancel()
	if err := s.witness.Stand(late, l.Scope, l.Mark); err != nil {
		return unavailable(fmt.Errorf("the witness for token %d of %s does not stand: %w", l.Mark.Token, l.Scope, err))
	}
	return nil
}

func heldBy(row *state.Scope, now time.Time) error {
	return &HeldError{row.Scope, holding(row, now)}
}

func holding(row *state.Scope, now time.Time) Holding {
	return Holding{Holder: row.Last.Holder, Owner: row.Last.Owner, Token: row.Mark.Token,
		Since: row.Last.At, Until: row.LeaseUntil, Left: row.LeaseUntil.Sub(now)}
}

// wrap says what was being done, except around errors that say it all.
func wrap(doing string, err error) error {
	for _, own := range []error{ErrHeld, ErrLost, ErrStale, ErrNeverGranted, ErrOtherHolder, ErrNoSuchGuard, ErrNotActive, ErrNoLocks, ErrInvalid} {
		if errors.Is(err, own) {
			return err
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func (s *Service) alarm(ctx context.Context, sc fence.Scope, err error) {
	if errors.Is(err, ErrInvariant) || errors.Is(err, state.ErrMarkFalls) {
		s.tell(ctx, events.Event{Kind: events.Alarm, Scope: sc, Reason: err.Error()})
	}
}
