package s3api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/minio/minio-go/v7"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/fence"
)

func body(s string) io.Reader { return strings.NewReader(s) }

func read(t *testing.T, r io.ReadCloser) string {
	t.Helper()
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantCode demands an S3 error code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Helper()
		t.Errorf("error %v, want code %s", err, code)
	}
}

var oddKeys = []string{
	"plain", "a b", "a+b", "100%", "ü/日本", "a?b=c&d#e", "q'uo\"te", "semi;colon", "star*", "~tilde", "(paren)!", "a=b:c@d,$",
	"back\\slash", "%2F", "trailing/", "a%zz", "dot/../dot", "double//slash", "/leading", "<&>",
}

func TestPlainKeysAreExactBytes(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data"), nil)
	c := b.sdk(t, testKey, "")
	ctx := t.Context()
	for _, key := range oddKeys {
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String(key), Body: body("of " + key)}); err != nil {
			t.Fatalf("put %q: %v", key, err)
		}
	}
	for _, key := range oddKeys {
		o, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("data"), Key: aws.String(key)})
		if err != nil {
			t.Fatalf("get %q: %v", key, err)
		}
		if got := read(t, o.Body); got != "of "+key {
			t.Errorf("key %q holds %q", key, got)
		}
		// At the store it has the very same name.
		if _, err := b.store.HeadObject(ctx, "data", key, nil); err != nil {
			t.Errorf("key %q at the store: %v", key, err)
		}
	}
	l, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("data")})
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, o := range l.Contents {
		listed = append(listed, *o.Key)
	}
	if want := slices.Sorted(slices.Values(oddKeys)); !slices.Equal(listed, want) {
		t.Errorf("listed %q\nwant   %q", listed, want)
	}
	for _, key := range oddKeys {
		if _, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String("data"), Key: aws.String("copy"), CopySource: aws.String("data/" + escapePath(key))}); err != nil {
			t.Errorf("copy of %q: %v", key, err)
		}
		if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("data"), Key: aws.String(key)}); err != nil {
			t.Errorf("delete %q: %v", key, err)
		}
	}
}

// A plus in a copy source goes to the store as it came, and only where the caller may
// read both keys that a store may take it for; in a scope it is a space.
func TestPlusInACopySource(t *testing.T) {
	t.Parallel()
	var s seen
	list := []fence.Guard{guard(t, 1, "s3://data/scope/", func(g *fence.Guard) { g.Tokens = fence.Optional }), guard(t, 2, "s3://data/a+b/", func(g *fence.Guard) { g.Tokens = fence.Optional })}
	write := auth.Grant{Bucket: "data", Rights: auth.Write}
	b := newBench(t, newStore(t, s.wrap, "data", "realname"), list, withKeys(t,
		auth.Credential{AccessKey: testKey, Grants: []auth.Grant{{Bucket: auth.Anywhere, Rights: auth.All}}},
		auth.Credential{AccessKey: "AKSPACE", Grants: []auth.Grant{write, {Bucket: "data", Prefix: "in s", Rights: auth.Read}}},
		auth.Credential{AccessKey: "AKPLUS", Grants: []auth.Grant{write, {Bucket: "data", Prefix: "in+s", Rights: auth.Read}}}))
	for _, key := range []string{"a%20b", "c%2Bd", "e%20f%2Bg", "in%20s", "in%2Bs", "scope/a%20b", "a%20b/k", "a%2Bb/k"} {
		if got := b.call(t, call{method: "PUT", target: "/data/" + key, body: "of " + key}); got.status != 200 {
			t.Fatalf("%s: %d %s", key, got.status, got.body)
		}
	}
	copied := func(key, source, target string) answer {
		return b.call(t, call{method: "PUT", target: target, key: key, header: map[string]string{"X-Amz-Copy-Source": source}})
	}
	for source, sent := range map[string]string{
		"data/a+b": "data/a+b", "data/c%2Bd": "data/c%2Bd", "/data/e%20f%2Bg": "data/e%20f%2Bg", "data%2Fe+f%2Bg?versionId=null": "data/e+f%2Bg",
	} {
		if got := copied(testKey, source, "/data/copy"); got.status != 200 {
			t.Errorf("copy by %s: %d %s", source, got.status, got.body)
		}
		if got := s.last("PUT").Header.Get("X-Amz-Copy-Source"); got != sent {
			t.Errorf("%s is %s at the store, not %s", source, got, sent)
		}
	}
	for _, c := range []struct {
		key, source, target, code string
	}{
		{testKey, "data/scope/a+b", "/data/copy", ""},
		{testKey, "data/a+b", "/data/scope/copy", ""},
		{testKey, "data/a+b/k", "/data/copy", "InvalidArgument"},
		{testKey, "data/a%20b/k", "/data/copy", ""},
		{testKey, "data/a%2Bb/k", "/data/copy", ""},
		{testKey, "data/in+s", "/data/copy", ""},
		{testKey, "data/in+%zz", "/data/copy", "InvalidArgument"},
		{"AKSPACE", "data/in+s", "/data/copy", "InvalidArgument"},
		{"AKSPACE", "data/in%20s", "/data/copy", ""},
		{"AKSPACE", "data/in%2Bs", "/data/copy", "AccessDenied"},
		{"AKPLUS", "data/in+s", "/data/copy", "AccessDenied"},
		{"AKPLUS", "data/in%2Bs", "/data/copy", ""},
	} {
		before := s.last("PUT")
		got := copied(c.key, c.source, c.target)
		if got.code() != c.code || (got.status == 200) != (c.code == "") {
			t.Errorf("%s copies %s to %s: %d %s", c.key, c.source, c.target, got.status, got.body)
		}
		if c.code != "" && s.last("PUT") != before {
			t.Errorf("%s, %s: refused, and the store saw it", c.key, c.source)
		}
	}
}

