package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// A Go program that holds a lock by the public client and writes by its token.
func TestGoClient(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2})
	ctx := t.Context()
	clients := make([]*client.Client, len(c.Proxies))
	for i, p := range c.Proxies {
		var err error
		clients[i], err = client.New(p.URL, c.AccessKey, c.SecretKey, client.WithHTTPClient(p.http()))
		require.NoError(t, err)
	}
	a, b := clients[0], clients[1]
	scope := c.Scope("jobs/")
	_, err := a.Acquire(ctx, client.Acquisition{Scope: scope, Owner: "ann@host"})
	require.ErrorIs(t, err, client.ErrNoSuchGuard)
	_, err = a.AddGuard(ctx, client.Guard{Pattern: scope})
	require.NoError(t, err)

	held, err := a.Acquire(ctx, client.Acquisition{Scope: scope, Owner: "ann@host", TTL: 20 * time.Second})
	require.NoError(t, err)
	assert.False(t, held.Deadline.After(time.Now().Add(20*time.Second)), "a lease is counted from before it was asked for")
	assert.True(t, held.Settled)
	_, err = b.Acquire(ctx, client.Acquisition{Scope: scope, Owner: "bob@host", Wait: 200 * time.Millisecond})
	require.ErrorIs(t, err, client.ErrHeld)
	renewed, err := b.Renew(ctx, scope, held.Token, 30*time.Second)
	require.NoError(t, err)
	assert.Equal(t, held.Token, renewed.Token)
	assert.True(t, renewed.Deadline.After(held.Deadline))
	c.Proxies[1].PutToken(t, "jobs/x", "held", held.Token).Want(t, 200)

	taken, err := b.Take(ctx, scope, "bob@host", 20*time.Second, "a test")
	require.NoError(t, err)
	assert.Greater(t, taken.Token, held.Token)
	_, err = a.Renew(ctx, scope, held.Token, 0)
	require.ErrorIs(t, err, client.ErrLost)
	_, err = a.Check(ctx, scope, held.Token)
	require.ErrorIs(t, err, client.ErrStale)
	c.Proxies[0].PutToken(t, "jobs/x", "late", held.Token).WantCode(t, 412, "StaleFencingToken")

	list, _, err := a.List(ctx, scope, "", 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, taken.Token, list[0].Mark)
	require.NotNil(t, list[0].Holder)
	assert.Equal(t, "bob@host", list[0].Holder.Owner)
	require.NoError(t, a.Release(ctx, scope, taken.Token))
	mark, err := b.Raise(ctx, scope, 0, "a runaway job")
	require.NoError(t, err)
	assert.Greater(t, mark, taken.Token)
	c.Proxies[0].PutToken(t, "jobs/x", "late", taken.Token).WantCode(t, 412, "StaleFencingToken")
	assert.Equal(t, "held", c.Proxies[1].Get(t, "jobs/x"))

	gone, err := client.New("http://"+freeAddress(t), c.AccessKey, c.SecretKey)
	require.NoError(t, err)
	_, err = gone.Acquire(ctx, client.Acquisition{Scope: scope, Owner: "x"})
	require.ErrorIs(t, err, client.ErrUnreachable)
	stranger, err := client.New(c.Proxies[0].URL, c.AccessKey, "wrong")
	require.NoError(t, err)
	_, err = stranger.Acquire(ctx, client.Acquisition{Scope: scope, Owner: "x"})
	require.ErrorIs(t, err, client.ErrDenied)
}
