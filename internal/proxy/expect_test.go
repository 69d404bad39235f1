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

	"github.com/stretchr/testify/require"
)

// What botocore expects of a connection: a 100 for each request that asks for
// it, empty or not, or else the connection's end after the answer.
func TestExpectedContinueComesBeforeEmptyBodiesToo(t *testing.T) {
	t.Parallel()
	// Both handlers of the proxy, as it stacks them.
	server := httptest.NewServer(continueEmpty(stallBodies(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%d", len(body))
	}), 30*time.Second)))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
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
