package objectstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/objectstore"
)

const (
	waitLong = 10 * time.Second
	waitStep = 5 * time.Millisecond
)

// tampering puts a proxy in between that alters bodies.
func tampering(t *testing.T, w *world, alter func([]byte) []byte) string {
	t.Helper()
	target, err := url.Parse(w.url)
	require.NoError(t, err)
	server := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
		if r.In.Method == http.MethodPut {
			body, _ := io.ReadAll(r.In.Body)
			body = alter(body)
			r.Out.Body, r.Out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
	}})
	t.Cleanup(server.Close)
	return server.URL
}

func minioClient(t *testing.T, endpoint string, trailing bool) *minio.Client {
	t.Helper()
	c, err := minio.New(strings.TrimPrefix(endpoint, "http://"), &minio.Options{
		Creds: miniocreds.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1", TrailingHeaders: trailing, MaxRetries: 1,
	})
	require.NoError(t, err)
	return c
}

func TestChunkedBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := pattern(200<<10, 1)
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b = bytes.Clone(b); b[at] ^= 1; return b }
	}
	for _, c := range []struct {
		name     string
		trailing bool
		checksum minio.ChecksumType
		alter    func([]byte) []byte
		code     string
	}{
		{"signed chunks", false, minio.ChecksumNone, nil, ""},
		{"signed chunks and trailer", true, minio.ChecksumCRC32C, nil, ""},
		{"signed chunks and crc64nvme trailer", true, minio.ChecksumCRC64NVME, nil, ""},
		{"flipped byte in the first chunk", false, minio.ChecksumNone, flip(1000), "SignatureDoesNotMatch"},
		{"flipped byte in a late chunk", true, minio.ChecksumCRC32C, flip(150 << 10), "SignatureDoesNotMatch"},
		{"first chunk made the last", false, minio.ChecksumNone, flip(0), "SignatureDoesNotMatch"},
		{"chunk size no number", false, minio.ChecksumNone, func(b []byte) []byte { return append([]byte("zz"), b...) }, "IncompleteBody"},
		{"without its end", false, minio.ChecksumNone, func(b []byte) []byte { return b[:len(b)-90] }, "IncompleteBody"},
		{"trailer altered", true, minio.ChecksumCRC32C, func(b []byte) []byte {
			return bytes.Replace(b, []byte("x-amz-checksum-crc32c:"), []byte("x-amz-checksum-crc32c:A"), 1)
		}, "SignatureDoesNotMatch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			endpoint := w.url
			if c.alter != nil {
				endpoint = tampering(t, w, c.alter)
			}
			client := minioClient(t, endpoint, c.trailing)
			_, err := client.PutObject(t.Context(), bucket, c.name, bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{Checksum: c.checksum, DisableMultipart: true})
			if c.code == "" {
				require.NoError(t, err)
				require.True(t, bytes.Equal(content, w.get(t, c.name)))
				return
			}
			require.Equal(t, c.code, minio.ToErrorResponse(err).Code)
			_, err = w.minio.StatObject(t.Context(), bucket, c.name, minio.StatObjectOptions{})
			require.Equal(t, "NoSuchKey", minio.ToErrorResponse(err).Code)
		})
	}
}

func TestRefusedBodiesLeaveNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openWorld(t, dir, objectstore.Options{})
	big := string(pattern(300<<10, 1))
	for _, c := range []struct {
		name   string
		header http.Header
		body   io.Reader
		status int
	}{
		{"no length", nil, io.MultiReader(strings.NewReader("unknown")), 411},
		{"wrong Content-MD5 of a large body", http.Header{"Content-Md5": {"1B2M2Y8AsgTpgAmY7PhCfg=="}}, strings.NewReader(big), 400},
		{"wrong checksum of a large body", http.Header{"X-Amz-Checksum-Sha256": {"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}}, strings.NewReader(big), 400},
		{"customer's key", http.Header{"X-Amz-Server-Side-Encryption-Customer-Algorithm": {"AES256"}}, strings.NewReader("x"), 501},
		{"condition false", http.Header{"If-Match": {"*"}}, strings.NewReader(big), 404},
		{"huge metadata", http.Header{"X-Amz-Meta-A": {strings.Repeat("a", 17<<10)}}, strings.NewReader("x"), 400},
	} {
		r := presigned(t, w, "PUT", "/bucket/k", "", c.header, time.Now(), "60")
		out, err := http.NewRequestWithContext(t.Context(), http.MethodPut, r.URL.String(), c.body)
		require.NoError(t, err)
		out.Header = r.Header
		status, text := send(t, out)
		require.Equal(t, c.status, status, "%s: %s", c.name, text)
		require.Zero(t, blobFiles(t, dir), c.name)
	}
	page, err := w.minio.StatObject(t.Context(), bucket, "k", minio.StatObjectOptions{})
	require.Error(t, err, page)
}

// A sender that dies in the middle of a body leaves the old object, and nothing is
// wrong with the store.
func TestCutBodyKeepsTheOldObject(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(c *net.TCPConn) error{
		"closed": (*net.TCPConn).CloseWrite,
		"reset":  func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var log logs
			w := openWorld(t, dir, objectstore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			w.put(t, "k", []byte("old"))
			r := presigned(t, w, "PUT", "/bucket/k", "", nil, time.Now(), "60")
			conn, err := net.Dial("tcp", r.URL.Host)
			require.NoError(t, err)
			defer conn.Close()
			_, err = fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 1048576\r\n\r\n%s", r.URL.RequestURI(), r.URL.Host, pattern(500<<10, 1))
			require.NoError(t, err)
			require.Eventually(t, func() bool { return blobFiles(t, dir) == 1 }, waitLong, waitStep)
			require.NoError(t, end(conn.(*net.TCPConn)))
			require.Eventually(t, func() bool { return blobFiles(t, dir) == 0 }, waitLong, waitStep)
			require.Equal(t, []byte("old"), w.get(t, "k"))
			require.Empty(t, log.String())
		})
	}
}

// logs may be written while it is read.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
