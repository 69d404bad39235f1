package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// What an error of this package is, for errors.Is.
var (
	// ErrHeld: somebody else holds the lock, or came before. Error.Holder says who
	// holds it.
	ErrHeld = errors.New("lock held")
	// ErrClaimed: somebody else has the slot. Do not run. Error.Claim says who has it.
	ErrClaimed = errors.New("slot claimed")
	// ErrKeyReused: the Idempotency-Key belongs to another request. Nothing happened;
	// choose a new key for a new request.
	ErrKeyReused = errors.New("idempotency key belongs to another request")
	// ErrLost: the lease is over or the token below the mark. Stop working.
	ErrLost = errors.New("lock lost")
	// ErrStale: the token is below the mark. Stop working.
	ErrStale = errors.New("fencing token stale")
	// ErrMaybeLost: renewals were not answered for so long that the lease may be
	// over. Stop working; what is still under way is refused if it is.
	ErrMaybeLost = errors.New("lock may be lost")
	// ErrReleased: the hold was released by its holder.
	ErrReleased = errors.New("lock released")
	// ErrNoSuchGuard: no guard makes this a scope; the message has the command.
	ErrNoSuchGuard = errors.New("no such guard")
	// ErrDenied: the credentials are wrong or may not do this.
	ErrDenied = errors.New("access denied")
	// ErrInvalid: the request is wrong as it is; repeating it cannot help.
	ErrInvalid = errors.New("invalid request")
	// ErrConflict: the request contradicts what there is.
	ErrConflict = errors.New("conflict")
	// ErrUnavailable: the service answered that it cannot do it now. Nothing
	// happened; try again later.
	ErrUnavailable = errors.New("service unavailable")
	// ErrUnknownOutcome: it may have happened or not.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrUnreachable: there was no answer that could be understood. Unless the
	// connection was refused it may have happened or not.
	ErrUnreachable = errors.New("service unreachable")
)

// Error is an answer of the service other than success.
type Error struct {
	// Status is the HTTP status, Code the service's name for the error.
	Status int
	Code   string
	// Message is for people: what, where, and what to do.
	Message   string
	RequestID string
	// Holder is set with ErrHeld where somebody holds the lock; nil where it is kept
	// for those who came before, or where a Delay runs.
	Holder *Holder
	// Delay is what is left of the guard's lock_delay, with ErrHeld.
	Delay time.Duration
	// Position is the place in the line that the caller's ticket has, 1 for the next
	// and zero for none; Waiting is how many wait. With ErrHeld.
	Position, Waiting int
	// Claim is set with ErrClaimed.
	Claim *Claim
	// Highest is the mark, with ErrLost and ErrStale.
	Highest int64
}

// Error is the service's message, and its code where there is none.
func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("%s (HTTP %d)", e.Code, e.Status)
	}
	return e.Message
}

// Is reports what the error is; see the variables of this package.
func (e *Error) Is(target error) bool { return e.kind() == target }

// unaskedError is around an error of which it is known that the service did not see
// the call.
type unaskedError struct{ error }

func (e *unaskedError) Unwrap() error { return e.error }

// notAsked marks the errors of a transport that never had a connection to send on.
func notAsked(err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return &unaskedError{err}
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	if untrusted || plain {
		return &unaskedError{err}
	}
	return err
}

// isLostAnswer reports a failure behind which the call may have taken effect.
func isLostAnswer(err error) bool {
	if _, unasked := errors.AsType[*unaskedError](err); unasked {
		return false
	}
	return errors.Is(err, ErrUnreachable) || errors.Is(err, ErrUnknownOutcome)
}

// mayPass reports a failure that another try may not meet.
func mayPass(err error) bool {
	return errors.Is(err, ErrUnreachable) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknownOutcome)
}

// HoldError says why a [Held] has ended: it is the cause of its Context.
type HoldError struct {
	Scope string
	Token int64
	// Kind is ErrLost, ErrMaybeLost or ErrReleased.
	Kind error
	// Err is what the service answered, or what the last renewal failed with; nil
	// with ErrReleased.
	Err error

	// of is the hold that ended: one that was taken under the context of another
	// ends with that one's error as its cause.
	of *Held
}

func (e *HoldError) Error() string {
	switch {
	case e.Err == nil:
		return fmt.Sprintf("the lock on %s under token %d: %v", e.Scope, e.Token, e.Kind)
	case errors.Is(e.Kind, ErrLost):
		return e.Err.Error()
	}
	return fmt.Sprintf("the lock on %s under token %d may be lost: %v. Stop writing; take the lock again", e.Scope, e.Token, e.Err)
}

// Unwrap is the kind and the error.
func (e *HoldError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

func (e *Error) kind() error {
	switch e.Code {
	case "LockHeld":
		return ErrHeld
	case "AlreadyClaimed":
		return ErrClaimed
	case "IdempotencyKeyReused":
		return ErrKeyReused
	case "LockLost":
		return ErrLost
	case "StaleFencingToken":
		return ErrStale
	case "NoSuchGuard":
		return ErrNoSuchGuard
	case "OutcomeUnknown":
		return ErrUnknownOutcome
	}
	switch {
	case e.Status == http.StatusForbidden:
		return ErrDenied
	case e.Status == http.StatusConflict:
		return ErrConflict
	case e.Status == http.StatusServiceUnavailable:
		return ErrUnavailable
	case e.Status >= http.StatusInternalServerError && e.Status != http.StatusNotImplemented:
		return ErrUnknownOutcome
	}
	return ErrInvalid
}
