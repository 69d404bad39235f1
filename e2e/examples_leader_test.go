package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/s3fence/s3fence/internal/testserver"
)

// One leader among three workers. The leader stands still with a write that is
// signed and not sent, its lease ends, the next one leads and writes, and the old
// one goes on. If all that a worker does is to look at its lock before it writes,
// this write stands over the new term's.
func TestMistakeLeaderWrong(t *testing.T) {
	t.Parallel()
	e := newElection(t, "wrong", "leader.state")
	for range 2 {
		old, next := e.thawOldLeader(t, "wrote ")
		assert.Equal(t, old, e.state(t), "term %d wrote before", next)
		e.goOn(t)
	}
}

// Writes that carry the token of their term: while proxies and workers are
// restarted one after the other and leaders freeze, nothing of an old term shows
// once the next one was granted (F4), and each term is one worker's.
func TestMistakeLeaderRight(t *testing.T) {
	t.Parallel()
	e := newElection(t, "right", "leader/state")
	stop := e.watch(t)
	for range 2 {
		for _, p := range e.c.Proxies {
			p.Stop()
			p.Restart()
			e.awaitWrite(t)
		}
		for _, w := range e.workers {
			w.restart(t)
			e.awaitWrite(t)
		}
		_, next := e.thawOldLeader(t, "StaleFencingToken")
		assert.Equal(t, next, e.state(t), "the old leader's write is refused")
		e.goOn(t)
	}
	reads := stop()
	t.Logf("%d terms, %d reads", e.judge(t), reads)
}

// election is three workers on two proxies.
type election struct {
	c       *Cluster
	key     string
	workers []*electee
}

// electee is one worker. While the file at pause stands, it does not send what it
// has signed.
type electee struct {
	name, folder, pause string
	spec                testserver.Spec
	process             *testserver.Process
}

// told is a line of a worker: it leads, it writes, it wrote.
type told struct {
	what string
	term int64
	at   time.Time
}

func newElection(t *testing.T, form, key string) *election {
	t.Helper()
	path := exampleProgram(t, "mistakes/leader/"+form)
	e := &election{c: NewCluster(t, Options{Proxies: 2, Guards: []Guard{{Prefix: "leader/"}}}), key: key}
	for i, name := range []string{"ann", "bob", "carol"} {
		folder := serverFolder(t, "worker")
		env := e.c.Proxies[i%2].clientEnv()
		env["BUCKET"] = e.c.Bucket
		w := &electee{name: name, folder: folder, pause: filepath.Join(folder, "pause")}
		env["PAUSE"] = w.pause
		// It would sleep for a second at its end.
		env["GORACE"] = "halt_on_error=1 atexit_sleep_ms=0"
		w.spec = testserver.Spec{Name: name, Path: path, Args: []string{name}, Env: environment(folder, env), Dir: folder, Log: filepath.Join(folder, "log")}
		e.workers = append(e.workers, w)
		w.start(t)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("worker %s says:\n%s", name, testserver.Tail(w.spec.Log))
			}
			if err := w.process.Kill(); err != nil {
				t.Error(err)
			}
		})
	}
	e.awaitWrite(t)
	return e
}

func (w *electee) start(t *testing.T) {
	t.Helper()
	var err error
	w.process, err = testserver.Launch(w.spec)
	require.NoError(t, err)
}

// restart ends the worker as a deployment does and starts it again.
func (w *electee) restart(t *testing.T) {
	t.Helper()
	require.NoError(t, w.process.Signal(unix.SIGTERM))
	require.NoError(t, w.process.WaitExit(stopWait))
	w.start(t)
}

// log is all that the worker has written.
func (w *electee) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(w.spec.Log)
	require.NoError(t, err)
	return string(text)
}

func (w *electee) told(t *testing.T) []told {
	t.Helper()
	var all []told
	for line := range strings.Lines(w.log(t)) {
		var what string
		var term, at int64
		if n, _ := fmt.Sscanf(line, "%s %d %d\n", &what, &term, &at); n == 3 && slices.Contains([]string{"leads", "writes", "wrote"}, what) {
			all = append(all, told{what, term, time.Unix(0, at)})
		}
	}
	return all
}

// last is the worker's latest line of this kind; zero where there is none.
func (w *electee) last(t *testing.T, what string) told {
	t.Helper()
	for _, line := range slices.Backward(w.told(t)) {
		if line.what == what {
			return line
		}
	}
	return told{}
}

// await waits, bounded, until something is so.
func await(t *testing.T, within time.Duration, what string, so func() bool) {
	t.Helper()
	require.Eventually(t, so, within, 5*time.Millisecond, "%s did not come about", what)
}

// awaitWrite waits until a write that began after now was accepted.
func (e *election) awaitWrite(t *testing.T) {
	t.Helper()
	begun := time.Now()
	await(t, readyWait, "a write of any leader", func() bool {
		return slices.ContainsFunc(e.workers, func(w *electee) bool { return w.last(t, "wrote").at.After(begun) })
	})
}

