package s3api

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"

	"github.com/s3fence/s3fence/internal/guarded"
)

func TestGuardedObject(t *testing.T) { overWays(t, testGuardedObject) }

func testGuardedObject(t *testing.T, b *bench) {
	c := b.sdk(t, carriedKey, "s3://data/jobs/a/#34")
	ctx := t.Context()
	bucket, key := aws.String("data"), aws.String("jobs/a/dir/ü k+")
	content := strings.Repeat("0123456789", 20_000)
	p, err := c.PutObject(ctx, &s3.PutObjectInput{
		Bucket: bucket, Key: key, Body: body(content), Metadata: map[string]string{"colour": "blue"}, ContentType: aws.String("text/x-test"),
		CacheControl: aws.String("max-age=7"), Tagging: aws.String("a=b&c=d%20e"), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.ETag == nil || p.ChecksumSHA256 == nil {
		t.Errorf("put %+v", p)
	}
	g, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		t.Fatal(err)
	}
	if read(t, g.Body) != content || *g.ETag != *p.ETag || g.Metadata["colour"] != "blue" || len(g.Metadata) != 1 || *g.ContentType != "text/x-test" ||
		*g.TagCount != 2 || g.ChecksumSHA256 == nil || *g.ChecksumSHA256 != *p.ChecksumSHA256 || g.LastModified == nil {
		t.Errorf("got %+v", g)
	}
	for _, tc := range []struct {
		name, rng, want string
		code            string
	}{
		{"middle", "bytes=10-19", content[10:20], ""},
		{"open end", "bytes=199990-", content[199990:], ""},
		{"suffix", "bytes=-5", content[len(content)-5:], ""},
		{"beyond the end", "bytes=199995-999999", content[199995:], ""},
		{"several", "bytes=0-1,4-5", content, ""},
		{"malformed", "bytes=x", content, ""},
		{"outside", "bytes=200000-", "", "InvalidRange"},
	} {
		o, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, Range: aws.String(tc.rng)})
		if tc.code != "" {
			wantCode(t, err, tc.code)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if got := read(t, o.Body); got != tc.want {
			t.Errorf("%s: %d bytes, want %d", tc.name, len(got), len(tc.want))
		}
	}
	h, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key})
	if err != nil || *h.ContentLength != int64(len(content)) || *h.CacheControl != "max-age=7" {
		t.Errorf("head %+v, %v", h, err)
	}
	o, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, ResponseContentType: aws.String("x/y"), ResponseContentDisposition: aws.String("attachment")})
	if err != nil {
		t.Fatal(err)
	}
	o.Body.Close()
	if *o.ContentType != "x/y" || *o.ContentDisposition != "attachment" {
		t.Errorf("overrides %+v", o)
	}
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, IfNoneMatch: p.ETag})
	wantCode(t, err, "NotModified")
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, IfMatch: aws.String(`"other"`)})
	wantCode(t, err, "PreconditionFailed")
	_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: body("x"), IfNoneMatch: aws.String("*")})
	wantCode(t, err, "PreconditionFailed")
	_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("jobs/a/none"), Body: body("x"), IfMatch: p.ETag})
	wantCode(t, err, "NoSuchKey")
	_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: body("x"), ContentMD5: aws.String("AAAAAAAAAAAAAAAAAAAAAA==")})
	wantCode(t, err, "BadDigest")

	tags, err := c.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: bucket, Key: key})
	if err != nil || len(tags.TagSet) != 2 || *tags.TagSet[1].Value != "d e" {
		t.Errorf("tags %+v, %v", tags, err)
	}
	if _, err := c.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: bucket, Key: key, Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("n"), Value: aws.String("@+=")}}}}); err != nil {
		t.Error(err)
	}
	if tags, err = c.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: bucket, Key: key}); err != nil || len(tags.TagSet) != 1 || *tags.TagSet[0].Value != "@+=" {
		t.Errorf("tags %+v, %v", tags, err)
	}
	if _, err := c.DeleteObjectTagging(ctx, &s3.DeleteObjectTaggingInput{Bucket: bucket, Key: key}); err != nil {
		t.Error(err)
	}
	at, err := c.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: bucket, Key: key, ObjectAttributes: []types.ObjectAttributes{"ETag", "ObjectSize", "Checksum"}})
	if err != nil || *at.ObjectSize != int64(len(content)) || *at.ETag != strings.Trim(*p.ETag, `"`) || at.Checksum == nil {
		t.Errorf("attributes %+v, %v", at, err)
	}
	acl, err := c.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: bucket, Key: key})
	if err != nil || len(acl.Grants) != 1 || acl.Grants[0].Permission != types.PermissionFullControl {
		t.Errorf("acl %+v, %v", acl, err)
	}
	if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key, IfMatch: aws.String(`"other"`)}); err == nil {
		t.Error("a delete with a false condition succeeded")
	}
	if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key}); err != nil {
		t.Error(err)
	}
	_, err = c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key})
	wantCode(t, err, "NotFound")
}

