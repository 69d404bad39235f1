package sim

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// errDead is what everything of a process that has crashed is told: what it does
// from then on reaches nobody.
var errDead = errors.New("sim: this process has crashed")

// actor is whoever takes steps: a client, one life of a proxy, the network, a store,
// the database. Its fields are guarded by the world's mu.
type actor struct {
	name string
	// frozen is until when none of its steps is taken.
	frozen time.Time
	dead   bool
}

// turn is a goroutine that waits for its next step.
type turn struct {
	actor *actor
	name  string
	// rank decides who goes first: drawn from the seed, the name and how often it has
	// been taken, so that leaving something out of a schedule leaves the rest as it was.
	rank uint64
	seq  int
	pass chan struct{}
}

// world owns the order of everything that happens. It lives in a bubble of
// testing/synctest: whoever does not wait for a turn waits for somebody who does, or
// for time to pass.
type world struct {
	seed uint64

	mu     sync.Mutex
	turns  []*turn
	counts map[string]int
	seq    int
	poke   chan struct{}
	// steps counts those taken; sum is the hash of their names, lines the names where
	// they are kept.
	steps int
	sum   uint64
	keep  bool
	lines []string
	begun time.Time
	// due are the faults of the schedule that are still to strike, by step.
	due    []Fault
	strike func(Fault)
	// quiet: nothing goes wrong yet, or any more. origin is the step from which on the
	// schedule counts.
	origin int
	quiet  bool
	rates  map[Kind]float64
	// struck counts faults by kind.
	struck map[Kind]int
	// frozen is until when somebody is frozen.
	frozen time.Time
	wg     sync.WaitGroup
}

func newWorld(p *Plan, keep bool) *world {
	return &world{
		seed: p.Seed, counts: map[string]int{}, poke: make(chan struct{}, 1), keep: keep, begun: time.Now(),
		due: slices.Clone(p.Faults), rates: p.Rates, struck: map[Kind]int{}, quiet: true, sum: 14695981039346656037,
	}
}

// draw is a number that the seed and a name decide.
func draw(seed uint64, name string, n int) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, strconv.FormatUint(seed, 10)+"/"+name+"/"+strconv.Itoa(n)) // a hash takes everything
	// FNV leaves the upper bits of short names alike; this is splitmix64's end.
	z := h.Sum64()
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// within is a duration from 0 to below d that the seed and a name decide.
func (w *world) within(d time.Duration, name string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fraction(d, name)
}

func (w *world) fraction(d time.Duration, name string) time.Duration {
	w.counts[name]++
	return time.Duration(draw(w.seed, name, w.counts[name]) % uint64(max(d, 1)))
}

// chance says whether a fault of a kind strikes here. A kind that the schedule does
// not have never does.
func (w *world) chance(k Kind, name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	rate := w.rates[k]
	if w.quiet || rate == 0 {
		return false
	}
	name = string(k) + " " + name
	w.counts[name]++
	if float64(draw(w.seed, name, w.counts[name])>>11)/(1<<53) >= rate {
		return false
	}
	w.struck[k]++
	w.note("! " + name)
	return true
}

// step waits until it is the caller's turn. It fails with errDead where the actor has
// crashed: what was to follow does not happen.
func (w *world) step(a *actor, what string) error { return w.stepWithin(a, what, 0) }

// rank says who goes first. One of a few has to wait until nobody else can go on: much
// that goes wrong needs one who is slow for as long as others do several things.
func rank(drawn uint64) uint64 {
	if drawn%12 == 0 {
		return drawn | 1<<63
	}
	return drawn >> 1
}

// errIdle ends a step that was not taken in time.
var errIdle = errors.New("sim: nothing came in time")

