package parity

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/storetest"
)

var (
	full   = flag.Bool("full", false, "the whole matrix, every test: what make parity runs")
	only   = flag.String("only", "", "run the cells whose name has one of these in it, with commas between")
	chosen = flag.String("tests", "", "run these tests of a suite alone, with commas between")
	once   = flag.Bool("once", false, "take no second look at differences")
	words  = flag.Bool("words", false, "print what the suite said of every difference")
)

// side is a way to a store.
type side string

const (
	direct    side = "direct"
	unguarded side = "unguarded"
	// token is a sealed bucket with a valid token in every request, none one with
	// tokens: none.
	token side = "token"
	none  side = "none"
)

var sides = []side{unguarded, token, none}

var stores = []string{"minio", "versitygw"}

// cell is one comparison: a suite, sent to a store straight and by a side.
type cell struct {
	suite  *suite
	store  string
	side   side
	secure bool
	// virtual style is asked of the proxy alone; the store is asked in path style.
	virtual bool
	// slice of slices is the part of the suite to run.
	slice, slices int
}

func (c cell) name() string {
	transport, style := "http", "path"
	if c.secure {
		transport = "tls"
	}
	if c.virtual {
		style = "virtual"
	}
	return strings.Join([]string{c.suite.name, c.store, string(c.side), transport, style}, "/")
}

// clientSecure says whether the suite speaks TLS. On the side token it always does:
// over http some clients sign each chunk of a body, which a gate cannot do anew.
func (c cell) clientSecure() bool { return c.secure || c.side == token }

// matrix is every cell, or where bounded a few that have every pair of side,
// transport and style for each suite and store, each with another slice of a suite
// that is long.
func matrix(bounded bool) []cell {
	var all []cell
	for _, store := range stores {
		for _, s := range suites {
			for _, side := range sides {
				for _, ways := range [][2]bool{{false, false}, {true, true}, {false, true}, {true, false}} {
					all = append(all, cell{suite: s, store: store, side: side, secure: ways[0], virtual: ways[1], slices: 1})
				}
			}
		}
	}
	if !bounded {
		return all
	}
	var few []cell
	for i, c := range all {
		// Two of the four ways by turns: they have both transports and both styles.
		pair := i / 4 % len(sides) % 2
		if i%4/2 != pair {
			continue
		}
		if c.slices = c.suite.slices; c.slices > 1 {
			c.slice = len(few) % c.slices
		}
		few = append(few, c)
	}
	return few
}

var built = sync.OnceValues(func() (string, error) {
	path, err := filepath.Abs(filepath.Join(builds, "s3fence"))
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "./cmd/proxy")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build s3fence: %w\n%s", err, out)
	}
	return path, nil
})

// builds is the folder of what this run builds.
var builds string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	var err error
	if builds, err = os.MkdirTemp("", "s3fence-parity-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(builds)
	return m.Run()
}

// TestParity compares.
func TestParity(t *testing.T) {
	rows, err := readDifferences(differencesFile)
	if err != nil {
		t.Fatal(err)
	}
	cells := matrix(!*full && *only == "" && *chosen == "")
	sums := &summary{}
	begun := time.Now()
	t.Cleanup(func() {
		t.Logf("%d cells in %v\n%s", len(cells), time.Since(begun).Round(time.Second), sums.table())
		if *full && !t.Failed() {
			text := fmt.Sprintf("%d cells in %v\n%s", len(cells), time.Since(begun).Round(time.Minute), sums.table())
			if err := os.WriteFile(resultFile, []byte(text), 0o644); err != nil {
				t.Error(err)
			}
		}
	})
	for _, store := range stores {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			var ours []cell
			for _, c := range cells {
				if c.store == store && slices.ContainsFunc(strings.Split(*only, ","), func(part string) bool { return strings.Contains(c.name(), part) }) {
					ours = append(ours, c)
				}
			}
			if len(ours) == 0 {
				return
			}
			var d *deployment
			if store == "minio" {
				d = deploy(t, storetest.Start(t))
			} else {
				d = deploy(t, storetest.StartVersitygw(t))
			}
			baselines := map[string]outcomes{}
			for _, c := range ours {
				t.Run(c.name(), func(t *testing.T) {
					compare(t, d, c, baselines, rows, sums)
				})
			}
		})
	}
}

// compare runs one cell.
func compare(t *testing.T, d *deployment, c cell, baselines map[string]outcomes, rows []row, sums *summary) {
	var tests []string
	if *chosen != "" {
		tests = strings.Split(*chosen, ",")
	}
	straight := func(tests []string) outcomes {
		return c.suite.runs(t, c, d.server(t, cell{suite: c.suite, side: direct, secure: c.clientSecure()}), tests)
	}
	through := func(tests []string) outcomes { return c.suite.runs(t, c, d.server(t, c), tests) }
	baseline := fmt.Sprint(c.suite.name, c.clientSecure(), c.slice, c.slices)
	if baselines[baseline] == nil {
		begun := time.Now()
		baselines[baseline] = straight(tests)
		t.Logf("straight: %d tests in %v", len(baselines[baseline]), time.Since(begun).Round(time.Second))
	}
	begun := time.Now()
	proxied := through(tests)
	t.Logf("proxied: %d tests in %v", len(proxied), time.Since(begun).Round(time.Second))
	found := judge(c, baselines[baseline], proxied, rows)
	if again := found.suspects(); len(again) > 0 && !*once {
		// What does not happen again is no difference.
		straight, proxied := straight(again), through(again)
		found.confirm(judge(c, straight, proxied, rows), again)
	}
	sums.add(c, found)
	for _, f := range found.unexplained {
		t.Errorf("%s: straight %s, proxied %s\n\tstraight: %.600s\n\tproxied: %.600s", f.test, f.straight.verdict, f.proxied.verdict, f.straight.words, f.proxied.words)
	}
	for _, test := range found.stale {
		t.Errorf("%s: %s has a row for this, and there is no difference any more: remove it", test, differencesFile)
	}
	if *words {
		for _, f := range found.explained {
			t.Logf("%s: straight %s, proxied %s\n\tstraight: %.600s\n\tproxied: %.600s", f.test, f.straight.verdict, f.proxied.verdict, f.straight.words, f.proxied.words)
		}
	}
}

