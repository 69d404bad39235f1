package edge

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test.
const patience = 30 * time.Second

// served is a server of the edge.
type served struct {
	*Listener
	client *tls.Config
}

func serve(t *testing.T, h http.Handler, l Limits) *served {
	t.Helper()
	return serveOver(t, h, l, false)
}

func serveTLS(t *testing.T, h http.Handler, l Limits) *served {
	t.Helper()
	return serveOver(t, h, l, true)
}

func serveOver(t *testing.T, h http.Handler, l Limits, secure bool) *served {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &served{Listener: Listen(tcp, l)}
	var listener net.Listener = s.Listener
	if secure {
		// Certificates are httptest's.
		pair := httptest.NewUnstartedServer(nil)
		pair.StartTLS()
		s.client = pair.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		s.client.ServerName = "example.com"
		listener = tls.NewListener(listener, &tls.Config{Certificates: pair.TLS.Certificates, NextProtos: []string{"http/1.1"}})
		pair.Close()
	}
	server := NewServer(h, l, slog.New(slog.DiscardHandler))
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return s
}

// dial connects, and ends with the test.
func (s *served) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := s.try("")
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// try connects from an address of this machine, "" for any.
func (s *served) try(from string) (net.Conn, error) {
	d := &net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", s.Addr().String())
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if s.client != nil {
		return tls.Client(c, s.client), nil
	}
	return c, nil
}

// say writes a request as it is.
func say(t *testing.T, c net.Conn, format string, args ...any) {
	t.Helper()
	_, err := fmt.Fprintf(c, format, args...)
	require.NoError(t, err)
}

// hear reads an answer with its body.
func hear(t *testing.T, r *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp, string(b)
}

// eventually waits for what must become true soon.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}
