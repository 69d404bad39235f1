package locks

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/state"
)

// requests is what a transaction locks and reads for a request that names itself;
// nothing for one that does not.
func requests(named *idempotency.Request) []state.Request {
	if named == nil {
		return nil
	}
	return []state.Request{named.Locked()}
}

// remembered is what a transaction writes for the repetitions of a request that
// names itself.
func remembered(named *idempotency.Request, now time.Time, answer string) []state.Retry {
	if named == nil {
		return nil
	}
	return []state.Retry{named.Record(now, []byte(answer))}
}

// before is what an earlier try of a request was answered.
func before(named *idempotency.Request, v *state.View) (answer string, found bool, err error) {
	if named == nil {
		return "", false, nil
	}
	b, found, err := named.Find(v.Retries)
	return string(b), found, err
}

func (r *Request) requests() []state.Request { return requests(r.Retry) }

// remember is what a grant writes for the request's repetitions: the token. The
// rest of the answer is the scope's row.
func (r *Request) remember(l Lease) []state.Retry {
	return remembered(r.Retry, l.Granted, l.Mark.Token.String())
}

// repeated finds the lease that an earlier try of the request was granted. A
// lease that is over is [ErrLost] rather than the old answer.
func (r *Request) repeated(v *state.View, row *state.Scope) (Lease, bool, error) {
	answer, found, err := before(r.Retry, v)
	if err != nil || !found {
		return Lease{}, false, err
	}
	token, err := fence.ParseToken(answer)
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
		Requests: r.requests(),
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

// Answered finds what a request that names itself was answered, for changes that are
// more than one transaction. found is false where no try has ended in a success.
func (s *Service) Answered(ctx context.Context, named *idempotency.Request) (answer []byte, found bool, err error) {
	err = state.Run(ctx, s.state, &state.Tx{Requests: requests(named), Decide: func(v *state.View) (state.Changes, error) {
		text, there, err := before(named, v)
		answer, found = []byte(text), there
		return state.Changes{}, err
	}})
	if err != nil {
		return nil, false, wrap("looking for the answer to a named request", err)
	}
	return answer, found, nil
}

// Remember records the answer of a request that names itself after it took effect,
// unless another try did. If that fails the request runs again when it is repeated,
// so it must be one that does no harm then.
func (s *Service) Remember(ctx context.Context, named *idempotency.Request, answer []byte) error {
	err := state.Run(ctx, s.state, &state.Tx{Requests: requests(named), Decide: func(v *state.View) (state.Changes, error) {
		if _, found, err := before(named, v); found || err != nil {
			return state.Changes{}, err
		}
		return state.Changes{Retries: remembered(named, v.Now, string(answer))}, nil
	}})
	if err != nil {
		return wrap("remembering the answer to a named request", err)
	}
	return nil
}

// A mark as it is remembered.
func markText(m fence.Mark) string { return fmt.Sprintf("%d %d", m.Current(), m.Token) }

func parseMark(answer string) (m fence.Mark, err error) {
	generation, token, _ := strings.Cut(answer, " ")
	n, err := strconv.ParseInt(generation, 10, 64)
	if err == nil {
		m.Generation = fence.Generation(n)
		n, err = strconv.ParseInt(token, 10, 64)
		m.Token = fence.Token(n)
	}
	if err != nil {
		return m, fmt.Errorf("%w: the remembered mark %q: %w", ErrInvariant, answer, err)
	}
	return m, nil
}
