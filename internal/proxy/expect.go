package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// expectContinue sends 100 Continue to a client that waits for it before it sends
// an empty body. net/http does not, which RFC 9110 section 10.1.1 allows; but
// botocore, having seen a final status in place of the 100 it waited for, takes
// that status for the answer to each later request of the connection, reads the
// real status line as a header and then waits for a body until it gives up. The
// aws CLI asks so for every file, empty ones too.
//
// An answer that comes before a body which is not empty closes the connection,
// which net/http sees to. Not every client waits for it: a Go client without an
// ExpectContinueTimeout sends the body at once. Closing over bytes that were not
// read resets the connection, and takes the answer away from a client that is still
// sending (RFC 9112, section 9.6). So such a connection lingers.
func expectContinue(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoAtLeast(1, 1) && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
			if r.ContentLength == 0 {
				w.WriteHeader(http.StatusContinue)
			} else if c, ok := r.Context().Value(connKey{}).(*stallConn); ok {
				c.lingers.Store(true)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// connKey finds the connection in the context of its requests.
type connKey struct{}

// withConn is the ConnContext of the server.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// lingerTime bounds how long a connection lingers; net/http takes as long for what
// it refuses in the middle of a body.
const lingerTime = 500 * time.Millisecond

// Close closes the connection. One that lingers is at its end for the client when
// Close returns; what the client still sends is read, and thrown away, until it has
// seen that or lingerTime is over.
func (c *stallConn) Close() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || !c.lingers.Swap(false) || half.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return c.Conn.Close()
	}
	go func() {
		// Whatever ends the reading, nothing is left to do but to close.
		_, _ = io.Copy(io.Discard, c.Conn)
		_ = c.Conn.Close()
	}()
	return nil
}
