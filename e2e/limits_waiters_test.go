package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// crowdConfig lets waiters of a proxy that a busy machine holds up keep their turn: they
// are passed over after a guard lease.
var crowdConfig = map[string]any{"guard_lease": "2m"}

// crowdWait bounds the arrival of a crowd on a busy machine.
const crowdWait = 4 * time.Minute

// mostLooks bounds the transactions a second of two proxies for whose callers nothing
// happens.
const mostLooks = 60.0

// lineWatch looks into the state, which no client may.
type lineWatch struct {
	t    *testing.T
	conn *pgx.Conn
}

func watchLine(t *testing.T, c *Cluster) *lineWatch {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.DSN)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return &lineWatch{t, conn}
}

// line is everybody who has a place for a scope, in order.
func (w *lineWatch) line(scope string) (owners []string) {
	w.t.Helper()
	rows, err := w.conn.Query(w.t.Context(), "SELECT owner FROM places WHERE scope = $1 ORDER BY turn", scope)
	require.NoError(w.t, err)
	owners, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.t, err)
	return owners
}

func (w *lineWatch) places() (n int) {
	w.t.Helper()
	require.NoError(w.t, w.conn.QueryRow(w.t.Context(), "SELECT count(*) FROM places").Scan(&n))
	return n
}

// transactions is how many the database has seen, statements on their own among them.
func (w *lineWatch) transactions() (n int64) {
	w.t.Helper()
	// Sessions tell once a second.
	require.NoError(w.t, w.conn.QueryRow(w.t.Context(), "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()").Scan(&n))
	return n
}

// crowd waits for one lock each, and says who was served, in order.
type crowd struct {
	served chan turn
	all    sync.WaitGroup
}

// join lets somebody wait until ctx ends.
func (w *crowd) join(ctx context.Context, cl *client.Client, scope, name string) {
	w.all.Go(func() {
		l, err := cl.Acquire(ctx, client.Acquisition{Scope: scope, Owner: name, TTL: 20 * time.Minute, Wait: 20 * time.Minute})
		w.served <- turn{name, l, err, time.Now()}
	})
}

// crowdClient has as many connections as it has callers, and keeps none.
func (p *Proxy) crowdClient(t *testing.T) *client.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	c, err := client.New(p.URL, p.cluster.AccessKey, p.cluster.SecretKey, client.WithHTTPClient(&http.Client{Transport: transport}))
	require.NoError(t, err)
	return c
}

// 1,000 wait for one lock, at two proxies. Waiting costs the database a few looks a
// second, however many wait; they are served in the order of the line; those who give
// up leave nothing behind, and neither does anybody in the end. (F2)
func TestThousandWaitersForOneLock(t *testing.T) {
	t.Parallel()
	const waiters = 1000
	c := NewCluster(t, Options{Proxies: 2, Guards: []Guard{{Prefix: "jobs/"}}, Config: crowdConfig})
	scope := c.Scope("jobs/")
	first, err := c.Proxies[0].client(t).Acquire(t.Context(), client.Acquisition{Scope: scope, Owner: "first", TTL: 20 * time.Minute})
	require.NoError(t, err)
	token := first.Token
	watch := watchLine(t, c)
	clients := []*client.Client{c.Proxies[0].crowdClient(t), c.Proxies[1].crowdClient(t)}
	w := &crowd{served: make(chan turn, waiters)}
	ctx, stop := context.WithCancel(t.Context())
	defer w.all.Wait()
	defer stop()
	leaving, leave := context.WithCancel(ctx)
	begun := time.Now()
	_, fds := c.Proxies[0].memory(t)
	for i := range waiters {
		asking := ctx
		if i%4 == 3 {
			asking = leaving
		}
		w.join(asking, clients[i*2/waiters], scope, fmt.Sprint("w", i))
	}
	require.Eventually(t, func() bool { return watch.places() == waiters }, crowdWait, 50*time.Millisecond)
	rss, more := c.Proxies[0].memory(t)
	t.Logf("%d wait after %v; one proxy has %.1f MiB and %d descriptors", waiters, time.Since(begun), float64(rss)/(1<<20), more)

	// No stampede while nothing happens: each proxy looks four times a second, and
	// keeps its lease on the guard list.
	const span = 3 * time.Second
	from := watch.transactions()
	time.Sleep(span) // what is counted is a rate
	rate := float64(watch.transactions()-from) / span.Seconds()
	t.Logf("%.1f transactions a second while %d wait", rate, waiters)
	assert.Less(t, rate, mostLooks)

	// A quarter gives up.
	leave()
	for range waiters / 4 {
		got := <-w.served
		require.ErrorIs(t, got.err, context.Canceled, "%s", got.name)
	}
	require.Eventually(t, func() bool { return watch.places() == waiters*3/4 }, crowdWait, 20*time.Millisecond)

	// The next ones are served as they stand, at whichever proxy.
	line := watch.line(scope)
	from, begun = watch.transactions(), time.Now()
	const turns = 50
	for _, name := range line[:turns] {
		require.NoError(t, clients[0].Release(t.Context(), scope, token))
		got := <-w.served
		require.NoError(t, got.err)
		require.Equal(t, name, got.name, "first come, first served")
		require.Greater(t, got.lease.Token, token, "F2")
		token = got.lease.Token
	}
	t.Logf("%d turns in %v", turns, time.Since(begun))
	time.Sleep(1200 * time.Millisecond) // until the sessions have told what they did
	each := float64(watch.transactions()-from) / turns
	t.Logf("%.1f transactions for each", each)
	looks := mostLooks * time.Since(begun).Seconds() / turns // a busy machine takes longer
	assert.Less(t, each, 20+looks, "what a turn costs must not hang on how many wait")

	// Everybody leaves.
	stop()
	w.all.Wait()
	require.Eventually(t, func() bool { return watch.places() == 0 }, crowdWait, 20*time.Millisecond)
	for range waiters*3/4 - turns {
		got := <-w.served
		if !errors.Is(got.err, context.Canceled) {
			t.Errorf("%s was served: %v %v", got.name, got.lease, got.err)
		}
	}
	require.NoError(t, clients[1].Release(t.Context(), scope, token))
	next := c.Proxies[1].Acquire(t, scope, "next")
	assert.Greater(t, next, token, "F2")
	require.Eventually(t, func() bool { _, now := c.Proxies[0].memory(t); return now < fds+40 }, crowdWait, 20*time.Millisecond, "descriptors of waiters who left")
}

