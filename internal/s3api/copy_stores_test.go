package s3api

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/s3fence/s3fence/internal/objectstore"
	"github.com/s3fence/s3fence/internal/upstream"
)

// damaging passes requests on to a store, and spoils the bodies of its GETs while it
// is told to.
type damaging struct {
	next http.Handler
	how  atomic.Pointer[string]
}

func (d *damaging) set(how string) { d.how.Store(&how) }

func (d *damaging) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	how := *d.how.Load()
	if how == "" || r.Method != http.MethodGet || strings.Contains(r.URL.RawQuery, "tagging") {
		d.next.ServeHTTP(w, r)
		return
	}
	rec := httptest.NewRecorder()
	d.next.ServeHTTP(rec, r)
	b := rec.Body.Bytes()
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	if how == "flip" && len(b) > 0 {
		b[len(b)/2] ^= 1
	}
	if how == "cut" && len(b) > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		w.WriteHeader(rec.Code)
		_, _ = w.Write(b[:len(b)-1])
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(b)
}

// newFar is an embedded store whose reads can be damaged.
func newFar(t *testing.T, buckets ...string) (*upstream.Client, *damaging) {
	t.Helper()
	back, err := objectstore.Open(t.Context(), t.TempDir(), objectstore.Options{AccessKey: storeKey, SecretKey: testSecret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = back.Close() })
	d := &damaging{next: back.Handler()}
	d.set("")
	srv := httptest.NewServer(d)
	t.Cleanup(srv.Close)
	return newUpstream(t, srv.URL, buckets...), d
}

