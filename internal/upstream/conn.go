package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is a connection that knows whether a request may have left on it.
// Writes above TLS are seen, so a handshake does not count.
//
// It ends by a reset and never by an orderly end (FIN, close_notify), also when
// the process is killed: versitygw takes an orderly end in the middle of a body
// for the body's end and commits what it has. A reset also takes back what the
// kernel has not sent yet. Between requests it harms nobody.
type conn struct {
	net.Conn
	raw       net.Conn      // the socket below TLS; linger is 0
	writes    atomic.Uint64 // writes begun, but for those that failed without a byte
	forbidden atomic.Bool
}

var errForbidden = errors.New("the request on this connection has failed already")

// Write counts before it looks whether it may, and forbid forbids before it
// looks at the count: of a write and a forbid at the same time, either the
// write does not happen or the count shows it.
func (c *conn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	if c.forbidden.Load() {
		return 0, errForbidden
	}
	n, err := c.Conn.Write(p)
	if n == 0 && err != nil {
		// TCP took nothing; under TLS at most a part of a record, which the
		// other side cannot open.
		c.writes.Add(^uint64(0))
	}
	return n, err
}

var copyBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// ReadFrom is what net/http copies large bodies with; io.Copy would allocate.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[64 << 10]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{c}, r, buf[:])
}

// Close resets the connection. That of TLS would say good-bye first.
func (c *conn) Close() error { return c.raw.Close() }

// forbid ends writing for good and returns the number of writes begun.
func (c *conn) forbid() uint64 {
	c.forbidden.Store(true)
	return c.writes.Load()
}

// sending follows one request over the connections that it is given. It is
// used by the goroutine in RoundTrip only.
type sending struct {
	conn  *conn
	begun uint64 // conn's writes before this request
	left  bool   // a byte may have left on an earlier connection
}

func (s *sending) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		// net/http asks for another connection when it believes that nothing
		// was written to the first one. That is checked, not believed.
		s.left = s.mayHaveLeft()
		s.conn = info.Conn.(*conn)
		s.begun = s.conn.writes.Load()
	}}
}

// mayHaveLeft reports whether a byte of the request may have left this
// process. It may be called only once the request has failed: the connection
// sends nothing afterwards.
func (s *sending) mayHaveLeft() bool {
	return s.left || s.conn != nil && s.conn.forbid() != s.begun
}

type dialer struct {
	limits limits
	tls    *tls.Config
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	nd := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control: func(_, _ string, raw syscall.RawConn) error {
			return setUserTimeout(raw, d.limits.userTimeout)
		},
	}
	c, err := nd.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

func (d *dialer) plain(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.limits.dial)
	defer cancel()
	raw, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: raw, raw: raw}, nil
}

func (d *dialer) secure(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.limits.dial)
	defer cancel()
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	raw, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	cfg := d.tls.Clone()
	cfg.ServerName = host
	tc := tls.Client(raw, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return &conn{Conn: tc, raw: raw}, nil
}
