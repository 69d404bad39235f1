package storetest_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/internal/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func put(t *testing.T, client *minio.Client, bucket, key, body string) {
	t.Helper()
	_, err := client.PutObject(t.Context(), bucket, key, strings.NewReader(body), int64(len(body)), minio.PutObjectOptions{})
	require.NoError(t, err)
}

func get(t *testing.T, client *minio.Client, bucket, key string) string {
	t.Helper()
	object, err := client.GetObject(t.Context(), bucket, key, minio.GetObjectOptions{})
	require.NoError(t, err)
	defer object.Close()
	body, err := io.ReadAll(object)
	require.NoError(t, err)
	return string(body)
}

func TestSharedServerKeepsObjects(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]func(testing.TB) *storetest.Server{"MinIO": storetest.MinIO, "versitygw": storetest.Versitygw} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keepsObjects(t, shared)
		})
	}
}

func keepsObjects(t *testing.T, shared func(testing.TB) *storetest.Server) {
	server := shared(t)
	require.Same(t, server, shared(t))
	client, bucket := server.Client(t), server.Bucket(t)
	require.NotEqual(t, bucket, server.Bucket(t))
	put(t, client, bucket, "a/b", "body")
	require.Equal(t, "body", get(t, client, bucket, "a/b"))
}

func TestSharedServerCannotBeHurt(t *testing.T) {
	t.Parallel()
	server := storetest.MinIO(t)
	for name, hurt := range map[string]func() error{
		"kill": server.Kill, "restart": server.Restart, "pause": server.Pause, "resume": server.Resume,
	} {
		require.ErrorIs(t, hurt(), storetest.ErrShared, name)
	}
}

func TestPrivateServerIsKilledFrozenAndStartedAgain(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *storetest.Server{"MinIO": storetest.Start, "versitygw": storetest.StartVersitygw} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			isKilledFrozenAndStartedAgain(t, start(t))
		})
	}
}

func isKilledFrozenAndStartedAgain(t *testing.T, server *storetest.Server) {
	client, bucket := server.Client(t), server.Bucket(t)
	put(t, client, bucket, "kept", "body")

	require.NoError(t, server.Kill())
	_, err := client.BucketExists(t.Context(), bucket)
	require.Error(t, err)
	require.NoError(t, server.Restart())
	require.Equal(t, "body", get(t, client, bucket, "kept"))

	require.NoError(t, server.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = client.BucketExists(ctx, bucket)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, server.Resume())
	require.Equal(t, "body", get(t, client, bucket, "kept"))

	require.NoError(t, server.Pause())
	require.NoError(t, server.Restart())
	require.Equal(t, "body", get(t, client, bucket, "kept"))
}