// Copies between two stores, out of a plain bucket and out of a scope, into a plain
// bucket and into a scope: whole and in parts, with everything that belongs to an
// object. What the source sends damaged or not to its end never becomes one.
func TestCopiesBetweenStores(t *testing.T) {
	t.Parallel()
	far, harm := newFar(t, "far", "farther")
	var near *damaging
	b := newSealed(t, func(o *Options) {
		m := *o.Buckets.(*bucketMap)
		// The bucket with guards lies in a store of its own, too.
		var home *upstream.Client
		home, near = newFar(t, "data")
		m.far = map[string]*upstream.Client{"far": far, "farther": far, "data": home}
		o.Buckets = &m
		// Small, so that both ways without a digest are taken.
		o.Limits.Spool = 6 << 20
	})
	ctx := t.Context()
	c := b.sdk(t, testKey, "", func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, smithyhttp.AddHeaderValue("X-Fencing-Token", "34"))
	})
	plain := b.sdk(t, testKey, "")
	of := func(bucket string) *s3.Client {
		if bucket == "data" {
			return c
		}
		return plain
	}
	put := func(bucket, key string, content []byte) {
		t.Helper()
		_, err := of(bucket).PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(content), ContentType: aws.String("text/x-a"),
			Metadata: map[string]string{"colour": "blue"}, Tagging: aws.String("k=v w")})
		if err != nil {
			t.Fatal(err)
		}
	}
	get := func(bucket, key string) (*s3.GetObjectOutput, []byte, error) {
		out, err := plain.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
		if err != nil {
			return nil, nil, err
		}
		defer out.Body.Close()
		all, err := io.ReadAll(out.Body)
		return out, all, err
	}
	// made of parts: its ETag is no digest.
	inParts := func(bucket, key string, pieces ...[]byte) {
		t.Helper()
		cl := of(bucket)
		up, err := cl.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key, ContentType: aws.String("text/x-a"), Metadata: map[string]string{"colour": "blue"}, Tagging: aws.String("k=v w")})
		if err != nil {
			t.Fatal(err)
		}
		var parts []types.CompletedPart
		for i, p := range pieces {
			out, err := cl.UploadPart(ctx, &s3.UploadPartInput{Bucket: &bucket, Key: &key, UploadId: up.UploadId, PartNumber: aws.Int32(int32(i + 1)), Body: bytes.NewReader(p)})
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(int32(i + 1))})
		}
		if _, err := cl.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &bucket, Key: &key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}); err != nil {
			t.Fatal(err)
		}
	}
	small := []byte("some content")
	large := bytes.Repeat([]byte("0123456789abcde\n"), 5<<16) // 5 MiB, in memory nowhere
	sources := map[string][]byte{"one": small, "two parts": append(bytes.Clone(large), small...), "three parts": bytes.Join([][]byte{large, large, small}, nil), "empty": {}}
	for _, from := range []string{"far", "data"} {
		dir := map[string]string{"far": "", "data": "jobs/a/"}[from]
		put(from, dir+"one", small)
		put(from, dir+"empty", nil)
		inParts(from, dir+"two parts", large, small)
		inParts(from, dir+"three parts", large, large, small)
	}
	for _, way := range []struct{ from, to string }{
		{"far", "plain"}, {"far", "data"}, {"data", "plain"}, {"data", "far"},
	} {
		dirs := map[string]string{"data": "jobs/a/"}
		for name, content := range sources {
			if name == "three parts" && way.to != "plain" {
				continue // larger than what is spooled: another way at plain destinations only
			}
			src, dst := way.from+"/"+dirs[way.from]+strings.ReplaceAll(name, " ", "%20"), dirs[way.to]+"copy of "+name+" of "+way.from+" of "+way.from
			is := fmt.Sprintf("%s → %s", src, way.to)
			copyIt := func(change func(*s3.CopyObjectInput)) (*s3.CopyObjectOutput, error) {
				in := &s3.CopyObjectInput{Bucket: aws.String(way.to), Key: &dst, CopySource: &src}
				change(in)
				return of(way.to).CopyObject(ctx, in)
			}
			// While the source is damaged nothing comes to be.
			for _, d := range []*damaging{harm, near} {
				for _, how := range []string{"flip", "cut"} {
					if len(content) == 0 || d == harm && way.from != "far" || d == near && way.from != "data" || how == "flip" && name != "one" {
						continue // what has no digest cannot be known to be damaged
					}
					d.set(how)
					_, err := copyIt(func(*s3.CopyObjectInput) {})
					d.set("")
					wantCode(t, err, codeUnavailable)
					if _, _, err := get(way.to, dst); err == nil {
						t.Fatalf("%s, %s: there is an object", is, how)
					}
				}
			}
			if _, err := copyIt(func(in *s3.CopyObjectInput) { in.CopySourceIfMatch = aws.String(`"other"`) }); err == nil {
				t.Fatalf("%s: the source's condition did not hold", is)
			}
			out, err := copyIt(func(*s3.CopyObjectInput) {})
			if err != nil {
				t.Fatalf("%s: %v", is, err)
			}
			got, all, err := get(way.to, dst)
			if err != nil || !bytes.Equal(all, content) {
				t.Fatalf("%s: %d bytes, %v", is, len(all), err)
			}
			if *got.ETag != *out.CopyObjectResult.ETag || *got.ContentType != "text/x-a" || got.Metadata["colour"] != "blue" || len(got.Metadata) != 1 || aws.ToInt32(got.TagCount) != 1 {
				t.Errorf("%s: %+v", is, got)
			}
			if name != "one" {
				continue
			}
			if _, err := copyIt(func(in *s3.CopyObjectInput) {
				in.MetadataDirective, in.Metadata = types.MetadataDirectiveReplace, map[string]string{"a": "b"}
				in.TaggingDirective = types.TaggingDirectiveReplace
			}); err != nil {
				t.Fatalf("%s: %v", is, err)
			}
			if got, _, err = get(way.to, dst); err != nil || got.Metadata["a"] != "b" || len(got.Metadata) != 1 || aws.ToInt32(got.TagCount) != 0 || aws.ToString(got.ContentType) == "text/x-a" {
				t.Errorf("%s, replaced: %+v %v", is, got, err)
			}
		}
		// In parts, the first a range of one.
		dst, src := dirs[way.to]+"joined", way.from+"/"+dirs[way.from]+"two%20parts"
		cl := of(way.to)
		up, err := cl.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String(way.to), Key: &dst})
		if err != nil {
			t.Fatal(err)
		}
		part := func(n int32, rng string) (*s3.UploadPartCopyOutput, error) {
			in := &s3.UploadPartCopyInput{Bucket: aws.String(way.to), Key: &dst, UploadId: up.UploadId, PartNumber: &n, CopySource: &src}
			if rng != "" {
				in.CopySourceRange = &rng
			}
			return cl.UploadPartCopy(ctx, in)
		}
		if _, err := part(1, "bytes=5-99999999"); err == nil {
			t.Errorf("%v: a range beyond the end", way)
		}
		var parts []types.CompletedPart
		for n, rng := range map[int32]string{1: fmt.Sprintf("bytes=5-%d", 5+5<<20), 2: ""} {
			out, err := part(n, rng)
			if err != nil {
				t.Fatalf("%v: %v", way, err)
			}
			parts = append(parts, types.CompletedPart{PartNumber: aws.Int32(n), ETag: out.CopyPartResult.ETag})
		}
		if *parts[0].PartNumber == 2 {
			parts[0], parts[1] = parts[1], parts[0]
		}
		if _, err := cl.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: aws.String(way.to), Key: &dst, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}); err != nil {
			t.Fatalf("%v: %v", way, err)
		}
		whole := sources["two parts"]
		if _, all, err := get(way.to, dst); err != nil || !bytes.Equal(all, append(bytes.Clone(whole[5:5+5<<20+1]), whole...)) {
			t.Errorf("%v, joined: %d bytes, %v", way, len(all), err)
		}
	}

	// What has no digest but a checksum of all its bytes is held against that.
	summed := aws.String("jobs/a/summed")
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String("data"), Key: summed, ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme})
	if err != nil {
		t.Fatal(err)
	}
	sent, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: aws.String("data"), Key: summed, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader(small), ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: aws.String("data"), Key: summed, UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: sent.ETag}}}}); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"flip", ""} {
		near.set(how)
		_, err := plain.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String("plain"), Key: aws.String("summed"), CopySource: aws.String("data/jobs/a/summed")})
		if (err == nil) != (how == "") {
			t.Errorf("damaged by %q: %v", how, err)
		}
	}

	// The source needs its own right, and a token for it that is stale is refused.
	reader := b.sdk(t, readerKey, "")
	_, err = reader.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String("plain"), Key: aws.String("x"), CopySource: aws.String("far/one")})
	wantCode(t, err, "AccessDenied")
	_, err = plain.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String("plain"), Key: aws.String("x"), CopySource: aws.String("far/absent")})
	wantCode(t, err, "NoSuchKey")
	stale := b.call(t, call{method: "PUT", target: "/data/jobs/a/late", header: map[string]string{"X-Fencing-Token": "33", "X-Amz-Copy-Source": "far/one"}})
	if stale.code() != codeStale {
		t.Errorf("stale: %s", stale.body)
	}
}
