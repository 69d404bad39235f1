package faultproxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/internal/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink is a target that records all it gets, answers every line with "ok LINE",
// and says when a client's bytes have ended.
type sink struct {
	net.Listener
	mu   sync.Mutex
	got  strings.Builder
	ends chan error
	// conns ends with the test.
	conns sync.WaitGroup
}

func newSink(t *testing.T) *sink {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	s := &sink{Listener: l, ends: make(chan error, 100)}
	s.conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); s.conns.Wait() })
	return s
}

func (s *sink) serve(conn net.Conn) {
	defer conn.Close()
	for r := bufio.NewReader(conn); ; {
		line, err := r.ReadString('\n')
		s.mu.Lock()
		s.got.WriteString(line)
		s.mu.Unlock()
		if err != nil {
			s.ends <- err
			return
		}
		_, _ = io.WriteString(conn, "ok "+line)
	}
}

func (s *sink) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.String()
}

func start(t *testing.T, target string) *faultproxy.Proxy {
	t.Helper()
	p, err := faultproxy.Listen(target)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func dial(t *testing.T, p *faultproxy.Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.Addr(), 5*time.Second)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
}

func hear(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestPassesBothWaysAndTheEnd(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := start(t, s.Addr().String())
	conn := dial(t, p)
	for i := range 100 {
		line := fmt.Sprintf("line %d\n", i)
		say(t, conn, line)
		hear(t, conn, "ok "+line)
	}
	require.NoError(t, conn.CloseWrite())
	require.ErrorIs(t, <-s.ends, io.EOF)
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, conn.Close())
	require.NoError(t, p.AwaitIdle(bounded(t)))
	require.Zero(t, p.Connections())
}

func TestHoldLetsExactlyTheFirstBytesPass(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := start(t, s.Addr().String())
	early := dial(t, p)
	say(t, early, "before\n")
	hear(t, early, "ok before\n")
	p.Hold(faultproxy.Requests, 4)
	for _, conn := range []net.Conn{early, dial(t, p)} {
		say(t, conn, "one\ntwo\n")
		hear(t, conn, "ok one\n")
	}
	require.NoError(t, p.AwaitHeld(bounded(t), faultproxy.Requests, 8))
	require.Equal(t, "before\none\none\n", s.all())
	require.NoError(t, p.Release(bounded(t), faultproxy.Requests))
	hear(t, early, "ok two\n")
}

// The network's part of the worst story: a client sends, goes away in whichever
// manner, somebody else writes meanwhile, and then the bytes arrive (F4).
func TestHeldBytesArriveAfterTheirSenderHasGone(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*net.TCPConn) error{
		"closed": (*net.TCPConn).Close,
		"reset":  func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			p := start(t, s.Addr().String())
			p.Hold(faultproxy.Requests, 5)
			conn := dial(t, p)
			say(t, conn, "half of it\n")
			require.NoError(t, p.AwaitHeld(bounded(t), faultproxy.Requests, 6))
			require.NoError(t, leave(conn))
			select {
			case err := <-s.ends:
				t.Fatalf("the end overtook the held bytes: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			require.NoError(t, p.Release(bounded(t), faultproxy.Requests))
			require.ErrorIs(t, <-s.ends, io.EOF)
			require.Equal(t, "half of it\n", s.all())
			require.NoError(t, p.AwaitIdle(bounded(t)))
		})
	}
}

func TestHoldAnswers(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := start(t, s.Addr().String())
	p.Hold(faultproxy.Answers, 0)
	conn := dial(t, p)
	say(t, conn, "x\n")
	require.NoError(t, p.AwaitHeld(bounded(t), faultproxy.Answers, 5))
	require.Equal(t, "x\n", s.all())
	require.NoError(t, p.Release(bounded(t), faultproxy.Answers))
	hear(t, conn, "ok x\n")
}

func TestDropAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		marker string
		pass   []string
		drop   string
	}{
		"the next":         {"", nil, "anything\n"},
		"to a marked one":  {"COMMIT", []string{"BEGIN\n", "INSERT\n"}, "COMMIT\n"},
		"not half marked":  {"COMMIT", []string{"COMM\n", "IT\n"}, "a COMMIT b\n"},
		"across two reads": {"COMMIT", []string{"BEGIN\n"}, "CO|MMIT\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			p := start(t, s.Addr().String())
			conn := dial(t, p)
			say(t, conn, "COMMIT before\n")
			hear(t, conn, "ok COMMIT before\n")
			p.DropAnswer(1, c.marker)
			for _, line := range c.pass {
				say(t, conn, line)
				hear(t, conn, "ok "+line)
			}
			first, rest, cut := strings.Cut(c.drop, "|")
			if cut {
				p.Hold(faultproxy.Requests, 0)
			}
			say(t, conn, first)
			if cut {
				// Held, the first half shows when the proxy has read it.
				require.NoError(t, p.AwaitHeld(bounded(t), faultproxy.Requests, int64(len(first))))
				say(t, conn, rest)
				require.NoError(t, p.Release(bounded(t), faultproxy.Requests))
			}
			_, err := conn.Read(make([]byte, 1))
			require.ErrorIs(t, err, syscall.ECONNRESET)
			require.Contains(t, s.all(), strings.ReplaceAll(c.drop, "|", ""), "the request did not go through")
			require.NoError(t, p.AwaitIdle(bounded(t)))

			again := dial(t, p)
			say(t, again, "COMMIT again\n")
			hear(t, again, "ok COMMIT again\n")
		})
	}
}

