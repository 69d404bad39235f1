package demo

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	// redrawEvery is how often the status is drawn anew on a terminal.
	redrawEvery = 100 * time.Millisecond
	// curtainTime bounds the wait for an output that takes nothing any more.
	curtainTime = 2 * time.Second
	// timeColumn is the width of the column with the time.
	timeColumn = 9
)

// errNobodyReads says that the output takes nothing any more.
var errNobodyReads = errors.New("nobody reads the output any more")

// stage prints. The story never waits for it: whoever stops reading stops the
// output, not the director, who has processes to look after.
type stage struct {
	look  look
	out   io.Writer
	lines chan string
	over  chan struct{}
	// failed is called once, when the output takes nothing any more.
	failed func(error)

	mu     sync.Mutex
	status func() string
}

func openStage(out io.Writer, l look, failed func(error)) *stage {
	s := &stage{look: l, out: out, lines: make(chan string, 1024), over: make(chan struct{}), failed: failed}
	go s.run()
	return s
}

// close prints what is left and waits for it, but not for ever.
func (s *stage) close() {
	close(s.lines)
	select {
	case <-s.over:
	case <-time.After(curtainTime):
	}
}

// eraseLine begins the line anew, and empties it.
const eraseLine = "\r\x1b[K"

func (s *stage) run() {
	defer close(s.over)
	redraw := time.NewTicker(redrawEvery)
	defer redraw.Stop()
	drawn, broken := "", false
	write := func(text string) {
		if broken {
			return
		}
		if _, err := io.WriteString(s.out, text); err != nil {
			broken = true
			s.failed(errors.Join(errNobodyReads, err))
		}
	}
	erase := func() {
		if drawn != "" {
			write(eraseLine)
			drawn = ""
		}
	}
	for {
		select {
		case line, ok := <-s.lines:
			erase()
			if !ok {
				return
			}
			write(line + "\n")
		case <-redraw.C:
			if now := s.now(); now == "" {
				erase()
			} else if now != drawn {
				write(eraseLine + now)
				drawn = now
			}
		}
	}
}

// now is the status to draw.
func (s *stage) now() string {
	s.mu.Lock()
	f := s.status
	s.mu.Unlock()
	if f == nil || !s.look.live {
		return ""
	}
	return f()
}

// show makes f the status below the last line, on a terminal; nil for none. It is
// called from another goroutine.
func (s *stage) show(f func() string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = f
}

// put prints lines that are no wider than the output.
func (s *stage) put(lines ...string) {
	for _, l := range lines {
		s.lines <- strings.TrimRight(l, " ")
	}
}

// say prints a text, broken into lines.
func (s *stage) say(st style, text string) {
	for _, l := range wrap(text, s.look.width()) {
		s.put(s.look.paint(st, l))
	}
}

// cast are the two workers, each with its lane.
var cast = []struct {
	name, his string
	style     style
}{
	{"ann", "hers", annIs},
	{"bob", "his", bobIs},
}

// lane says which lane is whose.
func lane(who string) int {
	if who == cast[0].name {
		return 0
	}
	return 1
}

func (l look) laneWidth() int { return (l.width() - timeColumn - 2) / len(cast) }

// inLane makes the lines of a text in the lane of who, at a time of the act.
func (l look) inLane(at time.Duration, who string, s style, text string) []string {
	var out []string
	stamp := l.paint(faint, fmt.Sprintf("%6.2fs", at.Seconds())) + "  "
	for _, line := range wrap(text, l.laneWidth()) {
		out = append(out, stamp+strings.Repeat(" ", lane(who)*(l.laneWidth()+2))+l.paint(s, line))
		stamp = strings.Repeat(" ", timeColumn)
	}
	return out
}

// lanes makes a line of a text for each lane.
func (l look) lanes(stamp string, s [2]style, texts [2]string) string {
	line := fmt.Sprintf("%-*s", timeColumn, stamp)
	for i, text := range texts {
		r := []rune(text)
		r = r[:min(len(r), l.laneWidth())]
		line += l.paint(s[i], string(r))
		if i == 0 {
			line += strings.Repeat(" ", l.laneWidth()+2-len(r))
		}
	}
	return strings.TrimRight(line, " ")
}
