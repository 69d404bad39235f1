package e2e

import (
	"crypto/md5"
	"database/sql"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // as the program has it, to age scopes behind its back

	"github.com/s3fence/s3fence/internal/pgtest"
)

// takeoverWithin bounds a takeover while the other proxy stands still: the
// promise is a second; the race detector and a busy machine get another one.
const takeoverWithin = 2 * time.Second

// faultsConfig keeps waits short.
var faultsConfig = map[string]any{"guard_lease": "2s"}

// stand is a cluster in which somebody stands at a point.
type stand struct {
	*Cluster
	state    State
	what     happening
	a, b     *Proxy // the one that stands, and the one that others use; one and the same on SQLite
	database *pgtest.Server
	ledgers  []*ledger
}

// TestPausePoints executes the table: each point, with each thing that can happen while
// somebody stands there, on each state (F1, F3–F7).
func TestPausePoints(t *testing.T) {
	t.Parallel()
	for _, state := range []State{PostgreSQL, SQLite} {
		for _, what := range happenings {
			if state == SQLite && what == noDatabase {
				continue // says the table, for each point
			}
			t.Run(string(state)+"/"+string(what), func(t *testing.T) {
				t.Parallel()
				s := newStand(t, state, what)
				for _, p := range pausePoints {
					s.Run(t, p.name, func(t *testing.T) { s.row(t, p, p.of(state, what)) })
				}
				judgeAll(t, s.ledgers, s.a, s.b)
			})
		}
	}
}

func newStand(t *testing.T, state State, what happening) *stand {
	t.Helper()
	o := Options{State: state, Proxies: 2, StoreFaults: what == noStore, Guards: []Guard{{Prefix: "s/*/"}}, Config: map[string]any{
		"guard_lease": "2s", "collect_every": "1s", "collect_after": "1s", "longest_upload": "10m",
	}}
	s := &stand{state: state, what: what}
	switch {
	case state == SQLite:
		o.Proxies = 1
	case what == noDatabase:
		s.database = pgtest.Start(t, pgtest.Options{Durable: true})
		o.Postgres = s.database
	}
	action := "wait"
	switch {
	case what == crash:
		action = "kill"
	case what == takeover && state == PostgreSQL:
		action = "stop"
	}
	o.Pause = armedWith(action)
	s.Cluster = NewCluster(t, o)
	s.a, s.b = s.Proxies[0], s.Proxies[len(s.Proxies)-1]
	if s.a != s.b {
		// What the one that is to stand has to do, the other one must not have done.
		s.b.Env["S3FENCE_COLLECT_EVERY"] = "1h"
		s.b.Restart()
	}
	return s
}

// armedWith lets a program be armed at each point.
func armedWith(action string) string {
	var all []string
	for _, p := range pausePoints {
		all = append(all, p.name+"="+action+"?")
	}
	return strings.Join(all, ",")
}

// row executes one cell of the table.
func (s *stand) row(t *testing.T, p pausePoint, want expected) {
	t.Helper()
	l := newLedger(s.Cluster, "s/"+p.name+"/")
	s.ledgers = append(s.ledgers, l)
	old := prepare(t, l, s.a, s.b)
	if p.doing == collector {
		s.age(t, l, old)
	}
	s.a.Arm(p.name)
	done := s.begin(t, p, l, old)
	s.a.AwaitHit(p.name)

	var now int64
	var answer Answer
	switch s.what {
	case takeover:
		now, answer = s.takenOver(t, p, l, want, done)
	case crash:
		now, answer = s.crashed(t, l, done)
	case noDatabase:
		require.NoError(t, s.database.Kill())
		s.a.Release(p.name)
		if !want.back {
			answer = <-done
		}
		require.NoError(t, s.database.Start())
		if want.back {
			answer = <-done
		}
		now = s.takeAtLast(t, l)
	case noStore:
		for _, x := range s.Proxies {
			require.NoError(t, x.Store.Refuse())
			x.Store.Cut()
		}
		s.a.Release(p.name)
		answer = <-done
		for _, x := range s.Proxies {
			require.NoError(t, x.Store.Pass())
		}
		now = s.takeAtLast(t, l)
	}
	assert.Equal(t, want.answer, answer.Status, "what stood there is answered %s", answer)
	if s.what != takeover {
		assert.Equal(t, want.first, l.expect(t, s.b, "a", now), "what the new holder reads first (F5)")
	}
	if p.doing == aGuard {
		s.guarded(t, l)
	}
	if p.name == "BeforeRaise" && s.what == takeover {
		// The one that stood came after all, and so after the other one.
		last := answer.Token(t)
		require.Greater(t, last, now)
		l.note(last)
		l.put(t.Context(), s.b, "a", "too late", now).WantCode(t, 412, "StaleFencingToken")
		now = last
	}
	tries := 0
	recovered(t, func() int {
		tries++
		return l.put(t.Context(), s.a, "again", fmt.Sprint("again ", tries), now).Status
	})
	l.put(t.Context(), s.a, "a", "at the end", now).Want(t, 200)
	l.wrote("a", "at the end")
	for _, x := range s.Proxies {
		l.put(t.Context(), x, "a", "later", old).WantCode(t, 412, "StaleFencingToken")
	}
	l.look(t, s.Proxies...)
	if p.doing == collector {
		s.collected(t, l, now)
	}
	s.a.Disarm(p.name)
}

