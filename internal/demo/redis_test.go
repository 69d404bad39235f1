package demo

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/testserver"
)

// servers are a real Redis and the stand-in.
func servers(t *testing.T) map[string]redisPlace {
	t.Helper()
	later := func(f func() error) { t.Cleanup(func() { require.NoError(t, f()) }) }
	path, err := exec.LookPath("redis-server")
	require.NoError(t, err, "install Debian's redis-server: the stand-in is measured against it")
	folder, err := testserver.Folder("redis")
	require.NoError(t, err)
	socket := filepath.Join(folder, "redis.sock")
	what, err := startRedis(t.Context(), path, folder, socket, "probe", later)
	require.NoError(t, err)
	assert.Regexp(t, `^(Redis|Valkey) \d`, what)
	at, err := startStandIn(t.Context(), later)
	require.NoError(t, err)
	return map[string]redisPlace{"redis": {Socket: socket}, "stand-in": {URL: "redis://" + at}}
}

// The stand-in is to the recipe what Redis is.
func TestRecipe(t *testing.T) {
	t.Parallel()
	for name, server := range servers(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			holding := func(ttl time.Duration) lock {
				l, err := lockPlace{TTL: ttl, Redis: server, Key: "lock"}.open(ctx, "ann")
				require.NoError(t, err)
				t.Cleanup(l.close)
				return l
			}
			never := func(string) { t.Error("the lock is free") }
			is := func(l lock, want bool) {
				t.Helper()
				mine, err := l.mine(ctx)
				require.NoError(t, err)
				assert.Equal(t, want, mine)
			}
			back := func(l lock, want bool) {
				t.Helper()
				given, err := l.giveBack(ctx)
				require.NoError(t, err)
				assert.Equal(t, want, given)
			}
			ann, bob := holding(300*time.Millisecond), holding(time.Minute)
			is(ann, false)
			back(ann, false)
			require.NoError(t, ann.take(ctx, never))
			is(ann, true)

			begun := time.Now()
			busy := 0
			require.NoError(t, bob.take(ctx, func(string) { busy++ }))
			assert.Equal(t, 1, busy, "it is told once that the lock is held")
			assert.Greater(t, time.Since(begun), 100*time.Millisecond, "the lock was held")
			is(bob, true)
			is(ann, false)
			back(ann, false)
			is(bob, true)
			back(bob, true)
			is(bob, false)

			require.NoError(t, bob.take(ctx, never))
			ended, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			require.ErrorIs(t, holding(time.Second).take(ended, func(string) {}), context.DeadlineExceeded)
			require.NoError(t, server.forget("lock"))
			is(bob, false)
		})
	}
}

func TestFindRedis(t *testing.T) {
	t.Parallel()
	all := servers(t)
	var undo []func() error
	find := func(asked string) (foundRedis, error) {
		undo = nil
		return findRedis(t.Context(), asked, t.TempDir(), func(f func() error) { undo = append(undo, f) })
	}
	f, err := find(all["stand-in"].URL)
	require.NoError(t, err)
	assert.Contains(t, f.is, "Redis at 127.0.0.1:")
	assert.Regexp(t, `^s3fence-demo:[a-z0-9]{10}$`, f.key)
	require.Len(t, undo, 1)
	require.NoError(t, undo[0]())

	f, err = find(NoRedis)
	require.NoError(t, err)
	assert.Contains(t, f.is, "stand-in")
	require.Len(t, undo, 1)
	require.NoError(t, undo[0]())

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			c.Close()
		}
	}()
	for _, asked := range []string{"redis://:hunter2@" + l.Addr().String(), "redis://:hunter2@127.0.0.1:1", "redis://:hunter2@host:port", "127.0.0.1:6379"} {
		_, err = find(asked)
		require.ErrorContains(t, err, "--redis is not usable", asked)
		require.NotContains(t, err.Error(), "hunter2")
		assert.Empty(t, undo)
	}
	require.NoError(t, l.Close())
}
