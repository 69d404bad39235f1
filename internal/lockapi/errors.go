package lockapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/eventlog"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/session"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/state"
)

// Errors that are of this API alone.
var (
	errBadRequest = errors.New("the request cannot be understood")
	errTooLarge   = errors.New("the body is too large")
	errDenied     = errors.New("access denied")
	errNoCall     = errors.New("there is no such call")
	errMethod     = errors.New("the call has other methods")
)

// answer is how an error reads for a client.
type answer struct {
	err    error
	status int
	code   string
}

// answers is every status and code of this API but those of signatures, which
// have a table of their own. The first that an error wraps counts, so what says
// most about the outcome stands above.
var answers = []answer{
	{err: state.ErrUnknown, status: http.StatusGatewayTimeout, code: "OutcomeUnknown"},

	{err: idempotency.ErrReused, status: http.StatusUnprocessableEntity, code: "IdempotencyKeyReused"},
	{err: idempotency.ErrBadKey, status: http.StatusBadRequest, code: "BadRequest"},

	{err: locks.ErrHeld, status: http.StatusConflict, code: "LockHeld"},
	{err: locks.ErrLost, status: http.StatusPreconditionFailed, code: "LockLost"},
	{err: locks.ErrStale, status: http.StatusPreconditionFailed, code: "StaleFencingToken"},
	{err: locks.ErrNeverGranted, status: http.StatusBadRequest, code: "InvalidFencingToken"},
	{err: locks.ErrOtherHolder, status: http.StatusForbidden, code: "OtherHolder"},
	{err: locks.ErrNoSuchGuard, status: http.StatusNotFound, code: "NoSuchGuard"},
	{err: locks.ErrScopeOverlap, status: http.StatusConflict, code: "ScopeOverlap"},
	{err: locks.ErrNoLocks, status: http.StatusBadRequest, code: "NoLocks"},
	{err: locks.ErrClaimed, status: http.StatusConflict, code: "AlreadyClaimed"},
	{err: locks.ErrSlotTooOld, status: http.StatusBadRequest, code: "SlotTooOld"},
	{err: locks.ErrInvalid, status: http.StatusBadRequest, code: "InvalidArgument"},
	{err: locks.ErrNotActive, status: http.StatusServiceUnavailable, code: "GuardNotActive"},
	{err: locks.ErrCrowded, status: http.StatusServiceUnavailable, code: "SlowDown"},

	{err: guards.ErrInvalid, status: http.StatusBadRequest, code: "InvalidArgument"},
	{err: guards.ErrNotBuilt, status: http.StatusNotImplemented, code: "NotImplemented"},
	{err: guards.ErrOverlap, status: http.StatusConflict, code: "GuardOverlap"},
	{err: guards.ErrDiffers, status: http.StatusConflict, code: "GuardDiffers"},
	{err: guards.ErrFixed, status: http.StatusConflict, code: "GuardFixed"},
	{err: guards.ErrHoldsObjects, status: http.StatusConflict, code: "GuardHoldsObjects"},
	{err: guards.ErrMark, status: http.StatusConflict, code: "MarkOutOfRange"},
	{err: guards.ErrNoSuchGuard, status: http.StatusNotFound, code: "NoSuchGuard"},
	{err: guards.ErrChanging, status: http.StatusServiceUnavailable, code: "GuardNotActive"},

	{err: fence.ErrBadToken, status: http.StatusBadRequest, code: "InvalidFencingToken"},
	{err: fence.ErrBadScope, status: http.StatusBadRequest, code: "InvalidScope"},
	{err: errBadRequest, status: http.StatusBadRequest, code: "BadRequest"},
	{err: errTooLarge, status: http.StatusRequestEntityTooLarge, code: "EntityTooLarge"},
	{err: errDenied, status: http.StatusForbidden, code: "AccessDenied"},
	{err: errNoCall, status: http.StatusNotFound, code: "NoSuchCall"},
	{err: errMethod, status: http.StatusMethodNotAllowed, code: "MethodNotAllowed"},
	{err: session.ErrTooLong, status: http.StatusBadRequest, code: "InvalidArgument"},
	{err: auth.ErrUnknownKey, status: http.StatusForbidden, code: "InvalidAccessKeyId"},
	{err: auth.ErrBadToken, status: http.StatusBadRequest, code: "InvalidToken"},
	{err: auth.ErrExpired, status: http.StatusBadRequest, code: "ExpiredToken"},
	{err: sigv4.ErrAnonymous, status: http.StatusForbidden, code: "AccessDenied"},

	{err: eventlog.ErrCrowded, status: http.StatusServiceUnavailable, code: "SlowDown"},
	{err: state.ErrBusy, status: http.StatusServiceUnavailable, code: "SlowDown"},
	{err: state.ErrUnavailable, status: http.StatusServiceUnavailable, code: "ServiceUnavailable"},
	{err: guards.ErrLeaseOver, status: http.StatusServiceUnavailable, code: "ServiceUnavailable"},
	{err: guards.ErrNotExported, status: http.StatusConflict, code: "ObjectsNotExported"},
	{err: guards.ErrNotTaken, status: http.StatusConflict, code: "ObjectsNotTaken"},
	// A call of several steps that ran out of time may have taken some of them.
	{err: context.DeadlineExceeded, status: http.StatusGatewayTimeout, code: "OutcomeUnknown"},
	{err: context.Canceled, status: http.StatusGatewayTimeout, code: "OutcomeUnknown"},
}

