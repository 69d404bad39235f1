package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/s3fence/s3fence/client"
)

// widestSubject bounds the column of what an event is about; followedSubject is
// its width where more events will come.
const (
	widestSubject   = 48
	followedSubject = 36
)

// eventPrinter writes events as lines, and counts them.
type eventPrinter struct {
	w      io.Writer
	asJSON bool
	now    func() time.Time
	zone   *time.Location
	// dated says that lines begin with a day; width is of the column of subjects.
	// Both are kept once they are needed, so that lines stay aligned.
	dated bool
	width int
	tally tally
}

func newEventPrinter(w io.Writer, asJSON bool) *eventPrinter {
	return &eventPrinter{w: w, asJSON: asJSON, now: time.Now, zone: time.Local} //nolint:gosmopolitan // people live somewhere
}

// print writes one line for each event: JSON in the order of their ids, others in
// that of time, since a row for many events is written when they are over.
func (p *eventPrinter) print(list []client.Event) error {
	if p.asJSON {
		out := json.NewEncoder(p.w)
		for i := range list {
			p.tally.add(&list[i])
			if err := out.Encode(&list[i]); err != nil {
				return err
			}
		}
		return nil
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b client.Event) int { return a.Time.Compare(b.Time) })
	today := p.now().In(p.zone).Format(time.DateOnly)
	lines := make([]line, len(list))
	for i := range list {
		p.tally.add(&list[i])
		lines[i] = describe(&list[i])
		p.dated = p.dated || list[i].Time.In(p.zone).Format(time.DateOnly) != today
		p.width = max(p.width, min(utf8.RuneCountInString(lines[i].subject), widestSubject))
	}
	layout := time.TimeOnly
	if p.dated {
		layout = time.DateTime
	}
	for i, l := range lines {
		if _, err := fmt.Fprintf(p.w, "%s  %-8s  %-*s  %s\n", list[i].Time.In(p.zone).Format(layout), l.verb, p.width, l.subject, l.rest); err != nil {
			return err
		}
	}
	return nil
}

// line is an event in words: what happened, to what, and how.
type line struct{ verb, subject, rest string }

// describe puts an event into words. Texts of clients are made harmless to the
// terminal.
func describe(e *client.Event) line {
	l := line{strings.ToUpper(strings.ReplaceAll(e.Kind, "_", " ")), subjectOf(e), ""}
	switch e.Kind {
	case client.EventGranted:
		l.verb, l.rest = "GRANTED", fmt.Sprintf("token %d to %s", e.Token, who(e))
		if e.Previous != "" {
			l.rest += "; the lease of " + e.Previous + " had run out"
		}
	case client.EventTakeover:
		l.verb, l.rest = "TAKEN", fmt.Sprintf("token %d to %s, by force", e.Token, who(e))
		if e.Previous != "" {
			l.rest += " from " + e.Previous
		}
		l.rest += because(e)
	case client.EventReleased:
		l.verb, l.rest = "RELEASED", fmt.Sprintf("token %d by %s", e.Token, who(e))
	case client.EventRenewLost:
		l.verb = "LOST"
		if e.Token < e.Highest {
			l.rest = fmt.Sprintf("token %d < %d, not renewed", e.Token, e.Highest)
		} else {
			l.rest = fmt.Sprintf("token %d, not renewed: its lease had ended", e.Token)
		}
		l.rest += by(e) + times(e)
	case client.EventRaised:
		l.verb, l.rest = "RAISED", fmt.Sprintf("mark from %d to %d%s%s", e.Token, e.Highest, by(e), because(e))
	case client.EventReset:
		l.rest = "a new generation" + by(e) + because(e)
	case client.EventRefused:
		l.rest = refusal(e)
	case "guard_added", "guard_changed", "guard_removed", "guard_exported":
		l.verb, l.rest = "GUARD", strings.TrimPrefix(e.Kind, "guard_")+by(e)+because(e)
	case client.EventDropped:
		l.subject, l.rest = plural(e.Count, "event was", "events were"), cmp.Or(e.Reason, "not recorded")
	default:
		if e.Token != 0 {
			l.rest = fmt.Sprintf("token %d", e.Token)
		}
		l.rest = strings.TrimLeft(l.rest+by(e)+times(e)+because(e), " ")
	}
	return line{harmless(l.verb), harmless(l.subject), harmless(l.rest)}
}

