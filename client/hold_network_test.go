package client_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// pipes is a network of connections that can die without a word, as they do
// while a machine sleeps.
type pipes struct {
	accept chan net.Conn
	mu     sync.Mutex
	all    []*pipe
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	c := &pipe{Conn: here}
	p.mu.Lock()
	p.all = append(p.all, c)
	p.mu.Unlock()
	p.accept <- there
	return c, nil
}

// die makes all connections that there are swallow what is written.
func (p *pipes) die() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.all {
		c.dead.Store(true)
	}
	return len(p.all)
}

type pipe struct {
	net.Conn
	dead atomic.Bool
}

func (c *pipe) Write(b []byte) (int, error) {
	if c.dead.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// A renewal that is not answered is tried over a new connection: all that stood
// idle may be dead.
func TestDeadConnections(t *testing.T) {
	t.Parallel()
	bubble(t, "all that stood idle", func(t *testing.T, f *fake) {
		network := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			resp, err := f.RoundTrip(r)
			if err != nil {
				return
			}
			w.WriteHeader(resp.StatusCode)
			_, _ = io.Copy(w, resp.Body)
		})}
		served := make(chan struct{})
		go func() { defer close(served); _ = server.Serve(network) }()
		transport := &http.Transport{DialContext: network.dial, MaxIdleConnsPerHost: 100}
		c, err := client.New("http://s3fence.test", "k", "s", client.WithHTTPClient(&http.Client{Transport: transport}))
		require.NoError(t, err)
		var calls sync.WaitGroup
		f.on("check", func(int) answer { return answer{status: 200, body: `{"highest":7}`, after: time.Second} })
		for range 20 {
			calls.Go(func() { _, _ = c.Check(t.Context(), jobs, 7) })
		}
		calls.Wait()
		h, err := c.Hold(t.Context(), jobs, client.WithHoldClock(f.clock()))
		require.NoError(t, err)
		assert.GreaterOrEqual(t, network.die(), 20)
		for range 10 {
			time.Sleep(10 * time.Second)
			require.NoError(t, h.Context().Err(), "after %v", f.since())
		}
		assert.NoError(t, h.Release(t.Context()))
		transport.CloseIdleConnections()
		network.mu.Lock()
		for _, c := range network.all {
			_ = c.Close()
		}
		network.mu.Unlock()
		require.NoError(t, server.Close())
		<-served
	})
}

// The same with sockets and the machine's clock; TestMain sees what is left.
func TestHoldOverTheNetwork(t *testing.T) {
	t.Parallel()
	var renewals atomic.Int64
	var down atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "renew") && renewals.Add(1)%2 == 0 || down.Load() {
			answers(503, `{"code":"ServiceUnavailable"}`)(w, r)
			return
		}
		answers(200, `{"scope":"s3://data/jobs/","token":7,"ttl":"1s","expires_in_ms":1000}`)(w, r)
	}))
	defer server.Close()
	c, err := client.New(server.URL, "k", "s")
	require.NoError(t, err)
	h, err := c.Hold(t.Context(), jobs)
	require.NoError(t, err)
	began := time.Now()
	select {
	case <-h.Context().Done():
		t.Fatal(context.Cause(h.Context()))
	case <-time.After(1500 * time.Millisecond):
	}
	down.Store(true)
	<-h.Context().Done()
	require.ErrorIs(t, context.Cause(h.Context()), client.ErrMaybeLost)
	assert.Less(t, time.Since(began), 2500*time.Millisecond)
	assert.GreaterOrEqual(t, renewals.Load(), int64(5))
	down.Store(false)
	require.NoError(t, h.Release(t.Context()))
}
