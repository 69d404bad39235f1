package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// takeoverWithin bounds a takeover while the other proxy stands still: the
// promise is a second; the race detector and a busy machine get another one.
const takeoverWithin = 2 * time.Second

// faultsConfig keeps waits short.
var faultsConfig = map[string]any{"guard_lease": "2s"}

// points are the pause points that a proxy is frozen or killed at, with what must
// be true of the write that stands there.
var points = []struct {
	name string
	// began says what the proxy does that comes to the point.
	began func(t *testing.T, l *ledger, a *Proxy, old int64) <-chan Answer
	// shows is what the new holder reads first.
	shows string
	// answer is what the frozen one answers when it goes on; 0: any that is true.
	answer int
}{
	{"BeforeUpload", putLate, "base", 412},
	{"AfterUpload", putLate, "base", 412},
	{"BeforeCommit", putLate, "base", 503},
	{"AfterCommit", putLate, "late", 200},
	{"BeforeAnswer", putLate, "late", 200},
	{"BeforeRaise", takeLate, "base", 200},
	{"AfterRaise", takeLate, "base", 200},
	{"GuardPending", addGuardLate, "base", 0},
	{"GuardActivate", addGuardLate, "base", 0},
}

func putLate(t *testing.T, l *ledger, a *Proxy, old int64) <-chan Answer {
	return later(func() Answer { return l.put(t.Context(), a, "a", "late", old) })
}

// takeLate is a takeover through the proxy that is going to stand still.
func takeLate(t *testing.T, l *ledger, a *Proxy, _ int64) <-chan Answer {
	return later(func() Answer {
		answer, err := a.TryAPI(t.Context(), "POST", "/-/v1/locks/take", map[string]any{"scope": l.c.Scope(l.scope), "owner": "frozen", "ttl": "60s", "reason": "a test"})
		if err != nil {
			return Answer{what: err.Error()}
		}
		return answer
	})
}

func addGuardLate(t *testing.T, l *ledger, a *Proxy, _ int64) <-chan Answer {
	return later(func() Answer {
		answer, err := a.TryAPI(t.Context(), "POST", "/-/v1/guards", map[string]any{"pattern": l.c.Scope(guardOf(l))})
		if err != nil {
			return Answer{what: err.Error()}
		}
		return answer
	})
}

func guardOf(l *ledger) string { return "new-" + strings.ReplaceAll(l.scope, "/", "") + "/" }

// later runs f in a goroutine.
func later(f func() Answer) <-chan Answer {
	done := make(chan Answer, 1)
	go func() { done <- f() }()
	return done
}

func armedWith(action string) string {
	var all []string
	for _, p := range points {
		all = append(all, p.name+"="+action+"?")
	}
	return strings.Join(all, ",")
}

// TestFrozenAtEachPoint: proxy A stops itself (SIGSTOP) at each point; through B
// the scope is taken over and written; A goes on. (F4–F7)
func TestFrozenAtEachPoint(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Pause: armedWith("stop"), Config: faultsConfig, Guards: []Guard{{Prefix: "s/*/"}}})
	for _, point := range points {
		t.Run(point.name, func(t *testing.T) {
			a, b := c.Proxies[0], c.Proxies[1]
			l := newLedger(c, "s/"+point.name+"/")
			old := prepare(t, l, a, b)
			a.Arm(point.name)
			done := point.began(t, l, a, old)
			t.Cleanup(a.Thaw)
			a.AwaitHit(point.name)
			a.Freeze() // it has stopped itself; this waits until it stands

			now, took := l.take(t, b, "next")
			assert.Less(t, took, takeoverWithin, "the takeover")
			assert.Equal(t, point.shows, l.expect(t, b, "a", now), "what the new holder reads first (F5)")
			l.put(t.Context(), b, "a", "next", now).Want(t, 200)
			l.wrote("a", "next")
			if strings.HasPrefix(point.name, "Guard") {
				guardGoesOn(t, c, b, guardOf(l))
			}
			a.Thaw()
			answer := <-done
			if point.answer != 0 {
				answer.Want(t, point.answer)
			}
			a.Disarm(point.name)
			if strings.HasPrefix(point.name, "Guard") {
				assert.Equal(t, "fenced", a.Get(t, guardOf(l)+"a"))
				a.Put(t, guardOf(l)+"a", "unfenced").WantCode(t, 403, "MissingFencingToken")
			}
			if point.name == "BeforeRaise" {
				// The frozen takeover came after all and so after the other one.
				last := answer.Token(t)
				require.Greater(t, last, now)
				l.note(last)
				l.put(t.Context(), b, "a", "too late", now).WantCode(t, 412, "StaleFencingToken")
			} else {
				l.put(t.Context(), a, "b", "still there", now).Want(t, 200)
			}
			l.put(t.Context(), a, "a", "later", old).WantCode(t, 412, "StaleFencingToken")
			l.judge(t, a, b)
		})
	}
}

