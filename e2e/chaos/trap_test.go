package chaos

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/history"
)

const trapScope = "trap"

func inTrap(o history.Op) bool { return strings.HasSuffix(o.Scope, "/"+trapScope+"/") }

// snap runs the certain one: a worker takes a lock, reads, finds its lease good and
// stops. It is succeeded by somebody who reads the same and writes, and only then
// goes on.
func (w *world) snap(o orders, own *recorder) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), readyWait)
	defer cancel()
	o.End, o.Trap = now()+readyWait, trapScope
	first := newClient(o, own, "")
	first.name = "before"
	w.must(first.takes(ctx, trapScope) && first.insist(ctx, "k0", "") == nil && first.written == 1, "the first value of the trap")
	first.release(ctx)

	k := &worker{orders: o, index: *crowd, folder: folder(w.t, "worker")}
	if err := k.launch(); err != nil {
		w.t.Fatal(err)
	}
	w.workers = append(w.workers, k)
	for !stopped(k) {
		w.must(ctx.Err() == nil && k.process.Alive(), "the trap to stop itself: "+k.process.Log())
		time.Sleep(5 * time.Millisecond)
	}
	heir := newClient(o, own, "")
	heir.name = "heir"
	w.must(heir.takes(ctx, trapScope), "the lease of the trap to end")
	w.must(heir.insist(ctx, "k0", heir.reads(ctx, "k0")) == nil && heir.written == 1, "the heir's write")
	w.must(k.process.Resume() == nil, "the trap to go on")
	if err := k.ended(); err != nil {
		w.t.Fatal(err)
	}
	heir.reads(ctx, "k0")
	w.must(ctx.Err() == nil, "all of it within "+readyWait.String())
}

// takes asks for a lock until it is granted.
func (c *client) takes(ctx context.Context, scope string) bool {
	for ctx.Err() == nil {
		if c.acquire(ctx, scope) {
			return true
		}
		c.think(ctx, 20, 50)
	}
	return false
}

// reads asks for a key until it is answered, with "" where there is none.
func (c *client) reads(ctx context.Context, key string) string {
	for ctx.Err() == nil {
		if value, _, good := c.get(ctx, key, 0); good {
			return value
		}
		c.think(ctx, 20, 50)
	}
	return ""
}

func (w *world) must(good bool, what string) {
	w.t.Helper()
	if !good {
		w.t.Fatalf("nothing came of it: %s", what)
	}
}

// stopped looks at the state of a worker's process (see proc(5)).
func stopped(k *worker) bool {
	pids, err := k.process.Pids()
	if err != nil || len(pids) != 1 {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pids[0]))
	return err == nil && strings.Contains(string(text[strings.LastIndexByte(string(text), ')'):]), ") T ")
}
