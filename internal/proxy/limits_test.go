package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/s3api"
)

// eventually waits for what must become true soon.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// drip sends a byte now and then, framed as the caller says, until the other end
// hangs up.
func drip(c net.Conn, before, after string) {
	go func() {
		for {
			time.Sleep(25 * time.Millisecond) // a client that drips: 40 bytes a second
			if _, err := io.WriteString(c, before+"x"+after); err != nil {
				return
			}
		}
	}()
}

// Whatever a client does with the time that it is given, it ends; its place, its
// connection and its upload are gone then, and nothing was written.
func TestSlowAndVanishingClients(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, 1)
	for scheme, more := range map[string][]string{"http": nil, "https": {"S3FENCE_TLS__CERT_FILE=" + cert, "S3FENCE_TLS__KEY_FILE=" + key}} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			var store seen
			w := newWorld(t, store.wrap)
			p := w.start(t, append(more, "S3FENCE_LIMITS__STALL_TIMEOUT=1s", "S3FENCE_LIMITS__MIN_RATE=1000", "S3FENCE_LIMITS__HEADER_TIMEOUT=1s",
				"S3FENCE_LIMITS__IDLE_TIMEOUT=1s", "S3FENCE_GUARDS__0__PATTERN=s3://data/free/", "S3FENCE_GUARDS__0__TOKENS=none")...)
			host := p.Addr().String()
			require.NoError(t, w.fill("data", "large", 32<<20))
			begin := func(t *testing.T, method, target, lines string) *socket {
				s := p.socket(t)
				s.write(method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + signed(t, method, host, target) + lines + "\r\n")
				return s
			}
			// All at one time: they wait for most of theirs.
			begun := map[string]*socket{}
			for name, tc := range map[string]func(t *testing.T) *socket{
				"body dripped": func(t *testing.T) *socket {
					s := begin(t, "PUT", "/data/x1", "Content-Length: 1000000\r\n")
					drip(s, "", "")
					return s
				},
				"small body dripped": func(t *testing.T) *socket {
					s := begin(t, "PUT", "/data/x2", "Content-Length: 1000\r\n")
					drip(s, "", "")
					return s
				},
				"chunks dripped": func(t *testing.T) *socket {
					s := begin(t, "PUT", "/data/x3", "Transfer-Encoding: chunked\r\n")
					drip(s, "1\r\n", "\r\n")
					return s
				},
				"body dripped into a scope": func(t *testing.T) *socket {
					s := begin(t, "PUT", "/data/free/x4", "Content-Length: 3000000\r\n")
					drip(s, "", "")
					return s
				},
				"batch dripped": func(t *testing.T) *socket {
					s := begin(t, "POST", "/data?delete=", "Content-Length: 1000\r\n")
					drip(s, "", "")
					return s
				},
				"call of the lock API dripped": func(t *testing.T) *socket {
					s := begin(t, "POST", "/-/v1/locks/acquire", "Content-Length: 1000\r\n")
					drip(s, "", "")
					return s
				},
				"unsigned, body never sent": func(t *testing.T) *socket {
					s := p.socket(t)
					s.write("PUT /data/x5 HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n")
					return s
				},
				"unknown call, body never sent": func(t *testing.T) *socket {
					s := p.socket(t)
					s.write("POST /-/v1/nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n")
					return s
				},
				"wrong signature, long answer, body never sent": func(t *testing.T) *socket {
					s := p.socket(t)
					target := "/data/x6?x-id=" + strings.Repeat("y", 3<<10)
					s.write("PUT " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + signed(t, "PUT", "other", target) + "Content-Length: 1000\r\n\r\n")
					return s
				},
				"half a body, then the end": func(t *testing.T) *socket {
					s := begin(t, "PUT", "/data/x7", "Content-Length: 1000000\r\n")
					s.write(strings.Repeat("x", 300_000))
					require.NoError(t, s.Close())
					return s
				},
				"half a body, then reset": func(t *testing.T) *socket {
					s := begin(t, "PUT", "/data/x8", "Content-Length: 1000000\r\n")
					s.write(strings.Repeat("x", 300_000))
					if c, ok := s.Conn.(*net.TCPConn); ok {
						require.NoError(t, c.SetLinger(0))
					}
					require.NoError(t, s.Close())
					return s
				},
				"half a body into a scope, then the end": func(t *testing.T) *socket {
					s := begin(t, "PUT", "/data/free/x9", "Content-Length: 3000000\r\n")
					s.write(strings.Repeat("x", 2_000_000))
					require.NoError(t, s.Close())
					return s
				},
				"answer never read": func(t *testing.T) *socket {
					return begin(t, "GET", "/data/large", "")
				},
				"request never finished": func(t *testing.T) *socket {
					s := p.socket(t)
					s.write("GET /data/large HTTP/1.1\r\nHost: h\r\n")
					drip(s, "", "")
					return s
				},
			} {
				begun[name] = tc(t)
			}
			for name, s := range begun {
				if name == "answer never read" {
					continue
				}
				// Until the proxy hangs up; what it says before is not looked at.
				_, err := io.Copy(io.Discard, s.Conn)
				ne := net.Error(nil)
				require.False(t, errors.As(err, &ne) && ne.Timeout(), "%s: the connection stays open", name)
			}
			eventually(t, "no connection is left", func() bool { return p.bounded.Connections() == 0 })
			c := p.s3()
			for i := 1; i < 10; i++ {
				for _, prefix := range []string{"", "free/"} {
					_, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("data"), Key: aws.String(fmt.Sprintf("%sx%d", prefix, i))})
					assert.Equal(t, "NotFound", code(err), "%sx%d", prefix, i)
				}
			}
		})
	}
}

