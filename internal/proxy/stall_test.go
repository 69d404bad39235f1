package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stallServer serves h as the proxy does.
func stallServer(t *testing.T, stall time.Duration, h http.HandlerFunc) net.Conn {
	t.Helper()
	server := httptest.NewUnstartedServer(stallBodies(h, stall))
	server.Listener = stallListener{server.Listener, stall}
	server.Start()
	t.Cleanup(server.Close)
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	return c
}

// Only progress counts: a body that takes longer than the timeout in all is
// taken, and a handler that works longer than that afterwards is not ended.
func TestSlowIsNotStalled(t *testing.T) {
	t.Parallel()
	const stall = 400 * time.Millisecond
	c := stallServer(t, stall, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || len(b) != 6 {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		select {
		case <-r.Context().Done():
			w.WriteHeader(http.StatusTeapot)
		case <-time.After(2 * stall):
			w.WriteHeader(http.StatusOK)
		}
	})
	_, err := fmt.Fprint(c, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n")
	require.NoError(t, err)
	for range 6 {
		time.Sleep(stall / 4) // a slow client, not a wait for something
		_, err = c.Write([]byte("x"))
		require.NoError(t, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, http.StatusOK, resp.StatusCode)
}

// A client that takes nothing of an answer is left.
func TestUnreadAnswer(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	c := stallServer(t, 300*time.Millisecond, func(w http.ResponseWriter, _ *http.Request) {
		piece := make([]byte, 1<<20)
		for {
			if _, err := w.Write(piece); err != nil {
				ended <- err
				return
			}
		}
	})
	_, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	require.NoError(t, err)
	select {
	case err := <-ended:
		require.Error(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("the answer still waits for its client")
	}
}

// The lock API stands on the endpoint's own host; under a bucket's host the same
// path is a key.
func TestRoute(t *testing.T) {
	t.Parallel()
	say := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	for _, tc := range []struct{ domain, host, path, want string }{
		{"", "h:9000", "/-/v1/locks", "api"},
		{"", "h:9000", "/data/-/v1/locks", "objects"},
		{"", "h:9000", "/", "objects"},
		{"", "h:9000", "/-", "objects"},
		{"s3.example.com", "s3.example.com:9000", "/-/v1/locks", "api"},
		{"s3.example.com", "data.s3.example.com:9000", "/-/v1/locks", "objects"},
		{"s3.example.com", "DATA.S3.EXAMPLE.COM", "/-/v1/locks", "objects"},
		{"s3.example.com", "127.0.0.1:9000", "/-/v1/locks", "api"},
	} {
		r := httptest.NewRequest(http.MethodGet, tc.path, nil)
		r.Host = tc.host
		w := httptest.NewRecorder()
		route(tc.domain, say("api"), say("objects")).ServeHTTP(w, r)
		assert.Equal(t, tc.want, w.Body.String(), "%+v", tc)
	}
}
