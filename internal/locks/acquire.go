package locks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
)

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
	// Ticket names one acquisition over its calls, and so its place in the line: at
	// most MaxTicket printable ASCII characters other than the space. It counts for
	// its scope and holder only. While a lease stands that was granted to it, whoever
	// asks with it, as the same owner, is given that lease: choose it at random.
	Ticket string
	// Keep is how long the place of a Ticket is kept after the call was refused, up
	// to MaxKeep.
	Keep time.Duration
	// Retry, where not nil, identifies the request over its repetitions: of all
	// that carry it at most one is granted a lock, and the others are given that
	// lease, or [ErrLost] once it is over.
	Retry *idempotency.Request

	// visit is this call in its place, once it waits.
	visit uuid.UUID
}

// place is the request's own. Who has no ticket has a place by its visit alone.
func (r *Request) place() state.PlaceID {
	id := state.PlaceID{Scope: r.Scope, Holder: r.Holder, Ticket: r.Ticket}
	if id.Ticket == "" {
		id.Ticket = r.visit.String()
	}
	return id
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
	if r.Keep < 0 || r.Keep > MaxKeep {
		return invalid("keep is %v; it must be from 0 to %v", r.Keep, MaxKeep)
	}
	return errors.Join(checkTTL(r.TTL), checkText("owner", r.Owner, MaxOwner), checkTicket(r.Ticket))
}

// Acquire grants the lock on a scope, under a token above all before it, or
// fails with [ErrHeld] when it is still held after the wait, or others came first.
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
	if r.Wait > 0 && r.Retry != nil {
		if l, found, err := s.earlier(ctx, g, r); found || err != nil {
			return l, err
		}
	}
	var lease Lease
	var err error
	if r.Wait == 0 && r.Retry != nil {
		// Without a look first: the lock may be held by the request's own first try,
		// which only the transaction knows.
		lease, err = s.grant(ctx, g, r, false, "")
	} else {
		lease, err = s.attempt(ctx, g, r)
	}
	switch {
	case errors.Is(err, ErrHeld), errors.Is(err, state.ErrBusy) && r.Wait > 0:
		return s.queue(ctx, g, r, err)
	}
	return lease, err
}

// attempt looks without locking first: a look must not stop the writers of the
// scope, as the exclusive lock of a grant does.
func (s *Service) attempt(ctx context.Context, g fence.Guard, r Request) (Lease, error) {
	v, err := s.state.Read(ctx, state.Query{
		Guards: []fence.GuardID{g.ID}, Scopes: []fence.Scope{r.Scope}, Lines: []fence.Scope{r.Scope}, Absent: s.absent,
	})
	if err != nil {
		return Lease{}, fmt.Errorf("looking at %s: %w", r.Scope, err)
	}
	now, err := locksIn(v, g, r.Scope)
	if err != nil {
		return Lease{}, err
	}
	row := v.Scope(r.Scope, now.Writes)
	// Of what the caller holds itself, only the transaction knows whether it was
	// granted to another try of this request.
	if r.Retry == nil || row.Last.Holder != r.Holder || !row.Held(v.Now) {
		if err := r.refused(v, now, &row); err != nil && !r.ticketHolds(&row, v.Now) {
			return Lease{}, err
		}
	}
	return s.grant(ctx, g, r, false, "")
}

// refused says why the request is not granted the lock now, nil where it may be:
// nobody holds it, no delay runs, and nobody stands before it in the line.
func (r *Request) refused(v *state.View, g fence.Guard, row *state.Scope) error {
	head, there := v.Heads[r.Scope]
	if held := taken(g, row, v.Now); held != nil {
		if there {
			held.Waiting = 1 // at least
		}
		return held
	}
	mine := (r.Ticket != "" || r.visit != uuid.Nil) && head.PlaceID == r.place() && (r.visit == uuid.Nil || head.Visit == r.visit)
	if there && !mine {
		return &HeldError{Scope: r.Scope, Waiting: 1}
	}
	return nil
}

