package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// Round trips with aws-sdk-go-v2 in every form in which it sends a body.
func TestGoSDK(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"http", "https"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			c := NewCluster(t, Options{TLS: transport == "https", Guards: []Guard{{Prefix: "jobs/"}, {Prefix: "free/", Tokens: "none"}}})
			token := c.Take("jobs/", "the Go SDK")
			c.Run(t, "unguarded", func(t *testing.T) { goSDKStory(t, c, "open/") })
			c.Run(t, "tokens none", func(t *testing.T) { goSDKStory(t, c, "free/") })
			c.Run(t, "token in a header", func(t *testing.T) { goSDKStory(t, c, "jobs/", TokenHeader(token)) })
			c.Run(t, "token in the query", func(t *testing.T) { goSDKStory(t, c, "jobs/", TokenQuery(token)) })
			c.Run(t, "presigned with a token", func(t *testing.T) { presignedStory(t, c, token) })
			c.Run(t, "stale", func(t *testing.T) {
				next := c.Take("jobs/", "next")
				_, err := c.Proxies[0].S3(TokenHeader(token)).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &c.Bucket, Key: aws.String("jobs/late"), Body: strings.NewReader("late")})
				wantAPIError(t, err, "StaleFencingToken")
				_, err = c.Proxies[0].S3(TokenHeader(next)).PutObject(t.Context(), &s3.PutObjectInput{Bucket: &c.Bucket, Key: aws.String("jobs/late"), Body: strings.NewReader("in time")})
				require.NoError(t, err)
			})
		})
	}
}

func wantAPIError(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Fatalf("want %s, got %v", code, err)
	}
}

// stream hides that a body can be read twice.
type stream struct{ io.Reader }

