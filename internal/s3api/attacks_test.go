package s3api

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/upstream"
)

// A store that joins bucket and key as paths takes free/../data/k for data/k: a
// key may not lead out of its bucket, nor out of the prefix of a grant.
func TestKeysThatLeaveTheirPlace(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data", "free"), nil)
	for _, tc := range []struct {
		call
		status int
		code   string
	}{
		{call{method: "PUT", target: "/free/../data/.s3fence/objects/1", body: "x"}, 400, codeInvalidName},
		{call{method: "PUT", target: "/free/a/%2E%2E/..%2Fdata/k", body: "x"}, 400, codeInvalidName},
		{call{method: "DELETE", target: "/free/../data/k"}, 400, codeInvalidName},
		{call{method: "DELETE", target: "/free/.."}, 400, codeInvalidName},
		{call{method: "POST", target: "/free/../data/k?uploads"}, 400, codeInvalidName},
		{call{method: "GET", target: "/free/../data/k"}, 404, "NoSuchKey"},
		{call{method: "GET", target: "/free/../data/k?tagging"}, 404, "NoSuchKey"},
		{call{method: "GET", target: "/free?list-type=2&prefix=../data/"}, 400, "InvalidArgument"},
		{call{method: "GET", target: "/free?prefix=../data/"}, 400, "InvalidArgument"},
		{call{method: "GET", target: "/free?uploads&prefix=x/../../data/"}, 400, "InvalidArgument"},
		{call{method: "GET", target: "/free?versions&prefix=.."}, 400, "InvalidArgument"},
		{call{method: "PUT", target: "/free/k", header: map[string]string{"X-Amz-Copy-Source": "free/../data/k"}}, 404, "NoSuchKey"},
		{call{method: "POST", target: "/free?delete", body: "<Delete><Object><Key>../data/k</Key></Object></Delete>"}, 200, codeInvalidName},
		// Ids are names of directories to some stores.
		{call{method: "DELETE", target: "/free/k?uploadId=../../data/objects"}, 404, "NoSuchUpload"},
		{call{method: "PUT", target: "/free/k?partNumber=1&uploadId=u%2F..%2F..%2Fx", body: "x"}, 404, "NoSuchUpload"},
		{call{method: "GET", target: "/free/k?uploadId=.."}, 404, "NoSuchUpload"},
		{call{method: "DELETE", target: "/free/k?uploadId=."}, 404, "NoSuchUpload"},
		{call{method: "DELETE", target: "/free/k?uploadId="}, 404, "NoSuchUpload"},
		{call{method: "DELETE", target: "/free/k?uploadId=/"}, 404, "NoSuchUpload"},
		{call{method: "DELETE", target: `/free/k?uploadId=..%5C..%5Cdata`}, 404, "NoSuchUpload"},
		{call{method: "DELETE", target: "/free/k?uploadId=u%00"}, 404, "NoSuchUpload"},
		{call{method: "GET", target: "/free/k?versionId=../../data/objects"}, 400, "InvalidArgument"},
		{call{method: "DELETE", target: "/free/k?versionId=v%2F..%2F..%2Fx"}, 400, "InvalidArgument"},
		{call{method: "GET", target: "/free/k?tagging&versionId=.."}, 400, "InvalidArgument"},
		{call{method: "PUT", target: "/free/k", header: map[string]string{"X-Amz-Copy-Source": "free/a?versionId=../../data/k"}}, 400, "InvalidArgument"},
		{call{method: "PUT", target: "/free/k", header: map[string]string{"X-Amz-Copy-Source": "free/a?versionId=%2E%2E%2Fk"}}, 400, "InvalidArgument"},
		{call{method: "POST", target: "/free?delete", body: "<Delete><Object><Key>k</Key><VersionId>../k</VersionId></Object></Delete>"}, 200, "InvalidArgument"},
		// Within the bucket they are names like others, for who may use all of it.
		{call{method: "PUT", target: "/free/a/../k", body: "x"}, 200, ""},
		{call{method: "PUT", target: "/free/a/..k/...", body: "x"}, 200, ""},
		{call{method: "GET", target: "/data/open/../closed/k", key: readerKey}, 403, "AccessDenied"},
		{call{method: "GET", target: "/data?prefix=open/../closed/", key: readerKey}, 403, "AccessDenied"},
	} {
		s.mu.Lock()
		s.requests = nil
		s.mu.Unlock()
		got := b.call(t, tc.call)
		if got.status != tc.status || got.code() != tc.code {
			t.Errorf("%s %s: %d %s, want %d %s", tc.method, tc.target, got.status, got.code(), tc.status, tc.code)
		}
		s.mu.Lock()
		if tc.code != "" && len(s.requests) > 0 {
			t.Errorf("%s %s: the store was sent %s %s", tc.method, tc.target, s.requests[0].Method, s.requests[0].RequestURI)
		}
		s.mu.Unlock()
	}
}

