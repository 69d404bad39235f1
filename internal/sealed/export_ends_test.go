package sealed

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
)

// Whatever ends an export while writers wait lets them go on, and the guard counts.
func TestExportThatFailsWhileClosed(t *testing.T) { // F6
	t.Parallel()
	for _, tc := range []struct {
		name string
		end  func(l *leaver, cancel func())
		ends bool
		want error
	}{
		{"the caller leaves", func(_ *leaver, cancel func()) { cancel() }, true, context.Canceled},
		{"the proxy stops", func(l *leaver, _ func()) { l.admin.Drain() }, true, guards.ErrChanging},
		{"the guard is added again", func(l *leaver, _ func()) {
			_, err := l.admin.Add(l.t.Context(), fence.Guard{Pattern: l.guards[jobs].Pattern})
			require.NoError(l.t, err)
		}, false, guards.ErrChanging},
		{"somebody tries to remove it", func(l *leaver, _ func()) {
			require.ErrorIs(l.t, l.admin.Remove(l.t.Context(), l.guards[jobs].Pattern), guards.ErrHoldsObjects)
		}, false, guards.ErrChanging},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var l *leaver
			var op guarded.Op
			l = newLeaver(t, leaveOptions{mover: func(m guarded.Mover) guarded.Mover {
				return &stepping{Mover: m, afterPass: func(ctx context.Context, n int) {
					if n == 3 { // the first one that writers wait for
						g, _ := l.again(jobs)
						assert.Equal(t, fence.Removing, g.State)
						_, err := l.put(op, "jobs/a", "not now")
						refusal(t, err, fence.NotActive)
						body, err := l.get(op, "jobs/a")
						assert.NoError(t, err)
						assert.Equal(t, "body", body)
						tc.end(l, cancel)
						if tc.ends {
							<-ctx.Done()
						}
					}
				}}
			}})
			l.add(jobs)
			op = l.op(jobs, l.grant(jobs))
			l.mustPut(op, "jobs/a", "body")
			_, err := l.exportUnder(ctx, jobs, guards.ExportOptions{Remove: true})
			require.ErrorIs(t, err, tc.want)
			g, ok := l.again(jobs)
			require.True(t, ok)
			assert.Equal(t, fence.Active, g.State)
			l.mustPut(op, "jobs/a", "writers go on")
		})
	}
}

// A run that died while writers waited leaves the guard removing; the next run takes
// it from there.
func TestExportAfterOneThatDiedWhileClosed(t *testing.T) {
	t.Parallel()
	a, b := pair(t, leaveOptions{})
	b.add(jobs)
	op := b.op(jobs, b.grant(jobs))
	b.mustPut(op, "jobs/a", "body")
	// As the dead one left it.
	set := *b.guards[jobs]
	set.State = fence.Removing
	require.NoError(t, stateRun(t, b, set))
	_, err := b.put(op, "jobs/a", "not now")
	refusal(t, err, fence.NotActive)
	got, err := a.export(jobs, true)
	require.NoError(t, err)
	assert.True(t, got.Removed)
	b.holds("jobs/a", "body")
}

