package s3api

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const compatibilityPage = "../../docs/s3-compatibility.md"

// TestCompatibilityPage keeps docs/s3-compatibility.md what the operation table and
// the table of differences make of it, so that a change of what is fenced shows in
// review. UPDATE=1 writes the parts between its markers; all else is by hand.
func TestCompatibilityPage(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile(compatibilityPage)
	if err != nil {
		t.Fatal(err)
	}
	page := string(source)
	for name, text := range map[string]string{"operations": operationsSection(), "headers": headersSection(), "differences": differencesSection(t), "promises": promisesSection()} {
		begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
		head, rest, ok := strings.Cut(page, begin)
		_, tail, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s has no %s and %s", compatibilityPage, strings.TrimSpace(begin), end)
		}
		page = head + begin + "\n" + text + "\n" + end + tail
	}
	if !strings.Contains(page, "<!-- parity:begin -->") || !strings.Contains(page, "<!-- parity:end -->") {
		t.Error("the markers of the foreign suites are gone")
	}
	if page == string(source) {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("%s is not what the tables make of it: UPDATE=1 go test -run TestCompatibilityPage ./internal/s3api/ writes it", compatibilityPage)
	}
	if err := os.WriteFile(compatibilityPage, []byte(page), 0o644); err != nil { //nolint:gosec // a page of the documentation
		t.Fatal(err)
	}
}

// operationsSection is the operation table as people read it.
func operationsSection() string {
	var b strings.Builder
	b.WriteString("| operation | request | further parameters | right | outside guards | sealed, with a token | sealed, tokens: none | |\n|---|---|---|---|---|---|---|---|\n")
	for i := range operations {
		o := &operations[i]
		var rights []string
		for _, r := range o.rights {
			rights = append(rights, r.String())
		}
		right := strings.Join(rights, " or ")
		if o.on == onEach {
			right = "each target's"
		}
		plain := "yes"
		with := [...]string{"501", "409 BucketGuarded", "as outside", "read", "write", "write", "the upload's token", "list", "each key"}[o.fenced]
		none := [...]string{"501", "409 BucketGuarded", "as outside", "yes", "yes", "yes", "yes", "yes", "each key"}[o.fenced]
		if o.plain == nil {
			plain, with, none, right = "501", "501", "501", ""
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %s | %s | %s |\n", o.name, requestLine(o), strings.Join(o.params, " "), right, plain, with, none, o.note)
	}
	return b.String()
}

// headersSection are the headers of S3 that are refused.
func headersSection() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(refusedHeaders)) {
		fmt.Fprintf(&b, "- `%s`: %s.\n", strings.ToLower(name), refusedHeaders[name])
	}
	return b.String()
}

// texts are one text or a list of them.
type texts []string

func (t *texts) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		*t = texts{n.Value}
		return nil
	}
	return n.Decode((*[]string)(t))
}

// differencesSection are the rows of e2e/testdata/differences.yaml.
func differencesSection(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile("../../e2e/testdata/differences.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Stores, Columns         []string
		Cases, Fields           texts
		Direct, Proxied, Status texts
		Reason                  string
	}
	if err := yaml.Unmarshal(source, &rows); err != nil {
		t.Fatal(err)
	}
	cell := func(values []string, all string) string {
		if len(values) == 0 {
			return all
		}
		var out []string
		for _, v := range values {
			if v == "*" {
				return all
			}
			out = append(out, strings.ReplaceAll(strings.ReplaceAll(cmp.Or(v, "(empty)"), "|", `\|`), "*", `\*`))
		}
		return strings.Join(out, ", ")
	}
	var b strings.Builder
	b.WriteString("| stores | columns | operation/case | what | direct | proxied | why |\n|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		if len(r.Status) > 0 {
			r.Fields = append(slices.Clone(r.Fields), "of "+strings.Join(r.Status, ", "))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", cell(r.Stores, "both"), cell(r.Columns, "all"), cell(r.Cases, "all"), cell(r.Fields, "all"),
			cell(r.Direct, "any"), cell(r.Proxied, "any"), strings.ReplaceAll(r.Reason, "|", `\|`))
	}
	return b.String()
}