// A store that does not know a setting of buckets answers the request without
// it: a raw list, which shows what is ours and what a guard hides.
func TestStoreThatDoesNotKnowASetting(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	if _, err := b.store.PutObject(t.Context(), "data", ".s3fence/objects/1", strings.NewReader("x"), 1, putOptions); err != nil {
		t.Fatal(err)
	}
	for _, o := range operations {
		if o.level != bucketLevel || o.method != "GET" || o.plain == nil {
			continue
		}
		for _, value := range []string{"", "x"} {
			target := "/data?"
			for _, sel := range o.selects {
				target += sel + "="
				if !strings.Contains(sel, "=") {
					target += value
				}
				target += "&"
			}
			got := b.call(t, call{method: "GET", target: strings.TrimSuffix(strings.ReplaceAll(target, "2=&", "2&"), "&")})
			if strings.Contains(got.body, ".s3fence/") {
				t.Errorf("%s: %d %s", o.name, got.status, got.body)
			}
		}
	}
}

// What is routed by a parameter is sent as that operation: stores look at the
// value where we look at the name.
func TestSelectorsHaveNoValue(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		return true
	})
	b.call(t, call{method: "PUT", target: "/data/k?tagging=x", body: "<Tagging/>"})
	if r := s.last("PUT"); r == nil || !r.URL.Query().Has("tagging") || r.URL.Query().Get("tagging") != "" {
		t.Errorf("the store was sent %v", r)
	}
	b.call(t, call{method: "PUT", target: "/data/k?partNumber=3&uploadId=u", body: "x"})
	if q := s.last("PUT").URL.Query(); q.Get("partNumber") != "3" || q.Get("uploadId") != "u" {
		t.Errorf("the store was sent %v", q)
	}
}

// Headers in the query count in presigned URLs; elsewhere they would be dropped
// without a word.
func TestHeadersInTheQuery(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	for _, tc := range []struct {
		target  string
		presign bool
		status  int
	}{
		{"/data/k?x-amz-acl=public-read", false, 400},
		{"/data/k?X-Amz-Object-Lock-Legal-Hold=ON", false, 400},
		{"/data/k?x-amz-meta-a=b", true, 200},
		{"/data/k?x-amz-meta-a=b%0D%0AX-Evil:%201", true, 400},
		{"/data/k?X-Amz-Meta-a%20b=c", true, 400},
		{"/data/k?X-Amz-Meta-a%3A=c", true, 400},
	} {
		if got := b.call(t, call{method: "PUT", target: tc.target, presign: tc.presign, body: "x"}); got.status != tc.status {
			t.Errorf("%s: %d %s", tc.target, got.status, got.body)
		}
	}
}

