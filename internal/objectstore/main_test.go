package objectstore_test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"io"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/objectstore"
)

const (
	accessKey = "test-access"
	secretKey = "test-secret"
	bucket    = "bucket"
)

// TestMain lets the durability test run this binary as the process it kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		childMain(dir)
	}
	os.Exit(m.Run())
}

// world is a store behind a loopback listener and two clients of it.
type world struct {
	store *objectstore.Store
	url   string
	aws   *s3.Client
	minio *minio.Client
}

func newWorld(t testing.TB) *world {
	return openWorld(t, t.TempDir(), objectstore.Options{})
}

func openWorld(t testing.TB, dir string, opts objectstore.Options) *world {
	t.Helper()
	opts.AccessKey, opts.SecretKey = accessKey, secretKey
	store, err := objectstore.Open(t.Context(), dir, opts)
	require.NoError(t, err)
	server := httptest.NewServer(store.Handler())
	t.Cleanup(func() {
		server.Close()
		require.NoError(t, store.Close())
	})
	if err := store.CreateBucket(t.Context(), bucket); err != nil {
		require.ErrorIs(t, err, objectstore.ErrBucketExists)
	}
	mc, err := minio.New(server.Listener.Addr().String(), &minio.Options{
		Creds: miniocreds.NewStaticV4(accessKey, secretKey, ""), Region: "us-east-1", MaxRetries: 1,
	})
	require.NoError(t, err)
	return &world{store: store, url: server.URL, aws: awsClient(server.URL, secretKey), minio: mc}
}

func awsClient(url, secret string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(url),
		Region:       "us-east-1",
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(accessKey, secret, ""),
		Retryer:      aws.NopRetryer{},
	})
}

func (w *world) put(t testing.TB, key string, content []byte) string {
	t.Helper()
	out, err := w.aws.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key, Body: bytes.NewReader(content)})
	require.NoError(t, err)
	return *out.ETag
}

func (w *world) get(t testing.TB, key string) []byte {
	t.Helper()
	out, err := w.aws.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key})
	require.NoError(t, err)
	defer out.Body.Close()
	content, err := io.ReadAll(out.Body)
	require.NoError(t, err)
	return content
}

func md5Of(b []byte) string {
	sum := md5.Sum(b)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// statusOf returns the HTTP status of an SDK error, 0 for none.
func statusOf(err error) int {
	if err == nil {
		return 0
	}
	var e interface{ HTTPStatusCode() int }
	if asError(err, &e) {
		return e.HTTPStatusCode()
	}
	if r := minio.ToErrorResponse(err); r.StatusCode != 0 {
		return r.StatusCode
	}
	return -1
}

// pattern returns n bytes that differ at every offset of interest.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	x := uint32(seed) + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}
