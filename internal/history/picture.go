package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Measures of pictures, in pixels.
const (
	plotWidth  = 1040
	plotRight  = 20 // what is open-ended at the end of a picture still shows
	laneHeight = 16
	laneGap    = 4
	binWidth   = 4
	binHeight  = 40
	labelRows  = 3
	labelRow   = 12
	axisHeight = 20
	// letter is the width of a letter of a label, about.
	letter = 6
)

// px is a length or a place, written with one digit behind the point.
type px float64

func (p px) String() string {
	return strings.TrimSuffix(strconv.FormatFloat(float64(p), 'f', 1, 64), ".0")
}

// picture is one drawing: lanes over time.
type picture struct {
	Caption       string
	Width, Height px
	Names         []text
	Ticks         []text
	Lanes         []box
	Bands, Bars   []box
	Lines         []line
	Areas         []area
	Here          []text
}

type text struct {
	X, Y px
	Text string
}

// box is a bar or a band; Title is what it says when asked.
type box struct {
	X, Y, W, H         px
	Class, Title, Text string
	// Open ends in a tail: nobody knows when it took effect, or whether.
	Open bool
}

// Tail is the open end.
func (b box) Tail() string {
	return fmt.Sprintf("M%s,%sl16,%sl-16,%sz", b.X+b.W, b.Y, b.H/2, b.H/2)
}

// line is a grant.
type line struct {
	X, Y1, Y2, TextY px
	Text, Title      string
}

// area are the bins of one result in one lane.
type area struct{ Class, D string }

// scale places times.
type scale struct{ from, to time.Duration }

func (s scale) x(t time.Duration) px {
	t = min(max(t, s.from), s.to)
	return px(float64(t-s.from) / float64(max(1, s.to-s.from)) * (plotWidth - plotRight))
}

// steps are the round times between two ticks, below a minute also any power of ten.
var steps = []time.Duration{
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute,
	time.Hour, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 24 * time.Hour,
}

// ticks are up to ten round times.
func (s scale) ticks(y px) []text {
	var step int64
	for unit := int64(1); unit < int64(time.Minute); unit *= 10 {
		for _, n := range []int64{1, 2, 5} {
			if step = n * unit; int64(s.to-s.from)/step <= 9 {
				return s.every(step, y)
			}
		}
	}
	for _, round := range steps {
		if step = int64(round); int64(s.to-s.from)/step <= 9 {
			return s.every(step, y)
		}
	}
	return s.every(int64(s.to-s.from)/9, y)
}

func (s scale) every(step int64, y px) []text {
	var all []text
	for t := (int64(s.from) + step - 1) / step * step; t <= int64(s.to); t += step {
		at := time.Duration(t)
		all = append(all, text{s.x(at), y, at.String()})
	}
	return all
}

// drawing builds a picture from top to bottom.
type drawing struct {
	picture
	scale
	y px
	// rows are where the labels of each row end, from the left.
	rows [labelRows]px
}

func draw(caption string, s scale) *drawing {
	return &drawing{picture: picture{Caption: caption, Width: plotWidth}, scale: s, y: axisHeight}
}

func (d *drawing) lane(name string, height px) (y px) {
	d.Names = append(d.Names, text{0, d.y + height/2 + 4, short(name)})
	d.Lanes = append(d.Lanes, box{Y: d.y, H: height, W: plotWidth})
	y = d.y
	d.y += height + laneGap
	return y
}

func (d *drawing) done() picture {
	for _, y := range []px{axisHeight - 8, d.y + axisHeight - 6} {
		d.Ticks = append(d.Ticks, d.ticks(y)...)
	}
	d.Height = d.y + axisHeight
	return d.picture
}

// faults draws the marks that fall into the picture, a lane for each name.
func (d *drawing) faults(marks []Mark) {
	byName := map[string][]Mark{}
	for _, m := range marks {
		if m.To >= d.from && m.From <= d.to {
			byName[m.Who] = append(byName[m.Who], m)
		}
	}
	names := slices.SortedFunc(maps.Keys(byName), numbered)
	for i, name := range names {
		if i == lanesShown {
			d.lane(fmt.Sprintf("and %d more", len(names)-i), laneHeight)
			break
		}
		y := d.lane(name, laneHeight)
		for _, m := range byName[name] {
			b := box{X: d.x(m.From), Y: y, H: laneHeight, Class: faultClass(m.What), Title: fmt.Sprintf("%s: %s, %v – %v", m.Who, m.What, m.From, m.To)}
			b.W = max(2, d.x(m.To)-b.X)
			if px(letter*len(m.What)+4) <= b.W {
				b.Text = m.What
			}
			d.Bands = append(d.Bands, b)
		}
	}
}

