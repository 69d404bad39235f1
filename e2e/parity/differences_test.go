package parity

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// differencesFile has every difference that is meant, with its reason.
const differencesFile = "differences.txt"

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
