package upstream

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Bytes of a dead or cut-off proxy must not reach the store much later.
func TestUserTimeoutIsSet(t *testing.T) {
	t.Parallel()
	w := newWire(t, func(int, *wireRequest) (string, bool) { return plain(200, ""), true })
	c := newClient(t, w.url(), WithUserTimeout(7*time.Second))
	var made net.Conn
	real := c.transport.(*http.Transport)
	dial := real.DialContext
	real.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var err error
		made, err = dial(ctx, network, addr)
		return made, err
	}
	warm(t, c)
	raw, err := made.(*conn).Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ms int
	if cerr := raw.Control(func(fd uintptr) { ms, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	if ms != 7000 {
		t.Errorf("TCP_USER_TIMEOUT = %d ms, want 7000", ms)
	}
}
