package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/pgtest"
)

// lineLease is the guard lease of these clusters: for so long the others wait for
// the waiters of a proxy that died.
const lineLease = 2 * time.Second

// lineCluster is two proxies with one guard, jobs/.
func lineCluster(t *testing.T, o Options) *Cluster {
	o.Proxies, o.Guards = 2, []Guard{{Prefix: "jobs/"}}
	o.Config = map[string]any{"guard_lease": lineLease.String()}
	return NewCluster(t, o)
}

func (p *Proxy) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(p.URL, p.cluster.AccessKey, p.cluster.SecretKey, client.WithHTTPClient(p.http()))
	require.NoError(t, err)
	return c
}

// turn is how a waiter was served.
type turn struct {
	name  string
	lease client.Lease
	err   error
	at    time.Time
}

// lineOf is who waits for the lock of jobs/, as the proxy lists it.
func (p *Proxy) lineOf(t *testing.T) []string {
	t.Helper()
	list, _, err := p.client(t).List(t.Context(), p.cluster.Scope("jobs/"), "", 1)
	require.NoError(t, err)
	require.Len(t, list, 1)
	names := []string{}
	for _, w := range list[0].Waiters {
		names = append(names, w.Owner)
	}
	assert.Len(t, names, list[0].Queue)
	return names
}

// awaitLine waits until just these wait, in this order.
func (p *Proxy) awaitLine(t *testing.T, names ...string) {
	t.Helper()
	var last []string
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if last = p.lineOf(t); strings.Join(last, " ") == strings.Join(names, " ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the line is %q, not %q", last, names)
		}
	}
}

// wait has somebody wait for the lock of jobs/ by the client of a proxy, and returns
// once that is in the line, behind those named.
func (p *Proxy) wait(ctx context.Context, t *testing.T, name string, served chan<- turn, before ...string) {
	t.Helper()
	c := p.client(t)
	scope := p.cluster.Scope("jobs/")
	go func() {
		l, err := c.Acquire(ctx, client.Acquisition{Scope: scope, Owner: name, TTL: time.Minute, Wait: 2 * time.Minute})
		served <- turn{name, l, err, time.Now()}
	}()
	p.awaitLine(t, append(before, name)...)
}

func (p *Proxy) release(t *testing.T, token int64) time.Time {
	t.Helper()
	begun := time.Now()
	require.NoError(t, p.client(t).Release(t.Context(), p.cluster.Scope("jobs/"), token))
	return begun
}

// Waiters come to both proxies in turn and are served in the order in which they
// came, each under a higher token; each writes under its own.
func TestLineAcrossProxies(t *testing.T) {
	t.Parallel()
	c := lineCluster(t, Options{Build: Race})
	a, b := c.Proxies[0], c.Proxies[1]
	token := a.Acquire(t, c.Scope("jobs/"), "first")
	const waiters = 8
	served := make(chan turn, waiters)
	var names []string
	for i := range waiters {
		p := c.Proxies[i*5/3%2]
		name := fmt.Sprint("w", i)
		p.wait(t.Context(), t, name, served, names...)
		names = append(names, name)
	}
	assert.Equal(t, names, a.lineOf(t))
	assert.Equal(t, names, b.lineOf(t))
	// Nobody passes them.
	held := lockCall(t, b, "acquire", map[string]any{"scope": c.Scope("jobs/"), "owner": "eve"})
	wantLock(t, held, 409, "LockHeld")
	assert.Contains(t, held.Body, `"waiting":8`)

	var worst time.Duration
	for i, name := range names {
		begun := c.Proxies[i%2].release(t, token)
		got := <-served
		require.NoError(t, got.err)
		require.Equal(t, name, got.name)
		require.Greater(t, got.lease.Token, token)
		a.PutToken(t, "jobs/x", "late", token).WantCode(t, 412, "StaleFencingToken")
		token = got.lease.Token
		b.PutToken(t, "jobs/x", name, token).Want(t, 200)
		worst = max(worst, got.at.Sub(begun))
	}
	t.Logf("from a release to the next grant, at worst: %v", worst)
	assert.Less(t, worst, 2*time.Second)
	assert.Empty(t, a.lineOf(t))
}