func faultClass(what string) string {
	switch word, _, _ := strings.Cut(what, " "); word {
	case "stopped", "killed":
		return word
	}
	return "network"
}

// label finds a row in which a label at x has room, and says whether there is one.
func (d *drawing) label(x px, words string) (row int, ok bool) {
	for i := range d.rows {
		if d.rows[i] <= x {
			d.rows[i] = x + px(letter*len(words)+6)
			return i, true
		}
	}
	return 0, false
}

// overview counts what happened in each scope, a bin for every few pixels.
func overview(ops []Op, marks []Mark) picture {
	s := scale{0, 1}
	for _, o := range ops {
		s.to = max(s.to, o.Return)
	}
	for _, m := range marks {
		s.to = max(s.to, m.To)
	}
	d := draw("The whole history: operations by the time of their answer, a lane for each scope; grants are lines", s)
	d.faults(marks)
	byScope := map[string][]Op{}
	for _, o := range ops {
		byScope[o.Scope] = append(byScope[o.Scope], o)
	}
	scopes := scopesOf(ops)
	for i, scope := range scopes {
		if i == lanesShown {
			d.lane(fmt.Sprintf("and %d more", len(scopes)-i), laneHeight)
			break
		}
		d.bins(d.lane(scope, binHeight), byScope[scope])
	}
	return d.done()
}

// drawn are the results of bins from the bottom up.
var drawn = []Result{OK, Absent, Failed, Unknown, Stale}

func (d *drawing) bins(y px, ops []Op) {
	const bins = plotWidth / binWidth
	count := map[Result]*[bins]int{}
	for _, r := range drawn {
		count[r] = &[bins]int{}
	}
	var total [bins]int
	most := 1
	grants := 0
	for _, o := range ops {
		at := min(bins-1, int(d.x(o.Return)/binWidth))
		if c := count[o.Result]; c != nil {
			c[at]++
			total[at]++
			most = max(most, total[at])
		}
		// A line a bin is all that can be told apart.
		if o.Kind == Grant && o.Result == OK && grants < bins {
			grants++
			d.Lines = append(d.Lines, line{X: d.x(o.Return), Y1: y, Y2: y + binHeight, Title: o.String()})
		}
	}
	var floor [bins]px
	for _, r := range drawn {
		var path strings.Builder
		for i, n := range count[r] {
			if n == 0 {
				continue
			}
			// What is rare must show beside what is frequent.
			h := max(1.5, px(n)/px(most)*binHeight)
			h = min(h, binHeight-floor[i])
			fmt.Fprintf(&path, "M%d,%sh%dv-%sh-%dz", i*binWidth, y+binHeight-floor[i], binWidth-1, h, binWidth-1)
			floor[i] += h
		}
		if path.Len() > 0 {
			d.Areas = append(d.Areas, area{string(r), path.String()})
		}
	}
}

// detail draws each operation, a lane for each client. Of violation, where not nil,
// the culprit is marked.
func detail(caption string, ops []Op, marks []Mark, violation *Violation) picture {
	if len(ops) == 0 {
		return picture{}
	}
	s := scale{ops[0].Call, ops[0].Return + 1}
	count := map[string]int{}
	for _, o := range ops {
		s.from, s.to = min(s.from, o.Call), max(s.to, o.Return)
		count[o.Client]++
	}
	d := draw(caption, s)
	d.y += labelRows * labelRow
	d.faults(marks)
	clients := slices.SortedFunc(maps.Keys(count), numbered)
	top := d.y
	lanes := map[string]px{}
	for _, c := range clients[:min(len(clients), lanesShown)] {
		lanes[c] = d.lane(c, laneHeight)
	}
	if left := len(clients) - len(lanes); left > 0 {
		d.lane(fmt.Sprintf("and %d more", left), laneHeight)
	}
	for _, o := range ops {
		y, ok := lanes[o.Client]
		if !ok {
			continue
		}
		d.bar(o, y)
		if o.Kind == Grant && o.Result == OK {
			l := line{X: d.x(o.Return), Y1: top, Y2: d.y, Title: o.String()}
			words := "token " + strconv.FormatInt(o.Granted, 10)
			if row, ok := d.label(l.X, words); ok {
				l.Text, l.TextY, l.Y1 = words, px(axisHeight+labelRow*(row+1)), px(axisHeight+labelRow*row+2)
			}
			d.Lines = append(d.Lines, l)
		}
		if violation != nil && violation.is(o) {
			d.Here = append(d.Here, text{d.x(o.Call), y + laneHeight, "▲ here"})
		}
	}
	return d.done()
}

