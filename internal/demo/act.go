package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// What each worker adds to the index.
const (
	annAdds = "monday"
	bobAdds = "tuesday"
)

// act is one way to work under a lock.
type act struct {
	title  string
	place  lockPlace
	object object
	// fenced says how the act should end: the late write refused, nothing lost.
	// Otherwise something that was acknowledged is gone.
	fenced bool
}

// view is what the object held, seen after a write was answered.
type view struct {
	at    time.Duration
	who   string // whose write it was; "" at first
	lines []string
}

// play is an act as it is being played, and then as it went.
type play struct {
	act
	*director
	began  time.Time
	events []event
	views  []view
	frozen map[string]bool
	// length is when it was over.
	length time.Duration
}

// perform plays an act to its last answer.
func (d *director) perform(ctx context.Context, a act) (*play, error) {
	p := &play{act: a, director: d, frozen: map[string]bool{}}
	p.began = time.Now()
	defer p.stage.show(nil)
	if err := p.look(ctx, ""); err != nil {
		return p, err
	}
	ann, bob := cast[0].name, cast[1].name

	p.order(ann, annAdds, true)
	if err := p.until(ctx, ann, checked); err != nil {
		return p, err
	}
	if err := p.workers[ann].signal(unix.SIGSTOP); err != nil {
		return p, fmt.Errorf("freezing ann: %w", err)
	}
	if err := p.until(ctx, ann, stopped); err != nil {
		return p, err
	}
	// From here on nothing but the freeze keeps her from writing.
	p.send(ann, order{Go: true})
	p.order(bob, bobAdds, false)
	if err := p.until(ctx, bob, over...); err != nil {
		return p, err
	}
	if err := rest(ctx, p.pace()); err != nil {
		return p, err
	}
	// Said before it is done: what she does then may be heard before the kernel
	// tells that she goes on.
	p.happened(event{time.Since(p.began), ann, report{Step: continued}})
	if err := p.workers[ann].signal(unix.SIGCONT); err != nil {
		return p, fmt.Errorf("waking ann: %w", err)
	}
	if err := p.until(ctx, ann, over...); err != nil {
		return p, err
	}
	if p.last(ann).Step == refused {
		if err := rest(ctx, p.pace()); err != nil {
			return p, err
		}
		// What the message says: take the lock again.
		p.order(ann, annAdds, false)
		if err := p.until(ctx, ann, over...); err != nil {
			return p, err
		}
	}
	p.length = time.Since(p.began)
	return p, nil
}

// pace is how long a job takes, and how long people have to read: well below the
// lease.
func (p *play) pace() time.Duration { return p.options.TTL * 3 / 10 }

// rest lets people read.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// order gives a worker its job.
func (p *play) order(who, line string, hold bool) {
	p.events = append(p.events, event{at: time.Since(p.began), who: who, report: report{Step: ordered}})
	p.send(who, order{Name: who, Line: line, Lock: p.place, Object: p.object, Work: p.pace(), Hold: hold})
}

// over are the steps that end a job which does not fail.
var over = []step{refused, released, lost}

// until follows the story until a worker has come to one of these steps.
func (p *play) until(ctx context.Context, who string, steps ...step) error {
	for {
		var n news
		select {
		case n = <-p.news:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := n.err; err != nil {
			return err
		}
		e := event{max(0, n.when.Sub(p.began)), n.who, n.report}
		if p.frozen[e.who] && e.Step != ended {
			return fmt.Errorf("%w: %s did something while frozen: %s", ErrUnexpected, e.who, e.Step)
		}
		p.happened(e)
		switch e.Step {
		case ended:
			return fmt.Errorf("%s (process %d) ended, which nobody asked for: %s", e.who, p.workers[e.who].pid, e.Text)
		case failed:
			return fmt.Errorf("%s: %s", e.who, e.Text)
		case lapsed:
			return fmt.Errorf("%w: the lease of %s was over too early: this machine is too busy for a lease of %v; try --ttl %v", ErrUnexpected, e.who, p.options.TTL, min(5*p.options.TTL, MostTTL))
		case written, refused:
			if err := p.look(ctx, e.who); err != nil {
				return err
			}
		}
		if e.who == who && slices.Contains(steps, e.Step) {
			return nil
		}
	}
}

// happened records an event and tells it.
func (p *play) happened(e event) {
	switch e.Step {
	case stopped:
		p.frozen[e.who] = true
	case continued:
		p.frozen[e.who] = false
	}
	p.events = append(p.events, e)
	if s, text := p.tell(e); text != "" {
		p.stage.put(p.stage.look.inLane(e.at, e.who, s, text)...)
	}
	p.stage.show(p.status())
}

// look reads the object, after a write of who.
func (p *play) look(ctx context.Context, who string) error {
	lines, err := p.object.get(ctx)
	if err != nil {
		return err
	}
	p.views = append(p.views, view{time.Since(p.began), who, lines})
	return nil
}

// last is the last thing that happened to a worker.
func (p *play) last(who string) event {
	for i := len(p.events) - 1; i >= 0; i-- {
		if p.events[i].who == who {
			return p.events[i]
		}
	}
	return event{}
}

// ErrUnexpected says that the demo did not go as it should: s3fence, the demo or
// this machine has a fault.
var ErrUnexpected = errors.New("the demo did not show what it should")
