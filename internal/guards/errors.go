package guards

import (
	"errors"
	"fmt"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
)

// Errors of this package. Structs below wrap one of them each.
var (
	// ErrLeaseOver: this proxy's copy of the guard list is too old to decide
	// anything from. Nothing may be changed; answer 503, the caller may retry.
	ErrLeaseOver = errors.New("the lease on the guard list is over: the state database could not be asked in time")
	// ErrGuarded: a key that was unguarded when it was looked up is guarded now.
	// Nothing was sent; look it up again.
	ErrGuarded = errors.New("the key has come under a guard")
	// ErrCut: a mutation outside every guard did not end in time after a guard
	// was added over its key. It is not acknowledged; answer 503.
	ErrCut = errors.New("a guard was added over the key while the request was running")
	// ErrWentBack: the state knows an older version of the guard list than this
	// proxy does. Commits were lost; the proxy refuses mutations until a person
	// has looked and restarted it.
	ErrWentBack = errors.New("the state has an older guard list than this proxy has seen: commits of the state were lost (restored from a backup, or a failover?); check it, then restart this proxy")

	// ErrInvalid: a guard as asked for cannot be. The caller must change it.
	ErrInvalid = errors.New("invalid guard")
	// ErrNotBuilt: the guard asks for what this version cannot do.
	ErrNotBuilt = errors.New("not available in this version")
	// ErrOverlap: another guard governs some of the same keys.
	ErrOverlap = errors.New("guards must not overlap")
	// ErrDiffers: the guard exists with another rule.
	ErrDiffers = errors.New("the guard exists with another rule")
	// ErrNoSuchGuard: there is no guard with that pattern.
	ErrNoSuchGuard = errors.New("no such guard")
	// ErrFixed: the setting cannot be changed on an existing guard.
	ErrFixed = errors.New("the setting of a guard is fixed")
	// ErrHoldsObjects: the guard cannot be removed without losing objects or
	// bringing old ones back. Nothing was changed.
	ErrHoldsObjects = errors.New("the guard cannot be removed")
	// ErrNotTaken: the existing objects cannot be taken in, for the reason that it
	// comes with. The guard was not added, or stays pending where it says so.
	ErrNotTaken = errors.New("the existing objects cannot be taken in")
	// ErrMark: a mark under the pattern is outside what s3fence may issue above.
	ErrMark = errors.New("a mark is out of the range of s3fence's own tokens")
	// ErrChanging: somebody else is adding or removing the guard, or the change
	// was taken over by somebody else. Try again.
	ErrChanging = errors.New("the guard is being changed by somebody else")
)

// OverlapError names both guards. It wraps [ErrOverlap].
type OverlapError struct{ Pattern, With fence.Pattern }

func (e *OverlapError) Error() string {
	return fmt.Sprintf("guard %s would overlap guard %s: a key must belong to one fence. Remove the other first, or choose a pattern beside it", e.Pattern, e.With)
}

// Unwrap is [ErrOverlap].
func (e *OverlapError) Unwrap() error { return ErrOverlap }

// DiffersError names both rules. It wraps [ErrDiffers].
type DiffersError struct{ Want, Have fence.Guard }

func (e *DiffersError) Error() string {
	return fmt.Sprintf("guard %s exists with another rule: asked for %s, there is %s. Change it with s3fence guard set %s, or ask for what there is",
		e.Have.Pattern, rule(e.Want), rule(e.Have), e.Have.Pattern)
}

// Unwrap is [ErrDiffers].
func (e *DiffersError) Unwrap() error { return ErrDiffers }

// rule always shows max_jump: two rules that differ in it alone must not read
// the same.
func rule(g fence.Guard) string {
	s := g.Rule()
	if g.Issuer != fence.External {
		s += fmt.Sprintf(" max_jump=%d", g.MaxJump)
	}
	return s
}

// NoSuchGuardError names the pattern. It wraps [ErrNoSuchGuard].
type NoSuchGuardError struct{ Pattern fence.Pattern }

func (e *NoSuchGuardError) Error() string {
	return fmt.Sprintf("there is no guard %s; s3fence guard list shows those there are", e.Pattern)
}

// Unwrap is [ErrNoSuchGuard].
func (e *NoSuchGuardError) Unwrap() error { return ErrNoSuchGuard }

// HoldsObjectsError names one object that stands in the way. It wraps
// [ErrHoldsObjects].
type HoldsObjectsError struct {
	Guard  fence.Guard
	Object object.Ref
	// Plain says that the object is a hidden plain key of the store, which would
	// come back to life, rather than a sealed object, which would be lost.
	Plain bool
}

func (e *HoldsObjectsError) Error() string {
	if e.Plain {
		return fmt.Sprintf("guard %s cannot be removed: the store still has the plain key %s from before the guard, which would come back to life. Delete it in the store itself first",
			e.Guard.Pattern, e.Object)
	}
	return fmt.Sprintf("guard %s cannot be removed: it holds sealed objects, %s for one, whose bytes stand under other names in the store. s3fence export --remove-guard %s writes them back under their own and removes the guard",
		e.Guard.Pattern, e.Object, e.Guard.Pattern)
}

// Unwrap is [ErrHoldsObjects].
func (e *HoldsObjectsError) Unwrap() error { return ErrHoldsObjects }

// MarkError names the scope whose mark is out of range. It wraps [ErrMark].
type MarkError struct {
	Scope       fence.Scope
	Mark        fence.Mark
	Incarnation int64
}

func (e *MarkError) Error() string {
	return fmt.Sprintf("the mark %d of %s is out of the range from which s3fence can grant (incarnation at most %d, and the lower half of its 40 bits): the counter would be used up for every scope. Keep issuer: external there",
		e.Mark.Token, e.Scope, e.Incarnation)
}

// Unwrap is [ErrMark].
func (e *MarkError) Unwrap() error { return ErrMark }
