package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// MaxEventWait is the longest that the service waits for an event in one call.
const MaxEventWait = 20 * time.Second

// Kinds of events, as Event.Kind has them. There may be others.
const (
	EventGranted   = "grant"
	EventTakeover  = "takeover"
	EventRenewLost = "renew_lost"
	EventReleased  = "release"
	EventRaised    = "raise"
	EventReset     = "reset"
	EventRefused   = "refused"
	EventAlarm     = "alarm"
	EventDropped   = "dropped"
)

// Event is something that happened, or, with a Count above 1, many that were
// alike. What does not apply is zero.
type Event struct {
	// ID is unique. Events become visible in the order of their ids.
	ID int64 `json:"id"`
	// Time is by the clock of the service's database; of many events, that of the
	// last one.
	Time time.Time `json:"time"`
	Kind string    `json:"kind"`
	// Scope, and Bucket and Key where one object is concerned.
	Scope  string `json:"scope,omitempty"`
	Bucket string `json:"bucket,omitempty"`
	Key    string `json:"key,omitempty"`
	// Guard is the pattern of a guard that was changed; Reason has its rule.
	Guard string `json:"guard,omitempty"`
	// Token was granted, lost or presented; Highest is the mark that it met.
	Token   int64 `json:"token,omitempty"`
	Highest int64 `json:"highest,omitempty"`
	// Holder is the access key of the lease concerned, Owner its label; in a refusal
	// those of the newer grant. Previous is whose lease was ended, or had run out.
	Holder   string `json:"holder,omitempty"`
	Owner    string `json:"owner,omitempty"`
	Previous string `json:"previous,omitempty"`
	// AccessKey is who asked, Remote from which address.
	AccessKey string `json:"access_key,omitempty"`
	Remote    string `json:"remote,omitempty"`
	// Operation is the name of a refused operation, Access what it does: read, write
	// or stage (preparing a write that nobody can see yet).
	Operation string `json:"operation,omitempty"`
	Access    string `json:"access,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Code is the error code of a refusal.
	Code string `json:"code,omitempty"`
	// AfterMS is how many milliseconds before a refusal the mark was granted or
	// raised: for so long at least the token had been stale.
	AfterMS int64  `json:"after_ms,omitempty"`
	Reason  string `json:"reason,omitempty"`
	// Count is how many events this stands for, SpanMS the milliseconds from the
	// first to the last of them.
	Count  int64 `json:"count"`
	SpanMS int64 `json:"span_ms,omitempty"`
	// Suppressed says that they differed and were too many to be listed: fields in
	// which they differed are zero.
	Suppressed bool `json:"suppressed,omitempty"`
}

// WouldCorrupt reports whether the event is a refused write under a token below
// the mark: had it been let through, it would have overwritten newer data.
func (e *Event) WouldCorrupt() bool {
	return e.Kind == EventRefused && e.Access == "write" && e.Code == "StaleFencingToken"
}

// EventQuery asks for events.
type EventQuery struct {
	// Latest asks for the last events; After and Wait must be zero.
	Latest bool
	// After is the id above which to begin: next of an earlier answer, or 0 for all
	// that are kept.
	After int64
	// Prefix is the beginning of the scope, of the guard's pattern or of the object:
	// s3://bucket/prefix.
	Prefix string
	// Kinds are those to return; all where empty.
	Kinds []string
	// Since leaves out what happened before; not where it is zero.
	Since time.Time
	// Limit is the most events, 1 to 1000; the service's default, 100, where zero.
	Limit int
	// Wait is how long to wait for an event where there is none yet, up to
	// MaxEventWait.
	Wait time.Duration
}

func (q *EventQuery) values() url.Values {
	v := url.Values{}
	if !q.Latest {
		v.Set("after", strconv.FormatInt(q.After, 10))
	}
	if q.Prefix != "" {
		v.Set("prefix", q.Prefix)
	}
	if len(q.Kinds) > 0 {
		v.Set("kind", strings.Join(q.Kinds, ","))
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Wait != 0 {
		v.Set("wait", q.Wait.String())
	}
	return v
}

// Events returns what happened, as far as the caller may see it, in the order of
// the ids. next is the After of the next call: asked again and again, each event
// comes once and none is missed. A page may be empty although next is above After.
// Where next is below After, the service's log is an older copy of itself: begin
// again from next.
func (c *Client) Events(ctx context.Context, q EventQuery) (list []Event, next int64, err error) {
	if q.Latest && (q.After != 0 || q.Wait != 0) {
		return nil, 0, fmt.Errorf("%w: the latest events are neither after something nor waited for", ErrInvalid)
	}
	var out struct {
		Events []Event
		Next   *int64
	}
	if err := c.call(ctx, callTime+q.Wait, http.MethodGet, "events?"+q.values().Encode(), nil, &out); err != nil {
		return nil, 0, err
	}
	if out.Next == nil {
		return nil, 0, fmt.Errorf("%w: %s does not answer as s3fence does: events without a next", ErrUnreachable, c.base)
	}
	return out.Events, *out.Next, nil
}