// The proxy of the first waiter dies or freezes. Whoever comes next waits for it no
// longer than a guard lease; a client that goes elsewhere with its ticket has kept its
// place, and so has a proxy that wakes up again.
func TestLineWithoutAProxy(t *testing.T) {
	t.Parallel()
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		c := lineCluster(t, Options{})
		a, b := c.Proxies[0], c.Proxies[1]
		scope := c.Scope("jobs/")
		token := b.Acquire(t, scope, "first")
		served := make(chan turn, 4)
		ask := map[string]any{"scope": scope, "owner": "moved", "ticket": "t1", "wait": "40s", "ttl": "60s"}
		go func() { _, _ = a.TryAPI(context.Background(), "POST", "/-/v1/locks/acquire", ask) }()
		b.awaitLine(t, "moved")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a.wait(ctx, t, "dead", served, "moved")
		b.wait(t.Context(), t, "next", served, "moved", "dead")
		a.Kill()
		killed := time.Now()
		cancel()
		require.Error(t, (<-served).err)
		ask["wait"] = "0s"
		moved := lockCall(t, b, "acquire", ask)
		wantLock(t, moved, 409, "LockHeld")
		var stands struct{ Position, Waiting int }
		moved.JSON(t, &stands)
		assert.Equal(t, 1, stands.Position, "its ticket has kept the place")
		b.release(t, token)
		token = lockCall(t, b, "acquire", ask).Want(t, 200).Token(t)
		assert.Equal(t, token, lockCall(t, b, "acquire", ask).Want(t, 200).Token(t), "as often as it asks")

		b.release(t, token)
		got := <-served
		require.NoError(t, got.err)
		assert.Equal(t, "next", got.name)
		waited := got.at.Sub(killed)
		t.Logf("the next one was granted the lock %v after the proxy of the first had been killed", waited)
		assert.Less(t, waited, lineLease+250*time.Millisecond+2*time.Second, "the bound is one guard lease and a look")
	})
	t.Run("frozen", func(t *testing.T) {
		t.Parallel()
		c := lineCluster(t, Options{})
		a, b := c.Proxies[0], c.Proxies[1]
		token := b.Acquire(t, c.Scope("jobs/"), "first")
		served := make(chan turn, 2)
		a.wait(t.Context(), t, "frozen", served)
		b.wait(t.Context(), t, "next", served, "frozen")
		a.Freeze()
		b.awaitLine(t, "next")
		b.release(t, token)
		got := <-served
		require.NoError(t, got.err)
		require.Equal(t, "next", got.name, "nobody waits for who cannot come")
		b.wait(t.Context(), t, "last", served)
		a.Thaw()
		b.awaitLine(t, "frozen", "last")
		b.release(t, got.lease.Token)
		got = <-served
		require.NoError(t, got.err)
		require.Equal(t, "frozen", got.name, "it has its place again")
		b.release(t, got.lease.Token)
		require.Equal(t, "last", (<-served).name)
	})
}

// Proxies and database are restarted while clients wait: they keep their places, and
// nobody waits for them to have their waits over.
func TestLineOutlivesRestarts(t *testing.T) {
	t.Parallel()
	t.Run("proxy", func(t *testing.T) {
		t.Parallel()
		c := lineCluster(t, Options{})
		a, b := c.Proxies[0], c.Proxies[1]
		token := b.Acquire(t, c.Scope("jobs/"), "first")
		served := make(chan turn, 2)
		a.wait(t.Context(), t, "one", served)
		b.wait(t.Context(), t, "two", served, "one")
		begun := time.Now()
		a.Stop()
		assert.Less(t, time.Since(begun), 10*time.Second, "a call that waits does not hold the proxy up")
		assert.Equal(t, []string{"one", "two"}, b.lineOf(t))
		a.Launch()
		a.AwaitReady()
		b.release(t, token)
		for _, name := range []string{"one", "two"} {
			got := <-served
			require.NoError(t, got.err)
			require.Equal(t, name, got.name)
			b.release(t, got.lease.Token)
		}
	})
	t.Run("database", func(t *testing.T) {
		t.Parallel()
		server := pgtest.Start(t, pgtest.Options{})
		c := lineCluster(t, Options{Postgres: server})
		a, b := c.Proxies[0], c.Proxies[1]
		token := b.Acquire(t, c.Scope("jobs/"), "first")
		served := make(chan turn, 2)
		a.wait(t.Context(), t, "one", served)
		b.wait(t.Context(), t, "two", served, "one")
		require.NoError(t, server.Stop(pgtest.Fast))
		require.NoError(t, server.Start())
		require.Eventually(t, func() bool {
			return b.client(t).Release(t.Context(), c.Scope("jobs/"), token) == nil
		}, 30*time.Second, 50*time.Millisecond)
		for _, name := range []string{"one", "two"} {
			got := <-served
			require.NoError(t, got.err)
			require.Equal(t, name, got.name)
			require.Eventually(t, func() bool {
				return b.client(t).Release(t.Context(), c.Scope("jobs/"), got.lease.Token) == nil
			}, 30*time.Second, 50*time.Millisecond)
		}
	})
}