func TestPlainObject(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data", "realname"), nil)
	c := b.sdk(t, testKey, "")
	ctx := t.Context()
	for _, bucket := range []string{"data", "alias"} {
		big := strings.Repeat("0123456789abcdef", 40_000)
		p, err := c.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &bucket, Key: aws.String("dir/k"), Body: body(big), Metadata: map[string]string{"colour": "blue"},
			ContentType: aws.String("text/x-test"), CacheControl: aws.String("max-age=7"),
		})
		if err != nil {
			t.Fatal(err)
		}
		g, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("dir/k")})
		if err != nil {
			t.Fatal(err)
		}
		if read(t, g.Body) != big || *g.ETag != *p.ETag || g.Metadata["colour"] != "blue" || *g.ContentType != "text/x-test" || *g.ContentLength != int64(len(big)) {
			t.Errorf("got %+v", g)
		}
		r, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("dir/k"), Range: aws.String("bytes=16-31")})
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, r.Body); got != "0123456789abcdef" || r.ContentRange == nil {
			t.Errorf("range: %q, %v", got, r.ContentRange)
		}
		h, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String("dir/k")})
		if err != nil || *h.ContentLength != int64(len(big)) {
			t.Errorf("head: %+v, %v", h, err)
		}
		_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("none")})
		wantCode(t, err, "NoSuchKey")
		_, err = c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String("none")})
		wantCode(t, err, "NotFound")
		_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("dir/k"), IfNoneMatch: p.ETag})
		wantCode(t, err, "NotModified")
		_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("dir/k"), Body: body("x"), IfNoneMatch: aws.String("*")})
		if err == nil {
			t.Error("If-None-Match: * replaced an object")
		}
		_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: aws.String("bad"), Body: body("x"), ContentMD5: aws.String("AAAAAAAAAAAAAAAAAAAAAA==")})
		wantCode(t, err, "BadDigest")
		tags := &types.Tagging{TagSet: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}
		if _, err := c.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: &bucket, Key: aws.String("dir/k"), Tagging: tags}); err != nil {
			var api smithy.APIError
			if !errors.As(err, &api) || api.ErrorCode() != "NotImplemented" {
				t.Errorf("tagging: %v", err)
			}
		}
	}
	if rec := b.last(t); rec.RequestID == "" || rec.AccessKey != testKey || rec.Duration <= 0 {
		t.Errorf("record %+v", rec)
	}
}

func TestPlainMultipart(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "realname"), nil)
	c := b.sdk(t, testKey, "")
	ctx := t.Context()
	bucket, key := aws.String("alias"), aws.String("multi part")
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if *up.Bucket != "alias" {
		t.Errorf("the answer names bucket %s", *up.Bucket)
	}
	ups, err := c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: bucket})
	if err != nil || len(ups.Uploads) != 1 || *ups.Bucket != "alias" {
		t.Errorf("uploads %+v, %v", ups, err)
	}
	first := strings.Repeat("a", 5<<20)
	p1, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: body(first)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("source"), Body: body("0123456789")}); err != nil {
		t.Fatal(err)
	}
	p2, err := c.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(2), CopySource: aws.String("alias/source"), CopySourceRange: aws.String("bytes=2-5")})
	if err != nil {
		t.Fatal(err)
	}
	parts, err := c.ListParts(ctx, &s3.ListPartsInput{Bucket: bucket, Key: key, UploadId: up.UploadId})
	if err != nil || len(parts.Parts) != 2 || *parts.Bucket != "alias" {
		t.Errorf("parts %+v, %v", parts, err)
	}
	done, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{
		{PartNumber: aws.Int32(1), ETag: p1.ETag}, {PartNumber: aws.Int32(2), ETag: p2.CopyPartResult.ETag},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if *done.Bucket != "alias" || done.Location != nil && !strings.HasSuffix(*done.Location, "/alias/multi%20part") {
		t.Errorf("completed %+v", done)
	}
	g, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if read(t, g.Body) != first+"2345" {
		t.Error("the completed object has other bytes")
	}
	if up, err = c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key, UploadId: up.UploadId}); err != nil {
		t.Error(err)
	}
	_, err = c.ListParts(ctx, &s3.ListPartsInput{Bucket: bucket, Key: key, UploadId: up.UploadId})
	wantCode(t, err, "NoSuchUpload")
}

