package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// workerEnvironment holds the orders of a worker; the test binary with it is one.
const workerEnvironment = "S3FENCE_CHAOS_WORKER"

// Measures of what workers do.
const (
	lanes = 3 // clients in a worker
	ttl   = time.Second
	// epoch is how long a scope is worked in: short histories are cheap to judge.
	epoch = 60 * time.Second
)

// orders are what a worker is told.
type orders struct {
	// Name is that of the process, another one after each start.
	Name   string
	Seed   uint64
	Record string
	// Begin and End are readings of the common clock.
	Begin, End           time.Duration
	Fronts               []string
	Bucket               string
	AccessKey, SecretKey string
	Scopes               int
	// Fenced workers write into the scopes that they lock, under their tokens. The
	// others write beside them, with nothing but the lock.
	Fenced bool
	// Trap is the scope of a worker that stops itself where it hurts.
	Trap string
}

func work() error {
	var o orders
	if err := json.Unmarshal([]byte(os.Getenv(workerEnvironment)), &o); err != nil {
		return err
	}
	r, err := newRecorder(filepath.Join(o.Record, o.Name+".jsonl"), o.Begin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.End-now())
	defer cancel()
	if o.Trap != "" {
		return newClient(o, r, "0").trap(ctx)
	}
	var all sync.WaitGroup
	for lane := range lanes {
		c := newClient(o, r, fmt.Sprint(lane))
		// The last lane is of those who never look at the clock.
		c.careless = lane == lanes-1
		all.Go(func() { c.run(ctx) })
	}
	all.Wait()
	return nil
}

// run works until ctx ends.
func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		scope := fmt.Sprintf("s%d-e%d", c.rng.IntN(c.Scopes), (now()-c.Begin)/epoch)
		if !c.acquire(ctx, scope) {
			if c.rng.IntN(3) == 0 {
				c.look(ctx, scope)
			}
			c.think(ctx, 20, 120)
			continue
		}
		for range 3 + c.rng.IntN(8) {
			if !c.step(ctx) {
				break
			}
		}
		if c.rng.IntN(10) < 7 {
			c.release(ctx)
		}
	}
}

// think lets a time between two bounds pass, in milliseconds: this is where workers
// are when they freeze.
func (c *client) think(ctx context.Context, from, to int) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(from+c.rng.IntN(to-from)) * time.Millisecond):
	}
}

// step does one thing under the lock and says whether it is still held.
func (c *client) step(ctx context.Context) bool {
	if ctx.Err() != nil || !c.holds(ctx) {
		return false
	}
	key := fmt.Sprint("k", c.rng.IntN(4))
	switch n := c.rng.IntN(100); {
	case n < 45:
		return c.readModifyWrite(ctx, key)
	case n < 55:
		return c.put(ctx, key, c.value(""), condition{})
	case n < 58:
		return c.put(ctx, key, c.value(""), condition{create: true})
	case n < 63:
		return c.remove(ctx, key)
	case n < 72:
		return c.multipart(ctx, key, c.value(""))
	case n < 88:
		return c.publish(ctx)
	case n < 95:
		return c.list(ctx)
	default:
		return c.look(ctx, c.scope)
	}
}

// holds looks at the clock, as everybody should, and renews in time.
func (c *client) holds(ctx context.Context) bool {
	left := c.deadline - now()
	switch {
	case c.careless:
		return true
	case left < 0:
		return false
	case left < ttl/2:
		return c.renew(ctx)
	}
	return true
}

// readModifyWrite is what locks are for. A third of them are sure by a condition.
func (c *client) readModifyWrite(ctx context.Context, key string) bool {
	got, etag, good := c.get(ctx, key, c.token)
	if !good {
		return false
	}
	c.think(ctx, 10, 250)
	if ctx.Err() != nil {
		return false
	}
	var sure condition
	if c.rng.IntN(3) == 0 {
		if sure = (condition{match: etag, matches: got}); got == "" {
			sure = condition{create: true}
		}
	}
	return c.put(ctx, key, c.value(got), sure)
}

// The objects of a publication. The manifest is written last: whoever reads it
// first, and then the parts, finds none that is older.
var publicationParts = []string{"part-a", "part-b", "part-c"}

const manifest = "manifest"

func (c *client) publish(ctx context.Context) bool {
	c.publications++
	for _, key := range append(append([]string{}, publicationParts...), manifest) {
		before := c.written
		if !c.put(ctx, key, c.published(), condition{}) {
			return false
		}
		if c.written == before {
			return true // it did not come through: no manifest
		}
		c.think(ctx, 2, 25)
	}
	return true
}

// look reads a publication as anybody may.
func (c *client) look(ctx context.Context, scope string) bool {
	held := c.scope
	c.scope = scope
	defer func() { c.scope = held }()
	for _, key := range append([]string{manifest}, publicationParts...) {
		if _, _, good := c.get(ctx, key, 0); !good {
			return true
		}
	}
	return true
}

// trap takes a lock, reads, looks at its lease, and stops itself before it writes.
// Somebody continues it.
func (c *client) trap(ctx context.Context) error {
	// Not before it is sure of its lease, as everybody should be.
	var got string
	for good := false; !good; {
		if !c.takes(ctx, c.Trap) {
			return ctx.Err()
		}
		got = c.reads(ctx, "k0")
		good = c.holds(ctx)
	}
	// To this very thread: it stops before the call returns. A signal to the process
	// may go to another thread first, and the write be sent meanwhile.
	runtime.LockOSThread()
	if err := unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP); err != nil {
		return err
	}
	return c.insist(ctx, "k0", got)
}

// insist writes what was made from a value until an answer says that it is written,
// or stale.
func (c *client) insist(ctx context.Context, key, parent string) error {
	for before := c.written; ctx.Err() == nil; c.think(ctx, 20, 50) {
		if !c.put(ctx, key, c.value(parent), condition{}) || c.written > before {
			return nil
		}
	}
	return ctx.Err()
}

// condition of a put, and the value whose ETag it names.
type condition struct {
	create         bool
	match, matches string
}

// client is one client of a worker, or of the test: one operation at a time.
type client struct {
	orders
	*caller
	name     string
	rng      *rand.Rand
	record   *recorder
	careless bool

	scope    string
	token    int64
	deadline time.Duration
	// via is the number of the proxy asked last.
	via                           int
	serial, publications, written int
}

func newClient(o orders, r *recorder, lane string) *client {
	c := &client{orders: o, caller: newCaller(o.AccessKey, o.SecretKey), record: r, name: o.Name}
	if lane != "" {
		c.name += "." + lane
	}
	var salt uint64
	for _, b := range []byte(c.name) {
		salt = salt*131 + uint64(b)
	}
	c.rng = rand.New(rand.NewPCG(o.Seed, salt))
	return c
}

// value is one that nobody else writes. Of what it was made from, parent, it keeps
// the name; some are large.
func (c *client) value(parent string) string {
	c.serial++
	v := writing{token: c.token, client: c.name, serial: c.serial, parent: parseWriting(parent).id()}
	switch n := c.rng.IntN(30); {
	case n == 0:
		v.padding = 1_200_000
	case n < 3:
		v.padding = 150_000
	}
	return v.String()
}

func (c *client) published() string {
	c.serial++
	return writing{token: c.token, client: c.name, serial: c.serial, publication: c.publications}.String()
}
