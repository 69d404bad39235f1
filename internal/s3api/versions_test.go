package s3api

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// A bucket with a guard shows itself as one that never had versioning: to those who
// list versions, and to those who name the one there is.
func TestVersionsUnderAGuard(t *testing.T) { overWays(t, testVersionsUnderAGuard) }

func testVersionsUnderAGuard(t *testing.T, b *bench) {
	ctx, bucket := t.Context(), aws.String("data")
	c := b.sdk(t, carriedKey, "s3://data/jobs/a/#34")
	// Plain keys need other credentials: these count in one scope only.
	anyone := b.sdk(t, testKey, "")
	keys := []string{"jobs/a/dir/1", "jobs/a/dir/2", "jobs/a/x y+z", "jobs/a/z"}
	for _, k := range keys {
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &k, Body: body(k), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := anyone.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("plain"), Body: body("plain")}); err != nil {
		t.Fatal(err)
	}
	list := func(c *s3.Client, prefix, delimiter string, page int32) (found, prefixes []string) {
		in := &s3.ListObjectVersionsInput{Bucket: bucket, MaxKeys: &page, EncodingType: types.EncodingTypeUrl}
		if prefix != "" {
			in.Prefix = &prefix
		}
		if delimiter != "" {
			in.Delimiter = &delimiter
		}
		for pages := s3.NewListObjectVersionsPaginator(c, in); pages.HasMorePages(); {
			out, err := pages.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(out.Versions)+len(out.CommonPrefixes) > int(page) || len(out.DeleteMarkers) > 0 {
				t.Errorf("page %+v", out)
			}
			for _, v := range out.Versions {
				if *v.VersionId != "null" || !*v.IsLatest || v.ETag == nil || v.Owner == nil || v.LastModified == nil || *v.Size == 0 {
					t.Errorf("version %+v", v)
				}
				found = append(found, *v.Key)
			}
			for _, p := range out.CommonPrefixes {
				prefixes = append(prefixes, *p.Prefix)
			}
		}
		return found, prefixes
	}
	escaped := []string{"jobs/a/dir/1", "jobs/a/dir/2", "jobs/a/x%20y%2Bz", "jobs/a/z"}
	for _, page := range []int32{1, 2, 3, 1000} {
		if got, _ := list(anyone, "", "", page); !slices.Equal(got, append(slices.Clone(escaped), "plain")) {
			t.Errorf("in pages of %d: %q", page, got)
		}
		if got, dirs := list(c, "jobs/a/", "/", page); !slices.Equal(got, escaped[2:]) || !slices.Equal(dirs, []string{"jobs/a/dir/"}) {
			t.Errorf("with a delimiter, in pages of %d: %q %q", page, got, dirs)
		}
	}
	for _, bad := range []*s3.ListObjectVersionsInput{
		{Bucket: bucket, VersionIdMarker: aws.String("null")},
		{Bucket: bucket, KeyMarker: aws.String("jobs/a/"), VersionIdMarker: aws.String("3")},
	} {
		_, err := anyone.ListObjectVersions(ctx, bad)
		wantCode(t, err, "InvalidArgument")
	}

	null := aws.String("null")
	g, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &keys[0], VersionId: null})
	if err != nil || read(t, g.Body) != keys[0] {
		t.Errorf("the null version: %v", err)
	}
	if _, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: &keys[0], VersionId: aws.String("3")}); err == nil {
		t.Error("HEAD of a version that does not exist")
	}
	if g, err = anyone.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("plain"), VersionId: null}); err != nil || read(t, g.Body) != "plain" {
		t.Errorf("the null version of a plain object: %v", err)
	}
	_, err = anyone.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("plain"), VersionId: aws.String("3")})
	wantCode(t, err, "NoSuchVersion")
	if _, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("jobs/a/copy"), CopySource: aws.String("data/jobs/a/z?versionId=null")}); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: &keys[0], VersionId: null}); err != nil {
		t.Error(err)
	}
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &keys[0]})
	wantCode(t, err, "NoSuchKey")

	// As tools empty a bucket: all versions of a list in one batch.
	out, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{
		{Key: &keys[1], VersionId: null}, {Key: &keys[2], VersionId: aws.String("3")},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Deleted) != 1 || *out.Deleted[0].Key != keys[1] || *out.Deleted[0].VersionId != "null" {
		t.Errorf("deleted %+v", out.Deleted)
	}
	if len(out.Errors) != 1 || *out.Errors[0].Code != "NoSuchVersion" || *out.Errors[0].VersionId != "3" {
		t.Errorf("errors %+v", out.Errors)
	}
	out, err = anyone.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: aws.String("plain"), VersionId: null}}}})
	if err != nil || len(out.Deleted) != 1 || *out.Deleted[0].VersionId != "null" {
		t.Errorf("plain: %+v %v", out, err)
	}
	if got, _ := list(anyone, "", "", 1000); !slices.Equal(got, []string{"jobs/a/copy", "jobs/a/x%20y%2Bz", "jobs/a/z"}) {
		t.Errorf("left %q", got)
	}
}
