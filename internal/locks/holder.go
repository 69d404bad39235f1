package locks

import (
	"context"
	"errors"
	"time"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/state"
)

// Renew extends a lease by ttl from now on; zero: by what it had. [ErrLost]: it
// is over, even if nobody else has the lock yet, since the database's clock has
// the last word on who may renew. [ErrOtherHolder], [ErrNeverGranted]: the
// caller never had it.
func (s *Service) Renew(ctx context.Context, sc fence.Scope, token fence.Token, holder string, ttl time.Duration) (Lease, error) {
	if ttl != 0 {
		if err := checkTTL(ttl); err != nil {
			return Lease{}, err
		}
	}
	var lease Lease
	var now time.Time
	err := s.own(ctx, sc, token, holder, nil, func(v *state.View, row *state.Scope) (bool, error) {
		if !row.Held(v.Now) {
			return false, lostError(row, token, v.Now)
		}
		if ttl != 0 {
			row.TTL = ttl
		}
		now = v.Now
		row.LeaseUntil = v.Now.Add(row.TTL)
		lease = leaseOf(row, v.Now)
		return true, nil
	})
	if err != nil {
		var lost *LostError
		if errors.As(err, &lost) {
			s.tell(ctx, events.Event{Time: lost.Now, Kind: events.RenewLost, Scope: sc, Token: token, Highest: lost.Highest, AccessKey: holder, Reason: err.Error()})
		}
		return Lease{}, wrap("renewing the lock on "+sc.String(), err)
	}
	s.tell(ctx, events.Event{Time: now, Kind: events.Renewed, Scope: sc, Token: token, Highest: token, Holder: holder, Owner: lease.Owner, AccessKey: holder})
	return lease, nil
}

// Release ends a lease and keeps the mark (F1). Releasing again, or after the
// lease ran out, is fine as long as nobody else was granted the lock.
func (s *Service) Release(ctx context.Context, sc fence.Scope, token fence.Token, holder string) error {
	return s.ReleaseOnce(ctx, sc, token, holder, nil)
}

// ReleaseOnce is Release for a request that may name itself: its repetitions are
// answered as it was, also when somebody else was granted the lock since.
func (s *Service) ReleaseOnce(ctx context.Context, sc fence.Scope, token fence.Token, holder string, retry *idempotency.Request) error {
	e := events.Event{Kind: events.Released, Scope: sc, Token: token, Highest: token, Holder: holder, AccessKey: holder}
	released := false
	err := s.own(ctx, sc, token, holder, retry, func(v *state.View, row *state.Scope) (bool, error) {
		e.Time, e.Owner = v.Now, row.Last.Owner
		released = !row.LeaseUntil.IsZero()
		row.LeaseUntil, row.TTL = time.Time{}, 0
		return released, nil
	})
	if err != nil {
		return wrap("releasing the lock on "+sc.String(), err)
	}
	s.lines.hurry(sc)
	if released {
		s.tell(ctx, e)
	}
	return nil
}

// own changes a scope's row for the holder of its mark, comparing token and
// holder in the transaction that writes. change reports whether it changed it. For a
// repetition of a request that names itself nothing is compared and nothing changed.
//
// The guard is not asked: who holds a lock may end it whatever became of that.
func (s *Service) own(ctx context.Context, sc fence.Scope, token fence.Token, holder string, retry *idempotency.Request, change func(*state.View, *state.Scope) (bool, error)) error {
	if sc.IsZero() {
		return invalid("no scope is named")
	}
	if token < 1 {
		return invalid("token is %d; it must be what the lock was granted with", token)
	}
	err := state.Run(ctx, s.state, &state.Tx{
		Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}}, Requests: requests(retry),
		Decide: func(v *state.View) (state.Changes, error) {
			if _, found, err := before(retry, v); found || err != nil {
				return state.Changes{}, err
			}
			row, ok := v.Scopes[sc]
			switch {
			case !ok || token > row.Mark.Token:
				return state.Changes{}, &TokenError{Scope: sc, Token: token, Highest: row.Mark.Token, Last: row.Last, Now: v.Now, kind: ErrNeverGranted}
			case token < row.Mark.Token:
				return state.Changes{}, lostError(&row, token, v.Now)
			case row.Last.Holder != holder:
				return state.Changes{}, &OtherHolderError{sc, token}
			}
			changed, err := change(v, &row)
			if err != nil {
				return state.Changes{}, err
			}
			ch := state.Changes{Retries: remembered(retry, v.Now, "")}
			if changed {
				ch.Scopes = []state.Scope{row}
			}
			return ch, nil
		},
	})
	s.alarm(ctx, sc, err)
	return err
}

func lostError(row *state.Scope, token fence.Token, now time.Time) error {
	return &LostError{Scope: row.Scope, Token: token, Highest: row.Mark.Token, Last: row.Last, Ended: row.LeaseUntil, Now: now}
}
