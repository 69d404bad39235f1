//go:build bench

package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

var (
	flagQuick   = flag.Bool("quick", false, "short rounds: under a minute, for a first look")
	flagCallers = flag.Int("callers", 16, "concurrent callers of all cases but the 64 MiB ones, which have 2")
	flagRounds  = flag.Int("rounds", 0, "rounds of each side of each case (default 4; 2 with -quick)")
	flagLength  = flag.Duration("round", 0, "length of a round (default 1.5s; 400ms with -quick)")
	flagOnly    = flag.String("only", "", "run only the cases whose name contains this, such as Put4KiB, and no package benchmarks")
	flagDir     = flag.String("dir", "", "folder for all data of the servers (default: the first of TMPDIR, /tmp, /var/tmp on a real disk)")
	flagTmpfs   = flag.Bool("tmpfs", false, "keep all data of the servers in memory (/dev/shm): shows what the proxy costs where the disk costs nothing")
	flagProxy   = flag.String("proxy", "", "the s3fence binary (default bin/s3fence of the checkout)")
	flagProfile = flag.String("profile", "", "folder for CPU and allocation profiles of the proxy, taken in each round; the proxy is then this program itself")
)

// last is the line that stands at the end of the whole output.
var last string

func TestMain(m *testing.M) {
	if file := os.Getenv(configVariable); file != "" {
		if err := serveSelf(file, os.Getenv(pprofVariable)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if last != "" {
		fmt.Fprintln(os.Stdout, last)
	}
	os.Exit(code)
}

// TestBench is the program; see the package's documentation.
func TestBench(t *testing.T) {
	begin := time.Now()
	p := settle(t)
	// A client that seldom collects its garbage disturbs its measurements less.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(1 << 30)
	s := start(t, program(t))
	if s.profiler != "" {
		p.around = profiler(s.profiler, *flagProfile, p.round)
	}
	idle, _, err := residentMemory(s.pid)
	if err != nil {
		t.Fatal(err)
	}
	cases := selected(t)
	seed(t, s, sizesRead(cases)...)

	var results []*result
	for _, l := range cases {
		fmt.Fprintf(os.Stderr, "%v: %s, %d rounds of %v on each of %s\n", time.Since(begin).Round(time.Second), l.title, p.rounds, p.round, strings.Join(l.sides, ", "))
		results = append(results, drive(t, s, l, p)...)
	}
	all := verdicts(results)
	after, _, err := residentMemory(s.pid)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, judge("resident memory of the proxy, highest", float64(highest(results))/mib, "MiB", most(64)))
	packageLines := ""
	if *flagOnly == "" {
		fmt.Fprintf(os.Stderr, "%v: benchmarks of packages\n", time.Since(begin).Round(time.Second))
		var more []verdict
		packageLines, more = packages(t, *flagQuick)
		all = append(all, more...)
	}

	out := os.Stdout
	fmt.Fprintln(out)
	lines(out, results)
	fmt.Fprint(out, packageLines)
	fmt.Fprintln(out)
	if err := table(out, results); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(out, "\nresident memory of the proxy: %.1f MiB before the first request, %.1f MiB after the last\n%s\n%s\n\n",
		float64(idle)/mib, float64(after)/mib, flatness(results), quiet(results))
	reached, err := targets(out, all)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(out)
	last = fmt.Sprintf("bench: %d cases on their sides, %d of %d targets reached, in %v", len(results), reached, len(all), time.Since(begin).Round(time.Second))
}

// program is the binary to measure; empty for this one itself.
func program(t *testing.T) string {
	t.Helper()
	if *flagProfile != "" {
		if *flagProxy != "" {
			t.Fatal("-profile and -proxy exclude each other: the delivered binary has no profiler")
		}
		if err := os.MkdirAll(*flagProfile, 0o755); err != nil {
			t.Fatal(err)
		}
		return ""
	}
	binary := *flagProxy
	if binary == "" {
		binary = filepath.Join(checkout(t), "bin", "s3fence")
	}
	binary, err := filepath.Abs(binary)
	if err == nil {
		_, err = os.Stat(binary)
	}
	if err != nil {
		t.Fatalf("%v; build it with make build, or name it with -proxy", err)
	}
	return binary
}

// settle reads the flags.
func settle(t *testing.T) plan {
	t.Helper()
	p := plan{rounds: 4, round: 1500 * time.Millisecond, callers: *flagCallers}
	if *flagQuick {
		p.rounds, p.round = 2, 400*time.Millisecond
	}
	if *flagRounds > 0 {
		p.rounds = *flagRounds
	}
	if *flagLength > 0 {
		p.round = *flagLength
	}
	if p.callers < 1 || p.callers > 512 {
		t.Fatalf("-callers %d: from 1 to 512", p.callers)
	}
	scratch(t, *flagDir, *flagTmpfs)
	return p
}

func selected(t *testing.T) []*load {
	t.Helper()
	var names []string
	var chosen []*load
	for _, l := range loads() {
		names = append(names, l.name)
		if strings.Contains(l.name, *flagOnly) {
			chosen = append(chosen, l)
		}
	}
	if len(chosen) == 0 {
		t.Fatalf("-only %s: no such case; there are %s", *flagOnly, strings.Join(names, ", "))
	}
	return chosen
}

// sizesRead are the sizes of objects that the cases read.
func sizesRead(cases []*load) []int {
	have := map[int]bool{}
	var sizes []int
	for _, l := range cases {
		if l.method != "PUT" && !have[l.size] {
			have[l.size] = true
			sizes = append(sizes, l.size)
		}
	}
	return sizes
}

func highest(results []*result) (most int64) {
	for _, r := range results {
		most = max(most, r.peak())
	}
	return most
}

// flatness says what objects of different sizes made of the proxy's memory.
func flatness(results []*result) string {
	var parts []string
	for _, r := range results {
		if r.side == "sealed" && r.load.name != "List100" && r.load.method != "HEAD" {
			parts = append(parts, fmt.Sprintf("%s %.1f MiB", r.load.title, float64(r.peak())/mib))
		}
	}
	return "highest by object size (sealed): " + strings.Join(parts, ", ")
}