// server starts what stands between the suite and the cell's side.
func (d *deployment) server(t *testing.T, c cell) server {
	t.Helper()
	if !c.suite.bucket {
		d.sweep(t)
	}
	to := server{secure: c.clientSecure(), virtual: c.virtual, accessKey: d.accessKey, secretKey: d.secretKey}
	proxy := d.plain
	if c.secure {
		proxy = d.secure
	}
	var sealing *gate
	switch c.side {
	case direct:
		to.accessKey, to.secretKey = d.store.AccessKey, d.store.SecretKey
		to.addr = strings.TrimPrefix(d.store.Endpoint, "http://")
		if c.secure {
			to.addr = d.terminate(t, to.addr)
		}
	case unguarded:
		to.addr = proxy.addr
	case token, none:
		sealing = d.open(t, proxy.url, proxy.api, map[side]string{token: "required", none: "none"}[c.side], to.secure)
		to.addr = sealing.addr
	}
	if c.virtual {
		switch {
		case to.secure:
			to.through = d.open(t, "https://"+to.addr, nil, "", false).addr
		case sealing != nil:
			to.through = sealing.addr
		default:
			to.through = d.open(t, proxy.url, nil, "", false).addr
		}
		to.addr = domain
	}
	if c.suite.bucket {
		to.bucket = d.store.Bucket(t)
		if sealing != nil {
			sealing.guard(t.Context(), to.bucket)
		}
	}
	return to
}

// terminate takes TLS off and sends bytes on to addr, for stores that serve http.
func (d *deployment) terminate(t *testing.T, addr string) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", d.cert.server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			here, err := listener.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", addr)
			if err != nil {
				here.Close()
				continue
			}
			go func() { _, _ = io.Copy(there, here); _ = there.(*net.TCPConn).CloseWrite() }()
			go func() { _, _ = io.Copy(here, there); here.Close(); there.Close() }()
		}
	}()
	return listener.Addr().String()
}

// finding is a test with two verdicts.
type finding struct {
	test              string
	straight, proxied outcome
	reason            string
}

// findings are those of one cell.
type findings struct {
	same, failedBoth       int
	explained, unexplained []finding
	// stale are tests with a row and no difference.
	stale []string
}

func judge(c cell, straight, proxied outcomes, rows []row) *findings {
	f := &findings{}
	tests := maps.Clone(straight)
	maps.Copy(tests, proxied)
	for _, test := range slices.Sorted(maps.Keys(tests)) {
		a, b := straight[test], proxied[test]
		reason, known := explain(rows, c, test)
		switch {
		case a.verdict == b.verdict && known:
			f.stale = append(f.stale, test)
		case a.verdict == fail && b.verdict == fail:
			f.failedBoth++
		case a.verdict == b.verdict:
			f.same++
		case known:
			f.explained = append(f.explained, finding{test, a, b, reason})
		default:
			f.unexplained = append(f.unexplained, finding{test, a, b, ""})
		}
	}
	return f
}

// suspects are the tests whose result would fail the run.
func (f *findings) suspects() []string {
	tests := slices.Clone(f.stale)
	for _, u := range f.unexplained {
		tests = append(tests, u.test)
	}
	return tests
}

// confirm drops those of again that came out otherwise at a second look.
func (f *findings) confirm(second *findings, again []string) {
	left := second.suspects()
	for _, test := range again {
		if slices.Contains(left, test) {
			continue
		}
		f.stale = slices.DeleteFunc(f.stale, func(s string) bool { return s == test })
		f.unexplained = slices.DeleteFunc(f.unexplained, func(u finding) bool { return u.test == test })
		f.same++
	}
}

// summary is what is printed at the end.
type summary struct {
	mu    sync.Mutex
	lines map[string]*[4]int
}

func (s *summary) add(c cell, f *findings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == nil {
		s.lines = map[string]*[4]int{}
	}
	key := fmt.Sprintf("%-9s %-9s %-9s", c.suite.name, c.store, c.side)
	if s.lines[key] == nil {
		s.lines[key] = new([4]int)
	}
	for i, n := range []int{f.same, len(f.explained), f.failedBoth, len(f.unexplained) + len(f.stale)} {
		s.lines[key][i] += n
	}
}

// table has a line for each suite, store and side.
func (s *summary) table() string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(s.lines)) {
		n := s.lines[key]
		fmt.Fprintf(&b, "%s same %4d  different-explained %3d  failed-both %3d  unexplained %d\n", key, n[0], n[1], n[2], n[3])
	}
	return b.String()
}
