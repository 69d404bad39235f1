package locks

import (
	"context"
	"fmt"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

func (r *Request) retries() []state.RetryID {
	if r.Retry == nil {
		return nil
	}
	return []state.RetryID{*r.Retry}
}

// remember is what a grant writes for the request's repetitions: the token. The
// rest of the answer is the scope's row.
func (r *Request) remember(l Lease) []state.Retry {
	if r.Retry == nil {
		return nil
	}
	return []state.Retry{{ID: *r.Retry, Result: []byte(l.Mark.Token.String())}}
}

// repeated finds the lease that an earlier try of the request was granted. A
// lease that is over is [ErrLost] rather than the old answer.
func (r *Request) repeated(v *state.View, row *state.Scope) (Lease, bool, error) {
	if r.Retry == nil {
		return Lease{}, false, nil
	}
	b, ok := v.Retries[*r.Retry]
	if !ok {
		return Lease{}, false, nil
	}
	token, err := fence.ParseToken(string(b))
	if err != nil {
		return Lease{}, false, fmt.Errorf("%w: the remembered answer of a request for %s: %w", ErrInvariant, r.Scope, err)
	}
	if row.Mark.Token != token || row.Last.Holder != r.Holder || !row.Held(v.Now) {
		return Lease{}, false, lostError(row, token, v.Now)
	}
	return leaseOf(row, v.Now), true, nil
}

// earlier finds what an earlier try of a request was granted, before the request
// takes its place in the line. The scope's lock is shared: a try that is about to
// commit is waited for, and writers are not.
func (s *Service) earlier(ctx context.Context, g fence.Guard, r Request) (l Lease, found bool, err error) {
	err = state.Run(ctx, s.state, &state.Tx{
		Guards: []fence.GuardID{g.ID}, Scopes: []state.ScopeLock{{Scope: r.Scope, Mode: state.Shared}},
		Retries: r.retries(),
		Decide: func(v *state.View) (state.Changes, error) {
			g, err := locksIn(v, g, r.Scope)
			if err != nil {
				return state.Changes{}, err
			}
			row := v.Scope(r.Scope, g.Writes)
			l, found, err = r.repeated(v, &row)
			return state.Changes{}, err
		},
	})
	if err != nil {
		return Lease{}, false, wrap("granting the lock on "+r.Scope.String(), err)
	}
	if !found {
		return Lease{}, false, nil
	}
	l, err = s.answer(ctx, l)
	return l, true, err
}
