package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/objectstore"
)

// world is a store and a migrated state, over which proxies start.
type world struct {
	store string
	state string
}

// newWorld makes one; wrap, where given, stands in front of the store.
func newWorld(t *testing.T, wrap ...func(http.Handler) http.Handler) *world {
	t.Helper()
	dir := t.TempDir()
	st, err := objectstore.Open(t.Context(), filepath.Join(dir, "objects"), objectstore.Options{AccessKey: "proxy", SecretKey: "upstream-secret"})
	require.NoError(t, err)
	require.NoError(t, st.CreateBucket(t.Context(), "data"))
	h := st.Handler()
	for _, w := range wrap {
		h = w(h)
	}
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.Close()
		require.NoError(t, st.Close())
	})
	w := &world{store: server.URL, state: "sqlite:" + filepath.Join(dir, "state.db")}
	require.NoError(t, Migrate(t.Context(), config.State(w.state)))
	return w
}

// fill puts an object of zeros into the store, past every proxy.
func (w *world) fill(bucket, key string, size int) error {
	c := s3.New(s3.Options{
		BaseEndpoint: aws.String(w.store), Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("proxy", "upstream-secret", ""),
	})
	_, err := c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(make([]byte, size))})
	return err
}

// config is one that works, changed by more variables.
func (w *world) config(t *testing.T, more ...string) *config.Config {
	t.Helper()
	c, err := config.Load("", append([]string{
		"S3FENCE_LISTEN=127.0.0.1:0", "S3FENCE_ADMIN_LISTEN=127.0.0.1:0", "S3FENCE_STATE=" + w.state,
		"S3FENCE_UPSTREAMS__MAIN__ENDPOINT=" + w.store,
		"S3FENCE_UPSTREAMS__MAIN__ACCESS_KEY=proxy", "S3FENCE_UPSTREAMS__MAIN__SECRET_KEY=upstream-secret",
		"S3FENCE_BUCKETS__DATA__BUCKET=data",
		"S3FENCE_CREDENTIALS__0__ACCESS_KEY=ann", "S3FENCE_CREDENTIALS__0__SECRET_KEY=ann-secret",
		"S3FENCE_CREDENTIALS__0__RIGHTS=read,write,lock,admin", "S3FENCE_CREDENTIALS__0__BUCKETS=*",
		"S3FENCE_GUARD_LEASE=2s",
	}, more...))
	require.NoError(t, err)
	return c
}

// live is a proxy that serves.
type live struct {
	*Proxy
	t    *testing.T
	stop context.CancelFunc
	log  *logBuffer
	end  func() error // waits for Run
}

func (w *world) start(t *testing.T, more ...string) *live {
	t.Helper()
	log := &logBuffer{}
	p, err := New(t.Context(), w.config(t, more...), Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(t, err)
	return run(t, p, log)
}

func run(t *testing.T, p *Proxy, log *logBuffer) *live {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	end := sync.OnceValue(func() error {
		select {
		case err := <-ended:
			return err
		case <-time.After(30 * time.Second):
			return fmt.Errorf("Run does not end; log:\n%s", log)
		}
	})
	t.Cleanup(func() {
		stop()
		require.NoError(t, end())
	})
	select {
	case <-p.Serving():
	case <-time.After(30 * time.Second):
		t.Fatalf("the proxy does not serve; log:\n%s", log)
	}
	return &live{p, t, stop, log, end}
}

func (r *live) url() string {
	scheme := "http"
	if r.config.TLS.CertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + r.Addr().String()
}

func (r *live) s3(opts ...func(*s3.Options)) *s3.Client {
	o := s3.Options{
		BaseEndpoint: aws.String(r.url()), Region: "us-east-1", UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("ann", "ann-secret", ""),
	}
	if r.config.TLS.CertFile != "" {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		r.t.Cleanup(transport.CloseIdleConnections)
		o.HTTPClient = &http.Client{Transport: transport}
	}
	return s3.New(o, opts...)
}

func (r *live) locks() *client.Client {
	r.t.Helper()
	c, err := client.New(r.url(), "ann", "ann-secret")
	require.NoError(r.t, err)
	return c
}

func (r *live) put(key, body string, token int64) error {
	_, err := r.s3().PutObject(r.t.Context(), &s3.PutObjectInput{
		Bucket: aws.String("data"), Key: aws.String(key), Body: bytes.NewReader([]byte(body)),
	}, withToken(token))
	return err
}

func (r *live) get(key string) string {
	r.t.Helper()
	out, err := r.s3().GetObject(r.t.Context(), &s3.GetObjectInput{Bucket: aws.String("data"), Key: aws.String(key)})
	require.NoError(r.t, err)
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	require.NoError(r.t, err)
	return string(b)
}

// slowPut begins an upload whose bytes the test sends, over a connection of its
// own: Go's client buffers, and waits for a body even after the server hung up.
func (r *live) slowPut(key string, length int) *rawPut {
	r.t.Helper()
	signed, err := s3.NewPresignClient(r.s3()).PresignPutObject(r.t.Context(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String(key)})
	require.NoError(r.t, err)
	u, err := url.Parse(signed.URL)
	require.NoError(r.t, err)
	c, err := net.Dial("tcp", r.Addr().String())
	require.NoError(r.t, err)
	r.t.Cleanup(func() { c.Close() })
	require.NoError(r.t, c.SetDeadline(time.Now().Add(30*time.Second)))
	// With Expect, 100 Continue says that the body is being read.
	_, err = fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", u.RequestURI(), u.Host, length)
	require.NoError(r.t, err)
	answers := bufio.NewReader(c)
	line, err := answers.ReadString('\n')
	require.NoError(r.t, err)
	require.Equal(r.t, "HTTP/1.1 100 Continue\r\n", line)
	_, err = answers.ReadString('\n')
	require.NoError(r.t, err)
	return &rawPut{c, answers}
}

type rawPut struct {
	net.Conn
	answers *bufio.Reader
}

// status waits for the answer; an error where the connection ends without one.
func (p *rawPut) status() (int, error) {
	resp, err := http.ReadResponse(p.answers, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// withToken sends a fencing token as a signed header; none where it is zero.
func withToken(token int64) func(*s3.Options) {
	return func(o *s3.Options) {
		if token == 0 {
			return
		}
		o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error {
			return s.Build.Add(middleware.BuildMiddlewareFunc("token", func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
				in.Request.(*smithyhttp.Request).Header.Set("X-Fencing-Token", fmt.Sprint(token))
				return next.HandleBuild(ctx, in)
			}), middleware.After)
		})
	}
}

// logBuffer is a log that is read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
