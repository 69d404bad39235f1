package e2e

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/storetest"
)

// A store that encrypts has ETags which look like MD5s of the bytes and are none.
// What it copied, for a client or because a guard was added, is readable all the same.
func TestEncryptingStore(t *testing.T) { // F6
	t.Parallel()
	store := storetest.StartEncrypting(t)
	c := NewCluster(t, Options{MinIO: store, Guards: []Guard{{Prefix: "jobs/"}}})
	p := c.Proxies[0]
	token := c.Take("jobs/", "encrypting")
	const text = "not the MD5 of these bytes"

	_, err := store.Client(t).PutObject(t.Context(), c.Bucket, "later/old", strings.NewReader(text), int64(len(text)), minio.PutObjectOptions{})
	require.NoError(t, err)
	p.PutToken(t, "jobs/put", text, token).Want(t, 200)
	p.Send(t, Request{Method: "PUT", Bucket: c.Bucket, Key: "open/put", Body: text}).Want(t, 200)
	for _, source := range []string{"open/put", "jobs/put"} {
		for _, target := range []string{"jobs/", "open/"} {
			key, h := target+"copy-of-"+strings.ReplaceAll(source, "/", "-"), map[string]string{"X-Amz-Copy-Source": c.Bucket + "/" + source}
			if target == "jobs/" {
				h = with(tokenHeader(token), "X-Amz-Copy-Source", c.Bucket+"/"+source)
			}
			p.Send(t, Request{Method: "PUT", Bucket: c.Bucket, Key: key, Header: h}).Want(t, 200)
			a := p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Key: key})
			a.Want(t, 200)
			assert.Equal(t, text, a.Body, key)
		}
	}
	a := p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Key: "jobs/put"})
	assert.Equal(t, text, a.Want(t, 200).Body)

	for _, prefix := range []string{"jobs/", "open/"} {
		var options []func(*s3.Options)
		if prefix == "jobs/" {
			options = append(options, TokenHeader(token))
		}
		client := p.S3(options...)
		key := aws.String(prefix + "parts")
		up, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &c.Bucket, Key: key, ChecksumAlgorithm: "CRC32"})
		require.NoError(t, err)
		var list types.CompletedMultipartUpload
		for i, b := range [][]byte{bytes.Repeat([]byte("head"), 5<<18), []byte("tail")} {
			out, err := client.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: &c.Bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(int32(i + 1)), Body: bytes.NewReader(b), ChecksumAlgorithm: "CRC32"})
			require.NoError(t, err, prefix)
			list.Parts = append(list.Parts, types.CompletedPart{PartNumber: aws.Int32(int32(i + 1)), ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32})
		}
		_, err = client.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: &c.Bucket, Key: key, UploadId: up.UploadId, MultipartUpload: &list})
		require.NoError(t, err, prefix)
		a := p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Key: *key, Query: url.Values{"partNumber": {"2"}}})
		assert.Equal(t, "tail", a.Want(t, 206).Body, prefix)
	}

	c.AddGuard(p, Guard{Prefix: "later/"})
	a = p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Key: "later/old"})
	assert.Equal(t, text, a.Want(t, 200).Body)
}

// A proxy that dies after the store has joined an upload, and before its commit,
// leaves one that the same Complete completes at another proxy: at a store that
// encrypts too, whose ETag does not tell of which parts it is.
func TestEncryptingStoreAndAKilledComplete(t *testing.T) { // F7
	t.Parallel()
	store := storetest.StartEncrypting(t)
	c := NewCluster(t, Options{MinIO: store, Proxies: 2, Pause: "AfterUpload=kill?", Config: faultsConfig, Guards: []Guard{{Prefix: "jobs/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	token := c.Take("jobs/", "encrypting")
	const key = "jobs/parts"
	client := b.S3(TokenHeader(token))
	up, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &c.Bucket, Key: aws.String(key)})
	require.NoError(t, err)
	part, err := client.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: &c.Bucket, Key: aws.String(key), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("joined")})
	require.NoError(t, err)
	complete := Request{Method: "POST", Bucket: c.Bucket, Key: key, Query: url.Values{"uploadId": {*up.UploadId}}, Header: tokenHeader(token),
		Body: "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + *part.ETag + "</ETag></Part></CompleteMultipartUpload>"}
	a.Arm("AfterUpload")
	_, err = a.TrySend(t.Context(), complete)
	require.Error(t, err, "a killed proxy answers nothing")
	b.WantAbsent(t, key)
	b.Send(t, complete).Want(t, 200)
	assert.Equal(t, "joined", b.Get(t, key))
	b.Send(t, complete).Want(t, 200)
}
