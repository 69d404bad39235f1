package parity

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// differencesFile has every difference that is meant, with its reason.
const differencesFile = "differences.txt"

// resultFile has the summary of the last whole run.
const resultFile = "result.txt"

const (
	page  = "../../docs/s3-compatibility.md"
	begin = "<!-- parity:begin -->\n"
	end   = "<!-- parity:end -->\n"
)

var write = flag.Bool("write", false, "write the rows into docs/s3-compatibility.md")

// TestPage holds docs/s3-compatibility.md to the rows.
func TestPage(t *testing.T) {
	rows, err := readDifferences(differencesFile)
	if err != nil {
		t.Fatal(err)
	}
	result, err := os.ReadFile(resultFile)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s lacks %q or %q", page, begin, end)
	}
	want := before + begin + section(rows, string(result)) + end + after
	if *write {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Errorf("%s does not have the rows of %s: go test ./e2e/parity -run TestPage -write", page, differencesFile)
	}
}

// section is the generated part of the page.
func section(rows []row, result string) string {
	var b strings.Builder
	b.WriteString("\nThe last run of `make parity`, or what there is of one:\n\n```\n" + result + "```\n\n")
	b.WriteString("Tests whose verdicts differ, and why:\n")
	for i := 0; i < len(rows); {
		j := i
		for j < len(rows) && rows[j].reason == rows[i].reason {
			j++
		}
		fmt.Fprintf(&b, "\n**%s**\n\n", rows[i].reason)
		for k := i; k < j; {
			group := rows[k].where()
			var tests []string
			for ; k < j && rows[k].where() == group; k++ {
				tests = append(tests, "`"+rows[k].test+"`")
			}
			fmt.Fprintf(&b, "- %s: %s\n", group, strings.Join(tests, ", "))
		}
		i = j
	}
	b.WriteString("\n")
	return b.String()
}

// where is all of a row but its test and reason.
func (r row) where() string {
	text := r.suite + " on " + strings.Join(r.stores, ", ") + "; " + strings.Join(r.sides, ", ")
	if r.transports != nil {
		text += "; " + strings.Join(r.transports, ", ")
	}
	return text
}

// row is a line of differencesFile: one test of a suite, the stores and sides where
// its verdicts differ, and why.
type row struct {
	suite, test   string
	stores, sides []string
	transports    []string
	reason        string
}

// readDifferences reads sections: a line "= REASON", then a line for each test,
// "SUITE TEST STORE,… SIDE,… [http|tls]". Lines that begin with # say nothing.
func readDifferences(file string) ([]row, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var rows []row
	var reason string
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if r, ok := strings.CutPrefix(line, "= "); ok {
			reason = r
			continue
		}
		f := strings.Fields(line)
		if len(f) != 4 && len(f) != 5 || reason == "" {
			return nil, fmt.Errorf("%s:%d: not SUITE TEST STORES SIDES [TRANSPORT] under a reason: %q", file, i+1, line)
		}
		r := row{suite: f[0], test: f[1], stores: strings.Split(f[2], ","), sides: strings.Split(f[3], ","), reason: reason}
		if len(f) == 5 {
			r.transports = []string{f[4]}
		}
		for _, s := range r.stores {
			if !slices.Contains(stores, s) {
				return nil, fmt.Errorf("%s:%d: no store %q", file, i+1, s)
			}
		}
		for _, s := range r.sides {
			if !slices.Contains(sides, side(s)) {
				return nil, fmt.Errorf("%s:%d: no side %q", file, i+1, s)
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// explain finds the reason of a test's difference in a cell.
func explain(rows []row, c cell, test string) (string, bool) {
	transport := "http"
	if c.secure {
		transport = "tls"
	}
	for _, r := range rows {
		if r.suite == c.suite.name && r.test == test && slices.Contains(r.stores, c.store) &&
			slices.Contains(r.sides, string(c.side)) && (r.transports == nil || slices.Contains(r.transports, transport)) {
			return r.reason, true
		}
	}
	return "", false
}
