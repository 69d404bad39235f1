package proxy

import (
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// writeChunk is how much of an answer must be taken within one stall timeout.
const writeChunk = 64 << 10

// stallListener makes connections whose writes must make progress.
type stallListener struct {
	net.Listener
	stall time.Duration
}

func (l stallListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &stallConn{Conn: c, stall: l.stall}, nil
}

// stallConn gives each piece of a write its own deadline. Reads are not its
// matter: while a handler works, net/http reads ahead to see the client leave,
// and a deadline on that read would end the request.
type stallConn struct {
	net.Conn
	stall time.Duration
	// lingers makes Close linger, once; see expect.go.
	lingers atomic.Bool
}

func (c *stallConn) Write(p []byte) (n int, err error) {
	for {
		if err := c.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[:min(len(p), writeChunk)])
		n += m
		if p = p[m:]; err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// stallBodies bounds each read of a request's body by the stall timeout.
func stallBodies(next http.Handler, stall time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		// A copy: net/http must know the body of its own request again. One that it
		// does not know it reads before it answers, even where its client was not told
		// to send it and waits for the answer.
		bounded := *r
		bounded.Body = &stallBody{r.Body, control, stall}
		next.ServeHTTP(w, &bounded)
		// For what net/http reads of a body that nobody wanted. The next request of
		// the connection begins with a deadline of its own.
		_ = control.SetReadDeadline(time.Now().Add(stall))
	})
}

type stallBody struct {
	io.ReadCloser
	control *http.ResponseController
	stall   time.Duration
}

func (b *stallBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(b.stall))
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		// At the end of the body net/http begins to read ahead, without a bound.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
