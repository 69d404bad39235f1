package edge

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const plainGet = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

func ok(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

// held serves requests that end when the test lets them.
func held(t *testing.T) (h http.HandlerFunc, running *atomic.Int64, release func()) {
	t.Helper()
	running = new(atomic.Int64)
	done := make(chan struct{})
	release = sync.OnceFunc(func() { close(done) })
	t.Cleanup(release)
	return func(w http.ResponseWriter, _ *http.Request) {
		running.Add(1)
		<-done
		w.WriteHeader(http.StatusOK)
	}, running, release
}

// isOver waits for the end of a connection that says nothing more.
func isOver(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := c.Read(make([]byte, 1))
	require.True(t, errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET), "%v", err)
}

// Connections without a request displace each other, the oldest first, and keep
// nobody out who has one.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	for _, limits := range []Limits{{Connections: 3}, {PerAddress: 3}} {
		var displaced atomic.Int64
		limits.Refused = func(net.Addr, string) { displaced.Add(1) }
		s := serve(t, http.HandlerFunc(ok), limits)
		var silent []net.Conn
		for range 3 {
			silent = append(silent, s.dial(t))
		}
		eventually(t, "three connections", func() bool { return s.Connections() == 3 })
		for i := range 6 {
			c := s.dial(t)
			say(t, c, plainGet)
			resp, _ := hear(t, bufio.NewReader(c), "GET")
			require.Equal(t, http.StatusOK, resp.StatusCode)
			if i < 3 {
				isOver(t, silent[i])
			}
		}
		assert.Equal(t, 3, s.Connections())
		assert.EqualValues(t, 6, displaced.Load())
	}
}

// Connections with a request under way are not displaced: what comes beyond them
// is told so, in S3's words, and the next after that is served.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, http.Handler, Limits) *served{"http": serve, "https": serveTLS} {
		for _, limits := range []Limits{{Connections: 2}, {PerAddress: 2}} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h, running, release := held(t)
				s := start(t, h, limits)
				busy := []net.Conn{s.dial(t), s.dial(t)}
				for _, c := range busy {
					say(t, c, plainGet)
				}
				eventually(t, "two requests", func() bool { return running.Load() == 2 })
				for range 3 {
					c := s.dial(t)
					say(t, c, plainGet)
					resp, body := hear(t, bufio.NewReader(c), "GET")
					require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
					assert.Contains(t, body, "<Code>SlowDown</Code>")
					assert.Equal(t, "1", resp.Header.Get("Retry-After"))
					assert.True(t, resp.Close)
				}
				release()
				for _, c := range busy {
					resp, _ := hear(t, bufio.NewReader(c), "GET")
					require.Equal(t, http.StatusOK, resp.StatusCode)
				}
				c := s.dial(t)
				say(t, c, plainGet)
				resp, _ := hear(t, bufio.NewReader(c), "GET")
				require.Equal(t, http.StatusOK, resp.StatusCode)
			})
		}
	}
}

// One address does not use up what another needs.
func TestAddressesAreApart(t *testing.T) {
	t.Parallel()
	h, running, _ := held(t)
	s := serve(t, h, Limits{Connections: 4, PerAddress: 2})
	for range 2 {
		say(t, s.dial(t), plainGet)
	}
	eventually(t, "two requests", func() bool { return running.Load() == 2 })
	for range 2 {
		c, err := s.try("127.0.0.2")
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		say(t, c, plainGet)
	}
	eventually(t, "two more of another", func() bool { return running.Load() == 4 })
}

// However many come, few are answered at one time, and all that is kept about them
// is given back.
func TestNothingIsKeptOfConnections(t *testing.T) {
	t.Parallel()
	h, running, release := held(t)
	s := serve(t, h, Limits{Connections: 1, HeaderTime: 500 * time.Millisecond, IdleTime: 500 * time.Millisecond})
	say(t, s.dial(t), plainGet)
	eventually(t, "a request", func() bool { return running.Load() == 1 })
	for range maxOver + 20 {
		c, err := s.try("")
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
	}
	eventually(t, "the reserve is used up", func() bool {
		s.table.mu.Lock()
		defer s.table.mu.Unlock()
		return s.table.over == maxOver
	})
	release()
	eventually(t, "all are gone", func() bool {
		s.table.mu.Lock()
		defer s.table.mu.Unlock()
		return s.table.conns == 0 && s.table.over == 0 && len(s.table.addresses) == 0 && s.table.waiting.Len() == 0
	})
}

func TestAddressesOfOneCustomer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"192.0.2.1:1": "192.0.2.1", "[::ffff:192.0.2.1]:1": "192.0.2.1", "[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::",
	} {
		assert.Equal(t, netip.MustParseAddr(want), addressOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text))))
	}
}

// Whatever is slow or silent before a request is there ends in bounded time, and
// leaves nothing.
func TestSlowBeginnings(t *testing.T) {
	t.Parallel()
	const bound = 400 * time.Millisecond
	for name, tc := range map[string]struct {
		secure bool
		do     func(t *testing.T, c net.Conn)
	}{
		"nothing":             {false, func(*testing.T, net.Conn) {}},
		"no TLS handshake":    {true, func(*testing.T, net.Conn) {}},
		"half a handshake":    {true, func(t *testing.T, c net.Conn) { say(t, c, "\x16\x03\x01\x02\x00") }},
		"half a request line": {false, func(t *testing.T, c net.Conn) { say(t, c, "GET /") }},
		"half a header":       {false, func(t *testing.T, c net.Conn) { say(t, c, "GET / HTTP/1.1\r\nHost: h\r\nX: ") }},
		"headers dripped": {false, func(t *testing.T, c net.Conn) {
			say(t, c, "GET / HTTP/1.1\r\nHost: h\r\nX: ")
			for range 40 {
				time.Sleep(bound / 10) // a client that drips
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
			}
			t.Error("four times as long as a header may take, and still read")
		}},
		"idle between requests": {false, func(t *testing.T, c net.Conn) {
			say(t, c, plainGet)
			resp, _ := hear(t, bufio.NewReader(c), "GET")
			require.Equal(t, http.StatusOK, resp.StatusCode)
		}},
		"half closed": {false, func(t *testing.T, c net.Conn) {
			say(t, c, "GET / HTTP/1.1\r\n")
			require.NoError(t, c.(*net.TCPConn).CloseWrite())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limits := Limits{HeaderTime: bound, IdleTime: bound, Linger: bound}
			s := serve(t, http.HandlerFunc(ok), limits)
			if tc.secure {
				s = serveTLS(t, http.HandlerFunc(ok), limits)
				s.client = nil // raw
			}
			c := s.dial(t)
			tc.do(t, c)
			for {
				// Perhaps a 408 or 400 first.
				_, err := c.Read(make([]byte, 1<<10))
				if err == nil {
					continue
				}
				require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection stays open")
				break
			}
			require.NoError(t, c.Close())
			eventually(t, "nothing is left", func() bool { return s.Connections() == 0 })
		})
	}
}