// begin makes the proxy come to the point.
func (s *stand) begin(t *testing.T, p pausePoint, l *ledger, old int64) <-chan Answer {
	t.Helper()
	call := func(path string, body map[string]any) <-chan Answer {
		return later(func() Answer {
			answer, err := s.a.TryAPI(t.Context(), "POST", path, body)
			if err != nil {
				return Answer{what: err.Error()}
			}
			return answer
		})
	}
	switch p.doing {
	case aPut:
		return later(func() Answer { return l.put(t.Context(), s.a, "a", "late", old) })
	case aTake:
		return call("/-/v1/locks/take", map[string]any{"scope": s.Scope(l.scope), "owner": "frozen", "ttl": "60s", "reason": "a test"})
	case aGuard:
		return call("/-/v1/guards", map[string]any{"pattern": s.Scope(guardOf(l))})
	}
	// The collector comes by itself, and nobody is answered.
	return later(func() Answer { return Answer{} })
}

// takenOver takes the lock over while the other one stands, and lets it go on.
func (s *stand) takenOver(t *testing.T, p pausePoint, l *ledger, want expected, done <-chan Answer) (now int64, answer Answer) {
	t.Helper()
	goOn := func() {
		if s.state == SQLite {
			s.a.Release(p.name)
		} else {
			s.a.Thaw()
		}
	}
	if want.held {
		taken := later(func() Answer {
			answer, err := s.b.TryAPI(t.Context(), "POST", "/-/v1/locks/take", map[string]any{"scope": s.Scope(l.scope), "owner": "next", "ttl": "60s", "reason": "a test"})
			if err != nil {
				return Answer{what: err.Error()}
			}
			return answer
		})
		goOn()
		answer = <-done
		grant := <-taken
		now = grant.Want(t, 200).Token(t)
		l.note(now)
	} else {
		if s.state == PostgreSQL {
			t.Cleanup(s.a.Thaw)
			s.a.Freeze() // it has stopped itself; this waits until it stands
		}
		var took time.Duration
		now, took = l.take(t, s.b, "next")
		assert.Less(t, took, takeoverWithin, "the takeover")
	}
	assert.Equal(t, want.first, l.expect(t, s.b, "a", now), "what the new holder reads first (F5)")
	l.put(t.Context(), s.b, "a", "next", now).Want(t, 200)
	l.wrote("a", "next")
	if p.doing == aGuard && s.state == PostgreSQL {
		s.guarded(t, l)
	}
	if !want.held {
		goOn()
		answer = <-done
	}
	return now, answer
}

// crashed takes the lock over after the process was killed at the point, and starts it
// again.
func (s *stand) crashed(t *testing.T, l *ledger, done <-chan Answer) (now int64, answer Answer) {
	t.Helper()
	if s.state == PostgreSQL {
		var took time.Duration
		now, took = l.take(t, s.b, "next")
		assert.Less(t, took, takeoverWithin, "the takeover")
	}
	answer = <-done
	s.a.Restart()
	if s.state == SQLite {
		now = s.takeAtLast(t, l)
	}
	return now, answer
}

