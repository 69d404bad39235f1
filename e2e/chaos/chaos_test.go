package chaos

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/history"
)

var (
	length  = flag.Duration("for", 18*time.Second, "how long each of the two runs lasts")
	seed    = flag.Uint64("seed", 1, "what the gremlin and the workers do")
	pageTo  = flag.String("page", "", "write the page of the fenced run to this file, and that of the other one beside it")
	crowd   = flag.Int("workers", 12, "worker processes")
	scopes  = flag.Int("scopes", 6, "scopes that are worked in at a time")
	keep    = flag.String("records", "", "keep the records of all workers in this folder, which must be empty")
	runBoth = flag.Bool("unfenced", true, "run without the fence, too")
)

func TestMain(m *testing.M) {
	if os.Getenv(workerEnvironment) != "" {
		if err := work(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run is one run of a world, and what came of it.
type run struct {
	fenced bool
	ops    []history.Op
	marks  []history.Mark
	odd    map[string]int
	harm   harm
	lasted time.Duration
}

// TestChaos: no violation with the fence, and without it, under the same faults, at
// least the one that is certain.
func TestChaos(t *testing.T) {
	w := newWorld(t)
	fenced := w.run(true)
	verdict := history.Judge(fenced.ops, history.Options{Keys: true})
	page := *pageTo
	if t.Failed() || verdict != nil || len(fenced.harm.all()) > 0 {
		page = cmp.Or(page, filepath.Join(os.TempDir(), fmt.Sprintf("s3fence-chaos-%d.html", *seed)))
	}
	if page != "" {
		fenced.page(t, page, verdict)
	}
	if verdict != nil {
		t.Errorf("with the fence: %v", verdict)
	}
	if n := len(fenced.harm.all()); n > 0 {
		t.Errorf("with the fence: %d harmful writes: %v", n, fenced.harm)
	}
	if twice := sameTokens(fenced.ops); len(twice) > 0 {
		t.Errorf("granted twice (F2): %v", twice)
	}
	if !slices.ContainsFunc(fenced.ops, func(o history.Op) bool { return inTrap(o) && o.Kind == history.Put && o.Result == history.Stale }) {
		t.Error("the write of the trap was not refused (F4)")
	}
	closing := fenced.String()
	if *runBoth {
		open := w.run(false)
		if page != "" {
			open.page(t, strings.TrimSuffix(page, ".html")+"-unfenced.html", nil)
		}
		if n := len(open.harm.all()); n == 0 {
			t.Error("without the fence nothing was corrupted: the run proves nothing")
		}
		var seen *history.Violation
		trap := slices.DeleteFunc(slices.Clone(open.ops), func(o history.Op) bool { return !inTrap(o) })
		if err := history.Judge(trap, history.Options{}); !errors.As(err, &seen) {
			t.Errorf("the judge does not see what the trap did without the fence: %v", err)
		}
		closing += fmt.Sprintf("; prevented %d (%d by holders that look at their lease): without the fence %v", len(open.harm.all()), open.harm.heedful(), open.harm)
	}
	t.Logf("seed %d: %s%s", *seed, closing, map[bool]string{true: "; page " + page}[page != ""])
}

func (r run) String() string {
	n := map[history.Result]int{}
	takeovers := 0
	for _, o := range r.ops {
		n[o.Result]++
		if o.Kind == history.Grant && o.Result == history.OK {
			takeovers++
		}
	}
	faults := map[string]int{}
	for _, m := range r.marks {
		faults[m.What]++
	}
	var list []string
	for _, what := range slices.Sorted(maps.Keys(faults)) {
		list = append(list, fmt.Sprintf("%d × %s", faults[what], what))
	}
	return fmt.Sprintf("%d operations in %v, %d takeovers, %d refused as stale, %d of unknown outcome; faults: %s; violations %d",
		len(r.ops), r.lasted.Round(time.Second), takeovers, n[history.Stale], n[history.Unknown], strings.Join(list, ", "), len(r.harm.all()))
}

func (r run) page(t *testing.T, path string, verdict error) {
	t.Helper()
	title := "Chaos with the fence"
	if !r.fenced {
		title = "Chaos without the fence"
	}
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(history.Page(f, history.Report{
			Title: fmt.Sprintf("%s, seed %d", title, *seed), Ops: r.ops, Marks: r.marks, Err: verdict, Unjudged: !r.fenced,
			Notes: []string{r.String(), "Harmful writes: " + r.harm.String()},
		}), f.Close())
	}
	if err == nil && verdict != nil {
		// Whoever looks for the reason wants all of it.
		if f, err = os.Create(path + ".jsonl"); err == nil {
			err = errors.Join(history.Write(f, r.ops), f.Close())
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// run lets the trap snap, then the workers work and the gremlin hurt, heals the
// world, and looks at what stands in the end.
func (w *world) run(fenced bool) run {
	w.t.Helper()
	began := now()
	o := orders{
		Seed: *seed, Record: filepath.Join(w.records, fmt.Sprint("fenced-", fenced)), Begin: began,
		Bucket: w.bucket, AccessKey: w.accessKey, SecretKey: w.secretKey, Scopes: *scopes, Fenced: fenced,
	}
	if err := os.Mkdir(o.Record, 0o700); err != nil {
		w.t.Fatal(err)
	}
	for _, p := range w.proxies {
		o.Fronts = append(o.Fronts, "http://"+p.addr)
	}
	own, err := newRecorder(filepath.Join(o.Record, "own.jsonl"), began)
	if err != nil {
		w.t.Fatal(err)
	}
	w.snap(o, own)
	g := &gremlin{world: w, begin: began, end: now() + *length, seed: *seed, busy: map[string]bool{}, count: map[string]int{}}
	w.crowd(o)
	ctx, cancel := context.WithTimeout(w.t.Context(), *length)
	defer cancel()
	w.progress(ctx, g)
	g.run(ctx)
	if err := errors.Join(g.failed, w.heal()); err != nil {
		w.t.Fatal(err)
	}
	for _, k := range w.workers {
		if err := k.ended(); err != nil {
			w.t.Fatal(err)
		}
	}
	ops, _ := gather(w.t, o.Record, now()-began)
	w.lookAround(o, own, ops)
	r := run{fenced: fenced, marks: g.marks, lasted: now() - began}
	r.ops, r.odd = gather(w.t, o.Record, r.lasted)
	named(r.ops)
	r.harm = corruptions(r.ops)
	for what, n := range r.odd {
		w.t.Errorf("%d × an answer that nobody expects: %s", n, what)
	}
	return r
}

// crowd starts the workers.
func (w *world) crowd(o orders) {
	w.t.Helper()
	w.workers = nil
	o.End = now() + *length
	for i := range *crowd {
		k := &worker{orders: o, index: i, folder: folder(w.t, "worker")}
		k.orders.Fronts = nil
		for _, p := range w.proxies {
			k.orders.Fronts = append(k.orders.Fronts, "http://"+p.fronts[i%groups].Addr())
		}
		if err := k.launch(); err != nil {
			w.t.Fatal(err)
		}
		w.workers = append(w.workers, k)
	}
}

// progress says every now and then how far it is.
func (w *world) progress(ctx context.Context, g *gremlin) {
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Second):
			}
			g.mu.Lock()
			fmt.Fprintf(os.Stderr, "%v: %d faults so far: %v\n", (now() - g.begin).Round(time.Second), len(g.marks), g.count)
			g.mu.Unlock()
		}
	}()
}

// lookAround reads every key that anybody has written, and lists every scope,
// through every proxy.
func (w *world) lookAround(o orders, own *recorder, ops []history.Op) {
	w.t.Helper()
	keys := map[string]map[string]bool{}
	for _, op := range ops {
		scope := strings.TrimSuffix(strings.TrimPrefix(op.Scope, "s3://"+w.bucket+"/jobs/"), "/")
		if keys[scope] == nil {
			keys[scope] = map[string]bool{}
		}
		if op.Key != "" {
			keys[scope][op.Key] = true
		}
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), readyWait)
	defer cancel()
	for i, p := range w.proxies {
		at := o
		at.Fronts, at.Name = o.Fronts[i:i+1], "final "+p.name
		c := newClient(at, own, "")
		for scope, all := range keys {
			c.scope = scope
			for key := range all {
				c.reads(ctx, key)
			}
			for !c.list(ctx) && ctx.Err() == nil {
				c.think(ctx, 20, 50)
			}
			if ctx.Err() != nil {
				w.t.Fatalf("%s cannot be read through %s", c.prefix(), p.name)
			}
		}
	}
}
