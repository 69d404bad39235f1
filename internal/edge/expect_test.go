package edge

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What botocore expects of a connection: a 100 for each request that asks for
// it, empty or not, or else the connection's end after the answer.
func TestExpectedContinueComesBeforeEmptyBodiesToo(t *testing.T) {
	t.Parallel()
	// Both handlers of the proxy, as it stacks them.
	conn := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%d", len(body))
	}), Limits{}).dial(t)
	answers := bufio.NewReader(conn)
	answer := func() *http.Response {
		t.Helper()
		resp, err := http.ReadResponse(answers, &http.Request{Method: http.MethodPut})
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		return resp
	}
	ask := func(path string, length int) {
		t.Helper()
		_, err := fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", path, length)
		require.NoError(t, err)
	}
	for _, body := range []string{"", "body", "", ""} {
		ask("/kept", len(body))
		require.Equal(t, http.StatusContinue, answer().StatusCode)
		_, err := io.WriteString(conn, body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer().StatusCode)
	}
	ask("/refused", 10)
	resp := answer()
	require.Equal(t, http.StatusPreconditionFailed, resp.StatusCode, "nothing is asked for that is refused unread")
	require.True(t, resp.Close)
}

// A client that sends its body without waiting for the 100 it asked for, as Go's do
// without an ExpectContinueTimeout, is still told why it was refused.
func TestRefusalReachesClientsThatDoNotWait(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		for name, expects := range map[string]string{"expecting": "Expect: 100-continue\r\n", "at once": ""} {
			t.Run(map[bool]string{false: "http", true: "https"}[secure]+"/"+name, func(t *testing.T) {
				t.Parallel()
				start := serve
				if secure {
					start = serveTLS
				}
				s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(http.StatusPreconditionFailed)
				}), Limits{})
				for range 2 {
					conn := s.dial(t)
					body := make([]byte, 3<<20)
					_, err := fmt.Fprintf(conn, "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n", len(body), expects)
					require.NoError(t, err)
					// Longer than net/http waits for the client to see the end.
					for len(body) > 0 {
						n, err := conn.Write(body[:min(len(body), 512<<10)])
						require.NoError(t, err)
						body = body[n:]
						time.Sleep(120 * time.Millisecond) // a client on a slow line
					}
					resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodPut})
					require.NoError(t, err)
					require.Equal(t, http.StatusPreconditionFailed, resp.StatusCode)
					require.NoError(t, resp.Body.Close())
					require.NoError(t, conn.Close())
				}
			})
		}
	}
}
