package arrows

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const trackRecord = "../../docs/track-record.md"

// ways are how bugs were found, by the words in which rows say so. The first that
// matches counts.
var ways = []struct {
	name  string
	words *regexp.Regexp
}{
	{"the simulation", regexp.MustCompile(`^simulation`)},
	{"soak, and limits that are reached", regexp.MustCompile(`a disk of|connections of which|waiters|the soak`)},
	{"hostile review", regexp.MustCompile(`review`)},
	{"the tests of others (MinIO's, versitygw's, go-cloud's)", regexp.MustCompile(`minio-go's|versitygw's tests|go-cloud's`)},
	{"fuzzing", regexp.MustCompile(`fuzz`)},
	{"comparing with a store, or with S3's reference", regexp.MustCompile(`at the store|the store's$|reference|against the AWS SDK|differential|comparing|at the store and|real stores|what stores do`)},
	{"faults: frozen, killed, cut off, slow, racing", regexp.MustCompile(`frozen|stepping|cut |CloseWrite|resets|flips|restart|busy machine|now and then|racing|flood|slow clients|at once|contexts that end|part of the wait`)},
	{"real programs, and people's mistakes", regexp.MustCompile(`boto3|aws CLI|client matrix|example|typed in|mistyped|exit codes|looking at|reading|the Go SDK|the recipes`)},
	{"sweeps: every key, right, size, form, place", regexp.MustCompile(`every|each|table|forged|secrets|largest|scopes with odd|reads of objects|10,001|arithmetic|benchmark|as a tenant`)},
}

// row is a bug. What says "the same" has been put in for.
type row struct {
	line                          int
	bug, breaks, found, reproduce string
}

func readRecord(t *testing.T) (page string, rows []row) {
	t.Helper()
	b, err := os.ReadFile(trackRecord)
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(b), "|---|---|---|---|---|\n")
	if !ok {
		t.Fatalf("%s has no table", trackRecord)
	}
	first := strings.Count(string(b[:len(b)-len(table)]), "\n") + 1
	table, _, _ = strings.Cut(table, "\n\n") // what follows tells of runs
	for i, line := range strings.Split(strings.TrimSpace(table), "\n") {
		cells := strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00"), "|")
		if len(cells) != 5 {
			t.Fatalf("%s:%d has %d cells", trackRecord, first+i, len(cells))
		}
		for c := range cells {
			if cells[c] = strings.TrimSpace(strings.ReplaceAll(cells[c], "\x00", "|")); cells[c] == "" {
				t.Errorf("%s:%d: cell %d is empty", trackRecord, first+i, c+1)
			}
		}
		r := row{first + i, cells[0], cells[1], cells[2], cells[3]}
		if n := len(rows); n > 0 {
			for _, c := range []struct{ mine, above *string }{{&r.breaks, &rows[n-1].breaks}, {&r.found, &rows[n-1].found}, {&r.reproduce, &rows[n-1].reproduce}} {
				if strings.HasPrefix(*c.mine, "the same") && !strings.Contains(*c.mine, "request") {
					*c.mine = *c.above
				}
			}
		}
		rows = append(rows, r)
	}
	return string(b), rows
}

// TestTrackRecord: each command of docs/track-record.md names tests that exist, and
// the counts at its top are those of its rows. UPDATE=1 writes them.
func TestTrackRecord(t *testing.T) {
	t.Parallel()
	page, rows := readRecord(t)
	known := tests{}
	command := regexp.MustCompile("`(go test [^`]*)`")
	for _, r := range rows {
		commands := command.FindAllStringSubmatch(r.reproduce, -1)
		if len(commands) == 0 {
			t.Errorf("%s:%d: no command shows it: %s", trackRecord, r.line, r.reproduce)
		}
		for _, c := range commands {
			if err := known.named(c[1]); err != nil {
				t.Errorf("%s:%d: %s: %v", trackRecord, r.line, c[1], err)
			}
		}
	}
	const begin, end = "<!-- summary:begin -->\n", "<!-- summary:end -->"
	head, rest, ok := strings.Cut(page, begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %s and %s", trackRecord, strings.TrimSpace(begin), end)
	}
	want := head + begin + "\n" + summary(t, rows) + "\n" + end + tail
	if want == page {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("the counts of %s are not those of its rows: UPDATE=1 go test -run TestTrackRecord ./internal/arrows/ writes them", trackRecord)
	}
	if err := os.WriteFile(trackRecord, []byte(want), 0o644); err != nil { //nolint:gosec // a page of the documentation
		t.Fatal(err)
	}
}

