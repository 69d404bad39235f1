package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

// wire is a server that speaks raw bytes: for each request that it has read
// whole, or as far as the client sent it, answer says what goes back.
type wire struct {
	ln       net.Listener
	mu       sync.Mutex
	requests []*wireRequest
	conns    atomic.Int64
}

type wireRequest struct {
	*http.Request
	body     []byte
	declared int64
	conn     int64 // from 1
}

func (w *wire) url() string { return "http://" + w.ln.Addr().String() }

func (w *wire) seen() []*wireRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*wireRequest(nil), w.requests...)
}

// newWire starts a server. answer gets the n-th request (from 1) and returns
// the bytes to send back and whether the connection stays open.
func newWire(t testing.TB, answer func(n int, r *wireRequest) (string, bool)) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{ln: ln}
	var wg sync.WaitGroup
	var open sync.Map
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			id := w.conns.Add(1)
			open.Store(conn, true)
			wg.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					body, _ := io.ReadAll(r.Body)
					wr := &wireRequest{Request: r, body: body, declared: r.ContentLength, conn: id}
					w.mu.Lock()
					w.requests = append(w.requests, wr)
					n := len(w.requests)
					w.mu.Unlock()
					out, keep := answer(n, wr)
					if _, err := io.WriteString(conn, out); err != nil || !keep {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	return w
}

func plain(status int, body string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\n", status, http.StatusText(status), len(body))
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	return b.String() + "\r\n" + body
}

const (
	slowDown = `<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>later</Message><RequestId>R1</RequestId></Error>`
	denied   = `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>`
	internal = `<Error><Code>InternalError</Code><Message>oops</Message></Error>`
	complete = `<CompleteMultipartUploadResult><ETag>"e-1"</ETag></CompleteMultipartUploadResult>`
)

// F7: what is told to a client rests on these verdicts.
func TestOutcomesOfMutations(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer string
		want   Outcome
		code   string
	}{
		"200":                         {plain(200, ""), Took, ""},
		"204":                         {"HTTP/1.1 204 No Content\r\n\r\n", Took, ""},
		"200 with a document":         {plain(200, complete), Took, ""},
		"200 after white space":       {plain(200, " \n  <?xml version=\"1.0\"?>\n \n"+complete), Took, ""},
		"200 <Error> internal":        {plain(200, internal), Unknown, "InternalError"},
		"200 spaces <Error> internal": {plain(200, "<?xml version=\"1.0\"?>   \n  "+internal), Unknown, "InternalError"},
		"200 <Error> refusal":         {plain(200, "   "+denied), Refused, "AccessDenied"},
		"200 <Error> cut":             {plain(200, internal[:30]), Unknown, ""},
		"200 cut":                     {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + complete[:20], Unknown, ""},
		"200 cut chunk":               {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", Unknown, ""},
		"200 unframed whole":          {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + complete, Took, ""},
		"200 unframed cut":            {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + complete[:50], Unknown, ""},
		"301":                         {plain(301, "", "Location: http://127.0.0.1:1/x"), Unknown, ""},
		"307 with S3 error":           {plain(307, `<Error><Code>TemporaryRedirect</Code></Error>`, "Location: /elsewhere"), Unknown, "TemporaryRedirect"},
		"403":                         {plain(403, denied), Refused, "AccessDenied"},
		"403 cut":                     {"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000\r\n\r\n" + denied, Unknown, "AccessDenied"},
		"403 foreign":                 {plain(403, "<html>blocked</html>"), Unknown, ""},
		"404 without body":            {plain(404, ""), Unknown, ""},
		"500":                         {plain(500, internal), Unknown, "InternalError"},
		"503 S3":                      {plain(503, slowDown), Unknown, "SlowDown"},
		"502 foreign":                 {plain(502, "<html>bad gateway</html>"), Unknown, ""},
		"closed":                      {"", Unknown, ""},
		"half a header":               {"HTTP/1.1 200 OK\r\nConte", Unknown, ""},
		"not HTTP":                    {"SSH-2.0-x\r\n", Unknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, func(int, *wireRequest) (string, bool) { return tc.answer, false })
			for method, body := range map[string]string{"PUT": "hello", "DELETE": "", "POST": "<x/>"} {
				// A client each: the store closes every connection after its answer.
				c := newClient(t, w.url())
				r := &Request{Method: method, Bucket: "b", Key: "k", Mutation: true, ContentLength: int64(len(body))}
				if body != "" {
					r.Body = strings.NewReader(body)
				}
				_, err := c.Do(t.Context(), r)
				if got := OutcomeOf(err); got != tc.want {
					t.Errorf("%s: %v (%v), want %v", method, got, err, tc.want)
				}
				if tc.want != Took {
					if e, ok := errors.AsType[*Error](err); !ok || e.Code != tc.code {
						t.Errorf("%s: code %q, want %q (%v)", method, e.Code, tc.code, err)
					}
				}
			}
			if n := len(w.seen()); n != 3 {
				t.Errorf("the store saw %d requests, want one of each method", n)
			}
		})
	}
}