func TestPlainListsAndBatches(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data", "realname"), nil)
	c := b.sdk(t, testKey, "")
	ctx := t.Context()
	bucket := aws.String("data")
	for _, k := range []string{"a/1", "a/2", "b/1", "c", "d e", ".s3fence/secret"} {
		if _, err := b.store.PutObject(ctx, "data", k, strings.NewReader("v"), 1, putOptions); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	in := &s3.ListObjectsV2Input{Bucket: bucket, Delimiter: aws.String("/"), MaxKeys: aws.Int32(1), FetchOwner: aws.Bool(true)}
	for {
		l, err := c.ListObjectsV2(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range l.CommonPrefixes {
			names = append(names, *p.Prefix)
		}
		for _, o := range l.Contents {
			names = append(names, *o.Key)
			if o.Owner == nil || o.ETag == nil || *o.Size != 1 {
				t.Errorf("entry %+v", o)
			}
		}
		if *l.KeyCount != 1 {
			t.Errorf("key count %d", *l.KeyCount)
		}
		if !*l.IsTruncated {
			break
		}
		in.ContinuationToken = l.NextContinuationToken
	}
	if want := []string{"a/", "b/", "c", "d e"}; !slices.Equal(names, want) {
		t.Errorf("v2: %q, want %q", names, want)
	}
	names = nil
	v1 := &s3.ListObjectsInput{Bucket: bucket, Delimiter: aws.String("/"), MaxKeys: aws.Int32(2)}
	for {
		l, err := c.ListObjects(ctx, v1)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range l.CommonPrefixes {
			names = append(names, *p.Prefix)
		}
		for _, o := range l.Contents {
			names = append(names, *o.Key)
		}
		if !*l.IsTruncated {
			break
		}
		v1.Marker = l.NextMarker
	}
	if want := []string{"a/", "b/", "c", "d e"}; !slices.Equal(names, want) {
		t.Errorf("v1: %q, want %q", names, want)
	}
	in.ContinuationToken = aws.String("foreign")
	_, err := c.ListObjectsV2(ctx, in)
	wantCode(t, err, "InvalidArgument")
	l, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(0)})
	if err != nil || *l.IsTruncated || len(l.Contents) != 0 {
		t.Errorf("max-keys 0: %+v, %v", l, err)
	}
	_, err = c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("nobody")})
	wantCode(t, err, "NoSuchBucket")

	out, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{
		{Key: aws.String("a/1")}, {Key: aws.String("d e")}, {Key: aws.String("absent")}, {Key: aws.String(".s3fence/secret")},
	}}})
	if err != nil || len(out.Deleted) != 3 || len(out.Errors) != 1 || *out.Errors[0].Code != "AccessDenied" {
		t.Errorf("batch: %+v, %v", out, err)
	}
	if _, err := b.store.HeadObject(ctx, "data", ".s3fence/secret", nil); err != nil {
		t.Errorf("a batch deleted a reserved key: %v", err)
	}
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String(".s3fence/secret")})
	wantCode(t, err, "NoSuchKey")
	_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String(".s3fence/x"), Body: body("x")})
	wantCode(t, err, "AccessDenied")
}

func TestBuckets(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data", "realname"), nil)
	c := b.sdk(t, testKey, "")
	ctx := t.Context()
	l, err := c.ListBuckets(ctx, &s3.ListBucketsInput{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, x := range l.Buckets {
		names = append(names, *x.Name)
	}
	if !slices.Equal(names, []string{"alias", "data"}) {
		t.Errorf("buckets %q: the store's name of a mapped bucket must not show", names)
	}
	if l, err = b.sdk(t, readerKey, "").ListBuckets(ctx, &s3.ListBucketsInput{}); err != nil || len(l.Buckets) != 1 || *l.Buckets[0].Name != "data" {
		t.Errorf("the reader's buckets: %+v, %v", l, err)
	}
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("fresh")}); err != nil {
		t.Error(err)
	}
	if _, err := c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("fresh")}); err != nil {
		t.Error(err)
	}
	if _, err := c.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: aws.String("alias")}); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: aws.String("fresh")}); err != nil {
		t.Error(err)
	}
	_, err = c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("fresh")})
	wantCode(t, err, "NotFound")
	_, err = c.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: aws.String("fresh")})
	wantCode(t, err, "NoSuchBucket")
}