// 1,000 wait for 200 locks, five for each, at two proxies, and each lock is released
// as soon as it is granted: all get their turn, each line in its order.
func TestThousandWaitersForManyLocks(t *testing.T) {
	t.Parallel()
	const locks, each = 200, 5
	c := NewCluster(t, Options{Proxies: 2, Guards: []Guard{{Prefix: "jobs/*/"}}, Config: crowdConfig})
	watch := watchLine(t, c)
	clients := []*client.Client{c.Proxies[0].crowdClient(t), c.Proxies[1].crowdClient(t)}
	scope := func(i int) string { return c.Scope(fmt.Sprintf("jobs/%d/", i)) }
	tokens := make([]int64, locks)
	for i := range locks {
		l, err := clients[0].Acquire(t.Context(), client.Acquisition{Scope: scope(i), Owner: "first", TTL: 20 * time.Minute})
		require.NoError(t, err)
		tokens[i] = l.Token
	}
	lines := make([]*crowd, locks)
	for i := range lines {
		lines[i] = &crowd{served: make(chan turn, each)}
	}
	defer func() {
		for _, l := range lines {
			l.all.Wait()
		}
	}()
	for n := range each {
		for i := range locks {
			lines[i].join(t.Context(), clients[(i+n)%2], scope(i), fmt.Sprint("w", n))
		}
	}
	require.Eventually(t, func() bool { return watch.places() == locks*each }, crowdWait, 50*time.Millisecond)
	orders := make([][]string, locks)
	for i := range orders {
		orders[i] = watch.line(scope(i))
	}
	from, begun := watch.transactions(), time.Now()
	var all sync.WaitGroup
	var mu sync.Mutex
	var worst time.Duration
	for i := range locks {
		all.Go(func() {
			for _, name := range orders[i] {
				released := time.Now()
				if err := clients[i%2].Release(t.Context(), scope(i), tokens[i]); err != nil {
					t.Errorf("%s: %v", scope(i), err)
					return
				}
				got := <-lines[i].served
				if got.err != nil || got.name != name || got.lease.Token <= tokens[i] {
					t.Errorf("%s: %s is served under %d (%v), not %s under more than %d", scope(i), got.name, got.lease.Token, got.err, name, tokens[i])
					return
				}
				tokens[i] = got.lease.Token
				mu.Lock()
				worst = max(worst, got.at.Sub(released))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	took := time.Since(begun)
	time.Sleep(1200 * time.Millisecond) // until the sessions have told what they did
	looks := mostLooks * time.Since(begun).Seconds() / (locks * each)
	n := float64(watch.transactions()-from) / (locks * each)
	t.Logf("%d turns in %v, at worst %v from a release to the next grant, %.1f transactions for each", locks*each, took, worst, n)
	assert.Less(t, n, 20+looks)
	require.Eventually(t, func() bool { return watch.places() == 0 }, crowdWait, 20*time.Millisecond)
	seen := map[int64]bool{}
	for _, token := range tokens {
		assert.False(t, seen[token], "two grants share a token (F2)")
		seen[token] = true
	}
}
