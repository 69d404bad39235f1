package locks

import (
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
// lease that is over is [ErrLost] rather than the old answer: it may have been
// given back because the first try could not be answered.
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
