// Package events is the one vocabulary in which the rooms tell what happened:
// grants, losses, takeovers, refused writes, changes of guards. Whoever decides
// something hands an [Event] to an [Observer]; logs are one observer, metrics
// and an event stream are others.
//
// An event is told after the fact and is no part of it: an observer cannot fail
// an operation, and an event may be missing where a process died between the
// commit and the telling. Nothing may be decided from events.
package events

import (
	"context"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
)

// Kind says what happened.
type Kind string

// The kinds.
const (
	// Granted: a lock was granted; Token is the new mark.
	Granted Kind = "grant"
	// Takeover: a lock was granted by force; Reason says why, Previous from whom.
	Takeover Kind = "takeover"
	// Renewed: a lease was extended.
	Renewed Kind = "renew"
	// RenewLost: a renewal came too late or under a token that is not the mark.
	RenewLost Kind = "renew_lost"
	// Released: a holder gave its lease back.
	Released Kind = "release"
	// Raised: a mark was raised without a grant.
	Raised Kind = "raise"
	// Reset: a scope of an external issuer began a new generation.
	Reset Kind = "reset"
	// Refused: the fence refused an operation.
	Refused Kind = "refused"
	// GuardAdded, GuardChanged and GuardRemoved: the guard list changed.
	GuardAdded   Kind = "guard_added"
	GuardChanged Kind = "guard_changed"
	GuardRemoved Kind = "guard_removed"
	// Alarm: an invariant was found broken; a person must look.
	Alarm Kind = "alarm"
)

// Event is one thing that happened. Fields that do not apply are zero.
type Event struct {
	// Time is the database's clock where the event was decided there; an observer
	// fills in its own where it is zero.
	Time time.Time
	Kind Kind
	// Scope, and Bucket and Key where one object is concerned.
	Scope  fence.Scope
	Bucket string
	Key    string
	// Guard is the pattern of the guard, with its rule where that changed.
	Guard string
	// Token was granted or presented, Highest is the mark it met.
	Token   fence.Token
	Highest fence.Token
	// Holder and Owner are of the lease concerned; Previous is the holder whose
	// lease was ended.
	Holder   string
	Owner    string
	Previous string
	// AccessKey is who asked.
	AccessKey string
	// Operation and RequestID say by what.
	Operation string
	RequestID string
	// Code is the error code of a refusal.
	Code string
	// Reason is free text for people.
	Reason string
}

// Observer is told of events. Observe must be quick, must not block, and is
// called concurrently.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// Func makes an Observer of a function.
type Func func(ctx context.Context, e Event)

// Observe calls f.
func (f Func) Observe(ctx context.Context, e Event) { f(ctx, e) }

// Discard is an Observer that forgets.
var Discard Observer = Func(func(context.Context, Event) {})

// Fan tells each of several observers, in order.
func Fan(observers ...Observer) Observer {
	return Func(func(ctx context.Context, e Event) {
		for _, o := range observers {
			o.Observe(ctx, e)
		}
	})
}