func TestHeadersThatAScopeCannotHonour(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	for name, want := range map[string]int{
		"x-amz-server-side-encryption-customer-algorithm: AES256": 501,
		"x-amz-object-lock-mode: GOVERNANCE":                      501,
		"x-amz-acl: public-read":                                  400,
		"x-amz-acl: private":                                      200,
		"x-amz-grant-read: id=x":                                  400,
		"x-amz-write-offset-bytes: 3":                             501,
		"x-amz-something-new: 1":                                  501,
		"x-amz-website-redirect-location: /x":                     200,
		"x-amz-website-redirect-location: https://x":              200,
		"x-amz-website-redirect-location: ftp://x":                400,
		"x-amz-storage-class: STANDARD_IA":                        200,
		"x-amz-tagging: a=1&a=2":                                  400,
		"If-Unmodified-Since: Mon, 02 Jan 2006 15:04:05 GMT":      501,
		"If-None-Match: \"x\"":                                    501,
		"x-amz-meta-a: " + strings.Repeat("x", 3000):              400,
	} {
		h, v, _ := strings.Cut(name, ": ")
		got := b.call(t, call{method: "PUT", target: "/data/jobs/a/k", body: "x", header: map[string]string{"X-Fencing-Token": "34", h: v}})
		if got.status != want {
			t.Errorf("%.60s: %d %s", name, got.status, got.body)
		}
	}
	if s := b.fake.puts; len(s) == 0 || !slices.ContainsFunc(s, func(p guarded.Put) bool { return p.Store["X-Amz-Storage-Class"] == "STANDARD_IA" }) {
		t.Error("the storage class did not reach the writer")
	}
}

func TestGuardedMultipart(t *testing.T) { overWays(t, testGuardedMultipart) }

func testGuardedMultipart(t *testing.T, b *bench) {
	holder, other := b.sdk(t, carriedKey, "s3://data/jobs/a/#34"), b.sdk(t, testKey, "")
	ctx := t.Context()
	bucket, key := aws.String("data"), aws.String("jobs/a/multi")
	_, err := other.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	wantCode(t, err, codeMissing)
	up, err := holder.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, ContentType: aws.String("x/y")})
	if err != nil {
		t.Fatal(err)
	}
	first := strings.Repeat("first ", 1<<20)
	// An upload carries its token: parts and Complete need none.
	p1, err := other.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: body(first)})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.call(t, call{method: "PUT", target: "/data/jobs/a/multi?partNumber=2&uploadId=" + *up.UploadId, body: "x", header: map[string]string{"X-Fencing-Token": "33"}}); got.status != 400 && got.status != 412 {
		t.Errorf("a part under another token: %d", got.status)
	}
	if _, err := other.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("plain"), Body: body("0123456789")}); err != nil {
		t.Fatal(err)
	}
	p2, err := other.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(2), CopySource: aws.String("data/plain"), CopySourceRange: aws.String("bytes=2-5")})
	if err != nil {
		t.Fatal(err)
	}
	parts, err := other.ListParts(ctx, &s3.ListPartsInput{Bucket: bucket, Key: key, UploadId: up.UploadId, MaxParts: aws.Int32(1)})
	if err != nil || len(parts.Parts) != 1 || !*parts.IsTruncated || *parts.NextPartNumberMarker != "1" {
		t.Errorf("parts %+v, %v", parts, err)
	}
	ups, err := other.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: bucket, Delimiter: aws.String("/")})
	if err != nil || len(ups.CommonPrefixes) != 1 || *ups.CommonPrefixes[0].Prefix != "jobs/" {
		t.Errorf("uploads %+v, %v", ups, err)
	}
	ups, err = other.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: bucket, Prefix: aws.String("jobs/a/")})
	if err != nil || len(ups.Uploads) != 1 || *ups.Uploads[0].Key != *key || *ups.Uploads[0].UploadId != *up.UploadId {
		t.Errorf("uploads %+v, %v", ups, err)
	}
	if *parts.Initiator.ID != *ups.Uploads[0].Initiator.ID || *parts.Initiator.DisplayName != *ups.Uploads[0].Initiator.DisplayName {
		t.Errorf("the list of parts and that of uploads name two initiators: %+v, %+v", parts.Initiator, ups.Uploads[0].Initiator)
	}
	complete := func(e1, e2 *string, n1, n2 int32) error {
		_, err := other.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{
			Parts: []types.CompletedPart{{PartNumber: &n1, ETag: e1}, {PartNumber: &n2, ETag: e2}},
		}})
		return err
	}
	wantCode(t, complete(p2.CopyPartResult.ETag, p1.ETag, 2, 1), "InvalidPartOrder")
	wantCode(t, complete(p2.CopyPartResult.ETag, p1.ETag, 1, 2), "InvalidPart")
	if err := complete(p1.ETag, p2.CopyPartResult.ETag, 1, 2); err != nil {
		t.Fatal(err)
	}
	g, err := other.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, g.Body); got != first+"2345" || *g.ContentType != "x/y" {
		t.Errorf("%d bytes, %s", len(got), *g.ContentType)
	}
	// A way to write may remember the answer for a client that lost it (F7); it
	// never makes the object anew.
	if err := complete(p1.ETag, p2.CopyPartResult.ETag, 1, 2); err != nil {
		wantCode(t, err, "NoSuchUpload")
	}
	wantCode(t, complete(p2.CopyPartResult.ETag, p1.ETag, 1, 2), "NoSuchUpload")

	// Stale parts are refused; aborting one's own upload is not (F3).
	if up, err = holder.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key}); err != nil {
		t.Fatal(err)
	}
	b.raise("s3://data/jobs/a/", 50)
	_, err = other.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: body("late")})
	wantCode(t, err, codeStale)
	_, err = holder.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: body("late")})
	wantCode(t, err, codeStale)
	if _, err := holder.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key, UploadId: up.UploadId}); err != nil {
		t.Error(err)
	}
}

