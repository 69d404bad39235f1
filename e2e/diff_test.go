package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

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

// diffRow is one difference that stands, with its reason.
type diffRow struct {
	// Stores and Columns are those in which it shows, all where empty. Each store, and
	// each column that is named, must have it.
	Stores  []string
	Columns []diffColumn
	// Cases, Steps and Fields are patterns in which * stands for anything; Cases are
	// operation/case. Direct and Proxied are patterns of the two values, anything
	// where empty.
	Cases, Fields   []string
	Direct, Proxied string
	Reason          string

	cases, fields   []*regexp.Regexp
	direct, proxied *regexp.Regexp
	used            map[string]bool
	everywhere      bool
}

func diffGlob(s string) *regexp.Regexp {
	return regexp.MustCompile("^(?s:" + strings.ReplaceAll(regexp.QuoteMeta(s), `\*`, ".*") + ")$")
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
		for _, s := range r.Cases {
			r.cases = append(r.cases, diffGlob(s))
		}
		for _, s := range r.Fields {
			r.fields = append(r.fields, diffGlob(s))
		}
		r.direct, r.proxied = diffGlob(r.Direct), diffGlob(r.Proxied)
		if r.Direct == "" {
			r.direct = diffGlob("*")
		}
		if r.Proxied == "" {
			r.proxied = diffGlob("*")
		}
		r.used = map[string]bool{}
	}
	return rows
}

func (r *diffRow) covers(d *difference) bool {
	matches := func(res []*regexp.Regexp, s string) bool {
		return slices.ContainsFunc(res, func(re *regexp.Regexp) bool { return re.MatchString(s) })
	}
	return slices.Contains(r.Stores, d.store) && slices.Contains(r.Columns, d.column) && matches(r.cases, d.of) && matches(r.fields, d.field) &&
		r.direct.MatchString(d.direct) && r.proxied.MatchString(d.proxied)
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
					for _, d := range compare(name, runs[0], run) {
						covered := false
						for _, r := range rows {
							if r.covers(&d) {
								covered = true
								r.used[name], r.used[string(d.column)] = true, true
							}
						}
						if covered {
							continue
						}
						if out != nil {
							fmt.Fprintln(out, &d)
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
		for _, store := range r.Stores {
			if !r.used[store] {
				t.Errorf("differences.yaml: row %d (%.60s…) is no difference any more at %s", i+1, r.Reason, store)
			}
		}
		for _, column := range r.Columns {
			if !r.used[string(column)] && !r.everywhere {
				t.Errorf("differences.yaml: row %d (%.60s…) is no difference any more in column %s", i+1, r.Reason, column)
			}
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
