package locks

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// Errors of this package. Structs below wrap one of them each.
var (
	// ErrHeld: somebody holds the lock, or came first, and the wait is over. Ask
	// again later.
	ErrHeld = errors.New("the lock is held")
	// ErrLost: the lease that the token belonged to is over, or the token is below
	// the mark. Stop working; acquire again.
	ErrLost = errors.New("the lock is lost")
	// ErrStale: the token is below the mark.
	ErrStale = errors.New("the token is stale")
	// ErrNeverGranted: the token is above the mark: nobody was given it.
	ErrNeverGranted = errors.New("the token was never granted")
	// ErrOtherHolder: the lock was acquired with another access key.
	ErrOtherHolder = errors.New("the lock has another holder")
	// ErrNoSuchGuard: no guard makes this prefix a scope.
	ErrNoSuchGuard = errors.New("no guard covers the scope")
	// ErrScopeOverlap: the name is not a scope but lies inside of one, or above
	// some. Name the scope.
	ErrScopeOverlap = errors.New("scopes do not nest")
	// ErrNotActive: the guard is being added or removed. Ask again later.
	ErrNotActive = errors.New("the guard is not active")
	// ErrNoLocks: the guard takes no locks from here.
	ErrNoLocks = errors.New("the guard takes no locks")
	// ErrClaimed: somebody else has the slot. Do not run.
	ErrClaimed = errors.New("the slot is claimed")
	// ErrSlotTooOld: the slot names a time so long ago that its claim may have been
	// forgotten. Do not run; or claim a slot of another name.
	ErrSlotTooOld = errors.New("the slot is too old")
	// ErrInvalid: an argument is out of its bounds. The caller must change it.
	ErrInvalid = errors.New("invalid request")
	// ErrCrowded: too many wait for the scope in this process. Ask again later.
	ErrCrowded = errors.New("too many are waiting for the lock; ask again later")
	// ErrInvariant: the state contradicts itself. Nothing was changed; a person
	// must look.
	ErrInvariant = errors.New("an invariant of the state is broken")
)

// Holding says who holds a scope.
type Holding struct {
	// Holder is the access key, Owner the label it gave.
	Holder, Owner string
	Token         fence.Token
	// Since is when it was granted, Until when the lease ends unless renewed, both
	// by the database's clock.
	Since, Until time.Time
	// Left is what remained of the lease when it was looked at.
	Left time.Duration
}

// HeldError wraps [ErrHeld].
type HeldError struct {
	Scope fence.Scope
	// By is who holds it. With a Delay it is who held it last; it is zero where the
	// lock is free and others came first.
	By Holding
	// Delay is what is left of the guard's lock delay, where that is the reason.
	Delay time.Duration
	// Position is the place that the caller has and keeps, 1 for the next; zero for
	// none. Waiting is how many wait over all processes, the caller's place counted.
	Position, Waiting int
}

func (e *HeldError) Error() string {
	var s string
	switch {
	case e.Delay > 0:
		s = fmt.Sprintf("%s is granted to nobody for another %s: the lease of %s under token %d ran out, and its guard has a lock_delay",
			e.Scope, fence.Seconds(e.Delay), named(e.By.Holder, e.By.Owner), e.By.Token)
	case e.By.Holder != "":
		s = fmt.Sprintf("%s is held by %s under token %d for another %s unless renewed",
			e.Scope, named(e.By.Holder, e.By.Owner), e.By.Token, fence.Seconds(e.By.Left))
	default:
		s = fmt.Sprintf("%s is kept for those who wait for it", e.Scope)
	}
	switch {
	case e.Position > 0:
		s += fmt.Sprintf("; place %d of %d in the line is yours", e.Position, e.Waiting)
	case e.Waiting > 0:
		s += fmt.Sprintf("; %d in the line before you", e.Waiting)
	}
	if strings.HasPrefix(e.By.Owner, BlockLabel) {
		return s + fmt.Sprintf(". Wait for it, or end the block: s3fence lock unblock %s", e.Scope)
	}
	return s + ". Wait for it, or take it by force: s3fence lock take"
}

// left is when it may be over at the soonest.
func (e *HeldError) left() time.Duration { return max(e.By.Left, e.Delay) }

// Unwrap is [ErrHeld].
func (e *HeldError) Unwrap() error { return ErrHeld }

func named(holder, owner string) string {
	if owner == "" {
		return holder
	}
	return owner + " (" + holder + ")"
}

// LostError says what stands where a lease was thought to be. It wraps
// [ErrLost].
type LostError struct {
	Scope fence.Scope
	Token fence.Token
	// Highest is the mark; Last is its grant.
	Highest fence.Token
	Last    fence.Grant
	// Ended is when the lease ended where the token still is the mark; zero where
	// it was released or raised away.
	Ended time.Time
	Now   time.Time
}

