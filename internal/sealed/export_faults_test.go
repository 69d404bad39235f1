package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
)

// holding holds the first request that matches, as a network or a frozen process
// does, and says how the store answers it when it is let go.
type holding struct {
	held, release chan struct{}
	letGo         func() // closes release
	answer        chan int
	once          sync.Once
}

func (l *leaver) hold(matches func(*http.Request) bool) *holding {
	h := &holding{held: make(chan struct{}), release: make(chan struct{}), answer: make(chan int, 1)}
	h.letGo = sync.OnceFunc(func() { close(h.release) })
	l.t.Cleanup(h.letGo)
	l.interfere(func(w http.ResponseWriter, r *http.Request, store http.Handler) {
		mine := false
		if matches(r) {
			h.once.Do(func() { mine = true })
		}
		if !mine {
			store.ServeHTTP(w, r)
			return
		}
		// What was sent is sent, whatever becomes of its sender.
		sent := r.Clone(context.WithoutCancel(r.Context()))
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		sent.Body = http.NoBody
		if body.Len() > 0 {
			sent.Body = readCloser{&body}
		}
		close(h.held)
		<-h.release
		rec := httptest.NewRecorder()
		store.ServeHTTP(rec, sent)
		h.answer <- rec.Code
		panic(http.ErrAbortHandler)
	})
	return h
}

type readCloser struct{ *bytes.Buffer }

func (readCloser) Close() error { return nil }

func await[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatal("nothing happened for a minute")
		panic("unreachable")
	}
}

// pair is two proxies on one state and one store.
func pair(t *testing.T, o leaveOptions) (a, b *leaver) {
	t.Helper()
	plain := leaveOptions{state: memory.New(), store: newShelf(t)}
	o.state, o.store = plain.state, plain.store
	return newLeaver(t, o), newLeaver(t, plain)
}

// A change of a plain key that a frozen or dead exporter sent, or had signed, arrives
// after the guard was removed and a client wrote there: the store refuses it, since
// it was signed with a time from before the guard was last seen to be the run's.
func TestLateChangesOfAnotherExporter(t *testing.T) { // F6
	t.Parallel()
	half := strings.Repeat("0123456789abcdef", minPartSize/16)
	for _, tc := range []struct {
		name string
		was  func(*leaver, guarded.Op)
		sent func(*http.Request) bool
	}{
		{"copy", func(l *leaver, op guarded.Op) { l.mustPut(op, "jobs/a", "in the scope") }, func(r *http.Request) bool { return r.Method == http.MethodPut }},
		{"complete", func(l *leaver, op guarded.Op) { l.upload(op, "jobs/a", object.Attributes{}, half, "tail") }, func(r *http.Request) bool { return r.Method == http.MethodPost }},
		{"delete", func(l *leaver, op guarded.Op) { l.remove(op, "jobs/a") }, func(r *http.Request) bool { return r.Method == http.MethodDelete }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, leaveOptions{})
			b.writePlain("jobs/a", "before the guard")
			b.add(jobs)
			tc.was(b, b.op(jobs, b.grant(jobs)))
			late := a.hold(func(r *http.Request) bool { return changes(r) && tc.sent(r) })
			ctx, die := context.WithCancel(t.Context())
			over := make(chan error, 1)
			go func() { _, err := a.exportUnder(ctx, jobs, guards.ExportOptions{Remove: true}); over <- err }()
			await(t, late.held)

			got, err := b.export(jobs, true)
			require.NoError(t, err)
			require.True(t, got.Removed)
			b.writePlain("jobs/a", "by a client, after the guard")
			late.letGo()
			assert.Equal(t, http.StatusForbidden, await(t, late.answer))
			die()
			require.Error(t, await(t, over))
			b.holds("jobs/a", "by a client, after the guard")
		})
	}
}