// Bad requests of every kind, from somewhere else, make no good one fail, and leave
// nothing behind: no places, no connections, no log that grows with them.
func TestFlood(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("127.0.0.2 is an address of this machine on Linux alone")
	}
	p := newWorld(t).start(t, "S3FENCE_LIMITS__CONNECTIONS=96", "S3FENCE_LIMITS__CONNECTIONS_PER_ADDRESS=64", "S3FENCE_LIMITS__CONCURRENT_REQUESTS=8",
		"S3FENCE_LIMITS__HEADER_TIMEOUT=1s", "S3FENCE_LIMITS__IDLE_TIMEOUT=1s")
	host := p.Addr().String()
	require.NoError(t, p.put("k", "hello", 0))
	target := "/data/k"
	good := signed(t, "GET", host, target)
	unknown := strings.Replace(good, "Credential=ann/", "Credential=bob/", 1)
	before, after, _ := strings.Cut(good, "Signature=")
	wrong := before + "Signature=" + strings.Repeat("0", 64) + after[64:]
	kinds := map[string]string{
		"bad signature": "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + wrong + "\r\n",
		"unknown key":   "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + unknown + "\r\n",
		"unsigned body": "PUT " + target + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 100000\r\n\r\n",
		"garbage":       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"no request":    "",
		"half a header": "GET / HTTP/1.1\r\nHost: h\r\nX: ",
		"call":          "POST /-/v1/locks/acquire HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var bad [7]atomic.Int64
	// A busy machine takes longer to get there.
	flooded := func() bool {
		for i := range bad {
			if bad[i].Load() < 50 {
				return false
			}
		}
		return true
	}
	var flood sync.WaitGroup
	d := &net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	i := 0
	for kind, raw := range kinds {
		count := &bad[i]
		i++
		for range 3 {
			flood.Go(func() {
				var kept []net.Conn
				defer func() {
					for _, c := range kept {
						c.Close()
					}
				}()
				for ctx.Err() == nil {
					time.Sleep(2 * time.Millisecond) // a flood, but not of this machine
					c, err := d.DialContext(ctx, "tcp", host)
					if err != nil {
						continue
					}
					count.Add(1)
					_ = c.SetDeadline(time.Now().Add(2 * time.Second))
					_, _ = io.WriteString(c, raw)
					if strings.HasPrefix(kind, "bad") || strings.HasPrefix(kind, "unknown") {
						// Over one connection, again and again.
						answers := bufio.NewReader(c)
						for range 20 {
							resp, err := http.ReadResponse(answers, nil)
							if err != nil {
								break
							}
							_, _ = io.Copy(io.Discard, resp.Body)
							resp.Body.Close()
							if _, err := io.WriteString(c, raw); err != nil {
								break
							}
						}
						c.Close()
						continue
					}
					if kept = append(kept, c); len(kept) > 40 {
						kept[0].Close()
						kept = kept[1:]
					}
				}
			})
		}
	}
	n := 0
	var highest int
	for n < 25 || !flooded() {
		require.NoError(t, ctx.Err(), "%d good requests, %d bad ones of one kind", n, bad[0].Load())
		if err := p.put("k", "hello", 0); err != nil {
			t.Errorf("put %d: %v", n, err)
			break
		}
		s, err := net.Dial("tcp", host) // a new connection each
		require.NoError(t, err)
		require.NoError(t, s.SetDeadline(time.Now().Add(20*time.Second)))
		fmt.Fprintf(s, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, host, good)
		resp, err := http.ReadResponse(bufio.NewReader(s), nil)
		require.NoError(t, err, "get %d", n)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		s.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s", b)
		require.Equal(t, "hello", string(b))
		highest = max(highest, p.bounded.Connections())
		n++
	}
	stop()
	flood.Wait()
	assert.LessOrEqual(t, highest, 96)
	eventually(t, "the flood's connections are gone", func() bool { return p.bounded.Connections() == 0 })
	log := p.log.String()
	assert.Contains(t, log, "requests without a valid signature are refused")
	assert.Less(t, strings.Count(log, "\n"), 40, "a line for each bad request: %s", log[:min(len(log), 4<<10)])
}

