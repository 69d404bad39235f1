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
	seed       uint64

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

func stop(t target) error { return t.stop() }

func resume(t target) error { return t.resume() }

func kill(t target) error { return t.kill(true) }

func start(t target) error { return t.start() }

// Workers stop for longer than their leases, so that whoever held a lock is
// succeeded. What all work with is hurt for shorter times: who cannot work holds no
// lock.
var (
	ofWorkers = []fault{
		{"stopped", 1500 * time.Millisecond, 5 * time.Second, stop, resume},
		{"killed", 200 * time.Millisecond, 1500 * time.Millisecond, kill, start},
	}
	ofServers = []fault{
		{"stopped", 800 * time.Millisecond, 3 * time.Second, stop, resume},
		{"killed", 100 * time.Millisecond, 1200 * time.Millisecond, kill, start},
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

// lost swallows a few answers to requests that contain these bytes.
func lost(marker string) fault {
	return fault{"answers to " + marker + " lost", 500 * time.Millisecond, 3 * time.Second, func(t target) error { t.link.DropAnswer(3, marker); return nil }, pass}
}

// card is a fault for a kind of target.
type card struct {
	kind string
	fault
}

// cards are those of workers, mostly to be stopped, of servers, each of which a run of
// 20 s deals once or so, and of links.
func cards() (workers, servers, links []card) {
	for range 3 {
		workers = append(workers, card{"worker", ofWorkers[0]})
	}
	workers = append(workers, card{"worker", ofWorkers[1]})
	for _, f := range ofServers {
		for _, kind := range []string{"proxy", "proxy", "database", "store"} {
			servers = append(servers, card{kind, f})
		}
	}
	for _, f := range ofLinks {
		for _, kind := range []string{"proxy – database", "proxy – store", "workers – proxy"} {
			links = append(links, card{kind, f})
		}
	}
	// Where a commit or an upload has happened and nobody hears of it.
	for range 2 {
		links = append(links, card{"proxy with COMMIT on the wire – database", lost("COMMIT")}, card{"proxy – store", lost("PUT")})
	}
	return workers, servers, links
}

// run hurts until ctx ends, and returns when nothing hurts any more.
func (g *gremlin) run(ctx context.Context) {
	targets := g.world.targets()
	workers, servers, links := cards()
	var all sync.WaitGroup
	all.Go(func() {
		g.play(ctx, 1, targets, workers, len(g.world.workers)/2, 150*time.Millisecond, 500*time.Millisecond)
	})
	all.Go(func() { g.play(ctx, 2, targets, servers, 1, 200*time.Millisecond, time.Second) })
	all.Go(func() { g.play(ctx, 3, targets, links, 1, 200*time.Millisecond, time.Second) })
	all.Wait()
	g.running.Wait()
}

// play shuffles a deck and deals it, again and again, so that each fault has its
// turn; at most so many at a time, with pauses between two bounds.
func (g *gremlin) play(ctx context.Context, salt uint64, targets map[string][]target, deck []card, most int, from, to time.Duration) {
	rng := rand.New(rand.NewPCG(g.seed, salt))
	places := make(chan struct{}, most)
	for {
		rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		for _, c := range deck {
			select {
			case <-ctx.Done():
				return
			case <-time.After(from + time.Duration(rng.Int64N(int64(to-from)))):
			}
			for _, p := range g.world.proxies {
				if err := p.keep(); err != nil {
					g.fail(err)
				}
			}
			places <- struct{}{}
			all := targets[c.kind]
			length := c.from + time.Duration(rng.Int64N(int64(c.to-c.from)))
			g.hurt(all[rng.IntN(len(all))], c.fault, length, rng.IntN(2) == 0, func() { <-places })
		}
	}
}

// hurt does a fault to a target, unless it suffers from another one, or would suffer
// past the end.
func (g *gremlin) hurt(t target, f fault, length time.Duration, hard bool, done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy[t.name] || now()+length > g.end {
		done()
		return
	}
	g.busy[t.name] = true
	g.running.Go(func() {
		defer done()
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
	all["proxy with COMMIT on the wire – database"] = all["proxy – database"][:1]
	for _, k := range w.workers {
		all["worker"] = append(all["worker"], target{
			name: fmt.Sprint("worker ", k.index), stop: func() error { return k.process.Pause() }, resume: func() error { return k.process.Resume() }, start: k.launch,
			kill: func(bool) error { return k.process.Kill() },
		})
	}
	return all
}
