package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// idle opens connections that say nothing, from as many loopback addresses as one's
// ports are too few for. It returns those that could be opened.
func idle(t *testing.T, addr string, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	var all sync.WaitGroup
	const each = 500
	for from := 0; from < n; from += each {
		all.Go(func() {
			dialer := net.Dialer{Timeout: 20 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+from/each))}}
			for i := from; i < min(from+each, n); i++ {
				conn, err := dialer.DialContext(t.Context(), "tcp", addr)
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				conns[i] = conn
			}
		})
	}
	all.Wait()
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	return conns
}

// open counts those that the other side has not closed.
func open(t *testing.T, conns []net.Conn) (n int) {
	t.Helper()
	one := make([]byte, 1)
	for _, c := range conns {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(100*time.Microsecond)))
		if _, err := c.Read(one); errors.Is(err, os.ErrDeadlineExceeded) {
			n++
		} else if err == nil {
			t.Fatalf("an answer to nothing: %q", one)
		} else {
			assert.True(t, errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET), "%v", err)
		}
	}
	return n
}

// memory is the resident memory of the proxy's process, and its open descriptors.
func (p *Proxy) memory(t *testing.T) (rss int64, fds int) {
	t.Helper()
	pids, err := p.process.Pids()
	require.NoError(t, err)
	require.Len(t, pids, 1)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pids[0]))
	require.NoError(t, err)
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
	require.NoError(t, err)
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pids[0]))
	require.NoError(t, err)
	return kib << 10, len(list)
}

// 10,000 connections that say nothing: where limits allow them they are held, at a
// bounded price each, and where not they make room for those who have something to
// say, who are served in both cases. All is given back when they go.
func TestTenThousandIdleConnections(t *testing.T) {
	t.Parallel()
	const n = 10_000
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	require.Greater(t, limit.Cur, uint64(n+1500), "raise ulimit -n to 12,000 at least")
	for name, limits := range map[string]map[string]any{
		"allowed":  {"connections": n + 1000, "connections_per_address": 0, "header_timeout": "5m"},
		"defaults": {},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewCluster(t, Options{Guards: []Guard{{Prefix: "jobs/"}}, Config: map[string]any{"limits": limits}})
			p := c.Proxies[0]
			token := p.Acquire(t, c.Scope("jobs/"), "ann")
			serve := func(when string) {
				begun := time.Now()
				for i := range 50 {
					p.PutToken(t, fmt.Sprint("jobs/", i), when, token).Want(t, 200)
					assert.Equal(t, when, p.Get(t, fmt.Sprint("jobs/", i)))
				}
				t.Logf("%s: 100 requests in %v", when, time.Since(begun))
			}
			serve("before")
			before, fds := p.memory(t)
			begun := time.Now()
			conns := idle(t, p.Addr(), n)
			took := time.Since(begun)
			serve("while they are there")
			held := open(t, conns)
			during, more := p.memory(t)
			t.Logf("%d of %d connections are held (opened in %v): %.1f MiB, %d descriptors, after %.1f MiB and %d: %.1f kB for each", held, n, took,
				float64(during)/(1<<20), more, float64(before)/(1<<20), fds, float64(during-before)/1000/float64(held))
			if name == "allowed" {
				assert.Equal(t, n, held)
			} else {
				assert.LessOrEqual(t, held, 4096)
				assert.Greater(t, held, 4000)
			}
			assert.Less(t, during-before, int64(held)*40_000, "docs/operations.md says 20 to 40 kB")
			assert.Less(t, more-fds, held+100)
			for _, conn := range conns {
				conn.Close()
			}
			require.Eventually(t, func() bool { _, now := p.memory(t); return now < fds+50 }, 20*time.Second, 20*time.Millisecond)
			serve("after")
		})
	}
}
