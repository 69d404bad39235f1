package objectstore_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"
)

func asError(err error, target any) bool { return errors.As(err, target) }

func codeOf(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return minio.ToErrorResponse(err).Code
}

// exactKeys are keys that some stores take for one another.
func exactKeys() []string {
	return []string{
		"plain", "a//b", "a/b", "a/./b", "../x", "x", "/lead", "lead", "//two", "trail/", "trail", "trail//", ".", "..", "a/../b",
		"percent%2Fkey", "percent/key", "%", "plus+key", "plus key", "plus%20key", "q?mark", "amp&eq=x", "semi;colon", "hash#key",
		"Grüße/日本語/🦀", "tab\tkey", "quote\"'<>&", "back\\slash", "*", "~tilde", strings.Repeat("k", 1024), "é", "e\u0301",
	}
}

func TestExactKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, key := range exactKeys() {
		w.put(t, key, pattern(100+i, byte(i)))
	}
	for i, key := range exactKeys() {
		require.Equal(t, pattern(100+i, byte(i)), w.get(t, key), "%q by the AWS SDK", key)
	}
	var listed []string
	pages := s3.NewListObjectsV2Paginator(w.aws, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), MaxKeys: aws.Int32(7), EncodingType: types.EncodingTypeUrl})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, o := range page.Contents {
			listed = append(listed, unescape(t, *o.Key))
		}
	}
	require.ElementsMatch(t, exactKeys(), listed)
	require.IsIncreasing(t, listed, "lists are ordered by bytes")
	_, err := w.aws.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(strings.Repeat("k", 1025)), Body: strings.NewReader("x")})
	require.Equal(t, "KeyTooLongError", codeOf(err))
}

