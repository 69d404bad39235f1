package s3api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
)

// quick is a way to write that does nothing, so that only the edge is measured.
type quick struct {
	guarded.Writer
	guarded.Reader
	content []byte
}

func (quick) Put(_ context.Context, p *guarded.Put) (object.Info, error) {
	_, err := io.Copy(io.Discard, p.Body)
	return object.Info{ETag: "0123456789abcdef0123456789abcdef"}, err
}

func (q quick) Get(_ context.Context, _ guarded.Op, ref object.Ref, choose guarded.Choose) (object.Info, io.ReadCloser, error) {
	info := object.Info{Ref: ref, Size: int64(len(q.content)), ETag: "0123456789abcdef0123456789abcdef"}
	_, err := choose(info, nil)
	return info, io.NopCloser(bytes.NewReader(q.content)), err
}

// sink is a ResponseWriter that forgets.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

func benchmark(b *testing.B, c call, content []byte) {
	q := quick{content: content}
	bench := newGuarded(b, func(o *Options) {
		o.Writers = map[fence.Writes]guarded.Writer{fence.Sealed: q}
		o.Reader, o.Answered = q, nil
	})
	signed := bench.sign(b, c)
	r := httptest.NewRequest(c.method, c.target, nil)
	r.Host = signed.URL.Host
	r.ContentLength = int64(len(c.body))
	b.ReportAllocs()
	b.SetBytes(int64(max(len(c.body), len(content))))
	for b.Loop() {
		r.Header = signed.Header.Clone()
		r.Body = io.NopCloser(strings.NewReader(c.body))
		w := &sink{header: http.Header{}}
		bench.ServeHTTP(w, r)
		if w.status != 200 {
			b.Fatal(w.status)
		}
	}
}

func BenchmarkPutPipeline(b *testing.B) {
	benchmark(b, call{method: "PUT", target: "/data/jobs/a/k?x-id=PutObject", body: strings.Repeat("x", 4<<10), header: map[string]string{"X-Fencing-Token": "34"}}, nil)
}

func BenchmarkGetPipeline(b *testing.B) {
	benchmark(b, call{method: "GET", target: "/data/jobs/a/k?x-id=GetObject"}, bytes.Repeat([]byte("x"), 4<<10))
}

// A verdict that this proxy knows costs no round trip.
func BenchmarkKnownStale(b *testing.B) {
	bench := newGuarded(b, func(o *Options) { o.Answered = nil })
	bench.fake.grant("s3://data/jobs/a/", 34, true)
	c := call{method: "PUT", target: "/data/jobs/a/k", body: "x", header: map[string]string{"X-Fencing-Token": "33"}}
	signed := bench.sign(b, c)
	r := httptest.NewRequest(c.method, c.target, strings.NewReader("x"))
	r.Host = signed.URL.Host
	b.ReportAllocs()
	for b.Loop() {
		r.Header = signed.Header.Clone()
		w := &sink{header: http.Header{}}
		bench.ServeHTTP(w, r)
		if w.status != 412 {
			b.Fatal(w.status)
		}
	}
}
