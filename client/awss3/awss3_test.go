package awss3_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/client/awss3"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const scope = "s3://data/jobs a/"

// service answers the lock service's calls, and whatever S3 is asked with 200.
type service struct {
	scope string // s3://data/jobs a/ where empty
	token int64  // 7 where 0

	mu   sync.Mutex
	lost bool
	s3   []*http.Request
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := func(status int, body string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
	switch path := r.URL.Path; {
	case s.lost && strings.HasPrefix(path, "/-/v1/"):
		return answer(412, `{"code":"LockLost","message":"8 was granted to bob","highest":8}`)
	case strings.HasSuffix(path, "/credentials"):
		return answer(200, fmt.Sprintf(`{"AccessKeyId":"fenced","SecretAccessKey":"secret","SessionToken":"sealed","Expiration":%q}`, time.Now().Add(time.Hour).Format(time.RFC3339)))
	case strings.HasPrefix(path, "/-/v1/"):
		return answer(200, fmt.Sprintf(`{"scope":%q,"token":%d,"ttl":"1s","expires_in_ms":1000}`, cmp.Or(s.scope, scope), cmp.Or(s.token, 7)))
	}
	s.s3 = append(s.s3, r)
	switch {
	case r.URL.Query().Has("uploads") && r.Method == http.MethodPost:
		return answer(200, `<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>`)
	default:
		return answer(200, `<Result/>`)
	}
}

// Do is for the SDK.
func (s *service) Do(r *http.Request) (*http.Response, error) { return s.RoundTrip(r) }

// sent is what S3 was sent since the last call.
func (s *service) sent() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.s3 = nil }()
	return s.s3
}

func (s *service) hold(t *testing.T) *client.Held {
	t.Helper()
	c, err := client.New("https://s3fence.test:9000", "k", "s", client.WithRegion("eu-north-1"), client.WithHTTPClient(&http.Client{Transport: s}))
	require.NoError(t, err)
	h, err := c.Hold(t.Context(), cmp.Or(s.scope, scope))
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Release(context.Background()) })
	return h
}

func (s *service) options(o *s3.Options) {
	o.BaseEndpoint, o.Region, o.HTTPClient = aws.String("https://s3fence.test:9000"), "us-east-1", s
	o.Credentials = credentials.NewStaticCredentialsProvider("own", "secret", "")
	o.RetryMaxAttempts = 1
}

