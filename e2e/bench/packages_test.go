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
// is spent before and besides the bytes.
var inPackages = []struct {
	name, folder string
	// long ones need seconds to settle.
	long bool
	// unit is compared with want where it is not empty.
	title, unit, as string
	scale           float64
	want            target
}{
	{name: "BenchmarkCommitHotScope", folder: "internal/sealed", long: true, title: "commits into one hot scope, 64 callers, PostgreSQL", unit: "commits/s", as: "/s", scale: 1, want: least(10_000)},
	{name: "BenchmarkKnownStale", folder: "internal/sealed", title: "verdict on a token known as stale", unit: "ns/op", as: "µs", scale: 1e-3, want: most(5)},
	{name: "BenchmarkVerifyHeader", folder: "internal/sigv4"},
	{name: "BenchmarkVerifyPresigned", folder: "internal/sigv4"},
	{name: "BenchmarkSign", folder: "internal/upstream"},
	{name: "BenchmarkFind", folder: "internal/fence"},
	{name: "BenchmarkRoute", folder: "internal/s3api"},
}

// packages runs those benchmarks and returns their lines and verdicts. They run
// when the servers of the cases are idle.
func packages(t *testing.T, quick bool) (text string, all []verdict) {
	t.Helper()
	root, err := filepath.Abs(checkout(t))
	if err != nil {
		t.Fatal(err)
	}
	short, long := "300ms", "3s"
	if quick {
		short, long = "50ms", "1s"
	}
	var out strings.Builder
	for _, b := range inPackages {
		benchtime := short
		if b.long {
			benchtime = long
		}
		got, err := runPackage(t.Context(), root, b.folder, b.name, benchtime)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(got)
		if b.unit == "" {
			continue
		}
		value, ok := metric(got, b.name, b.unit)
		if !ok {
			t.Fatalf("%s of %s reports no %s:\n%s", b.name, b.folder, b.unit, got)
		}
		all = append(all, judge(b.title, value*b.scale, b.as, b.want))
	}
	return out.String(), all
}

// runPackage returns the lines that benchstat reads. A benchmark that is not
// there gives none.
func runPackage(ctx context.Context, root, folder, name, benchtime string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, packageWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+name+"$", "-benchtime", benchtime, "-benchmem", "./"+folder)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s of %s: %w\n%s", name, folder, err, out)
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
