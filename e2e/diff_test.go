package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/storetest"
)

// diffReference is an operation of the table as the golden file that the table's
// own test keeps says it.
type diffReference struct {
	name string
	// answered says that it works somewhere, not that it is refused by name.
	answered        bool
	params, headers []string
}

// diffTable reads internal/s3api/testdata/reference.txt.
func diffTable(t *testing.T) []diffReference {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "internal", "s3api", "testdata", "reference.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var table []diffReference
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 {
			t.Fatalf("reference.txt: %d fields in %q", len(f), line)
		}
		r := diffReference{name: f[0], answered: f[1] == "answered"}
		for _, p := range strings.Fields(f[3]) {
			r.params = append(r.params, "?"+p)
		}
		r.headers = strings.Fields(f[4])
		table = append(table, r)
	}
	return table
}

// notSwept are the headers that sweeps leave out, with their reasons.
var notSwept = map[string]string{
	"Content-Length": "every request with a body has it",
	"X-Amz-Server-Side-Encryption-Customer-Algorithm":             "stores take SSE-C over TLS only",
	"X-Amz-Server-Side-Encryption-Customer-Key":                   "stores take SSE-C over TLS only",
	"X-Amz-Server-Side-Encryption-Customer-Key-Md5":               "stores take SSE-C over TLS only",
	"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm": "stores take SSE-C over TLS only",
	"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key":       "stores take SSE-C over TLS only",
	"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key-Md5":   "stores take SSE-C over TLS only",
}

// sweep is the program of one operation: as it is, with what it is about absent,
// and with each parameter and header that it can have, right and wrong.
//
// What parameters and headers do in a scope does not depend on who needs a token,
// so the third column is sent the first of these only.
func sweep(ref diffReference, o diffOperation, columns ...diffColumn) *diffCase {
	return &diffCase{of: ref.name, name: "sweep", bucket: o.bucket, columns: columns, run: func(p *diffRun) {
		var kept *Request
		base := func() Request {
			if kept == nil || o.once {
				r := o.base(p)
				kept = &r
			}
			r := *kept
			r.Query, r.Header = maps.Clone(r.Query), maps.Clone(r.Header)
			return r
		}
		p.label = ref.name + "/success"
		p.send(base())
		if !o.notAbsent {
			p.label = ref.name + "/no bucket"
			r := base()
			r.Bucket = p.another()
			p.send(r)
			p.label = ref.name + "/no key"
			if r = base(); r.Key != "" {
				if r.Header["X-Amz-Copy-Source"] != "" {
					r.Header["X-Amz-Copy-Source"] = p.source("absent")
				} else {
					r.Key = p.key("absent")
				}
				p.send(r)
			}
		}
		if slices.Contains(columns, diffNone) {
			return
		}
		for _, name := range slices.Concat(ref.params, ref.headers) {
			if notSwept[name] != "" {
				continue
			}
			p.label = ref.name + "/" + strings.ToLower(name)
			for _, v := range diffValues[name] {
				r := base()
				if param, ok := strings.CutPrefix(name, "?"); ok {
					if r.Query == nil {
						r.Query = values()
					}
					if r.Query.Has(param) && param != "prefix" {
						continue
					}
					r.Query.Set(param, v)
				} else {
					if r.Header == nil {
						r.Header = headers()
					}
					if name == "X-Amz-Copy-Source" {
						continue
					}
					r.Header[name] = v
				}
				p.send(r)
			}
		}
	}}
}

// diffRow is one difference that stands, with its reason. Every store, column and
// pattern that a row names must occur, so that no row grows beyond what was seen.
type diffRow struct {
	// Stores and Columns are those in which it shows, all where empty.
	Stores  []string
	Columns []diffColumn
	// Cases and Fields are what it is about, Cases operation/case; a case that begins
	// with ! is left out. Direct and Proxied are the two values, Status that of an answer
	// whose status is the same; anything where empty. In all * stands for anything.
	Cases, Fields           diffPatterns
	Direct, Proxied, Status diffPatterns
	Reason                  string

	used       map[string]bool
	everywhere bool
}

// diffPattern is a text in which * stands for anything.
type diffPattern struct {
	text string
	// not says that what matches is left out.
	not  bool
	re   *regexp.Regexp
	used bool
}

// diffPatterns are alternatives; none match everything.
type diffPatterns []*diffPattern

// UnmarshalYAML takes one pattern or a list of them.
func (ps *diffPatterns) UnmarshalYAML(n *yaml.Node) error {
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		nodes = n.Content
	}
	for _, n := range nodes {
		text, not := strings.CutPrefix(n.Value, "!")
		*ps = append(*ps, &diffPattern{text: n.Value, not: not,
			re: regexp.MustCompile("^(?s:" + strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, ".*") + ")$")})
	}
	return nil
}

// match finds the patterns that match, and reports whether s is meant.
func (ps diffPatterns) match(s string) (by []*diffPattern, ok bool) {
	for _, p := range ps {
		if !p.re.MatchString(s) {
			continue
		}
		if p.not {
			return nil, false
		}
		by = append(by, p)
	}
	return by, len(by) > 0 || len(ps) == 0
}

