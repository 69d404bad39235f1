package s3api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3fence/s3fence/internal/fence"
)

// seen remembers the requests that reach a store.
type seen struct {
	mu       sync.Mutex
	requests []*http.Request
	// before, where set, runs before the store does.
	before func(w http.ResponseWriter, r *http.Request) (done bool)
}

func (s *seen) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Clone(context.Background()))
		before := s.before
		s.mu.Unlock()
		if before != nil && before(w, r) {
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (s *seen) set(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

func (s *seen) last(method string) *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.requests) - 1; i >= 0; i-- {
		if s.requests[i].Method == method {
			return s.requests[i]
		}
	}
	return nil
}

// overTLS serves a bench over TLS, where SDKs send bodies in unsigned chunks
// with the checksum in a trailer.
func (b *bench) overTLS(t *testing.T) *s3.Client {
	t.Helper()
	srv := httptest.NewTLSServer(b)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.Client().CloseIdleConnections)
	return b.sdk(t, testKey, "", func(o *s3.Options) {
		o.BaseEndpoint, o.HTTPClient = aws.String(srv.URL), srv.Client()
	})
}

// unseekable hides all but Read, so that the SDK can neither hash nor measure.
type unseekable struct{ io.Reader }

func TestTrailersReachTheStoreAsHeaders(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), []fence.Guard{guard(t, 1, "s3://data/free/", func(g *fence.Guard) { g.Tokens = fence.Optional })}, func(o *Options) { o.Limits.SpoolDir = t.TempDir() })
	c := b.overTLS(t)
	ctx := t.Context()
	for name, size := range map[string]int{"empty": 0, "small": 4 << 10, "spooled": 3 << 20} {
		content := strings.Repeat("x", size)
		for _, key := range []string{name, "free/" + name} {
			p, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("data"), Key: &key, Body: body(content), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c})
			if err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			r := s.last("PUT")
			if key == name && (r.Header.Get("X-Amz-Checksum-Crc32c") == "" || r.Header.Get("X-Amz-Trailer") != "" || r.ContentLength != int64(size) || strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked")) {
				t.Errorf("%s: the store got %v, length %d", key, r.Header, r.ContentLength)
			}
			if key != name && p.ChecksumCRC32C == nil {
				t.Errorf("%s: no checksum in %+v", key, p)
			}
			g, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("data"), Key: &key})
			if err != nil {
				t.Fatal(err)
			}
			if read(t, g.Body) != content {
				t.Errorf("%s: other bytes", key)
			}
		}
	}
	for _, key := range []string{"stream", "free/stream"} {
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("data"), Key: &key, Body: unseekable{body(strings.Repeat("y", 300_000))}, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32}); err != nil {
			t.Errorf("%s: a body of unknown length: %v", key, err)
		}
	}
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String("data"), Key: aws.String("mp"), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: aws.String("data"), Key: aws.String("mp"), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: body("part"), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
	if err != nil {
		t.Fatal(err)
	}
	if s.last("PUT").Header.Get("X-Amz-Checksum-Crc32") == "" {
		t.Error("the part's checksum did not reach the store")
	}
	if _, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: aws.String("data"), Key: aws.String("mp"), UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: p.ETag}}}}); err != nil {
		t.Error(err)
	}
}

func TestSpoolIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data"), nil, func(o *Options) { o.Limits.Spool, o.Limits.SpoolDir = 100_000, t.TempDir() })
	c := b.overTLS(t)
	put := func(size int, r io.Reader) error {
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String("k"), Body: r, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
		return err
	}
	if err := put(200_000, bytes.NewReader(make([]byte, 200_000))); err != nil {
		t.Errorf("a known length is streamed: %v", err)
	}
	wantCode(t, put(200_000, unseekable{bytes.NewReader(make([]byte, 200_000))}), "MissingContentLength")
}

// All spooled bodies together have one bound. What finds no room is told to come
// again, before it is sent where its length is known, and room comes back.
func TestSpoolsAreBoundedTogether(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data"), nil, func(o *Options) { o.Limits.Spool, o.Limits.SpoolTotal, o.Limits.SpoolDir = 1<<20, 2<<20, t.TempDir() })
	c := b.overTLS(t)
	put := func(key string, r io.Reader) error {
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: &key, Body: r, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
		return err
	}
	known := func() io.Reader { return bytes.NewReader(make([]byte, 900<<10)) }
	unknown := func() io.Reader { return unseekable{known()} }
	// Two that are under way have almost all of it.
	var ends []*io.PipeWriter
	done := make(chan error, 2)
	for i := range 2 {
		r, w := io.Pipe()
		ends = append(ends, w)
		go func() { done <- put(fmt.Sprint("slow", i), unseekable{r}) }()
		if _, err := w.Write(make([]byte, 800<<10)); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(30 * time.Second); b.spooled.Load() < 1500<<10; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are spooled", b.spooled.Load())
		}
	}
	wantCode(t, put("known", known()), codeSlowDown)
	wantCode(t, put("unknown", unknown()), codeSlowDown)
	if err := put("small", bytes.NewReader(make([]byte, 1000))); err != nil {
		t.Errorf("what needs no spool: %v", err)
	}
	for _, w := range ends {
		w.Close()
	}
	for range ends {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := b.spooled.Load(); n != 0 {
		t.Errorf("%d bytes are spooled by nobody", n)
	}
	for _, r := range []io.Reader{known(), unknown()} {
		if err := put("after", r); err != nil {
			t.Errorf("there is room again: %v", err)
		}
	}
	if err := put("broken", unseekable{io.MultiReader(io.LimitReader(known(), 500<<10), errReader{})}); err == nil {
		t.Error("a body that breaks off is taken")
	}
	for end := time.Now().Add(30 * time.Second); b.spooled.Load() != 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are spooled by nobody", b.spooled.Load())
		}
	}
}