// summary counts the rows by what was broken and by what found it.
func summary(t *testing.T, rows []row) string {
	t.Helper()
	invariant := regexp.MustCompile(`F\d+`)
	broken, found := map[string]int{}, map[string]int{}
	for _, r := range rows {
		all := invariant.FindAllString(r.breaks, -1)
		slices.Sort(all)
		for _, f := range slices.Compact(all) {
			broken[f]++
		}
		if len(all) == 0 {
			broken["none"]++
		}
		way := slices.IndexFunc(ways, func(w struct {
			name  string
			words *regexp.Regexp
		}) bool {
			return w.words.MatchString(r.found)
		})
		if way < 0 {
			t.Errorf("%s:%d: found by %q, which is none of the ways", trackRecord, r.line, r.found)
			continue
		}
		found[ways[way].name]++
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d bugs. A row may name several invariants, or one that an error came near to.\n\n| breaks | rows |\n|---|---|\n", len(rows))
	for n := 1; n <= 10; n++ {
		f := fmt.Sprintf("F%d", n)
		fmt.Fprintf(&b, "| %s | %d |\n", f, broken[f])
	}
	fmt.Fprintf(&b, "| none of them: what clients, operators and other promises met | %d |\n\n| found by | rows |\n|---|---|\n", broken["none"])
	for _, w := range ways {
		fmt.Fprintf(&b, "| %s | %d |\n", w.name, found[w.name])
	}
	return b.String()
}

// function finds the tests, fuzz targets and benchmarks of a file.
var function = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w*)\(`)

// tests are those of each package that was asked for.
type tests map[string][]string

// of are those of a package, whatever its files are built for.
func (known tests) of(dir string) (names []string, err error) {
	if names, ok := known[dir]; ok {
		return names, nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		for _, m := range function.FindAllStringSubmatch(string(b), -1) {
			names = append(names, m[1])
		}
	}
	known[dir] = names
	return names, nil
}

// named reports whether each name of a go test command is a test of one of its
// packages, and each package has one. Names of subtests are not looked at.
func (known tests) named(command string) error {
	var patterns, packages []string
	words := strings.Fields(command)
	for i, w := range words {
		switch {
		case strings.HasPrefix(w, "./"):
			packages = append(packages, w)
		case (w == "-run" || w == "-bench") && i+1 < len(words) && words[i+1] != "none":
			whole, _, _ := strings.Cut(strings.Trim(words[i+1], "'"), "/")
			patterns = append(patterns, strings.Split(whole, "|")...)
		}
	}
	if len(patterns) == 0 || len(packages) == 0 {
		return errors.New("it names no test, or no package")
	}
	matched := map[string]bool{}
	for _, dir := range packages {
		names, err := known.of(filepath.Join("../..", dir))
		if err != nil {
			return err
		}
		one := false
		for _, p := range patterns {
			re, err := regexp.Compile(p)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(names, re.MatchString) {
				matched[p], one = true, true
			}
		}
		if !one {
			return fmt.Errorf("none of them is in %s", dir)
		}
	}
	for _, p := range patterns {
		if !matched[p] {
			return fmt.Errorf("no test is %s", p)
		}
	}
	return nil
}

// TestDocsNameTests: each test that a page names exists, so that what a page claims is
// held by something.
func TestDocsNameTests(t *testing.T) {
	t.Parallel()
	var names []string
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		for _, m := range function.FindAllStringSubmatch(string(b), -1) {
			names = append(names, m[1])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../../docs/adr/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(append(pages, more...), "../../README.md")
	named := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
	found := 0
	for _, page := range pages {
		if page == trackRecord {
			continue // whose names are patterns; see TestTrackRecord
		}
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range named.FindAllString(string(b), -1) {
			found++
			if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, name) }) {
				t.Errorf("%s names %s, which is no test", page, name)
			}
		}
	}
	if found < 50 {
		t.Errorf("%d tests are named; are the pages where they were?", found)
	}
}
