package objectstore_test

import (
	"bytes"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"
)

func (w *world) beginUpload(t testing.TB, key string) string {
	t.Helper()
	out, err := w.aws.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: &key, Metadata: map[string]string{"m": "1"}})
	require.NoError(t, err)
	return *out.UploadId
}

func (w *world) uploadPart(t testing.TB, key, id string, number int32, content []byte) string {
	t.Helper()
	out, err := w.aws.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: aws.String(bucket), Key: &key, UploadId: &id, PartNumber: &number, Body: bytes.NewReader(content)})
	require.NoError(t, err)
	return *out.ETag
}
