package sim

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/boottime"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/history"
	"github.com/s3fence/s3fence/internal/state"
)

// bend makes a deployment that is wrong in one way: the proof that the checks find it.
type bend struct {
	// state wraps the state as a proxy sees it.
	state func(state.State) state.State
	// clock replaces the clock of leases, patience is how long who adds a guard waits
	// for other proxies; the lease where zero.
	clock    *boottime.Clock
	patience time.Duration
	// deaf: a failure of the store is taken for success.
	deaf bool
}

// cluster is a deployment with its clients.
type cluster struct {
	w        *world
	plan     *Plan
	bend     bend
	log      *slog.Logger
	db       *database
	store    *store
	net      *actor
	machines []*machine
	clients  []*client
	keys     *auth.Keyring
	guards   []fence.Guard
	history  *history.Recorder
	actors   []*actor // every one that was ever made; w.mu guards it

	mu     sync.Mutex
	faults []Finding
	grants map[int64]string
	issued held // the latest of the external issuer
	values int
	recent map[string][]string // values by scope and key
	etags  map[string]string   // of values
	byTag  map[string]string   // values of ETags
	marks  map[fence.Scope]fence.Mark
}

// Check is what a run is checked for.
type Check string

// The checks.
const (
	checkHistory  Check = "history"  // F1–F7, F10 as clients see them
	checkAnswers  Check = "answers"  // answers that must not be (F7)
	checkGrants   Check = "grants"   // F2
	checkMarks    Check = "marks"    // F1
	checkBytes    Check = "bytes"    // F6: what rows point at
	checkGarbage  Check = "garbage"  // what is left for ever
	checkLiveness Check = "liveness" // all works again once nothing goes wrong
)

// Finding is a check that failed.
type Finding struct {
	Check Check
	Text  string
}

func (f Finding) String() string { return string(f.Check) + ": " + f.Text }

// Result is what became of a run.
type Result struct {
	Plan     *Plan
	Findings []Finding
	Ops      []history.Op
	// Sum is the hash of the trace, Trace its lines where they were asked for.
	Sum   uint64
	Trace []string
	Steps int
	// Faults counts what went wrong, by kind; Time is how long the run took by its own
	// clock.
	Faults map[Kind]int
	Time   time.Duration
}

// Failed reports whether a check failed.
func (r *Result) Failed(c Check) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Check == c })
}

// Options of a run.
type Options struct {
	// Trace keeps the lines of the trace.
	Trace bool
	bend  bend
}

// Run runs a schedule. It must not be called in a bubble of testing/synctest.
func Run(t *testing.T, p *Plan, o Options) *Result {
	t.Helper()
	var r *Result
	synctest.Test(t, func(*testing.T) { r = play(p, o) })
	return r
}

func play(p *Plan, o Options) *Result {
	c := newCluster(p, o)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.script()
	}()
	c.w.run(done)
	w := c.w
	return &Result{Plan: p, Findings: c.faults, Ops: c.history.Ops(), Sum: w.sum, Trace: w.lines, Steps: w.steps, Faults: w.struck, Time: time.Since(w.begun)}
}

func newCluster(p *Plan, o Options) *cluster {
	w := newWorld(p, o.Trace)
	c := &cluster{
		w: w, plan: p, bend: o.bend, log: slog.New(slog.DiscardHandler), db: newDatabase(w), store: newStore(w), net: &actor{name: "net"},
		history: history.NewRecorder(nil), grants: map[int64]string{}, issued: held{generation: 1},
		recent: map[string][]string{}, etags: map[string]string{}, byTag: map[string]string{}, marks: map[fence.Scope]fence.Mark{},
	}
	c.db.changed, c.store.deleted, w.strike = c.checkMarks, c.checkDeleted, c.strike
	for i := range p.Proxies {
		c.machines = append(c.machines, &machine{n: i, c: c})
	}
	var creds []auth.Credential
	for i, orders := range p.Clients {
		name := fmt.Sprintf("c%d", i)
		if i == len(p.Clients)-1 {
			name = "operator"
		}
		cl := &client{actor: &actor{name: name}, c: c, orders: orders, hand: &hand{tokens: map[int]held{}}, creds: aws.Credentials{AccessKeyID: "key-" + name, SecretAccessKey: "secret-of-" + name}}
		if p.Shared && i%2 == 1 {
			cl.hand = c.clients[i-1].hand
		}
		c.clients = append(c.clients, cl)
		creds = append(creds, auth.Credential{AccessKey: cl.creds.AccessKeyID, SecretKey: cl.creds.SecretAccessKey, Grants: []auth.Grant{{Bucket: auth.Anywhere, Rights: auth.All}}})
		c.actors = append(c.actors, cl.actor)
	}
	var err error
	if c.keys, err = auth.NewKeyring(creds); err != nil {
		panic(err) // they are made here
	}
	for pattern, issuer := range map[string]fence.Issuer{"a/": fence.Own, "jobs/*/": fence.Own, "ext/": fence.External} {
		parsed, err := fence.ParsePattern("s3://" + bucket + "/" + pattern)
		if err != nil {
			panic(err) // constants
		}
		c.guards = append(c.guards, fence.Guard{Pattern: parsed, Issuer: issuer})
	}
	slices.SortFunc(c.guards, func(a, b fence.Guard) int {
		return int(a.Pattern.String()[len("s3://data/")]) - int(b.Pattern.String()[len("s3://data/")])
	})
	return c
}