func TestCopies(t *testing.T) { overWays(t, testCopies) }

func testCopies(t *testing.T, b *bench) {
	c := b.sdk(t, carriedKey, "s3://data/jobs/a/#34")
	ctx := t.Context()
	put := func(bucket, key string) {
		t.Helper()
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &bucket, Key: &key, Body: body("of " + key), Metadata: map[string]string{"colour": "blue"}, ContentType: aws.String("x/y"),
		}); err != nil {
			t.Fatal(err)
		}
	}
	put("data", "jobs/a/in scope")
	put("plain", "out side")
	copyTo := func(bucket, key, source string, change ...func(*s3.CopyObjectInput)) error {
		in := &s3.CopyObjectInput{Bucket: &bucket, Key: &key, CopySource: &source}
		for _, f := range change {
			f(in)
		}
		_, err := c.CopyObject(ctx, in)
		return err
	}
	content := func(bucket, key string) (string, map[string]string, string) {
		t.Helper()
		g, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
		if err != nil {
			t.Fatalf("%s/%s: %v", bucket, key, err)
		}
		return read(t, g.Body), g.Metadata, *g.ContentType
	}
	for _, tc := range []struct{ name, bucket, key, source, want string }{
		{"into", "data", "jobs/a/copy1", "plain/out%20side", "of out side"},
		{"within", "data", "jobs/a/copy2", "/data/jobs/a/in%20scope", "of jobs/a/in scope"},
		{"out", "plain", "copy3", "data/jobs/a/in%20scope", "of jobs/a/in scope"},
		{"beside", "plain", "copy4", "plain/out%20side", "of out side"},
	} {
		if err := copyTo(tc.bucket, tc.key, tc.source); err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		got, meta, kind := content(tc.bucket, tc.key)
		if got != tc.want {
			t.Errorf("%s: %q", tc.name, got)
		}
		if tc.name != "into" && (meta["colour"] != "blue" || len(meta) != 1 || kind != "x/y") {
			t.Errorf("%s: metadata %v, type %s", tc.name, meta, kind)
		}
	}
	if err := copyTo("plain", "copy5", "data/jobs/a/in%20scope", func(in *s3.CopyObjectInput) {
		in.MetadataDirective, in.Metadata = types.MetadataDirectiveReplace, map[string]string{"new": "1"}
	}); err != nil {
		t.Error(err)
	}
	if _, meta, _ := content("plain", "copy5"); !maps.Equal(meta, map[string]string{"new": "1"}) {
		t.Errorf("replaced metadata is %v", meta)
	}
	other := aws.String(`"other"`)
	wantCode(t, copyTo("plain", "x", "data/jobs/a/in%20scope", func(in *s3.CopyObjectInput) { in.CopySourceIfMatch = other }), "PreconditionFailed")
	wantCode(t, copyTo("data", "jobs/a/x", "data/jobs/a/in%20scope", func(in *s3.CopyObjectInput) { in.CopySourceIfMatch = other }), "PreconditionFailed")
	wantCode(t, copyTo("data", "jobs/a/x", "data/jobs/a/none"), "NoSuchKey")
	wantCode(t, copyTo("plain", "x", "data/jobs/a/none"), "NoSuchKey")
	wantCode(t, copyTo("plain", "x", "plain/none"), "NoSuchKey")
	wantCode(t, copyTo("plain", "x", "plain/.s3fence/objects/1"), "NoSuchKey")
	wantCode(t, copyTo("data", "jobs/a/x", "data/jobs/a/in%20scope?versionId=3"), "NoSuchVersion")
	wantCode(t, copyTo("data", "jobs/a/in scope", "data/jobs/a/in%20scope"), "InvalidRequest")
	wantCode(t, copyTo("data", "jobs/b/x", "plain/out%20side"), codeMissing)
	wantCode(t, copyTo("plain", "x", "nokey"), "InvalidArgument")
	// The token of a stale holder fences what it reads, too.
	b.raise("s3://data/jobs/a/", 50)
	wantCode(t, copyTo("plain", "x", "data/jobs/a/in%20scope"), codeStale)

	limited := b.sdk(t, readerKey, "")
	_, err := limited.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String("data"), Key: aws.String("open/x"), CopySource: aws.String("plain/out%20side")})
	wantCode(t, err, "AccessDenied")
}