// errReader breaks off.
type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("the source broke off") }

// What goes to the store is an allow-list, and so is what comes back.
func TestOnlyKnownHeadersPass(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	b.call(t, call{method: "PUT", target: "/data/k", body: "x", header: map[string]string{"X-Custom": "1", "Cookie": "c", "Idempotency-Key": "i", "Content-Type": "a/b", "X-Amz-Meta-A": "1"}})
	h := s.last("PUT").Header
	for _, name := range []string{"X-Custom", "Cookie", "Idempotency-Key", "Authorization", "X-Amz-Security-Token", "X-Amz-Date", "Expect"} {
		if h.Get(name) != "" {
			t.Errorf("%s went to the store", name)
		}
	}
	if h.Get("Content-Type") != "a/b" || h.Get("X-Amz-Meta-A") != "1" || s.last("PUT").URL.Query().Get("X-Amz-Expires") == "" {
		t.Errorf("the store got %v", h)
	}
	s.set(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("X-Amz-Request-Id", "of the store")
		w.Header().Set("X-Amz-Version-Id", "v1")
		w.Header().Set("X-Store-Secret", "1")
		w.Header().Set("Connection", "close")
		return false
	})
	got := b.call(t, call{method: "GET", target: "/data/k"})
	if got.header.Get("X-Amz-Request-Id") == "of the store" || got.header.Get("X-Store-Secret") != "" || got.header.Get("X-Amz-Version-Id") != "v1" || got.header.Get("X-Amz-Meta-A") != "1" {
		t.Errorf("the client got %v", got.header)
	}
	b.call(t, call{method: "GET", target: "/data/k", header: map[string]string{"Range": "bytes=0-0", "If-Range": `"x"`}})
	if s.last("GET").Header.Get("Range") != "" {
		t.Error("a range went out without its condition")
	}
}

// What the store says of the proxy's own signature is no answer for a client.
func TestStoreAnswers(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	for _, tc := range []struct {
		name, body string
		status     int
		put, get   string
	}{
		{"unknown key", `<Error><Code>InvalidAccessKeyId</Code></Error>`, 403, "503 ServiceUnavailable", "503 ServiceUnavailable"},
		{"expired", `<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>`, 403, "503 ServiceUnavailable", "503 ServiceUnavailable"},
		{"denied", `<Error><Code>AccessDenied</Code><Message>no</Message></Error>`, 403, "403 AccessDenied", "403 AccessDenied"},
		{"slow down", `<Error><Code>SlowDown</Code></Error>`, 503, "503 SlowDown", "503 SlowDown"},
		{"internal", `<Error><Code>InternalError</Code></Error>`, 500, "500 InternalError", "500 InternalError"},
		{"a balancer's page", `<html>`, 502, "504 OutcomeUnknown", "503 ServiceUnavailable"},
		{"a balancer's 404", `<html>`, 404, "504 OutcomeUnknown", "503 ServiceUnavailable"},
		{"redirect", `<Error><Code>PermanentRedirect</Code></Error>`, 301, "503 ServiceUnavailable", "503 ServiceUnavailable"},
		{"error in a 200", `<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>`, 200, "400 NoSuchKey", "200 "},
		{"internal in a 200", `<?xml version="1.0"?><Error><Code>InternalError</Code></Error>`, 200, "504 OutcomeUnknown", "200 "},
	} {
		s.set(func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
			return true
		})
		for method, want := range map[string]string{"PUT": tc.put, "GET": tc.get} {
			c := call{method: method, target: "/data/k"}
			if method == "PUT" {
				c.body = "x"
			}
			got := b.call(t, c)
			code := got.code()
			if got.status == 200 {
				code = ""
			}
			if have := fmt.Sprintf("%d %s", got.status, code); have != want {
				t.Errorf("%s, %s: %s, want %s", tc.name, method, have, want)
			}
		}
	}
}

