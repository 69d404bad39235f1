package s3api

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/s3fence/s3fence/internal/idempotency"
)

// headers joins header maps; later ones win.
func headers(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, h := range all {
		maps.Copy(out, h)
	}
	return out
}

// A request under a key that another one took effect under is answered 422 with
// what differs, in every part that changes what a write does; the same request,
// however it travels, is given the first answer.
func TestIdempotencyKeyNamesARequest(t *testing.T) {
	t.Parallel()
	b := newSealed(t)
	const target = "/data/jobs/a/k"
	token := map[string]string{"X-Fencing-Token": "34"}
	base := headers(token, map[string]string{
		"Idempotency-Key": "key 1", "Content-Type": "text/plain", "X-Amz-Meta-Colour": "red",
		"X-Amz-Tagging": "a=1", "If-None-Match": "*",
	})
	first := b.call(t, call{method: "PUT", target: target, body: "body", header: base})
	if first.status != http.StatusOK {
		t.Fatal(first)
	}
	changed := func(name, value string) map[string]string {
		h := headers(base)
		if value == "" {
			delete(h, name)
		} else {
			h[name] = value
		}
		return h
	}
	for _, tc := range []struct {
		call
		names string
	}{
		{call{method: "PUT", target: target, body: "other", header: base}, "the body"},
		{call{method: "PUT", target: target, body: "", header: base}, "the body"},
		{call{method: "PUT", target: "/data/jobs/a/other", body: "body", header: base}, "the target"},
		{call{method: "PUT", target: "/data/jobs/b/k", body: "body", header: changed("X-Fencing-Token", "40")}, "the target"},
		{call{method: "PUT", target: target, body: "body", header: changed("If-None-Match", "")}, "the header if-none-match"},
		{call{method: "PUT", target: target, body: "body", header: headers(changed("If-None-Match", ""), map[string]string{"If-Match": first.header.Get("Etag")})}, "the header if-match and the header if-none-match"},
		{call{method: "PUT", target: target, body: "body", header: changed("Content-Type", "text/html")}, "the header content-type"},
		{call{method: "PUT", target: target, body: "body", header: changed("X-Amz-Meta-Colour", "blue")}, "the header x-amz-meta-colour"},
		{call{method: "PUT", target: target, body: "body", header: changed("X-Amz-Meta-Size", "1")}, "the header x-amz-meta-size"},
		{call{method: "PUT", target: target, body: "body", header: changed("X-Amz-Tagging", "")}, "the header x-amz-tagging"},
		{call{method: "PUT", target: target, body: "body", header: changed("X-Amz-Storage-Class", "STANDARD")}, "the header x-amz-storage-class"},
		{call{method: "DELETE", target: target, header: headers(token, map[string]string{"Idempotency-Key": "key 1"})}, "the operation"},
		{call{method: "POST", target: target + "?uploads", header: headers(token, map[string]string{"Idempotency-Key": "key 1"})}, "the operation"},
		{call{method: "PUT", target: target, header: headers(token, map[string]string{"Idempotency-Key": "key 1", "X-Amz-Copy-Source": "data/jobs/a/k2"})}, "the operation"},
		{call{method: "PUT", target: target + "?tagging", body: `<Tagging><TagSet></TagSet></Tagging>`, header: headers(token, map[string]string{"Idempotency-Key": "key 1"})}, "the operation"},
	} {
		got := b.call(t, tc.call)
		if got.status != http.StatusUnprocessableEntity || got.code() != codeReused || !strings.Contains(got.body, "differs in "+tc.names+". ") {
			t.Errorf("%s %s: %d %s, want 422 that names %q", tc.method, tc.target, got.status, got.body, tc.names)
		}
	}
	if got := b.call(t, call{method: "GET", target: target}); got.body != "body" || got.header.Get("X-Amz-Meta-Colour") != "red" {
		t.Errorf("another request under the key took effect: %+v", got)
	}
	// The same request, however it comes; the condition would be false by now.
	for name, c := range map[string]call{
		"again":            {method: "PUT", target: target, body: "body", header: base},
		"as another agent": {method: "PUT", target: target, body: "body", header: headers(base, map[string]string{"User-Agent": "x", "X-Amz-User-Agent": "y", "Amz-Sdk-Request": "attempt=2"})},
		"with a checksum":  {method: "PUT", target: target, body: "body", header: headers(base, map[string]string{"X-Amz-Checksum-Crc32": "26gLsg=="})},
		"with an SDK's id": {method: "PUT", target: target, body: "body", header: headers(base, map[string]string{"Amz-Sdk-Invocation-Id": "2"})},
		"presigned":        {method: "PUT", target: target, body: "body", header: base, presign: true},
		"token as query":   {method: "PUT", target: target + "?X-Fencing-Token=34", body: "body", header: changed("X-Fencing-Token", "")},
		"SDK's parameter":  {method: "PUT", target: target + "?x-id=PutObject", body: "body", header: base},
	} {
		if got := b.call(t, c); got.status != http.StatusOK || got.header.Get("Etag") != first.header.Get("Etag") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// The key is the credential's own.
	if got := b.call(t, call{method: "PUT", target: "/data/jobs/a/theirs", body: "x", header: headers(token, map[string]string{"Idempotency-Key": "key 1"}), key: carriedKey}); got.status != http.StatusOK {
		t.Error(got)
	}
}

// What is repeated after a takeover is answered as the first time, through the
// whole edge: no memory of stale tokens speaks first.
func TestIdempotencyKeyAfterATakeover(t *testing.T) {
	t.Parallel()
	b := newSealed(t)
	const batch = `<Delete><Object><Key>jobs/a/gone</Key></Object></Delete>`
	h := func(key string) map[string]string {
		return map[string]string{"X-Fencing-Token": "34", "Idempotency-Key": key}
	}
	calls := map[string]call{
		"put":    {method: "PUT", target: "/data/jobs/a/k", body: "body", header: h("put")},
		"large":  {method: "PUT", target: "/data/jobs/a/large", body: strings.Repeat("x", 2<<20), header: h("large")},
		"delete": {method: "DELETE", target: "/data/jobs/a/gone", header: h("delete")},
		"batch":  {method: "POST", target: "/data?delete", body: batch, header: h("batch")},
		"tags":   {method: "PUT", target: "/data/jobs/a/k?tagging", body: `<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>`, header: h("tags")},
		"copy":   {method: "PUT", target: "/data/jobs/a/copy", header: headers(h("copy"), map[string]string{"X-Amz-Copy-Source": "/data/jobs/a/k"})},
		"create": {method: "POST", target: "/data/jobs/a/upload?uploads", header: h("create")},
		// The token is the credentials' own.
		"carried": {method: "PUT", target: "/data/jobs/a/carried", body: "body", header: map[string]string{"Idempotency-Key": "carried"}, carried: "s3://data/jobs/a/#34"},
	}
	first := map[string]answer{}
	for _, name := range []string{"put", "large", "delete", "batch", "tags", "copy", "create", "carried"} {
		if first[name] = b.call(t, calls[name]); first[name].status/100 != 2 || strings.Contains(first[name].body, "<Error>") {
			t.Fatalf("%s: %+v", name, first[name])
		}
	}
	b.raise("s3://data/jobs/a/", 41)
	for _, name := range []string{"put", "batch"} {
		if got := b.call(t, calls[name]); got.header.Get("X-Fencing-Highest") != "41" {
			t.Errorf("%s: a holder that was passed is not told: %+v", name, got)
		}
	}
	// This proxy knows by now.
	if got := b.call(t, call{method: "PUT", target: "/data/jobs/a/k", body: "late", header: map[string]string{"X-Fencing-Token": "34"}}); got.status != http.StatusPreconditionFailed {
		t.Fatal(got)
	}
	for name, c := range calls {
		got := b.call(t, c)
		if got.status != first[name].status || got.body != first[name].body || got.header.Get("Etag") != first[name].header.Get("Etag") {
			t.Errorf("%s: %+v, at first %+v", name, got, first[name])
		}
		if got.header.Get("X-Fencing-Highest") != "41" {
			t.Errorf("%s: a holder that was passed is not told: %+v", name, got)
		}
		c.header = headers(c.header, map[string]string{"Idempotency-Key": "new"})
		if got := b.call(t, c); got.code() != codeStale && !strings.Contains(got.body, codeStale) {
			t.Errorf("%s: not refused under a new key: %+v", name, got)
		}
	}
}

// A key that cannot be one is refused, not ignored: a silent nothing would be
// believed.
func TestIdempotencyKeysThatCannotBe(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	put := func(target, key string) call {
		return call{method: "PUT", target: target, body: "x", header: map[string]string{"Idempotency-Key": key, "X-Fencing-Token": "34"}}
	}
	long := put("/data/jobs/a/k", strings.Repeat("x", idempotency.MaxKey+1))
	plain := put("/plain/k", strings.Repeat("x", idempotency.MaxKey+1))
	delete(plain.header, "X-Fencing-Token")
	unsigned := call{method: "PUT", target: "/data/jobs/a/k?X-Fencing-Token=34", body: "x", presign: true, unsigned: map[string]string{"Idempotency-Key": "key"}}
	for name, c := range map[string]call{"too long": long, "too long, outside of every guard": plain, "empty": put("/data/jobs/a/k", ""), "unsigned beside a presigned URL": unsigned} {
		if got := b.call(t, c); got.status != http.StatusBadRequest || got.code() != "InvalidArgument" || !strings.Contains(got.body, "Idempotency-Key") {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	r := b.sign(t, put("/data/jobs/a/k", "one"))
	r.Header["Idempotency-Key"] = []string{"one", "two"}
	if got := b.send(t, r); got.status == http.StatusOK {
		t.Errorf("two keys: %+v", got)
	}
	r = b.sign(t, call{method: "PUT", target: "/data/jobs/a/k", body: "x", header: map[string]string{"X-Fencing-Token": "34"}})
	r.Header["Idempotency-Key"] = []string{"one", "two"}
	if got := b.send(t, r); got.status != http.StatusBadRequest || !strings.Contains(got.body, "2 times") {
		t.Errorf("two keys: %+v", got)
	}
	if len(b.fake.puts) != 0 {
		t.Error("something was written")
	}
	if got := b.call(t, put("/data/jobs/a/k", strings.Repeat("x", idempotency.MaxKey))); got.status != http.StatusOK {
		t.Error(got)
	}
	// A read has nothing to repeat.
	if got := b.call(t, call{method: "GET", target: "/data/jobs/a/k", header: map[string]string{"Idempotency-Key": strings.Repeat("x", 300)}}); got.status != http.StatusOK {
		t.Error(got)
	}
}

// The key stays here, whatever the request is; with it net/http would send a
// request twice.
func TestIdempotencyKeyStaysHere(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	h := map[string]string{"Idempotency-Key": "key", "X-Idempotency-Key": "key"}
	send := func(c call) string {
		c.header = headers(h, c.header)
		got := b.call(t, c)
		if got.status/100 != 2 {
			t.Errorf("%s %s: %+v", c.method, c.target, got)
		}
		return got.body
	}
	for range 2 { // outside of every guard each is a request of its own
		send(call{method: "PUT", target: "/data/k", body: "x"})
	}
	send(call{method: "PUT", target: "/data/k", body: "another body under the key"})
	send(call{method: "PUT", target: "/data/copy", header: map[string]string{"X-Amz-Copy-Source": "/data/k"}})
	up := send(call{method: "POST", target: "/data/mp?uploads"})
	_, rest, _ := strings.Cut(up, "<UploadId>")
	id, _, _ := strings.Cut(rest, "</UploadId>")
	send(call{method: "PUT", target: "/data/mp?partNumber=1&uploadId=" + escaped(id), body: "part"})
	send(call{method: "DELETE", target: "/data/mp?uploadId=" + escaped(id)})
	send(call{method: "POST", target: "/data?delete", body: `<Delete><Object><Key>copy</Key></Object></Delete>`})
	send(call{method: "DELETE", target: "/data/k"})
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := map[string]int{}
	for _, r := range s.requests {
		sent[r.Method]++
		for name := range r.Header {
			if strings.Contains(strings.ToLower(name), "idempotency") {
				t.Errorf("%s %s: %s went to the store", r.Method, r.URL, name)
			}
		}
	}
	if want := map[string]int{"PUT": 6, "POST": 2, "DELETE": 2}; fmt.Sprint(sent) != fmt.Sprint(want) {
		t.Errorf("the store was sent %v, want %v (and the bucket)", sent, want)
	}
}