func TestBatchDeleteIsAnsweredKeyByKey(t *testing.T) { overWays(t, testBatchDeleteIsAnsweredKeyByKey) }

func testBatchDeleteIsAnsweredKeyByKey(t *testing.T, b *bench) {
	ctx := t.Context()
	seed := b.sdk(t, testKey, "")
	for _, k := range []string{"plain1", "free/k"} {
		if _, err := seed.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String(k), Body: body("x")}); err != nil {
			t.Fatal(err)
		}
	}
	holderA, holderB := b.sdk(t, carriedKey, "s3://data/jobs/a/#34"), b.sdk(t, carriedKey, "s3://data/jobs/b/#40")
	for k, c := range map[string]*s3.Client{"jobs/a/1": holderA, "jobs/a/2": holderA, "jobs/b/1": holderB} {
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String(k), Body: body("x")}); err != nil {
			t.Fatal(err)
		}
	}
	keys := []string{"jobs/a/1", "jobs/b/1", "plain1", "jobs/a/absent", "jobs/a//x", ".s3fence/x", "free/k"}
	var ids []types.ObjectIdentifier
	for _, k := range keys {
		ids = append(ids, types.ObjectIdentifier{Key: aws.String(k)})
	}
	out, err := holderA.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: aws.String("data"), Delete: &types.Delete{Objects: ids}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range out.Deleted {
		got[*d.Key] = "deleted"
	}
	for _, e := range out.Errors {
		got[*e.Key] = *e.Code
	}
	want := map[string]string{
		"jobs/a/1": "deleted", "jobs/b/1": codeMissing, "plain1": "deleted", "jobs/a/absent": "deleted",
		"jobs/a//x": codeInvalidName, ".s3fence/x": "AccessDenied", "free/k": codeMissing,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	doc := func(keys ...string) string {
		var d strings.Builder
		d.WriteString("<Delete><Quiet>true</Quiet>")
		for _, k := range keys {
			d.WriteString("<Object><Key>" + k + "</Key></Object>")
		}
		return d.String() + "</Delete>"
	}
	// A token by header: outside of its scope each key gets its own error.
	a := b.call(t, call{method: "POST", target: "/data?delete", body: doc("jobs/a/2", "jobs/b/1", "plain2"), header: map[string]string{"X-Fencing-Token": "34", "X-Fencing-Scope": "s3://data/jobs/a/"}})
	if a.status != 200 || strings.Count(a.body, "<Error>") != 2 || strings.Count(a.body, codeInvalidToken) != 2 || strings.Contains(a.body, "<Deleted>") {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = b.call(t, call{method: "POST", target: "/data?delete", body: doc("jobs/a/2"), header: map[string]string{"X-Fencing-Token": "33"}})
	if a.status != 200 || !strings.Contains(a.body, codeStale) || !strings.Contains(a.body, "<HighestToken>34<") {
		t.Errorf("%d %s", a.status, a.body)
	}
	for name, d := range map[string]string{"no xml": "x", "no keys": doc(), "too many": doc(slices.Repeat([]string{"k"}, maxBatch+1)...)} {
		if a := b.call(t, call{method: "POST", target: "/data?delete", body: d}); a.code() != "MalformedXML" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := b.call(t, call{method: "POST", target: "/data?delete", body: doc(slices.Repeat([]string{strings.Repeat("k", 1000)}, 2200)...)}); a.code() != "MaxMessageLengthExceeded" {
		t.Errorf("too long: %d %s", a.status, a.body)
	}
	if a := b.call(t, call{method: "POST", target: "/data?delete", body: doc("k"), presign: true}); a.code() != "InvalidRequest" {
		t.Errorf("no digest: %d %s", a.status, a.body)
	}
}

func TestListsMergePlainAndGuarded(t *testing.T) { overWays(t, testListsMergePlainAndGuarded) }

func testListsMergePlainAndGuarded(t *testing.T, b *bench) {
	ctx := t.Context()
	holder, c := b.sdk(t, carriedKey, "s3://data/jobs/a/#34"), b.sdk(t, testKey, "")
	for _, k := range []string{"jobs/a/1", "jobs/a/2"} {
		if _, err := holder.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String(k), Body: body("x")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range []string{"a", "z"} {
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String(k), Body: body("x")}); err != nil {
			t.Fatal(err)
		}
	}
	for _, client := range []*s3.Client{c, holder} {
		var keys []string
		pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: aws.String("data"), MaxKeys: aws.Int32(1)})
		for pages.HasMorePages() {
			p, err := pages.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range p.Contents {
				keys = append(keys, *o.Key)
			}
		}
		if want := []string{"a", "jobs/a/1", "jobs/a/2", "z"}; !slices.Equal(keys, want) {
			t.Errorf("%q, want %q", keys, want)
		}
	}
	// A list inside the scope is a fenced read (F3, F5).
	if l, err := holder.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("data"), Prefix: aws.String("jobs/a/")}); err != nil || *l.KeyCount != 2 {
		t.Errorf("%+v, %v", l, err)
	}
	b.raise("s3://data/jobs/a/", 50)
	_, err := holder.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("data"), Prefix: aws.String("jobs/a/")})
	wantCode(t, err, codeStale)
	if _, err := holder.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("data"), Prefix: aws.String("jobs/")}); err != nil {
		t.Errorf("a list of the parent: %v", err)
	}
}

