package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/s3fence/s3fence/internal/history"
)

// Report writes what is known of a failed run into a new directory outside of the
// checkout and returns the directory: plan.json, the schedule, which SIM_PLAN runs
// again; trace.txt; history.json, which package history reads; findings.txt.
func Report(r *Result) (dir string, err error) {
	if dir, err = os.MkdirTemp("", fmt.Sprintf("s3fence-sim-%d-*", r.Plan.Seed)); err != nil {
		return "", fmt.Errorf("a place for the report: %w", err)
	}
	plan, err := json.MarshalIndent(r.Plan, "", "  ")
	if err != nil {
		return "", fmt.Errorf("writing the schedule: %w", err)
	}
	var ops, findings strings.Builder
	if err := history.Write(&ops, r.Ops); err != nil {
		return "", err
	}
	for _, f := range r.Findings {
		fmt.Fprintln(&findings, f)
	}
	for name, text := range map[string]string{
		"plan.json": string(plan), "history.json": ops.String(), "findings.txt": findings.String(), "trace.txt": strings.Join(r.Trace, "\n") + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("writing the report: %w", err)
		}
	}
	return dir, nil
}

// ReadPlan reads a schedule of a report.
func ReadPlan(file string) (*Plan, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading a schedule: %w", err)
	}
	p := &Plan{}
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("the schedule %s: %w", file, err)
	}
	return p, nil
}

// String is what is left of a schedule, for people.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %d proxies\n", p.Seed, p.Proxies)
	for i, orders := range p.Clients {
		for _, o := range orders {
			fmt.Fprintf(&b, "  c%d: after %v %v\n", i, o.After, o)
		}
	}
	for _, f := range p.Faults {
		fmt.Fprintf(&b, "  step %d: %v\n", f.Step, f)
	}
	for _, k := range sortedKinds(p.Rates) {
		if p.Rates[k] > 0 {
			fmt.Fprintf(&b, "  %.3f of messages: %s\n", p.Rates[k], k)
		}
	}
	return b.String()
}