// Where the configuration names each bucket, another one cannot be made by a request,
// and "does not exist" would be no answer to who creates it.
func TestCreateABucketThatIsNotConfigured(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data"), nil, func(o *Options) { o.Buckets.(*bucketMap).gone = map[string]bool{"fresh": true} })
	_, err := b.sdk(t, testKey, "").CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("fresh")})
	wantCode(t, err, "NoSuchBucket")
	if err == nil || !strings.Contains(err.Error(), "under buckets") {
		t.Errorf("%v says nothing of the configuration", err)
	}
}

func TestRights(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data", "other"), nil)
	full, c := b.sdk(t, testKey, ""), b.sdk(t, readerKey, "")
	ctx := t.Context()
	for _, k := range []string{"open/k", "closed/k"} {
		if _, err := full.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String(k), Body: body("v")}); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		do   func() error
		code string
	}{
		"reads its prefix": {func() error {
			o, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("data"), Key: aws.String("open/k")})
			if err == nil {
				o.Body.Close()
			}
			return err
		}, ""},
		"lists its prefix": {func() error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("data"), Prefix: aws.String("open/")})
			return err
		}, ""},
		"finds the bucket": {func() error {
			_, err := c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("data")})
			return err
		}, ""},
		"reads beside it": {func() error {
			_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("data"), Key: aws.String("closed/k")})
			return err
		}, "AccessDenied"},
		"lists all": {func() error {
			_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("data")})
			return err
		}, "AccessDenied"},
		"writes": {func() error {
			_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String("open/k"), Body: body("x")})
			return err
		}, "AccessDenied"},
		"another bucket": {func() error {
			_, err := c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("other")})
			return err
		}, "Forbidden"},
		"creates what is there": {func() error {
			_, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("data")})
			return err
		}, "BucketAlreadyOwnedByYou"},
		"batch delete": {func() error {
			o, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: aws.String("data"), Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: aws.String("open/k")}}}})
			if err == nil && (len(o.Errors) != 1 || *o.Errors[0].Code != "AccessDenied") {
				t.Errorf("batch: %+v", o)
			}
			return err
		}, ""},
	} {
		err := tc.do()
		if tc.code == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		t.Run(name, func(t *testing.T) { wantCode(t, err, tc.code) })
	}
	_, err := full.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String("data"), Key: aws.String("open/2"), CopySource: aws.String("data/open/k")})
	if err != nil {
		t.Error(err)
	}
}

func TestMinioClient(t *testing.T) {
	t.Parallel()
	b := newBench(t, newStore(t, nil, "data"), nil)
	c := b.minio(t)
	ctx := t.Context()
	// Over plain http minio-go signs each chunk.
	for name, size := range map[string]int{"empty": 0, "small": 4 << 10, "large": 3 << 20} {
		content := bytes.Repeat([]byte("x"), size)
		if _, err := c.PutObject(ctx, "data", name, bytes.NewReader(content), int64(size), minio.PutObjectOptions{UserMetadata: map[string]string{"a": "b"}}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		o, err := c.GetObject(ctx, "data", name, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, o); got != string(content) {
			t.Errorf("%s: %d bytes, want %d", name, len(got), size)
		}
	}
	n := 0
	for o := range c.ListObjects(ctx, "data", minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d objects", n)
	}
	for err := range c.RemoveObjects(ctx, "data", c.ListObjects(ctx, "data", minio.ListObjectsOptions{}), minio.RemoveObjectsOptions{}) {
		t.Error(err)
	}
}

func TestStoreUnreachable(t *testing.T) {
	t.Parallel()
	broken := false
	store := newStore(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if broken {
				panic(http.ErrAbortHandler) // the answer is lost
			}
			h.ServeHTTP(w, r)
		})
	}, "data")
	b := newBench(t, store, nil)
	c := b.sdk(t, testKey, "")
	broken = true
	_, err := c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String("k"), Body: body("v")})
	wantCode(t, err, "OutcomeUnknown") // F7
	_, err = c.GetObject(context.Background(), &s3.GetObjectInput{Bucket: aws.String("data"), Key: aws.String("k")})
	wantCode(t, err, "ServiceUnavailable")

	gone := newBench(t, newUpstream(t, "http://127.0.0.1:1"), nil).sdk(t, testKey, "")
	_, err = gone.PutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String("k"), Body: body("v")})
	wantCode(t, err, "ServiceUnavailable") // F7: not sent, so 503
}
