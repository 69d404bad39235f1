package upstream

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tap is a connection whose writes are watched, and fail when told to.
type tap struct {
	net.Conn
	mu     sync.Mutex
	writes [][]byte
	fail   func(p []byte) (int, bool) // bytes to let through, and whether to fail
}

func (c *tap) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes = append(c.writes, bytes.Clone(p))
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		if n, bad := fail(p); bad {
			n, _ = c.Conn.Write(p[:n])
			c.Conn.Close()
			return n, errors.New("planted write error")
		}
	}
	return c.Conn.Write(p)
}

// tapped makes every plain connection of c a tap and hands it to made.
func tapped(c *Client, made func(n int, t *tap)) {
	n := 0
	c.transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		n++
		t := &tap{Conn: raw}
		made(n, t)
		return &conn{Conn: t, raw: t}, nil
	}
}

// A write that fails without a byte is not sent; one that got a byte out is
// unknown. Neither reaches the store twice.
func TestBrokenKeptConnection(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		method  string
		out     int // bytes that get out before the connection breaks
		want    Outcome
		seen    int // requests at the store after the warming one
		wantErr bool
	}{
		"PUT nothing out":    {"PUT", 0, NotSent, 0, true},
		"PUT a byte out":     {"PUT", 1, Unknown, 0, true},
		"PUT a head out":     {"PUT", 40, Unknown, 0, true},
		"DELETE nothing out": {"DELETE", 0, Took, 1, false}, // net/http goes to a fresh connection
		"DELETE a byte out":  {"DELETE", 1, Unknown, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, func(int, *wireRequest) (string, bool) { return plain(200, ""), true })
			c := newClient(t, w.url())
			var first *tap
			tapped(c, func(n int, tp *tap) {
				if n == 1 {
					first = tp
				}
			})
			warm(t, c)
			first.mu.Lock()
			first.fail = func([]byte) (int, bool) { return tc.out, true }
			first.mu.Unlock()
			r := &Request{Method: tc.method, Bucket: "b", Key: "k", Mutation: true}
			if tc.method == "PUT" {
				r.Body, r.ContentLength = bytes.NewReader(make([]byte, 1000)), 1000
			}
			_, err := c.Do(t.Context(), r)
			if OutcomeOf(err) != tc.want {
				t.Errorf("%v (%v), want %v", OutcomeOf(err), err, tc.want)
			}
			if n := len(w.seen()) - 1; n != tc.seen {
				t.Errorf("the store saw it %d times, want %d", n, tc.seen)
			}
		})
	}
}

// After a failure was classified, nothing may leave on its connection.
func TestForbidEndsWriting(t *testing.T) {
	t.Parallel()
	for range 200 {
		var got bytes.Buffer
		a, b := net.Pipe()
		read := make(chan struct{})
		go func() { io.Copy(&got, b); close(read) }()
		c := &conn{Conn: a, raw: a}
		s := sending{conn: c}
		wrote := make(chan struct{})
		go func() {
			c.Write([]byte("x"))
			c.Write([]byte("y"))
			close(wrote)
		}()
		left := s.mayHaveLeft()
		<-wrote
		a.Close()
		<-read
		b.Close()
		if !left && got.Len() > 0 {
			t.Fatalf("told not sent, then sent %q", got.String())
		}
	}
}

// Small requests leave in one write; the store gets headers and body at once.
func TestSmallPutIsOneWrite(t *testing.T) {
	t.Parallel()
	w := newWire(t, func(int, *wireRequest) (string, bool) { return plain(200, "", `ETag: "e"`), true })
	c := newClient(t, w.url())
	var tp *tap
	tapped(c, func(_ int, made *tap) { tp = made })
	for _, size := range []int{0, 1, 4 << 10, 16 << 10} {
		tp = nil
		c.Close()
		body := bytes.NewReader(make([]byte, size))
		if _, err := c.PutObject(t.Context(), "b", "k", body, int64(size), PutOptions{}); err != nil {
			t.Fatal(err)
		}
		tp.mu.Lock()
		if len(tp.writes) != 1 {
			t.Errorf("%d bytes left in %d writes", size, len(tp.writes))
		}
		tp.mu.Unlock()
	}
}

