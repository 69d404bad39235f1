package sealed

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/storetest"
	"github.com/s3fence/s3fence/internal/upstream"
)

// What real stores keep of an object that is written back: all of it, with the ETag
// that it had. A bucket with versions, and one that encrypts, are left like others.
func TestExportToRealStores(t *testing.T) { // F6
	t.Parallel()
	for _, tc := range []struct {
		name                 string
		server               func(testing.TB) *storetest.Server
		versioned, encrypted bool
	}{
		{name: "minio", server: storetest.MinIO},
		{name: "minio, versioned", server: storetest.MinIO, versioned: true},
		{name: "minio, encrypting", server: storetest.StartEncrypting, encrypted: true},
		{name: "versitygw", server: storetest.Versitygw},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := tc.server(t)
			bucket := server.Bucket(t)
			if tc.versioned {
				require.NoError(t, server.Client(t).EnableVersioning(t.Context(), bucket))
			}
			l := newLeaver(t, leaveOptions{real: server, bucket: bucket})
			for key, body := range map[string]string{"jobs/kept": "from before", "jobs/gone": "deleted since", "jobs/over": "old"} {
				l.writePlain(key, body)
			}
			l.add(jobs)
			op := l.op(jobs, l.grant(jobs))
			l.mustPut(op, "jobs/over", "new")
			l.remove(op, "jobs/gone")
			l.mustPut(op, "jobs/empty", "")
			l.mustPut(op, "jobs/deep/er/sp ace +ä", "odd")
			l.mustPut(op, "jobs/full", "dressed", func(p *guarded.Put) {
				p.Headers = map[string]string{"Content-Type": "text/x-odd; charset=utf-8", "Cache-Control": "no-cache", "Content-Language": "de", "Content-Disposition": "inline"}
				p.Meta = map[string]string{"colour": "blue", "mixed": "a, b"}
				p.Tags = []object.Tag{{Key: "team", Value: "a b=c"}, {Key: "x", Value: ""}}
			})
			half := string(bytes.Repeat([]byte("0123456789abcdef"), minPartSize/16))
			parts := l.upload(op, "jobs/parts", object.Attributes{Headers: map[string]string{"Content-Type": "a/b"}, Meta: map[string]string{"m": "1"}, Tags: []object.Tag{{Key: "k", Value: "v"}}}, half, "tail")
			got, err := l.export(jobs, true)
			require.NoError(t, err)
			assert.Empty(t, got.Lost)
			assert.Equal(t, tc.encrypted, len(got.Retagged) > 0, "%v", got.Retagged)
			for key, want := range map[string]string{"jobs/kept": "from before", "jobs/over": "new", "jobs/empty": "", "jobs/deep/er/sp ace +ä": "odd", "jobs/full": "dressed", "jobs/parts": half + "tail"} {
				l.holds(key, want)
			}
			assert.Len(t, l.plainly(), 6, "what was deleted does not come back")
			_, info, err := l.plain("jobs/full")
			require.NoError(t, err)
			seen := plainInfo(object.Ref{}, info)
			assert.Equal(t, map[string]string{"Content-Type": "text/x-odd; charset=utf-8", "Cache-Control": "no-cache", "Content-Language": "de", "Content-Disposition": "inline"}, seen.Headers)
			assert.Equal(t, map[string]string{"colour": "blue", "mixed": "a, b"}, seen.Meta)
			tags, err := l.client.ObjectTags(t.Context(), bucket, "jobs/full")
			require.NoError(t, err)
			assert.ElementsMatch(t, []upstream.Tag{{Key: "team", Value: "a b=c"}, {Key: "x", Value: ""}}, tags)
			_, info, err = l.plain("jobs/parts")
			require.NoError(t, err)
			if !tc.encrypted {
				assert.Equal(t, parts.ETag, info.ETag)
				assert.True(t, strings.HasSuffix(info.ETag, "-2"))
			}
			if tc.versioned {
				// A deletion there is a mark, which hides what was there before.
				_, err = server.Client(t).StatObject(t.Context(), bucket, "jobs/gone", minio.StatObjectOptions{})
				assert.Equal(t, "NoSuchKey", minio.ToErrorResponse(err).Code)
			}
		})
	}
}

// Over a file system no file stands where a directory is. That is found before
// anything is closed, on stores where it is so, and only there.
func TestExportOfKeysThatAreDirectories(t *testing.T) {
	t.Parallel()
	server := storetest.Versitygw(t)
	l := newLeaver(t, leaveOptions{real: server, bucket: server.Bucket(t)})
	l.add(jobs)
	op := l.op(jobs, l.grant(jobs))
	l.mustPut(op, "jobs/a", "a file")
	l.mustPut(op, "jobs/a/b", "and what is in it")
	for _, remove := range []bool{false, true} {
		_, err := l.export(jobs, remove)
		require.ErrorIs(t, err, guards.ErrNotExported)
		assert.ErrorContains(t, err, `"jobs/a" and "jobs/a/b"`)
	}
	assert.Empty(t, l.plainly())
	assert.Empty(t, l.under(exportPrefix), "the store was asked, and nothing of that stays")
	l.mustPut(op, "jobs/a", "still guarded")

	// A file outside of the guard in the way of a directory is found by the first pass.
	l.remove(op, "jobs/a/b")
	l.writePlain("tools", "a file")
	l.add("s3://data/tools/")
	tools := l.op("s3://data/tools/", l.grant("s3://data/tools/"))
	l.mustPut(tools, "tools/x", "needs a directory")
	_, err := l.export("s3://data/tools/", true)
	require.Error(t, err)
	assert.ErrorContains(t, err, "tools/x")
	g, _ := l.again("s3://data/tools/")
	assert.Equal(t, fence.Active, g.State)
	l.mustPut(tools, "tools/x", "still guarded")
}

// A store that is stopped in the middle is no reason to lose anything: the run ends,
// the guard counts, and the next run goes on.
func TestExportFromAStoreThatDies(t *testing.T) { // F6
	t.Parallel()
	server := storetest.StartVersitygw(t)
	l := newLeaver(t, leaveOptions{real: server, bucket: server.Bucket(t)})
	l.add(jobs)
	op := l.op(jobs, l.grant(jobs))
	for n := range 40 {
		l.mustPut(op, "jobs/"+string(rune('a'+n%26))+string(rune('a'+n/26)), strings.Repeat("x", n))
	}
	over := make(chan error, 1)
	go func() {
		_, err := l.exportUnder(context.WithoutCancel(t.Context()), jobs, guards.ExportOptions{Remove: true, Progress: nil})
		over <- err
	}()
	require.Eventually(t, func() bool { return len(l.plainly()) > 5 }, time.Minute, time.Millisecond)
	require.NoError(t, server.Kill())
	require.Error(t, await(t, over))
	require.NoError(t, server.Restart())
	l.mustPut(op, "jobs/aa", "still guarded")
	got, err := l.export(jobs, true)
	require.NoError(t, err)
	assert.True(t, got.Removed)
	assert.Len(t, l.plainly(), 40)
	l.holds("jobs/aa", "still guarded")
}
