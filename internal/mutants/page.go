package mutants

import (
	"fmt"
	"strings"
)

const pageHead = `# Planted faults

Faults that are put into the program, one at a time, each of which a test must
notice. ` + "`make mutants`" + ` plants them all, ` + "`make mutants M=\"stale-by-one no-raise\"`" + `
those alone; CI plants all of them. How it is done stands in
[internal/mutants](../internal/mutants/doc.go), the faults themselves in its tables,
which make this page (` + "`UPDATE=1 go test -run TestPage ./internal/mutants/`" + `).

A fault is caught when the test beside it was run, failed by an assertion, and passes
without the fault. Many are caught by others too; named is the cheapest.
`

const pageNotHere = `
Not here, because in-place writing is not built: a takeover that does not wait until
older entries have settled. Of the collector that looks before it raises the horizon
nothing can be seen: whatever it notes is looked up once more before it is deleted.
`

// rooms are the headings of the page.
var rooms = []struct {
	name string
	list []Mutant
}{
	{"The rule", ruleMutants},
	{"Commits, reads and the collector", commitMutants},
	{"The state: transactions, statements, schemas", stateMutants},
	{"Locks", lockMutants},
	{"Guards and their lease", guardMutants},
	{"Leaving a guard", exportMutants},
	{"The client to the store", storeMutants},
	{"The edge and credentials", edgeMutants},
}

// Page is docs/mutants.md.
func Page() string {
	var b strings.Builder
	b.WriteString(pageHead)
	total, missed := 0, []string(nil)
	for _, r := range rooms {
		fmt.Fprintf(&b, "\n## %s\n\n| fault | what is broken | breaks | caught by |\n|---|---|---|---|\n", r.name)
		for _, m := range r.list {
			total++
			if m.Missed {
				missed = append(missed, "`"+m.Name+"`")
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` |\n", m.Name, cell(m.What), cell(m.Breaks), cell(m.CaughtBy.Command()))
		}
	}
	fmt.Fprintf(&b, "\n## What nothing had caught before\n\n%d of these %d were noticed by no test of the package that they are in when they were\nfirst planted. Each was given one:\n\n%s.\n", len(missed), total, wrapped(missed))
	b.WriteString(pageNotHere)
	return b.String()
}

// cell keeps a bar from ending a cell of a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// wrapped joins words with commas, in lines of a readable length.
func wrapped(words []string) string {
	var b strings.Builder
	width := 0
	for i, w := range words {
		if i > 0 {
			b.WriteString(",")
			if width++; width+len(w) > 80 {
				b.WriteString("\n")
				width = 0
			} else {
				b.WriteString(" ")
				width++
			}
		}
		b.WriteString(w)
		width += len(w)
	}
	return b.String()
}
