package sim

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q is no number", name, s)
	}
	return n
}

// tally sums up runs.
type tally struct {
	mu          sync.Mutex
	next, last  uint64
	seeds, ops  int
	steps, fail int
	faults      map[Kind]int
	begun       time.Time
}

func (y *tally) take() (uint64, bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.next > y.last {
		return 0, false
	}
	y.next++
	return y.next - 1, true
}

func (y *tally) add(t *testing.T, r *Result) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.seeds++
	y.ops += len(r.Ops)
	y.steps += r.Steps
	for k, n := range r.Faults {
		y.faults[k] += n
	}
	if len(r.Findings) > 0 {
		y.fail++
	}
	if y.seeds%1000 == 0 {
		t.Logf("%d seeds, %d failed, %v", y.seeds, y.fail, time.Since(y.begun).Round(time.Second))
	}
}

// TestSeeds runs schedules from SIM_FROM on, SIM_SEEDS of them; SIM_SEED is one alone,
// SIM_PLAN a schedule from a file. (F1–F7, F9, F10)
func TestSeeds(t *testing.T) {
	if file := os.Getenv("SIM_PLAN"); file != "" {
		p, err := ReadPlan(file)
		if err != nil {
			t.Fatal(err)
		}
		fail(t, Run(t, p, Options{Trace: true}))
		return
	}
	from := number(t, "SIM_FROM", 1)
	y := &tally{next: from, last: from + number(t, "SIM_SEEDS", 40) - 1, faults: map[Kind]int{}, begun: time.Now()}
	if seed := number(t, "SIM_SEED", 0); seed != 0 {
		y.next, y.last = seed, seed
	}
	t.Run("of", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for seed, ok := y.take(); ok; seed, ok = y.take() {
					r := Run(t, NewPlan(seed), Options{})
					y.add(t, r)
					fail(t, r)
				}
			})
		}
	})
	t.Logf("%d seeds, %d operations, %d steps, %v, %d failed", y.seeds, y.ops, y.steps, time.Since(y.begun).Round(time.Millisecond), y.fail)
	for _, k := range sortedKinds(y.faults) {
		t.Logf("%7d × %s", y.faults[k], k)
	}
}

// shrinkTime bounds the search for a smaller schedule.
const shrinkTime = 30 * time.Second

// fail reports a run that failed.
func fail(t *testing.T, r *Result) {
	t.Helper()
	if len(r.Findings) == 0 {
		return
	}
	for _, f := range r.Findings {
		t.Errorf("seed %d: %v", r.Plan.Seed, f)
	}
	p, small := Shrink(r.Plan, r.Findings[0].Check, shrinkTime, func(p *Plan) *Result { return Run(t, p, Options{Trace: true}) })
	dir, err := Report(small)
	if err != nil {
		t.Error(err)
	}
	t.Errorf("seed %d fails still with %sSIM_SEED=%d go test -run TestSeeds ./internal/sim runs all of it again, SIM_PLAN=%s/plan.json what is left: its trace and history are there, too", p.Seed, p, p.Seed, dir)
	for _, f := range small.Findings {
		t.Errorf("seed %d, shrunk: %v", p.Seed, f)
	}
}

// TestOneSeedOneTrace: a seed is one order of all that happens.
func TestOneSeedOneTrace(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 50; seed++ {
		a, b := Run(t, NewPlan(seed), Options{Trace: true}), Run(t, NewPlan(seed), Options{Trace: true})
		if a.Sum == b.Sum {
			continue
		}
		for i := range a.Trace {
			if i >= len(b.Trace) || a.Trace[i] != b.Trace[i] {
				t.Errorf("seed %d, from here on it differs:\n%s\n%s", seed, a.Trace[i], append(b.Trace, "(the end)")[min(i, len(b.Trace))])
				break
			}
		}
	}
}