// subjectOf is what an event is about.
func subjectOf(e *client.Event) string {
	at := e.Scope
	switch {
	case e.Guard != "":
		return e.Guard
	case e.Key != "":
		at = "s3://" + e.Bucket + "/" + e.Key
	case at == "" && e.Bucket != "":
		at = "s3://" + e.Bucket + "/"
	}
	if e.Kind == client.EventRefused && e.Suppressed {
		what := map[string][2]string{"write": {"write", "writes"}, "read": {"read", "reads"}, "stage": {"step of uploads", "steps of uploads"}}[e.Access]
		at = plural(e.Count, cmp.Or(what[0], "operation"), cmp.Or(what[1], "operations")) + " in " + cmp.Or(at, "several scopes")
	} else if e.Operation != "" {
		at = strings.TrimSpace(e.Operation + " " + at)
	}
	return cmp.Or(at, "-")
}

// refusal says under which token something was refused, by whom, how often, and
// how long after the mark that it met.
func refusal(e *client.Event) string {
	var s string
	switch {
	case e.Code == "StaleFencingToken" && e.Highest != 0:
		s = fmt.Sprintf("token %d < %d", e.Token, e.Highest)
		if e.Token == 0 {
			s = fmt.Sprintf("tokens below %d", e.Highest)
		}
		if e.Owner != "" {
			s += " (" + e.Owner + ")"
		}
	case e.Code == "StaleFencingToken":
		s = "stale tokens"
	case e.Code == "MissingFencingToken":
		s = "no token"
	default:
		s = cmp.Or(firstClause(e.Reason), e.Code, "not allowed")
	}
	s += by(e) + times(e)
	if e.Code == "StaleFencingToken" && e.AfterMS > 0 {
		last := ", "
		if e.Count > 1 {
			last = ", the last "
		}
		s += last + span(e.AfterMS) + " after "
		if e.Owner != "" {
			s += e.Owner + " got the lock"
		} else {
			s += "the mark was raised"
		}
	}
	return s
}

// firstClause is a message without what it advises: that was for whoever asked.
func firstClause(s string) string {
	for _, end := range []string{". ", "; "} {
		s, _, _ = strings.Cut(s, end)
	}
	return strings.TrimSuffix(s, ".")
}

// who is the owner of a lease, or its access key.
func who(e *client.Event) string { return cmp.Or(e.Owner, e.Holder, e.AccessKey, "-") }

// by is who asked, and from where unless from this machine.
func by(e *client.Event) string {
	if e.AccessKey == "" {
		return ""
	}
	s := "  by " + e.AccessKey
	if a, err := netip.ParseAddr(e.Remote); err == nil && !a.IsLoopback() {
		s += " from " + e.Remote
	}
	return s
}

func because(e *client.Event) string {
	if e.Reason == "" {
		return ""
	}
	return ": " + e.Reason
}

// times says how often, where it was more than once.
func times(e *client.Event) string {
	switch {
	case e.Count < 2:
		return ""
	case e.Suppressed: // the count is in the subject
		return ", in " + span(e.SpanMS)
	}
	return fmt.Sprintf(", %d times in %s", e.Count, span(e.SpanMS))
}

// span is a duration as people say it.
func span(ms int64) string {
	switch d := time.Duration(ms) * time.Millisecond; {
	case ms < 1000:
		return fmt.Sprintf("%d ms", ms)
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
}

// harmless escapes what would move the cursor, or worse: clients choose keys,
// owners and reasons.
func harmless(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// tally counts what was shown.
type tally struct {
	shown                 int
	writes, reads, stages int64
	dropped               int64
}

func (t *tally) add(e *client.Event) {
	t.shown++
	switch {
	case e.Kind == client.EventDropped:
		t.dropped += e.Count
	case e.Kind != client.EventRefused || e.Code != "StaleFencingToken":
	case e.WouldCorrupt():
		t.writes += e.Count
	case e.Access == "read":
		t.reads += e.Count
	default:
		t.stages += e.Count
	}
}

// String is the last line: what would have happened.
func (t *tally) String() string {
	var s string
	switch {
	case t.shown == 0:
		s = "no events"
	case t.writes == 0:
		s = "no write under a stale token was refused among these events"
	case t.writes == 1:
		s = "1 write was refused: it would have corrupted data"
	default:
		s = fmt.Sprintf("%d writes were refused: they would have corrupted data", t.writes)
	}
	var more []string
	if t.reads > 0 {
		more = append(more, plural(t.reads, "read", "reads"))
	}
	if t.stages > 0 {
		more = append(more, plural(t.stages, "step", "steps")+" of uploads that nobody could see yet")
	}
	if len(more) > 0 {
		s += "; refused under stale tokens as well: " + strings.Join(more, ", ")
	}
	if t.dropped > 0 {
		s += fmt.Sprintf("; %s not recorded, so there may have been more", plural(t.dropped, "event was", "events were"))
	}
	return s
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
