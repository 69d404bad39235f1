package mutants

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Mutant is one planted fault.
type Mutant struct {
	// Name is what people call it by, in lower case with hyphens; unique.
	Name string
	// Breaks are the invariants that no longer hold, as "F3" or "F3, F4".
	Breaks string
	// What says what the mutated program does, in a few words.
	What string
	// File is the path of the source from the root of the module. Old stands in it
	// exactly once, and New instead of it.
	File, Old, New string
	// CaughtBy must fail with the mutant and pass without it.
	CaughtBy Test
	// Missed says that no test noticed it when it was first planted.
	Missed bool
}

// Test is one test or subtest, by the name that go test prints.
type Test struct {
	// Package is the path from the root of the module.
	Package string
	Name    string
	// Tags are build tags; empty for none.
	Tags string
}

// Command is how a person runs the test.
func (t Test) Command() string {
	tags := ""
	if t.Tags != "" {
		tags = "-tags " + t.Tags + " "
	}
	name := t.Name
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		name = "'" + name + "'"
	}
	return "go test " + tags + "-run " + name + " ./" + t.Package + "/"
}

// pattern is the regular expression that selects this test alone.
func (t Test) pattern() string {
	parts := strings.Split(t.Name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// All are the planted faults, in the order of the page.
func All() []Mutant {
	var all []Mutant
	for _, r := range rooms {
		all = append(all, r.list...)
	}
	return all
}

// Select returns the named mutants, all of them where no name is given.
func Select(names []string) ([]Mutant, error) {
	all := All()
	if len(names) == 0 {
		return all, nil
	}
	var some []Mutant
	for _, name := range names {
		i := slices.IndexFunc(all, func(m Mutant) bool { return m.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no mutant %q; docs/mutants.md lists them", name)
		}
		some = append(some, all[i])
	}
	return some, nil
}