// A document of the store that is none, or that breaks off, is the store's failure and
// not ours; of a change that it answered so it is not known whether it took effect.
func TestStoreAnswersNonsense(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	for name, answer := range map[string]func(http.ResponseWriter){
		"no XML":    func(w http.ResponseWriter) { _, _ = io.WriteString(w, "hello") },
		"empty":     func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) },
		"not ended": func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<ListVersionsResult><Name>data</Name>") },
		"cut": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "<ListVersionsResult>")
			panic(http.ErrAbortHandler)
		},
	} {
		s.set(func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			answer(w)
			return true
		})
		for _, c := range []struct {
			call
			want string
		}{
			{call{method: "GET", target: "/"}, "503 ServiceUnavailable"},
			{call{method: "GET", target: "/data?versions"}, "503 ServiceUnavailable"},
			{call{method: "GET", target: "/data?uploads"}, "503 ServiceUnavailable"},
			{call{method: "GET", target: "/data/k?uploadId=x"}, "503 ServiceUnavailable"},
			{call{method: "POST", target: "/data/k?uploads"}, "504 OutcomeUnknown"},
			{call{method: "POST", target: "/data/k?uploadId=x", body: "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>"}, "504 OutcomeUnknown"},
			{call{method: "POST", target: "/data?delete", body: "<Delete><Object><Key>k</Key></Object></Delete>"}, "504 OutcomeUnknown"},
		} {
			got := b.call(t, c.call)
			if have := fmt.Sprintf("%d %s", got.status, got.code()); have != c.want && (name != "empty" || got.status != 200 || got.body != "") {
				t.Errorf("%s, %s %s: %s, want %s", name, c.method, c.target, have, c.want)
			}
		}
		got := b.call(t, call{method: "GET", target: "/data?versioning"})
		if got.status == http.StatusInternalServerError || name == "cut" && got.status != http.StatusServiceUnavailable {
			t.Errorf("%s, a setting: %d %s", name, got.status, got.code())
		}
	}
}

// A store that answers before it has the body leaves a Read of it running; the
// record must not race with that.
func TestStoreAnswersEarly(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	s.set(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<Error><Code>AccessDenied</Code></Error>`)
		return true
	})
	for range 5 {
		r := b.sign(t, call{method: "PUT", target: "/data/k", body: strings.Repeat("x", 8<<20)})
		tr := &http.Transport{}
		resp, err := tr.RoundTrip(r)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode/100 == 2 {
				t.Errorf("status %d", resp.StatusCode)
			}
		}
		tr.CloseIdleConnections()
	}
}

// A mutation whose lease ended while the store worked is not acknowledged, and
// not denied either (F7).
func TestLeaseEndsUnderWay(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	s.set(func(http.ResponseWriter, *http.Request) bool {
		b.clock.leap(2 * testLease)
		return false
	})
	if got := b.call(t, call{method: "PUT", target: "/data/k", body: "x"}); got.status != 504 || got.code() != codeUnknown {
		t.Errorf("%d %s", got.status, got.code())
	}
}

// When the client goes away, so does the request to the store.
func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	var s seen
	store := newStore(t, s.wrap, "data")
	b := newBench(t, store, nil)
	arrived, gone := make(chan struct{}), make(chan struct{})
	s.set(func(_ http.ResponseWriter, r *http.Request) bool {
		close(arrived)
		<-r.Context().Done()
		close(gone)
		return true
	})
	ctx, cancel := context.WithCancel(t.Context())
	r := b.sign(t, call{method: "GET", target: "/data/k"}).WithContext(ctx)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := tr.RoundTrip(r); err == nil {
			resp.Body.Close()
		}
	}()
	<-arrived
	cancel()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the store still works for nobody")
	}
	<-done
}

// A body that the store cuts must not look whole to the client.
func TestCutBodyIsCut(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	s.set(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(make([]byte, 100_000))
		panic(http.ErrAbortHandler)
	})
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(b.sign(t, call{method: "GET", target: "/data/k"}))
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("%d bytes and no error", n)
	}
}

func TestVirtualHosts(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data"), nil)
	for host, bucket := range map[string]string{
		"data.s3.test": "data", "DATA.S3.TEST:9000": "data", "s3.test": "", "s3.test:9000": "", "xs3.test": "", ".s3.test": "", "a.b.s3.test": "a.b", "127.0.0.1:1": "",
	} {
		if got := b.hostBucket(host); got != bucket {
			t.Errorf("%s names %q, want %q", host, got, bucket)
		}
	}
	for _, tc := range []struct {
		host, path, bucket, key string
		level                   level
		bad                     bool
	}{
		{"x", "/", "", "", serviceLevel, false},
		{"x", "/data", "data", "", bucketLevel, false},
		{"x", "/data/", "data", "", bucketLevel, false},
		{"x", "/data//k", "data", "/k", objectLevel, false},
		{"x", "/data/a/../b", "data", "a/../b", objectLevel, false},
		{"x", "//k", "", "", 0, true},
		{"x", "k", "", "", 0, true},
		{"x", "/../k", "", "", 0, true},
		{"data.s3.test", "/", "data", "", bucketLevel, false},
		{"data.s3.test", "/k", "data", "k", objectLevel, false},
		{"data.s3.test", "//k", "data", "/k", objectLevel, false},
	} {
		bucket, key, l, err := b.place(tc.host, tc.path)
		if (err != nil) != tc.bad || err == nil && (bucket != tc.bucket || key != tc.key || l != tc.level) {
			t.Errorf("%s%s: %q %q %v %v", tc.host, tc.path, bucket, key, l, err)
		}
	}
}
