package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/sqlite"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Idle connections of http.DefaultTransport and of the SDK's client.
		goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"))
}

func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

func body(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, strings.TrimSpace(string(b))
}

// The whole way: guard of the configuration, lock, fenced write, takeover, stale
// write (F3, F4), and an end in good order.
func TestProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, "S3FENCE_GUARDS__0__PATTERN=s3://data/jobs/*/")
	admin := "http://" + p.AdminAddr().String()

	status, text := body(t, admin+"/healthz")
	assert.Equal(t, 200, status)
	assert.Equal(t, "ok", text)
	status, _ = body(t, admin+"/readyz")
	assert.Equal(t, 200, status)

	assert.Equal(t, "MissingFencingToken", code(p.put("jobs/a/x", "none", 0)))
	require.NoError(t, p.put("plain", "no guard here", 0))
	old, err := p.locks().Acquire(t.Context(), client.Acquisition{Scope: "s3://data/jobs/a/", Owner: "ann"})
	require.NoError(t, err)
	require.NoError(t, p.put("jobs/a/x", "first", old.Token))
	next, err := p.locks().Take(t.Context(), "s3://data/jobs/a/", "bob", 0, "test")
	require.NoError(t, err)
	require.NoError(t, p.put("jobs/a/x", "second", next.Token))
	assert.Equal(t, "StaleFencingToken", code(p.put("jobs/a/x", "late", old.Token)))
	assert.Equal(t, "second", p.get("jobs/a/x"))
	assert.Contains(t, p.log.String(), "code=StaleFencingToken")

	p.stop()
	require.NoError(t, p.end())
	_, err = net.DialTimeout("tcp", p.Addr().String(), time.Second)
	require.Error(t, err, "the port is free again")
	st, err := sqlite.Open(t.Context(), config.State(w.state).SQLite(), sqlite.Options{})
	require.NoError(t, err)
	defer st.Close()
	proxies, _, err := st.Proxies(t.Context())
	require.NoError(t, err)
	assert.Empty(t, proxies, "nobody waits for a proxy that has ended")
}

// Those who follow the event log do not hold up the end, and what happened up to
// it is recorded; events are kept as long as the configuration says.
func TestEndWhileSomebodyFollows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, "S3FENCE_GUARDS__0__PATTERN=s3://data/jobs/*/", "S3FENCE_EVENTS_KEEP=1h")
	c := p.locks()
	_, next, err := c.Events(t.Context(), client.EventQuery{Latest: true})
	require.NoError(t, err)
	ended := make(chan error, 1)
	asked := make(chan struct{})
	go func() {
		close(asked)
		for {
			list, to, err := c.Events(context.Background(), client.EventQuery{After: next, Wait: client.MaxEventWait, Kinds: []string{client.EventTakeover}})
			if err != nil || len(list) == 0 && to == next {
				ended <- err
				return
			}
			next = to
		}
	}()
	<-asked
	_, err = c.Acquire(t.Context(), client.Acquisition{Scope: "s3://data/jobs/a/", Owner: "ann"})
	require.NoError(t, err)
	begun := time.Now()
	p.stop()
	require.NoError(t, p.end())
	assert.Less(t, time.Since(begun), client.MaxEventWait/2, "somebody who follows was waited for")
	<-ended

	st, err := sqlite.Open(t.Context(), config.State(w.state).SQLite(), sqlite.Options{})
	require.NoError(t, err)
	defer st.Close()
	page, err := st.ListEvents(t.Context(), state.EventQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, page.Events, 2)
	assert.Equal(t, "ann", page.Events[1].Owner)
}

// A guard that is added through one proxy binds the other when the call returns.
func TestTwoProxies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.start(t), w.start(t)
	require.NoError(t, b.put("jobs/x", "before", 0))
	_, err := a.locks().AddGuard(t.Context(), client.Guard{Pattern: "s3://data/jobs/"})
	require.NoError(t, err)
	assert.Equal(t, "MissingFencingToken", code(b.put("jobs/x", "after", 0)))
	assert.Equal(t, "before", b.get("jobs/x"), "what was there is taken in")
	lease, err := b.locks().Acquire(t.Context(), client.Acquisition{Scope: "s3://data/jobs/"})
	require.NoError(t, err)
	require.NoError(t, a.put("jobs/x", "fenced", lease.Token))
	assert.Equal(t, "fenced", b.get("jobs/x"))
}

