//go:build !pausepoints

package sealed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

const (
	holders          = 2
	clientsOfAHolder = 2
	stepsOfAClient   = 9
)

// contest is one history in the making: two holders, with two clients each, work
// in one scope through two proxies and take it from one another.
type contest struct {
	t       *testing.T
	history history
	proxies []*proxy
	scope   string
	keys    int
	tokens  [holders]atomic.Int64
	values  atomic.Int64
}

// play runs a contest and judges it.
func play(t *testing.T, proxies []*proxy, scope string, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	c := &contest{t: t, proxies: proxies, scope: scope, keys: 1 + rng.IntN(historyKeys), history: history{begun: time.Now()}}
	var all sync.WaitGroup
	for holder := range holders {
		for client := range clientsOfAHolder {
			id := holder*clientsOfAHolder + client
			all.Go(func() { c.client(id, holder, rand.New(rand.NewPCG(seed, uint64(id)+2))) })
		}
	}
	all.Wait()
	// What stands in the end is part of the history.
	for key := range c.keys {
		for _, p := range c.proxies {
			for !c.get(-1, p, asked{kind: gets, key: key}) {
			}
		}
	}
	c.history.judge(t)
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}

func (c *contest) client(id, holder int, rng *rand.Rand) {
	for range stepsOfAClient {
		token := fence.Token(c.tokens[holder].Load())
		p := c.proxies[rng.IntN(len(c.proxies))]
		in := asked{key: rng.IntN(c.keys), token: token}
		switch n := rng.IntN(100); {
		case token == 0 || n < 12:
			in.kind, in.token = grants, 0
			c.grant(id, holder, p, in)
		case n < 60:
			in.kind = puts
			in.value = fmt.Sprintf("v%d", c.values.Add(1))
			c.condition(&in, rng)
			c.write(id, in, rng)
		case n < 70:
			in.kind = deletes
			if rng.IntN(3) == 0 {
				in.match = fmt.Sprintf("v%d", 1+rng.Int64N(c.values.Load()+1))
			}
			c.write(id, in, rng)
		default:
			in.kind = gets
			if rng.IntN(2) == 0 {
				in.token = 0
			}
			c.get(id, p, in)
		}
	}
}

// condition makes some puts conditional.
func (c *contest) condition(in *asked, rng *rand.Rand) {
	switch rng.IntN(5) {
	case 0:
		in.create = true
	case 1:
		in.match = fmt.Sprintf("v%d", max(1, c.values.Load()-rng.Int64N(4)))
	}
}

func (c *contest) ref(key int) object.Ref {
	return object.Ref{Bucket: "data", Key: strings.TrimPrefix(c.scope, "s3://data/") + fmt.Sprint(key)}
}

func (c *contest) grant(id, holder int, p *proxy, in asked) {
	call := c.history.now()
	tok, err := p.take(context.Background(), c.scope)
	switch {
	case err == nil:
		c.history.add(id, call, in, told{token: tok})
		c.tokens[holder].Store(int64(tok))
	case errors.Is(err, state.ErrUnknown):
		c.history.add(id, call, in, told{result: unknown})
	case !again(err):
		c.t.Errorf("take: %v", err)
	}
}

// get reads and reports whether there was an answer.
func (c *contest) get(id int, p *proxy, in asked) bool {
	call := c.history.now()
	got, err := p.see(p.op(c.scope, in.token), c.ref(in.key))
	out, told := c.judge(in, err)
	if !told {
		return false
	}
	out.value = got
	c.history.add(id, call, in, out)
	return true
}

// write puts or deletes, through either proxy and, where it is told to come back,
// or as if the answer had not reached it, perhaps again: with the same request id
// that is one operation with one effect and one answer (F7).
func (c *contest) write(id int, in asked, rng *rand.Rand) {
	retry := fmt.Sprintf("request-%d-%d", id, rng.Uint64())
	tries := 1 + rng.IntN(3)
	call := c.history.now()
	mayHave, deafened := false, false
	for try := 1; ; try++ {
		p := c.proxies[rng.IntN(len(c.proxies))]
		op := p.op(c.scope, in.token)
		op.RetryID = retry
		err := c.send(p, op, in)
		out, told := c.judge(in, err)
		deaf := err == nil && in.kind == puts && try < tries && rng.IntN(4) == 0
		if deaf || !told && try < tries {
			mayHave, deafened = mayHave || deaf, deafened || deaf
			continue
		}
		if deafened && told && (out.result == failed || out.result == absent) {
			c.t.Errorf("%s: its own success made it fail when it was sent again: %v", in, err)
		}
		if mayHave && (!told || out.result != ok) {
			// The last try was refused, which says nothing of the one before it.
			out.result, told = unknown, true
		}
		if told {
			c.history.add(id, call, in, out)
		}
		return
	}
}

