package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const matrixIntro = `# Client matrix

What clients do through s3fence, as they come. ` + "`TestClientMatrix`" + ` in [e2e](../e2e/) runs
each one and compares what it finds with ` + "`e2e/testdata/clients/`" + `, from which this page is
made; ` + "`make clients`" + ` runs them everywhere and writes both anew. [Clients](clients.md) says
how to set them up.

Sites: a bucket without a guard, with the credentials of the configuration, and a
sealed scope, with fenced credentials; each over http and over TLS with a private CA.

| client | version | tried at | told of a private CA by | takes fenced credentials from |
|---|---|---|---|---|
`

const matrixOperations = `
## Operations

"yes": at each site where the client was tried, the object is then in the store as it
was sent, or gone, or with the client as it is in the store. "–": the client has no such
operation, or none that was tried. Odd keys have spaces, ` + "`+`, `%`, `&`" + `, quotes, a
trailing dot and letters outside of ASCII; the trees of the syncs have them, too. A sync
up is run twice, and the second one changes nothing. Terraform's operations are apply,
state pull, workspace list and workspace delete; restic's are backup, restore, snapshots,
forget and prune: what they keep is theirs to read, and they have to be content.

`

const matrixCarriers = `
## Carriers of a token

Besides fenced credentials. "yes": an upload under a token that counts was taken, and
one under a stale token refused.

`

const matrixStale = `
## A stale token

Fenced credentials whose scope somebody else has locked since; clients are as
patient as they are by themselves. Exit codes of the SDKs are those of a program that
does not catch the error. "Code": what the client says has the error's code in it.
Nothing is written in any of these cases.

`

const matrixMissing = `
## A missing token

Credentials of the configuration, in a sealed scope. Reads need no token.

`

// renderMatrix makes the page of what is kept.
func renderMatrix(t *testing.T) []byte {
	t.Helper()
	var all []record
	for _, client := range matrixClients(t) {
		text, err := os.ReadFile(filepath.Join("testdata", "clients", client.name+".json"))
		require.NoError(t, err)
		var r record
		require.NoError(t, json.Unmarshal(text, &r))
		all = append(all, r)
	}
	var b bytes.Buffer
	b.WriteString(matrixIntro)
	for _, r := range all {
		at := "all four"
		if len(r.Operations) < len(siteNames) {
			at = strings.Join(slices.Sorted(maps.Keys(r.Operations)), "; ")
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.Client, r.Version, at, r.Trust, r.Fenced)
	}

	b.WriteString(matrixOperations)
	head, line := "| |", "|---|"
	for _, r := range all {
		head, line = head+" "+r.Client+" |", line+"---|"
	}
	fmt.Fprintf(&b, "%s\n%s\n", head, line)
	notes := &notes{}
	for _, o := range operations {
		fmt.Fprintf(&b, "| %s |", o.title)
		for _, r := range all {
			fmt.Fprintf(&b, " %s |", notes.cell(r, o.name))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for i, note := range notes.all {
		fmt.Fprintf(&b, "%d. %s\n", i+1, note)
	}

	b.WriteString(matrixCarriers)
	names := map[string]bool{}
	for _, r := range all {
		for name := range r.Carriers {
			names[name] = true
		}
	}
	columns := slices.Sorted(maps.Keys(names))
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, r := range all {
		fmt.Fprintf(&b, "| %s |", r.Client)
		for _, name := range columns {
			verdict, found := r.Carriers[name]
			switch {
			case !found:
				verdict = "–"
			case verdict != "yes":
				verdict = "no: `" + strings.ReplaceAll(cell(verdict), "`", "'") + "`"
			}
			fmt.Fprintf(&b, " %s |", verdict)
		}
		b.WriteString("\n")
	}

	for _, part := range []struct{ token, text string }{{"stale", matrixStale}, {"missing", matrixMissing}} {
		b.WriteString(part.text)
		b.WriteString("| client | | exit code | requests | code | first line |\n|---|---|---|---|---|---|\n")
		for _, r := range all {
			for _, f := range r.Refusals {
				if f.Token != part.token {
					continue
				}
				said, code := "`"+strings.ReplaceAll(cell(f.Says), "`", "'")+"`", "no"
				if f.Code {
					code = "yes"
				}
				if f.Exit == 0 {
					said, code = "answered", ""
				}
				fmt.Fprintf(&b, "| %s | %s | %d | %s | %s | %s |\n", r.Client, f.Operation, f.Exit, f.Requests, code, said)
			}
		}
	}
	return b.Bytes()
}

// notes are the reasons under a table, each once.
type notes struct{ all []string }

func (n *notes) cell(r record, operation string) string {
	bySite := map[string]string{}
	verdicts := map[string]bool{}
	for _, site := range siteNames {
		if verdict, found := r.Operations[site][operation]; found {
			bySite[site] = verdict
			verdicts[verdict] = true
		}
	}
	switch {
	case len(bySite) == 0:
		return "–"
	case len(verdicts) == 1 && verdicts["yes"]:
		return "yes"
	}
	var lines []string
	for _, site := range siteNames {
		if verdict, found := bySite[site]; found && verdict != "yes" {
			at := ""
			if len(verdicts) > 1 {
				at = " (" + site + ")"
			}
			if line := r.Client + at + ": `" + strings.ReplaceAll(verdict, "`", "'") + "`"; !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	answer := "no"
	if verdicts["yes"] {
		answer = "partly"
	}
	for _, line := range lines {
		n.all = append(n.all, line)
		answer += fmt.Sprintf(" [%d]", len(n.all))
	}
	return answer
}

// cell is a text that does not break a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
