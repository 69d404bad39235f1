package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/corpus"
	"github.com/s3fence/s3fence/internal/objectstore"
)

// FuzzSocket writes arbitrary bytes to the listener of a whole proxy and hangs up. Every
// answer is framed; nobody whose signature is not good today is answered with success,
// but for the list of the lock service's calls, or gets as far as the store; bad input
// is never told as a failure of ours; nothing panics, and no connection is left waiting.
func FuzzSocket(f *testing.F) {
	for _, m := range corpus.Seeds(f) {
		f.Add(m.Raw)
	}
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /-/v1/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"PUT /data/k HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n",
		"PUT /data/k HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		"PUT /data/k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"PUT /data/k HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
		"GET http://b/data/k HTTP/1.1\r\nHost: a\r\n\r\n", "GET /data/k HTTP/1.0\r\n\r\n", "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /data/k HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET /data/%zz HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "GET /data/k HTTP/1.1\nHost: a\n\n", "GET /data/k HTTP/1.1\r\nHost: a\r\n x: y\r\n\r\n",
		"POST /data HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 5\r\n\r\n--x--",
		"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "POST /-/v1/locks/acquire HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
	} {
		f.Add([]byte(s))
	}

	dir := f.TempDir()
	st, err := objectstore.Open(f.Context(), filepath.Join(dir, "objects"), objectstore.Options{AccessKey: "proxy", SecretKey: "upstream-secret"})
	require.NoError(f, err)
	require.NoError(f, st.CreateBucket(f.Context(), "data"))
	var asked atomic.Int64
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		st.Handler().ServeHTTP(w, r)
	}))
	state := "sqlite:" + filepath.Join(dir, "state.db")
	require.NoError(f, Migrate(f.Context(), config.State(state)))
	c, err := config.Load("", []string{
		"S3FENCE_LISTEN=127.0.0.1:0", "S3FENCE_ADMIN_LISTEN=127.0.0.1:0", "S3FENCE_STATE=" + state, "S3FENCE_UPSTREAMS__MAIN__ENDPOINT=" + store.URL,
		"S3FENCE_UPSTREAMS__MAIN__ACCESS_KEY=proxy", "S3FENCE_UPSTREAMS__MAIN__SECRET_KEY=upstream-secret", "S3FENCE_BUCKETS__DATA__BUCKET=data",
		"S3FENCE_CREDENTIALS__0__ACCESS_KEY=ann", "S3FENCE_CREDENTIALS__0__SECRET_KEY=ann-secret",
		"S3FENCE_CREDENTIALS__0__RIGHTS=read,write", "S3FENCE_CREDENTIALS__0__BUCKETS=*",
	})
	require.NoError(f, err)
	log := &logBuffer{}
	p, err := New(f.Context(), c, Options{Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError}))})
	require.NoError(f, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	f.Cleanup(func() {
		stop()
		require.NoError(f, <-ended)
		store.Close()
		require.NoError(f, st.Close())
	})
	<-p.Serving()

	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 64<<10 {
			return
		}
		before := asked.Load()
		conn, err := net.Dial("tcp", p.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		// The proxy may have hung up before the end.
		_, _ = conn.Write(raw)
		_ = conn.(*net.TCPConn).CloseWrite()
		answered, err := io.ReadAll(conn)
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			t.Fatalf("%q is left waiting after %q", raw, answered)
		}
		// Where the proxy hung up on what was still being sent, the kernel may have
		// thrown away the end of its answer.
		whole := err == nil

		requests, answers := bufio.NewReader(bytes.NewReader(raw)), bufio.NewReader(bytes.NewReader(answered))
		for {
			method, path := http.MethodGet, ""
			if r, err := http.ReadRequest(requests); err == nil {
				method, path = r.Method, r.URL.Path
				_, _ = io.Copy(io.Discard, r.Body)
			}
			if _, err := answers.Peek(1); err != nil {
				break
			}
			var resp *http.Response
			for {
				if resp, err = http.ReadResponse(answers, &http.Request{Method: method}); err != nil || resp.StatusCode/100 != 1 {
					break
				}
			}
			var body []byte
			if err == nil {
				body, err = io.ReadAll(resp.Body)
			}
			if err != nil {
				if whole {
					t.Fatalf("%q is answered by what is no answer: %v: %q", raw, err, answered)
				}
				break
			}
			switch s := resp.StatusCode; {
			case s < 400 && (s != http.StatusOK || !strings.HasPrefix(path, "/-/v1/")):
				t.Fatalf("%q is answered %d: %q", raw, s, body)
			case s >= 500 && s != http.StatusNotImplemented && s != http.StatusHTTPVersionNotSupported:
				t.Fatalf("%q is answered %d: %q", raw, s, body)
			}
		}
		if n := asked.Load() - before; n != 0 {
			t.Fatalf("%q reached the store %d times", raw, n)
		}
		if said := log.String(); strings.Contains(said, "panic") {
			t.Fatalf("%q: %s", raw, said)
		}
	})
}
