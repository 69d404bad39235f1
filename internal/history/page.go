package history

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"time"
)

// Report is a history with what is to be told of it. Its page needs nothing but
// itself and stays below 3 MB whatever the history's length.
type Report struct {
	Title string
	// Ops in any order.
	Ops []Op
	// Marks are what was done meanwhile to processes and networks.
	Marks []Mark
	// Err is what [Judge] said of Ops, nil for a correct history.
	Err error
	// Unjudged says that nobody asked the judge: the page gives no verdict.
	Unjudged bool
	// Notes are shown above the pictures, a paragraph each.
	Notes []string
}

// Mark is a time in which something was done to somebody: a process that stood
// still, a network that was cut. Times are those of the history.
type Mark struct {
	// Who it was done to: marks of one name share a lane.
	Who string `json:"who"`
	// What was done. The first word decides the colour: "stopped" and "killed" are
	// of processes, anything else of networks.
	What string        `json:"what"`
	From time.Duration `json:"from"`
	// To is not before From.
	To time.Duration `json:"to"`
}

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"legend": func() []box { return legend }}).Parse(pageText))

// legend names the colours, by class.
var legend = []box{
	{Class: "grant", Text: "grant; its line is where it was told"},
	{Class: "ok", Text: "ok (reads are lower bars)"},
	{Class: "stale", Text: "✕ refused: the token is stale"},
	{Class: "failed", Text: "refused: the condition is false"},
	{Class: "absent", Text: "absent"},
	{Class: "unknown", Text: "outcome unknown, end open"},
	{Class: "stopped", Text: "stopped"},
	{Class: "killed", Text: "killed"},
	{Class: "network", Text: "network fault"},
}

// Bounds of a page. They keep it below 3 MB: a bar with its words takes 300
// bytes, and a lane of the overview 8 KiB at most.
const (
	// wholeOps is how many operations are drawn one by one without a choice.
	wholeOps = 2000
	// windowOps is how many are drawn in one picture of a longer history.
	windowOps = 160
	// windows is how many takeovers of a longer history are drawn.
	windows = 8
	// violationsShown is how many violating parts are drawn and listed.
	violationsShown = 8
	// lanesShown bounds the lanes of each kind in a picture.
	lanesShown = 48
	// tableRows bounds the table of a violating part.
	tableRows = 60
)

// Page writes a report as one HTML page. A failure is w's.
func Page(w io.Writer, r Report) error {
	if err := pageTemplate.Execute(w, newPage(r)); err != nil {
		return fmt.Errorf("writing the page of a history: %w", err)
	}
	return nil
}

// page is what the template shows.
type page struct {
	Title, Verdict, Class, Said string
	Notes                       []string
	Facts                       []fact
	Counts                      [][]string
	Violations                  []zoom
	More                        int
	Pictures                    []picture
}

type fact struct{ Name, Value string }

// zoom is a violating part.
type zoom struct {
	Where, Said string
	Picture     picture
	Rows        []row
	Left        int
}

// row is one operation of a table.
type row struct {
	Culprit                   bool
	Call, Return, Client, Via string
	What                      string
}

func newPage(r Report) page {
	ops := sorted(r.Ops)
	p := page{Title: r.Title, Notes: r.Notes, Facts: facts(ops, r.Marks), Counts: counts(ops)}
	found := violations(r.Err)
	switch {
	case r.Unjudged:
		p.Verdict, p.Class = "not judged", "none"
	case r.Err == nil:
		p.Verdict, p.Class = "correct", "good"
		p.Said = "Some order of these operations, each between its call and its return, explains every answer."
	case len(found) > 0:
		p.Verdict, p.Class = "violated", "bad"
		p.Said = fmt.Sprintf("In %s no order of the operations explains their answers.", plural(len(found), "part", "parts"))
	default:
		p.Verdict, p.Class = "not judged", "bad"
		p.Said = r.Err.Error()
	}
	for _, v := range found[:min(len(found), violationsShown)] {
		p.Violations = append(p.Violations, newZoom(v, r.Marks))
	}
	p.More = len(found) - len(p.Violations)
	if len(r.Marks) > 0 || len(ops) > wholeOps || len(scopesOf(ops)) > 1 {
		p.Pictures = append(p.Pictures, overview(ops, r.Marks))
	}
	p.Pictures = append(p.Pictures, details(ops, r.Marks)...)
	return p
}

