package testserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are drawn from below the range that Linux gives to outgoing
// connections (32768 and up): the port of a stopped server stays free for its
// next start.
const (
	firstPort = 18000
	lastPort  = 31999
)

// FreePort returns a TCP port of 127.0.0.1 that nobody listens on at the
// moment. Another process may take it first: whoever starts a server on it
// tries again with another one.
func FreePort() (int, error) {
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("testserver: try port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, errors.New("testserver: no free port found in 200 tries")
}
