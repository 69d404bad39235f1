package memory

import (
	"errors"

	"github.com/s3fence/s3fence/internal/state"
)

// Stage is a moment at which a fault may strike.
type Stage int

// The stages. An error of the fault hook does what the comment says; the error
// itself is wrapped.
const (
	// Beginning: a transaction has taken no lock. It fails with ErrUnavailable.
	Beginning Stage = iota + 1
	// Waited: a lock was waited for and is held now; later ones may be missing.
	// ErrUnavailable.
	Waited
	// Deciding: the locks are held and Decide was not called. ErrUnavailable.
	Deciding
	// Committing: COMMIT is sent and has no effect yet. The transaction is
	// rolled back and answered with ErrUnknown; with an error that wraps
	// [ErrLate] it stays on its way instead.
	Committing
	// Committed: the transaction took effect. Its answer is lost: ErrUnknown.
	Committed
	// Resolving: a Resolve has not looked yet. ErrUnavailable.
	Resolving
	// Reading: a read of any kind. ErrUnavailable.
	Reading
	// Writing: KeepPart, KeepPlace, LeavePlace, RenewGuards, ForgetProxy, Maintain or
	// MaintainEvents. ErrUnavailable.
	Writing
)

// ErrLate is what the fault hook returns while Committing to lose the answer of
// a commit that is still on its way: it holds its locks until [Store.Deliver].
var ErrLate = errors.New("the commit is late")

// sent is a transaction whose COMMIT is on its way.
type sent struct {
	tx      *state.Tx
	changes state.Changes
	held    []want
}

// Deliver lets the commits arrive that were made late by [ErrLate], in the
// order they were sent, and returns how many took effect. Those that Resolve
// has decided as aborted meanwhile do not.
func (s *Store) Deliver() int {
	s.mu.Lock()
	late := s.late
	s.late = nil
	n := 0
	for _, p := range late {
		if !s.closed && s.commit(p.tx, &p.changes) == nil {
			n++
		}
	}
	s.mu.Unlock()
	for _, p := range late {
		s.locks.release(p.held)
	}
	return n
}
