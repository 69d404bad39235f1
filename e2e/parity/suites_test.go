package parity

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/testserver"
)

// verdict is what a suite says of one of its tests.
type verdict string

const (
	pass verdict = "pass"
	fail verdict = "fail"
	// skip says that the test itself found nothing to do: not implemented there.
	skip verdict = "skip"
)

// outcome is a verdict with the suite's words.
type outcome struct {
	verdict verdict
	words   string
	took    time.Duration
}

// outcomes are by test.
type outcomes map[string]outcome

// suite is a program of tests that others wrote. scripts/parity.sh builds it.
type suite struct {
	name string
	// environment and arguments are for a run of the named tests, or of all.
	environment func(to server, tests []string) []string
	arguments   func(store string, tests []string) []string
	// read takes the outcomes from what the program prints. Outcomes of tests that
	// were begun and not ended are failures.
	read func(io.Reader) outcomes
	// bucket says that the suite wants one made for it.
	bucket bool
	// slices is into how many parts a bounded run cuts the suite, of which each
	// cell takes one.
	slices int
}

// server is where a suite is sent.
type server struct {
	secure  bool
	virtual bool
	// addr is the host and port, or where virtual the domain.
	addr string
	// through is the HTTP proxy by which addr is reached; may be empty.
	through              string
	accessKey, secretKey string
	bucket               string
}

func (s server) url() string {
	if s.secure {
		return "https://" + s.addr
	}
	return "http://" + s.addr
}

// common is the part of the environment that all suites understand.
func (s server) common(tests []string) []string {
	style := "path"
	if s.virtual {
		style = "virtual"
	}
	env := []string{
		"SERVER_URL=" + s.url(), "ACCESS_KEY=" + s.accessKey, "SECRET_KEY=" + s.secretKey,
		"PARITY_STYLE=" + style, "PARITY_TESTS=" + strings.Join(tests, ","), "PARITY_BUCKET=" + s.bucket,
		"PARITY_PREFIX=test" + strings.ToLower(rand.Text()[:6]) + "-",
	}
	if s.through != "" {
		env = append(env, "HTTP_PROXY=http://"+s.through, "HTTPS_PROXY=http://"+s.through)
	}
	return env
}

var suites = []*suite{
	{
		name: "minio-go",
		environment: func(s server, tests []string) []string {
			secure := "0"
			if s.secure {
				secure = "1"
			}
			return append(s.common(tests), "SERVER_ENDPOINT="+s.addr, "ENABLE_HTTPS="+secure, "SKIP_CERT_VALIDATION="+secure,
				"MINT_MODE=full", "RUN_ON_FAIL=1", "ENABLE_KMS=0")
		},
		arguments: func(string, []string) []string { return nil },
		read:      readMinIO, slices: 24,
	},
	{
		name:        "gocloud",
		environment: server.common,
		arguments: func(store string, tests []string) []string {
			// Tests are chosen by their first two names.
			pattern := "^TestParity"
			if len(tests) > 0 {
				var tops, subs []string
				for _, name := range tests {
					top, sub, _ := strings.Cut(name, "/")
					sub, _, _ = strings.Cut(sub, "/")
					tops, subs = append(tops, regexp.QuoteMeta(top)), append(subs, regexp.QuoteMeta(sub))
				}
				slices.Sort(tops)
				slices.Sort(subs)
				pattern = "^(" + strings.Join(slices.Compact(tops), "|") + ")$/^(" + strings.Join(slices.Compact(subs), "|") + ")$"
			}
			arguments := []string{"-test.v", "-test.timeout=15m", "-test.run=" + pattern}
			if store == "minio" {
				// MinIO lists for ever where a delimiter is not a slash.
				arguments = append(arguments, "-test.skip=/TestListDelimiters/(abc|backslash)$")
			}
			return arguments
		},
		read: readGo, bucket: true, slices: 1,
	},
	{
		name:        "versitygw",
		environment: server.common,
		arguments:   func(string, []string) []string { return nil },
		read:        readVersitygw, slices: 48,
	},
}

// runs runs tests of the suite, or all, and returns what it said of each.
func (s *suite) runs(t *testing.T, c cell, to server, tests []string) outcomes {
	t.Helper()
	program, err := suiteProgram(s.name)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := testserver.Folder("suite")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, s.arguments(c.store, tests)...)
	cmd.Dir, cmd.Env = folder, environment(folder, s.environment(to, tests)...)
	if c.slices > 1 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("PARITY_SLICE=%d/%d", c.slice, c.slices))
	}
	var messages strings.Builder
	cmd.Stderr = &messages
	out, err := cmd.Output()
	found := s.read(strings.NewReader(string(out)))
	if len(found) == 0 && (c.slices == 1 || err != nil) {
		t.Fatalf("%s against %s ran no test: %v\n%.2000s\n%.2000s", s.name, to.url(), err, out, messages.String())
	}
	if ctx.Err() != nil {
		t.Errorf("%s against %s did not end in time", s.name, to.url())
	}
	return found
}

