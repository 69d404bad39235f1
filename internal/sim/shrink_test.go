package sim

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestShrink: of a schedule is left what the fault needs, and the report of it can be
// run again.
func TestShrink(t *testing.T) {
	t.Parallel()
	p := NewPlan(7).with(func(q *Plan) { q.Faults = nil }).WithFailover(200, 300*time.Millisecond)
	runs := 0
	run := func(p *Plan) *Result {
		runs++
		r := &Result{Plan: p}
		// It takes a failover and a take of the second client.
		if slices.ContainsFunc(p.Faults, func(f Fault) bool { return f.Kind == Failover }) &&
			slices.ContainsFunc(p.Clients[1], func(o Order) bool { return o.Do == Put }) {
			r.Findings = []Finding{{checkMarks, "it fell"}}
		}
		return r
	}
	if !run(p).Failed(checkMarks) {
		t.Fatal("the schedule does not fail to begin with")
	}
	small, r := Shrink(p, checkMarks, time.Minute, run)
	orders := 0
	for _, list := range small.Clients {
		orders += len(list)
	}
	if len(small.Faults) != 1 || len(small.Rates) != 0 || orders != 1 || !r.Failed(checkMarks) {
		t.Errorf("after %d runs there is left:\n%v", runs, small)
	}

	dir, err := Report(Run(t, small, Options{Trace: true}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	again, err := ReadPlan(filepath.Join(dir, "plan.json"))
	if err != nil || again.String() != small.String() {
		t.Errorf("%v: the report has the schedule\n%v", err, again)
	}
	for name, has := range map[string]string{"history.html": "Seed 7", "history.json": `"kind":"put"`, "trace.txt": "begins put", "findings.txt": ""} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(text), has) {
			t.Errorf("%s: %v, %.200s", name, err, text)
		}
	}
}
