package e2e

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Clients that were told which checksum to use: over http they send it in a header
// and sign the body, over TLS in the trailer of unsigned chunks, and where they
// cannot read a body twice in a trailer always. What they then read they compare by
// themselves. boto3 has its own test, with the algorithms that it knows without
// awscrt: TestBoto3, TestBoto3OverTLS.
func TestIntegrityOfClients(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run("tls "+strconv.FormatBool(secure), func(t *testing.T) {
			t.Parallel()
			c := NewCluster(t, Options{TLS: secure, Guards: []Guard{{Prefix: "jobs/"}, {Prefix: "free/", Tokens: "none"}}})
			p := c.Proxies[0]
			token := c.Take("jobs/", "integrity")
			for _, prefix := range []string{"open/", "jobs/", "free/"} {
				var options []func(*s3.Options)
				if prefix == "jobs/" {
					options = append(options, TokenHeader(token))
				}
				client := p.S3(options...)
				for _, algorithm := range types.ChecksumAlgorithm("").Values() {
					if _, known := sums[strings.ToLower(string(algorithm))]; !known {
						continue
					}
					for _, size := range []int{0, 9 << 10, 2 << 20} {
						sdkRoundTrip(t, client, c.Bucket, prefix, algorithm, marked(string(algorithm), size), secure)
					}
				}
			}
			// minio-go knows no header of ours on a PUT, so it writes where none is needed.
			client := p.MinIO(t, func(o *minio.Options) { o.TrailingHeaders = true })
			for _, prefix := range []string{"open/", "free/"} {
				for _, kind := range []minio.ChecksumType{minio.ChecksumCRC32, minio.ChecksumCRC32C, minio.ChecksumCRC64NVME, minio.ChecksumSHA1, minio.ChecksumSHA256} {
					for _, size := range []int{9 << 10, 2 << 20} {
						content := marked(kind.String(), size)
						key := fmt.Sprintf("%sminio-%s-%d", prefix, kind, size)
						info, err := client.PutObject(t.Context(), c.Bucket, key, bytes.NewReader(content), int64(size), minio.PutObjectOptions{Checksum: kind, DisableMultipart: true})
						require.NoError(t, err, key)
						assert.Equal(t, hexMD5(string(content)), info.ETag, key)
						o, err := client.GetObject(t.Context(), c.Bucket, key, minio.GetObjectOptions{Checksum: true})
						require.NoError(t, err, key)
						got, err := io.ReadAll(o)
						require.NoError(t, err, key)
						assert.Equal(t, string(content), string(got), key)
						stat, err := o.Stat()
						require.NoError(t, err, key)
						want := sumOf(strings.ToLower(kind.String()), content)
						assert.Contains(t, []string{stat.ChecksumCRC32, stat.ChecksumCRC32C, stat.ChecksumCRC64NVME, stat.ChecksumSHA1, stat.ChecksumSHA256}, want, key)
					}
				}
			}
		})
	}
}

func sdkRoundTrip(t *testing.T, client *s3.Client, bucket, prefix string, algorithm types.ChecksumAlgorithm, content []byte, secure bool) {
	t.Helper()
	want := sumOf(strings.ToLower(string(algorithm)), content)
	for _, seekable := range []bool{true, false} {
		if !seekable && !secure {
			continue // the SDK refuses it over http
		}
		key := fmt.Sprintf("%s%s-%d-%v", prefix, algorithm, len(content), seekable)
		var body io.Reader = bytes.NewReader(content)
		if !seekable {
			body = struct{ io.Reader }{body}
		}
		put, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: body, ChecksumAlgorithm: algorithm, ContentLength: aws.Int64(int64(len(content)))})
		require.NoError(t, err, key)
		told := func(sums ...*string) {
			t.Helper()
			for _, v := range sums {
				if v != nil {
					assert.Equal(t, want, *v, key)
					return
				}
			}
			t.Errorf("%s: no checksum is told", key)
		}
		assert.Equal(t, etagOf(content), aws.ToString(put.ETag), key)
		told(put.ChecksumCRC32, put.ChecksumCRC32C, put.ChecksumCRC64NVME, put.ChecksumSHA1, put.ChecksumSHA256)
		got, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
		require.NoError(t, err, key)
		told(got.ChecksumCRC32, got.ChecksumCRC32C, got.ChecksumCRC64NVME, got.ChecksumSHA1, got.ChecksumSHA256)
		text, err := io.ReadAll(got.Body)
		got.Body.Close()
		require.NoError(t, err, key)
		assert.Equal(t, string(content), string(text), key)
	}
}
