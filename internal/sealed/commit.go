package sealed

import (
	"errors"
	"fmt"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/state"
)

// errOldName: the physical name is below the horizon, so the collector may be
// deleting it. The bytes must be sent again under a fresh name.
var errOldName = errors.New("sealed: the physical name is below the horizon")

// decide judges one operation on what the transaction read under its locks, and
// adds its changes. What it returns is the operation's result, not the
// transaction's. recorded are the named requests that the transaction has recorded.
func (op *operation) decide(v *state.View, mode state.Mode, ch *state.Changes, recorded map[*idempotency.Request]bool) error {
	answer, found, begun, err := op.earlier(v)
	switch {
	case err != nil:
		return err
	case found:
		return op.again(answer, v, mode, ch)
	}
	row, err := op.admit(v, mode, ch)
	if err != nil {
		return err
	}
	if op.apply == nil {
		return nil
	}
	if err := op.apply(v, row, ch); err != nil {
		return err
	}
	op.remember(v, begun || recorded[op.named], ch)
	if op.named != nil {
		recorded[op.named] = true
	}
	return nil
}

// admit is where an operation meets the fence.
func (op *operation) admit(v *state.View, mode state.Mode, ch *state.Changes) (*state.Scope, error) {
	g, ok := v.Guards[op.guard.ID]
	if !ok || g.Writes != fence.Sealed {
		return nil, fmt.Errorf("%w: %s", guarded.ErrGuardGone, op.scope)
	}
	row, exists := v.Scopes[op.scope]
	if !exists {
		row = state.NewScope(op.scope, g.Writes)
		row.EpochSince = v.Now
	}
	if row.Writes != fence.Sealed {
		return nil, fmt.Errorf("%w: %s is written %s", guarded.ErrGuardGone, op.scope, row.Writes)
	}
	verdict := fence.Judge(&g, row.Mark, op.request)
	switch verdict {
	case fence.Admitted:
		switch {
		case exists || op.request.Access == fence.Read:
		case mode == state.Exclusive:
			ch.Scopes = append(ch.Scopes, row)
		default:
			// The row tells the collector of the scope, and two shared writers
			// cannot both insert it.
			return nil, errNeedExclusive
		}
		return &row, nil
	case fence.Raises:
		if mode != state.Exclusive {
			return nil, errNeedExclusive
		}
		row.Mark = fence.Mark{Generation: row.Mark.Current(), Token: op.request.Token}
		row.Last = fence.Grant{Holder: op.caller, At: v.Now}
		// A lease from before the guard's issuer changed ends with its token.
		row.LeaseUntil, row.TTL = time.Time{}, 0
		ch.Scopes = append(ch.Scopes, row)
		return &row, nil
	}
	refusal := fence.Refuse(verdict, op.scope, &g, row.Mark, op.request)
	refusal.Last, refusal.Now = row.Last, v.Now
	return nil, refusal
}