// A store that closes a kept connection after it has read a mutation must not
// see that mutation again; reads it may.
func TestMutationsAreSentOnce(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		r    Request
		body func() io.Reader
		want int
	}{
		"PUT memory":     {r: Request{Method: "PUT", Mutation: true, ContentLength: 5}, body: func() io.Reader { return bytes.NewReader([]byte("hello")) }, want: 1},
		"PUT stream":     {r: Request{Method: "PUT", Mutation: true, ContentLength: 5}, body: func() io.Reader { return io.MultiReader(strings.NewReader("hello")) }, want: 1},
		"PUT empty":      {r: Request{Method: "PUT", Mutation: true}, want: 1},
		"DELETE":         {r: Request{Method: "DELETE", Mutation: true}, want: 1},
		"POST empty":     {r: Request{Method: "POST", Mutation: true, Query: []Param{{"uploads", ""}}}, want: 1},
		"idempotency":    {r: Request{Method: "POST", Mutation: true, Header: http.Header{"Idempotency-Key": {"x"}, "X-Idempotency-Key": {"x"}}}, want: 1},
		"GET goes again": {r: Request{Method: "GET"}, want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, func(n int, r *wireRequest) (string, bool) {
				if r.URL.Path == "/b/warm" {
					return plain(200, ""), true
				}
				return "", false
			})
			c := newClient(t, w.url())
			warm(t, c)
			r := tc.r
			r.Bucket, r.Key = "b", "k"
			if tc.body != nil {
				r.Body = tc.body()
			}
			_, err := c.Do(t.Context(), &r)
			if OutcomeOf(err) != Unknown {
				t.Errorf("%v (%v), want unknown", OutcomeOf(err), err)
			}
			seen := w.seen()[1:]
			if len(seen) != tc.want {
				t.Errorf("the store saw it %d times, want %d", len(seen), tc.want)
			}
			if seen[0].conn != 1 {
				t.Error("the kept connection was not used, so nothing was tested")
			}
		})
	}
}

// warm leaves one kept connection behind.
func warm(t *testing.T, c *Client) {
	t.Helper()
	if _, err := c.Do(t.Context(), &Request{Method: "PUT", Bucket: "b", Key: "warm", Mutation: true}); err != nil {
		t.Fatal(err)
	}
}