func TestFlip(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := start(t, s.Addr().String())
	conn := dial(t, p)
	p.Flip(faultproxy.Requests, "abc")
	say(t, conn, "ab c\n")
	hear(t, conn, "ok ab c\n")
	require.False(t, p.Flipped(faultproxy.Requests))
	say(t, conn, "abc abc\n")
	hear(t, conn, "ok abb abc\n")
	require.True(t, p.Flipped(faultproxy.Requests))

	// Across two reads, and in answers.
	p.Flip(faultproxy.Requests, "xyz")
	p.Hold(faultproxy.Requests, 0)
	say(t, conn, "-xy")
	require.NoError(t, p.AwaitHeld(bounded(t), faultproxy.Requests, 3))
	say(t, conn, "z\n")
	require.NoError(t, p.Release(bounded(t), faultproxy.Requests))
	hear(t, conn, "ok -xy{\n")
	p.Flip(faultproxy.Answers, "ok")
	say(t, conn, "ok\n")
	hear(t, conn, "oj ok\n")
	require.Contains(t, s.all(), "ok\n")

	p.Flip(faultproxy.Requests, "never")
	require.NoError(t, p.Pass())
	say(t, conn, "never\n")
	hear(t, conn, "ok never\n")
}

func TestDropAnswerOfHTTPKeepsTheInterimAnswer(t *testing.T) {
	t.Parallel()
	var stored atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		stored.Add(n)
	}))
	t.Cleanup(server.Close)
	p := start(t, strings.TrimPrefix(server.URL, "http://"))
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: 20 * time.Second}, Timeout: 20 * time.Second}
	put := func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+p.Addr()+"/k", strings.NewReader("body"))
		require.NoError(t, err)
		req.Header.Set("Expect", "100-continue")
		resp, err := client.Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	p.DropAnswer(1, "")
	require.Error(t, put())
	require.EqualValues(t, 4, stored.Load(), "the server did not get the body")
	require.NoError(t, put())
}

func TestRefuseAndPass(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := start(t, s.Addr().String())
	stands := dial(t, p)
	say(t, stands, "a\n")
	hear(t, stands, "ok a\n")
	require.NoError(t, p.Refuse())
	require.NoError(t, p.Refuse())
	_, err := net.Dial("tcp", p.Addr())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	say(t, stands, "b\n")
	hear(t, stands, "ok b\n")
	require.NoError(t, p.Pass())
	conn := dial(t, p)
	say(t, conn, "c\n")
	hear(t, conn, "ok c\n")
}

func TestCutResetsBothSides(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := start(t, s.Addr().String())
	conn := dial(t, p)
	say(t, conn, "a\n")
	hear(t, conn, "ok a\n")
	p.Hold(faultproxy.Requests, 0)
	say(t, conn, "lost\n")
	require.NoError(t, p.AwaitHeld(bounded(t), faultproxy.Requests, 5))
	p.Cut()
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.ErrorIs(t, <-s.ends, syscall.ECONNRESET)
	require.Equal(t, "a\n", s.all())
	require.NoError(t, p.AwaitIdle(bounded(t)))
}

func TestDelayIsPerDirectionAndKeepsOrder(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := start(t, s.Addr().String())
	const by = 60 * time.Millisecond
	p.Delay(faultproxy.Requests, by)
	conn := dial(t, p)
	begin := time.Now()
	say(t, conn, "a\n")
	say(t, conn, "b\n")
	hear(t, conn, "ok a\nok b\n")
	require.GreaterOrEqual(t, time.Since(begin), by)
	require.NoError(t, p.Pass())
}

func TestDeadTargetResetsTheClient(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	p := start(t, l.Addr().String())
	// The reset may come before the client's connect has returned, or after.
	conn, err := net.DialTimeout("tcp", p.Addr(), 5*time.Second)
	if err == nil {
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = conn.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestAwaitIsBounded(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := start(t, s.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.AwaitHeld(ctx, faultproxy.Requests, 1), context.DeadlineExceeded)
}

// Large bodies in both directions at once, with controls thrown in: every byte
// arrives once and in order.
func TestBulkUnderControls(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	var echo sync.WaitGroup
	echo.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	})
	t.Cleanup(func() { _ = l.Close(); echo.Wait() })
	p := start(t, l.Addr().String())
	conn := dial(t, p)
	want := strings.Repeat("0123456789abcdef", 1<<16)
	var sender sync.WaitGroup
	sender.Go(func() {
		_, _ = io.WriteString(conn, want)
		_ = conn.CloseWrite()
	})
	var controls sync.WaitGroup
	controls.Go(func() {
		for i := range int64(20) {
			p.Hold(faultproxy.Direction(i%2), 1000*i)
			_ = p.Connections()
			if err := p.Pass(); err != nil {
				t.Error(err)
			}
		}
	})
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, len(want), len(got))
	require.True(t, want == string(got))
	sender.Wait()
	controls.Wait()
}
