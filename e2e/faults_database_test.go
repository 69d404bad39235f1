package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/pgtest"
)

// TestDatabaseStopped: fenced operations are refused at once, unguarded reads go
// on, unguarded writes only as long as the lease on the guard list lasts; all of
// it comes back without a restart. (F7, F9)
func TestDatabaseStopped(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	c := NewCluster(t, Options{Proxies: 2, Build: Race, Postgres: server, Config: faultsConfig, Guards: []Guard{{Prefix: "s/*/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	plain := c.NewBucket()
	send := func(p *Proxy, method, key, body string) Answer {
		return p.Send(t, Request{Method: method, Bucket: plain, Key: key, Body: body})
	}
	send(a, "PUT", "plain", "plain").Want(t, 200)
	l := newLedger(c, "s/stopped/")
	token := prepare(t, l, a, b)

	for _, mode := range []pgtest.Mode{pgtest.Fast, pgtest.Immediate} {
		t.Run(string(mode), func(t *testing.T) {
			require.NoError(t, server.Stop(mode))
			stopped := time.Now()
			for _, p := range []*Proxy{a, b} {
				for what, answer := range map[string]Answer{
					"write":         l.put(t.Context(), p, "a", "while it is stopped, "+string(mode)+p.URL, token),
					"read":          p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Key: l.scope + "a", Header: tokenHeader(token)}),
					"unfenced read": p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Key: l.scope + "a"}),
					"delete":        p.Send(t, Request{Method: "DELETE", Bucket: c.Bucket, Key: l.scope + "a", Header: tokenHeader(token)}),
				} {
					assert.Equal(t, 503, answer.Status, "%s: %s", what, answer)
					assert.Equal(t, "ServiceUnavailable", answer.Failure().Code, what)
					assert.NotEmpty(t, answer.Header.Get("Retry-After"), what)
				}
				answer := p.API(t, "POST", "/-/v1/locks/take", map[string]any{"scope": c.Scope(l.scope), "owner": "x", "ttl": "60s", "reason": "a test"})
				assert.Equal(t, 503, answer.Status, "take: %s", answer)
				send(p, "GET", "plain", "").Want(t, 200)
				// The lease is two seconds, counted from before it was asked for.
				for n := 0; ; n++ {
					begun := time.Now()
					answer := send(p, "PUT", "unguarded", fmt.Sprint(n))
					if answer.Status == http.StatusServiceUnavailable {
						assert.NotEmpty(t, answer.Header.Get("Retry-After"))
						break
					}
					if answer.Status != http.StatusGatewayTimeout { // it was on its way when the lease ended
						answer.Want(t, 200)
					}
					require.Less(t, begun.Sub(stopped), 4*time.Second, "unguarded writes go on past the lease (F9)")
					time.Sleep(50 * time.Millisecond)
				}
				send(p, "DELETE", "unguarded", "").Want(t, 503)
				send(p, "GET", "plain", "").Want(t, 200)
			}
			require.NoError(t, server.Start())
			for _, p := range []*Proxy{a, b} {
				recovered(t, func() int { return send(p, "PUT", "unguarded", "again").Status })
				recovered(t, func() int {
					return l.put(t.Context(), p, "b", "after "+string(mode)+p.URL+time.Now().String(), token).Status
				})
			}
			l.judge(t, a, b)
		})
	}
}

// recovered waits until something works again.
func recovered(t *testing.T, try func() int) {
	t.Helper()
	require.Eventually(t, func() bool { return try() == 200 }, 20*time.Second, 100*time.Millisecond)
}

// TestDatabaseKilledUnderLoad: PostgreSQL is killed (SIGKILL of everything) three
// times while 16 clients write through two proxies and the lock changes hands.
// (F1, F4, F6, F7)
func TestDatabaseKilledUnderLoad(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	c := NewCluster(t, Options{Proxies: 2, Build: Race, Postgres: server, Config: faultsConfig, Guards: []Guard{{Prefix: "s/*/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	l := newLedger(c, "s/load/")
	var token atomic.Int64
	token.Store(prepare(t, l, a, b))

	const clients = 16
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var statuses sync.Map // status → *atomic.Int64
	var acknowledged atomic.Int64
	for n := range clients {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				status := l.put(context.Background(), c.Proxies[(n+i)%2], fmt.Sprint(n), fmt.Sprintf("%d-%d", n, i), token.Load()).Status
				count, _ := statuses.LoadOrStore(status, new(atomic.Int64))
				count.(*atomic.Int64).Add(1)
				if status == 200 {
					acknowledged.Add(1)
				} else {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	defer all.Wait()
	defer stop()
	for range 3 {
		more(t, &acknowledged, 2*clients)
		require.NoError(t, server.Kill())
		time.Sleep(200 * time.Millisecond) // an outage, not a synchronisation
		require.NoError(t, server.Start())
		more(t, &acknowledged, clients)
		next, _ := l.take(t, a, "next")
		token.Store(next)
	}
	more(t, &acknowledged, clients)
	stop()
	all.Wait()
	statuses.Range(func(status, count any) bool {
		t.Logf("%d times %d", count.(*atomic.Int64).Load(), status)
		switch status.(int) {
		case 200, 412, 503, 504:
		default:
			t.Errorf("a write was answered %d", status)
		}
		return true
	})
	l.judge(t, a, b)
}

// more waits until a counter has grown.
func more(t *testing.T, n *atomic.Int64, by int64) {
	t.Helper()
	from := n.Load()
	require.Eventually(t, func() bool { return n.Load() >= from+by }, time.Minute, 10*time.Millisecond, "clients do not get on")
}

// TestCommitAnswerLost: the database commits and its answer does not reach the
// proxy. The client gets the truth all the same: 200 if it can be read, and
// nothing to be read otherwise. (F6, F7)
func TestCommitAnswerLost(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Build: Race, StateFaults: true, Config: faultsConfig, Guards: []Guard{{Prefix: "s/*/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	l := newLedger(c, "s/lost/")
	token := prepare(t, l, a, b)
	for n := range 8 { // describes the statements on the pool's connections
		l.put(t.Context(), a, "warm", fmt.Sprintf("warm %d", n), token).Want(t, 200)
	}
	statuses := map[int]int{}
	for n := range 12 {
		key, body := fmt.Sprint(n), fmt.Sprintf("written %d", n)
		a.State.DropAnswer(1, "COMMIT")
		status := l.put(t.Context(), a, key, body, token).Status
		statuses[status]++
		got := l.see(t, b, key, token)
		if status == 200 {
			assert.Equal(t, body, got)
		} else {
			assert.Empty(t, got, "answered %d", status)
		}
	}
	t.Logf("statuses %v", statuses)
	assert.Positive(t, statuses[200])

	// Cut off in the middle of everything, many at once.
	var all sync.WaitGroup
	for n := range 32 {
		all.Go(func() {
			for i := range 6 {
				l.put(t.Context(), a, fmt.Sprintf("many-%d", n), fmt.Sprintf("%d-%d", n, i), token)
			}
		})
	}
	for range 10 {
		time.Sleep(30 * time.Millisecond) // some moment
		a.State.Cut()
	}
	all.Wait()
	l.judge(t, a, b)
	now, _ := l.take(t, b, "next")
	l.put(t.Context(), a, "many-0", "too late", token).WantCode(t, 412, "StaleFencingToken")
	l.put(t.Context(), a, "many-0", "next", now).Want(t, 200)
	l.wrote("many-0", "next")
	l.judge(t, a, b)
}
