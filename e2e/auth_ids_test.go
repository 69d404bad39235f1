package e2e

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/s3fence/s3fence/internal/storetest"
)

// Over a file system an upload id is the name of a directory, so one with ".." in
// it names a directory of another bucket, past rights and guards: versitygw 1.8.0
// removes it whole, writes parts into it and lists it.
func TestUploadIdsThatLeaveTheirPlace(t *testing.T) {
	t.Parallel()
	store := storetest.StartVersitygw(t)
	other := store.Bucket(t)
	c := NewCluster(t, Options{MinIO: store, Guards: []Guard{{Prefix: "jobs/"}}, Credentials: []map[string]any{{
		"access_key": "e2e-tenant", "secret_key": "e2e-tenant-secret-0123456789",
		"grants": []map[string]any{{"rights": []string{"read", "write"}, "buckets": []string{other}}},
	}}})
	p := c.Proxies[0]
	token := c.Acquire("jobs/", "ann")
	p.PutToken(t, "jobs/k", "kept", token).Want(t, 200)
	p.Put(t, "theirs/k", "kept").Want(t, 200)
	tenant := func(r Request) Answer {
		r.Bucket, r.AccessKey, r.SecretKey = other, "e2e-tenant", "e2e-tenant-secret-0123456789"
		return p.Send(t, r)
	}
	// The store keeps uploads of a key in BUCKET/.sgwtmp/multipart/SUM-OF-KEY/ID.
	created := tenant(Request{Method: "POST", Key: "k", Query: url.Values{"uploads": {""}}}).Want(t, 200)
	var upload struct {
		UploadID string `xml:"UploadId"`
	}
	created.XML(t, &upload)
	up := strings.Repeat("../", 4)
	for _, dir := range []string{c.Bucket + "/theirs", c.Bucket + "/.s3fence", c.Bucket} {
		for _, id := range []string{up + dir, upload.UploadID + "/../" + up + dir, "./" + up + dir} {
			for _, r := range []Request{
				{Method: "PUT", Query: url.Values{"uploadId": {id}, "partNumber": {"1"}}, Body: "planted"},
				{Method: "GET", Query: url.Values{"uploadId": {id}}},
				{Method: "POST", Query: url.Values{"uploadId": {id}}, Body: "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>"},
				{Method: "DELETE", Query: url.Values{"uploadId": {id}}},
				{Method: "PUT", Query: url.Values{"uploadId": {id}, "partNumber": {"1"}}, Header: map[string]string{"X-Amz-Copy-Source": other + "/absent"}},
			} {
				r.Key = "k"
				if got := tenant(r); got.Status != 404 || got.Failure().Code != "NoSuchUpload" && got.Failure().Code != "NoSuchKey" {
					t.Errorf("%s with upload id %q: %s", r.Method, id, got)
				}
			}
		}
	}
	if got := p.Get(t, "theirs/k"); got != "kept" {
		t.Errorf("theirs/k holds %q", got)
	}
	if got := p.Get(t, "jobs/k"); got != "kept" {
		t.Errorf("jobs/k holds %q", got)
	}
	var there []string
	for o := range store.Client(t).ListObjects(t.Context(), c.Bucket, minio.ListObjectsOptions{Recursive: true, Prefix: "theirs/"}) {
		there = append(there, o.Key)
	}
	if !slices.Equal(there, []string{"theirs/k"}) {
		t.Errorf("theirs/ has %q", there)
	}
	// The upload itself is none the worse.
	part := tenant(Request{Method: "PUT", Key: "k", Query: url.Values{"uploadId": {upload.UploadID}, "partNumber": {"1"}}, Body: "part"}).Want(t, 200)
	tenant(Request{Method: "POST", Key: "k", Query: url.Values{"uploadId": {upload.UploadID}},
		Body: fmt.Sprintf("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>%s</ETag></Part></CompleteMultipartUpload>", part.Header.Get("ETag"))}).Want(t, 200)
}
