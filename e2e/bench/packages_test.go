//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// packageWait bounds the benchmarks of packages, their compilation included.
const packageWait = 5 * time.Minute

// inPackages are the benchmarks beside the code that belong to the picture: what
// is spent before and besides the bytes. A folder stands once, since each costs
// a build.
var inPackages = []struct {
	folder string
	names  []string
	// goals are compared with what was measured, by name.
	goals map[string]goal
}{
	{folder: "internal/sealed", names: []string{"BenchmarkCommitHotScope", "BenchmarkKnownStale"}, goals: map[string]goal{
		"BenchmarkCommitHotScope": {"commits into one hot scope, 64 callers, PostgreSQL", "commits/s", "/s", 1, least(10_000)},
		"BenchmarkKnownStale":     {"verdict on a token known as stale", "ns/op", "µs", 1e-3, most(5)},
	}},
	{folder: "internal/sigv4", names: []string{"BenchmarkVerifyHeader", "BenchmarkVerifyPresigned"}},
	{folder: "internal/s3api", names: []string{"BenchmarkRoute", "BenchmarkPutPipeline", "BenchmarkGetPipeline", "BenchmarkKnownStale"}},
	{folder: "internal/upstream", names: []string{"BenchmarkSign"}},
	{folder: "internal/fence", names: []string{"BenchmarkFind"}},
}

// goal is a target for one metric of a benchmark.
type goal struct {
	title string
	// unit is benchstat's; times scale it is in as.
	unit, as string
	scale    float64
	want     target
}

// packages runs those benchmarks, one folder after the other, and returns their
// lines and verdicts. The servers of the cases are idle meanwhile. A quick run
// asks only for what has a goal.
func packages(t *testing.T, quick bool) (text string, all []verdict) {
	t.Helper()
	root := checkout(t)
	var out strings.Builder
	for _, b := range inPackages {
		benchtime := "300ms"
		switch {
		case quick && len(b.goals) == 0:
			continue
		case len(b.goals) > 0 && !quick:
			benchtime = "2s"
		}
		got, err := runPackage(t.Context(), root, b.folder, "^("+strings.Join(b.names, "|")+")$", benchtime)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(got)
		for _, name := range b.names {
			g, ok := b.goals[name]
			if !ok {
				continue
			}
			value, ok := metric(got, name, g.unit)
			if !ok {
				t.Fatalf("%s of %s reports no %s:\n%s", name, b.folder, g.unit, got)
			}
			all = append(all, judge(g.title, value*g.scale, g.as, g.want))
		}
	}
	return out.String(), all
}

// runPackage returns the lines that benchstat reads.
func runPackage(ctx context.Context, root, folder, pattern, benchtime string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, packageWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchtime", benchtime, "-benchmem", "./"+folder)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("benchmarks of %s: %w\n%s", folder, err, out)
	}
	var kept strings.Builder
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "Benchmark") || strings.HasPrefix(line, "pkg: ") {
			kept.WriteString(line + "\n")
		}
	}
	return kept.String(), nil
}

// metric finds a value of a benchmark in lines for benchstat.
func metric(lines, name, unit string) (float64, bool) {
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[0] != name && !strings.HasPrefix(fields[0], name+"-") {
			continue
		}
		for i := 2; i+1 < len(fields); i += 2 {
			if fields[i+1] == unit {
				v, err := strconv.ParseFloat(fields[i], 64)
				return v, err == nil
			}
		}
	}
	return 0, false
}

// checkout is the root of the source tree.
func checkout(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	mod := strings.TrimSpace(string(out))
	if err == nil && (mod == "" || mod == "/dev/null") {
		err = errors.New("no go.mod at or above the working directory: run it inside the checkout")
	}
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(mod)
}
