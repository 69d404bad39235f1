package edge

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An address keeps its bound where its only connection makes room for its next: what
// is counted of it must not be forgotten with the first.
func TestAddressThatDisplacesItself(t *testing.T) {
	t.Parallel()
	h, running, _ := held(t)
	s := serve(t, h, Limits{Connections: 3, PerAddress: 2})
	for _, from := range []string{"127.0.0.2", "127.0.0.2"} {
		c, err := s.try(from)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		say(t, c, plainGet)
	}
	eventually(t, "two requests", func() bool { return running.Load() == 2 })
	first := s.dial(t)
	eventually(t, "three connections", func() bool { return s.Connections() == 3 })
	second := s.dial(t)
	isOver(t, first)
	s.table.mu.Lock()
	a := s.table.addresses[addressOf(second.LocalAddr())]
	if assert.NotNil(t, a, "forgotten while it has a connection") {
		assert.Equal(t, 1, a.conns)
	}
	s.table.mu.Unlock()
}

// The kernel wakes a writer only when a third of the buffer is free, which a slow
// client of a large buffer takes longer for than it may be waited for. What it takes
// meanwhile counts all the same.
func TestSlowClientOfALargeBuffer(t *testing.T) {
	t.Parallel()
	// Whether a write begins with a full buffer is chance; so there are several of each.
	const each = 6
	for name, tc := range map[string]struct {
		start func(*testing.T, http.Handler, Limits) *served
		piece int
	}{"http": {serve, 1 << 20}, "small pieces": {serve, 4 << 10}, "https": {serveTLS, 1 << 20}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, each)
			s := tc.start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				piece := make([]byte, tc.piece)
				for {
					if _, err := w.Write(piece); err != nil {
						ended <- err
						return
					}
				}
			}), Limits{Stall: 3 * time.Second, MinRate: 20 << 10, Linger: 200 * time.Millisecond})
			var clients sync.WaitGroup
			var conns []net.Conn
			done := time.Now().Add(12 * time.Second)
			for range each {
				c := s.dial(t)
				conns = append(conns, c)
				clients.Go(func() { takeSlowly(t, c, done) })
			}
			clients.Wait()
			// They read what the kernels hold, whatever the server did meanwhile.
			require.Empty(t, ended, "cut off")
			for _, c := range conns {
				require.NoError(t, raw(c).Close())
			}
			for range each {
				select {
				case <-ended:
				case <-time.After(patience):
					t.Fatal("an answer still waits for its client")
				}
			}
		})
	}
}

// raw is the connection below TLS.
func raw(c net.Conn) net.Conn {
	if secure, ok := c.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return c
}

// takeSlowly reads 200 kB/s of an answer without an end, which must go on until done.
func takeSlowly(t *testing.T, c net.Conn, done time.Time) {
	if !assert.NoError(t, raw(c).(*net.TCPConn).SetReadBuffer(64<<10)) {
		return
	}
	if _, err := io.WriteString(c, plainGet); !assert.NoError(t, err) {
		return
	}
	buf := make([]byte, 4<<10)
	for got := 0; time.Now().Before(done); {
		n, err := c.Read(buf)
		if got += n; !assert.NoError(t, err, "cut off after %d bytes", got) {
			return
		}
		time.Sleep(time.Duration(n) * time.Second / (200 << 10)) // a slow client
	}
}

// The end of a connection of TLS is written, too, and waits for no longer than
// crypto/tls wants.
func TestEndOfTLSIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := Listen(tcp, Limits{})
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	c, err := l.Accept()
	require.NoError(t, err)
	defer c.Close()
	// Nobody reads: fill what there is.
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
	begin := time.Now()
	_, err = io.Copy(c, io.LimitReader(zeros{}, 64<<20))
	require.Error(t, err)
	assert.Less(t, time.Since(begin), 10*time.Second)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