// The same over TLS and with a reset instead of a close.
func TestMutationsAreSentOnceOverTLS(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/b/warm" {
			return
		}
		seen.Add(1)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
		conn.(*tls.Conn).NetConn().Close()
	}))
	t.Cleanup(srv.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	c, err := New(Config{Endpoint: srv.URL, AccessKey: "a", SecretKey: "b", PathStyle: true, CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for i, method := range []string{"PUT", "DELETE", "POST"} {
		warm(t, c)
		_, err := c.Do(t.Context(), &Request{Method: method, Bucket: "b", Key: "k", Mutation: true})
		if OutcomeOf(err) != Unknown || seen.Load() != int64(i+1) {
			t.Errorf("%s: %v, seen %d times in all, want %d", method, err, seen.Load(), i+1)
		}
	}
	other := newClient(t, srv.URL)
	if _, err := other.Do(t.Context(), &Request{Method: "DELETE", Bucket: "b", Key: "k", Mutation: true}); OutcomeOf(err) != NotSent {
		t.Errorf("unknown authority: %v, want not sent", err)
	}
}

func TestNotSent(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	c := newClient(t, gone.URL)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	bad := errors.New("digest differs")
	for name, tc := range map[string]struct {
		ctx context.Context
		r   Request
		is  error
	}{
		"dial refused":       {t.Context(), Request{Method: "DELETE", Bucket: "b", Key: "k", Mutation: true}, nil},
		"context over":       {ended, Request{Method: "DELETE", Bucket: "b", Key: "k", Mutation: true}, context.Canceled},
		"unknown length":     {t.Context(), Request{Method: "PUT", Bucket: "b", Key: "k", Mutation: true, Body: strings.NewReader("x"), ContentLength: -1}, ErrRequest},
		"memory too short":   {t.Context(), Request{Method: "PUT", Bucket: "b", Key: "k", Mutation: true, Body: strings.NewReader("x"), ContentLength: 2}, ErrBodyLength},
		"memory too long":    {t.Context(), Request{Method: "PUT", Bucket: "b", Key: "k", Mutation: true, Body: strings.NewReader("xyz"), ContentLength: 2}, ErrBodyLength},
		"empty body is bad":  {t.Context(), Request{Method: "PUT", Bucket: "b", Key: "k", Mutation: true, Body: iotest.ErrReader(bad)}, bad},
		"empty body is not":  {t.Context(), Request{Method: "PUT", Bucket: "b", Key: "k", Mutation: true, Body: io.MultiReader(strings.NewReader("x"))}, ErrBodyLength},
		"unmarked PUT":       {t.Context(), Request{Method: "PUT", Bucket: "b", Key: "k"}, ErrRequest},
		"unmarked DELETE":    {t.Context(), Request{Method: "DELETE", Bucket: "b", Key: "k"}, ErrRequest},
		"marked GET":         {t.Context(), Request{Method: "GET", Bucket: "b", Key: "k", Mutation: true}, ErrRequest},
		"GET with a body":    {t.Context(), Request{Method: "GET", Bucket: "b", Body: strings.NewReader("")}, ErrRequest},
		"odd method":         {t.Context(), Request{Method: "PATCH", Bucket: "b", Key: "k", Mutation: true}, ErrRequest},
		"bucket with slash":  {t.Context(), Request{Method: "DELETE", Bucket: "b/c", Key: "k", Mutation: true}, ErrRequest},
		"no bucket":          {t.Context(), Request{Method: "DELETE", Key: "k", Mutation: true}, ErrRequest},
		"newline in a value": {t.Context(), Request{Method: "DELETE", Bucket: "b", Key: "k", Mutation: true, Header: http.Header{"X-Amz-Meta-A": {"a\r\nX-B: c"}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Do(tc.ctx, &tc.r)
			if err == nil || OutcomeOf(err) != NotSent || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v (%v), want not sent because of %v", err, OutcomeOf(err), tc.is)
			}
		})
	}
}

// A body that its reader finds false must reach the store short, wherever the
// error comes; some stores would commit it otherwise.
func TestFalseBodyReachesTheStoreShort(t *testing.T) {
	t.Parallel()
	bad := errors.New("digest differs")
	for _, size := range []int{1, 100, 4 << 10, 20 << 10, 64 << 10, 64<<10 + 1, 300_000} {
		content := bytes.Repeat([]byte{'x'}, size)
		for name, body := range map[string]struct {
			r    io.Reader
			want error
		}{
			"error at EOF":            {io.MultiReader(bytes.NewReader(content), iotest.ErrReader(bad)), bad},
			"error with last byte":    {&lastError{content, bad}, bad},
			"error in the middle":     {io.MultiReader(bytes.NewReader(content[:size/2]), iotest.ErrReader(bad)), bad},
			"short":                   {io.MultiReader(bytes.NewReader(content[:size-1])), ErrBodyLength},
			"long":                    {io.MultiReader(bytes.NewReader(append(content, 'y'))), ErrBodyLength},
			"one byte reads, at EOF":  {iotest.OneByteReader(io.MultiReader(bytes.NewReader(content), iotest.ErrReader(bad))), bad},
			"half reads, error later": {iotest.HalfReader(io.MultiReader(bytes.NewReader(content), iotest.ErrReader(bad))), bad},
		} {
			t.Run(name+" "+strconv.Itoa(size), func(t *testing.T) {
				t.Parallel()
				w := newWire(t, func(int, *wireRequest) (string, bool) { return plain(200, ""), true })
				c := newClient(t, w.url())
				_, err := c.Do(t.Context(), &Request{Method: "PUT", Bucket: "b", Key: "k", Mutation: true, Body: body.r, ContentLength: int64(size)})
				if !errors.Is(err, body.want) {
					t.Errorf("error %v, want %v", err, body.want)
				}
				if o := OutcomeOf(err); o == Took || o == Refused {
					t.Errorf("outcome %v", o)
				}
				c.Close()
				for _, r := range w.seen() {
					if r.declared != int64(size) || int64(len(r.body)) >= r.declared {
						t.Errorf("the store saw %d of %d bytes", len(r.body), r.declared)
					}
				}
			})
		}
	}
}

// lastError returns its error together with the last bytes.
type lastError struct {
	rest []byte
	err  error
}

func (l *lastError) Read(p []byte) (int, error) {
	n := copy(p, l.rest)
	if l.rest = l.rest[n:]; len(l.rest) == 0 {
		return n, l.err
	}
	return n, nil
}

// A store that answers before it has the body: a refusal stands, a 2xx does not.
func TestEarlyAnswers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer string
		want   Outcome
	}{
		"403": {plain(403, denied), Refused},
		"200": {plain(200, ""), Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				io.WriteString(conn, tc.answer)
				io.Copy(io.Discard, conn) // until the client hangs up
			}))
			t.Cleanup(srv.Close)
			c := newClient(t, srv.URL)
			pr, pw := io.Pipe()
			t.Cleanup(func() { pw.Close() })
			go pw.Write([]byte("the beginning"))
			_, err := c.Do(t.Context(), &Request{Method: "PUT", Bucket: "b", Key: "k", Mutation: true, Body: pr, ContentLength: 1 << 20})
			if OutcomeOf(err) != tc.want {
				t.Errorf("%v (%v), want %v", OutcomeOf(err), err, tc.want)
			}
			pr.Close()
		})
	}
}

