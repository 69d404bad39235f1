package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Parts and checksums of multipart uploads with clients that were not written for
// us. The unguarded runs ask MinIO for the same: what a scope answers is what a
// store answers.
func TestParts(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Guards: []Guard{{Prefix: "jobs/"}}})
	p := c.Proxies[0]
	token := c.Take("jobs/", "parts")
	c.Run(t, "Go SDK, unguarded", func(t *testing.T) { partsStory(t, c, "open/", false) })
	c.Run(t, "Go SDK, token", func(t *testing.T) { partsStory(t, c, "jobs/", true, TokenHeader(token)) })
	c.Run(t, "encryption", func(t *testing.T) { encryptionStory(t, c, token) })
	c.Run(t, "boto3, unguarded", func(t *testing.T) { p.Python("parts.py", c.Bucket, "open/py/", "-").Must(t) })
	c.Run(t, "boto3, token", func(t *testing.T) {
		p.Python("parts.py", c.Bucket, "jobs/py/", strconv.FormatInt(token, 10)).Must(t)
	})
}

func TestPartsWithDev(t *testing.T) {
	t.Parallel()
	c := NewDev(t, Options{})
	token := c.Take("jobs/", "parts")
	partsStory(t, c, "jobs/", true, TokenHeader(token))
	c.Proxies[0].Python("parts.py", c.Bucket, "jobs/py/", strconv.FormatInt(token, 10)).Must(t)
}

// sdkSums are the fields in which the SDK keeps checksums.
type sdkSums struct{ crc32, crc32c, crc64, sha1, sha256 *string }

func (s sdkSums) of(a types.ChecksumAlgorithm) string {
	return aws.ToString(map[types.ChecksumAlgorithm]*string{
		types.ChecksumAlgorithmCrc32: s.crc32, types.ChecksumAlgorithmCrc32c: s.crc32c, types.ChecksumAlgorithmCrc64nvme: s.crc64,
		types.ChecksumAlgorithmSha1: s.sha1, types.ChecksumAlgorithmSha256: s.sha256,
	}[a])
}