// The same where the exporter was frozen before it signed: what it signs when it
// wakes is as old as its look at the guard.
func TestExporterFrozenBeforeItSigns(t *testing.T) { // F6
	t.Parallel()
	looked, release := make(chan struct{}), make(chan struct{})
	wake := sync.OnceFunc(func() { close(release) })
	var once sync.Once
	a, b := pair(t, leaveOptions{held: func(was func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			err := was(ctx)
			once.Do(func() {
				close(looked)
				<-release
			})
			return err
		}
	}})
	t.Cleanup(wake)
	b.add(jobs)
	b.mustPut(b.op(jobs, b.grant(jobs)), "jobs/a", "in the scope")
	var answers atomic.Int64
	a.interfere(func(w http.ResponseWriter, r *http.Request, store http.Handler) {
		if !changes(r) {
			store.ServeHTTP(w, r)
			return
		}
		answers.Add(1)
		rec := httptest.NewRecorder()
		store.ServeHTTP(rec, r)
		assert.Equal(t, http.StatusForbidden, rec.Code)
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
	over := make(chan error, 1)
	go func() { _, err := a.export(jobs, true); over <- err }()
	await(t, looked)
	_, err := b.export(jobs, true)
	require.NoError(t, err)
	b.writePlain("jobs/a", "by a client, after the guard")
	wake()
	require.ErrorIs(t, await(t, over), guards.ErrChanging)
	assert.NotZero(t, answers.Load(), "it sent what it had a permit for")
	b.holds("jobs/a", "by a client, after the guard")
}

// The store took a change of another exporter in time and does it late, within the
// bound: the keys are compared behind that.
func TestLateEffectWithinTheBound(t *testing.T) { // F6
	t.Parallel()
	l := newLeaver(t, leaveOptions{})
	l.add(jobs)
	op := l.op(jobs, l.grant(jobs))
	l.mustPut(op, "jobs/a", "what was seen last")
	var expired, done atomic.Bool
	l.interfere(func(w http.ResponseWriter, r *http.Request, store http.Handler) {
		rec := httptest.NewRecorder()
		store.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
		if strings.Contains(r.URL.Path, exportPrefix) && rec.Code == http.StatusForbidden && len(l.plainlyBy(store)) > 0 {
			expired.Store(true) // it has begun to settle
		}
		if expired.Load() && r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, "/jobs/a") && done.CompareAndSwap(false, true) {
			l.writeBy(store, "jobs/a", "what was seen before")
		}
	})
	got, err := l.export(jobs, true)
	require.NoError(t, err)
	require.True(t, done.Load())
	assert.Equal(t, 2, got.Copied)
	l.holds("jobs/a", "what was seen last")
}

// Two exporters at once: the later one has the guard, and the other one ends.
func TestTwoExporters(t *testing.T) {
	t.Parallel()
	a, b := pair(t, leaveOptions{})
	b.add(jobs)
	op := b.op(jobs, b.grant(jobs))
	for n := range 20 {
		b.mustPut(op, fmt.Sprintf("jobs/%02d", n), "body")
	}
	first := make(chan error, 1)
	parked := a.hold(changes)
	go func() { _, err := a.export(jobs, true); first <- err }()
	await(t, parked.held)
	second := make(chan error, 1)
	go func() { _, err := b.export(jobs, true); second <- err }()
	require.Eventually(t, func() bool { return len(b.plainly()) > 10 }, time.Minute, 10*time.Millisecond)
	parked.letGo()
	require.ErrorIs(t, await(t, first), guards.ErrChanging)
	require.NoError(t, await(t, second))
	assert.Len(t, b.plainly(), 20)
}

const copied = `<CopyObjectResult><ETag>"00000000000000000000000000000000"</ETag></CopyObjectResult>`

// A store that answers 200 for nothing is found out; where it goes on so nothing is
// closed, and writers have not noticed.
func TestExportToAStoreThatLies(t *testing.T) { // F6
	t.Parallel()
	for _, tc := range []struct {
		name  string
		lies  int64
		fails bool
	}{{"once", 1, false}, {"always", 1 << 30, true}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := newLeaver(t, leaveOptions{})
			l.add(jobs)
			op := l.op(jobs, l.grant(jobs))
			l.mustPut(op, "jobs/a", "body")
			var lies atomic.Int64
			l.interfere(func(w http.ResponseWriter, r *http.Request, store http.Handler) {
				if changes(r) && lies.Add(1) <= tc.lies {
					_, _ = w.Write([]byte(copied))
					return
				}
				store.ServeHTTP(w, r)
			})
			_, err := l.export(jobs, true)
			l.behave()
			if !tc.fails {
				require.NoError(t, err)
				l.holds("jobs/a", "body")
				return
			}
			require.ErrorIs(t, err, guards.ErrNotExported)
			assert.Contains(t, err.Error(), "jobs/a")
			l.mustPut(op, "jobs/a", "still guarded")
			assert.Len(t, l.rows(), 1)
		})
	}
}

