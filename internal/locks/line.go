package locks

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

const (
	// poll bounds the time between two looks at a scope that is waited for: a
	// release in another process is seen that late.
	poll = 250 * time.Millisecond
	// lookTime bounds a look; for as long as looks fail nobody is told, since a
	// database that restarts is back by then.
	lookTime = 5 * time.Second
	// lookMost is how many scopes one look reads.
	lookMost = 1000
)

// lines are the calls that wait in this process. They share one watcher, which runs
// while there are any. It alone looks at the state: one read for all scopes, of
// which each costs the head of its line, however many wait behind.
type lines struct {
	mu       sync.Mutex
	of       map[fence.Scope]*line
	watching bool
	// kick has room for one signal: some line's next has come forward.
	kick chan struct{}
	// failing is since when looks have failed; zero while they succeed.
	failing time.Time
}

// line is one scope's calls here.
type line struct {
	// guard is what the last that came found to govern the scope.
	guard  fence.Guard
	visits map[uuid.UUID]*waiter
	// tickets finds the last that came with a ticket.
	tickets map[state.PlaceID]*waiter
	// next is when to look before the next round; zero: not before.
	next time.Time
}

// waiter is one call that waits.
type waiter struct {
	id    state.PlaceID
	owner string
	visit uuid.UUID
	// turn is the place's, zero until it is taken; under the lines' mu.
	turn int64
	// wake has room for one signal: nil says that it is its turn perhaps, an error
	// ends the wait.
	wake chan error
}

func (w *waiter) signal(err error) {
	select {
	case w.wake <- err:
	default:
	}
}

// join adds a call and sees to it that somebody looks.
func (s *Service) join(g fence.Guard, r *Request) (*waiter, error) {
	l, id := &s.lines, r.place()
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.of[id.Scope]
	if ln == nil {
		ln = &line{visits: map[uuid.UUID]*waiter{}, tickets: map[state.PlaceID]*waiter{}}
		l.of[id.Scope] = ln
	}
	if len(ln.visits) >= MaxLine {
		return nil, fmt.Errorf("%w: %d calls wait for %s in this proxy already", ErrCrowded, len(ln.visits), id.Scope)
	}
	w := &waiter{id: id, owner: r.Owner, visit: r.visit, wake: make(chan error, 1)}
	ln.guard, ln.visits[w.visit], ln.tickets[id] = g, w, w
	if !l.watching {
		l.watching = true
		go s.watch()
	}
	return w, nil
}

// placed notes the turn that the state gave and has the scope looked at: what
// happened before the place was taken woke nobody here.
func (l *lines) placed(w *waiter, turn int64) {
	l.mu.Lock()
	w.turn = turn
	l.mu.Unlock()
	l.hurry(w.id.Scope)
}

// leave takes a call out.
func (l *lines) leave(w *waiter) {
	l.mu.Lock()
	ln := l.of[w.id.Scope]
	delete(ln.visits, w.visit)
	if ln.tickets[w.id] == w {
		delete(ln.tickets, w.id)
	}
	if len(ln.visits) == 0 {
		delete(l.of, w.id.Scope)
	}
	none := len(l.of) == 0
	l.mu.Unlock()
	if none {
		l.wake() // the watcher ends
	}
}

// hurry has a scope looked at now, if somebody here waits for it: a lease ended
// here, or a place was left.
func (l *lines) hurry(sc fence.Scope) {
	l.mu.Lock()
	ln := l.of[sc]
	if ln != nil {
		ln.next = time.Now()
	}
	l.mu.Unlock()
	if ln != nil {
		l.wake()
	}
}

