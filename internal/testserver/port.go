package testserver

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Ports are drawn from below the range that Linux gives to outgoing
// connections (32768 and up): the port of a stopped server stays free for its
// next start.
const (
	firstPort = 18000
	lastPort  = 31999
)

// FreePort returns a TCP port of 127.0.0.1 that nobody listens on at the moment.
// No other call returns it again while this process lives, in whatever test process
// of the user. A program that is none of them may still take it first.
//
// Safe for concurrent use.
func FreePort() (int, error) {
	ledger, err := ports()
	if err != nil {
		return 0, fmt.Errorf("testserver: %w", err)
	}
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if taken, err := ledger.take(port); err != nil {
			return 0, fmt.Errorf("testserver: keep port %d: %w", port, err)
		} else if !taken {
			continue
		}
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

// portLedger says which ports are handed out: by a lock on the byte at the port's
// number of a file that all test processes of the user share. The kernel ends the
// locks with the process.
type portLedger struct {
	file *os.File
	mu   sync.Mutex
	// taken are the ports of this process, which its own locks do not keep from it.
	taken map[int]bool
}

var ports = sync.OnceValues(func() (*portLedger, error) {
	return openLedger(filepath.Join(os.TempDir(), "s3fence-test-ports-"+strconv.Itoa(os.Getuid())))
})

func openLedger(path string) (*portLedger, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &portLedger{file: file, taken: map[int]bool{}}, nil
}

// take reports whether port is now this process's alone.
func (l *portLedger) take(port int) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken[port] {
		return false, nil
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: int64(port), Len: 1}
	err := unix.FcntlFlock(l.file.Fd(), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	l.taken[port] = err == nil
	return err == nil, err
}