// A request carries the token, signed, when all that it names lies in the scope,
// and is not touched otherwise.
func TestStamp(t *testing.T) {
	t.Parallel()
	s := &service{}
	held := s.hold(t)
	data, key := aws.String("data"), aws.String("jobs a/k")
	ctx := t.Context()
	ids := func(keys ...string) *types.Delete {
		d := &types.Delete{}
		for _, k := range keys {
			d.Objects = append(d.Objects, types.ObjectIdentifier{Key: aws.String(k)})
		}
		return d
	}
	for name, tc := range map[string]struct {
		do   func(c *s3.Client) error
		want bool
	}{
		"put": {func(c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: data, Key: key, Body: strings.NewReader("x")})
			return err
		}, true},
		"put, the scope's own key": {func(c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: data, Key: aws.String("jobs a/")})
			return err
		}, true},
		"put beside": {func(c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: data, Key: aws.String("jobs ab/k")})
			return err
		}, false},
		"put above": {func(c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: data, Key: aws.String("jobs a")})
			return err
		}, false},
		"put, another bucket": {func(c *s3.Client) error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("other"), Key: key})
			return err
		}, false},
		"get": {func(c *s3.Client) error {
			_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: data, Key: key})
			return err
		}, true},
		"head": {func(c *s3.Client) error {
			_, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: data, Key: key})
			return err
		}, true},
		"delete": {func(c *s3.Client) error {
			_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: data, Key: key})
			return err
		}, true},
		"delete elsewhere": {func(c *s3.Client) error {
			_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: data, Key: aws.String("k")})
			return err
		}, false},
		"tags": {func(c *s3.Client) error {
			_, err := c.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: data, Key: key, Tagging: &types.Tagging{TagSet: []types.Tag{}}})
			return err
		}, true},
		"copy into": {func(c *s3.Client) error {
			_, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: data, Key: key, CopySource: aws.String("other/x")})
			return err
		}, true},
		"copy out": {func(c *s3.Client) error {
			_, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: data, Key: aws.String("x"), CopySource: aws.String("data/jobs a/k")})
			return err
		}, false},
		"create upload": {func(c *s3.Client) error {
			_, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: data, Key: key})
			return err
		}, true},
		"upload part": {func(c *s3.Client) error {
			_, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: data, Key: key, UploadId: aws.String("u"), PartNumber: aws.Int32(1), Body: strings.NewReader("x")})
			return err
		}, true},
		"complete": {func(c *s3.Client) error {
			_, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: data, Key: key, UploadId: aws.String("u")})
			return err
		}, true},
		"abort": {func(c *s3.Client) error {
			_, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: data, Key: key, UploadId: aws.String("u")})
			return err
		}, true},
		"list inside": {func(c *s3.Client) error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: data, Prefix: aws.String("jobs a/x")})
			return err
		}, true},
		"list the old way": {func(c *s3.Client) error {
			_, err := c.ListObjects(ctx, &s3.ListObjectsInput{Bucket: data, Prefix: aws.String("jobs a/")})
			return err
		}, true},
		"list uploads": {func(c *s3.Client) error {
			_, err := c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: data, Prefix: aws.String("jobs a/")})
			return err
		}, true},
		"list above": {func(c *s3.Client) error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: data, Prefix: aws.String("jobs a")})
			return err
		}, false},
		"list all": {func(c *s3.Client) error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: data})
			return err
		}, false},
		"list buckets": {func(c *s3.Client) error {
			_, err := c.ListBuckets(ctx, &s3.ListBucketsInput{Prefix: aws.String("data")})
			return err
		}, false},
		"head bucket": {func(c *s3.Client) error { _, err := c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: data}); return err }, false},
		"batch inside": {func(c *s3.Client) error {
			_, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: data, Delete: ids("jobs a/1", "jobs a/2")})
			return err
		}, true},
		"batch outside": {func(c *s3.Client) error {
			_, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: data, Delete: ids("1", "2")})
			return err
		}, false},
		"batch, another bucket": {func(c *s3.Client) error {
			_, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: aws.String("other"), Delete: ids("jobs a/1")})
			return err
		}, false},
		"token for a single put": {nil, true},
	} {
		for _, style := range []string{"path", "host"} {
			c := s3.New(s3.Options{UsePathStyle: style == "path"}, s.options, awss3.Stamp(held))
			s.sent()
			if tc.do != nil {
				require.NoError(t, tc.do(c), name)
			} else {
				_, err := s3.New(s3.Options{}, s.options).PutObject(ctx, &s3.PutObjectInput{Bucket: data, Key: key}, awss3.Stamp(held))
				require.NoError(t, err)
			}
			sent := s.sent()
			require.Len(t, sent, 1, name)
			h := sent[0].Header
			signed, _, _ := strings.Cut(h.Get("Authorization")[strings.Index(h.Get("Authorization"), "SignedHeaders=")+len("SignedHeaders="):], ",")
			names := strings.Split(signed, ";")
			if tc.want {
				assert.Equal(t, "7", h.Get("X-Fencing-Token"), "%s, %s", name, style)
				assert.Equal(t, scope, h.Get("X-Fencing-Scope"), "%s, %s", name, style)
				assert.Contains(t, names, "x-fencing-token", name)
				assert.Contains(t, names, "x-fencing-scope", name)
			} else {
				assert.Empty(t, h["X-Fencing-Token"], "%s, %s", name, style)
				assert.Empty(t, h["X-Fencing-Scope"], "%s, %s", name, style)
			}
		}
	}
	c := s3.New(s3.Options{}, s.options, awss3.Stamp(held))
	_, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: data, Delete: ids("jobs a/1", "2")})
	require.ErrorIs(t, err, client.ErrInvalid)
	require.ErrorContains(t, err, "two batches")
	assert.Empty(t, s.sent())
}

