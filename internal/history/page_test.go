package history_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/history"
)

// shown is a page, and how often each element with each class is in it.
type shown struct {
	text     string
	elements map[string]int
}

// render writes a page and reads it again, all of its elements closed.
func render(t *testing.T, r history.Report) shown {
	t.Helper()
	var b bytes.Buffer
	if err := history.Page(&b, r); err != nil {
		t.Fatal(err)
	}
	s := shown{b.String(), map[string]int{}}
	dec := xml.NewDecoder(strings.NewReader(strings.Replace(s.text, "<!DOCTYPE html>", "", 1)))
	dec.Strict, dec.AutoClose, dec.Entity = false, []string{"meta"}, xml.HTMLEntity
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return s
		}
		if err != nil {
			t.Fatalf("no page: %v", err)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		s.elements[e.Name.Local]++
		for _, a := range e.Attr {
			switch a.Name.Local {
			case "class":
				s.elements[e.Name.Local+"."+a.Value]++
			case "src", "href", "onclick", "style":
				t.Errorf("<%s %s=%q>: the page needs something outside, or does something", e.Name.Local, a.Name.Local, a.Value)
			case "x", "y", "width", "height", "x1", "x2", "y1", "y2", "d":
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") || strings.HasPrefix(a.Value, "-") || strings.HasPrefix(a.Value, "ZgotmplZ") {
					t.Errorf("<%s %s=%q> lies nowhere", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

func (s shown) want(t *testing.T, n int, element string) {
	t.Helper()
	if s.elements[element] != n {
		t.Errorf("%d × %s, want %d", s.elements[element], element, n)
	}
}

// TestPage: what a history has is on its page, each operation where it belongs.
func TestPage(t *testing.T) {
	t.Parallel()
	ops := inTurn(grant(1), put(1, "a", history.OK), put(1, "b", history.Unknown), get(1, "a"), grant(2), put(1, "c", history.Stale), remove(2, history.OK))
	for i := range ops {
		ops[i].Call, ops[i].Return = time.Duration(2*i+1)*time.Second, time.Duration(2*i+2)*time.Second
	}
	s := render(t, history.Report{
		Title: "two holders <&>", Ops: ops, Notes: []string{"seed 7"}, Err: history.Judge(ops, history.Options{}),
		Marks: []history.Mark{
			{Who: "proxy 1", What: "stopped", From: 2 * time.Second, To: 9 * time.Second},
			{Who: "database", What: "killed", From: 3 * time.Second, To: 4 * time.Second},
			{Who: "proxy 1 – store", What: "answers lost", From: 0, To: time.Hour},
		},
	})
	for element, n := range map[string]int{
		"script": 0, "link": 0, "img": 0, "span.verdict good": 1, "h2": 1, "tr.culprit": 0, "figure": 2,
		"rect.grant ok": 2, "rect.put ok": 1, "rect.put unknown": 1, "rect.put stale": 1, "rect.get ok": 1, "rect.delete ok": 1,
		"path.tail put unknown": 1, "text.here": 0,
		// Each fault is in the overview and in the picture of the scope, once more in the legend.
		"rect.stopped": 3, "rect.killed": 3, "rect.network": 3, "line.token": 4,
	} {
		s.want(t, n, element)
	}
	for _, words := range []string{"two holders &lt;&amp;&gt;", "seed 7", "token 1<", "token 2<", "put k=c under 1 → stale, 11s – 12s", "proxy 1: stopped, 2s – 9s"} {
		if !strings.Contains(s.text, words) {
			t.Errorf("the page does not say %q", words)
		}
	}
}

// TestPageOfViolations: the culprit is marked in its picture and in its table, of a
// short part and of one that is too long to be shown.
func TestPageOfViolations(t *testing.T) {
	t.Parallel()
	long := []history.Op{grant(1), put(1, "first", history.OK)}
	for i := range 300 {
		long = append(long, put(1, fmt.Sprint("v", i), history.OK))
	}
	long = append(long, get(1, "first"))
	other := inTurn(grant(1), put(1, "a", history.OK), get(0, ""))
	for i := range other {
		other[i].Scope = "s3://data/b/"
	}
	ops := append(inTurn(long...), other...)
	s := render(t, history.Report{Title: "two faults", Ops: ops, Err: history.Judge(ops, history.Options{})})
	for element, n := range map[string]int{"span.verdict bad": 1, "tr.culprit": 2, "text.here": 2, "h2": 3} {
		s.want(t, n, element)
	}
	for _, words := range []string{"violated", "In 2 parts", "▶</td><td>605ns</td>", "get k under 1 → ok first", "put k=first under 1", "further operations of this part"} {
		if !strings.Contains(s.text, words) {
			t.Errorf("the page does not say %q", words)
		}
	}
	undecided := render(t, history.Report{Title: "large", Ops: ops, Err: fmt.Errorf("scope: %w", history.ErrUndecided)})
	undecided.want(t, 1, "span.verdict bad")
	if !strings.Contains(undecided.text, "not judged") {
		t.Error("an undecided history looks judged")
	}
	render(t, history.Report{Title: "nothing"})
}

// TestPageOfALongHistory: 100,000 operations of 200 clients in 60 scopes, with
// names that want to be something else, make a page that a browser can show.
func TestPageOfALongHistory(t *testing.T) {
	t.Parallel()
	r := long(100_000)
	begun := time.Now()
	s := render(t, r)
	t.Logf("%d bytes in %v", len(s.text), time.Since(begun))
	if len(s.text) > 3<<20 {
		t.Errorf("%d bytes are more than 3 MB", len(s.text))
	}
	s.want(t, 1+8, "figure")
	s.want(t, 0, "script")
	if s.elements["path.stale"] < 40 || s.elements["rect.put stale"] == 0 {
		t.Errorf("refused writes are not to be seen: %d lanes, %d bars", s.elements["path.stale"], s.elements["rect.put stale"])
	}
}

// long makes up a history as contests leave them: holders follow one another, the
// former ones find out late.
func long(n int) history.Report {
	rng := rand.New(rand.NewPCG(1, 2))
	const scopes, clients = 60, 200
	r := history.Report{Title: "a long history"}
	now, token := [scopes]time.Duration{}, int64(0)
	marks := [scopes]int64{}
	for i := range n {
		s := rng.IntN(scopes)
		o := history.Op{
			Client: fmt.Sprintf("<b>w%d", rng.IntN(clients)), Through: "p1", Scope: fmt.Sprintf("s3://data/<script>%02d/", s), Kind: history.Put,
			Key: fmt.Sprint("key", rng.IntN(4)), Value: fmt.Sprint("v", i), Token: marks[s], Result: history.OK, Call: now[s],
		}
		now[s] += time.Duration(rng.IntN(300)) * time.Millisecond
		o.Return = now[s] + time.Duration(rng.IntN(50))*time.Millisecond
		switch d := rng.IntN(100); {
		case d < 3 || marks[s] == 0:
			token++
			marks[s] = token
			o.Kind, o.Key, o.Value, o.Token, o.Granted = history.Grant, "", "", 0, token
		case d < 6:
			o.Token, o.Result, o.Call = max(1, o.Token-1), history.Stale, max(0, o.Call-5*time.Second)
		case d < 9:
			o.Result = history.Unknown
		case d < 40:
			o.Kind, o.Got, o.Value = history.Get, o.Value, ""
		}
		r.Ops = append(r.Ops, o)
	}
	for i := range 200 {
		from := time.Duration(i) * time.Second
		r.Marks = append(r.Marks, history.Mark{Who: fmt.Sprint("worker ", i%60), What: []string{"stopped", "killed", "cut"}[i%3], From: from, To: from + 4*time.Second})
	}
	return r
}
