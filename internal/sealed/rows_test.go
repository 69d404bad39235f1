package sealed

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/upstream"
)

// TestFirstBytesOfAScopeAreCollected: the collector looks where there is a row of the
// scope, so bytes are sent where there is one: also those of a scope of which nothing
// was ever committed.
func TestFirstBytesOfAScopeAreCollected(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(l *lab) error{
		"a small body": func(l *lab) error {
			l.guard(jobs, func(g *fence.Guard) { g.Issuer = fence.External })
			_, err := l.put(l.op(jobs, 5), "jobs/a", "lost")
			return err
		},
		"a large body": func(l *lab) error {
			l.guard(jobs, func(g *fence.Guard) { g.Issuer = fence.External })
			_, err := l.put(l.op(jobs, 5), "jobs/a", strings.Repeat("x", maxBuffered+1))
			return err
		},
		"an object that is taken in": func(l *lab) error {
			_, err := l.client.PutObject(t.Context(), "data", "jobs/a", strings.NewReader("v"), 1, upstream.PutOptions{})
			require.NoError(t, err)
			_, err = l.Adopt(t.Context(), *l.guard(jobs, func(g *fence.Guard) { g.State = fence.Pending }), nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var at atomic.Pointer[lab]
			c := &clock{now: time.Now()}
			st := memory.New(memory.WithClock(c.Now), memory.WithFaults(func(stage memory.Stage) error {
				if l := at.Load(); l != nil && stage == memory.Beginning && len(l.physical()) > 0 {
					return errors.New("the proxy has crashed")
				}
				return nil
			}))
			l := newLabOn(t, st, c, Options{LongestUpload: time.Hour, CollectAfter: time.Hour})
			at.Store(l)
			require.Error(t, first(l))
			at.Store(nil)
			require.Len(t, l.physical(), 1)
			for range 4 {
				c.Add(2 * time.Hour)
				require.NoError(t, l.CollectOnce(t.Context()))
			}
			require.Empty(t, l.physical())
		})
	}
}

// TestUploadDeliveredTwice: a Create that something on the way delivered twice leaves
// a second upload under the name of the object, which nobody knows of.
func TestUploadDeliveredTwice(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Now()}
	l := newLabOn(t, memory.New(memory.WithClock(c.Now)), c, Options{LongestUpload: time.Hour, CollectAfter: time.Hour})
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	ref := object.Ref{Bucket: "data", Key: "jobs/up"}
	u := guarded.UploadRef{Op: op, Ref: ref}
	var err error
	u.ID, err = l.CreateUpload(t.Context(), &guarded.CreateUpload{Op: op, Ref: ref})
	require.NoError(t, err)
	open := func() []upstream.Upload {
		page, err := l.client.ListMultipartUploads(t.Context(), "data", "", "", "", 10)
		require.NoError(t, err)
		return page.Uploads
	}
	require.Len(t, open(), 1)
	_, err = l.client.CreateMultipartUpload(t.Context(), "data", open()[0].Key, nil)
	require.NoError(t, err)

	for range 3 {
		c.Add(61 * time.Minute)
		require.NoError(t, l.CollectOnce(t.Context()))
	}
	require.Len(t, open(), 1, "one of the two is nobody's")
	p, err := l.UploadPart(t.Context(), &guarded.Part{UploadRef: u, Number: 1, Body: strings.NewReader("part"), Size: 4})
	require.NoError(t, err, "the other one is not touched")
	_, err = l.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{p}})
	require.NoError(t, err)
	require.Empty(t, open())
}