func TestSmallPutIsOneRecord(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("spoken: %s", r.Proto)
		}
		io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"e"`)
	}))
	t.Cleanup(srv.Close)
	proxy, records := newRecordCounter(t, srv.Listener.Addr().String())
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	c, err := New(Config{Endpoint: "https://" + proxy, AccessKey: "a", SecretKey: "b", PathStyle: true, CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	warm := records()
	for i, size := range []int{1, 1, 4 << 10, 12 << 10} {
		if _, err := c.PutObject(t.Context(), "b", "k", bytes.NewReader(make([]byte, size)), int64(size), PutOptions{}); err != nil {
			t.Fatal(err)
		}
		now := records()
		if i > 0 && now-warm != 1 { // the first one has the handshake's records
			t.Errorf("%d bytes took %d TLS records", size, now-warm)
		}
		warm = now
	}
}

// newRecordCounter forwards to addr and counts the TLS records of application
// data (RFC 8446, 5.1: type 23) that the client sends.
func newRecordCounter(t *testing.T, addr string) (listen string, count func() int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	n := 0
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr)
			if err != nil {
				in.Close()
				return
			}
			wg.Go(func() { defer in.Close(); io.Copy(in, out) })
			wg.Go(func() {
				defer out.Close()
				head := make([]byte, 5)
				for {
					if _, err := io.ReadFull(in, head); err != nil {
						return
					}
					record := make([]byte, int(head[3])<<8|int(head[4]))
					if _, err := io.ReadFull(in, record); err != nil {
						return
					}
					if head[0] == 23 {
						mu.Lock()
						n++
						mu.Unlock()
					}
					if _, err := out.Write(slices.Concat(head, record)); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String(), func() int { mu.Lock(); defer mu.Unlock(); return n }
}

func TestWhatGoesUpstream(t *testing.T) {
	t.Parallel()
	w := newWire(t, func(int, *wireRequest) (string, bool) { return plain(200, ""), true })
	c := newClient(t, w.url(), WithClock(func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }))
	sent := http.Header{
		"Authorization": {"x"}, "X-Amz-Security-Token": {"x"}, "X-Amz-Date": {"x"}, "X-Amz-Content-Sha256": {"x"}, "Expect": {"100-continue"},
		"Connection": {"X-Amz-Acl"}, "Keep-Alive": {"x"}, "Proxy-Authorization": {"x"}, "Te": {"x"}, "Trailer": {"x"}, "Transfer-Encoding": {"chunked"}, "Upgrade": {"x"},
		"X-Fencing-Token": {"1"}, "X-Fencing-Scope": {"x"}, "X-Amz-Decoded-Content-Length": {"1"}, "Amz-Sdk-Invocation-Id": {"x"}, "Amz-Sdk-Request": {"x"},
		"Idempotency-Key": {"x"}, "Accept-Encoding": {"gzip"}, "Content-Length": {"99"}, "X-Amz-Trailer": {"x"}, "Cookie": {"x"}, "X-Forwarded-For": {"x"}, "Host": {"evil"},
		"X-Amz-Unheard-Of": {"x"}, "Accept": {"x"},

		"Content-Md5": {"1B2M2Y8AsgTpgAmY7PhCfg=="}, "x-amz-meta-lower": {"1"}, "X-Amz-Meta-Two": {"1", "2"}, "X-Amz-Checksum-Crc32": {"AAAAAA=="},
		"X-Amz-Server-Side-Encryption-Customer-Key": {"k"}, "X-Amz-Acl": {"private"}, "X-Amz-Tagging": {"a=b"}, "If-Match": {`"e"`}, "Cache-Control": {"no-store"},
		"Content-Encoding": {"aws-chunked, gzip"}, "X-Amz-Checksum-Type": {"FULL_OBJECT"}, "X-Amz-Expected-Bucket-Owner": {"o"},
	}
	for _, mutation := range []bool{true, false} {
		r := &Request{Method: "PUT", Bucket: "b", Key: "a b/ü?", Query: []Param{{"partNumber", "1"}, {"x y", "a+b&c;d"}}, Header: sent, Mutation: mutation}
		if !mutation {
			r.Method = "GET"
		}
		if _, err := c.Do(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	both := w.seen()
	put, get := both[0], both[1]
	if e := put.Header.Get("Content-Encoding"); e != "gzip" {
		t.Errorf("Content-Encoding %q, want gzip", e)
	}
	want := []string{
		"Cache-Control", "Content-Encoding", "Content-Length", "Content-Md5", "If-Match", "User-Agent", "X-Amz-Acl", "X-Amz-Checksum-Crc32",
		"X-Amz-Checksum-Type", "X-Amz-Expected-Bucket-Owner", "X-Amz-Meta-Lower", "X-Amz-Meta-Two",
		"X-Amz-Server-Side-Encryption-Customer-Key", "X-Amz-Tagging",
	}
	if got := names(put.Header); !slices.Equal(got, want) {
		t.Errorf("PUT headers\n%q\nwant\n%q", got, want)
	}
	want = slices.Sorted(slices.Values(append(slices.DeleteFunc(want, func(s string) bool { return s == "Content-Length" }), "Authorization", "X-Amz-Content-Sha256", "X-Amz-Date")))
	if got := names(get.Header); !slices.Equal(got, want) {
		t.Errorf("GET headers\n%q\nwant\n%q", got, want)
	}
	if !strings.HasPrefix(put.RequestURI, "/b/a%20b/%C3%BC%3F?") {
		t.Errorf("request URI %s", put.RequestURI)
	}
	q, err := url.ParseQuery(put.URL.RawQuery)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"partNumber": "1", "x y": "a+b&c;d", "X-Amz-Expires": "15", "X-Amz-Date": "20260102T030405Z", "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
		"X-Amz-Credential": testKey + "/20260102/us-east-1/s3/aws4_request",
		"X-Amz-SignedHeaders": "cache-control;content-encoding;content-md5;host;if-match;x-amz-acl;x-amz-checksum-crc32;" +
			"x-amz-checksum-type;x-amz-expected-bucket-owner;x-amz-meta-lower;x-amz-meta-two;" +
			"x-amz-server-side-encryption-customer-key;x-amz-tagging",
	} {
		if q.Get(name) != value {
			t.Errorf("query %s = %q, want %q", name, q.Get(name), value)
		}
	}
	if len(q) != 8 || q.Get("X-Amz-Signature") == "" {
		t.Errorf("query %v", q)
	}
	if sent.Get("Content-Length") != "99" || len(sent) != 38 {
		t.Error("the caller's headers were changed")
	}
}

func names(h http.Header) []string {
	var out []string
	for n := range h {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func TestVirtualHosts(t *testing.T) {
	t.Parallel()
	var host, uri string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { host, uri = r.Host, r.RequestURI }))
	t.Cleanup(srv.Close)
	c, err := New(Config{Endpoint: "http://store.test:81", AccessKey: "a", SecretKey: "b"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	dial := c.transport.(*http.Transport).DialContext
	c.transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != "data.store.test:81" {
			t.Errorf("dialled %s", addr)
		}
		return dial(ctx, network, srv.Listener.Addr().String())
	}
	for key, want := range map[string]string{"k/ü": "/k/%C3%BC?", "/lead": "//lead?", "": "/?", "//a/../b": "///a/../b?"} {
		if _, err := c.Do(t.Context(), &Request{Method: "DELETE", Bucket: "data", Key: key, Mutation: true}); err != nil {
			t.Fatal(err)
		}
		if host != "data.store.test:81" || !strings.HasPrefix(uri, want) {
			t.Errorf("key %q: host %s, uri %s, want %s", key, host, uri, want)
		}
	}
}

func TestAnswersAreNotUnzipped(t *testing.T) {
	t.Parallel()
	w := newWire(t, func(int, *wireRequest) (string, bool) {
		return plain(200, "raw bytes", "Content-Encoding: gzip"), true
	})
	c := newClient(t, w.url())
	o, err := c.GetObject(t.Context(), "b", "k", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	b, err := io.ReadAll(o.Body)
	if err != nil || string(b) != "raw bytes" || o.Header.Get("Content-Encoding") != "gzip" || w.seen()[0].Header.Get("Accept-Encoding") != "" {
		t.Errorf("%q, %v, %v", b, err, o.Header)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	good := Config{Name: "main", Endpoint: "https://s3.test", AccessKey: "a", SecretKey: "b"}
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no scheme":     {func(c *Config) { c.Endpoint = "s3.test:9000" }, "want http://host"},
		"path":          {func(c *Config) { c.Endpoint = "http://s3.test/minio" }, "only host and port"},
		"user":          {func(c *Config) { c.Endpoint = "http://u:hidden@s3.test" }, "no user"},
		"ftp":           {func(c *Config) { c.Endpoint = "ftp://s3.test" }, "want http://host"},
		"no key":        {func(c *Config) { c.AccessKey = "" }, "access_key"},
		"no secret":     {func(c *Config) { c.SecretKey = "" }, "secret_key"},
		"region":        {func(c *Config) { c.Region = "eu/west" }, "region"},
		"validity":      {func(c *Config) { c.Validity = 1500 * time.Millisecond }, "whole seconds"},
		"long validity": {func(c *Config) { c.Validity = 200 * time.Hour }, "whole seconds"},
		"CA":            {func(c *Config) { c.CA = []byte("no PEM") }, "no PEM certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			tc.change(&cfg)
			_, err := New(cfg)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "upstream main") || strings.Contains(err.Error(), "hidden") {
				t.Errorf("New: %v, want %q", err, tc.want)
			}
		})
	}
	c, err := New(good)
	if err != nil || c.Validity() != 15*time.Second || c.Name() != "main" {
		t.Errorf("New: %v, %v", c, err)
	}
}
