package state

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/events"
)

// Event is a row of the event log: something that happened, or many of a kind.
// Rows are never changed, and are dropped when they are old.
type Event struct {
	// ID is given by the driver. Rows become visible in the order of their ids: who
	// has seen one never sees a lower one appear later. There may be gaps.
	ID int64
	events.Event
	// Count is how many events the row stands for; 1 for most.
	Count int64
	// Span is the time from the first of them to Time, that of the last.
	Span time.Duration
	// Suppressed says that the events of the row differed, and that their number was
	// too large to list them: fields in which they differed are empty.
	Suppressed bool
}

// details are the columns of an event that nothing is selected by. They are one
// column, so that a new field needs no migration.
type details struct {
	Holder     string        `json:"holder,omitempty"`
	Owner      string        `json:"owner,omitempty"`
	Previous   string        `json:"previous,omitempty"`
	AccessKey  string        `json:"access_key,omitempty"`
	Remote     string        `json:"remote,omitempty"`
	Operation  string        `json:"operation,omitempty"`
	Access     events.Access `json:"access,omitempty"`
	RequestID  string        `json:"request_id,omitempty"`
	Code       string        `json:"code,omitempty"`
	Reason     string        `json:"reason,omitempty"`
	AfterUS    int64         `json:"after_us,omitempty"`
	SpanUS     int64         `json:"span_us,omitempty"`
	Suppressed bool          `json:"suppressed,omitempty"`
}

// Details are, for drivers, all that is not in columns of its own: everything but
// ID, Time, Kind, Scope, Bucket, Key, Guard, Token, Highest and Count. Durations
// are kept in microseconds.
func (e *Event) Details() (string, error) {
	b, err := json.Marshal(details{
		Holder: e.Holder, Owner: e.Owner, Previous: e.Previous, AccessKey: e.AccessKey, Remote: e.Remote,
		Operation: e.Operation, Access: e.Access, RequestID: e.RequestID, Code: e.Code, Reason: e.Reason,
		AfterUS: e.After.Microseconds(), SpanUS: e.Span.Microseconds(), Suppressed: e.Suppressed,
	})
	if err != nil {
		return "", fmt.Errorf("details of an event: %w", err)
	}
	return string(b), nil
}

// SetDetails reads what Details wrote.
func (e *Event) SetDetails(b []byte) error {
	var d details
	if err := json.Unmarshal(b, &d); err != nil {
		return fmt.Errorf("details of event %d: %w", e.ID, err)
	}
	e.Holder, e.Owner, e.Previous, e.AccessKey, e.Remote = d.Holder, d.Owner, d.Previous, d.AccessKey, d.Remote
	e.Operation, e.Access, e.RequestID, e.Code, e.Reason = d.Operation, d.Access, d.RequestID, d.Code, d.Reason
	e.After, e.Span = time.Duration(d.AfterUS)*time.Microsecond, time.Duration(d.SpanUS)*time.Microsecond
	e.Suppressed = d.Suppressed
	return nil
}

// EventQuery selects rows of the event log.
type EventQuery struct {
	// After and Before bound the ids: After < ID < Before. Before is no bound where
	// it is zero.
	After, Before int64
	// Latest asks for the last rows that match, not the first ones.
	Latest bool
	// Prefix is what the written form of the scope, of the guard's pattern or of the
	// object (s3://bucket/key) begins with.
	Prefix string
	// Kinds are the ones to select; all where empty.
	Kinds []events.Kind
	// Since is the least Time; none where zero. Events happen before they are added;
	// one that tells of a time more than a day later may be passed over.
	Since time.Time
	// Limit is the most rows; none are returned where it is zero.
	Limit int
}

// Matches reports whether a row is selected: what the statements of the drivers
// say, in Go.
func (q *EventQuery) Matches(e *Event) bool {
	switch {
	case e.ID <= q.After, q.Before != 0 && e.ID >= q.Before:
		return false
	case len(q.Kinds) > 0 && !slices.Contains(q.Kinds, e.Kind):
		return false
	case !q.Since.IsZero() && e.Time.Before(q.Since):
		return false
	case q.Prefix == "", strings.HasPrefix(e.Scope.String(), q.Prefix), strings.HasPrefix(e.Guard, q.Prefix):
		return true
	}
	return e.Key != "" && strings.HasPrefix("s3://"+e.Bucket+"/"+e.Key, q.Prefix)
}

// EventPage is an answer to an EventQuery.
type EventPage struct {
	// Events are in the order of their ids, also where Latest was asked for.
	Events []Event
	// Next is the id up to which the log was looked at: a query for what comes after
	// it misses nothing and repeats nothing. It is below the query's After only
	// where that lies above every id that this log has ever given: the log is an
	// older copy of itself.
	Next int64
}

// Page makes the page of a query, for drivers: of rows as selected, of the
// highest id that is visible and of the highest that was ever given.
func (q *EventQuery) Page(rows []Event, highest, given int64) EventPage {
	p := EventPage{Events: rows, Next: max(highest, q.After)}
	switch {
	case q.After > given:
		p.Next = highest
	case q.Latest:
		p.Next = highest
	case len(rows) > 0 && len(rows) == q.Limit:
		p.Next = rows[len(rows)-1].ID
	case q.Before != 0:
		p.Next = max(q.After, min(highest, q.Before-1))
	}
	return p
}
