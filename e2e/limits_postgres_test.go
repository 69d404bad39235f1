package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/testserver"
)

// serversDisk opens a small disk of PostgreSQL's user.
func serversDisk(t *testing.T, size int64) *testserver.Disk {
	t.Helper()
	cred, err := testserver.Unprivileged()
	require.NoError(t, err)
	d, err := testserver.OpenDisk(size, cred)
	if errors.Is(err, testserver.ErrNoDisk) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// The volume with PostgreSQL's tables is full: writes that need a new page are refused
// in words that say so, takeovers and reads that need none go on, and once there is
// room so does everything. (F6, F7, F9)
func TestDatabaseDiskFull(t *testing.T) {
	t.Parallel()
	d := serversDisk(t, 40<<20)
	server := pgtest.Start(t, pgtest.Options{})
	conn, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	for _, sql := range []string{"CREATE TABLESPACE small LOCATION '" + d.Outside("") + "'", "CREATE DATABASE small TABLESPACE small"} {
		_, err = conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	c := NewCluster(t, Options{Proxies: 2, Build: Race, DSN: server.DSN("small"), Config: faultsConfig, Guards: []Guard{{Prefix: "s/*/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	l := newLedger(c, "s/full/")
	token := prepare(t, l, a, b)
	for n := range 20 {
		l.put(t.Context(), a, fmt.Sprint(n), fmt.Sprint("before ", n), token).Want(t, 200)
	}
	require.NoError(t, d.Fill(0))
	refused := 0
	for n := 0; refused < 10; n++ {
		require.Less(t, n, 2000, "the disk is not full")
		answer := l.put(t.Context(), c.Proxies[n%2], fmt.Sprintf("full-%d", n), fmt.Sprint("full ", n), token)
		if answer.Status != 200 {
			answer.WantCode(t, 503, "ServiceUnavailable")
			assert.Equal(t, stateFull, answer.Failure().Message)
			assert.NotEmpty(t, answer.Header.Get("Retry-After"))
			refused++
		}
	}
	for n := range 20 {
		assert.Equal(t, fmt.Sprint("before ", n), l.see(t, b, fmt.Sprint(n), int64(n%2)*token))
	}
	answer := b.API(t, "POST", "/-/v1/locks/take", map[string]any{"scope": c.Scope(l.scope), "owner": "x", "ttl": "60s", "reason": "a test"})
	if answer.Status == 200 {
		token = answer.Token(t)
		l.note(token)
	} else {
		assert.Equal(t, 503, answer.Status, "%s", answer)
		assert.Contains(t, answer.Body, "the disk of the state database is full: free space there")
	}
	require.NoError(t, d.Free())
	for _, p := range []*Proxy{a, b} {
		begun := time.Now()
		recovered(t, func() int { return l.put(t.Context(), p, "x", "after"+p.URL+time.Since(begun).String(), token).Status })
		t.Logf("it goes on after %v", time.Since(begun))
	}
	l.judge(t, a, b)
}

// The volume with PostgreSQL's log is full: PostgreSQL ends, as it does. Nothing that
// was acknowledged is lost, nothing is answered falsely, and once there is room and
// PostgreSQL runs again, proxies go on by themselves. (F6, F7, F9)
func TestDatabaseLogFull(t *testing.T) {
	t.Parallel()
	d := serversDisk(t, 24<<20)
	server := pgtest.Start(t, pgtest.Options{Durable: true, WAL: d, Settings: map[string]string{"wal_keep_size": "1GB"}}) // no segment is used again
	conn, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	c := NewCluster(t, Options{Proxies: 2, Build: Race, Postgres: server, Config: faultsConfig, Guards: []Guard{{Prefix: "s/*/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	plain := c.NewBucket()
	a.Send(t, Request{Method: "PUT", Bucket: plain, Key: "plain", Body: "plain"}).Want(t, 200)
	l := newLedger(c, "s/log/")
	token := prepare(t, l, a, b)
	require.NoError(t, d.Fill(0))
	refused := 0
	for n := 0; refused < 10; n++ {
		require.Less(t, n, 2000, "the disk is not full")
		answer := l.put(t.Context(), c.Proxies[n%2], fmt.Sprintf("full-%d", n%100), fmt.Sprint("full ", n), token)
		// Others write, too; what came of that nobody asks.
		_, _ = conn.Exec(t.Context(), "SELECT pg_logical_emit_message(false, 'filler', repeat('x', 20000))")
		switch answer.Status {
		case 200:
		case 503, 504:
			refused++
		default:
			t.Errorf("%s", answer)
		}
	}
	for n := range 3 { // Reads outside of guards go on, whatever PostgreSQL does.
		c.Proxies[n%2].Send(t, Request{Method: "GET", Bucket: plain, Key: "plain"}).Want(t, 200)
	}
	require.NoError(t, d.Free())
	require.NoError(t, server.Kill()) // what is left of it; its service manager would start it
	require.NoError(t, server.Start())
	for _, p := range []*Proxy{a, b} {
		begun := time.Now()
		recovered(t, func() int { return l.put(t.Context(), p, "x", "after"+p.URL+time.Since(begun).String(), token).Status })
		t.Logf("it goes on after %v", time.Since(begun))
	}
	l.judge(t, a, b)
}
