package edge

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// How long a client lasts that moves n bytes every so often, in its own time.
func TestPace(t *testing.T) {
	t.Parallel()
	const forever = 24 * time.Hour
	for _, tc := range []struct {
		name     string
		rate     int64
		n        int
		every    time.Duration
		min, max time.Duration
	}{
		{"nothing moves", 500, 0, time.Second, 60 * time.Second, 60 * time.Second},
		{"a byte a second", 500, 1, time.Second, 60 * time.Second, 61 * time.Second},
		{"a little too slow", 500, 450, time.Second, 9 * time.Minute, 11 * time.Minute},
		{"just fast enough", 500, 500, time.Second, forever, forever},
		{"in bursts", 500, 25_000, 50 * time.Second, forever, forever},
		{"bursts save nothing up", 500, 1 << 30, 61 * time.Second, 60 * time.Second, 61 * time.Second},
		{"a byte a second, no minimum", 0, 1, time.Second, forever, forever},
		{"nothing moves, no minimum", 0, 0, time.Second, 60 * time.Second, 60 * time.Second},
		{"a huge rate", 1 << 40, 1 << 20, time.Second, 60 * time.Second, 61 * time.Second},
	} {
		p := newPace(60*time.Second, tc.rate)
		var lived time.Duration
		for lived < forever && p.left() > 0 {
			wait, n := tc.every, tc.n
			if left := p.left(); left < wait {
				wait, n = left, 0
			}
			lived += wait
			p.spend(wait, n)
		}
		assert.GreaterOrEqual(t, lived, tc.min, tc.name)
		if tc.max < forever {
			assert.LessOrEqual(t, lived, tc.max, tc.name)
		}
	}
}

// A body that drips ends, and what waited for it is told why.
func TestDrippedBody(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string][3]string{
		"length": {"Content-Length: 1000000", "", ""}, "chunked": {"Transfer-Encoding: chunked", "1\r\n", "\r\n"},
	} {
		for scheme, start := range map[string]func(*testing.T, http.Handler, Limits) *served{"http": serve, "https": serveTLS} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				t.Parallel()
				read := make(chan error, 1)
				s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, err := io.Copy(io.Discard, r.Body)
					read <- err
					w.WriteHeader(http.StatusBadRequest)
				}), Limits{Stall: 600 * time.Millisecond, MinRate: 1000, Linger: 200 * time.Millisecond})
				c := s.dial(t)
				say(t, c, "PUT / HTTP/1.1\r\nHost: h\r\n%s\r\n\r\n", frame[0])
				begin := time.Now()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					for range 500 {
						time.Sleep(20 * time.Millisecond) // a client that drips: 50 bytes a second
						if _, err := io.WriteString(c, frame[1]+"x"+frame[2]); err != nil {
							return
						}
					}
				}()
				select {
				case err := <-read:
					require.ErrorIs(t, err, os.ErrDeadlineExceeded)
					assert.GreaterOrEqual(t, time.Since(begin), 600*time.Millisecond)
				case <-time.After(patience):
					t.Fatal("the body is still waited for")
				}
				resp, _ := hear(t, bufio.NewReader(c), "PUT")
				assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
				require.NoError(t, c.Close())
				<-ended
				eventually(t, "nothing is left", func() bool { return s.Connections() == 0 })
			})
		}
	}
}

// A client that takes an answer more slowly than the minimum is left; one that is
// slow but faster than that gets all of it.
func TestAnswersTakenSlowly(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rate int64
		gets bool
	}{"too slow": {8 << 20, false}, "slow": {64 << 10, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const size = 12 << 20
			ended := make(chan error, 1)
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, err := w.Write(make([]byte, size))
				ended <- err
			}), Limits{Stall: time.Second, MinRate: tc.rate, Linger: 200 * time.Millisecond})
			c := s.dial(t)
			require.NoError(t, c.(*net.TCPConn).SetReadBuffer(64<<10))
			say(t, c, plainGet)
			// About 3 MB a second.
			got, buf := 0, make([]byte, 64<<10)
			for {
				n, err := c.Read(buf)
				if got += n; err != nil || got >= size {
					break
				}
				if got < 10<<20 {
					time.Sleep(time.Duration(n) * time.Second / (3 << 20)) // a slow client
				}
			}
			select {
			case err := <-ended:
				if tc.gets {
					require.NoError(t, err)
					assert.GreaterOrEqual(t, got, size)
				} else {
					require.Error(t, err)
				}
			case <-time.After(patience):
				t.Fatal("the answer still waits for its client")
			}
			require.NoError(t, c.Close())
			eventually(t, "nothing is left", func() bool { return s.Connections() == 0 })
		})
	}
}

// Nobody reads the body of a request that is refused. Whether its answer is short
// or long, a client that announces a body and sends none, or drips it, holds the
// handler for no longer than the rest is waited for.
func TestUnwantedBodyIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]int{"short": 10, "long": 10 << 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			done := make(chan struct{})
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				defer close(done)
				w.WriteHeader(http.StatusForbidden)
				_, _ = w.Write(make([]byte, answer))
			}), Limits{Linger: 300 * time.Millisecond})
			c := s.dial(t)
			say(t, c, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n")
			resp, body := hear(t, bufio.NewReader(c), "PUT")
			assert.Equal(t, http.StatusForbidden, resp.StatusCode)
			assert.Len(t, body, answer)
			select {
			case <-done:
			case <-time.After(patience):
				t.Fatal("the handler waits for a body that it did not ask for")
			}
			isOver(t, c)
			require.NoError(t, c.Close())
			eventually(t, "nothing is left", func() bool { return s.Connections() == 0 })
		})
	}
}

// A client that sends without an end is cut off after the answer.
func TestLingeringEnds(t *testing.T) {
	t.Parallel()
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }),
		Limits{Linger: 700 * time.Millisecond})
	c := s.dial(t)
	say(t, c, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000000\r\n\r\n")
	resp, _ := hear(t, bufio.NewReader(c), "PUT")
	assert.Equal(t, http.StatusForbidden, resp.StatusCode)
	piece := make([]byte, 4<<10)
	for {
		time.Sleep(time.Millisecond) // without taking a processor for itself
		if _, err := c.Write(piece); err != nil {
			require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "still read")
			break
		}
	}
	eventually(t, "nothing is left", func() bool { return s.Connections() == 0 })
}