// What is wrong at the start is one clear line, and nothing stays behind.
func TestRefusedStarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { taken.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := gone.Addr().String()
	require.NoError(t, gone.Close())
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "not.pem"), []byte("x"), 0o600))
	for _, tc := range []struct {
		name string
		env  []string
		is   error
		want []string
	}{
		{"no schema", []string{"S3FENCE_STATE=sqlite:" + filepath.Join(dir, "none.db")}, state.ErrSchema, []string{"s3fence migrate"}},
		{"no database", []string{"S3FENCE_STATE=postgres://ann:hunter2@" + nobody + "/x"}, state.ErrUnavailable, []string{nobody}},
		{"no store", []string{"S3FENCE_UPSTREAMS__MAIN__ENDPOINT=http://" + nobody}, upstream.ErrUnreachable, []string{"upstream main", nobody}},
		{"unknown key at the store", []string{"S3FENCE_UPSTREAMS__MAIN__ACCESS_KEY=nobody"}, upstream.ErrCredentials, []string{"nobody", "check access_key"}},
		{"wrong secret at the store", []string{"S3FENCE_UPSTREAMS__MAIN__SECRET_KEY=wrong"}, upstream.ErrCredentials, []string{"check secret_key"}},
		{"no bucket", []string{"S3FENCE_BUCKETS__DATA__BUCKET=absent"}, upstream.ErrNoSuchBucket, []string{"absent"}},
		{"port taken", []string{"S3FENCE_LISTEN=" + taken.Addr().String()}, ErrListen, []string{taken.Addr().String(), "taken by another program"}},
		{"admin port taken", []string{"S3FENCE_ADMIN_LISTEN=" + taken.Addr().String()}, ErrListen, []string{"admin_listen"}},
		{"no certificate", []string{"S3FENCE_TLS__CERT_FILE=" + dir + "/not.pem", "S3FENCE_TLS__KEY_FILE=" + dir + "/not.pem"}, nil, []string{"tls", "check cert_file and key_file"}},
		{"no CA", []string{"S3FENCE_UPSTREAMS__MAIN__ENDPOINT=https://" + nobody, "S3FENCE_UPSTREAMS__MAIN__CA_FILE=" + dir + "/not.pem"}, nil, []string{"upstreams.main", "no PEM certificate"}},
		{"no spool", []string{"S3FENCE_LIMITS__SPOOL_DIR=" + dir + "/absent"}, ErrSpool, []string{"limits.spool_dir", dir + "/absent", "no such file or directory"}},
		{"pattern", []string{"S3FENCE_GUARDS__0__PATTERN=s3://data/a*/"}, nil, []string{"$S3FENCE_GUARDS__0__PATTERN: guards[0].pattern", "a whole segment only"}},
		{"overlap", []string{"S3FENCE_GUARDS__0__PATTERN=s3://data/a/", "S3FENCE_GUARDS__1__PATTERN=s3://data/*/"}, nil, []string{"guards[1].pattern: s3://data/*/ overlaps s3://data/a/"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, err := New(context.Background(), w.config(t, tc.env...), Options{})
			require.Error(t, err)
			assert.Nil(t, p)
			if tc.is != nil {
				assert.ErrorIs(t, err, tc.is)
			}
			for _, s := range tc.want {
				assert.Contains(t, err.Error(), s)
			}
			assert.NotContains(t, err.Error(), "\n")
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
}

// A guard that exists with another rule stops the start and names both.
func TestGuardThatDiffers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start(t, "S3FENCE_GUARDS__0__PATTERN=s3://data/jobs/")
	p, err := New(t.Context(), w.config(t, "S3FENCE_GUARDS__0__PATTERN=s3://data/jobs/", "S3FENCE_GUARDS__0__TOKENS=none"), Options{})
	require.NoError(t, err)
	err = p.Run(t.Context())
	require.ErrorContains(t, err, "tokens=none")
	require.ErrorContains(t, err, "tokens=required")
	lease, err := first.locks().Acquire(t.Context(), client.Acquisition{Scope: "s3://data/jobs/"})
	require.NoError(t, err)
	require.NoError(t, first.put("jobs/x", "goes on", lease.Token))
}

// While the state cannot be asked past the lease, changes are refused (F9) and
// /readyz says so.
func TestNotReadyWithoutLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, "S3FENCE_GUARD_LEASE=1s")
	require.NoError(t, p.state.Close())
	require.Eventually(t, func() bool {
		status, _ := body(t, "http://"+p.AdminAddr().String()+"/readyz")
		return status == http.StatusServiceUnavailable
	}, 20*time.Second, 20*time.Millisecond)
	_, text := body(t, "http://"+p.AdminAddr().String()+"/readyz")
	assert.Contains(t, text, "lease")
	assert.Equal(t, "ServiceUnavailable", code(p.put("plain", "x", 0)))
	status, _ := body(t, "http://"+p.AdminAddr().String()+"/healthz")
	assert.Equal(t, 200, status)
}

