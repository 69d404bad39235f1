package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stallServer serves h as the proxy does.
func stallServer(t *testing.T, stall time.Duration, h http.HandlerFunc) net.Conn {
	t.Helper()
	return serve(t, h, Limits{Stall: stall}).dial(t)
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
