package objectstore_test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/objectstore"
)

const mib = 1 << 20

func (w *world) beginUpload(t testing.TB, key string) string {
	t.Helper()
	out, err := w.aws.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: &key, Metadata: map[string]string{"m": "1"}})
	require.NoError(t, err)
	return *out.UploadId
}

func (w *world) tryPart(t testing.TB, key, id string, number int32, content []byte) (string, error) {
	t.Helper()
	out, err := w.aws.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: aws.String(bucket), Key: &key, UploadId: &id, PartNumber: &number, Body: bytes.NewReader(content)})
	if err != nil {
		return "", err
	}
	return *out.ETag, nil
}

func (w *world) uploadPart(t testing.TB, key, id string, number int32, content []byte) string {
	t.Helper()
	etag, err := w.tryPart(t, key, id, number, content)
	require.NoError(t, err)
	return etag
}

func partList(numbered map[int32]string) *types.CompletedMultipartUpload {
	var list types.CompletedMultipartUpload
	for n := int32(1); n <= 10000; n++ {
		if etag, ok := numbered[n]; ok {
			list.Parts = append(list.Parts, types.CompletedPart{PartNumber: aws.Int32(n), ETag: aws.String(etag)})
		}
	}
	return &list
}

func (w *world) complete(t testing.TB, key, id string, parts map[int32]string) (string, error) {
	t.Helper()
	out, err := w.aws.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: aws.String(bucket), Key: &key, UploadId: &id, MultipartUpload: partList(parts)})
	if err != nil {
		return "", err
	}
	return *out.ETag, nil
}

func (w *world) abort(t testing.TB, key, id string) error {
	t.Helper()
	_, err := w.aws.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: aws.String(bucket), Key: &key, UploadId: &id})
	return err
}

func composite(parts ...[]byte) string {
	sum := md5.New()
	for _, p := range parts {
		one := md5.Sum(p)
		sum.Write(one[:])
	}
	return fmt.Sprintf(`"%s-%d"`, hex.EncodeToString(sum.Sum(nil)), len(parts))
}

func blobFiles(t testing.TB, dir string) int {
	t.Helper()
	n := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(dir, "blobs"), func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	}))
	return n
}

func TestMultipartOutOfOrderReplacedAndPartlyUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openWorld(t, dir, objectstore.Options{})
	p1, p2, last := pattern(5*mib, 1), pattern(5*mib+3, 2), pattern(100, 3)
	id := w.beginUpload(t, "k//x")
	parts := map[int32]string{}
	parts[9] = w.uploadPart(t, "k//x", id, 9, last)
	w.uploadPart(t, "k//x", id, 1, pattern(10, 9))
	w.uploadPart(t, "k//x", id, 4, pattern(5*mib, 8)) // left out of the list
	parts[2] = w.uploadPart(t, "k//x", id, 2, p2)
	parts[1] = w.uploadPart(t, "k//x", id, 1, p1)

	listed, err := w.aws.ListParts(t.Context(), &s3.ListPartsInput{Bucket: aws.String(bucket), Key: aws.String("k//x"), UploadId: &id, MaxParts: aws.Int32(3)})
	require.NoError(t, err)
	require.Len(t, listed.Parts, 3)
	require.True(t, *listed.IsTruncated)
	require.Equal(t, "4", *listed.NextPartNumberMarker)
	listed, err = w.aws.ListParts(t.Context(), &s3.ListPartsInput{Bucket: aws.String(bucket), Key: aws.String("k//x"), UploadId: &id, PartNumberMarker: listed.NextPartNumberMarker})
	require.NoError(t, err)
	require.Len(t, listed.Parts, 1)
	require.Equal(t, parts[9], *listed.Parts[0].ETag)

	etag, err := w.complete(t, "k//x", id, parts)
	require.NoError(t, err)
	require.Equal(t, composite(p1, p2, last), etag)
	whole := bytes.Join([][]byte{p1, p2, last}, nil)
	require.True(t, bytes.Equal(whole, w.get(t, "k//x")))
	require.Equal(t, 3, blobFiles(t, dir), "replaced and unused parts are gone")

	head, err := w.aws.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("k//x"), IfMatch: &etag})
	require.NoError(t, err, "conditions know multipart ETags")
	require.Equal(t, "1", head.Metadata["m"])
	require.EqualValues(t, len(whole), *head.ContentLength)
	for spec, want := range map[string][]byte{
		fmt.Sprintf("bytes=%d-%d", 5*mib-2, 5*mib+1): whole[5*mib-2 : 5*mib+2],
		"bytes=-101": whole[len(whole)-101:],
	} {
		out, err := w.aws.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k//x"), Range: &spec})
		require.NoError(t, err)
		got, err := io.ReadAll(out.Body)
		require.NoError(t, err)
		require.Equal(t, want, got, "a range over a seam of parts")
	}
	_, err = w.aws.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k//x"), PartNumber: aws.Int32(99)})
	require.Equal(t, "InvalidPartNumber", codeOf(err))
	second, err := w.aws.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k//x"), PartNumber: aws.Int32(2)})
	require.NoError(t, err)
	got, err := io.ReadAll(second.Body)
	require.NoError(t, err)
	require.True(t, bytes.Equal(p2, got))
	require.EqualValues(t, 3, *second.PartsCount)
	attributes, err := w.aws.GetObjectAttributes(t.Context(), &s3.GetObjectAttributesInput{Bucket: aws.String(bucket), Key: aws.String("k//x"),
		ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesEtag, types.ObjectAttributesObjectSize}})
	require.NoError(t, err)
	require.Equal(t, strings.Trim(etag, `"`), *attributes.ETag)
	page, err := w.aws.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket)})
	require.NoError(t, err)
	require.Equal(t, etag, *page.Contents[0].ETag)

	again, err := w.complete(t, "k//x", id, parts)
	require.NoError(t, err, "a repeated Complete is told the same")
	require.Equal(t, etag, again)
	require.Equal(t, 404, statusOf(w.abort(t, "k//x", id)))
	delete(parts, 9)
	require.Equal(t, "NoSuchUpload", codeOf(second2(w.complete(t, "k//x", id, parts))), "another list is another request")
	require.True(t, bytes.Equal(whole, w.get(t, "k//x")))

	copied, err := w.aws.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String("copy"), CopySource: aws.String(bucket + "/k//x"), CopySourceIfMatch: &etag})
	require.NoError(t, err)
	require.Equal(t, md5Of(whole), *copied.CopyObjectResult.ETag)
	require.Equal(t, 3, blobFiles(t, dir), "a copy costs no bytes")
	w.put(t, "k//x", []byte("small"))
	require.True(t, bytes.Equal(whole, w.get(t, "copy")))
	require.NoError(t, w.minio.RemoveObject(t.Context(), bucket, "copy", minio.RemoveObjectOptions{}))
	require.Zero(t, blobFiles(t, dir))
}

