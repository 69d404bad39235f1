package e2e

import (
	"bytes"
	"crypto/rand"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/tags"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Round trips with minio-go, which signs each chunk of a body over http. Its
// token goes in the metadata.
func TestMinioGo(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Guards: []Guard{{Prefix: "jobs/"}, {Prefix: "free/", Tokens: "none"}}})
	c.Run(t, "unguarded", func(t *testing.T) { minioStory(t, c, c.Proxies[0].MinIO(t), "open/") })
	c.Run(t, "tokens none", func(t *testing.T) { minioStory(t, c, c.Proxies[0].MinIO(t), "free/") })
	c.Run(t, "token in the metadata", func(t *testing.T) {
		ctx := t.Context()
		client := c.Proxies[0].MinIO(t)
		token := c.Take("jobs/", "minio-go")
		meta := map[string]string{"fencing-token": strconv.FormatInt(token, 10), "colour": "blue"}
		for name, size := range map[string]int{"small": 100, "chunks": 200_000, "parts": 11<<20 + 5} {
			body := make([]byte, size)
			_, err := rand.Read(body)
			require.NoError(t, err)
			_, err = client.PutObject(ctx, c.Bucket, "jobs/"+name, bytes.NewReader(body), int64(size), minio.PutObjectOptions{UserMetadata: meta, PartSize: 5 << 20})
			require.NoError(t, err, name)
			assert.Equal(t, string(body), c.Proxies[0].Get(t, "jobs/"+name))
			info, err := client.StatObject(ctx, c.Bucket, "jobs/"+name, minio.StatObjectOptions{})
			require.NoError(t, err)
			assert.Equal(t, minio.StringMap{"Colour": "blue"}, info.UserMetadata)
		}
		_, err := client.PutObject(ctx, c.Bucket, "jobs/x", strings.NewReader("x"), 1, minio.PutObjectOptions{})
		assert.Equal(t, "MissingFencingToken", minio.ToErrorResponse(err).Code)
		c.Take("jobs/", "next")
		for _, size := range []int{1, 200_000, 11 << 20} {
			_, err = client.PutObject(ctx, c.Bucket, "jobs/late", bytes.NewReader(make([]byte, size)), int64(size), minio.PutObjectOptions{UserMetadata: meta, PartSize: 5 << 20})
			assert.Equal(t, "StaleFencingToken", minio.ToErrorResponse(err).Code, "%v", err)
		}
		c.Proxies[0].WantAbsent(t, "jobs/late")
	})
}

func minioStory(t *testing.T, c *Cluster, client *minio.Client, prefix string) {
	ctx := t.Context()
	bodies := map[string][]byte{}
	for name, size := range map[string]int{"empty": 0, "small": 10, "chunks": 200_000, "parts": 11<<20 + 5, "odd name+%&/ü": 7} {
		body := make([]byte, size)
		_, err := rand.Read(body)
		require.NoError(t, err)
		info, err := client.PutObject(ctx, c.Bucket, prefix+name, bytes.NewReader(body), int64(size), minio.PutObjectOptions{
			ContentType: "text/x-test", UserMetadata: map[string]string{"Colour": "blue"}, UserTags: map[string]string{"k": "v"}, PartSize: 5 << 20})
		require.NoError(t, err, name)
		stat, err := client.StatObject(ctx, c.Bucket, prefix+name, minio.StatObjectOptions{})
		require.NoError(t, err, name)
		assert.Equal(t, info.ETag, stat.ETag)
		assert.Equal(t, int64(size), stat.Size)
		assert.Equal(t, "text/x-test", stat.ContentType)
		assert.Equal(t, "blue", stat.UserMetadata["Colour"])
		object, err := client.GetObject(ctx, c.Bucket, prefix+name, minio.GetObjectOptions{})
		require.NoError(t, err)
		got, err := io.ReadAll(object)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(body, got), name)
		bodies[name] = body
	}
	// A body of unknown length, and seeking in one.
	_, err := client.PutObject(ctx, c.Bucket, prefix+"unknown", stream{bytes.NewReader(bodies["chunks"])}, -1, minio.PutObjectOptions{PartSize: 5 << 20})
	require.NoError(t, err)
	object, err := client.GetObject(ctx, c.Bucket, prefix+"unknown", minio.GetObjectOptions{})
	require.NoError(t, err)
	_, err = object.Seek(-9, io.SeekEnd)
	require.NoError(t, err)
	tail, err := io.ReadAll(object)
	require.NoError(t, err)
	assert.Equal(t, bodies["chunks"][200_000-9:], tail)

	set, err := client.GetObjectTagging(ctx, c.Bucket, prefix+"small", minio.GetObjectTaggingOptions{})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"k": "v"}, set.ToMap())
	replaced, err := tags.NewTags(map[string]string{"l": "w"}, true)
	require.NoError(t, err)
	require.NoError(t, client.PutObjectTagging(ctx, c.Bucket, prefix+"small", replaced, minio.PutObjectTaggingOptions{}))

	// Copies: whole, and put together from two.
	_, err = client.CopyObject(ctx, minio.CopyDestOptions{Bucket: c.Bucket, Object: prefix + "copy"}, minio.CopySrcOptions{Bucket: c.Bucket, Object: prefix + "odd name+%&/ü"})
	require.NoError(t, err)
	_, err = client.ComposeObject(ctx, minio.CopyDestOptions{Bucket: c.Bucket, Object: prefix + "composed"},
		minio.CopySrcOptions{Bucket: c.Bucket, Object: prefix + "parts"}, minio.CopySrcOptions{Bucket: c.Bucket, Object: prefix + "small"})
	require.NoError(t, err)
	assert.Equal(t, string(bodies["parts"])+string(bodies["small"]), c.Proxies[0].Get(t, prefix+"composed"))
	assert.Equal(t, string(bodies["odd name+%&/ü"]), c.Proxies[0].Get(t, prefix+"copy"))

	link, err := client.PresignedPutObject(ctx, c.Bucket, prefix+"link", time.Minute)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, link.String(), strings.NewReader("linked"))
	require.NoError(t, err)
	answer, err := c.Proxies[0].do(req)
	require.NoError(t, err)
	answer.Want(t, 200)
	assert.Equal(t, "linked", c.Proxies[0].Get(t, prefix+"link"))

	var listed []string
	for o := range client.ListObjects(ctx, c.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, MaxKeys: 2}) {
		require.NoError(t, o.Err)
		listed = append(listed, o.Key)
	}
	assert.Len(t, listed, 9)
	require.NoError(t, client.RemoveObject(ctx, c.Bucket, prefix+"small", minio.RemoveObjectOptions{}))
	objects := make(chan minio.ObjectInfo, len(listed))
	for _, key := range listed {
		objects <- minio.ObjectInfo{Key: key}
	}
	close(objects)
	for failure := range client.RemoveObjects(ctx, c.Bucket, objects, minio.RemoveObjectsOptions{}) {
		t.Errorf("remove %s: %v", failure.ObjectName, failure.Err)
	}
	assert.Empty(t, keysBelow(t, c.Proxies[0], c.Bucket, prefix))
}