func partsStory(t *testing.T, c *Cluster, prefix string, sealed bool, options ...func(*s3.Options)) {
	ctx := t.Context()
	client := c.Proxies[0].S3(options...)
	bodies := [][]byte{bytes.Repeat([]byte("head"), 5<<18), []byte("tail")}
	whole := bytes.Join(bodies, nil)
	for _, kind := range []struct {
		algorithm types.ChecksumAlgorithm
		kind      types.ChecksumType
	}{
		{types.ChecksumAlgorithmCrc32, types.ChecksumTypeComposite},
		{types.ChecksumAlgorithmCrc64nvme, types.ChecksumTypeFullObject},
		{types.ChecksumAlgorithmSha256, types.ChecksumTypeComposite},
		{types.ChecksumAlgorithmCrc32c, types.ChecksumTypeFullObject},
	} {
		name := fmt.Sprint(kind)
		key := aws.String(prefix + "made of parts " + string(kind.algorithm))
		begun, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &c.Bucket, Key: key, ChecksumAlgorithm: kind.algorithm, ChecksumType: kind.kind})
		require.NoError(t, err, name)
		var parts []types.CompletedPart
		var each []string
		for i, b := range bodies {
			n := aws.Int32(int32(i + 1))
			out, err := client.UploadPart(ctx, &s3.UploadPartInput{Bucket: &c.Bucket, Key: key, UploadId: begun.UploadId, PartNumber: n, Body: bytes.NewReader(b), ChecksumAlgorithm: kind.algorithm})
			require.NoError(t, err, name)
			each = append(each, sdkSums{out.ChecksumCRC32, out.ChecksumCRC32C, out.ChecksumCRC64NVME, out.ChecksumSHA1, out.ChecksumSHA256}.of(kind.algorithm))
			require.NotEmpty(t, each[i], name)
			parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: n, ChecksumCRC32: out.ChecksumCRC32, ChecksumCRC32C: out.ChecksumCRC32C,
				ChecksumCRC64NVME: out.ChecksumCRC64NVME, ChecksumSHA1: out.ChecksumSHA1, ChecksumSHA256: out.ChecksumSHA256})
		}
		listed, err := client.ListParts(ctx, &s3.ListPartsInput{Bucket: &c.Bucket, Key: key, UploadId: begun.UploadId})
		require.NoError(t, err)
		require.Len(t, listed.Parts, len(bodies))
		for i, p := range listed.Parts {
			assert.Equal(t, each[i], sdkSums{p.ChecksumCRC32, p.ChecksumCRC32C, p.ChecksumCRC64NVME, p.ChecksumSHA1, p.ChecksumSHA256}.of(kind.algorithm), name)
		}
		assert.Equal(t, kind.algorithm, listed.ChecksumAlgorithm)
		if sealed {
			// MinIO names the type of uploads nowhere.
			assert.Equal(t, kind.kind, listed.ChecksumType)
		}
		done, err := client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &c.Bucket, Key: key, UploadId: begun.UploadId,
			ChecksumType: kind.kind, MpuObjectSize: aws.Int64(int64(len(whole))), MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
		require.NoError(t, err, name)
		require.True(t, strings.HasSuffix(*done.ETag, `-2"`), *done.ETag)
		sum := sdkSums{done.ChecksumCRC32, done.ChecksumCRC32C, done.ChecksumCRC64NVME, done.ChecksumSHA1, done.ChecksumSHA256}.of(kind.algorithm)
		require.NotEmpty(t, sum, name)
		require.Equal(t, kind.kind == types.ChecksumTypeComposite, strings.HasSuffix(sum, "-2"), sum)

		head, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &c.Bucket, Key: key, ChecksumMode: types.ChecksumModeEnabled})
		require.NoError(t, err)
		assert.Equal(t, sum, sdkSums{head.ChecksumCRC32, head.ChecksumCRC32C, head.ChecksumCRC64NVME, head.ChecksumSHA1, head.ChecksumSHA256}.of(kind.algorithm), name)
		assert.Equal(t, *done.ETag, *head.ETag)
		assert.Equal(t, kind.kind, head.ChecksumType)
		got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &c.Bucket, Key: key, ChecksumMode: types.ChecksumModeEnabled})
		require.NoError(t, err)
		all, err := io.ReadAll(got.Body) // verified by the SDK, where it can
		require.NoError(t, err, name)
		assert.True(t, bytes.Equal(whole, all), name)

		start := 0
		for i, b := range bodies {
			n := aws.Int32(int32(i + 1))
			head, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &c.Bucket, Key: key, PartNumber: n, ChecksumMode: types.ChecksumModeEnabled})
			require.NoError(t, err, name)
			assert.Equal(t, int32(2), aws.ToInt32(head.PartsCount))
			assert.Equal(t, int64(len(b)), *head.ContentLength)
			assert.Equal(t, each[i], sdkSums{head.ChecksumCRC32, head.ChecksumCRC32C, head.ChecksumCRC64NVME, head.ChecksumSHA1, head.ChecksumSHA256}.of(kind.algorithm), "part %d %s", i+1, name)
			got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &c.Bucket, Key: key, PartNumber: n, ChecksumMode: types.ChecksumModeEnabled})
			require.NoError(t, err, name)
			body, err := io.ReadAll(got.Body)
			require.NoError(t, err, name)
			assert.True(t, bytes.Equal(b, body), name)
			assert.Equal(t, fmt.Sprintf("bytes %d-%d/%d", start, start+len(b)-1, len(whole)), aws.ToString(got.ContentRange))
			assert.Equal(t, int32(2), aws.ToInt32(got.PartsCount))
			start += len(b)
		}
		_, err = client.GetObject(ctx, &s3.GetObjectInput{Bucket: &c.Bucket, Key: key, PartNumber: aws.Int32(3)})
		wantAPIError(t, err, "InvalidPartNumber")

		attributes := func(after string, limit int32) *s3.GetObjectAttributesOutput {
			in := &s3.GetObjectAttributesInput{Bucket: &c.Bucket, Key: key, ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesChecksum, types.ObjectAttributesObjectParts, types.ObjectAttributesObjectSize}}
			if limit > 0 {
				in.MaxParts, in.PartNumberMarker = &limit, &after
			}
			out, err := client.GetObjectAttributes(ctx, in)
			require.NoError(t, err)
			return out
		}
		a := attributes("", 0)
		assert.Equal(t, int64(len(whole)), *a.ObjectSize)
		bare, _, _ := strings.Cut(sum, "-")
		assert.Equal(t, bare, sdkSums{a.Checksum.ChecksumCRC32, a.Checksum.ChecksumCRC32C, a.Checksum.ChecksumCRC64NVME, a.Checksum.ChecksumSHA1, a.Checksum.ChecksumSHA256}.of(kind.algorithm))
		require.Equal(t, int32(2), aws.ToInt32(a.ObjectParts.TotalPartsCount))
		require.Len(t, a.ObjectParts.Parts, 2)
		for i, p := range a.ObjectParts.Parts {
			assert.Equal(t, each[i], sdkSums{p.ChecksumCRC32, p.ChecksumCRC32C, p.ChecksumCRC64NVME, p.ChecksumSHA1, p.ChecksumSHA256}.of(kind.algorithm), name)
			assert.Equal(t, int64(len(bodies[i])), *p.Size)
		}
		a = attributes("0", 1)
		require.Len(t, a.ObjectParts.Parts, 1)
		assert.True(t, *a.ObjectParts.IsTruncated)
		assert.Equal(t, "1", aws.ToString(a.ObjectParts.NextPartNumberMarker))
		a = attributes("1", 1)
		require.Len(t, a.ObjectParts.Parts, 1)
		assert.Equal(t, int32(2), *a.ObjectParts.Parts[0].PartNumber)
		assert.False(t, *a.ObjectParts.IsTruncated)
	}

	// An object of one piece has one part.
	key := aws.String(prefix + "one piece")
	_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: &c.Bucket, Key: key, Body: strings.NewReader("one piece"), ChecksumAlgorithm: types.ChecksumAlgorithmSha1})
	require.NoError(t, err)
	got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: &c.Bucket, Key: key, PartNumber: aws.Int32(1)})
	require.NoError(t, err)
	body, err := io.ReadAll(got.Body)
	require.NoError(t, err)
	assert.Equal(t, "one piece", string(body))
	assert.Nil(t, got.PartsCount)
	_, err = client.GetObject(ctx, &s3.GetObjectInput{Bucket: &c.Bucket, Key: key, PartNumber: aws.Int32(2)})
	wantAPIError(t, err, "InvalidPartNumber")

	// What cannot be, and what is not true.
	for algorithm, kind := range map[types.ChecksumAlgorithm]types.ChecksumType{
		types.ChecksumAlgorithmCrc64nvme: types.ChecksumTypeComposite, types.ChecksumAlgorithmSha256: types.ChecksumTypeFullObject,
	} {
		_, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &c.Bucket, Key: key, ChecksumAlgorithm: algorithm, ChecksumType: kind})
		if sealed { // MinIO takes the first, and lets the type be
			wantAPIError(t, err, "InvalidRequest")
		}
	}
	begun, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &c.Bucket, Key: key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32, ChecksumType: types.ChecksumTypeFullObject})
	require.NoError(t, err)
	_, err = client.UploadPart(ctx, &s3.UploadPartInput{Bucket: &c.Bucket, Key: key, UploadId: begun.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("new"), ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
	require.Error(t, err, "another algorithm than the upload's")
	last := &s3.UploadPartInput{Bucket: &c.Bucket, Key: key, UploadId: begun.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("new")}
	if !sealed {
		last.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32 // MinIO computes none that a part comes without
	}
	part, err := client.UploadPart(ctx, last)
	require.NoError(t, err)
	require.NotEmpty(t, part.ChecksumCRC32)
	complete := func(set func(*s3.CompleteMultipartUploadInput)) error {
		in := &s3.CompleteMultipartUploadInput{Bucket: &c.Bucket, Key: key, UploadId: begun.UploadId, ChecksumType: types.ChecksumTypeFullObject,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{ETag: part.ETag, PartNumber: aws.Int32(1), ChecksumCRC32: part.ChecksumCRC32}}}}
		set(in)
		_, err := client.CompleteMultipartUpload(ctx, in)
		return err
	}
	require.Error(t, complete(func(in *s3.CompleteMultipartUploadInput) { in.ChecksumCRC32 = aws.String("AAAAAA==") }))
	require.Error(t, complete(func(in *s3.CompleteMultipartUploadInput) {
		in.MultipartUpload.Parts[0].ChecksumCRC32 = aws.String("AAAAAA==")
	}))
	if sealed {
		require.Error(t, complete(func(in *s3.CompleteMultipartUploadInput) { in.MpuObjectSize = aws.Int64(4) }))
	}
	require.NoError(t, complete(func(in *s3.CompleteMultipartUploadInput) { in.ChecksumCRC32 = part.ChecksumCRC32 }))
}

