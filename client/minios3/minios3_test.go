package minios3_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/client/minios3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const scope = "s3://data/jobs/"

// service answers the lock service's calls, and whatever S3 is asked with 200.
type service struct {
	mu          sync.Mutex
	lost        bool
	credentials int
	s3          []*http.Request
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := func(status int, body string) (*http.Response, error) {
		header := http.Header{"Etag": {`"e"`}, "Last-Modified": {"Fri, 02 Jan 2026 03:04:05 GMT"}, "Content-Length": {fmt.Sprint(len(body))}}
		return &http.Response{StatusCode: status, Header: header, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	switch path := r.URL.Path; {
	case s.lost && strings.HasPrefix(path, "/-/v1/"):
		return answer(412, `{"code":"LockLost","message":"8 was granted to bob","highest":8}`)
	case strings.HasSuffix(path, "/credentials"):
		s.credentials++
		return answer(200, fmt.Sprintf(`{"AccessKeyId":"fenced","SecretAccessKey":"secret","SessionToken":"sealed","Expiration":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339)))
	case strings.HasPrefix(path, "/-/v1/"):
		return answer(200, fmt.Sprintf(`{"scope":%q,"token":7,"ttl":"1s","expires_in_ms":1000}`, scope))
	}
	s.s3 = append(s.s3, r)
	return answer(200, `<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>`)
}

// sent is what S3 was sent since the last call.
func (s *service) sent() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.s3 = nil }()
	return s.s3
}

func (s *service) hold(t *testing.T) *client.Held {
	t.Helper()
	c, err := client.New("http://s3fence.test:9000", "k", "s", client.WithRegion("eu-north-1"), client.WithHTTPClient(&http.Client{Transport: s}))
	require.NoError(t, err)
	h, err := c.Hold(t.Context(), scope)
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Release(context.Background()) })
	return h
}

func (s *service) own(t *testing.T) *minio.Client {
	t.Helper()
	c, err := minio.New("s3fence.test:9000", &minio.Options{Creds: credentials.NewStaticV4("own", "secret", ""), Region: "us-east-1", Transport: s, MaxRetries: 1})
	require.NoError(t, err)
	return c
}

// signed says which headers a request signs.
func signed(r *http.Request) []string {
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	names, _, _ := strings.Cut(rest, ",")
	return strings.Split(names, ";")
}

// New signs everything with fenced credentials, deletes and presigned URLs
// included.
func TestNew(t *testing.T) {
	t.Parallel()
	s := &service{}
	held := s.hold(t)
	given := &minio.Options{Transport: s, MaxRetries: 1}
	c, err := minios3.New(held, given)
	require.NoError(t, err)
	assert.Nil(t, given.Creds, "the caller's options stay as they are")
	ctx := t.Context()
	_, err = c.PutObject(ctx, "data", "jobs/k", strings.NewReader("x"), 1, minio.PutObjectOptions{})
	require.NoError(t, err)
	require.NoError(t, c.RemoveObject(ctx, "data", "jobs/k", minio.RemoveObjectOptions{}))
	sent := s.sent()
	require.Len(t, sent, 2)
	for _, r := range sent {
		assert.Equal(t, "http://s3fence.test:9000/data/jobs/k", r.URL.String())
		assert.Equal(t, "sealed", r.Header.Get("X-Amz-Security-Token"))
		assert.Contains(t, r.Header.Get("Authorization"), "Credential=fenced/")
		assert.Contains(t, r.Header.Get("Authorization"), "/eu-north-1/s3/")
	}
	link, err := c.PresignedPutObject(ctx, "data", "jobs/k", time.Minute)
	require.NoError(t, err)
	assert.Equal(t, "sealed", link.Query().Get("X-Amz-Security-Token"))
	_, err = minios3.New(held, nil)
	require.NoError(t, err)
	assert.Equal(t, 1, s.credentials, "of one hold, for all its clients")
}

// Once the lock is lost there are no credentials, and nothing to stamp with.
func TestAfterTheLoss(t *testing.T) {
	t.Parallel()
	s := &service{}
	held := s.hold(t)
	c, err := minios3.New(held, &minio.Options{Transport: s, MaxRetries: 1})
	require.NoError(t, err)
	ctx := t.Context()
	require.NoError(t, c.RemoveObject(ctx, "data", "jobs/k", minio.RemoveObjectOptions{}))
	s.mu.Lock()
	s.lost = true
	s.mu.Unlock()
	<-held.Context().Done()
	s.sent()
	require.ErrorIs(t, c.RemoveObject(ctx, "data", "jobs/k", minio.RemoveObjectOptions{}), client.ErrLost)
	_, err = c.PresignedPutObject(ctx, "data", "jobs/k", time.Minute)
	require.ErrorIs(t, err, client.ErrLost)
	_, err = minios3.Credentials(held).GetWithContext(nil)
	require.ErrorIs(t, err, client.ErrLost)
	require.ErrorIs(t, minios3.StampPut(held, &minio.PutObjectOptions{}), client.ErrLost)
	require.ErrorIs(t, minios3.StampCopy(held, &minio.CopyDestOptions{ReplaceMetadata: true}), client.ErrLost)
	require.ErrorIs(t, minios3.StampGet(held, &minio.GetObjectOptions{}), client.ErrLost)
	_, err = minios3.Query(held)
	require.ErrorIs(t, err, client.ErrLost)
	assert.Empty(t, s.sent())
}

// Credentials are asked for anew by the time the lease could be over.
func TestCredentialsExpire(t *testing.T) {
	t.Parallel()
	s := &service{}
	held := s.hold(t)
	c := minios3.Credentials(held)
	assert.True(t, c.IsExpired(), "none yet")
	v, err := c.GetWithContext(nil)
	require.NoError(t, err)
	assert.Equal(t, "fenced", v.AccessKeyID)
	assert.Equal(t, credentials.SignatureV4, v.SignerType)
	assert.LessOrEqual(t, time.Until(v.Expiration), time.Second)
	assert.False(t, c.IsExpired())
	time.Sleep(time.Until(v.Expiration))
	assert.True(t, c.IsExpired())
	again, err := c.GetWithContext(nil)
	require.NoError(t, err)
	assert.True(t, again.Expiration.After(v.Expiration), "the lease was renewed")
	assert.Equal(t, 1, s.credentials)
}

func TestStamps(t *testing.T) {
	t.Parallel()
	s := &service{}
	held := s.hold(t)
	c := s.own(t)
	ctx := t.Context()
	one := func() *http.Request {
		t.Helper()
		sent := s.sent()
		require.Len(t, sent, 1)
		return sent[0]
	}
	meta := map[string]string{"colour": "blue", "FENCING-token": "6"}
	put := minio.PutObjectOptions{UserMetadata: meta}
	require.NoError(t, minios3.StampPut(held, &put))
	_, err := c.PutObject(ctx, "data", "jobs/k", strings.NewReader("x"), 1, put)
	require.NoError(t, err)
	r := one()
	assert.Equal(t, []string{"7"}, r.Header.Values("X-Amz-Meta-Fencing-Token"))
	assert.Equal(t, []string{scope}, r.Header.Values("X-Amz-Meta-Fencing-Scope"))
	assert.Equal(t, "blue", r.Header.Get("X-Amz-Meta-Colour"))
	assert.Contains(t, signed(r), "x-amz-meta-fencing-token")
	assert.Equal(t, map[string]string{"colour": "blue", "FENCING-token": "6"}, meta, "the caller's map stays as it is")

	to := minio.CopyDestOptions{Bucket: "data", Object: "jobs/k"}
	require.ErrorIs(t, minios3.StampCopy(held, &to), client.ErrInvalid)
	to.ReplaceMetadata = true
	require.NoError(t, minios3.StampCopy(held, &to))
	_, err = c.CopyObject(ctx, to, minio.CopySrcOptions{Bucket: "other", Object: "x"})
	require.NoError(t, err)
	r = one()
	assert.Equal(t, "7", r.Header.Get("X-Amz-Meta-Fencing-Token"))
	assert.Equal(t, "REPLACE", r.Header.Get("X-Amz-Metadata-Directive"))
	assert.Contains(t, signed(r), "x-amz-meta-fencing-token")

	get := minio.GetObjectOptions{}
	require.NoError(t, minios3.StampGet(held, &get))
	_, err = c.StatObject(ctx, "data", "jobs/k", get)
	require.NoError(t, err)
	r = one()
	assert.Equal(t, "7", r.Header.Get("X-Fencing-Token"))
	assert.Equal(t, scope, r.Header.Get("X-Fencing-Scope"))
	assert.Contains(t, signed(r), "x-fencing-token")

	query, err := minios3.Query(held)
	require.NoError(t, err)
	link, err := c.Presign(ctx, http.MethodPut, "data", "jobs/k", time.Minute, query)
	require.NoError(t, err)
	assert.Equal(t, []string{"7"}, link.Query()["X-Fencing-Token"])
	assert.Equal(t, []string{scope}, link.Query()["X-Fencing-Scope"])
	assert.Equal(t, url.Values{"X-Fencing-Token": {"7"}, "X-Fencing-Scope": {scope}}, query)
}