func TestMinioClientInAScope(t *testing.T) { overWays(t, testMinioClientInAScope) }

func testMinioClientInAScope(t *testing.T, b *bench) {
	c := b.minio(t)
	content := bytes.Repeat([]byte("y"), 1<<20)
	if _, err := c.PutObject(t.Context(), "data", "jobs/a/m", bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{UserMetadata: map[string]string{"fencing-token": "34", "a": "b"}}); err != nil {
		t.Fatal(err)
	}
	_, err := c.PutObject(t.Context(), "data", "jobs/a/m", bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{UserMetadata: map[string]string{"fencing-token": "33"}})
	if minio.ToErrorResponse(err).Code != codeStale {
		t.Errorf("stale: %v", err)
	}
	o, err := c.GetObject(t.Context(), "data", "jobs/a/m", minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, o); got != string(content) {
		t.Errorf("%d bytes", len(got))
	}
}

func TestUploadChecksums(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	for algorithm, code := range map[string]string{"CRC32C": "", "sha256": "", "SHA512": "NotImplemented", "MD5": "NotImplemented", "ROT13": "InvalidRequest"} {
		for _, c := range []call{
			{method: "POST", target: "/data/jobs/a/k?uploads", header: map[string]string{"X-Fencing-Token": "34", "x-amz-checksum-algorithm": algorithm}},
			{method: "PUT", target: "/data/jobs/a/copy", header: map[string]string{"X-Fencing-Token": "34", "x-amz-checksum-algorithm": algorithm, "x-amz-copy-source": "data/jobs/a/k"}},
		} {
			got := b.call(t, c)
			if code == "" && got.code() == "NoSuchKey" && c.method == "PUT" {
				continue
			}
			if got.code() != code || code != "" && (strings.Contains(got.body, "["+algorithm) || strings.Count(got.body, algorithm) > 1 || !strings.Contains(got.body, "CRC64NVME")) {
				t.Errorf("%s %s: %d %s", c.method, algorithm, got.status, got.body)
			}
		}
	}
}
