package config

import (
	"fmt"
	"strings"
)

// Origin is where a value came from. The zero Origin is a default.
type Origin struct {
	// File and Line, or Variable, or neither.
	File     string
	Line     int
	Variable string
}

// String is file:line, $VARIABLE or "default".
func (o Origin) String() string {
	switch {
	case o.Variable != "":
		return "$" + o.Variable
	case o.File != "" && o.Line > 0:
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	case o.File != "":
		return o.File
	}
	return "default"
}

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Key is written as upstreams.main.endpoint or credentials[0].rights; empty
	// where the problem is of the file as a whole.
	Key    string
	Origin Origin
	What   string
	Remedy string
}

func (p Problem) Error() string {
	var b strings.Builder
	if p.Origin != (Origin{}) {
		fmt.Fprintf(&b, "%s: ", p.Origin)
	}
	if p.Key != "" {
		fmt.Fprintf(&b, "%s: ", p.Key)
	}
	b.WriteString(p.What)
	if p.Remedy != "" {
		fmt.Fprintf(&b, "; %s", p.Remedy)
	}
	return b.String()
}

// Errors are all problems of a configuration, in the order of the file.
type Errors []Problem

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Problem makes a problem of a key, with the place of the key. It is for those
// who find out later what the configuration cannot be.
func (c *Config) Problem(key, what, remedy string) Problem {
	return Problem{Key: key, Origin: c.origin(key), What: what, Remedy: remedy}
}

// origin is that of a key, else that of what it stands in.
func (c *Config) origin(key string) Origin {
	for key != "" {
		if o, ok := c.origins[key]; ok && o != (Origin{}) {
			return o
		}
		at := strings.LastIndexAny(key, ".[")
		if at < 0 {
			break
		}
		key = key[:at]
	}
	return Origin{File: c.file}
}

// nearest is the known name that takes the fewest edits to reach, or "" where
// none is near enough to be what was meant.
func nearest(name string, known []string) string {
	best, least := "", len(name)/3+2
	for _, k := range known {
		if d := edits(name, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// edits is the Levenshtein distance, with neighbours exchanged as one edit.
func edits(a, b string) int {
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(prev[j]+cost, prev[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