func TestWaitsAreBounded(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	hold := func(first string) func(int, *wireRequest) (string, bool) {
		return func(int, *wireRequest) (string, bool) { return first, true }
	}
	for name, tc := range map[string]struct {
		answer string
		opt    Option
		read   bool
	}{
		"no header":            {"", WithHeaderTimeout(50 * time.Millisecond), false},
		"answer never ends":    {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", WithAnswerTimeout(50 * time.Millisecond), false},
		"answer stalls":        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", WithStallTimeout(50 * time.Millisecond), false},
		"error never ends":     {"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n", WithAnswerTimeout(50 * time.Millisecond), false},
		"read: no header":      {"", WithHeaderTimeout(50 * time.Millisecond), true},
		"read: stalls":         {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", WithStallTimeout(50 * time.Millisecond), true},
		"read: error unending": {"HTTP/1.1 500 x\r\nContent-Length: 9\r\n\r\nabc", WithStallTimeout(50 * time.Millisecond), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, hold(tc.answer))
			c := newClient(t, w.url(), tc.opt)
			var err error
			if tc.read {
				var o *Object
				if o, err = c.GetObject(t.Context(), "b", "k", "", nil); err == nil {
					_, err = io.ReadAll(o.Body)
					o.Body.Close()
				}
			} else {
				_, err = c.PutObject(t.Context(), "b", "k", strings.NewReader("x"), 1, PutOptions{})
			}
			if err == nil || OutcomeOf(err) != Unknown {
				t.Errorf("%v (%v), want an unknown outcome", err, OutcomeOf(err))
			}
		})
	}
}

// An answer that ends with its connection cannot be told from one that was cut.
func TestUnframedReadIsAnError(t *testing.T) {
	t.Parallel()
	for head, framed := range map[string]bool{
		"\r\n": false, "Connection: close\r\n\r\n": false, "Content-Length: 9\r\n\r\n": true, "Content-Length: 0\r\n\r\n": true,
		"Transfer-Encoding: chunked\r\n\r\n9\r\nraw bytes\r\n0\r\n\r\n": true,
	} {
		w := newWire(t, func(int, *wireRequest) (string, bool) { return "HTTP/1.1 200 OK\r\n" + head + "raw bytes", false })
		c := newClient(t, w.url())
		o, err := c.GetObject(t.Context(), "b", "k", "", nil)
		if err == nil {
			o.Body.Close()
		}
		if framed != (err == nil) || !framed && !errors.Is(err, ErrUnframed) {
			t.Errorf("%q: %v", head, err)
		}
		if _, err := c.HeadObject(t.Context(), "b", "k", nil); errors.Is(err, ErrUnframed) {
			t.Errorf("%q: HEAD: %v", head, err)
		}
	}
}

func TestCutReadIsAnError(t *testing.T) {
	t.Parallel()
	w := newWire(t, func(int, *wireRequest) (string, bool) {
		return "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", false
	})
	c := newClient(t, w.url())
	o, err := c.GetObject(t.Context(), "b", "k", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	if b, err := io.ReadAll(o.Body); !errors.Is(err, io.ErrUnexpectedEOF) || string(b) != "abc" {
		t.Errorf("read %q, %v; want a cut", b, err)
	}
	if _, err := c.ListObjects(t.Context(), "b", ListQuery{}); OutcomeOf(err) != Unknown || !errors.Is(err, ErrCut) {
		t.Errorf("cut listing: %v", err)
	}
}