// taken says who holds a scope, or what delay runs there; nil where neither is so.
func taken(g fence.Guard, row *state.Scope, now time.Time) *HeldError {
	if row.Held(now) {
		return &HeldError{Scope: row.Scope, By: holding(row, now)}
	}
	// A lease that ran out: one that was released, or ended by force, is zero.
	if !row.LeaseUntil.IsZero() {
		if left := row.LeaseUntil.Add(g.LockDelay).Sub(now); left > 0 {
			return &HeldError{Scope: row.Scope, By: holding(row, now), Delay: left}
		}
	}
	return nil
}

// ticketHolds reports whether the lease was granted to the request's own ticket:
// to a call whose answer was lost. The owner is compared too: a ticket that two
// hosts share by mistake must not make both of them holders under one token.
func (r *Request) ticketHolds(row *state.Scope, now time.Time) bool {
	return r.Ticket != "" && row.Held(now) && granted(row) == r.place() && row.Last.Owner == r.Owner
}

// Take grants the lock on a scope to the caller whoever holds it. The caller has
// the right to; reason says why, in at most MaxReason printable bytes. The lease
// of the previous holder is over and its token is stale with the commit.
func (s *Service) Take(ctx context.Context, r Request, reason string) (Lease, error) {
	r.Wait, r.Ticket = 0, ""
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
		Requests: r.requests(), Lines: []fence.Scope{r.Scope}, Absent: s.absent,
		Decide: func(v *state.View) (state.Changes, error) {
			g, err := locksIn(v, g, r.Scope)
			if err != nil {
				return state.Changes{}, err
			}
			row := v.Scope(r.Scope, g.Writes)
			if lease, repeated, err = r.repeated(v, &row); repeated || err != nil {
				return state.Changes{}, err
			}
			if repeated = r.ticketHolds(&row, v.Now); repeated {
				lease = leaseOf(&row, v.Now)
				return state.Changes{DropPlaces: []state.PlaceID{r.place()}, Retries: r.remember(lease)}, nil
			}
			if !force {
				if err := r.refused(v, g, &row); err != nil {
					return state.Changes{}, err
				}
			}
			was, now = row, v.Now
			token, err := draw(v, &row)
			if err != nil {
				return state.Changes{}, err
			}
			row.Mark = fence.Mark{Generation: row.Mark.Current(), Token: token}
			row.Last = fence.Grant{Holder: r.Holder, Owner: r.Owner, At: v.Now}
			row.TTL, row.LeaseUntil = r.TTL, v.Now.Add(r.TTL)
			row.Ticket = ticketed(token, r.Ticket)
			begin(&row, v.Now)
			lease = leaseOf(&row, v.Now)
			c := state.Changes{Scopes: []state.Scope{row}, Retries: r.remember(lease)}
			if _, there := v.Heads[r.Scope]; r.visit != uuid.Nil || r.Ticket != "" && there {
				c.DropPlaces = []state.PlaceID{r.place()}
			}
			return c, nil
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
	}
	if !was.LeaseUntil.IsZero() { // not released: ended by this grant, or run out before
		e.Previous = named(was.Last.Holder, was.Last.Owner)
	}
	s.tell(ctx, e)
	if r.Retry != nil || r.Ticket != "" {
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

func holding(row *state.Scope, now time.Time) Holding {
	return Holding{Holder: row.Last.Holder, Owner: row.Last.Owner, Token: row.Mark.Token,
		Since: row.Last.At, Until: row.LeaseUntil, Left: row.LeaseUntil.Sub(now)}
}

// wrap says what was being done, except around errors that say it all.
func wrap(doing string, err error) error {
	for _, own := range []error{ErrHeld, ErrLost, ErrStale, ErrNeverGranted, ErrOtherHolder, ErrNoSuchGuard, ErrNotActive, ErrNoLocks, ErrInvalid, ErrClaimed, ErrSlotTooOld, idempotency.ErrReused} {
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