// What a scope says of encryption is what the store says; this MinIO has no keys. Of
// clients' own keys it says that there are none.
func encryptionStory(t *testing.T, c *Cluster, token int64) {
	p := c.Proxies[0]
	send := func(method, key string, header ...string) Answer {
		h := map[string]string{}
		if strings.HasPrefix(key, "jobs/") {
			h = tokenHeader(token)
		}
		return p.Send(t, Request{Method: method, Bucket: c.Bucket, Key: key, Body: map[string]string{"PUT": "x"}[method], Header: with(h, header...)})
	}
	for _, algorithm := range []string{"AES256", "aws:kms", "nonsense"} {
		plain := send("PUT", "open/encrypted", "X-Amz-Server-Side-Encryption", algorithm)
		sealed := send("PUT", "jobs/encrypted", "X-Amz-Server-Side-Encryption", algorithm)
		assert.Equal(t, []any{plain.Status, plain.Code()}, []any{sealed.Status, sealed.Code()}, algorithm)
		assert.NotEqual(t, 200, sealed.Status, algorithm)
	}
	p.PutToken(t, "jobs/plain", "x", token).Want(t, 200)
	key := []string{"X-Amz-Server-Side-Encryption-Customer-Algorithm", "AES256",
		"X-Amz-Server-Side-Encryption-Customer-Key", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
		"X-Amz-Server-Side-Encryption-Customer-Key-Md5", "eB5eJF1ptWaXm4bijSPyxw=="}
	send("PUT", "jobs/keyed", key...).WantCode(t, 501, "NotImplemented")
	send("GET", "jobs/plain", key...).WantCode(t, 400, "InvalidRequest")
	send("HEAD", "jobs/plain", key...).Want(t, 400)
}

