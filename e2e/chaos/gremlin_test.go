package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/s3fence/s3fence/internal/faultproxy"
	"github.com/s3fence/s3fence/internal/history"
	"github.com/s3fence/s3fence/internal/pgtest"
)

// gremlin hurts a world, as its seed says.
type gremlin struct {
	world *world
	// begin is that of the history; no fault lasts past end.
	begin, end time.Duration
	rng        *rand.Rand

	running sync.WaitGroup
	mu      sync.Mutex
	busy    map[string]bool
	marks   []history.Mark
	count   map[string]int
	failed  error
}

// target is what one fault at a time is done to.
type target struct {
	name string
	// stop, resume and kill are of processes; kill also starts again what it killed,
	// after a while.
	stop, resume func() error
	kill         func(hard bool) error
	start        func() error
	link         *faultproxy.Proxy
}

// fault is a way to hurt a target, for a time.
type fault struct {
	what string
	// from and to bound the time.
	from, to time.Duration
	do, undo func(t target) error
}

func pass(t target) error { return t.link.Pass() }

// ofProcesses and ofLinks are all faults. Stops are longer than leases, so that
// whoever held a lock is succeeded.
var (
	ofProcesses = []fault{
		{"stopped", 2 * time.Second, 6 * time.Second, func(t target) error { return t.stop() }, func(t target) error { return t.resume() }},
		{"killed", 200 * time.Millisecond, 2 * time.Second, func(t target) error { return t.kill(true) }, func(t target) error { return t.start() }},
	}
	ofLinks = []fault{
		{"cut", 200 * time.Millisecond, 3 * time.Second, func(t target) error {
			err := t.link.Refuse()
			t.link.Cut()
			return err
		}, pass},
		{"reset", 10 * time.Millisecond, 20 * time.Millisecond, func(t target) error { t.link.Cut(); return nil }, func(target) error { return nil }},
		{"slow", 1 * time.Second, 4 * time.Second, func(t target) error {
			t.link.Delay(faultproxy.Requests, 150*time.Millisecond)
			t.link.Delay(faultproxy.Answers, 50*time.Millisecond)
			return nil
		}, pass},
		{"requests held, delivered late", 2 * time.Second, 5 * time.Second, func(t target) error { t.link.Hold(faultproxy.Requests, 0); return nil }, pass},
		{"requests held in the middle", 2 * time.Second, 4 * time.Second, func(t target) error { t.link.Hold(faultproxy.Requests, 2000); return nil }, pass},
		{"answers held, delivered late", 2 * time.Second, 5 * time.Second, func(t target) error { t.link.Hold(faultproxy.Answers, 0); return nil }, pass},
		{"answers lost", 500 * time.Millisecond, 3 * time.Second, func(t target) error { t.link.DropAnswer(10, ""); return nil }, pass},
	}
)

// deck has every fault for every kind of target once, workers more often; it is
// shuffled and dealt, again and again, so that a short run has each.
func (g *gremlin) deck(targets map[string][]target) []func() {
	var deck []func()
	deal := func(kind string, f fault) {
		deck = append(deck, func() {
			all := targets[kind]
			g.hurt(all[g.rng.IntN(len(all))], f)
		})
	}
	for _, f := range ofProcesses {
		for range 4 {
			deal("worker", f)
		}
		for _, kind := range []string{"proxy", "proxy", "database", "store"} {
			deal(kind, f)
		}
	}
	for _, f := range ofLinks {
		for _, kind := range []string{"proxy – database", "proxy – store", "workers – proxy"} {
			deal(kind, f)
		}
	}
	g.rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	return deck
}

// run hurts until ctx ends, and returns when nothing hurts any more.
func (g *gremlin) run(ctx context.Context) {
	targets := g.world.targets()
	var deck []func()
	for {
		if len(deck) == 0 {
			deck = g.deck(targets)
		}
		select {
		case <-ctx.Done():
			g.running.Wait()
			return
		case <-time.After(time.Duration(100+g.rng.IntN(400)) * time.Millisecond):
		}
		for _, p := range g.world.proxies {
			if err := p.keep(); err != nil {
				g.fail(err)
			}
		}
		deck[0]()
		deck = deck[1:]
	}
}

// hurt does a fault to a target, unless it suffers from another one, or would suffer
// past the end.
func (g *gremlin) hurt(t target, f fault) {
	length := f.from + time.Duration(g.rng.Int64N(int64(f.to-f.from)))
	hard := g.rng.IntN(2) == 0
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[t.name] || now()+length > g.end {
		return
	}
	g.busy[t.name] = true
	g.running.Go(func() {
		m := history.Mark{Who: t.name, What: f.what, From: now() - g.begin}
		if kill := t.kill; kill != nil {
			t.kill = func(bool) error { return kill(hard) }
		}
		err := f.do(t)
		time.Sleep(length)
		err = errors.Join(err, f.undo(t))
		m.To = now() - g.begin
		if err != nil {
			g.fail(fmt.Errorf("%s, %s: %w", t.name, f.what, err))
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.busy[t.name] = false
		g.marks = append(g.marks, m)
		g.count[f.what]++
	})
}

// fail keeps what the gremlin itself could not do.
func (g *gremlin) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failed = errors.Join(g.failed, err)
}

// targets are all that can be hurt, by kind.
func (w *world) targets() map[string][]target {
	all := map[string][]target{
		"database": {{
			name: "database", stop: w.postgres.Pause, resume: w.postgres.Resume, start: w.postgres.Start,
			kill: func(hard bool) error {
				if hard {
					return w.postgres.Kill()
				}
				return w.postgres.Stop(pgtest.Immediate)
			},
		}},
		"store": {{name: "store", stop: w.store.Pause, resume: w.store.Resume, start: w.store.Restart, kill: func(bool) error { return w.store.Kill() }}},
	}
	for _, p := range w.proxies {
		all["proxy"] = append(all["proxy"], target{
			name: p.name, stop: func() error { return p.process.Pause() }, resume: func() error { return p.process.Resume() }, start: p.launch,
			kill: func(bool) error { return p.kill() },
		})
		all["proxy – database"] = append(all["proxy – database"], target{name: p.name + " – database", link: p.state})
		all["proxy – store"] = append(all["proxy – store"], target{name: p.name + " – store", link: p.store})
		for g, l := range p.fronts {
			all["workers – proxy"] = append(all["workers – proxy"], target{name: fmt.Sprintf("workers %c – %s", 'A'+g, p.name), link: l})
		}
	}
	for _, k := range w.workers {
		all["worker"] = append(all["worker"], target{
			name: fmt.Sprint("worker ", k.index), stop: func() error { return k.process.Pause() }, resume: func() error { return k.process.Resume() }, start: k.launch,
			kill: func(bool) error { return k.process.Kill() },
		})
	}
	return all
}