// clientChecks is the table of what clients rely on. Each runs alone on a
// fresh bucket.
var clientChecks = []struct {
	name string
	run  func(t *testing.T, w *world)
}{
	{"put and get, inlined and in a file, both clients", func(t *testing.T, w *world) {
		for _, size := range []int{0, 1, 1000, 32 << 10, 32<<10 + 1, 3 << 20} {
			content := pattern(size, 1)
			require.Equal(t, md5Of(content), w.put(t, "k", content))
			require.Equal(t, content, w.get(t, "k"))
			info, err := w.minio.PutObject(t.Context(), bucket, "m", bytes.NewReader(content), int64(size), minio.PutObjectOptions{})
			require.NoError(t, err, "minio-go signs each chunk")
			require.Equal(t, strings.Trim(md5Of(content), `"`), info.ETag)
			o, err := w.minio.GetObject(t.Context(), bucket, "m", minio.GetObjectOptions{})
			require.NoError(t, err)
			got, err := io.ReadAll(o)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, got), "size %d", size)
		}
	}},
	{"metadata and headers round trip", func(t *testing.T, w *world) {
		in := &s3.PutObjectInput{
			Bucket: aws.String(bucket), Key: aws.String("k"), Body: strings.NewReader("x"),
			ContentType: aws.String("text/x-y"), CacheControl: aws.String("no-store"), ContentDisposition: aws.String(`attachment; filename="a"`),
			ContentEncoding: aws.String("gzip"), ContentLanguage: aws.String("de"), Tagging: aws.String("a=1&b=2"),
			Metadata: map[string]string{"fencing-token": "34", "x": "a b  c"},
		}
		_, err := w.aws.PutObject(t.Context(), in)
		require.NoError(t, err)
		head, err := w.aws.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: in.Bucket, Key: in.Key})
		require.NoError(t, err)
		require.Equal(t, in.Metadata["fencing-token"], head.Metadata["fencing-token"])
		require.Equal(t, in.ContentType, head.ContentType)
		require.Equal(t, in.CacheControl, head.CacheControl)
		require.Equal(t, in.ContentDisposition, head.ContentDisposition)
		require.Equal(t, in.ContentEncoding, head.ContentEncoding, "aws-chunked is not part of it")
		require.Equal(t, in.ContentLanguage, head.ContentLanguage)
		require.Equal(t, "bytes", *head.AcceptRanges)
		require.EqualValues(t, 1, *head.ContentLength)
		require.NotNil(t, head.LastModified)
		require.Equal(t, md5Of([]byte("x")), *head.ETag)
		tags, err := w.aws.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: in.Bucket, Key: in.Key})
		require.NoError(t, err)
		require.Len(t, tags.TagSet, 2)
	}},
	{"ranges", func(t *testing.T, w *world) {
		for _, size := range []int{1000, 200 << 10} {
			content := pattern(size, 2)
			w.put(t, "k", content)
			for spec, want := range map[string][]byte{
				"bytes=0-0": content[:1], "bytes=10-19": content[10:20], "bytes=990-": content[990:], "bytes=-5": content[size-5:],
				"bytes=0-99999999": content, "bytes=-99999999": content,
			} {
				out, err := w.aws.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k"), Range: &spec})
				require.NoError(t, err, spec)
				got, err := io.ReadAll(out.Body)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got), spec)
				require.NotEmpty(t, *out.ContentRange)
			}
			_, err := w.aws.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k"), Range: aws.String("bytes=99999999-")})
			require.Equal(t, "InvalidRange", codeOf(err))
			require.Equal(t, http.StatusRequestedRangeNotSatisfiable, statusOf(err))
		}
	}},
	{"read conditions", func(t *testing.T, w *world) {
		etag := w.put(t, "k", []byte("x"))
		get := func(in s3.GetObjectInput) error {
			in.Bucket, in.Key = aws.String(bucket), aws.String("k")
			_, err := w.aws.GetObject(t.Context(), &in)
			return err
		}
		require.NoError(t, get(s3.GetObjectInput{IfMatch: &etag}))
		require.Equal(t, 412, statusOf(get(s3.GetObjectInput{IfMatch: aws.String(`"no"`)})))
		require.Equal(t, 304, statusOf(get(s3.GetObjectInput{IfNoneMatch: &etag})))
		require.NoError(t, get(s3.GetObjectInput{IfNoneMatch: aws.String(`"no"`)}))
		_, err := w.aws.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("k"), IfMatch: aws.String(`"no"`)})
		require.Equal(t, 412, statusOf(err))
	}},
	{"write conditions", func(t *testing.T, w *world) {
		put := func(in s3.PutObjectInput) error {
			in.Bucket, in.Key, in.Body = aws.String(bucket), aws.String("k"), strings.NewReader("new")
			_, err := w.aws.PutObject(t.Context(), &in)
			return err
		}
		require.Equal(t, 404, statusOf(put(s3.PutObjectInput{IfMatch: aws.String(`"no"`)})))
		require.NoError(t, put(s3.PutObjectInput{IfNoneMatch: aws.String("*")}))
		err := put(s3.PutObjectInput{IfNoneMatch: aws.String("*")})
		require.Equal(t, "PreconditionFailed", codeOf(err))
		require.Equal(t, 412, statusOf(put(s3.PutObjectInput{IfMatch: aws.String(`"no"`)})))
		require.NoError(t, put(s3.PutObjectInput{IfMatch: aws.String(md5Of([]byte("new")))}))
	}},
	{"delete conditions", func(t *testing.T, w *world) {
		etag := w.put(t, "k", []byte("x"))
		del := func(match string) error {
			_, err := w.aws.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String("k"), IfMatch: &match})
			return err
		}
		require.Equal(t, 412, statusOf(del(`"no"`)))
		require.NoError(t, del(etag))
		require.Equal(t, 412, statusOf(del(etag)), "If-Match on a free key")
		_, err := w.aws.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
		require.NoError(t, err, "deleting nothing is no error")
	}},
	{"batch delete", func(t *testing.T, w *world) {
		etag := w.put(t, "a//b", []byte("x"))
		w.put(t, "keep", []byte("x"))
		w.put(t, "<&>", []byte("x"))
		out, err := w.aws.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: aws.String(bucket), Delete: &types.Delete{Objects: []types.ObjectIdentifier{
			{Key: aws.String("a//b"), ETag: &etag}, {Key: aws.String("keep"), ETag: aws.String(`"no"`)}, {Key: aws.String("<&>")}, {Key: aws.String("absent")},
		}}})
		require.NoError(t, err)
		require.Len(t, out.Deleted, 3)
		require.Len(t, out.Errors, 1)
		require.Equal(t, "PreconditionFailed", *out.Errors[0].Code)
		require.Equal(t, "keep", *out.Errors[0].Key)
		require.Equal(t, []byte("x"), w.get(t, "keep"))
		for e := range w.minio.RemoveObjects(t.Context(), bucket, objects("keep"), minio.RemoveObjectsOptions{}) {
			require.NoError(t, e.Err)
		}
		_, err = w.minio.StatObject(t.Context(), bucket, "keep", minio.StatObjectOptions{})
		require.Equal(t, "NoSuchKey", codeOf(err))
	}},
	{"copy", func(t *testing.T, w *world) {
		for _, size := range []int{100, 300 << 10} {
			content := pattern(size, 3)
			_, err := w.aws.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("src +%"), Body: bytes.NewReader(content),
				Metadata: map[string]string{"a": "1"}, ContentType: aws.String("text/a")})
			require.NoError(t, err)
			source := aws.String(bucket + "/src+%2B%25")
			cp := func(in s3.CopyObjectInput) error {
				in.Bucket, in.Key, in.CopySource = aws.String(bucket), aws.String("dst"), source
				_, err := w.aws.CopyObject(t.Context(), &in)
				return err
			}
			require.NoError(t, cp(s3.CopyObjectInput{}))
			head, err := w.aws.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("dst")})
			require.NoError(t, err)
			require.Equal(t, "1", head.Metadata["a"])
			require.Equal(t, md5Of(content), *head.ETag)
			require.NoError(t, cp(s3.CopyObjectInput{MetadataDirective: types.MetadataDirectiveReplace, Metadata: map[string]string{"b": "2"}}))
			head, err = w.aws.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("dst")})
			require.NoError(t, err)
			require.Equal(t, map[string]string{"b": "2"}, head.Metadata)
			require.Equal(t, 412, statusOf(cp(s3.CopyObjectInput{CopySourceIfMatch: aws.String(`"no"`)})))
			require.Equal(t, 412, statusOf(cp(s3.CopyObjectInput{IfNoneMatch: aws.String("*")})))
			require.NoError(t, cp(s3.CopyObjectInput{CopySourceIfMatch: aws.String(md5Of(content))}))
			_, err = w.aws.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String("src +%")})
			require.NoError(t, err)
			require.Equal(t, content, w.get(t, "dst"), "a copy outlives its source")
			_, err = w.aws.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String("dst"), CopySource: aws.String(bucket + "/dst")})
			require.Equal(t, "InvalidRequest", codeOf(err))
		}
	}},
	{"digests", func(t *testing.T, w *world) {
		put := func(in s3.PutObjectInput) error {
			in.Bucket, in.Key, in.Body = aws.String(bucket), aws.String("k"), strings.NewReader("body")
			_, err := w.aws.PutObject(t.Context(), &in)
			return err
		}
		require.Equal(t, "BadDigest", codeOf(put(s3.PutObjectInput{ContentMD5: aws.String("1B2M2Y8AsgTpgAmY7PhCfg==")})))
		require.Equal(t, "InvalidDigest", codeOf(put(s3.PutObjectInput{ContentMD5: aws.String("nonsense")})))
		require.Equal(t, "BadDigest", codeOf(put(s3.PutObjectInput{ChecksumCRC32: aws.String("AAAAAA==")})))
		require.Equal(t, 404, statusOf(second(w.minio.StatObject(t.Context(), bucket, "k", minio.StatObjectOptions{}))), "nothing refused is visible")
		for _, a := range types.ChecksumAlgorithm("").Values() {
			switch a {
			case types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmCrc64nvme, types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmSha256:
			default:
				continue
			}
			require.NoError(t, put(s3.PutObjectInput{ChecksumAlgorithm: a}), a)
			out, err := w.aws.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k"), ChecksumMode: types.ChecksumModeEnabled})
			require.NoError(t, err)
			_, err = io.ReadAll(out.Body)
			require.NoError(t, err, "the SDK compares %s", a)
		}
	}},
	{"buckets", func(t *testing.T, w *world) {
		require.NoError(t, w.minio.MakeBucket(t.Context(), "other", minio.MakeBucketOptions{}))
		_, err := w.aws.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("other")})
		require.Equal(t, 409, statusOf(err))
		ok, err := w.minio.BucketExists(t.Context(), "absent")
		require.NoError(t, err)
		require.False(t, ok)
		list, err := w.aws.ListBuckets(t.Context(), &s3.ListBucketsInput{})
		require.NoError(t, err)
		require.Len(t, list.Buckets, 2)
		w.put(t, "k", nil)
		_, err = w.aws.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: aws.String(bucket)})
		require.Equal(t, "BucketNotEmpty", codeOf(err))
		require.Equal(t, 409, statusOf(err))
		require.NoError(t, w.minio.RemoveBucket(t.Context(), "other"))
		_, err = w.aws.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("other"), Key: aws.String("k"), Body: strings.NewReader("x")})
		require.Equal(t, "NoSuchBucket", codeOf(err))
		_, err = w.aws.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("other")})
		require.Equal(t, "NoSuchBucket", codeOf(err))
	}},
	{"tagging", func(t *testing.T, w *world) {
		w.put(t, "k", []byte("x"))
		_, err := w.aws.PutObjectTagging(t.Context(), &s3.PutObjectTaggingInput{Bucket: aws.String(bucket), Key: aws.String("k"),
			Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}}}})
		require.NoError(t, err)
		out, err := w.aws.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: aws.String(bucket), Key: aws.String("k")})
		require.NoError(t, err)
		require.Len(t, out.TagSet, 1)
		_, err = w.aws.DeleteObjectTagging(t.Context(), &s3.DeleteObjectTaggingInput{Bucket: aws.String(bucket), Key: aws.String("k")})
		require.NoError(t, err)
		require.Equal(t, []byte("x"), w.get(t, "k"))
		_, err = w.aws.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: aws.String(bucket), Key: aws.String("absent")})
		require.Equal(t, "NoSuchKey", codeOf(err))
	}},
	{"sub-resources never touch the object", func(t *testing.T, w *world) {
		w.put(t, "k", []byte("x"))
		for _, query := range []string{"acl", "retention", "legal-hold", "renameObject", "torrent", "unknown=1", "versionId=v1", "partNumber=1"} {
			signedRequest(t, w, http.MethodPut, "/bucket/k?"+query, "body", nil)
			signedRequest(t, w, http.MethodDelete, "/bucket?"+query, "", nil)
			require.Equal(t, []byte("x"), w.get(t, "k"), query)
		}
	}},
}

func TestClients(t *testing.T) {
	t.Parallel()
	for _, c := range clientChecks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, newWorld(t))
		})
	}
}
