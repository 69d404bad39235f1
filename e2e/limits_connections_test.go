package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/pgtest"
)

const stateCrowded = "The state database takes no more connections, so nothing was done. End some of its other clients' or raise its max_connections, then send it again."

// hog takes every connection that the server has left, and returns them.
func hog(t *testing.T, server *pgtest.Server) (held []*pgx.Conn) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), callWait)
		conn, err := pgx.Connect(ctx, server.DSN("postgres"))
		cancel()
		if err != nil {
			require.ErrorContains(t, err, "53300")
			return held
		}
		held = append(held, conn)
	}
}

// Others take all connections of PostgreSQL: first all but a few that the proxies
// have, which have to do for everybody, and then those too, one by one, as sessions
// end. What cannot be done is refused in words that name what is short; it goes on
// without a restart. (F6, F7, F9)
func TestDatabaseTakesNoMoreConnections(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"max_connections": "30"}})
	c := NewCluster(t, Options{Proxies: 2, Build: Race, Postgres: server, Config: faultsConfig, Guards: []Guard{{Prefix: "s/*/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	l := newLedger(c, "s/crowded/")
	token := prepare(t, l, a, b)
	held := hog(t, server)
	t.Logf("%d connections are others'", len(held))
	// The few must do: nothing is refused because no further one is had.
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			for i := range 10 {
				p := c.Proxies[(n+i)%2]
				answer := l.put(t.Context(), p, fmt.Sprint(n), fmt.Sprintf("few %d-%d", n, i), token)
				assert.Equal(t, 200, answer.Status, "%s", answer)
				answer, err := p.TrySend(t.Context(), Request{Method: "GET", Bucket: c.Bucket, Key: l.scope + fmt.Sprint(n), Header: tokenHeader(token)})
				assert.NoError(t, err)
				assert.Equal(t, 200, answer.Status, "%s", answer)
			}
		})
	}
	all.Wait()

	// None is left to the proxies.
	_, err := held[0].Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 's3fence'`)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		held = append(held, hog(t, server)...)
		var n int
		require.NoError(t, held[0].QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE application_name = 's3fence'`).Scan(&n))
		if n > 0 {
			_, err := held[0].Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 's3fence'`)
			require.NoError(t, err)
		}
		return n == 0
	}, 20*time.Second, time.Millisecond)
	for i, p := range []*Proxy{a, b} {
		begun := time.Now()
		for n := 0; ; n++ {
			f := l.put(t.Context(), p, "x", fmt.Sprintf("none %d-%d", i, n), token).WantCode(t, 503, "ServiceUnavailable")
			if f.Message == stateCrowded {
				break
			}
			require.Less(t, n, 16, "its pool still had a connection that had been ended, says: %s", f.Message)
		}
		f := p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Key: l.scope + "a", Header: tokenHeader(token)}).WantCode(t, 503, "ServiceUnavailable")
		assert.Equal(t, stateCrowded, f.Message)
		answer := p.API(t, "POST", "/-/v1/locks/take", map[string]any{"scope": c.Scope(l.scope), "owner": "x", "ttl": "60s", "reason": "a test"})
		assert.Equal(t, 503, answer.Status, "%s", answer)
		assert.Contains(t, answer.Body, "takes no more connections: end some of its other clients', or raise its max_connections")
		t.Logf("three refusals in %v", time.Since(begun))
	}
	// The lease on the guard list ends, and says why.
	require.Eventually(t, func() bool {
		answer := a.Send(t, Request{Method: "PUT", Bucket: c.Bucket, Key: "unguarded", Body: "x"})
		return answer.Status == 503 && answer.Failure().Message == stateCrowded
	}, 20*time.Second, 50*time.Millisecond)
	for _, conn := range held {
		require.NoError(t, conn.Close(t.Context()))
	}
	for _, p := range []*Proxy{a, b} {
		begun := time.Now()
		recovered(t, func() int { return l.put(t.Context(), p, "x", "after"+p.URL+time.Since(begun).String(), token).Status })
		t.Logf("it goes on after %v", time.Since(begun))
	}
	l.judge(t, a, b)
}
