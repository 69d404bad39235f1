//go:build !pausepoints

package sealed

import (
	"context"
	"crypto/md5"
	"encoding/hex"
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
	"github.com/s3fence/s3fence/internal/history"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

const (
	holders          = 2
	clientsOfAHolder = 2
	stepsOfAClient   = 9
	historyKeys      = 3
)

// contest is one history in the making: two holders, with two clients each, work
// in one scope through two proxies and take it from one another.
type contest struct {
	t       *testing.T
	history *history.Recorder
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
	c := &contest{t: t, proxies: proxies, scope: scope, keys: 1 + rng.IntN(historyKeys), history: history.NewRecorder(nil)}
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
			for !c.get(-1, p, history.Op{Kind: history.Get, Key: fmt.Sprint(key)}) {
			}
		}
	}
	if err := history.Judge(c.history.Ops(), history.Options{}); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
}

func (c *contest) client(id, holder int, rng *rand.Rand) {
	for range stepsOfAClient {
		token := c.tokens[holder].Load()
		p := c.proxies[rng.IntN(len(c.proxies))]
		in := history.Op{Key: fmt.Sprint(rng.IntN(c.keys)), Token: token}
		switch n := rng.IntN(100); {
		case token == 0 || n < 12:
			c.grant(id, holder, p)
		case n < 60:
			in.Kind, in.Value = history.Put, fmt.Sprintf("v%d", c.values.Add(1))
			c.condition(&in, rng)
			c.write(id, in, rng)
		case n < 70:
			in.Kind = history.Delete
			if rng.IntN(3) == 0 {
				in.Match = fmt.Sprintf("v%d", 1+rng.Int64N(c.values.Load()+1))
			}
			c.write(id, in, rng)
		default:
			in.Kind = history.Get
			if rng.IntN(2) == 0 {
				in.Token = 0
			}
			c.get(id, p, in)
		}
	}
}

// condition makes some puts conditional.
func (c *contest) condition(in *history.Op, rng *rand.Rand) {
	switch rng.IntN(5) {
	case 0:
		in.Create = true
	case 1:
		in.Match = fmt.Sprintf("v%d", max(1, c.values.Load()-rng.Int64N(4)))
	}
}

func (c *contest) ref(key string) object.Ref {
	return object.Ref{Bucket: "data", Key: strings.TrimPrefix(c.scope, "s3://data/") + key}
}

func (c *contest) add(id int, call time.Duration, o history.Op) {
	o.Client, o.Scope, o.Call = fmt.Sprint(id), c.scope, call
	c.history.Add(o)
}

func (c *contest) grant(id, holder int, p *proxy) {
	call := c.history.Now()
	tok, err := p.take(context.Background(), c.scope)
	switch {
	case err == nil:
		c.add(id, call, history.Op{Kind: history.Grant, Result: history.OK, Granted: int64(tok)})
		c.tokens[holder].Store(int64(tok))
	case errors.Is(err, state.ErrUnknown):
		c.add(id, call, history.Op{Kind: history.Grant, Result: history.Unknown})
	case !again(err):
		c.t.Errorf("take: %v", err)
	}
}

// get reads and reports whether there was an answer.
func (c *contest) get(id int, p *proxy, in history.Op) bool {
	call := c.history.Now()
	got, err := p.see(p.op(c.scope, fence.Token(in.Token)), c.ref(in.Key))
	if in.Result = c.judge(in, err); in.Result == "" {
		return false
	}
	in.Got = got
	c.add(id, call, in)
	return true
}

// write puts or deletes, through either proxy and, where it is told to come back,
// or as if the answer had not reached it, perhaps again: with the same request id
// that is one operation with one effect and one answer (F7).
func (c *contest) write(id int, in history.Op, rng *rand.Rand) {
	retry := fmt.Sprintf("request-%d-%d", id, rng.Uint64())
	tries := 1 + rng.IntN(3)
	call := c.history.Now()
	mayHave, deafened := false, false
	for try := 1; ; try++ {
		p := c.proxies[rng.IntN(len(c.proxies))]
		op := p.op(c.scope, fence.Token(in.Token))
		op.RetryID = retry
		err := c.send(p, op, in)
		in.Result = c.judge(in, err)
		told := in.Result != ""
		deaf := err == nil && in.Kind == history.Put && try < tries && rng.IntN(4) == 0
		if deaf || !told && try < tries {
			mayHave, deafened = mayHave || deaf, deafened || deaf
			continue
		}
		if deafened && (in.Result == history.Failed || in.Result == history.Absent) {
			c.t.Errorf("%s: its own success made it fail when it was sent again: %v", in, err)
		}
		if mayHave && in.Result != history.OK {
			// The last try was refused, which says nothing of the one before it.
			in.Result = history.Unknown
		}
		if in.Result != "" {
			c.add(id, call, in)
		}
		return
	}
}

func (c *contest) send(p *proxy, op guarded.Op, in history.Op) error {
	var cond object.Conditions
	if in.Create {
		cond.IfNoneMatch = "*"
	}
	if in.Match != "" {
		sum := md5.Sum([]byte(in.Match))
		cond.IfMatch = hex.EncodeToString(sum[:])
	}
	ref := c.ref(in.Key)
	if in.Kind == history.Delete {
		return p.Delete(context.Background(), &guarded.Delete{Op: op, Items: []guarded.DeleteItem{{Ref: ref, Conditions: cond}}})[0]
	}
	_, err := p.Put(context.Background(), &guarded.Put{Op: op, Ref: ref, Body: strings.NewReader(in.Value), Size: int64(len(in.Value)), Conditions: cond})
	return err
}

// again says that an error promises that nothing happened and asks to come back.
func again(err error) bool {
	return errors.Is(err, state.ErrUnavailable) || errors.Is(err, state.ErrBusy)
}

// judge translates an error into an answer, empty for "nothing happened".
func (c *contest) judge(in history.Op, err error) history.Result {
	var refused *fence.Refusal
	switch {
	case err == nil:
		return history.OK
	case errors.As(err, &refused) && refused.Verdict == fence.Stale:
		return history.Stale
	case errors.Is(err, object.ErrPreconditionFailed):
		return history.Failed
	case errors.Is(err, object.ErrNoSuchKey):
		return history.Absent
	case errors.Is(err, state.ErrUnknown):
		return history.Unknown
	case !again(err):
		c.t.Errorf("%s: %v", in, err)
	}
	return ""
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