// violations takes a joined error apart.
func violations(err error) []*Violation {
	var v *Violation
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Violation
		for _, e := range joined.Unwrap() {
			all = append(all, violations(e)...)
		}
		return all
	}
	if errors.As(err, &v) {
		return []*Violation{v}
	}
	return nil
}

func newZoom(v *Violation, marks []Mark) zoom {
	ops := around(v)
	z := zoom{
		Where:   v.Scope + v.Key,
		Said:    fmt.Sprintf("No order of these %d operations explains their answers. Without the marked one there is an order of all that had returned before.", len(v.Ops)),
		Picture: detail("What led to the marked operation: what was called before it returned, a lane for each client", ops, marks, v),
	}
	z.Left = len(v.Ops) - len(ops)
	for _, o := range ops {
		r := row{Culprit: v.is(o), Call: o.Call.String(), Return: o.Return.String(), Client: o.Client, Via: o.Through, What: o.String()}
		if o.Result == Unknown {
			r.Return = "?"
		}
		z.Rows = append(z.Rows, r)
	}
	return z
}

// around picks the operations of a violating part that are shown: the last ones
// called before the culprit returned, and before them the grants and the writer that
// it speaks of.
func around(v *Violation) []Op {
	named := func(o Op) bool {
		c := v.Culprit
		return v.is(o) || c.Got != "" && o.Value == c.Got || c.Match != "" && o.Value == c.Match ||
			o.Kind == Grant && o.Granted != 0 && o.Granted == c.Token
	}
	var told []Op
	for _, o := range v.Ops {
		if o.Call <= v.Culprit.Return {
			told = append(told, o)
		}
	}
	last := max(0, len(told)-tableRows)
	shown := slices.Clone(told[last:])
	for _, o := range told[:last] {
		if named(o) {
			shown = append(shown, o)
		}
	}
	return sorted(shown)
}

func facts(ops []Op, marks []Mark) []fact {
	var grants, stale, unknown int
	var end time.Duration
	clients := map[string]bool{}
	for _, o := range ops {
		clients[o.Client] = true
		end = max(end, o.Return)
		switch {
		case o.Kind == Grant && o.Result == OK:
			grants++
		case o.Result == Stale:
			stale++
		case o.Result == Unknown:
			unknown++
		}
	}
	return []fact{
		{"operations", strconv.Itoa(len(ops))},
		{"clients", strconv.Itoa(len(clients))},
		{"scopes", strconv.Itoa(len(scopesOf(ops)))},
		{"time", round(end).String()},
		{"grants", strconv.Itoa(grants)},
		{"refused as stale", strconv.Itoa(stale)},
		{"of unknown outcome", strconv.Itoa(unknown)},
		{"faults", strconv.Itoa(len(marks))},
	}
}

// counts is a table of kinds by results with its headings.
func counts(ops []Op) [][]string {
	kinds := []Kind{Grant, Put, Delete, Get, List}
	results := []Result{OK, Stale, Failed, Absent, Unknown}
	type cell struct {
		kind   Kind
		result Result
	}
	n := map[cell]int{}
	for _, o := range ops {
		n[cell{o.Kind, o.Result}]++
	}
	table := [][]string{{""}}
	for _, r := range results {
		table[0] = append(table[0], string(r))
	}
	for _, k := range kinds {
		line := []string{string(k)}
		for _, r := range results {
			line = append(line, strconv.Itoa(n[cell{k, r}]))
		}
		table = append(table, line)
	}
	return table
}

func scopesOf(ops []Op) []string {
	seen := map[string]bool{}
	var all []string
	for _, o := range ops {
		if !seen[o.Scope] {
			seen[o.Scope] = true
			all = append(all, o.Scope)
		}
	}
	slices.Sort(all)
	return all
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "one " + one
	}
	return strconv.Itoa(n) + " " + many
}

// round leaves three digits or so.
func round(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
