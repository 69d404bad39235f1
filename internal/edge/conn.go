package edge

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// writeChunk is how much of an answer is written at a time.
	writeChunk = 64 << 10
	// lingerPause is how long a lingering connection waits for the next byte.
	lingerPause = time.Second
	// lookAgain is how many times within the pace's bound a write is tried that waits.
	// The kernel wakes a writer when a third of the buffer is free, 1.4 MB on Linux:
	// what a client of 20 kB/s takes more than a minute for. A write that is tried
	// again takes the room that there is, and so sees the client move.
	lookAgain = 8
)

// Conn is a connection of a client, below TLS. Answers on it must make progress, and
// its end waits for a client that still sends. It is safe for concurrent use as a
// net.Conn is.
//
// Reads are not its matter: while a handler works, net/http reads ahead to see the
// client leave, and a deadline on that read would end the request; see bodies.
type Conn struct {
	net.Conn
	pace   *pace
	linger time.Duration
	// writeBy is the deadline that others set for writes; nil for none.
	writeBy atomic.Pointer[time.Time]
	table   *table
	// over says that there were too many connections when this one came.
	over bool
	// expiry ends one that is over.
	expiry *time.Timer
	// lingers makes Close linger: nobody has seen the end of what the client sends.
	lingers atomic.Bool
	closing sync.Once

	// Of the table, under its lock: the places among those that wait.
	address      *address
	inAll, inOwn *list.Element
	gone         bool
}

// Write fails with os.ErrDeadlineExceeded where the client takes too little, or where
// the deadline of [Conn.SetWriteDeadline] passes first.
func (c *Conn) Write(p []byte) (n int, err error) {
	for {
		begin := time.Now()
		until, last := begin.Add(min(c.pace.left(), c.pace.most/lookAgain)), false
		if by := c.writeBy.Load(); by != nil && by.Before(until) {
			until, last = *by, true
		}
		if err := c.Conn.SetWriteDeadline(until); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[:min(len(p), writeChunk)])
		n += m
		c.pace.spend(time.Since(begin), m)
		if errors.Is(err, os.ErrDeadlineExceeded) && !last && c.pace.left() > 0 {
			// Slow, but within its pace.
			err = nil
		}
		if p = p[m:]; err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// SetWriteDeadline bounds writes beside their pace, as crypto/tls does with a
// handshake and with its last record. One that is under way may take an eighth of the
// pace's bound longer.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		c.writeBy.Store(nil)
	} else {
		c.writeBy.Store(&t)
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline is both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite ends the answers; net/http does so before it closes over what was not
// read.
func (c *Conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	c.lingers.Store(true)
	return half.CloseWrite()
}

// Close closes the connection. Closing over bytes that were not read resets it, and
// takes the answer away from a client that is still sending (RFC 9112, section 9.6).
// So, unless the client is known to have sent all of its request, the connection is
// at its end for the client when Close returns, and what the client still sends is
// read and thrown away until it has seen that, pauses, or has sent for too long.
func (c *Conn) Close() error {
	var err error
	c.closing.Do(func() {
		if c.lingers.Load() && c.CloseWrite() == nil {
			c.waits()
			go c.drain()
			return
		}
		err = c.end()
	})
	return err
}

// end closes at once.
func (c *Conn) end() error {
	if c.expiry != nil {
		c.expiry.Stop()
	}
	c.table.left(c)
	return c.Conn.Close()
}

var drains = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

func (c *Conn) drain() {
	defer func() { _ = c.end() }()
	buf := drains.Get().(*[]byte)
	defer drains.Put(buf)
	last := time.Now().Add(c.linger)
	for now := time.Now(); now.Before(last); now = time.Now() {
		until := now.Add(lingerPause)
		if until.After(last) {
			until = last
		}
		if c.SetReadDeadline(until) != nil {
			return
		}
		if _, err := c.Conn.Read(*buf); err != nil {
			return
		}
	}
}

// waits makes the connection one of those that have no request under way, and may
// be closed for another.
func (c *Conn) waits() { c.table.waits(c) }

// works takes that back.
func (c *Conn) works() { c.table.works(c) }

// connKey finds the connection in the context of its requests.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	if conn := below(c); conn != nil {
		return context.WithValue(ctx, connKey{}, conn)
	}
	return ctx
}

// below finds the Conn of what net/http knows as connection; nil where there is none.
func below(c net.Conn) *Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	conn, _ := c.(*Conn)
	return conn
}

// connOf is the connection of a request; one of no effect where the request did not
// come over a [Listener].
func connOf(r *http.Request) *Conn {
	if c, ok := r.Context().Value(connKey{}).(*Conn); ok {
		return c
	}
	return &Conn{}
}
