package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/checksum"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// upload makes an object of parts.
func (l *leaver) upload(op guarded.Op, key string, attrs object.Attributes, parts ...string) object.Info {
	l.t.Helper()
	ref := object.Ref{Bucket: "data", Key: key}
	id, err := l.CreateUpload(l.t.Context(), &guarded.CreateUpload{Op: op, Ref: ref, Attributes: attrs})
	require.NoError(l.t, err)
	up := guarded.UploadRef{Op: op, Ref: ref, ID: id}
	var list []guarded.PartInfo
	for i, body := range parts {
		got, err := l.UploadPart(l.t.Context(), &guarded.Part{UploadRef: up, Number: i + 1, Body: strings.NewReader(body), Size: int64(len(body))})
		require.NoError(l.t, err)
		list = append(list, guarded.PartInfo{Number: i + 1, ETag: got.ETag})
	}
	info, err := l.Complete(l.t.Context(), &guarded.Complete{UploadRef: up, Parts: list})
	require.NoError(l.t, err)
	return info
}

// What fenced clients saw last is what plain clients see, in all that the store
// keeps; what was deleted under the guard does not come back; and coming back works.
func TestExportAndReturn(t *testing.T) { // F1, F5, F6
	t.Parallel()
	for _, kind := range []string{"memory", "sqlite", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := newLeaver(t, leaveOptions{state: exportStates(t, kind)})
			for key, body := range map[string]string{"jobs/kept": "from before", "jobs/gone": "deleted since", "jobs/over": "old", "beside": "b"} {
				l.writePlain(key, body)
			}
			l.add(jobs)
			tok := l.grant(jobs)
			op := l.op(jobs, tok)
			l.mustPut(op, "jobs/over", "new")
			l.remove(op, "jobs/gone")
			l.mustPut(op, "jobs/empty", "")
			l.mustPut(op, "jobs/a", "a file and a directory")
			l.mustPut(op, "jobs/a/b", "below it")
			l.mustPut(op, "jobs/sp ace +ä%2F", "odd")
			l.mustPut(op, "jobs/full", "dressed", func(p *guarded.Put) {
				p.Headers = map[string]string{"Content-Type": "text/x-odd; charset=utf-8", "Cache-Control": "no-cache", "Content-Encoding": "gzip", "Content-Language": "de"}
				p.Meta = map[string]string{"colour": "blue", "mixed": "a, b"}
				p.Tags = []object.Tag{{Key: "team", Value: "a&b = c"}, {Key: "x", Value: ""}}
				p.Checksums, p.ChecksumType = map[string]string{"CRC32": "AAAAAA=="}, checksum.FullObject
			})
			half := string(bytes.Repeat([]byte("0123456789abcdef"), minPartSize/16))
			parts := l.upload(op, "jobs/parts", object.Attributes{Headers: map[string]string{"Content-Type": "a/b"}, Meta: map[string]string{"m": "1"}, Tags: []object.Tag{{Key: "k", Value: "v"}}}, half, "tail")
			one := l.upload(op, "jobs/onepart", object.Attributes{}, "single")
			open, err := l.CreateUpload(t.Context(), &guarded.CreateUpload{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/open"}})
			require.NoError(t, err)
			require.NotEmpty(t, open)

			// A rehearsal leaves everything as it is but the plain keys of objects.
			got, err := l.export(jobs, false)
			require.NoError(t, err)
			assert.False(t, got.Removed)
			assert.Equal(t, 9, got.Objects)
			assert.Equal(t, 8, got.Copied, "all but what was there from before the guard")
			assert.Equal(t, 1, got.Leftover)
			g, ok := l.again(jobs)
			require.True(t, ok)
			assert.Equal(t, fence.Active, g.State)
			l.holds("jobs/gone", "deleted since")
			l.holds("jobs/over", "new")
			body, err := l.get(op, "jobs/over")
			require.NoError(t, err)
			assert.Equal(t, "new", body)

			// Tags change without their object being written again.
			require.NoError(t, l.SetTags(t.Context(), &guarded.Tagging{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/full"}, Tags: []object.Tag{{Key: "team", Value: "moved"}}}))
			l.mustPut(op, "jobs/over", "newest")
			got, err = l.export(jobs, true)
			require.NoError(t, err)
			assert.True(t, got.Removed)
			assert.Equal(t, 2, got.Copied, "the others were there already")
			assert.Equal(t, 1, got.Deleted)
			assert.Zero(t, got.Late)
			assert.Empty(t, got.Lost)
			assert.Empty(t, got.Retagged)
			_, ok = l.again(jobs)
			assert.False(t, ok)
			assert.Empty(t, l.rows())

			assert.Equal(t, []string{"beside", "jobs/a", "jobs/a/b", "jobs/empty", "jobs/full", "jobs/kept", "jobs/onepart", "jobs/over", "jobs/parts", "jobs/sp ace +ä%2F"}, l.plainly())
			for key, want := range map[string]string{"beside": "b", "jobs/a": "a file and a directory", "jobs/a/b": "below it", "jobs/empty": "", "jobs/kept": "from before",
				"jobs/over": "newest", "jobs/sp ace +ä%2F": "odd", "jobs/full": "dressed", "jobs/parts": half + "tail", "jobs/onepart": "single"} {
				l.holds(key, want)
			}
			_, info, err := l.plain("jobs/full")
			require.NoError(t, err)
			seen := plainInfo(object.Ref{}, info)
			assert.Equal(t, map[string]string{"Content-Type": "text/x-odd; charset=utf-8", "Cache-Control": "no-cache", "Content-Encoding": "gzip", "Content-Language": "de"}, seen.Headers)
			assert.Equal(t, map[string]string{"colour": "blue", "mixed": "a, b"}, seen.Meta)
			assert.Equal(t, md5Hex("dressed"), info.ETag)
			tags, err := l.client.ObjectTags(t.Context(), "data", "jobs/full")
			require.NoError(t, err)
			assert.Equal(t, []upstream.Tag{{Key: "team", Value: "moved"}}, tags)
			for key, want := range map[string]object.Info{"jobs/parts": parts, "jobs/onepart": one} {
				_, info, err := l.plain(key)
				require.NoError(t, err)
				assert.Equal(t, want.ETag, info.ETag, "%s: made of the same parts again", key)
			}

			// And back: what plain clients did meanwhile is what the scope has then, under
			// a mark that never fell.
			l.writePlain("jobs/kept", "by a plain client")
			require.NoError(t, l.client.DeleteObject(t.Context(), "data", "jobs/a"))
			l.add(jobs)
			again := l.grant(jobs)
			assert.Greater(t, again, tok)
			op = l.op(jobs, again)
			body, err = l.get(op, "jobs/kept")
			require.NoError(t, err)
			assert.Equal(t, "by a plain client", body)
			_, err = l.get(op, "jobs/a")
			require.ErrorIs(t, err, object.ErrNoSuchKey)
			_, err = l.put(l.op(jobs, tok), "jobs/kept", "late")
			refusal(t, err, fence.Stale)
			uploads, err := l.st.ListUploads(t.Context(), state.Range{Bucket: "data"}, "", 10)
			require.NoError(t, err)
			assert.Empty(t, uploads, "an upload ended with its guard")
		})
	}
}

// Writers go on until the guard refuses them, and what each was told last is what
// stands under the plain keys: no acknowledged write is lost, none that was refused
// appears, and none before another of the same key.
func TestExportWhileWritersGoOn(t *testing.T) { // F4, F5, F6, F7
	t.Parallel()
	for _, kind := range states {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			const writers, keys = 4, 12
			l := newLeaver(t, leaveOptions{state: exportStates(t, kind)})
			l.add("s3://data/w/")
			op := l.op("s3://data/w/", l.grant("s3://data/w/"))
			last := make([]map[string]string, writers)
			var wg sync.WaitGroup
			var writes atomic.Int64
			var over atomic.Bool // the export failed
			for w := range writers {
				last[w] = map[string]string{}
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(w), 1))
					pace := time.NewTicker(5 * time.Millisecond) // the exporter shall get a turn
					defer pace.Stop()
					for n := 0; !over.Load(); n++ {
						<-pace.C
						key := fmt.Sprintf("w/%d-%d", w, rnd.IntN(keys))
						body := fmt.Sprintf("%s %d", key, n)
						var err error
						if rnd.IntN(5) == 0 {
							body = ""
							err = l.Delete(t.Context(), &guarded.Delete{Op: op, Items: []guarded.DeleteItem{{Ref: object.Ref{Bucket: "data", Key: key}}}})[0]
						} else {
							_, err = l.Put(t.Context(), &guarded.Put{Op: op, Ref: object.Ref{Bucket: "data", Key: key}, Body: strings.NewReader(body), Size: int64(len(body))})
						}
						var refused *fence.Refusal
						switch {
						case err == nil:
							last[w][key] = body
							writes.Add(1)
						case errors.As(err, &refused) && refused.Verdict == fence.NotActive, errors.Is(err, guarded.ErrGuardGone):
							return
						default:
							t.Errorf("%s: %v", key, err)
							return
						}
					}
				})
			}
			got, err := l.export("s3://data/w/", true)
			over.Store(err != nil)
			wg.Wait()
			require.NoError(t, err)
			want := map[string]string{}
			for _, m := range last {
				for key, body := range m {
					if body != "" {
						want[key] = body
					}
				}
			}
			seen := map[string]string{}
			for _, key := range l.plainly() {
				body, _, err := l.plain(key)
				require.NoError(t, err)
				seen[key] = body
			}
			assert.Equal(t, want, seen)
			t.Logf("%d writes; %d copied, %d deleted; closed for %v with %d changes", writes.Load(), got.Copied, got.Deleted, got.Closed, got.Late)
		})
	}
}

// Tags that are set while an export runs change no bytes and no attempt.
func TestTagsSetDuringExport(t *testing.T) { // F6
	t.Parallel()
	var l *leaver
	var op guarded.Op
	l = newLeaver(t, leaveOptions{mover: func(m guarded.Mover) guarded.Mover {
		return &stepping{Mover: m, afterPass: func(_ context.Context, n int) {
			if n == 2 {
				require.NoError(t, l.SetTags(t.Context(), &guarded.Tagging{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/a"}, Tags: []object.Tag{{Key: "k", Value: "last"}}}))
			}
		}}
	}})
	l.add(jobs)
	op = l.op(jobs, l.grant(jobs))
	l.mustPut(op, "jobs/a", "body", func(p *guarded.Put) { p.Tags = []object.Tag{{Key: "k", Value: "first"}} })
	got, err := l.export(jobs, true)
	require.NoError(t, err)
	assert.Equal(t, 1, got.Late)
	tags, err := l.client.ObjectTags(t.Context(), "data", "jobs/a")
	require.NoError(t, err)
	assert.Equal(t, []upstream.Tag{{Key: "k", Value: "last"}}, tags)
}

// Readers are answered by the rows up to the last moment, and never that an object
// is not there: neither by a read nor by a list that straddles the end.
func TestReadersDuringExport(t *testing.T) { // F6
	t.Parallel()
	l := newLeaver(t, leaveOptions{})
	l.add(jobs)
	l.add("s3://data/other/") // keeps the bucket a guarded one
	op := l.op(jobs, l.grant(jobs))
	const objects = 30
	for n := range objects {
		l.mustPut(op, fmt.Sprintf("jobs/%02d", n), "body")
	}
	read := op
	read.Request.Token = 0
	list := l.known()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var lists atomic.Int64
	for range 2 {
		wg.Go(func() {
			for gone := false; !gone; {
				select {
				case <-stop:
					gone = true
				default:
				}
				entries, _, _, err := l.List(t.Context(), list, guarded.ListQuery{Bucket: "data", Prefix: "jobs/", Limit: 1000})
				if errors.Is(err, guarded.ErrGuardGone) {
					return
				}
				if assert.NoError(t, err) {
					assert.Len(t, entries, objects)
					lists.Add(1)
				}
				body, err := l.see(read, "jobs/07")
				if errors.Is(err, guarded.ErrGuardGone) {
					return
				}
				assert.NoError(t, err)
				assert.Equal(t, "body", body)
			}
		})
	}
	_, err := l.export(jobs, true)
	close(stop)
	wg.Wait()
	require.NoError(t, err)
	assert.NotZero(t, lists.Load())
}

// The bytes of exported objects are collected as those of deleted ones are: when a
// restored state cannot need them any more, and not before.
func TestExportedBytesAreCollected(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Now()}
	l := newLeaver(t, leaveOptions{state: memory.New(memory.WithClock(c.Now)), options: Options{LongestUpload: time.Hour, CollectAfter: 24 * time.Hour}})
	l.add(jobs)
	op := l.op(jobs, l.grant(jobs))
	l.mustPut(op, "jobs/a", "a")
	l.mustPut(op, "jobs/b", "b")
	_, err := l.export(jobs, true)
	require.NoError(t, err)
	require.Len(t, l.physical(), 2)
	for range 4 {
		c.Add(2 * time.Hour)
		require.NoError(t, l.CollectOnce(t.Context()))
		require.Len(t, l.physical(), 2, "collect_after has not passed")
	}
	c.Add(25 * time.Hour)
	require.NoError(t, l.CollectOnce(t.Context()))
	assert.Empty(t, l.physical())
	l.holds("jobs/a", "a")
	l.holds("jobs/b", "b")
}

// A guard whose objects are exported says why it cannot simply be removed, and a
// scope below it is no guard.
func TestExportOfWhatIsNoGuard(t *testing.T) {
	t.Parallel()
	l := newLeaver(t, leaveOptions{})
	l.add("s3://data/tenants/*/")
	_, err := l.export("s3://data/tenants/a/", true)
	require.ErrorIs(t, err, guards.ErrNoSuchGuard)
	_, err = l.export("s3://data/none/", false)
	require.ErrorIs(t, err, guards.ErrNoSuchGuard)
	got, err := l.export("s3://data/tenants/*/", true)
	require.NoError(t, err)
	assert.True(t, got.Removed)
	assert.Zero(t, got.Objects)
}