var internalError = answer{status: http.StatusInternalServerError, code: "InternalError"}

// answerTo finds the answer to an error, and its message.
func answerTo(err error) (answer, string) {
	if e, ok := errors.AsType[*sigv4.Error](err); ok {
		return answer{status: e.Status(), code: string(e.Code)}, e.Message
	}
	if errors.Is(err, sigv4.ErrAnonymous) {
		err = fmt.Errorf("%w: sign it, as with curl --aws-sigv4 aws:amz:us-east-1:s3 --user KEY:SECRET", sigv4.ErrAnonymous)
	}
	for _, a := range answers {
		if errors.Is(err, a.err) {
			return a, err.Error()
		}
	}
	return internalError, "an internal error; the request id finds it in the log"
}

// extra is what a program may need of an error besides its code.
func extra(err error) map[string]any {
	if e, ok := errors.AsType[*locks.HeldError](err); ok {
		out := map[string]any{"scope": e.Scope.String(), "waiting": e.Waiting}
		switch {
		case e.Delay > 0:
			out["delay_ms"] = e.Delay.Milliseconds()
		case e.By.Holder != "":
			out["holder"] = holderOf(e.By)
		}
		if e.Position > 0 {
			out["position"] = e.Position
		}
		return out
	}
	if e, ok := errors.AsType[*locks.ClaimedError](err); ok {
		return claimFields(e.By)
	}
	if e, ok := errors.AsType[*locks.LostError](err); ok {
		return map[string]any{"scope": e.Scope.String(), "token": token(e.Token), "highest": token(e.Highest)}
	}
	if e, ok := errors.AsType[*locks.TokenError](err); ok {
		return map[string]any{"scope": e.Scope.String(), "token": token(e.Token), "highest": token(e.Highest)}
	}
	if e, ok := errors.AsType[*locks.NoSuchGuardError](err); ok {
		return map[string]any{"scope": e.Scope.String(), "command": e.Command()}
	}
	if e, ok := errors.AsType[*locks.ScopeOverlapError](err); ok {
		out := map[string]any{"scope": e.Scope.String(), "guard": e.Guard.String()}
		if !e.Parent.IsZero() {
			out["parent"] = e.Parent.String()
		}
		return out
	}
	if e, ok := errors.AsType[*guards.OverlapError](err); ok {
		return map[string]any{"pattern": e.Pattern.String(), "with": e.With.String()}
	}
	if e, ok := errors.AsType[*guards.HoldsObjectsError](err); ok {
		return map[string]any{"pattern": e.Guard.Pattern.String(), "object": e.Object.String(), "plain": e.Plain}
	}
	return nil
}
