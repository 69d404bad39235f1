package lockapi

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/eventlog"
	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// defaultEvents is how many events one answer has where the call names no limit.
const defaultEvents = 100

// eventJSON is an event as it is written; what does not apply is left out.
type eventJSON struct {
	ID        int64     `json:"id"`
	Time      time.Time `json:"time"`
	Kind      string    `json:"kind"`
	Scope     string    `json:"scope,omitempty"`
	Bucket    string    `json:"bucket,omitempty"`
	Key       string    `json:"key,omitempty"`
	Guard     string    `json:"guard,omitempty"`
	Token     token     `json:"token,omitempty"`
	Highest   token     `json:"highest,omitempty"`
	Holder    string    `json:"holder,omitempty"`
	Owner     string    `json:"owner,omitempty"`
	Previous  string    `json:"previous,omitempty"`
	AccessKey string    `json:"access_key,omitempty"`
	Remote    string    `json:"remote,omitempty"`
	Operation string    `json:"operation,omitempty"`
	Access    string    `json:"access,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	Code      string    `json:"code,omitempty"`
	AfterMS   int64     `json:"after_ms,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	// Count is how many events alike this stands for, SpanMS the time that they took.
	Count      int64 `json:"count"`
	SpanMS     int64 `json:"span_ms,omitempty"`
	Suppressed bool  `json:"suppressed,omitempty"`
}

func eventOf(e *state.Event) eventJSON {
	return eventJSON{
		ID: e.ID, Time: e.Time.UTC(), Kind: string(e.Kind), Scope: e.Scope.String(), Bucket: e.Bucket, Key: e.Key, Guard: e.Guard,
		Token: token(e.Token), Highest: token(e.Highest), Holder: e.Holder, Owner: e.Owner, Previous: e.Previous,
		AccessKey: e.AccessKey, Remote: e.Remote, Operation: e.Operation, Access: string(e.Access), RequestID: e.RequestID,
		Code: e.Code, AfterMS: e.After.Milliseconds(), Reason: e.Reason, Count: e.Count, SpanMS: e.Span.Milliseconds(), Suppressed: e.Suppressed,
	}
}

// events answers with what happened. Without after these are the latest ones, in
// the order of their ids; with it the first ones above that id, which are waited
// for if asked to.
func (s *server) events(c *call) (int, any, error) {
	q, err := eventQuery(c.URL.Query())
	if err != nil {
		return 0, nil, err
	}
	q.May = c.seesEvent
	page, err := s.Events.List(c.Context(), q)
	if err != nil {
		return 0, nil, err
	}
	list := make([]eventJSON, 0, len(page.Events))
	for i := range page.Events {
		e := eventOf(&page.Events[i])
		if !c.administers(&page.Events[i]) {
			// Addresses of clients, and names of hosts, are for operators.
			e.Remote = ""
			if e.Kind == string(events.Dropped) {
				e.Reason = ""
			}
		}
		list = append(list, e)
	}
	return http.StatusOK, map[string]any{"events": list, "next": page.Next}, nil
}

// seesEvent is what the caller may know: of a scope or an object what locks would
// show there, of guards what it administers, of a hole in the log that there is
// one, and of everything else nothing unless it administers all.
func (c *call) seesEvent(e *state.Event) bool {
	switch {
	case e.Kind == events.Dropped:
		return true
	case e.Guard != "":
	case !e.Scope.IsZero():
		return c.sees(e.Scope.Bucket(), e.Scope.Prefix())
	case e.Bucket != "":
		return c.sees(e.Bucket, e.Key)
	}
	return c.administers(e)
}

// administers reports whether the caller has the right admin on what the event is
// about; on everything where that is nothing in particular.
func (c *call) administers(e *state.Event) bool {
	bucket, prefix := auth.Anywhere, ""
	switch {
	case e.Guard != "":
		p, err := fence.ParsePattern(e.Guard)
		if err != nil {
			return false
		}
		bucket, prefix = p.Bucket(), p.Literal()
	case !e.Scope.IsZero():
		bucket, prefix = e.Scope.Bucket(), e.Scope.Prefix()
	case e.Bucket != "":
		bucket, prefix = e.Bucket, e.Key
	}
	return c.principal.MayUnder(auth.Admin, bucket, prefix)
}

// eventParams are the parameters of the call, in the order in which errors list
// them.
var eventParams = []string{"after", "prefix", "kind", "since", "limit", "wait"}

func eventQuery(v url.Values) (q eventlog.Query, err error) {
	bad := func(format string, args ...any) (eventlog.Query, error) {
		return q, fmt.Errorf("%w: "+format, append([]any{errBadRequest}, args...)...)
	}
	for name, values := range v {
		switch {
		case len(name) > 6 && strings.EqualFold(name[:6], "X-Amz-"): // of a presigned URL
		case !slices.Contains(eventParams, name):
			return bad("there is no parameter %q; the parameters are %s", clip(name), strings.Join(eventParams, ", "))
		case len(values) > 1 && name != "kind":
			return bad("%s is given %d times; give it once", name, len(values))
		}
	}
	q.Latest = !v.Has("after")
	if text := v.Get("after"); !q.Latest {
		if q.After, err = strconv.ParseInt(text, 10, 64); err != nil || q.After < 0 {
			return bad("after is %q; it is the id of an event, or next of an answer, or 0 for the beginning", clip(text))
		}
	}
	q.Prefix = v.Get("prefix")
	if q.Prefix != "" && !strings.HasPrefix(q.Prefix, "s3://") {
		return bad("prefix is %q; it is the beginning of a scope, such as s3://bucket/prefix/", clip(q.Prefix))
	}
	for _, text := range v["kind"] {
		for name := range strings.SplitSeq(text, ",") {
			kind := events.Kind(name)
			if !slices.Contains(eventlog.Kinds(), kind) {
				return bad("there is no kind %q; the kinds are %s", clip(name), kindNames())
			}
			q.Kinds = append(q.Kinds, kind)
		}
	}
	if text := v.Get("since"); text != "" {
		if q.Since, err = time.Parse(time.RFC3339, text); err != nil {
			return bad("since is %q; write a time as in RFC 3339, such as 2026-01-02T15:04:05Z", clip(text))
		}
	}
	q.Limit = defaultEvents
	if text := v.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > eventlog.MaxPage {
			return bad("limit is %q; it is a number from 1 to %d", clip(text), eventlog.MaxPage)
		}
	}
	if text := v.Get("wait"); text != "" {
		q.Wait, err = time.ParseDuration(text)
		switch {
		case err != nil || q.Wait < 0 || q.Wait > eventlog.MaxWait:
			return bad("wait is %q; it is a duration from 0s to %v", clip(text), eventlog.MaxWait)
		case q.Latest && q.Wait > 0:
			return bad("wait needs after: what is to be waited for comes after some event; begin with next of an answer")
		}
	}
	return q, nil
}

func kindNames() string {
	var names []string
	for _, k := range eventlog.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}