// stepWithin is step with a bound, where d is not zero.
func (w *world) stepWithin(a *actor, what string, d time.Duration) error {
	w.mu.Lock()
	if a.dead {
		w.mu.Unlock()
		return errDead
	}
	name := a.name + " " + what
	w.counts[name]++
	w.seq++
	t := &turn{actor: a, name: name, rank: rank(draw(w.seed, name, w.counts[name])), seq: w.seq, pass: make(chan struct{})}
	w.turns = append(w.turns, t)
	w.mu.Unlock()
	w.wake()
	if d == 0 {
		<-t.pass
		return w.alive(a)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.pass:
		return w.alive(a)
	case <-timer.C:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turns = slices.DeleteFunc(w.turns, func(o *turn) bool { return o == t })
	return errIdle
}

func (w *world) alive(a *actor) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.dead {
		return errDead
	}
	return nil
}

func (w *world) wake() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// run lets one goroutine after the other go on, until done is closed.
func (w *world) run(done <-chan struct{}) {
	for {
		synctest.Wait()
		select {
		case <-done:
			return
		default:
		}
		w.faults()
		pause, ok := w.next()
		if ok {
			// Each step takes a moment of its own, so that no two timers that were set
			// in different steps go off at the same time.
			time.Sleep(pause)
			continue
		}
		select {
		case <-w.poke:
		case <-done:
		}
	}
}

// next lets the first of those go on who may. It reports false where nobody may.
func (w *world) next() (pause time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	var first *turn
	for _, t := range w.turns {
		if t.actor.frozen.After(now) && !t.actor.dead {
			continue
		}
		if first == nil || before(t, first) {
			first = t
		}
	}
	if first == nil {
		return 0, false
	}
	w.turns = slices.DeleteFunc(w.turns, func(o *turn) bool { return o == first })
	w.steps++
	w.note(first.name)
	close(first.pass)
	return time.Microsecond + time.Duration(draw(w.seed, "pause", w.steps)%200_000), true
}

func before(a, b *turn) bool {
	if a.rank != b.rank {
		return a.rank < b.rank
	}
	if c := strings.Compare(a.name, b.name); c != 0 {
		return c < 0
	}
	return a.seq < b.seq
}

// note adds a line to the trace. w.mu is held.
func (w *world) note(line string) {
	h := fnv.New64a()
	_, _ = io.WriteString(h, strconv.FormatUint(w.sum, 10)+" "+time.Since(w.begun).String()+" "+line) // as above
	w.sum = h.Sum64()
	if w.keep {
		w.lines = append(w.lines, fmt.Sprintf("%6d %12.6f  %s", w.steps, time.Since(w.begun).Seconds(), line))
	}
}

// tell adds a line of its own to the trace.
func (w *world) tell(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(fmt.Sprintf(format, args...))
}

// faults lets those of the schedule strike whose step has come.
func (w *world) faults() {
	for {
		w.mu.Lock()
		if w.quiet || len(w.due) == 0 || w.due[0].Step > w.steps-w.origin {
			w.mu.Unlock()
			return
		}
		f := w.due[0]
		w.due = w.due[1:]
		w.struck[f.Kind]++
		w.note("! " + f.String())
		w.mu.Unlock()
		w.strike(f)
		synctest.Wait()
	}
}

// freeze keeps an actor from its steps for a time.
func (w *world) freeze(a *actor, d time.Duration) {
	w.mu.Lock()
	a.frozen = time.Now().Add(d)
	if a.frozen.After(w.frozen) {
		w.frozen = a.frozen
	}
	w.mu.Unlock()
	time.AfterFunc(d, w.wake)
}

// thaw waits until nobody is frozen any more: who wakes late is to find that the
// others have gone on.
func (w *world) thaw() {
	w.mu.Lock()
	last := w.frozen
	w.mu.Unlock()
	time.Sleep(time.Until(last))
}

// kill ends an actor: its goroutines find out at their next step, each in its turn.
func (w *world) kill(a *actor) {
	w.mu.Lock()
	a.dead = true
	w.mu.Unlock()
}

// troubled begins the schedule.
func (w *world) troubled() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.quiet, w.origin = false, w.steps
}

// calm ends all faults: those to come, and freezing.
func (w *world) calm(actors []*actor) {
	w.mu.Lock()
	w.quiet = true
	for _, a := range actors {
		a.frozen = time.Time{}
	}
	w.note("from here on nothing goes wrong")
	w.mu.Unlock()
	w.wake()
}
