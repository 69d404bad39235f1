package client

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// What an error of this package is, for errors.Is.
var (
	// ErrHeld: somebody else holds the lock, or came before. Error.Holder says who
	// holds it.
	ErrHeld = errors.New("lock held")
	// ErrLost: the lease is over or the token below the mark. Stop working.
	ErrLost = errors.New("lock lost")
	// ErrStale: the token is below the mark. Stop working.
	ErrStale = errors.New("fencing token stale")
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

func (e *Error) kind() error {
	switch e.Code {
	case "LockHeld":
		return ErrHeld
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
