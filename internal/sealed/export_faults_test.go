package sealed

import (
	"bytes"
	"context"
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
	case <-time.After(3 * time.Minute):
		t.Fatal("nothing happened for three minutes")
		panic("unreachable")
	}
}

// pair is two proxies on one state and one store.
func pair(t *testing.T, o leaveOptions) (a, b *leaver) {
	t.Helper()
	plain := leaveOptions{state: memory.New(), store: newShelf(t)}
	o.state, o.store = plain.state, plain.store
	a, b = newLeaver(t, o), newLeaver(t, plain)
	a.peers, b.peers = []*leaver{b}, []*leaver{a}
	return a, b
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
			var waited atomic.Bool
			l.interfere(func(w http.ResponseWriter, r *http.Request, store http.Handler) {
				if strings.Contains(r.URL.Path, exportPrefix) {
					if g, _ := l.again(jobs); g.State == fence.Removing {
						waited.Store(true)
					}
				}
				store.ServeHTTP(w, r)
			})
			got, err := l.export(jobs, true)
			require.NoError(t, err)
			assert.Equal(t, 1, got.Late)
			assert.Equal(t, balanced, waited.Load(), "it asked whether the store refuses by now, while writers waited (%v)", got.Closed)
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
