package main

import (
	"errors"
	"fmt"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// Exit codes. Scripts rely on them.
const (
	exitDone        = 0
	exitError       = 1
	exitUsage       = 2
	exitHeld        = 3
	exitLost        = 4
	exitUnreachable = 5
)

// usageError is a command line that cannot be understood.
type usageError struct{ what string }

func (e *usageError) Error() string { return e.what }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// codeError is an end with an exit code of its own. Without an error there is nothing
// to say.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

func exitCode(err error) int {
	var u *usageError
	var own *codeError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &u), misread(err):
		return exitUsage
	case errors.Is(err, client.ErrHeld), errors.Is(err, client.ErrClaimed):
		return exitHeld
	case errors.Is(err, client.ErrLost), errors.Is(err, client.ErrStale):
		return exitLost
	case errors.Is(err, client.ErrUnreachable), errors.Is(err, client.ErrUnavailable),
		errors.Is(err, upstream.ErrUnreachable), errors.Is(err, state.ErrUnavailable):
		return exitUnreachable
	}
	return exitError
}

// misread reports whether the service could not read what was typed: a scope
// without its slash, a duration that is none.
func misread(err error) bool {
	var e *client.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "BadRequest", "InvalidScope", "InvalidArgument":
		return true
	}
	return false
}
