package objectstore_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/objectstore"
)

var keys = objectstore.Options{AccessKey: accessKey, SecretKey: secretKey}

func TestOpenRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		setup func(t *testing.T, dir string)
		opts  objectstore.Options
		want  error
		says  string
	}{
		{"no keys", func(*testing.T, string) {}, objectstore.Options{}, nil, "AccessKey"},
		{"in use", func(t *testing.T, dir string) {
			store, err := objectstore.Open(t.Context(), dir, keys)
			require.NoError(t, err)
			t.Cleanup(func() { store.Close() })
		}, keys, objectstore.ErrInUse, "another process"},
		{"not a database", func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "objects.db"), bytes.Repeat([]byte("garbage "), 1000), 0o600))
		}, keys, objectstore.ErrLayout, "objects.db"},
		{"another version", func(t *testing.T, dir string) { alter(t, dir, `PRAGMA user_version = 99`) }, keys, objectstore.ErrLayout, "layout version 99"},
		{"another application", func(t *testing.T, dir string) { alter(t, dir, `CREATE TABLE theirs (x)`) }, keys, objectstore.ErrLayout, "application id"},
		{"a file in the way", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(dir))
			require.NoError(t, os.WriteFile(dir, nil, 0o600))
		}, keys, nil, "not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c.setup(t, dir)
			store, err := objectstore.Open(t.Context(), dir, c.opts)
			require.Nil(t, store)
			require.ErrorContains(t, err, c.says)
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
			}
		})
	}
}

func alter(t *testing.T, dir, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "objects.db"))
	require.NoError(t, err)
	_, err = db.Exec(statement)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

func TestReopenKeepsAllAndSweepsTheRest(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "on the way?#%")
	content := pattern(100<<10, 7)
	w := openWorldOnce(t, dir)
	require.NoError(t, w.store.CreateBucket(t.Context(), bucket))
	full := &world{store: w.store, url: w.server.URL, aws: w.aws}
	full.put(t, "big", content)
	full.put(t, "small", content[:10])
	id := full.beginUpload(t, "open")
	etag := full.uploadPart(t, "open", id, 1, content)
	w.close(t)
	require.ErrorIs(t, w.store.CreateBucket(t.Context(), "late"), objectstore.ErrClosed)
	require.NoError(t, w.store.Close(), "Close again")

	require.Equal(t, 2, blobFiles(t, dir))
	for _, orphan := range []string{"blobs/00/00000000000000000000000000000000", "blobs/ff/torn", "blobs/7f/7fffffffffffffffffffffffffffffff"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, orphan), []byte("torn"), 0o600))
	}
	again := openWorld(t, dir, objectstore.Options{})
	require.Equal(t, 2, blobFiles(t, dir))
	require.Equal(t, content, again.get(t, "big"))
	require.Equal(t, content[:10], again.get(t, "small"))
	again.put(t, "new", content)
	require.Equal(t, content[:10], again.get(t, "small"), "body ids go on where they were")
	_, err := again.complete(t, "open", id, map[int32]string{1: etag})
	require.NoError(t, err, "uploads outlive the process")
	require.Equal(t, content, again.get(t, "open"))
}

// A read that has begun gets the bytes it began with.
func TestReadOutlivesItsObject(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openWorld(t, dir, objectstore.Options{})
	old := pattern(32*mib, 1) // more than the sockets between us hold
	for name, end := range map[string]func(){
		"replaced": func() { w.put(t, "k", []byte("new")) },
		"deleted": func() {
			require.NoError(t, w.minio.RemoveObject(t.Context(), bucket, "k", minio.RemoveObjectOptions{}))
		},
	} {
		w.put(t, "k", old)
		out, err := w.aws.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
		require.NoError(t, err)
		first := make([]byte, 1)
		_, err = io.ReadFull(out.Body, first)
		require.NoError(t, err)
		end()
		require.Equal(t, 1, blobFiles(t, dir), "the reader holds the blob")
		rest, err := io.ReadAll(out.Body)
		require.NoError(t, err, name)
		require.True(t, bytes.Equal(old, slices.Concat(first, rest)), name)
		require.NoError(t, out.Body.Close())
		require.Eventually(t, func() bool { return blobFiles(t, dir) == 0 }, waitLong, waitStep, "the last reader lets it go")
	}
}

// Readers under a storm of overwrites see one whole version each, never a
// mixture and never nothing.
func TestReadersSeeWholeVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	versions := [][]byte{pattern(100, 1), pattern(200<<10, 2), pattern(66<<10, 3), pattern(5, 4)}
	w.put(t, "k", versions[0])
	var writing atomic.Bool
	writing.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer writing.Store(false)
		for i := range 200 {
			w.put(t, "k", versions[i%len(versions)])
		}
	})
	for range 4 {
		wg.Go(func() {
			for writing.Load() {
				out, err := w.aws.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
				if err != nil {
					t.Errorf("get: %v", err)
					return
				}
				got, err := io.ReadAll(out.Body)
				out.Body.Close()
				if err != nil || md5Of(got) != *out.ETag {
					t.Errorf("torn read of %d bytes: %v", len(got), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// Conditions are judged in the transaction that writes: of all who create or
// swap at once, one wins.
func TestConditionsHaveOneWinner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for round := range 10 {
		key := fmt.Sprint("k", round)
		base := w.put(t, "base", []byte(key))
		for name, in := range map[string]s3.PutObjectInput{
			"create": {Key: &key, IfNoneMatch: aws.String("*")},
			"swap":   {Key: aws.String("base"), IfMatch: &base},
		} {
			var won, lost atomic.Int32
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					in := in
					in.Bucket, in.Body = aws.String(bucket), bytes.NewReader(pattern(100+(i%2)*(70<<10), byte(i)))
					switch _, err := w.aws.PutObject(t.Context(), &in); statusOf(err) {
					case 0:
						won.Add(1)
					case 412:
						lost.Add(1)
					default:
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			wg.Wait()
			require.EqualValues(t, 1, won.Load(), name)
			require.EqualValues(t, 15, lost.Load(), name)
		}
	}
}
