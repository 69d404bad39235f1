package locks

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
)

// Status is a scope as the lock service sees it.
type Status struct {
	Scope fence.Scope
	Mark  fence.Mark
	// Last is the latest grant, or the latest raise.
	Last fence.Grant
	// Held is nil where nobody holds the lock.
	Held *Holding
	// Delay is what is left of the guard's lock delay; zero where none runs, and
	// where the guards are not known just now.
	Delay time.Duration
	// Waiting is how many wait for it, over all processes; First are the first of
	// them, MaxWaiters at most, in order.
	Waiting int
	First   []Waiter
}

// Waiter is somebody in a line.
type Waiter struct {
	Holder, Owner string
	// Since is when the place was taken, by the database's clock.
	Since time.Time
	// Calling says that a call waits now; otherwise the place is kept for the next.
	Calling bool
}

// MaxPage is the most that one List returns.
const MaxPage = 1000

// List shows up to limit scopes, at most MaxPage, whose written form begins with
// prefix and lies above after, in bytewise order. Scopes that were never locked
// nor written have no entry. more says that there are further ones.
func (s *Service) List(ctx context.Context, prefix, after string, limit int) (page []Status, more bool, err error) {
	limit = min(max(limit, 1), MaxPage)
	rows, now, err := s.state.ListScopes(ctx, prefix, after, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("listing the scopes: %w", err)
	}
	if more = len(rows) > limit; more {
		rows = rows[:limit]
	}
	scopes := make([]fence.Scope, len(rows))
	for i := range rows {
		scopes[i] = rows[i].Scope
	}
	lines, err := s.state.ListPlaces(ctx, scopes, MaxWaiters, s.absent)
	if err != nil {
		return nil, false, fmt.Errorf("listing who waits: %w", err)
	}
	// Shown only: a list of scopes is to be had where no lock is.
	guards, guardsErr := s.guards.Current()
	for i := range rows {
		row := &rows[i]
		line := lines[row.Scope]
		st := Status{Scope: row.Scope, Mark: row.Mark, Last: row.Last, Waiting: line.Length}
		for _, p := range line.First {
			st.First = append(st.First, Waiter{p.Holder, p.Owner, p.Since, p.Visit != uuid.Nil})
		}
		if row.Held(now) {
			h := holding(row, now)
			st.Held = &h
		} else if guardsErr == nil {
			if g, err := lookUp(guards, row.Scope); err == nil {
				if t := taken(g, row, now); t != nil {
					st.Delay = t.Delay
				}
			}
		}
		page = append(page, st)
	}
	return page, more, nil
}

// Check compares a token with the mark as it stands at one moment of the call:
// for resources that cannot compare in the same step as they act, so it only
// advises. [ErrStale], [ErrNeverGranted] (of tokens of our own only). A scope that
// was reset asks for the generation, zero where none is named: a token from before
// the reset may be the larger number (F8). It returns the mark.
func (s *Service) Check(ctx context.Context, sc fence.Scope, generation fence.Generation, token fence.Token) (fence.Mark, error) {
	if token < 1 {
		return fence.Mark{}, invalid("token is %d; it must be 1 or more", token)
	}
	return underGuard(ctx, s, sc, func(g fence.Guard) (fence.Mark, error) {
		v, err := s.state.Read(ctx, state.Query{Guards: []fence.GuardID{g.ID}, Scopes: []fence.Scope{sc}})
		if err != nil {
			return fence.Mark{}, fmt.Errorf("checking a token of %s: %w", sc, err)
		}
		if g, err = guardIn(v, g, sc); err != nil {
			return fence.Mark{}, err
		}
		row := v.Scope(sc, g.Writes)
		now := row.Mark.Current()
		switch {
		case g.Tokens == fence.None:
			return row.Mark, fmt.Errorf("%w: guard %s has tokens: none, so no token means anything there", ErrNoLocks, g.Pattern)
		case generation != now && (generation != 0 || now != fence.FirstGeneration):
			return row.Mark, invalid("%s is in generation %d: name it with the token, as %s?generation=%d", sc, now, sc, now)
		case token < row.Mark.Token:
			return row.Mark, &TokenError{Scope: sc, Token: token, Highest: row.Mark.Token, Last: row.Last, Now: v.Now, kind: ErrStale}
		case token > row.Mark.Token && g.Issuer == fence.Own:
			return row.Mark, &TokenError{Scope: sc, Token: token, Highest: row.Mark.Token, Last: row.Last, Now: v.Now, kind: ErrNeverGranted}
		}
		return row.Mark, nil
	})
}

// Raise raises the mark of a scope without granting it to anybody, so that every
// token so far is stale and every lease over. The caller has the right to.
//
// Where the tokens are our own, the new mark is drawn from the counter; to, if
// not zero, makes the counter continue above it first, so that the counter never
// stays below a mark (F2) and no token is in two scopes. With an external issuer
// the mark becomes to. A request that names itself is given the mark of its first
// try when it is repeated.
func (s *Service) Raise(ctx context.Context, sc fence.Scope, to fence.Token, accessKey, reason string, retry *idempotency.Request) (fence.Mark, error) {
	if to < 0 {
		return fence.Mark{}, invalid("a mark cannot be %d", to)
	}
	if err := checkText("reason", reason, MaxReason); err != nil {
		return fence.Mark{}, err
	}
	return underGuard(ctx, s, sc, func(g fence.Guard) (fence.Mark, error) {
		if g.Issuer == fence.Own && to != 0 {
			if err := s.reachable(ctx, to); err != nil {
				return fence.Mark{}, err
			}
		}
		return s.raise(ctx, g, sc, to, accessKey, reason, retry)
	})
}