// diffRows reads the table of differences.
func diffRows(t *testing.T) []*diffRow {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "differences.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []*diffRow
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&rows); err != nil {
		t.Fatalf("differences.yaml: %v", err)
	}
	for i, r := range rows {
		if r.Reason == "" || len(r.Cases) == 0 || len(r.Fields) == 0 {
			t.Fatalf("differences.yaml: row %d needs cases, fields and a reason", i+1)
		}
		if len(r.Stores) == 0 {
			r.Stores = []string{"minio", "versitygw"}
		}
		if len(r.Columns) == 0 {
			r.Columns, r.everywhere = diffColumns[1:], true
		}
		r.used = map[string]bool{}
	}
	return rows
}

// covers reports whether the row is about d, and remembers it.
func (r *diffRow) covers(d *difference) bool {
	if !slices.Contains(r.Stores, d.store) || !slices.Contains(r.Columns, d.column) {
		return false
	}
	var met []*diffPattern
	for ps, s := range map[*diffPatterns]string{&r.Cases: d.of, &r.Fields: d.field, &r.Direct: d.direct, &r.Proxied: d.proxied, &r.Status: d.status} {
		by, ok := ps.match(s)
		if !ok {
			return false
		}
		met = append(met, by...)
	}
	for _, p := range met {
		p.used = true
	}
	r.used[d.store], r.used[string(d.column)] = true, true
	return true
}

// unused names what the row has and nothing needed.
func (r *diffRow) unused() (names []string) {
	for _, store := range r.Stores {
		if !r.used[store] {
			names = append(names, store)
		}
	}
	for _, column := range r.Columns {
		if !r.used[string(column)] && !r.everywhere {
			names = append(names, string(column))
		}
	}
	for _, p := range slices.Concat(r.Cases, r.Fields, r.Direct, r.Proxied, r.Status) {
		if !p.used && !p.not {
			names = append(names, strconv.Quote(p.text))
		}
	}
	return names
}

// What works against the store works through the proxy in the same words. Every
// operation of the table is sent, with every parameter and header it can have, to
// the store and through the proxy, and each difference must have its reason.
func TestDiffEveryOperation(t *testing.T) {
	t.Parallel()
	table := diffTable(t)
	rows := diffRows(t)
	cases := slices.Clone(diffCases)
	for _, ref := range table {
		o, ok := diffOperations[ref.name]
		if !ok {
			if ref.answered {
				t.Errorf("%s is answered and has no request in diffOperations", ref.name)
			}
			continue
		}
		cases = append(cases, sweep(ref, o, diffPlain, diffSealed), sweep(ref, o, diffNone))
	}
	for i, c := range cases {
		c.prefix = fmt.Sprintf("c%03d/", i)
	}
	var out *os.File
	if path := os.Getenv("S3FENCE_TEST_DIFF_OUT"); path != "" {
		var err error
		if out, err = os.Create(path); err != nil {
			t.Fatal(err)
		}
		defer out.Close()
	}
	only := regexp.MustCompile(os.Getenv("S3FENCE_TEST_DIFF_CASES"))
	for name, server := range map[string]func(testing.TB) *storetest.Server{"minio": storetest.MinIO, "versitygw": storetest.Versitygw} {
		t.Run(name, func(t *testing.T) {
			targets := newDiffTargets(t, server(t))
			used := map[string]map[string]bool{}
			bad := 0
			for _, c := range cases {
				if !only.MatchString(c.of + "/" + c.name) {
					continue
				}
				runs := runEverywhere(t.Context(), targets, c)
				for label, names := range runs[0].used {
					of, _, _ := strings.Cut(label, "/")
					if used[of] == nil {
						used[of] = map[string]bool{}
					}
					maps.Copy(used[of], names)
				}
				for _, run := range runs[1:] {
					for _, step := range run.steps {
						for field, text := range step.fields {
							if strings.Contains(text, fence.Reserved) && !strings.Contains(step.what, fence.Reserved) {
								t.Errorf("%s %s %s: %s: %s shows a physical name: %q", name, run.target.column, step.of, step.what, field, clip(text))
							}
						}
					}
					for _, d := range compare(name, runs[0], run) {
						var by []string
						for i, r := range rows {
							if r.covers(&d) {
								by = append(by, strconv.Itoa(i+1))
							}
						}
						if out != nil {
							fmt.Fprintf(out, "%s\t%v\n", cmp.Or(strings.Join(by, ","), "-"), &d)
						}
						if len(by) > 0 {
							continue
						}
						if bad++; bad <= 30 {
							t.Errorf("%v", &d)
						}
					}
				}
			}
			if bad > 30 {
				t.Errorf("and %d more", bad-30)
			}
			for _, ref := range table {
				if only.String() == "" && diffOperations[ref.name].base != nil {
					wantSwept(t, ref, used[ref.name])
				}
			}
		})
	}
	if only.String() != "" {
		return
	}
	for i, r := range rows {
		if names := r.unused(); len(names) > 0 {
			t.Errorf("differences.yaml: row %d (%.60s…): there is no difference any more in %s", i+1, r.Reason, strings.Join(names, ", "))
		}
	}
}

// wantSwept demands that an operation was sent with everything it can have.
func wantSwept(t *testing.T, ref diffReference, used map[string]bool) {
	t.Helper()
	for _, name := range ref.params {
		if !used[name] {
			t.Errorf("%s was never sent with %s", ref.name, name)
		}
	}
	for _, name := range ref.headers {
		if notSwept[name] == "" && !used[http.CanonicalHeaderKey(name)] {
			t.Errorf("%s was never sent with %s", ref.name, name)
		}
	}
}
