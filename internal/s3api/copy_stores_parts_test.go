package s3api

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3fence/s3fence/internal/storetest"
	"github.com/s3fence/s3fence/internal/upstream"
)

// A copy between two stores that is sent in parts: each part has the client's key
// with it, without which the store takes none, and what the store says it has of
// each is compared with what was sent, as for any other body.
func TestPiecesOfCopiesBetweenStores(t *testing.T) {
	t.Parallel()
	var keyed, parts atomic.Int32
	var damages atomic.Bool
	_, back := storetest.StartDiscard(t)
	const key = "X-Amz-Server-Side-Encryption-Customer-Key"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && r.URL.Query().Has("partNumber") {
			parts.Add(1)
			if r.Header.Get(key) == "secret" {
				keyed.Add(1)
			}
			if damages.Load() {
				b, _ := io.ReadAll(r.Body)
				b[0] ^= 1
				r.Body = io.NopCloser(bytes.NewReader(b))
				r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
			}
		}
		back.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	target := newUpstream(t, srv.URL, "kept")
	b := newSealed(t, func(o *Options) {
		m := *o.Buckets.(*bucketMap)
		source, _ := newFar(t, "far")
		m.far = map[string]*upstream.Client{"far": source, "kept": target}
		o.Buckets = &m
		o.Limits.Spool = 1
	})
	ctx := t.Context()
	c := b.sdk(t, testKey, "")
	// Its ETag is no digest, and it is too large to be kept.
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String("far"), Key: aws.String("parts")})
	if err != nil {
		t.Fatal(err)
	}
	part, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: aws.String("far"), Key: aws.String("parts"), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader([]byte("some content"))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: aws.String("far"), Key: aws.String("parts"), UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}}}); err != nil {
		t.Fatal(err)
	}

	answer := b.call(t, call{method: "PUT", target: "/kept/a", header: map[string]string{"X-Amz-Copy-Source": "far/parts",
		"X-Amz-Server-Side-Encryption-Customer-Algorithm": "AES256", key: "secret", key + "-Md5": "digest"}})
	if answer.status != 200 || parts.Load() != 1 || keyed.Load() != 1 {
		t.Errorf("%d %s: %d parts, %d with the key", answer.status, answer.body, parts.Load(), keyed.Load())
	}
	damages.Store(true)
	// What arrives damaged is found, without a digest that could go ahead of it.
	answer = b.call(t, call{method: "PUT", target: "/kept/b", header: map[string]string{"X-Amz-Copy-Source": "far/parts"}})
	if answer.code() != codeUnavailable {
		t.Errorf("%d %s", answer.status, answer.body)
	}
	if got := b.call(t, call{method: "GET", target: "/kept/b"}); got.status != 404 {
		t.Errorf("%d %s: other bytes than were sent became an object", got.status, got.body)
	}
	begun := b.call(t, call{method: "POST", target: "/kept/c?uploads="})
	_, rest, _ := strings.Cut(begun.body, "<UploadId>")
	id, _, _ := strings.Cut(rest, "</UploadId>")
	answer = b.call(t, call{method: "PUT", target: "/kept/c?partNumber=1&uploadId=" + id, header: map[string]string{"X-Amz-Copy-Source": "far/parts", "X-Amz-Copy-Source-Range": "bytes=1-5"}})
	if answer.code() != codeUnavailable {
		t.Errorf("%d %s", answer.status, answer.body)
	}
}