func second2(_ string, err error) error { return err }

func TestCompleteRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.beginUpload(t, "k")
	small := w.uploadPart(t, "k", id, 1, []byte("small"))
	last := w.uploadPart(t, "k", id, 2, []byte("last"))
	for _, c := range []struct {
		name, key, id, code string
		parts               []types.CompletedPart
	}{
		{"small part", "k", id, "EntityTooSmall", []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: &small}, {PartNumber: aws.Int32(2), ETag: &last}}},
		{"wrong order", "k", id, "InvalidPartOrder", []types.CompletedPart{{PartNumber: aws.Int32(2), ETag: &last}, {PartNumber: aws.Int32(1), ETag: &small}}},
		{"twice", "k", id, "InvalidPartOrder", []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: &small}, {PartNumber: aws.Int32(1), ETag: &small}}},
		{"another ETag", "k", id, "InvalidPart", []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: &last}}},
		{"absent part", "k", id, "InvalidPart", []types.CompletedPart{{PartNumber: aws.Int32(3), ETag: &last}}},
		{"no parts", "k", id, "MalformedXML", nil},
		{"another key", "other", id, "NoSuchUpload", []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: &small}}},
		{"another id", "k", "nonsense", "NoSuchUpload", []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: &small}}},
	} {
		_, err := w.aws.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(c.key), UploadId: aws.String(c.id),
			MultipartUpload: &types.CompletedMultipartUpload{Parts: c.parts}})
		require.Equal(t, c.code, codeOf(err), c.name)
	}
	etag := w.put(t, "k", []byte("there"))
	complete := func(in s3.CompleteMultipartUploadInput) error {
		in.Bucket, in.Key, in.UploadId, in.MultipartUpload = aws.String(bucket), aws.String("k"), &id, partList(map[int32]string{1: small})
		_, err := w.aws.CompleteMultipartUpload(t.Context(), &in)
		return err
	}
	require.Equal(t, 412, statusOf(complete(s3.CompleteMultipartUploadInput{IfNoneMatch: aws.String("*")})))
	require.Equal(t, 412, statusOf(complete(s3.CompleteMultipartUploadInput{IfMatch: aws.String(`"no"`)})))
	require.Equal(t, []byte("there"), w.get(t, "k"))
	require.NoError(t, complete(s3.CompleteMultipartUploadInput{IfMatch: &etag}), "a refused Complete leaves the upload as it was")
	require.Equal(t, []byte("small"), w.get(t, "k"))
}

func TestPartCopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openWorld(t, dir, objectstore.Options{MinPartBytes: -1})
	big, small := pattern(300<<10, 4), pattern(1000, 5)
	w.put(t, "big", big)
	w.put(t, "small", small)
	id := w.beginUpload(t, "k")
	parts := map[int32]string{}
	for n, c := range []struct {
		source, span string
		want         []byte
	}{{"big", "bytes=100-200099", big[100:200100]}, {"small", "", small}, {"small", "bytes=10-19", small[10:20]}, {"big", "", big}} {
		in := &s3.UploadPartCopyInput{Bucket: aws.String(bucket), Key: aws.String("k"), UploadId: &id, PartNumber: aws.Int32(int32(n + 1)), CopySource: aws.String(bucket + "/" + c.source)}
		if c.span != "" {
			in.CopySourceRange = &c.span
		}
		out, err := w.aws.UploadPartCopy(t.Context(), in)
		require.NoError(t, err)
		require.Equal(t, md5Of(c.want), *out.CopyPartResult.ETag)
		parts[int32(n+1)] = *out.CopyPartResult.ETag
	}
	_, err := w.aws.UploadPartCopy(t.Context(), &s3.UploadPartCopyInput{Bucket: aws.String(bucket), Key: aws.String("k"), UploadId: &id, PartNumber: aws.Int32(9),
		CopySource: aws.String(bucket + "/small"), CopySourceRange: aws.String("bytes=10-1000")})
	require.Equal(t, "InvalidRange", codeOf(err))
	_, err = w.aws.UploadPartCopy(t.Context(), &s3.UploadPartCopyInput{Bucket: aws.String(bucket), Key: aws.String("k"), UploadId: &id, PartNumber: aws.Int32(9),
		CopySource: aws.String(bucket + "/small"), CopySourceIfMatch: aws.String(`"no"`)})
	require.Equal(t, 412, statusOf(err))
	w.put(t, "big", []byte("gone"))
	etag, err := w.complete(t, "k", id, parts)
	require.NoError(t, err)
	require.Equal(t, composite(big[100:200100], small, small[10:20], big), etag)
	require.True(t, bytes.Equal(bytes.Join([][]byte{big[100:200100], small, small[10:20], big}, nil), w.get(t, "k")))
}

func TestUploadsAreListedAndAborted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openWorld(t, dir, objectstore.Options{})
	type key struct{ key, id string }
	var want []key
	for _, k := range []string{"a", "a", "a", "b/1", "b/2", "c"} {
		id := w.beginUpload(t, k)
		w.uploadPart(t, k, id, 1, []byte("x"))
		want = append(want, key{k, id})
	}
	var got []key
	in := &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket), MaxUploads: aws.Int32(2)}
	for {
		page, err := w.aws.ListMultipartUploads(t.Context(), in)
		require.NoError(t, err)
		for _, u := range page.Uploads {
			got = append(got, key{*u.Key, *u.UploadId})
		}
		if !*page.IsTruncated {
			break
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
	require.Equal(t, want, got)
	page, err := w.aws.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket), Delimiter: aws.String("/")})
	require.NoError(t, err)
	require.Len(t, page.Uploads, 4)
	require.Len(t, page.CommonPrefixes, 1)
	for _, u := range want {
		require.NoError(t, w.abort(t, u.key, u.id))
		require.Equal(t, 404, statusOf(w.abort(t, u.key, u.id)))
		require.Equal(t, "NoSuchUpload", codeOf(second2(w.tryPart(t, u.key, u.id, 1, []byte("late")))))
	}
	require.Zero(t, blobFiles(t, dir))
}

// Complete and Abort of one upload exclude each other: exactly one succeeds,
// and the object is there exactly when Complete did.
func TestAbortRacesComplete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 30 {
		key := fmt.Sprint("race-", i)
		id := w.beginUpload(t, key)
		etag := w.uploadPart(t, key, id, 1, []byte(key))
		var completed, aborted, late error
		var wg sync.WaitGroup
		wg.Go(func() { _, completed = w.complete(t, key, id, map[int32]string{1: etag}) })
		wg.Go(func() { aborted = w.abort(t, key, id) })
		wg.Go(func() { _, late = w.tryPart(t, key, id, 1, []byte(key)) })
		wg.Wait()
		require.True(t, (completed == nil) != (aborted == nil), "complete: %v, abort: %v", completed, aborted)
		if late != nil {
			require.Equal(t, 404, statusOf(late))
		}
		_, err := w.minio.StatObject(t.Context(), bucket, key, minio.StatObjectOptions{})
		require.Equal(t, completed == nil, err == nil)
	}
}

func TestMinioMultipart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := pattern(17*mib, 6)
	_, err := w.minio.PutObject(t.Context(), bucket, "k", bytes.NewReader(content), int64(len(content)), minio.PutObjectOptions{PartSize: 5 * mib})
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, w.get(t, "k")))
	_, err = w.minio.PutObject(t.Context(), bucket, "unknown", io.MultiReader(bytes.NewReader(content)), -1, minio.PutObjectOptions{PartSize: 6 * mib})
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, w.get(t, "unknown")))
	_, err = w.minio.ComposeObject(t.Context(), minio.CopyDestOptions{Bucket: bucket, Object: "composed"},
		minio.CopySrcOptions{Bucket: bucket, Object: "k"}, minio.CopySrcOptions{Bucket: bucket, Object: "unknown"})
	require.NoError(t, err)
	require.True(t, bytes.Equal(append(bytes.Clone(content), content...), w.get(t, "composed")))
}
