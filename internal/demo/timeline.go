package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// labelWidth is the width of the lanes' names in a timeline.
const labelWidth = 8

// timeline is what is drawn of an act.
type timeline struct {
	rows []row
	// notes explain numbers that stand in the last row.
	notes []string
}

// row is one lane, or a part of it.
type row struct {
	label string
	style style
	spans []span
	marks []mark
}

// span is a stretch of time. Its ends are drawn as from and to where these are
// another glyph.
type span struct {
	begin, end     time.Duration
	from, fill, to glyph
}

// mark is a moment. A mark that would hide another is moved behind it.
type mark struct {
	at   time.Duration
	sign rune
	st   style
}

// timeline makes a drawing of an act that was played.
func (p *play) timeline() timeline {
	var t timeline
	for _, c := range cast {
		doing := row{label: c.name, style: c.style}
		lease := row{label: "  lease", style: c.style}
		var now *span
		begin := func(at time.Duration, g glyph) { now = &span{begin: at, from: g, fill: g, to: g} }
		finish := func(at time.Duration) {
			if now != nil {
				now.end = at
				doing.spans = append(doing.spans, *now)
				now = nil
			}
		}
		for _, e := range p.events {
			if e.who != c.name {
				continue
			}
			switch e.Step {
			case ordered:
				begin(e.at, runs)
			case waits:
				finish(e.at)
				begin(e.at, waiting)
			case held:
				if now != nil && now.fill == waiting {
					finish(e.at)
					begin(e.at, runs)
				}
				lease.spans = append(lease.spans, span{e.at, e.at + e.Left, leaseFrom, leaseOn, leaseTo})
			case stopped:
				finish(e.at)
				begin(e.at, ice)
			case continued:
				finish(e.at)
				begin(e.at, runs)
			case written:
				doing.marks = append(doing.marks, mark{e.at, p.stage.look.draw(success), good})
			case refused:
				doing.marks = append(doing.marks, mark{e.at, p.stage.look.draw(refusal), bad})
			case released:
				last := &lease.spans[len(lease.spans)-1]
				last.end = min(last.end, e.at)
			}
			if slices.Contains(over, e.Step) {
				finish(e.at)
			}
		}
		t.rows = append(t.rows, doing, lease)
	}
	index := row{label: "index", spans: []span{{0, p.length, stands, stands, stands}}}
	var before []string
	for i, v := range p.views {
		if i > 0 && slices.Equal(before, v.lines) {
			continue
		}
		n, st := len(index.marks)+1, strong
		note := fmt.Sprintf("%d  %s", n, lineList(v.lines))
		if v.who != "" {
			note += ", written by " + v.who
		}
		if gone := missing(before, v.lines); len(gone) > 0 {
			st = bad
			note += ": " + p.stage.look.paint(bad, lineList(gone)+" is gone")
		}
		index.marks = append(index.marks, mark{v.at, rune('0' + n), st})
		t.notes = append(t.notes, note)
		before = v.lines
	}
	t.rows = append(t.rows, index)
	return t
}

// drawTimeline draws to the scale that end fits into the width.
func drawTimeline(l look, t timeline, end time.Duration) []string {
	width := l.width() - labelWidth - 1
	column := func(at time.Duration) int {
		return max(0, min(width-1, int(float64(at)/float64(end)*float64(width-1)+0.5)))
	}
	lines := scale(l, width, end, column)
	for _, r := range t.rows {
		signs := slices.Repeat([]rune{' '}, width)
		styles := slices.Repeat([]style{r.style}, width)
		for _, s := range r.spans {
			from, to := column(s.begin), column(s.end)
			for c := from; c <= to; c++ {
				signs[c] = l.draw(s.fill)
				if s.fill == ice {
					styles[c] = frost
				} else {
					styles[c] = r.style
				}
			}
			signs[to], signs[from] = l.draw(s.to), l.draw(s.from)
		}
		taken := -1
		for _, m := range r.marks {
			taken = min(max(column(m.at), taken+1), width-1)
			signs[taken], styles[taken] = m.sign, m.st
		}
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%-*s ", labelWidth, l.paint(r.style, r.label)+strings.Repeat(" ", labelWidth-len(r.label)))+l.paintEach(signs, styles), " "))
	}
	for _, n := range t.notes {
		lines = append(lines, strings.Repeat(" ", labelWidth+1)+n)
	}
	return lines
}

// scale draws the axis, with a tick for a round number of seconds.
func scale(l look, width int, end time.Duration, column func(time.Duration) int) []string {
	every := 500 * time.Millisecond
	for column(every) < 8 {
		every *= 2
	}
	numbers, line := []rune(strings.Repeat(" ", width+8)), slices.Repeat([]rune{l.draw(axis)}, width)
	for at := time.Duration(0); at <= end; at += every {
		c := column(at)
		line[c] = l.draw(tick)
		copy(numbers[c:], []rune(fmt.Sprintf("%gs", at.Seconds())))
	}
	indent := strings.Repeat(" ", labelWidth+1)
	return []string{
		l.paint(faint, strings.TrimRight(indent+string(numbers[:width]), " ")),
		l.paint(faint, indent+string(line)),
	}
}

// paintEach colours runs of the same style at once.
func (l look) paintEach(signs []rune, styles []style) string {
	var out strings.Builder
	for i := 0; i < len(signs); {
		j := i + 1
		for j < len(signs) && styles[j] == styles[i] {
			j++
		}
		text := string(signs[i:j])
		if strings.TrimSpace(text) == "" {
			out.WriteString(text)
		} else {
			out.WriteString(l.paint(styles[i], text))
		}
		i = j
	}
	return out.String()
}

// legend explains the signs.
func legend(l look) []string {
	var parts []string
	for _, g := range []struct {
		sign glyph
		is   string
	}{{runs, "works"}, {waiting, "waits"}, {ice, "frozen"}, {success, "write saved"}, {refusal, "write refused"}} {
		parts = append(parts, fmt.Sprintf("%c %s", l.draw(g.sign), g.is))
	}
	lease := string([]rune{l.draw(leaseFrom), l.draw(leaseOn), l.draw(leaseTo)})
	var lines []string
	line := ""
	for _, part := range append(parts, lease+" lease") {
		switch {
		case line == "":
			line = part
		case len([]rune(line+"   "+part)) > l.width():
			lines, line = append(lines, line), part
		default:
			line += "   " + part
		}
	}
	return append(lines, line)
}