func (e *LostError) Error() string {
	switch {
	case e.Token < e.Highest && e.Last.Owner != "":
		return fmt.Sprintf("the lock on %s under token %d is lost: %d was granted to %s %s. Stop writing; take the lock again",
			e.Scope, e.Token, e.Highest, named(e.Last.Holder, e.Last.Owner), fence.Ago(e.Now.Sub(e.Last.At)))
	case e.Token < e.Highest:
		return fmt.Sprintf("the lock on %s under token %d is lost: the mark is %d. Stop writing; take the lock again", e.Scope, e.Token, e.Highest)
	case !e.Ended.IsZero():
		return fmt.Sprintf("the lock on %s under token %d is lost: its lease ended %s. Stop writing; take the lock again",
			e.Scope, e.Token, fence.Ago(e.Now.Sub(e.Ended)))
	}
	return fmt.Sprintf("the lock on %s under token %d was released. Take the lock again", e.Scope, e.Token)
}

// Unwrap is [ErrLost].
func (e *LostError) Unwrap() error { return ErrLost }

// TokenError says how a token compares with the mark. It wraps [ErrStale] or
// [ErrNeverGranted].
type TokenError struct {
	Scope   fence.Scope
	Token   fence.Token
	Highest fence.Token
	Last    fence.Grant
	Now     time.Time
	kind    error
}

func (e *TokenError) Error() string {
	if errors.Is(e.kind, ErrNeverGranted) {
		return fmt.Sprintf("token %d of %s was never granted (the highest is %d). Use the token that the lock service printed for this scope", e.Token, e.Scope, e.Highest)
	}
	to := ""
	if e.Last.Owner != "" {
		to = " to " + named(e.Last.Holder, e.Last.Owner) + " " + fence.Ago(e.Now.Sub(e.Last.At))
	}
	return fmt.Sprintf("token %d of %s is stale: %d was granted%s. Stop writing; take the lock again", e.Token, e.Scope, e.Highest, to)
}

// Unwrap is the kind of error.
func (e *TokenError) Unwrap() error { return e.kind }

// OtherHolderError wraps [ErrOtherHolder].
type OtherHolderError struct {
	Scope fence.Scope
	Token fence.Token
}

func (e *OtherHolderError) Error() string {
	return fmt.Sprintf("the lock on %s under token %d was acquired with another access key; only that one may renew or release it", e.Scope, e.Token)
}

// Unwrap is [ErrOtherHolder].
func (e *OtherHolderError) Unwrap() error { return ErrOtherHolder }

// NoSuchGuardError carries the command that mends it. It wraps
// [ErrNoSuchGuard].
type NoSuchGuardError struct{ Scope fence.Scope }

func (e *NoSuchGuardError) Error() string {
	return fmt.Sprintf("no guard covers %s; add one: %s", e.Scope, e.Command())
}

// Command is what to type.
func (e *NoSuchGuardError) Command() string { return "s3fence guard add " + e.Scope.String() }

// Unwrap is [ErrNoSuchGuard].
func (e *NoSuchGuardError) Unwrap() error { return ErrNoSuchGuard }

// ScopeOverlapError names the scope or guard that is meant perhaps. It wraps
// [ErrScopeOverlap].
type ScopeOverlapError struct {
	Scope fence.Scope
	// Parent is the scope that the name lies in; zero where the name lies above.
	Parent fence.Scope
	// Guard is the guard whose scopes they are.
	Guard fence.Pattern
}

func (e *ScopeOverlapError) Error() string {
	if !e.Parent.IsZero() {
		return fmt.Sprintf("%s lies inside the scope %s, and scopes do not nest; lock %s", e.Scope, e.Parent, e.Parent)
	}
	return fmt.Sprintf("%s is not a scope itself: guard %s has its scopes below; lock one of those", e.Scope, e.Guard)
}

// Unwrap is [ErrScopeOverlap].
func (e *ScopeOverlapError) Unwrap() error { return ErrScopeOverlap }

// ClaimedError says whose a slot is. It wraps [ErrClaimed].
type ClaimedError struct{ By state.Claim }

func (e *ClaimedError) Error() string {
	return fmt.Sprintf("slot %s of job %s is claimed: %s did so at %s. It runs once: do not run it here",
		e.By.Name, e.By.Job, named(e.By.Holder, e.By.Owner), e.By.At.UTC().Format(time.RFC3339))
}

// Unwrap is [ErrClaimed].
func (e *ClaimedError) Unwrap() error { return ErrClaimed }

// SlotTooOldError wraps [ErrSlotTooOld].
type SlotTooOldError struct{ Slot state.Slot }

func (e *SlotTooOldError) Error() string {
	return fmt.Sprintf("slot %s of job %s is more than %d days old, and claims are kept no longer: nobody can tell whether it was run. To run it all the same, claim a slot of another name, such as \"%s again\"",
		e.Slot.Name, e.Slot.Job, ClaimsKept/(24*time.Hour), e.Slot.Name)
}

// Unwrap is [ErrSlotTooOld].
func (e *SlotTooOldError) Unwrap() error { return ErrSlotTooOld }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