func goSDKStory(t *testing.T, c *Cluster, prefix string, options ...func(*s3.Options)) {
	ctx := t.Context()
	client := c.Proxies[0].S3(options...)
	secure := c.cert != nil
	random := func(n int) []byte {
		b := make([]byte, n)
		_, err := rand.Read(b)
		require.NoError(t, err)
		return b
	}
	get := func(key string) []byte {
		t.Helper()
		out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &c.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
		require.NoError(t, err)
		defer out.Body.Close()
		body, err := io.ReadAll(out.Body)
		require.NoError(t, err)
		return body
	}
	unsigned := s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	for name, put := range map[string]struct {
		size    int
		stream  bool
		sum     types.ChecksumAlgorithm
		options []func(*s3.Options)
		tlsOnly bool
	}{
		"small":               {size: 3},
		"empty":               {size: 0},
		"3 MiB":               {size: 3 << 20},
		"crc32c":              {size: 70_000, sum: types.ChecksumAlgorithmCrc32c},
		"crc64nvme":           {size: 70_000, sum: types.ChecksumAlgorithmCrc64nvme},
		"sha256":              {size: 70_000, sum: types.ChecksumAlgorithmSha256},
		"unsigned payload":    {size: 70_000, options: []func(*s3.Options){unsigned}},
		"streamed, trailer":   {size: 70_000, stream: true, sum: types.ChecksumAlgorithmCrc32, tlsOnly: true},
		"streamed, 3 MiB":     {size: 3 << 20, stream: true, sum: types.ChecksumAlgorithmSha1, tlsOnly: true},
		"streamed, crc64nvme": {size: 1, stream: true, sum: types.ChecksumAlgorithmCrc64nvme, tlsOnly: true},
	} {
		if put.tlsOnly && !secure {
			continue
		}
		body := random(put.size)
		in := &s3.PutObjectInput{Bucket: &c.Bucket, Key: aws.String(prefix + name), Body: bytes.NewReader(body), ChecksumAlgorithm: put.sum, Metadata: map[string]string{"name": name}}
		if put.stream {
			in.Body = stream{bytes.NewReader(body)}
			in.ContentLength = aws.Int64(int64(len(body)))
		}
		out, err := client.PutObject(ctx, in, put.options...)
		require.NoError(t, err, name)
		assert.Equal(t, `"`+hexMD5(string(body))+`"`, *out.ETag, name)
		assert.True(t, bytes.Equal(body, get(prefix+name)), name)
		head, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &c.Bucket, Key: in.Key})
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"name": name}, head.Metadata)
		assert.Equal(t, int64(len(body)), *head.ContentLength)
	}
	// A body whose length nobody says, over TLS.
	if secure {
		body := random(100_000)
		_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: &c.Bucket, Key: aws.String(prefix + "unknown length"), Body: stream{bytes.NewReader(body)}})
		require.NoError(t, err)
		assert.True(t, bytes.Equal(body, get(prefix+"unknown length")))
	}

	// Parts sent at once.
	key := prefix + "parts"
	whole := random(3*(5<<20) + 77)
	begun, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &c.Bucket, Key: &key})
	require.NoError(t, err)
	parts := make([]types.CompletedPart, 4)
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range parts {
		group.Go(func() error {
			number := aws.Int32(int32(i + 1))
			piece := whole[i*(5<<20) : min((i+1)*(5<<20), len(whole))]
			out, err := client.UploadPart(groupCtx, &s3.UploadPartInput{Bucket: &c.Bucket, Key: &key, UploadId: begun.UploadId, PartNumber: number, Body: bytes.NewReader(piece)})
			if err != nil {
				return err
			}
			parts[i] = types.CompletedPart{ETag: out.ETag, PartNumber: number}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	done, err := client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &c.Bucket, Key: &key, UploadId: begun.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(*done.ETag, `-4"`), *done.ETag)
	assert.True(t, bytes.Equal(whole, get(key)))

	// Copy, list, delete.
	_, err = client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &c.Bucket, Key: aws.String(prefix + "copy"), CopySource: aws.String(url.PathEscape(c.Bucket + "/" + key))})
	require.NoError(t, err)
	assert.True(t, bytes.Equal(whole, get(prefix+"copy")))
	var keys []types.ObjectIdentifier
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &c.Bucket, Prefix: &prefix, MaxKeys: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		require.NoError(t, err)
		for _, o := range page.Contents {
			keys = append(keys, types.ObjectIdentifier{Key: o.Key})
		}
	}
	assert.GreaterOrEqual(t, len(keys), 9)
	gone, err := client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &c.Bucket, Delete: &types.Delete{Objects: keys}})
	require.NoError(t, err)
	assert.Empty(t, gone.Errors)
	assert.Empty(t, keysBelow(t, c.Proxies[0], c.Bucket, prefix))
}

// presignedStory hands out links that carry the token as a signed parameter.
func presignedStory(t *testing.T, c *Cluster, token int64) {
	ctx := t.Context()
	p := c.Proxies[0]
	presign := s3.NewPresignClient(p.S3(TokenQuery(token)))
	key := "jobs/by-link"
	put, err := presign.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: &c.Bucket, Key: &key})
	require.NoError(t, err)
	require.Contains(t, put.URL, "X-Fencing-Token=")
	use := func(method, link, body string, header http.Header) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, method, link, strings.NewReader(body))
		require.NoError(t, err)
		for name, values := range header {
			if name != "Host" && name != "Content-Length" {
				req.Header[name] = values
			}
		}
		answer, err := p.do(req)
		require.NoError(t, err)
		return answer.Status, answer.Body
	}
	status, said := use("PUT", put.URL, "by link", put.SignedHeader)
	require.Equal(t, 200, status, said)
	got, err := presign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &c.Bucket, Key: &key})
	require.NoError(t, err)
	status, said = use("GET", got.URL, "", got.SignedHeader)
	assert.Equal(t, 200, status)
	assert.Equal(t, "by link", said)
	// The token cannot be taken out of the link, nor another one put in.
	bare := strings.Replace(put.URL, "X-Fencing-Token=", "X-Other=", 1)
	status, _ = use("PUT", bare, "forged", put.SignedHeader)
	assert.Equal(t, 403, status)
	assert.Equal(t, "by link", p.Get(t, key))
}