func (s *Service) raise(ctx context.Context, g fence.Guard, sc fence.Scope, to fence.Token, accessKey, reason string, retry *idempotency.Request) (fence.Mark, error) {
	return s.remark(ctx, g, sc, accessKey, reason, retry, events.Raised, func(v *state.View, g fence.Guard, row *state.Scope) error {
		if to != 0 && to <= row.Mark.Token {
			return invalid("the mark of %s is %d already; a mark never falls", sc, row.Mark.Token)
		}
		if g.Issuer == fence.External {
			if to == 0 {
				return invalid("the tokens of %s come from an external issuer: say to which the mark is to be raised", sc)
			}
			row.Mark = fence.Mark{Generation: row.Mark.Current(), Token: to}
			return nil
		}
		if to != 0 {
			if err := v.Lift(to); err != nil {
				return fmt.Errorf("lifting the counter: %w", err)
			}
		}
		token, err := draw(v, row)
		if err != nil {
			return err
		}
		row.Mark = fence.Mark{Generation: row.Mark.Current(), Token: token}
		return nil
	})
}

// reachable refuses a mark from which the counter could not go on, and one in the
// upper half of its range: the counter is the whole deployment's, and whoever may
// raise one scope must not use it up for the others. Grants alone do not get there:
// half of the range is 2^39 of them.
func (s *Service) reachable(ctx context.Context, to fence.Token) error {
	const low = 1<<fence.CounterBits - 1
	d, err := s.state.Deployment(ctx)
	if err != nil {
		return fmt.Errorf("reading the deployment: %w", err)
	}
	its := int64(to >> fence.CounterBits)
	if to >= fence.MaxGranted || its > d.Incarnation || its == d.Incarnation && to&low > low/2 {
		return invalid("%d is more than the counter of this deployment may be raised to, %d (half of its range in incarnation %d); leave the number out to take its next one",
			to, d.Incarnation<<fence.CounterBits|low/2, d.Incarnation)
	}
	return nil
}

// Reset begins a new generation of a scope whose external issuer started its
// numbers over. From then on requests must name the generation. A request that names
// itself begins one generation, however often it is repeated.
func (s *Service) Reset(ctx context.Context, sc fence.Scope, accessKey, reason string, retry *idempotency.Request) (fence.Mark, error) {
	if reason == "" {
		return fence.Mark{}, invalid("resetting a scope needs a reason")
	}
	if err := checkText("reason", reason, MaxReason); err != nil {
		return fence.Mark{}, err
	}
	return underGuard(ctx, s, sc, func(g fence.Guard) (fence.Mark, error) {
		return s.remark(ctx, g, sc, accessKey, reason, retry, events.Reset, func(_ *state.View, g fence.Guard, row *state.Scope) error {
			if g.Issuer != fence.External {
				return invalid("the tokens of %s are s3fence's own and never start over; raise the mark instead", sc)
			}
			row.Mark = fence.Mark{Generation: row.Mark.Current() + 1}
			return nil
		})
	})
}

// remark moves a mark by hand and ends the lease.
func (s *Service) remark(ctx context.Context, g fence.Guard, sc fence.Scope, accessKey, reason string, retry *idempotency.Request, kind events.Kind, move func(*state.View, fence.Guard, *state.Scope) error) (fence.Mark, error) {
	e := events.Event{Kind: kind, Scope: sc, AccessKey: accessKey, Reason: reason}
	var mark fence.Mark
	repeated := false
	pause.At(pause.BeforeRaise)
	err := state.Run(ctx, s.state, &state.Tx{
		Guards: []fence.GuardID{g.ID}, Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}},
		Requests: requests(retry),
		Decide: func(v *state.View) (state.Changes, error) {
			g, err := guardIn(v, g, sc)
			if err != nil {
				return state.Changes{}, err
			}
			answer, found, err := before(retry, v)
			if err != nil {
				return state.Changes{}, err
			}
			if found {
				repeated = true
				mark, err = parseMark(answer)
				return state.Changes{}, err
			}
			row := v.Scope(sc, g.Writes)
			was := row
			if err := move(v, g, &row); err != nil {
				return state.Changes{}, err
			}
			if !was.Mark.Below(row.Mark) {
				return state.Changes{}, fmt.Errorf("%w: the mark of %s would not rise (F1)", ErrInvariant, sc)
			}
			if was.Held(v.Now) {
				e.Previous = named(was.Last.Holder, was.Last.Owner)
			}
			e.Time, e.Token, e.Highest = v.Now, was.Mark.Token, row.Mark.Token
			row.Last = fence.Grant{Holder: accessKey, At: v.Now}
			row.LeaseUntil, row.TTL = time.Time{}, 0
			begin(&row, v.Now)
			mark = row.Mark
			return state.Changes{Scopes: []state.Scope{row}, Retries: remembered(retry, v.Now, markText(mark))}, nil
		},
	})
	if err != nil {
		s.alarm(ctx, sc, err)
		return fence.Mark{}, wrap("raising the mark of "+sc.String(), err)
	}
	if !repeated {
		pause.At(pause.AfterRaise)
		s.lines.hurry(sc)
		s.tell(ctx, e)
	}
	if s.witness != nil {
		if err := s.witness.Stand(ctx, sc, mark); err != nil {
			return mark, fmt.Errorf("%w: the mark of %s is raised to %d, but the witness for it does not stand: %w", state.ErrUnknown, sc, mark.Token, err)
		}
	}
	return mark, nil
}
