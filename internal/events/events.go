// Package events is the one vocabulary in which the rooms tell what happened:
// grants, losses, takeovers, refused writes, changes of guards. Whoever decides
// something hands an [Event] to an [Observer]; logs are one observer, the record
// in the state (package eventlog) another.
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
	// Granted: a lock was granted; Token is the new mark. Previous is set where the
	// lease before had run out without a release: its holder lost the lock.
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
	// Refused: the fence refused an operation; Access says which sort, Code why. See
	// [Event.Stale].
	Refused Kind = "refused"
	// GuardAdded, GuardChanged and GuardRemoved: the guard list changed.
	GuardAdded   Kind = "guard_added"
	GuardChanged Kind = "guard_changed"
	GuardRemoved Kind = "guard_removed"
	// GuardExported: the objects of a guard were written back under their plain keys;
	// Reason says how many.
	GuardExported Kind = "guard_exported"
	// Alarm: an invariant was found broken; a person must look.
	Alarm Kind = "alarm"
	// Dropped: events of one proxy could not be recorded, so that the record has a
	// hole here.
	Dropped Kind = "dropped"
)

// Kinds lists the kinds that this version knows, in the order of their
// constants. A record may have others, of later versions.
func Kinds() []Kind {
	return []Kind{Granted, Takeover, Renewed, RenewLost, Released, Raised, Reset, Refused, GuardAdded, GuardChanged, GuardRemoved, GuardExported, Alarm, Dropped}
}

// Access says what an operation does to a scope.
type Access string

// Reads look, Writes change what can be seen, Stages prepare a write that nobody
// can see yet: creating an upload, sending a part.
const (
	Reads  Access = "read"
	Writes Access = "write"
	Stages Access = "stage"
)

// CodeStale is the code of a refusal because of a token below the mark.
const CodeStale = "StaleFencingToken"

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
	// Guard is the pattern of the guard; Reason has its rule.
	Guard string
	// Token was granted or presented, Highest is the mark it met.
	Token   fence.Token
	Highest fence.Token
	// Holder and Owner are of the lease concerned, in a refusal of the latest grant;
	// Previous is the holder whose lease was ended.
	Holder   string
	Owner    string
	Previous string
	// AccessKey is who asked, Remote from which address.
	AccessKey string
	Remote    string
	// Operation, Access and RequestID say by what.
	Operation string
	Access    Access
	RequestID string
	// Code is the error code of a refusal.
	Code string
	// After is, in a refusal, how long before it the mark that it met was granted or
	// raised, by the database's clock or a close estimate of it: so long at least
	// the token had been stale.
	After time.Duration
	// Reason is free text for people.
	Reason string
}

// Stale reports whether the event is a refused write under a token below the
// mark: one that would have corrupted data.
func (e *Event) Stale() bool { return e.Kind == Refused && e.Access == Writes && e.Code == CodeStale }

// Observer is told of events. Observe must be quick, must not block, and is
// called concurrently.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// Func makes an Observer of a function.
type Func func(ctx context.Context, e Event)

// Observe calls f.
func (f Func) Observe(ctx context.Context, e Event) { f(ctx, e) }

// Caller is who made the call that an event comes of.
type Caller struct{ AccessKey, RequestID, Remote string }

type callerKey struct{}

// WithCaller makes who calls known to observers, which fill in what an event does
// not say itself ([Event.From]): the rooms in between need not hand it down.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// From fills in the caller that ctx knows of, where the event names none.
func (e *Event) From(ctx context.Context) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok || e.AccessKey != "" && e.AccessKey != c.AccessKey {
		return
	}
	e.AccessKey = c.AccessKey
	if e.RequestID == "" {
		e.RequestID = c.RequestID
	}
	if e.Remote == "" {
		e.Remote = c.Remote
	}
}

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