// What strangers can make happen is logged at once, then counted, then told with
// its number, and no kind hides another.
func TestQuietLog(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	q := newQuiet(slog.New(slog.NewTextHandler(log, nil)))
	q.every = 50 * time.Millisecond
	for i := range 1000 {
		q.answered(t.Context(), &s3api.Record{Status: 403, Code: "SignatureDoesNotMatch", RequestID: fmt.Sprint("id-", i)})
	}
	q.answered(t.Context(), &s3api.Record{Status: 503, Code: "SlowDown", AccessKey: "ann"})
	q.answered(t.Context(), &s3api.Record{Status: 502, Code: "Bad", AccessKey: "ann"})
	q.answered(t.Context(), &s3api.Record{Status: 403, Code: "AccessDenied", AccessKey: "ann"})
	q.connection(&net.TCPAddr{}, "too many connections")
	eventually(t, "the sum", func() bool { return strings.Contains(log.String(), "times=999") })
	eventually(t, "kinds that have ended are forgotten", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return len(q.kinds) == 0
	})
	text := log.String()
	assert.Equal(t, 5, strings.Count(text, "\n"), text)
	assert.Contains(t, text, "id-0")
	assert.Contains(t, text, "id-999")
	assert.Contains(t, text, "level=WARN msg=\"requests are told to slow down\"")
	assert.Contains(t, text, "status=502")

	debug := &logBuffer{}
	q = newQuiet(slog.New(slog.NewTextHandler(debug, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for range 10 {
		q.answered(t.Context(), &s3api.Record{Status: 403, Code: "SignatureDoesNotMatch"})
	}
	assert.Equal(t, 10, strings.Count(debug.String(), "\n"), "for debugging each is logged")
}

// The health listener is bounded, too, and an answer there does not depend on what
// goes on at the other.
func TestHealthIsBounded(t *testing.T) {
	t.Parallel()
	p := newWorld(t).start(t, "S3FENCE_LIMITS__CONNECTIONS=1", "S3FENCE_LIMITS__CONNECTIONS_PER_ADDRESS=0")
	put := p.slowPut("held", 10)
	status, text := body(t, "http://"+p.AdminAddr().String()+"/readyz")
	assert.Equal(t, 200, status, text)
	err := p.put("k", "x", 0)
	assert.Equal(t, "SlowDown", code(err), "%v", err)
	_, err = put.Write(bytes.Repeat([]byte("x"), 10))
	require.NoError(t, err)
	status, err = put.status()
	require.NoError(t, err)
	assert.Equal(t, 200, status)
	eventually(t, "room again", func() bool { return p.put("k", "x", 0) == nil })
	require.NotErrorIs(t, err, syscall.ECONNRESET)
}