// bar draws an operation: reads are lower than writes.
func (d *drawing) bar(o Op, y px) {
	b := box{X: d.x(o.Call), Y: y, H: laneHeight, Class: string(o.Kind) + " " + string(o.Result), Title: o.String(), Open: o.Result == Unknown}
	if o.Kind == Get || o.Kind == List {
		b.Y, b.H = y+4, laneHeight-8
	}
	b.Title = fmt.Sprintf("%s, %v – %v, through %s", b.Title, o.Call, o.Return, cmp.Or(o.Through, "?"))
	b.W = max(2, d.x(o.Return)-b.X)
	words := o.Key
	if o.Kind == Grant {
		words = "grant"
	}
	if o.Result == Stale {
		words = "✕ " + words
	}
	if px(letter*len(words)+4) <= b.W && b.H == laneHeight {
		b.Text = words
	} else if o.Result == Stale {
		b.Text = "✕"
	}
	d.Bars = append(d.Bars, b)
}

// details are the pictures of a history, operation by operation: all of a short one,
// of a longer one what happened around some takeovers.
func details(ops []Op, marks []Mark) []picture {
	byScope := map[string][]Op{}
	for _, o := range ops {
		byScope[o.Scope] = append(byScope[o.Scope], o)
	}
	if len(ops) <= wholeOps && len(byScope) <= windows {
		var all []picture
		for _, scope := range scopesOf(ops) {
			all = append(all, detail(scope+", a lane for each client", byScope[scope], marks, nil))
		}
		return all
	}
	var all []picture
	for _, t := range takeovers(byScope) {
		all = append(all, detail(fmt.Sprintf("Around token %d of %s, a lane for each client", t.token, t.scope), t.ops, marks, nil))
	}
	return all
}

// takeover is a grant with what happened around it.
type takeover struct {
	scope string
	token int64
	ops   []Op
	// late is how many answers to lower tokens came after the grant.
	late int
}

// takeovers are those that had most to refuse, at most two of a scope, by time.
func takeovers(byScope map[string][]Op) []takeover {
	var all []takeover
	for _, scope := range slices.Sorted(maps.Keys(byScope)) {
		ops := byScope[scope]
		var here []takeover
		for i, g := range ops {
			if g.Kind != Grant || g.Result != OK {
				continue
			}
			t := takeover{scope: scope, token: g.Granted}
			from, to := max(0, i-windowOps/3), min(len(ops), i+windowOps*2/3)
			t.ops = ops[from:to]
			for _, o := range t.ops {
				if o.Token != 0 && o.Token < g.Granted && o.Return > g.Return && (o.Result == Stale || o.Result == Unknown) {
					t.late++
				}
			}
			here = append(here, t)
		}
		slices.SortStableFunc(here, func(a, b takeover) int { return b.late - a.late })
		all = append(all, here[:min(len(here), 2)]...)
	}
	slices.SortStableFunc(all, func(a, b takeover) int { return b.late - a.late })
	all = all[:min(len(all), windows)]
	slices.SortStableFunc(all, func(a, b takeover) int { return cmp.Compare(a.token, b.token) })
	return all
}

// short is what of a name fits beside its lane: the end.
func short(scope string) string {
	const most = 22
	if len(scope) <= most {
		return scope
	}
	return "…" + scope[len(scope)-most:]
}

// numbered orders names, w2 before w10.
func numbered(a, b string) int {
	for a != "" && b != "" {
		na, nb := digits(a), digits(b)
		if na > 0 && nb > 0 {
			if c := cmp.Or(cmp.Compare(na, nb), strings.Compare(a[:na], b[:nb])); c != 0 {
				return c
			}
			a, b = a[na:], b[nb:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }
