package sealed

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/memory"
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