// suiteProgram is the path of a suite, built once where it is missing.
func suiteProgram(name string) (string, error) {
	script, err := filepath.Abs("../../scripts/parity.sh")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, script, name)
	var messages strings.Builder
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("scripts/parity.sh %s: %w\n%s", name, err, messages.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// worse keeps of two verdicts on one test the one that says more: a test may
// report several cases, and may go on where something is not implemented.
func worse(a, b outcome) outcome {
	order := []verdict{"", pass, skip, fail}
	if slices.Index(order, b.verdict) > slices.Index(order, a.verdict) {
		return b
	}
	return a
}

// unended is the verdict on a test at which the suite stopped.
var unended = outcome{verdict: fail, words: "the suite ended in the middle of this test"}

func lines(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 16<<20)
	return s
}

// readMinIO reads lines of JSON: choose's marks, and reports between them.
func readMinIO(r io.Reader) outcomes {
	found := outcomes{}
	var test string
	var begun time.Time
	for s := lines(r); s.Scan(); {
		var line struct {
			Time                                           time.Time
			Parity, Test, Status, Function, Message, Alert string
			Error                                          any
		}
		if json.Unmarshal(s.Bytes(), &line) != nil {
			continue
		}
		switch {
		case line.Parity == "begin":
			test, begun = line.Test, line.Time
			found[test] = unended
		case line.Parity == "end":
			o := found[line.Test]
			if o == unended {
				// It reported nothing: it found nothing to do.
				o = outcome{verdict: skip}
			}
			o.took = line.Time.Sub(begun)
			found[line.Test] = o
			test = ""
		case test != "" && line.Status != "":
			o := outcome{words: strings.TrimSpace(fmt.Sprintf("%s: %s %s %v", line.Function, line.Message, line.Alert, line.Error))}
			switch line.Status {
			case "PASS":
				o = outcome{verdict: pass}
			case "NA":
				o.verdict = skip
			default:
				o.verdict = fail
			}
			if before := found[test]; before != unended {
				o = worse(before, o)
			}
			found[test] = o
		}
	}
	return found
}

var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// readVersitygw reads choose's marks, and between them RUN, PASS, FAIL and SKIP.
func readVersitygw(r io.Reader) outcomes {
	found := outcomes{}
	var test string
	for s := lines(r); s.Scan(); {
		line := colour.ReplaceAllString(s.Text(), "")
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case word == "PARITY" && strings.HasPrefix(rest, "begin "):
			test = strings.TrimPrefix(rest, "begin ")
			found[test] = unended
		case word == "PARITY" && strings.HasPrefix(rest, "error "):
			found[test] = outcome{verdict: fail, words: strings.TrimPrefix(rest, "error ")}
		case word == "PARITY":
			if found[test] == unended {
				found[test] = outcome{verdict: skip}
			}
			test = ""
		case test == "":
		case word == "PASS" || word == "FAIL" || word == "SKIP":
			o := outcome{verdict: verdict(strings.ToLower(word)), words: strings.TrimSpace(rest)}
			if before := found[test]; before != unended {
				o = worse(before, o)
			}
			found[test] = o
		}
	}
	return found
}

var goVerdict = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)`)

// readGo reads what go test -v prints. Tests that have subtests are left out.
func readGo(r io.Reader) outcomes {
	found := outcomes{}
	var test string
	words := map[string][]string{}
	for s := lines(r); s.Scan(); {
		line := s.Text()
		if name, begun := strings.CutPrefix(line, "=== RUN   "); begun {
			test, found[name] = name, unended
			continue
		}
		if name, again := strings.CutPrefix(line, "=== NAME  "); again {
			test = name
			continue
		}
		m := goVerdict.FindStringSubmatch(line)
		if m == nil {
			words[test] = append(words[test], strings.TrimSpace(line))
			continue
		}
		took, err := time.ParseDuration(m[3] + "s")
		if err != nil {
			continue
		}
		found[m[2]] = outcome{verdict: verdict(strings.ToLower(m[1])), took: took}
	}
	for name, o := range found {
		if o.verdict == fail && o != unended {
			o.words = strings.Join(words[name], " / ")
			found[name] = o
		}
	}
	for name := range found {
		for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
			delete(found, parent)
		}
	}
	return found
}