// What an export leaves when it is cut off behind the removal of its guard is seen by
// nobody, and goes: by the collector, by another export, or when a guard is added.
func TestRowsThatOutliveTheirGuard(t *testing.T) { // F6
	t.Parallel()
	for _, by := range []string{"collector", "export", "guard"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			cut := true
			l := newLeaver(t, leaveOptions{mover: func(m guarded.Mover) guarded.Mover {
				return &stepping{Mover: m, tidy: func() error {
					if cut {
						return errors.New("killed")
					}
					return nil
				}}
			}})
			l.add("s3://data/other/") // so that lists of the bucket look at rows
			l.add(jobs)
			op := l.op(jobs, l.grant(jobs))
			l.mustPut(op, "jobs/a", "exported")
			l.mustPut(op, "jobs/b", "exported")
			got, err := l.export(jobs, true)
			require.NoError(t, err)
			require.True(t, got.Removed)
			require.Len(t, l.rows(), 2)
			l.writePlain("jobs/a", "longer since")
			require.NoError(t, l.client.DeleteObject(t.Context(), "data", "jobs/b"))
			entries, _, _, err := l.List(t.Context(), l.known(), guarded.ListQuery{Bucket: "data", Limit: 10})
			require.NoError(t, err)
			require.Len(t, entries, 1)
			assert.Equal(t, int64(len("longer since")), entries[0].Size)
			cut = false
			switch by {
			case "collector":
				require.NoError(t, l.CollectOnce(t.Context()))
			case "export":
				got, err := l.export(jobs, true)
				require.NoError(t, err)
				assert.Equal(t, 2, got.Objects)
				_, err = l.export(jobs, true)
				require.ErrorIs(t, err, guards.ErrNoSuchGuard)
			case "guard":
				l.add(jobs)
				require.Len(t, l.rows(), 1)
				body, err := l.get(l.op(jobs, l.grant(jobs)), "jobs/a")
				require.NoError(t, err)
				assert.Equal(t, "longer since", body)
				// The collector leaves rows to the guard that has them.
				require.NoError(t, l.CollectOnce(t.Context()))
				require.Len(t, l.rows(), 1)
				return
			}
			assert.Empty(t, l.rows())
			l.holds("jobs/a", "longer since")
		})
	}
}

// A list that was begun under a guard, held back and answered when the guard and its
// rows have gone is not answered as if there were nothing.
func TestListThatStraddlesTheEnd(t *testing.T) { // F6
	t.Parallel()
	a, b := pair(t, leaveOptions{})
	b.add("s3://data/other/")
	b.add(jobs)
	b.mustPut(b.op(jobs, b.grant(jobs)), "jobs/a", "body")
	require.NoError(t, a.leased.Refresh(t.Context()))
	guards := a.known()
	_, err := b.export(jobs, true)
	require.NoError(t, err)
	entries, _, _, err := a.List(t.Context(), guards, guarded.ListQuery{Bucket: "data", Prefix: "jobs/", Limit: 10})
	require.ErrorIs(t, err, guarded.ErrGuardGone, "%v", entries)
	// A list that has nothing to do with that guard is answered.
	_, _, _, err = a.List(t.Context(), guards, guarded.ListQuery{Bucket: "data", Prefix: "other/", Limit: 10})
	require.NoError(t, err)
}

// An object whose bytes the store lost is named, and the guard stays.
func TestExportOfLostBytes(t *testing.T) { // F6
	t.Parallel()
	l := newLeaver(t, leaveOptions{})
	l.add(jobs)
	op := l.op(jobs, l.grant(jobs))
	l.mustPut(op, "jobs/a", "body")
	l.mustPut(op, "jobs/b", "body")
	for _, row := range l.rows() {
		if row.Key == "jobs/a" {
			require.NoError(t, l.client.DeleteObject(t.Context(), "data", row.Physical))
		}
	}
	_, err := l.export(jobs, true)
	require.ErrorIs(t, err, guarded.ErrLostBytes)
	require.ErrorIs(t, err, guards.ErrNotExported)
	assert.Contains(t, err.Error(), "jobs/a")
	l.holds("jobs/b", "body")
	l.mustPut(op, "jobs/b", "still guarded")
}

// Rows under a guard are never left over, whoever asks.
func TestTidyLeavesRowsToTheirGuard(t *testing.T) { // F6
	t.Parallel()
	l := newLeaver(t, leaveOptions{})
	g := l.add(jobs)
	op := l.op(jobs, l.grant(jobs))
	l.mustPut(op, "jobs/a", "body")
	dropped, err := l.Export(*g, ExportOptions{}).Tidy(t.Context())
	require.NoError(t, err)
	assert.Zero(t, dropped)
	body, err := l.get(op, "jobs/a")
	require.NoError(t, err)
	assert.Equal(t, "body", body)
}