// A request that runs when the end begins is answered; new ones find no port.
func TestDrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t)
	put := p.slowPut("slow", 10)
	p.stop()
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", p.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	}, 10*time.Second, 5*time.Millisecond)
	status, text := body(t, "http://"+p.AdminAddr().String()+"/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Equal(t, "draining", text)
	_, err := put.Write([]byte("0123456789"))
	require.NoError(t, err)
	status, err = put.status()
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status)
	require.NoError(t, p.end())
	assert.Equal(t, "0123456789", w.start(t).get("slow"))
}

// A request that does not end within the drain timeout is cut.
func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, "S3FENCE_LIMITS__DRAIN_TIMEOUT=200ms")
	put := p.slowPut("never", 10)
	p.stop()
	require.NoError(t, p.end())
	_, err := put.status()
	require.Error(t, err)
}

// A client that stops sending in the middle of a body is cut after the stall
// timeout, with an answer or without, and its object does not exist.
func TestStalledUpload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, "S3FENCE_LIMITS__STALL_TIMEOUT=1s")
	put := p.slowPut("stalled", 1<<20)
	_, err := put.Write([]byte("01234"))
	require.NoError(t, err)
	if status, err := put.status(); err == nil {
		assert.GreaterOrEqual(t, status, 400)
	}
	_, err = put.answers.ReadByte()
	require.ErrorIs(t, err, io.EOF, "the connection is closed")
	_, err = p.s3().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("data"), Key: aws.String("stalled")})
	assert.Equal(t, "NotFound", code(err))
}

// The lock API stands on the endpoint's own host; under a bucket's host the same
// path is a key.
func TestRoute(t *testing.T) {
	t.Parallel()
	say := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	for _, tc := range []struct{ domain, host, path, want string }{
		{"", "h:9000", "/-/v1/locks", "api"},
		{"", "h:9000", "/data/-/v1/locks", "objects"},
		{"", "h:9000", "/", "objects"},
		{"", "h:9000", "/-", "objects"},
		{"s3.example.com", "s3.example.com:9000", "/-/v1/locks", "api"},
		{"s3.example.com", "data.s3.example.com:9000", "/-/v1/locks", "objects"},
		{"s3.example.com", "DATA.S3.EXAMPLE.COM", "/-/v1/locks", "objects"},
		{"s3.example.com", "127.0.0.1:9000", "/-/v1/locks", "api"},
	} {
		r := httptest.NewRequest(http.MethodGet, tc.path, nil)
		r.Host = tc.host
		w := httptest.NewRecorder()
		route(tc.domain, say("api"), say("objects")).ServeHTTP(w, r)
		assert.Equal(t, tc.want, w.Body.String(), "%+v", tc)
	}
}

// The embedded world keeps everything over a restart, and what somebody did to
// its guards.
func TestDev(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	start := func() *live {
		p, err := NewDev(t.Context(), DevOptions{Dir: dir, Listen: "127.0.0.1:0"})
		require.NoError(t, err)
		return run(t, p, &logBuffer{})
	}
	admin := func(r *live) *client.Client {
		c, err := client.New(r.url(), DevAccessKey, DevSecretKey)
		require.NoError(t, err)
		return c
	}
	p := start()
	list, err := admin(p).Guards(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, DevGuard, list[0].Pattern)
	lease, err := admin(p).Acquire(t.Context(), client.Acquisition{Scope: "s3://demo/a/", TTL: time.Hour})
	require.NoError(t, err)
	_, err = admin(p).SetGuard(t.Context(), client.Guard{Pattern: DevGuard, Tokens: "optional"})
	require.NoError(t, err)

	_, err = NewDev(t.Context(), DevOptions{Dir: dir, Listen: "127.0.0.1:0"})
	require.ErrorContains(t, err, "in use", "one process at a time")

	p.stop()
	require.NoError(t, p.end())
	p = start()
	list, err = admin(p).Guards(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, "optional", list[0].Tokens)
	_, err = admin(p).Acquire(t.Context(), client.Acquisition{Scope: "s3://demo/a/"})
	assert.ErrorIs(t, err, client.ErrHeld)
	scopes, _, err := admin(p).List(t.Context(), "", "", 10)
	require.NoError(t, err)
	assert.Equal(t, lease.Token, scopes[0].Mark)
}