// The client of the first waiter is killed: its place is free at once, long before
// its wait would be over.
func TestKilledClientLeavesTheLine(t *testing.T) {
	t.Parallel()
	c := lineCluster(t, Options{})
	a, b := c.Proxies[0], c.Proxies[1]
	scope := c.Scope("jobs/")
	token := b.Acquire(t, scope, "first")

	home := t.TempDir()
	waiting := exec.Command(Binary(t, Plain), "lock", "acquire", "--owner", "killed", "--wait", "2m", scope)
	waiting.Dir, waiting.Env = home, environment(home, a.clientEnv())
	var said strings.Builder
	var mu sync.Mutex
	waiting.Stderr = writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return said.Write(p)
	})
	require.NoError(t, waiting.Start())
	t.Cleanup(func() { _ = waiting.Process.Kill() })
	b.awaitLine(t, "killed")
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(said.String(), "held by first for") && strings.Contains(said.String(), "you are next")
	}, 20*time.Second, 10*time.Millisecond)
	shown := a.CLI("scope", "show", scope).Must(t)
	assert.Regexp(t, `(?m)^waiting +1\n +1st +killed \(`+c.AccessKey+`\), since `, shown)
	assert.Regexp(t, `first .* 1 +killed since `, a.CLI("lock", "list").Must(t))

	served := make(chan turn, 1)
	b.wait(t.Context(), t, "next", served, "killed")
	require.NoError(t, waiting.Process.Kill())
	var exit *exec.ExitError
	require.True(t, errors.As(waiting.Wait(), &exit))
	killed := time.Now()
	b.awaitLine(t, "next")
	assert.Less(t, time.Since(killed), 2*time.Second)
	b.release(t, token)
	got := <-served
	require.NoError(t, got.err)
	assert.Less(t, got.at.Sub(killed), 3*time.Second)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// The lock is taken by force while 50 wait: nobody is served meanwhile, and then all
// are, in their order.
func TestForceWhileFiftyWait(t *testing.T) {
	t.Parallel()
	c := lineCluster(t, Options{})
	a, b := c.Proxies[0], c.Proxies[1]
	old := a.Acquire(t, c.Scope("jobs/"), "first")
	const waiters = 50
	served := make(chan turn, waiters)
	for i := range waiters {
		cl := c.Proxies[i%2].client(t)
		go func() {
			l, err := cl.Acquire(t.Context(), client.Acquisition{Scope: c.Scope("jobs/"), Owner: fmt.Sprint("w", i), TTL: time.Minute, Wait: 2 * time.Minute})
			served <- turn{fmt.Sprint("w", i), l, err, time.Now()}
		}()
	}
	require.Eventually(t, func() bool {
		list, _, err := a.client(t).List(t.Context(), c.Scope("jobs/"), "", 1)
		return err == nil && list[0].Queue == waiters
	}, 30*time.Second, 20*time.Millisecond)
	token := b.Take(t, c.Scope("jobs/"), "by force")
	assert.Greater(t, token, old)
	a.PutToken(t, "jobs/x", "late", old).WantCode(t, 412, "StaleFencingToken")
	b.PutToken(t, "jobs/x", "forced", token).Want(t, 200)
	select {
	case got := <-served:
		t.Fatalf("%s was served while the lock was held: %v", got.name, got.err)
	default:
	}
	for range waiters {
		b.release(t, token)
		got := <-served
		require.NoError(t, got.err)
		require.Greater(t, got.lease.Token, token, "F2")
		token = got.lease.Token
	}
}

// After a lease that ran out the lock is granted to nobody for the guard's lock
// delay.
func TestLockDelay(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, c *Cluster) {
		a := c.Proxies[0]
		scope := c.Scope("jobs/")
		pattern := scope
		if c.DSN == "" && c.Store == nil {
			pattern = c.Scope("*/")
		}
		a.CLI("guard", "set", pattern, "--lock-delay", "2s").Must(t)
		assert.Contains(t, a.CLI("guard", "list").Must(t), "2s")
		token := a.Acquire(t, scope, "ann")
		a.release(t, token)
		token = a.Acquire(t, scope, "bob") // not after a release
		a.release(t, token)
		lockCall(t, a, "acquire", map[string]any{"scope": scope, "owner": "crashed", "ttl": "1s"}).Want(t, 200)
		begun := time.Now()
		next := c.last().CLI("lock", "acquire", scope, "--owner", "next", "--wait", "30s")
		next.Must(t)
		assert.GreaterOrEqual(t, time.Since(begun), 2*time.Second)
		assert.Contains(t, next.Stderr, "waiting for "+scope)
		lockCall(t, a, "take", map[string]any{"scope": scope, "owner": "crashed", "ttl": "1s", "reason": "a test"}).Want(t, 200)
		require.Eventually(t, func() bool {
			return strings.Contains(lockCall(t, a, "acquire", map[string]any{"scope": scope, "owner": "x"}).Body, "lock_delay")
		}, 10*time.Second, 20*time.Millisecond)
		a.Take(t, scope, "by force")
	})
}