// takeAtLast takes the lock over as soon as that can be done again.
func (s *stand) takeAtLast(t *testing.T, l *ledger) (token int64) {
	t.Helper()
	recovered(t, func() int {
		answer := s.b.API(t, "POST", "/-/v1/locks/take", map[string]any{"scope": s.Scope(l.scope), "owner": "next", "ttl": "60s", "reason": "a test"})
		if answer.Status == http.StatusOK {
			token = answer.Token(t)
			l.note(token)
		}
		return answer.Status
	})
	return token
}

func guardOf(l *ledger) string { return "new-" + strings.ReplaceAll(l.scope, "/", "") + "/" }

// guarded: a guard that was left half way is finished by whoever adds it again. What was
// still taken in without a token, by a proxy that had not heard of the guard, is among the
// objects that the guard takes over (F6); from then on there is no way past it. Again, it
// finds what it left.
func (s *stand) guarded(t *testing.T, l *ledger) {
	t.Helper()
	prefix := guardOf(l)
	key, before := prefix+"a", ""
	switch s.b.Put(t, key, "before").Status {
	case http.StatusOK:
		before = "before"
	case http.StatusForbidden: // it is in force
		s.b.API(t, "POST", "/-/v1/guards", map[string]any{"pattern": s.Scope(prefix)}).Want(t, 200)
		s.a.Put(t, key, "unfenced").WantCode(t, 403, "MissingFencingToken")
		return
	}
	begun := time.Now()
	recovered(t, func() int {
		return s.b.API(t, "POST", "/-/v1/guards", map[string]any{"pattern": s.Scope(prefix)}).Status
	})
	assert.Less(t, time.Since(begun), 20*time.Second)
	s.b.Put(t, key, "unfenced").WantCode(t, 403, "MissingFencingToken")
	if before == "" {
		s.b.WantAbsent(t, key)
	} else {
		assert.Equal(t, before, s.b.Get(t, key))
	}
	token := s.b.Take(t, s.Scope(prefix), "holder")
	s.b.PutToken(t, key, "fenced", token).Want(t, 200)
}

// age gives the collector work in a scope: replaced bytes under names whose epoch is long
// over. The scopes are aged behind the program's back, which does not let the bound of an
// upload be shorter than a minute.
func (s *stand) age(t *testing.T, l *ledger, token int64) {
	t.Helper()
	for n := range 3 {
		l.put(t.Context(), s.b, "replaced", s.replaced(l, n), token).Want(t, 200)
	}
	require.True(t, s.stored(t, s.replaced(l, 0)))
	const statement = `UPDATE scopes SET epoch = epoch + 2, epoch_since = `
	if s.state == SQLite {
		db, err := sql.Open("sqlite", s.File+"?_pragma=busy_timeout(10000)")
		require.NoError(t, err)
		defer db.Close()
		_, err = db.ExecContext(t.Context(), statement+`epoch_since / 2`)
		require.NoError(t, err)
		return
	}
	conn, err := pgx.Connect(t.Context(), s.DSN)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), statement+`epoch_since - interval '1 day'`)
	require.NoError(t, err)
}

func (s *stand) replaced(l *ledger, n int) string {
	return fmt.Sprintf("replaced %d %s %s %s", n, l.scope, s.state, s.what)
}

// stored says whether the store has a physical object with this body.
func (s *stand) stored(t *testing.T, body string) bool {
	t.Helper()
	sum := md5.Sum([]byte(body))
	for o := range s.Store.Client(t).ListObjects(t.Context(), s.Bucket, minio.ListObjectsOptions{Prefix: ".s3fence/", Recursive: true}) {
		require.NoError(t, o.Err)
		if o.ETag == hex.EncodeToString(sum[:]) {
			return true
		}
	}
	return false
}

// collected: the collector has gone on, and left what a row refers to (F6).
func (s *stand) collected(t *testing.T, l *ledger, now int64) {
	t.Helper()
	require.Eventually(t, func() bool { return !s.stored(t, s.replaced(l, 0)) && !s.stored(t, s.replaced(l, 1)) }, 30*time.Second, 200*time.Millisecond, "nothing is collected")
	require.True(t, s.stored(t, s.replaced(l, 2)))
	require.Equal(t, s.replaced(l, 2), l.see(t, s.a, "replaced", now))
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

// later runs f in a goroutine.
func later(f func() Answer) <-chan Answer {
	done := make(chan Answer, 1)
	go func() { done <- f() }()
	return done
}