// The store does what it was asked and its answers are lost, in the first pass and in
// the last: both are settled before the guard goes.
func TestExportWithLostAnswers(t *testing.T) { // F6, F7
	t.Parallel()
	var l *leaver
	var op guarded.Op
	var once sync.Once
	l = newLeaver(t, leaveOptions{mover: func(m guarded.Mover) guarded.Mover {
		return &stepping{Mover: m, afterPass: func(_ context.Context, n int) {
			if n == 2 { // the one behind settling
				once.Do(func() { l.mustPut(op, "jobs/b", "written at the last moment") })
			}
		}}
	}})
	l.add(jobs)
	op = l.op(jobs, l.grant(jobs))
	l.mustPut(op, "jobs/a", "body")
	l.mustPut(op, "jobs/b", "body")
	lost := map[string]int{}
	var mu sync.Mutex
	l.interfere(func(w http.ResponseWriter, r *http.Request, store http.Handler) {
		mu.Lock()
		g, _ := l.again(jobs)
		key := fmt.Sprint(r.URL.Path, g.State)
		lose := changes(r) && lost[key] == 0
		if lose {
			lost[key]++
		}
		mu.Unlock()
		if lose {
			store.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		store.ServeHTTP(w, r)
	})
	got, err := l.export(jobs, true)
	require.NoError(t, err)
	l.holds("jobs/a", "body")
	l.holds("jobs/b", "written at the last moment")
	assert.Equal(t, map[string]int{"/data/jobs/aactive": 1, "/data/jobs/bactive": 1, "/data/jobs/bremoving": 1}, lost)
	assert.Equal(t, 1, got.Late)
	assert.GreaterOrEqual(t, got.Closed, exportValidity-time.Second, "a change whose answer is lost is waited for while writers wait")
}

// stepping tells a test of each pass.
type stepping struct {
	guarded.Mover
	passes    int
	afterPass func(ctx context.Context, n int)
	tidy      func() error
}

func (s *stepping) Pass(ctx context.Context, progress func(int, int)) (guarded.Pass, error) {
	p, err := s.Mover.Pass(ctx, progress)
	s.passes++
	if s.afterPass != nil {
		s.afterPass(ctx, s.passes)
	}
	return p, err
}

func (s *stepping) Tidy(ctx context.Context) (int, error) {
	if s.tidy != nil {
		if err := s.tidy(); err != nil {
			return 0, err
		}
	}
	return s.Mover.Tidy(ctx)
}

// Behind a balancer that may send a change again no answer settles anything: what is
// changed in the last pass is waited for. On a direct path it is not, and writers
// wait for what changed alone.
func TestExportWaitsLongerBehindABalancer(t *testing.T) { // F6
	t.Parallel()
	for _, balanced := range []bool{false, true} {
		t.Run(fmt.Sprint(balanced), func(t *testing.T) {
			t.Parallel()
			var l *leaver
			var op guarded.Op
			var once sync.Once
			l = newLeaver(t, leaveOptions{balanced: balanced, mover: func(m guarded.Mover) guarded.Mover {
				return &stepping{Mover: m, afterPass: func(_ context.Context, n int) {
					if n == 2 {
						once.Do(func() { l.mustPut(op, "jobs/a", "late") })
					}
				}}
			}})
			l.add(jobs)
			op = l.op(jobs, l.grant(jobs))
			l.mustPut(op, "jobs/a", "early")
			got, err := l.export(jobs, true)
			require.NoError(t, err)
			assert.Equal(t, 1, got.Late)
			assert.Equal(t, balanced, got.Closed >= exportValidity-time.Second, "closed for %v", got.Closed)
			l.holds("jobs/a", "late")
		})
	}
}

// A store that takes requests after they expired cannot be left while it runs: that
// is said before anything is closed.
func TestExportNeedsAStoreThatRefusesLateRequests(t *testing.T) {
	t.Parallel()
	l := newLeaver(t, leaveOptions{})
	l.add(jobs)
	op := l.op(jobs, l.grant(jobs))
	l.mustPut(op, "jobs/a", "body")
	l.interfere(func(w http.ResponseWriter, r *http.Request, store http.Handler) {
		if strings.Contains(r.URL.Path, exportPrefix) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`<Error><Code>NoSuchKey</Code></Error>`))
			return
		}
		store.ServeHTTP(w, r)
	})
	_, err := l.export(jobs, true)
	require.ErrorIs(t, err, guards.ErrNotExported)
	require.ErrorContains(t, err, "after they expired")
	l.mustPut(op, "jobs/a", "still guarded")
	assert.Empty(t, l.plainly())
}

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