// leader is who was granted the latest term.
func (e *election) leader(t *testing.T) *electee {
	t.Helper()
	return slices.MaxFunc(e.workers, func(a, b *electee) int {
		return cmp.Compare(a.last(t, "leads").term, b.last(t, "leads").term)
	})
}

// holdBack makes the leader stand still with a write in its hands, but renewing.
func (e *election) holdBack(t *testing.T) *electee {
	t.Helper()
	var w *electee
	await(t, readyWait, "a leader that stands still", func() bool {
		w = e.leader(t)
		require.NoError(t, os.WriteFile(w.pause, nil, 0o600))
		for range 400 {
			if _, err := os.Stat(w.pause + ".reached"); err == nil {
				return true
			}
			time.Sleep(5 * time.Millisecond)
		}
		// It lost the lock before it came there: the next one, then.
		require.NoError(t, os.Remove(w.pause))
		return false
	})
	require.NoError(t, os.Remove(w.pause+".reached"))
	return w
}

// thawOldLeader freezes the leader with a write in its hands, waits until another
// one leads, has written and was held back, too, and lets the frozen one go on
// until it has said what came of its write. It returns both terms.
func (e *election) thawOldLeader(t *testing.T, says string) (old, next int64) {
	t.Helper()
	was := e.holdBack(t)
	require.NoError(t, was.process.Pause())
	old = was.last(t, "leads").term
	await(t, readyWait, "a write of the next leader", func() bool { return e.leader(t).last(t, "wrote").term > old })
	is := e.holdBack(t)
	next = is.last(t, "leads").term
	require.NotEqual(t, was.name, is.name)
	before := len(was.log(t))
	require.NoError(t, os.Remove(was.pause))
	require.NoError(t, was.process.Resume())
	await(t, readyWait, was.name+" saying "+says, func() bool { return strings.Contains(was.log(t)[before:], says) })
	return old, next
}

// goOn lets everybody go on.
func (e *election) goOn(t *testing.T) {
	t.Helper()
	for _, w := range e.workers {
		require.NoError(t, os.RemoveAll(w.pause))
	}
	e.awaitWrite(t)
}

// state is the term whose write stands.
func (e *election) state(t *testing.T) int64 {
	t.Helper()
	var term int64
	_, err := fmt.Sscan(e.c.Proxies[0].Get(t, e.key), &term)
	require.NoError(t, err)
	return term
}

// watch reads the state over and over, through either proxy, and fails the test
// when an older term shows after a newer one. What it returns ends it and says how
// often it read.
func (e *election) watch(t *testing.T) (stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	reads := 0
	done.Go(func() {
		var highest int64
		for i := 0; ctx.Err() == nil; i++ {
			a, err := e.c.Proxies[i%2].TrySend(ctx, Request{Method: "GET", Bucket: e.c.Bucket, Key: e.key})
			if err != nil || a.Status == 503 {
				time.Sleep(5 * time.Millisecond) // one that is restarted
				continue
			}
			if a.Status != 200 {
				t.Errorf("the state is not read: %s", a)
				return
			}
			reads++
			var term int64
			if _, err := fmt.Sscan(a.Body, &term); err != nil {
				t.Errorf("the state is %q", a.Body)
			}
			if term < highest {
				t.Errorf("the state shows term %d after term %d", term, highest)
			}
			highest = max(highest, term)
		}
	})
	return func() int { cancel(); done.Wait(); return reads }
}

// judge fails the test where two workers led one term, or a write that began after
// a later grant was accepted, and returns how many terms there were.
func (e *election) judge(t *testing.T) int {
	t.Helper()
	leads := map[int64]time.Time{}
	leaders := map[int64]string{}
	for _, w := range e.workers {
		for _, line := range w.told(t) {
			if line.what == "leads" {
				assert.NotContains(t, leads, line.term, "%s and %s lead one term", w.name, leaders[line.term])
				leads[line.term], leaders[line.term] = line.at, w.name
			}
		}
	}
	names := map[string]bool{}
	for _, w := range e.workers {
		var begun told
		accepted := 0
		for _, line := range w.told(t) {
			if line.what == "writes" {
				begun = line
			}
			if line.what != "wrote" {
				continue
			}
			assert.Equal(t, begun.term, line.term)
			assert.Equal(t, w.name, leaders[line.term], "a write under a term that was not %s's", w.name)
			for term, at := range leads {
				if term > line.term && begun.at.After(at) {
					t.Errorf("%s wrote under term %d, %v after term %d was granted to %s", w.name, line.term, begun.at.Sub(at), term, leaders[term])
				}
			}
			accepted++
		}
		if accepted > 0 {
			names[w.name] = true
		}
	}
	assert.GreaterOrEqual(t, len(names), 2, "leadership moves")
	return len(leads)
}
