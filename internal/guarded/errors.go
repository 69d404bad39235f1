package guarded

import (
	"errors"

	"github.com/s3fence/s3fence/internal/state"
)

// Errors of Writers and Readers beside those of other packages. With each of
// them but ErrUndecided nothing took effect.
var (
	// ErrStore: the store did not do its part; 503, to be sent again. It wraps
	// state.ErrUnavailable, since the remedy is the same.
	ErrStore error = storeError{}
	// ErrGuardGone: the guard was removed or changed meanwhile; 503, the request
	// must be looked at afresh.
	ErrGuardGone = errors.New("the guard of this key has just been changed")
	// ErrUndecided: an earlier try of the request, or another request for the same
	// upload, has left for the store, and may take effect yet; 504. Sent again it may
	// learn the outcome; ending the upload decides it.
	ErrUndecided = errors.New("the upload is being completed by another request, which may take effect yet")
	// ErrOtherToken: the request's token is not the one that its upload belongs
	// to; 400 InvalidFencingToken.
	ErrOtherToken = errors.New("an upload belongs to the token that created it")
	// ErrPartsUnknown: nobody knows where the parts of an object begin; 501.
	ErrPartsUnknown = errors.New("the parts of this object were not recorded when it was uploaded; read it by Range")
	// ErrTooLarge: a body of unknown length grew past what parts allow; 400
	// EntityTooLarge.
	ErrTooLarge = errors.New("the body is too large")
	// ErrLostBytes: the store does not have the bytes that a row points at; 500
	// and an alarm, never a 404: an acknowledged write cannot be read (F6).
	ErrLostBytes = errors.New("the store has lost the bytes of an acknowledged object")
	// ErrDamaged: what the store gave back of an object are not the bytes that were
	// stored. It is found at the end of an answer, which is then cut off.
	ErrDamaged = errors.New("the bytes from the store are not those of the object")
)

// storeError says nothing of the database, which is well.
type storeError struct{}

func (storeError) Error() string { return "the object store did not answer as it should" }

func (storeError) Unwrap() error { return state.ErrUnavailable }