func (c *contest) send(p *proxy, op guarded.Op, in asked) error {
	var cond object.Conditions
	if in.create {
		cond.IfNoneMatch = "*"
	}
	if in.match != "" {
		cond.IfMatch = etagOf(in.match)
	}
	ref := c.ref(in.key)
	if in.kind == deletes {
		return p.Delete(context.Background(), &guarded.Delete{Op: op, Items: []guarded.DeleteItem{{Ref: ref, Conditions: cond}}})[0]
	}
	_, err := p.Put(context.Background(), &guarded.Put{Op: op, Ref: ref, Body: strings.NewReader(in.value), Size: int64(len(in.value)), Conditions: cond})
	return err
}

// again says that an error promises that nothing happened and asks to come back.
func again(err error) bool {
	return errors.Is(err, state.ErrUnavailable) || errors.Is(err, state.ErrBusy)
}

// judge translates an error into an answer; ok is false for "nothing happened".
func (c *contest) judge(in asked, err error) (told, bool) {
	var refused *fence.Refusal
	switch {
	case err == nil:
		return told{}, true
	case errors.As(err, &refused) && refused.Verdict == fence.Stale:
		return told{result: stale}, true
	case errors.Is(err, object.ErrPreconditionFailed):
		return told{result: failed}, true
	case errors.Is(err, object.ErrNoSuchKey):
		return told{result: absent}, true
	case errors.Is(err, state.ErrUnknown):
		return told{result: unknown}, true
	case !again(err):
		c.t.Errorf("%s: %v", in, err)
	}
	return told{}, false
}

// gremlin makes the state in memory slow and, unless it is gentle, misbehave at
// random.
type gremlin struct {
	gentle bool
	mu     sync.Mutex
	rng    *rand.Rand
}

var errGremlin = errors.New("gremlin")

// chances in a hundred of each fault.
var chances = map[memory.Stage]int{
	memory.Beginning: 2, memory.Deciding: 2, memory.Committing: 8, memory.Committed: 8, memory.Resolving: 5, memory.Reading: 2,
}

func (g *gremlin) strike(at memory.Stage) error {
	g.mu.Lock()
	chance, kind, pause := g.rng.IntN(100), g.rng.IntN(2), g.rng.IntN(4)
	g.mu.Unlock()
	if pause == 0 || at == memory.Committing {
		time.Sleep(time.Duration(chance) * 20 * time.Microsecond) // another interleaving; proves nothing
	}
	switch {
	case g.gentle || chance >= chances[at]:
		return nil
	case at == memory.Committing && kind == 0:
		return memory.ErrLate
	}
	return errGremlin
}

// TestHistoriesInMemory: hundreds of short histories, with commits whose answers
// are lost when they took effect, when they did not, and while they are on their
// way. (F1–F7, F10)
func TestHistoriesInMemory(t *testing.T) {
	t.Parallel()
	client := openStore(t)
	const groups, each = 4, 50
	for g := range groups {
		t.Run(fmt.Sprint(g), func(t *testing.T) {
			t.Parallel()
			for range each {
				seed := rand.Uint64()
				imp := &gremlin{gentle: g == 0, rng: rand.New(rand.NewPCG(seed, 0))}
				var striking atomic.Bool
				st := memory.New(memory.WithFaults(func(at memory.Stage) error {
					if !striking.Load() {
						return nil
					}
					return imp.strike(at)
				}))
				ended := make(chan struct{})
				var network sync.WaitGroup
				network.Go(func() {
					tick := time.NewTicker(time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-tick.C:
							st.Deliver()
						case <-ended:
							return
						}
					}
				})
				two := newProxies(t, []state.State{st, st}, client, Options{}, anyScope)
				striking.Store(true)
				play(t, two, newScope(), seed)
				striking.Store(false)
				close(ended)
				network.Wait()
			}
		})
	}
}

// TestHistoriesOnPostgreSQL: the same on two pools of one database. (F1–F7, F10)
func TestHistoriesOnPostgreSQL(t *testing.T) {
	t.Parallel()
	two := newProxies(t, openStates(t, "postgres", 2), openStore(t), Options{}, anyScope)
	for g := range 2 {
		t.Run(fmt.Sprint(g), func(t *testing.T) {
			t.Parallel()
			for range 12 {
				play(t, in(t, two), newScope(), rand.Uint64())
			}
		})
	}
}