// script is what happens, from the beginning to the last check.
func (c *cluster) script() {
	c.preload()
	for _, m := range c.machines {
		m.start()
	}
	for !c.serving() {
		time.Sleep(100 * time.Millisecond)
	}
	c.w.troubled()
	var working sync.WaitGroup
	for _, cl := range c.clients {
		working.Go(cl.work)
	}
	working.Wait()
	c.w.thaw()
	c.heal()
	c.checkLive()
	c.w.wg.Wait() // all that was late has come
	c.checkRest()
	c.stop()
	c.w.wg.Wait()
	c.judge()
}

// serving reports whether every proxy serves.
func (c *cluster) serving() bool {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return !slices.ContainsFunc(c.machines, func(m *machine) bool { return m.proxy == nil || m.proxy.handler == nil })
}

// preload puts objects into the store before anything begins: sources of copies, and
// what the last guard takes in.
func (c *cluster) preload() {
	for i := range 3 {
		value := c.value()
		c.saw(Order{Scope: adopted, Key: i}, value, etagOf([]byte(value)))
		c.store.write(bucket+"/"+scopes[adopted].prefix+strconv.Itoa(i), blobOf([]byte(value), nil), 0)
		c.history.Add(history.Op{Client: "before", Scope: scopes[adopted].String(), Kind: history.Put, Key: strconv.Itoa(i), Value: value, Result: history.OK, Call: c.history.Now()})
	}
}

// heal ends all faults, and waits until leases have been had anew.
func (c *cluster) heal() {
	c.w.mu.Lock()
	actors := slices.Clone(c.actors)
	c.db.down = time.Time{}
	c.w.mu.Unlock()
	c.w.calm(actors)
	c.db.clock.Store(0)
	c.store.setClocks(0, 0)
	for _, m := range c.machines {
		m.clock.Store(0)
		if m.down() {
			m.start()
		}
	}
	time.Sleep(2 * lease)
}

// stop ends all proxies in good order.
func (c *cluster) stop() {
	var ending sync.WaitGroup
	for _, m := range c.machines {
		p := m.proxy
		ending.Go(p.bury)
	}
	ending.Wait()
}

func (c *cluster) fault(check Check, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.w.tell("FAULT %s: %s", check, text)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, Finding{check, text})
}

// issue is the external issuer's next token. It gives none while it does not know in
// which generation the scope is.
func (c *cluster) issue() (held, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.issued.token++
	return c.issued, true
}

// reset has the external issuer begin anew.
func (c *cluster) reset(generation int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation > c.issued.generation {
		c.issued = held{generation: generation}
	}
}

// granted holds that no token is granted twice (F2).
func (c *cluster) granted(client string, token int64) {
	c.mu.Lock()
	other, twice := c.grants[token]
	c.grants[token] = client
	c.mu.Unlock()
	if twice {
		c.fault(checkGrants, "token %d was granted to %s and to %s", token, other, client)
	}
}

// value is one that nothing else has.
func (c *cluster) value() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values++
	return fmt.Sprintf("v%d", c.values)
}

// source makes an object that will be copied once.
func (c *cluster) source() (key, value string) {
	value = c.value()
	key = "src/" + value
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.store.write(bucket+"/"+key, blobOf([]byte(value), nil), 0)
	return key, value
}

// saw notes a value that is about to be written, with its ETag.
func (c *cluster) saw(o Order, value, etag string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := fmt.Sprintf("%d/%d", o.Scope, o.Key)
	c.recent[at] = append(c.recent[at], value)
	c.etags[value], c.byTag[etag] = etag, value
}

// seen is one of the latest values of a key.
func (c *cluster) seen(o Order) (value, etag string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.recent[fmt.Sprintf("%d/%d", o.Scope, o.Key)]
	if len(list) == 0 {
		return "", ""
	}
	value = list[max(0, len(list)-1-o.N%3)]
	return value, c.etags[value]
}

func (c *cluster) valueOfTag(etag string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v := c.byTag[etag]; v != "" {
		return v
	}
	return "of ETag " + etag
}
