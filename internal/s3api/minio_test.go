package s3api

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/s3fence/s3fence/internal/storetest"
	"github.com/s3fence/s3fence/internal/upstream"
)

// Buckets without a guard pass whole: what the store can do, its clients can.
func TestPassThroughToMinIO(t *testing.T) {
	t.Parallel()
	minio := storetest.MinIO(t)
	store, err := upstream.New(upstream.Config{Name: "minio", Endpoint: minio.Endpoint, AccessKey: minio.AccessKey, SecretKey: minio.SecretKey, PathStyle: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	name := minio.Bucket(t)
	b := newBench(t, store, nil, func(o *Options) { o.Limits.SpoolDir = t.TempDir() })
	ctx := t.Context()
	bucket, key := aws.String(name), aws.String("dir/k+ü")
	for scheme, c := range map[string]*s3.Client{"http": b.sdk(t, testKey, ""), "https": b.overTLS(t)} {
		t.Run(scheme, func(t *testing.T) {
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Error(err)
				}
			}
			_, err := c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
			must(err)
			v, err := c.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: bucket})
			if err != nil || v.Status != types.BucketVersioningStatusEnabled {
				t.Errorf("versioning %+v, %v", v, err)
			}
			_, err = c.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: bucket, Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}})
			must(err)
			_, err = c.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{Bucket: bucket, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
				ID: aws.String("r"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("old/")}, Expiration: &types.LifecycleExpiration{Days: aws.Int32(9)},
			}}}})
			must(err)
			l, err := c.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: bucket})
			if err != nil || len(l.Rules) != 1 {
				t.Errorf("lifecycle %+v, %v", l, err)
			}
			_, err = c.DeleteBucketLifecycle(ctx, &s3.DeleteBucketLifecycleInput{Bucket: bucket})
			must(err)
			_, err = c.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: bucket})
			wantCode(t, err, "NoSuchBucketPolicy")

			p1, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: body("one"), Tagging: aws.String("x=1"), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c})
			must(err)
			_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: body(strings.Repeat("two", 100_000)), ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
			must(err)
			if t.Failed() {
				return
			}
			g, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, VersionId: p1.VersionId, ChecksumMode: types.ChecksumModeEnabled})
			if err != nil {
				t.Fatal(err)
			}
			if read(t, g.Body) != "one" || g.ChecksumCRC32C == nil || g.TagCount == nil {
				t.Errorf("the first version: %+v", g)
			}
			_, err = c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String(name + "/" + escapePath(*key) + "?versionId=" + *p1.VersionId)})
			must(err)
			if g, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("copy")}); err != nil || read(t, g.Body) != "one" {
				t.Errorf("the copy of a version: %v", err)
			}
			tags, err := c.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: bucket, Key: aws.String("copy")})
			if err != nil || len(tags.TagSet) != 1 {
				t.Errorf("tags %+v, %v", tags, err)
			}
			at, err := c.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: bucket, Key: key, ObjectAttributes: []types.ObjectAttributes{"ETag", "ObjectSize"}})
			if err != nil || *at.ObjectSize != 300_000 {
				t.Errorf("attributes %+v, %v", at, err)
			}
			_, err = c.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: bucket, Key: key})
			must(err)

			up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
			if err != nil {
				t.Fatal(err)
			}
			part, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: body("part"), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
			if err != nil {
				t.Fatal(err)
			}
			if part.ChecksumCRC32 == nil {
				t.Errorf("the part has no checksum: %+v", part)
			}
			_, err = c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{
				Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag, ChecksumCRC32: part.ChecksumCRC32}},
			}})
			must(err)

			if _, err := store.PutObject(ctx, name, ".s3fence/x", strings.NewReader("x"), 1, upstream.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			var ids []types.ObjectIdentifier
			versions, err := c.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: bucket})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range versions.Versions {
				if strings.HasPrefix(*v.Key, ".s3fence/") {
					t.Errorf("%s shows", *v.Key)
				}
				ids = append(ids, types.ObjectIdentifier{Key: v.Key, VersionId: v.VersionId})
			}
			if len(ids) != 4 {
				t.Errorf("%d versions", len(ids))
			}
			del, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: ids}})
			if err != nil || len(del.Deleted) != len(ids) || len(del.Errors) != 0 {
				t.Errorf("batch of versions: %+v, %v", del, err)
			}
			if del, err = c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: aws.String("absent")}}}}); err != nil || len(del.Deleted) != 1 || del.Deleted[0].DeleteMarker == nil {
				t.Errorf("batch with a marker: %+v, %v", del, err)
			}
			if versions, err = c.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: bucket}); err != nil {
				t.Fatal(err)
			}
			for _, m := range versions.DeleteMarkers {
				_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: m.Key, VersionId: m.VersionId})
				must(err)
			}
		})
	}
}