// The token in a presigned URL stands in the query, where its user need not know
// of it.
func TestStampPresigned(t *testing.T) {
	t.Parallel()
	s := &service{}
	held := s.hold(t)
	presign := s3.NewPresignClient(s3.New(s3.Options{}, s.options, awss3.Stamp(held)))
	put, err := presign.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String("jobs a/k")})
	require.NoError(t, err)
	u, err := url.Parse(put.URL)
	require.NoError(t, err)
	assert.Equal(t, []string{"7"}, u.Query()["X-Fencing-Token"])
	assert.Equal(t, []string{scope}, u.Query()["X-Fencing-Scope"])
	assert.True(t, strings.HasPrefix(u.Query().Get("X-Amz-Credential"), "own/"))
	for name := range put.SignedHeader {
		assert.NotContains(t, strings.ToLower(name), "fencing")
	}
	put, err = presign.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String("k")})
	require.NoError(t, err)
	assert.NotContains(t, put.URL, "Fencing")
	assert.Empty(t, s.sent())
}

// Once the lock is lost nothing in its scope is signed any more.
func TestAfterTheLoss(t *testing.T) {
	t.Parallel()
	s := &service{}
	held := s.hold(t)
	stamping, fenced := s3.New(s3.Options{}, s.options, awss3.Stamp(held)), awss3.New(held, func(o *s3.Options) { o.HTTPClient = s })
	put := func(c *s3.Client, key string) error {
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: &key, Body: strings.NewReader("x")})
		return err
	}
	require.NoError(t, put(stamping, "jobs a/k"))
	require.NoError(t, put(fenced, "jobs a/k"))
	s.mu.Lock()
	s.lost = true
	s.mu.Unlock()
	<-held.Context().Done()
	s.sent()
	require.ErrorIs(t, put(stamping, "jobs a/k"), client.ErrLost)
	require.ErrorContains(t, put(stamping, "jobs a/k"), "8 was granted to bob")
	require.ErrorIs(t, put(fenced, "jobs a/k"), client.ErrLost)
	require.ErrorIs(t, put(fenced, "elsewhere"), client.ErrLost, "the credentials as a whole are the lock's")
	_, err := s3.NewPresignClient(stamping).PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String("jobs a/k")})
	require.ErrorIs(t, err, client.ErrLost)
	_, err = s3.NewPresignClient(fenced).PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String("jobs a/k")})
	require.ErrorIs(t, err, client.ErrLost)
	assert.Empty(t, s.sent())
	require.NoError(t, put(stamping, "elsewhere"))
}

// New signs with fenced credentials, for the service that the lock is from.
func TestNew(t *testing.T) {
	t.Parallel()
	s := &service{}
	held := s.hold(t)
	c := awss3.New(held, func(o *s3.Options) { o.HTTPClient = s })
	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String("jobs a/k"), Body: strings.NewReader("x")})
	require.NoError(t, err)
	sent := s.sent()
	require.Len(t, sent, 1)
	assert.Equal(t, "https://s3fence.test:9000/data/jobs%20a/k?x-id=PutObject", sent[0].URL.String())
	assert.Equal(t, "sealed", sent[0].Header.Get("X-Amz-Security-Token"))
	assert.Contains(t, sent[0].Header.Get("Authorization"), "Credential=fenced/")
	assert.Contains(t, sent[0].Header.Get("Authorization"), "/eu-north-1/s3/")
	assert.Empty(t, sent[0].Header["X-Fencing-Token"])
	got, err := s3.NewPresignClient(c).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("data"), Key: aws.String("jobs a/k")})
	require.NoError(t, err)
	assert.Contains(t, got.URL, "X-Amz-Security-Token=sealed")
}

// Several locks stamp through one client: each what lies in its scope, and of two
// on one scope the later.
func TestSeveralLocks(t *testing.T) {
	t.Parallel()
	s := &service{}
	held := s.hold(t)
	c := s3.New(s3.Options{}, s.options, awss3.Stamp(held))
	put := func(bucket, key string, options ...func(*s3.Options)) *http.Request {
		t.Helper()
		s.sent()
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key}, options...)
		require.NoError(t, err)
		return s.sent()[0]
	}
	elsewhere := &service{scope: "s3://other/", token: 5}
	both := awss3.Stamp(elsewhere.hold(t))
	assert.Equal(t, "7", put("data", "jobs a/k", both).Header.Get("X-Fencing-Token"))
	assert.Equal(t, "5", put("other", "k", both).Header.Get("X-Fencing-Token"))
	assert.Empty(t, put("third", "k", both).Header.Get("X-Fencing-Token"))

	require.NoError(t, held.Release(t.Context()))
	again := &service{token: 9}
	assert.Equal(t, "9", put("data", "jobs a/k", awss3.Stamp(again.hold(t))).Header.Get("X-Fencing-Token"))
}