func (l *lines) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// watch looks at all scopes that are waited for in rounds, and at single ones
// between them: where a lease is known to end, or something happened here.
func (s *Service) watch() {
	l := &s.lines
	round := time.Now().Add(s.pollTime())
	for {
		q, wait, ok := s.due(&round)
		if !ok {
			return
		}
		if len(q.Scopes) > 0 {
			s.look(q)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-l.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pollTime is poll, varied so that processes do not look in step.
func (s *Service) pollTime() time.Duration { return poll - s.jitter(poll/4) }

// due is what to look at now, or else how long there is nothing to do. Not ok:
// nobody waits any more, and the watcher has ended.
func (s *Service) due(round *time.Time) (q state.Query, wait time.Duration, ok bool) {
	l := &s.lines
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.of) == 0 {
		l.watching, l.failing = false, time.Time{}
		return q, 0, false
	}
	now := time.Now()
	if !now.Before(*round) {
		*round = now.Add(s.pollTime())
		for _, ln := range l.of {
			ln.next = now
		}
	}
	guards := map[fence.GuardID]bool{}
	next := *round
	for sc, ln := range l.of {
		switch {
		case ln.next.IsZero():
		case ln.next.After(now):
			if ln.next.Before(next) {
				next = ln.next
			}
		case len(q.Scopes) < lookMost:
			ln.next = time.Time{}
			q.Scopes = append(q.Scopes, sc)
			guards[ln.guard.ID] = true
		}
	}
	for id := range maps.Keys(guards) {
		q.Guards = append(q.Guards, id)
	}
	return q, next.Sub(now), true
}

// look reads scopes with the heads of their lines and wakes whose turn it is.
func (s *Service) look(q state.Query) {
	q.Lines, q.Absent = q.Scopes, s.absent
	asked := time.Now()
	// The calls that wait come and go; none of them is the look's.
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	v, err := s.state.Read(ctx, q)
	answered := time.Now()
	l := &s.lines
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.failing = time.Time{}
		for _, sc := range q.Scopes {
			if ln := l.of[sc]; ln != nil {
				ln.judge(v, sc, answered)
			}
		}
		return
	}
	if l.failing.IsZero() {
		l.failing = asked
	}
	if answered.Sub(l.failing) < lookTime {
		return
	}
	for _, ln := range l.of {
		ln.all(fmt.Errorf("looking at the line: %w", err))
	}
}

func (ln *line) all(err error) {
	for _, w := range ln.visits {
		w.signal(err)
	}
}

// judge wakes whoever may be granted the scope; answered is when v was had.
func (ln *line) judge(v *state.View, sc fence.Scope, answered time.Time) {
	g, err := locksIn(v, ln.guard, sc)
	if err != nil {
		ln.all(err)
		return
	}
	row := v.Scope(sc, g.Writes)
	// The lock was granted to a call of this ticket that went elsewhere.
	if w := ln.tickets[granted(&row)]; w != nil && row.Held(v.Now) && row.Last.Owner == w.owner {
		w.signal(nil)
		return
	}
	if held := taken(g, &row, v.Now); held != nil {
		ln.next = answered.Add(max(held.left(), time.Millisecond))
		return
	}
	if head, there := v.Heads[sc]; there {
		if w := ln.visits[head.Visit]; w != nil {
			w.signal(nil)
		}
		return
	}
	// No place counts, not even those of the calls here: they were lost, or this
	// proxy was not seen for a while. The first of them goes first.
	var first *waiter
	for _, w := range ln.visits {
		if w.turn != 0 && (first == nil || w.turn < first.turn) {
			first = w
		}
	}
	if first != nil {
		first.signal(nil)
	}
}

// granted is the place of whoever the latest grant was given to by ticket.
func granted(row *state.Scope) state.PlaceID {
	_, ticket, ok := strings.Cut(row.Ticket, " ")
	if !ok || row.Ticket != ticketed(row.Mark.Token, ticket) {
		return state.PlaceID{}
	}
	return state.PlaceID{Scope: row.Scope, Holder: row.Last.Holder, Ticket: ticket}
}

// ticketed is a ticket as a scope's row has it.
func ticketed(t fence.Token, ticket string) string {
	if ticket == "" {
		return ""
	}
	return t.String() + " " + ticket
}
