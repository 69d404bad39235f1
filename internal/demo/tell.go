package demo

import (
	"fmt"
	"strings"
	"time"
)

// tell puts an event into words, for the lane of its worker; none where it is not
// worth a line.
func (p *play) tell(e event) (style, string) {
	his, st := cast[lane(e.who)].his, cast[lane(e.who)].style
	switch e.Step {
	case waits:
		if e.Text != "" {
			return st, fmt.Sprintf("wants the lock: %s has it; waits", e.Text)
		}
		return st, "wants the lock: taken; asks again"
	case held:
		if e.Token != 0 {
			return st, fmt.Sprintf("has the lock for %s (token %d)", seconds(e.Left), e.Token)
		}
		return st, fmt.Sprintf("has the lock for %s", seconds(e.Left))
	case read:
		return st, "reads the index: " + lineList(e.Lines)
	case checked:
		return st, fmt.Sprintf("checks: still %s, for %s", his, seconds(e.Left))
	case stopped:
		return frost, p.frost("frozen (SIGSTOP)")
	case continued:
		return frost, p.frost("goes on (SIGCONT)")
	case written:
		return st, fmt.Sprintf("writes %s: %d, saved", lineList(e.Lines), e.Status)
	case refused:
		return bad, fmt.Sprintf("writes %s: %d %s: %s", lineList(e.Lines), e.Status, e.Code, e.Text)
	case released:
		return st, "gives the lock back"
	case lost:
		return st, "gives it back: not " + his + " any more"
	}
	return plain, ""
}

func (p *play) frost(text string) string {
	around := strings.Repeat(string(p.stage.look.draw(ice)), 3)
	return around + " " + text + " " + around
}

// status is what the workers do at this moment, while nothing happens.
func (p *play) status() func() string {
	type doing struct {
		step  step
		since time.Time
	}
	var now [2]doing
	var lease time.Time
	for _, e := range p.events {
		i := lane(e.who)
		switch e.Step {
		case stopped, waits:
			now[i] = doing{e.Step, p.began.Add(e.at)}
		case continued, held:
			now[i] = doing{}
		}
		if e.Step == held {
			lease = p.began.Add(e.at + e.Left)
		}
	}
	if now == [2]doing{} {
		return nil
	}
	l := p.stage.look
	return func() string {
		var texts [2]string
		var styles [2]style
		for i, d := range now {
			styles[i] = cast[i].style
			switch d.step {
			case stopped:
				styles[i] = frost
				texts[i] = p.frost("frozen for " + seconds(time.Since(d.since)))
			case waits:
				texts[i] = "waits; the lease ends in " + seconds(max(0, time.Until(lease)))
			}
		}
		return l.lanes(fmt.Sprintf("%6.2fs", time.Since(p.began).Seconds()), styles, texts)
	}
}
