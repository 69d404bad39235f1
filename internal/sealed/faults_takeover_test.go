//go:build !pausepoints

package sealed

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/postgres"
	"github.com/s3fence/s3fence/internal/state"
)

// TestTakeoverUnderWriters: 64 writers commit into one scope through two proxies
// on a durable PostgreSQL while it is taken over 50 times. No commit that began
// after a takeover was answered is made under an older token (F4), and a takeover
// takes less than 100 ms, a second at worst.
//
// It runs alone: its bounds are promised on a machine that does nothing else. The
// race detector makes two processors into a fraction of one, so with it only the
// order is tested.
func TestTakeoverUnderWriters(t *testing.T) {
	const writers, takeovers = 64, 50
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	dsn := server.DSN("postgres")
	_, _, err := postgres.Migrate(t.Context(), dsn)
	require.NoError(t, err)
	var handles []state.State
	for range 2 {
		db, err := postgres.Open(t.Context(), dsn, postgres.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		handles = append(handles, db)
	}
	two := newProxies(t, handles, openStore(t), Options{}, jobs)

	var granted atomic.Int64 // the highest token that was answered
	granted.Store(int64(two[0].mustTake(jobs)))
	var commits, refused atomic.Int64
	var stop atomic.Bool
	var all sync.WaitGroup
	defer all.Wait()
	defer stop.Store(true)
	for w := range writers {
		p := two[w%len(two)]
		op := p.op(jobs, 0)
		all.Go(func() {
			for n := 0; !stop.Load() && !t.Failed(); n++ {
				// Half of the writers lag behind: they go on under a token until they
				// are told that it is stale.
				if w%2 == 0 || op.Request.Token == 0 || n%100 == 99 {
					op.Request.Token = fence.Token(granted.Load())
				}
				before := fence.Token(granted.Load())
				ref := object.Ref{Bucket: "data", Key: fmt.Sprintf("jobs/%d/%d", w, n%100)}
				_, err := p.commitObject(&op, "PutObject", object.Conditions{}, object.Info{Ref: ref},
					stored{name: p.names.fresh(op.Scope, 1, state.NewID()), size: 4096, etag: "d41d8cd98f00b204e9800998ecf8427e"}, nil)
				var no *fence.Refusal
				switch {
				case err == nil && op.Request.Token < before:
					t.Errorf("a commit under token %d that began after %d was granted took effect", op.Request.Token, before)
				case err == nil:
					commits.Add(1)
				case errors.As(err, &no) && no.Verdict == fence.Stale:
					refused.Add(1)
					op.Request.Token = 0
				default:
					t.Errorf("commit: %v", err)
				}
			}
		})
	}

	var took []time.Duration
	for n := range takeovers {
		for seen := commits.Load(); commits.Load() < seen+writers && !t.Failed(); { // the writers are at work
			time.Sleep(time.Millisecond)
		}
		begun := time.Now()
		tok, err := two[n%2].take(t.Context(), jobs)
		took = append(took, time.Since(begun))
		require.NoError(t, err)
		require.Greater(t, int64(tok), granted.Load()) // F2
		granted.Store(int64(tok))
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	t.Logf("%d takeovers: median %v, worst %v; %d commits, %d refused", takeovers, median, worst, commits.Load(), refused.Load())
	assert.Positive(t, refused.Load())
	if !raceDetector {
		assert.Less(t, median, 100*time.Millisecond, "median")
		assert.Less(t, worst, time.Second, "worst")
	}
}
