package guards_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/memory"
)

// plainWriter is a proxy's client that writes plain keys until it is refused.
type plainWriter struct {
	list  *guards.List
	shop  *shop
	took  time.Duration // of the store
	mu    sync.Mutex
	acked map[string]string
}

// write makes one unguarded PUT as the S3 edge does.
func (w *plainWriter) write(ctx context.Context, key, etag string) error {
	f, err := w.list.Begin(ctx, "data", key)
	if err != nil {
		return err
	}
	defer f.End()
	if err := f.StillValid(); err != nil {
		return err
	}
	select {
	case <-time.After(w.took):
		w.shop.put("data", key, etag)
	case <-f.Context().Done():
		return context.Cause(f.Context())
	}
	if err := f.StillValid(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked[key] = etag
	return nil
}

// F6: while two proxies take unguarded writes, a guard is added. Every write
// that was acknowledged is adopted; none is acknowledged after.
func TestGuardAddedUnderTraffic(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		frozen bool          // the second proxy stops renewing just before
		took   time.Duration // of the store for a write
		longer time.Duration // Add takes no longer
	}{
		{"both alive, quick store", false, 50 * time.Millisecond, 8 * time.Second},
		{"both alive, slow store", false, 7 * time.Second, 13 * time.Second},
		{"both alive, store slower than a lease", false, 25 * time.Second, 13 * time.Second},
		{"one frozen", true, 50 * time.Millisecond, 13 * time.Second},
		{"one frozen, slow store", true, 9 * time.Second, 13 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := memory.New()
				sh := newShop(s)
				ctx, stop := context.WithCancel(t.Context())
				freeze, cancel := context.WithCancel(ctx)
				defer cancel()
				var writers []*plainWriter
				var wg sync.WaitGroup
				for i, runs := range []context.Context{ctx, freeze} {
					l := newList(s, bubbleClock())
					require.NoError(t, l.Refresh(ctx))
					wg.Go(func() { l.Run(runs) })
					w := &plainWriter{list: l, shop: sh, took: tc.took, acked: map[string]string{}}
					writers = append(writers, w)
					for c := range 8 {
						wg.Go(func() {
							for n := 0; ctx.Err() == nil; n++ {
								key := fmt.Sprintf("jobs/%d-%d-%d", i, c, n)
								if w.write(ctx, key, key) != nil {
									// As a client told 503: a pause, then another try.
									time.Sleep(100 * time.Millisecond)
								}
								time.Sleep(time.Duration(c) * time.Millisecond)
							}
						})
					}
				}
				time.Sleep(tc.took + 4*time.Second)
				if tc.frozen {
					cancel()
				}
				start := time.Now()
				_, err := newAdmin(s, sh).Add(ctx, guard(t, "s3://data/jobs/"))
				took := time.Since(start)
				require.NoError(t, err)
				assert.LessOrEqual(t, took, tc.longer)
				adopted := sealed(t, s, "data")
				time.Sleep(tc.took + 12*time.Second)
				stop()
				wg.Wait()
				n := 0
				for i, w := range writers {
					for key, etag := range w.acked {
						n++
						assert.Equal(t, etag, adopted[key], "proxy %d acknowledged %s and the guard does not have it", i, key)
					}
				}
				if tc.took < lease {
					assert.NotZero(t, n)
				}
				t.Logf("%d acknowledged, %d adopted, add took %v", n, len(adopted), took)
			})
		})
	}
}

// A proxy frozen in the middle of a write wakes long after the guard was added,
// and renews before its write goes on: the write is still not acknowledged.
func TestFrozenFlightWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		sh := newShop(s)
		l := newList(s, bubbleClock())
		require.NoError(t, l.Refresh(t.Context()))
		f, err := l.Begin(t.Context(), "data", "jobs/a")
		require.NoError(t, err)
		defer f.End()
		require.NoError(t, f.StillValid())
		_, err = newAdmin(s, sh).Add(t.Context(), guard(t, "s3://data/jobs/"))
		require.NoError(t, err)
		sh.put("data", "jobs/a", "late")
		require.NoError(t, l.Refresh(t.Context()))
		require.Error(t, f.StillValid())
		assert.Empty(t, sealed(t, s, "data"))
	})
}

// A flight that does not end is cut off after the grace.
func TestFlightIsCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		l := newList(s, bubbleClock())
		require.NoError(t, l.Refresh(t.Context()))
		f, err := l.Begin(t.Context(), "data", "jobs/a")
		require.NoError(t, err)
		insert(t, s, "s3://data/jobs/")
		require.NoError(t, l.Refresh(t.Context()))
		require.NoError(t, f.Context().Err())
		time.Sleep(guards.DefaultGrace)
		synctest.Wait()
		require.ErrorIs(t, context.Cause(f.Context()), guards.ErrCut)
		require.ErrorIs(t, f.StillValid(), guards.ErrCut)
		f.End()
	})
}

// With its own list told at once, a deployment of one proxy does not wait.
func TestAddIsQuickAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		l := newList(s, bubbleClock())
		require.NoError(t, l.Refresh(t.Context()))
		a := guards.NewAdmin(s, newShop(s), lease, guards.AdminOptions{Refresh: l.Refresh})
		start := time.Now()
		g, err := a.Add(t.Context(), guard(t, "s3://data/jobs/"))
		require.NoError(t, err)
		assert.Less(t, time.Since(start), 100*time.Millisecond)
		gs, err := l.Current()
		require.NoError(t, err)
		got, _, ok := gs.Find("data", "jobs/a")
		require.True(t, ok)
		assert.Equal(t, g, *got)
	})
}