// A request that was cut off on its way may have landed (F7): only what never
// left is 503.
func TestCutFlightsAreUnknown(t *testing.T) {
	t.Parallel()
	var s seen
	store := newStore(t, s.wrap, "data")
	b := newBench(t, store, nil)
	arrived, release := make(chan struct{}), make(chan struct{})
	s.set(func(_ http.ResponseWriter, r *http.Request) bool {
		close(arrived)
		<-release
		return true
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-arrived
		cancel(guards.ErrCut)
	}()
	_, err := store.Do(ctx, &upstream.Request{Method: "PUT", Bucket: "data", Key: "k", Mutation: true, Body: strings.NewReader("x"), ContentLength: 1})
	close(release)
	rq := &request{s: b.Server, op: &operations[0]}
	if e := rq.answerTo(err); e.status != 504 || e.code != codeUnknown {
		t.Errorf("%v: %d %s", err, e.status, e.code)
	}
	for _, cause := range []error{guards.ErrCut, guards.ErrLeaseOver, context.Canceled} {
		if e := rq.answerTo(&upstream.Error{Outcome: upstream.NotSent, Err: cause}); e.status != 503 {
			t.Errorf("not sent, %v: %d %s", cause, e.status, e.code)
		}
		if e := rq.answerTo(cause); e.status != 503 {
			t.Errorf("%v: %d %s", cause, e.status, e.code)
		}
	}
}

// A store that says 200 before it has the body took something, whatever is
// wrong with the body's end (F7).
func TestStoreTakesABodyThatIsFalse(t *testing.T) {
	t.Parallel()
	rq := &request{op: &operations[0]}
	b := newBench(t, newStore(t, nil, "data"), nil)
	wrong := errors.Join(errors.New("reading the body"), badDigest(t, b))
	if e := rq.answerTo(&upstream.Error{Status: 200, Outcome: upstream.Unknown, Err: wrong}); e.status != 504 {
		t.Errorf("after a 200: %d %s", e.status, e.code)
	}
	if e := rq.answerTo(&upstream.Error{Outcome: upstream.Unknown, Err: wrong}); e.status != 400 {
		t.Errorf("before any answer: %d %s", e.status, e.code)
	}
}

// badDigest is what a body's reader says of a body with another MD5.
func badDigest(t *testing.T, b *bench) error {
	t.Helper()
	r := b.sign(t, call{method: "PUT", target: "/data/k", body: "x", header: map[string]string{"Content-Md5": base64.StdEncoding.EncodeToString(make([]byte, 16))}})
	r.RequestURI = "/data/k"
	signed, err := b.verifier.Verify(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := signed.Body(r, sigv4.BodyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.ReadAll(body); err == nil {
		t.Fatal("a false body is taken for true")
	}
	return err
}

// The keys of a batch outside of the scope of its token are told the truth
// about the store, too (F7).
func TestBatchOfTwoPlaces(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), []fence.Guard{guard(t, 1, "s3://data/jobs/*/")})
	b.fake.grant("s3://data/jobs/a/", 34, false)
	s.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	got := b.call(t, call{method: "POST", target: "/data?delete", carried: "s3://data/jobs/a/#34",
		body: "<Delete><Object><Key>jobs/a/k</Key></Object><Object><Key>plain</Key></Object></Delete>"})
	if got.status != 200 || got.code() != codeUnknown {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got.header.Get(headerHighest) != "34" {
		t.Errorf("the holder is not told its mark: %v", got.header)
	}
}

// Over a file system, names that differ in capitals may be one, and an object
// with the name of our directory would be in its way.
func TestNamesThatMayBeOurs(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	for _, key := range []string{
		".s3fence", ".s3fence/", ".S3Fence/objects/1", ".S3FENCE", `.s3fence\objects`, "/.s3fence/objects/1", "./.s3fence/objects/1", ".//.s3FENCE//objects",
		"x/../.s3fence/objects/1", `.\.s3fence/objects`, ".s3fence/../k", "x/./../.s3fence",
	} {
		if got := b.call(t, call{method: "PUT", target: "/data/" + escapePath(key), body: "x"}); got.status != 403 || got.code() != "AccessDenied" {
			t.Errorf("PUT %s: %d %s", key, got.status, got.code())
		}
		if got := b.call(t, call{method: "GET", target: "/data/" + escapePath(key)}); got.status != 404 || got.code() != "NoSuchKey" {
			t.Errorf("GET %s: %d %s", key, got.status, got.code())
		}
		if got := b.call(t, call{method: "PUT", target: "/data/k", header: map[string]string{"X-Amz-Copy-Source": "data/" + escapePath(key)}}); got.code() != "NoSuchKey" {
			t.Errorf("copy of %s: %d %s", key, got.status, got.code())
		}
		if got := b.call(t, call{method: "POST", target: "/data?delete", body: "<Delete><Object><Key>" + key + "</Key></Object></Delete>"}); got.code() != "AccessDenied" {
			t.Errorf("batch with %s: %d %s", key, got.status, got.body)
		}
	}
	for _, key := range []string{".s3fenced", "x/.s3fence", "x/.s3fence/objects/1"} {
		if got := b.call(t, call{method: "PUT", target: "/data/" + key, body: "x"}); got.status != 200 {
			t.Errorf("PUT %s: %d %s", key, got.status, got.code())
		}
	}
	for _, key := range []string{"x/../y", "x/.s3fence/../../y", ".s3fenc/../y"} {
		if got := b.call(t, call{method: "PUT", target: "/plain/" + key, body: "x"}); got.status != 200 {
			t.Errorf("PUT %s: %d %s", key, got.status, got.code())
		}
	}
}

// What a scope cannot honour is refused, not dropped.
func TestHeadersThatWouldBeDropped(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	fenced := map[string]string{"X-Fencing-Token": "34"}
	if got := b.call(t, call{method: "PUT", target: "/data/jobs/a/k", body: "x", header: fenced}); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for _, name := range []string{"X-Amz-Metadata-Directive", "X-Amz-Tagging-Directive"} {
		h := map[string]string{"X-Amz-Copy-Source": "data/jobs/a/k", name: "KEEP"}
		if got := b.call(t, call{method: "PUT", target: "/plain/k", header: h}); got.status != 400 {
			t.Errorf("copy out with %s: %d %s", name, got.status, got.code())
		}
	}
	for _, target := range []string{"/data/jobs/a/k", "/plain/k"} {
		// To the signature, two headers are one with a comma.
		r := b.sign(t, call{method: "PUT", target: target, header: map[string]string{"X-Amz-Tagging": "a=1,b=2"}, body: "x"})
		r.Header["X-Amz-Tagging"] = []string{"a=1", "b=2"}
		if got := b.send(t, r); got.status != 400 {
			t.Errorf("two headers: %d %s", got.status, got.body)
		}
		if got := b.call(t, call{method: "PUT", target: target, header: map[string]string{"Content-Range": "bytes 0-0/9"}, body: "x"}); got.status != 501 {
			t.Errorf("Content-Range: %d %s", got.status, got.body)
		}
	}
	for _, object := range []string{"<Key>jobs/a/k</Key><Key>a</Key>", "<key>a</key>", ""} {
		got := b.call(t, call{method: "POST", target: "/data?delete", body: "<Delete><Object><Key>b</Key></Object><Object>" + object + "</Object></Delete>"})
		if got.status != 400 || got.code() != "MalformedXML" {
			t.Errorf("batch with %q: %d %s", object, got.status, got.body)
		}
	}
	h := map[string]string{"X-Amz-If-Match-Initiated-Time": "Mon, 02 Jan 2006 15:04:05 GMT"}
	if got := b.call(t, call{method: "DELETE", target: "/data/jobs/a/k?uploadId=u", header: h}); got.status != 501 {
		t.Errorf("abort: %d %s", got.status, got.code())
	}
}
