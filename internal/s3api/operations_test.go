package s3api

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/corpus"
	"github.com/s3fence/s3fence/internal/sigv4"
)

// selecting makes the parameters that select a row.
func selecting(o *operation) []sigv4.Param {
	var params []sigv4.Param
	for _, s := range o.selects {
		name, value, _ := strings.Cut(s, "=")
		params = append(params, sigv4.Param{Name: name, Value: value})
	}
	return params
}

// matching counts the rows that a request fits.
func matching(method string, l level, params []sigv4.Param, copies bool) (found []string) {
	for i := range operations {
		if o := &operations[i]; o.method == method && o.level == l && o.matches(params, copies) {
			found = append(found, o.name)
		}
	}
	return found
}

func TestEachRequestIsOneRow(t *testing.T) {
	t.Parallel()
	for i := range operations {
		o := &operations[i]
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			with := func(extra ...sigv4.Param) {
				params := append(selecting(o), extra...)
				if got := matching(o.method, o.level, params, o.copies); len(got) != 1 || got[0] != o.name {
					t.Errorf("%s %v is %q", o.method, params, got)
				}
				if got, err := route(o.method, o.level, params, o.copies); err != nil || got != o {
					t.Errorf("routed to %v, %v", got, err)
				}
			}
			with()
			var all []sigv4.Param
			for _, p := range o.params {
				with(sigv4.Param{Name: p, Value: "v"})
				all = append(all, sigv4.Param{Name: p, Value: "v"})
			}
			with(all...)
			with(sigv4.Param{Name: "x-id", Value: o.name}, sigv4.Param{Name: "X-Amz-Signature", Value: "s"}, sigv4.Param{Name: "x-fencing-token", Value: "1"}, sigv4.Param{Name: "X-Amz-Meta-A", Value: "1"})
			for _, unknown := range []string{"frobnicate", "uploadID", "X-Amz-Copy-Source", "X-Amz-Unheard-Of"} {
				if got, err := route(o.method, o.level, append(selecting(o), sigv4.Param{Name: unknown}), o.copies); err == nil {
					t.Errorf("?%s was taken for %s", unknown, got.name)
				}
			}
			if len(o.selects) > 0 {
				p := selecting(o)
				if _, err := route(o.method, o.level, append(p, p[0]), o.copies); err == nil {
					t.Errorf("?%s was taken twice", p[0].Name)
				}
			}
		})
	}
}

// No two rows may fit one request, whatever parameters of any rows it mixes.
func TestNoMixOfParametersIsAmbiguous(t *testing.T) {
	t.Parallel()
	for i := range operations {
		for j := range operations {
			a, b := &operations[i], &operations[j]
			if a.method != b.method || a.level != b.level {
				continue
			}
			params := selecting(a)
			for _, p := range selecting(b) {
				seen := false
				for _, q := range params {
					seen = seen || q.Name == p.Name
				}
				if !seen {
					params = append(params, p)
				}
			}
			for _, copies := range []bool{false, true} {
				if got := matching(a.method, a.level, params, copies); len(got) > 1 {
					t.Errorf("%s %v (copy: %v) is %q", a.method, params, copies, got)
				}
			}
		}
	}
}

// The table must decide everything: what it leaves out is refused, and what it
// lets through has rights and handlers.
func TestRowsAreWhole(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for i := range operations {
		o := &operations[i]
		if names[o.name] {
			t.Errorf("%s stands twice", o.name)
		}
		names[o.name] = true
		if o.plain == nil {
			if o.guarded != nil {
				t.Errorf("%s works in a scope and not outside", o.name)
			}
			continue
		}
		if o.on != onEach && len(o.rights) == 0 {
			t.Errorf("%s asks for no right", o.name)
		}
		for _, r := range o.rights {
			if o.mutates() && o.on == onKey && r&auth.Write == 0 {
				t.Errorf("%s changes objects with the right %s", o.name, r)
			}
		}
		switch o.fenced {
		case fencedWrite, fencedStage, fencedUpload:
			if o.level != objectLevel || o.guarded == nil {
				t.Errorf("%s is fenced as a write of an object and has no handler for it", o.name)
			}
		case fencedRead:
			if o.guarded == nil || o.mutates() {
				t.Errorf("%s is fenced as a read", o.name)
			}
		case fencedHarmless:
			if o.level == objectLevel {
				t.Errorf("%s: no operation on an object is harmless in a scope", o.name)
			}
		case fencedRefuse:
			if o.guarded != nil {
				t.Errorf("%s has a handler in scopes that is never asked", o.name)
			}
		}
		if o.mutates() && o.level == objectLevel && o.fenced == fencedRead {
			t.Errorf("%s changes an object and is fenced as a read", o.name)
		}
		if o.body == noBody && (o.method == "PUT" || o.method == "POST") && !o.copies && o.name != "CreateMultipartUpload" {
			t.Errorf("%s takes no body", o.name)
		}
	}
	if len(operations) < 100 {
		t.Errorf("only %d operations", len(operations))
	}
}

// requestLine is how people write an operation's request.
func requestLine(o *operation) string {
	request := o.method + " " + [...]string{"/", "/bucket", "/bucket/key"}[o.level]
	for n, s := range o.selects {
		request += map[bool]string{true: "?", false: "&"}[n == 0] + s
	}
	if o.copies {
		request += " + x-amz-copy-source"
	}
	return request
}

// golden compares with a file of testdata; with UPDATE=1 it writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (UPDATE=1 go test writes it):\n%s", path, got)
	}
}

func FuzzRoute(f *testing.F) {
	f.Add("GET", "/data/k", "partNumber=1&uploadId=x", false)
	f.Add("PUT", "/data/k", "partNumber=1&uploadId=x", true)
	f.Add("GET", "/data", "list-type=2&prefix=a%2Fb", false)
	f.Add("POST", "/data", "delete", false)
	f.Add("PUT", "/", "x-id=PutObject&tagging", false)
	for _, m := range corpus.Seeds(f) {
		r, err := m.Request()
		if err != nil {
			f.Fatal(err)
		}
		path, query := m.Target()
		f.Add(r.Method, path, query, r.Header.Get("X-Amz-Copy-Source") != "")
	}
	s := &Server{domain: "s3.test"}
	f.Fuzz(func(t *testing.T, method, path, query string, copies bool) {
		params, err := sigv4.ParseQuery(query)
		if err != nil {
			return
		}
		bucket, key, l, err := s.place("x", path)
		if err != nil {
			return
		}
		if l == objectLevel && path != "/"+bucket+"/"+key {
			t.Fatalf("%q became %q and %q", path, bucket, key)
		}
		got := matching(method, l, params, copies)
		o, err := route(method, l, params, copies)
		switch {
		case len(got) > 1:
			t.Fatalf("%s %s ?%s is %q", method, path, query, got)
		case err == nil && (len(got) != 1 || got[0] != o.name):
			t.Fatalf("routed to %s, matches %q", o.name, got)
		}
	})
}

func BenchmarkRoute(b *testing.B) {
	params := []sigv4.Param{{Name: "x-id", Value: "PutObject"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := route(http.MethodPut, objectLevel, params, false); err != nil {
			b.Fatal(err)
		}
	}
}
