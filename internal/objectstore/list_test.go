package objectstore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"
)

var listKeys = []string{"/lead", "a", "a/", "a//b", "a/b", "a/b/c", "a/c", "a0", "b/x", "b/y/z", "c", "日/本", "\xf0\x9f\xa6\x80"}

// expect lists keys as S3 does, by the plainest means.
func expect(keys []string, prefix, delimiter, after string) []string {
	var out []string
	for _, k := range keys {
		rest, ok := strings.CutPrefix(k, prefix)
		if !ok {
			continue
		}
		if i := strings.Index(rest, delimiter); delimiter != "" && i >= 0 {
			k = prefix + rest[:i+len(delimiter)] + "|prefix"
		}
		if strings.TrimSuffix(k, "|prefix") > after && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

func TestLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, k := range listKeys {
		w.put(t, k, []byte(k))
	}
	keys := slices.Sorted(slices.Values(listKeys))
	for _, prefix := range []string{"", "a", "a/", "a//", "b/", "日", "zz"} {
		for _, delimiter := range []string{"", "/", "//", "b"} {
			for _, after := range []string{"", "a/", "a/b", "a/zz", "b/y/"} {
				for _, size := range []int32{2, 1000} {
					name := fmt.Sprintf("prefix %q delimiter %q after %q pages of %d", prefix, delimiter, after, size)
					want := expect(keys, prefix, delimiter, after)
					require.ElementsMatch(t, want, listV2(t, w, prefix, delimiter, after, size), "v2 "+name)
					require.ElementsMatch(t, want, listV1(t, w, prefix, delimiter, after, size), "v1 "+name)
				}
			}
		}
	}
	_, err := w.aws.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket), ContinuationToken: aws.String("%%")})
	require.Equal(t, 400, statusOf(err), "a token we did not give")
	zero, err := w.aws.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket), MaxKeys: aws.Int32(0)})
	require.NoError(t, err)
	require.Zero(t, aws.ToInt32(zero.KeyCount))
	require.Empty(t, zero.Contents)
	require.False(t, aws.ToBool(zero.IsTruncated))
	var byMinio []string
	for o := range w.minio.ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true}) {
		require.NoError(t, o.Err)
		byMinio = append(byMinio, o.Key)
	}
	require.Equal(t, keys, byMinio)
}

func listV2(t *testing.T, w *world, prefix, delimiter, after string, size int32) []string {
	t.Helper()
	var got []string
	in := &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: &prefix, MaxKeys: &size, StartAfter: &after}
	if delimiter != "" {
		in.Delimiter = &delimiter
	}
	for pages := 0; ; pages++ {
		require.Less(t, pages, 100, "the list does not end")
		page, err := w.aws.ListObjectsV2(t.Context(), in)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.Contents)+len(page.CommonPrefixes), int(size))
		for _, o := range page.Contents {
			got = append(got, *o.Key)
		}
		for _, p := range page.CommonPrefixes {
			got = append(got, *p.Prefix+"|prefix")
		}
		if !*page.IsTruncated {
			return got
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

func listV1(t *testing.T, w *world, prefix, delimiter, after string, size int32) []string {
	t.Helper()
	var got []string
	in := &s3.ListObjectsInput{Bucket: aws.String(bucket), Prefix: &prefix, MaxKeys: &size, Marker: &after}
	if delimiter != "" {
		in.Delimiter = &delimiter
	}
	for pages := 0; ; pages++ {
		require.Less(t, pages, 100, "the list does not end")
		page, err := w.aws.ListObjects(t.Context(), in)
		require.NoError(t, err)
		for _, o := range page.Contents {
			got = append(got, *o.Key)
			in.Marker = o.Key
		}
		for _, p := range page.CommonPrefixes {
			got = append(got, *p.Prefix+"|prefix")
		}
		if !*page.IsTruncated {
			return got
		}
		if delimiter != "" {
			in.Marker = page.NextMarker
		}
	}
}