// A proxy is killed while it takes a part and while it completes the upload; another
// one is sent the same again. The object has its checksum and its parts, and every
// answer is the same.
func TestPartsThroughKilledProxies(t *testing.T) { // F6, F7
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Pause: armedWith("kill"), Config: faultsConfig, Guards: []Guard{{Prefix: "jobs/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	token := c.Take("jobs/", "parts")
	const body = "made of one part"
	sum := crc32Of(body)
	for _, point := range []string{"AfterUpload", "BeforeCommit", "AfterCommit"} {
		key := "jobs/" + point
		request := func(method, query, body string, header ...string) Request {
			q, err := url.ParseQuery(query)
			require.NoError(t, err)
			return Request{Method: method, Bucket: c.Bucket, Key: key, Query: q, Body: body, Header: with(tokenHeader(token), header...)}
		}
		var begun struct {
			ID string `xml:"UploadId"`
		}
		b.Send(t, request("POST", "uploads", "", "X-Amz-Checksum-Algorithm", "CRC32", "X-Amz-Checksum-Type", "FULL_OBJECT")).Want(t, 200).XML(t, &begun)
		kill := func(point string, r Request) {
			t.Helper()
			a.Arm(point)
			_, err := a.TrySend(t.Context(), r)
			require.Error(t, err, "a killed proxy answers nothing")
			a.AwaitHit(point)
			a.Disarm(point)
			a.Restart()
		}
		part := request("PUT", "partNumber=1&uploadId="+begun.ID, body, "X-Amz-Checksum-Crc32", sum)
		kill("AfterUpload", part)
		etag := strings.Trim(b.Send(t, part).Want(t, 200).Header.Get("Etag"), `"`)
		complete := func(sum string) Request {
			return request("POST", "uploadId="+begun.ID, "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"+etag+"</ETag><ChecksumCRC32>"+sum+"</ChecksumCRC32></Part></CompleteMultipartUpload>",
				"X-Amz-Checksum-Crc32", sum, "X-Amz-Checksum-Type", "FULL_OBJECT")
		}
		kill(point, complete(sum))
		if point != "AfterCommit" {
			b.Send(t, complete(crc32Of("other"))).Want(t, 400)
		}
		for _, p := range []*Proxy{b, a} {
			var done struct{ ETag, ChecksumCRC32, ChecksumType string }
			p.Send(t, complete(sum)).Want(t, 200).XML(t, &done)
			assert.Equal(t, []string{sum, "FULL_OBJECT"}, []string{done.ChecksumCRC32, done.ChecksumType}, point)
			got := p.Send(t, request("GET", "partNumber=1", "", "X-Amz-Checksum-Mode", "ENABLED")).Want(t, 206)
			assert.Equal(t, []string{body, sum, "1", done.ETag}, []string{got.Body, got.Header.Get("X-Amz-Checksum-Crc32"), got.Header.Get("X-Amz-Mp-Parts-Count"), got.Header.Get("Etag")}, point)
		}
	}
}

func crc32Of(s string) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(s))))
}