// TestKilledAtEachPoint: the same with SIGKILL, and A is started again. (F4–F7)
func TestKilledAtEachPoint(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Pause: armedWith("kill"), Config: faultsConfig, Guards: []Guard{{Prefix: "s/*/"}}})
	for _, point := range points {
		t.Run(point.name, func(t *testing.T) {
			a, b := c.Proxies[0], c.Proxies[1]
			l := newLedger(c, "s/"+point.name+"/")
			old := prepare(t, l, a, b)
			a.Arm(point.name)
			done := point.began(t, l, a, old)
			a.AwaitHit(point.name)
			now, took := l.take(t, b, "next")
			assert.Less(t, took, takeoverWithin, "the takeover")
			assert.Equal(t, point.shows, l.expect(t, b, "a", now), "what the new holder reads first (F5)")
			l.put(t.Context(), b, "b", "next", now).Want(t, 200)
			if strings.HasPrefix(point.name, "Guard") {
				guardGoesOn(t, c, b, guardOf(l))
			}
			require.Zero(t, (<-done).Status, "a killed proxy answers nothing")
			a.Disarm(point.name)
			a.Restart()
			l.judge(t, a, b)
			l.put(t.Context(), a, "a", "after the restart", now).Want(t, 200)
			l.wrote("a", "after the restart")
			l.put(t.Context(), a, "a", "later", old).WantCode(t, 412, "StaleFencingToken")
			l.judge(t, a, b)
		})
	}
}

// prepare grants the first token through b, writes, and makes connections of a.
func prepare(t *testing.T, l *ledger, a, b *Proxy) int64 {
	t.Helper()
	old, _ := l.take(t, b, "first")
	l.put(t.Context(), b, "a", "base", old).Want(t, 200)
	l.put(t.Context(), a, "warm", "base", old).Want(t, 200)
	require.Equal(t, "base", l.see(t, a, "a", old))
	return old
}

// guardGoesOn: a guard that its proxy left half way is finished by the other one.
// What that one still took in without a token, because it had not heard of the
// guard, is among the objects that the guard takes over (F6); from then on there
// is no way past it.
func guardGoesOn(t *testing.T, c *Cluster, b *Proxy, prefix string) {
	t.Helper()
	key, before := prefix+"a", ""
	if b.Put(t, key, "before").Status == 200 {
		before = "before"
	}
	begun := time.Now()
	b.API(t, "POST", "/-/v1/guards", map[string]any{"pattern": c.Scope(prefix)}).Want(t, 200)
	assert.Less(t, time.Since(begun), 20*time.Second)
	b.Put(t, key, "unfenced").WantCode(t, 403, "MissingFencingToken")
	if before == "" {
		b.WantAbsent(t, key)
	} else {
		assert.Equal(t, before, b.Get(t, key))
	}
	token := b.Take(t, c.Scope(prefix), "holder")
	b.PutToken(t, key, "fenced", token).Want(t, 200)
}
