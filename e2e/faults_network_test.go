package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/faultproxy"
)

// half is a request of which a part was sent.
type half struct {
	conn net.Conn
	rest []byte
	req  *http.Request
}

// sendHalf sends the head of a request and the first half of its body.
func (p *Proxy) sendHalf(t *testing.T, r Request) *half {
	t.Helper()
	req, err := p.build(t.Context(), r)
	require.NoError(t, err)
	var wire bytes.Buffer
	require.NoError(t, req.Write(&wire))
	conn, err := (&net.Dialer{Timeout: callWait}).DialContext(t.Context(), "tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(2*callWait)))
	cut := wire.Len() - len(r.Body)/2
	_, err = conn.Write(wire.Bytes()[:cut])
	require.NoError(t, err)
	return &half{conn, wire.Bytes()[cut:], req}
}

// finish sends the rest and reads the answer. The proxy may have answered
// already, without the rest.
func (h *half) finish(t *testing.T) Answer {
	t.Helper()
	_, _ = h.conn.Write(h.rest)
	resp, err := http.ReadResponse(bufio.NewReader(h.conn), h.req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body), what: h.req.Method + " in two halves"}
}

// TestHolderFrozenHalfWay: a holder freezes with its request half sent; a newer
// one writes; the first goes on. (F4, F7)
func TestHolderFrozenHalfWay(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Build: Race, Config: faultsConfig, Guards: []Guard{{Prefix: "s/*/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	for _, size := range []int{10, 100 << 10, 3 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			l := newLedger(c, fmt.Sprintf("s/%d/", size))
			old := prepare(t, l, a, b)
			body := strings.Repeat("late ", size/5)
			w := l.begin("a", body, old)
			h := a.sendHalf(t, Request{Method: "PUT", Bucket: c.Bucket, Key: l.scope + "a", Body: body, Header: tokenHeader(old)})
			now, took := l.take(t, b, "next")
			assert.Less(t, took, takeoverWithin)
			assert.Equal(t, "base", l.expect(t, b, "a", now))
			l.put(t.Context(), b, "a", "next", now).Want(t, 200)
			l.wrote("a", "next")
			answer := h.finish(t)
			l.end(w, answer.Status)
			answer.WantCode(t, 412, "StaleFencingToken")
			l.judge(t, a, b)
		})
	}
}

// TestBytesHeldPastATakeover: what a holder sent is on its way from the proxy to
// the store while the scope is taken over and written, and arrives then. (F4, F7)
func TestBytesHeldPastATakeover(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Build: Race, StoreFaults: true, Config: faultsConfig, Guards: []Guard{{Prefix: "s/*/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	for _, size := range []int{10, 3 << 20} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d/%s", size, map[bool]string{false: "delivered", true: "its proxy is dead by then"}[killed]), func(t *testing.T) {
				l := newLedger(c, fmt.Sprintf("s/held-%d-%v/", size, killed))
				old := prepare(t, l, a, b)
				a.Store.Hold(faultproxy.Requests, 0)
				t.Cleanup(func() { _ = a.Store.Pass() })
				done := later(func() Answer { return l.put(t.Context(), a, "a", strings.Repeat("late ", size/5), old) })
				require.NoError(t, a.Store.AwaitHeld(t.Context(), faultproxy.Requests, 1))
				now, took := l.take(t, b, "next")
				assert.Less(t, took, takeoverWithin)
				assert.Equal(t, "base", l.expect(t, b, "a", now))
				l.put(t.Context(), b, "a", "next", now).Want(t, 200)
				l.wrote("a", "next")
				if killed {
					a.Kill()
				}
				require.NoError(t, a.Store.Release(t.Context(), faultproxy.Requests))
				answer := <-done
				if killed {
					a.Restart()
				} else {
					answer.WantCode(t, 412, "StaleFencingToken")
				}
				l.judge(t, a, b)
			})
		}
	}
	t.Run("the store's answer is lost", func(t *testing.T) { // F7: 503, and the retry writes afresh
		l := newLedger(c, "s/lost/")
		old := prepare(t, l, a, b)
		a.Store.DropAnswer(1, "PUT /"+c.Bucket)
		l.put(t.Context(), a, "a", "lost", old).Want(t, 503)
		assert.Equal(t, "base", l.see(t, b, "a", old))
		l.put(t.Context(), a, "a", "again", old).Want(t, 200)
		l.judge(t, a, b)
	})
	t.Run("the store is gone", func(t *testing.T) {
		l := newLedger(c, "s/gone/")
		old := prepare(t, l, a, b)
		require.NoError(t, a.Store.Refuse())
		a.Store.Cut()
		answer := l.put(t.Context(), a, "a", "lost", old).Want(t, 503)
		assert.NotEmpty(t, answer.Header.Get("Retry-After"))
		now, took := l.take(t, a, "next") // the fence does not need the store
		assert.Less(t, took, takeoverWithin)
		require.NoError(t, a.Store.Pass())
		l.put(t.Context(), a, "a", "too late", old).WantCode(t, 412, "StaleFencingToken")
		l.put(t.Context(), a, "a", "next", now).Want(t, 200)
		l.judge(t, a, b)
	})
}

// TestProxyKilledWithWritesInFlight: 32 writes wait for the store when their
// proxy is killed; it is started again and the scope is taken over at once.
// (F4, F6, F7)
func TestProxyKilledWithWritesInFlight(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Build: Race, StoreFaults: true, Config: faultsConfig, Guards: []Guard{{Prefix: "s/*/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	const inFlight = 32
	t.Run("all wait for the store", func(t *testing.T) {
		l := newLedger(c, "s/wait/")
		old := prepare(t, l, a, b)
		a.Store.Hold(faultproxy.Answers, 0)
		t.Cleanup(func() { _ = a.Store.Pass() })
		var all sync.WaitGroup
		for n := range inFlight {
			all.Go(func() { l.put(context.Background(), a, fmt.Sprint(n), fmt.Sprintf("late %d", n), old) })
		}
		require.NoError(t, a.Store.AwaitHeld(t.Context(), faultproxy.Answers, 100*inFlight))
		a.Kill()
		a.Launch()
		now, took := l.take(t, b, "next")
		assert.Less(t, took, takeoverWithin)
		all.Wait()
		require.NoError(t, a.Store.Pass())
		a.AwaitReady()
		for n := range inFlight {
			assert.Empty(t, l.expect(t, b, fmt.Sprint(n), now))
		}
		l.judge(t, a, b)
		l.put(t.Context(), a, "0", "next", now).Want(t, 200)
		l.wrote("0", "next")
		l.judge(t, a, b)
	})
	t.Run("at any moment", func(t *testing.T) {
		l := newLedger(c, "s/any/")
		old := prepare(t, l, a, b)
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		acknowledged := make(chan struct{}, 1<<16)
		for n := range inFlight {
			all.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					if l.put(context.Background(), a, fmt.Sprint(n), fmt.Sprintf("%d-%d", n, i), old).Status != 200 {
						return // the proxy is dead: what was in flight may be there or not
					}
					acknowledged <- struct{}{}
				}
			})
		}
		for range 4 * inFlight {
			<-acknowledged
		}
		a.Kill()
		stop()
		a.Launch()
		now, took := l.take(t, b, "next")
		assert.Less(t, took, takeoverWithin)
		all.Wait()
		a.AwaitReady()
		for n := range inFlight {
			l.expect(t, b, fmt.Sprint(n), now)
		}
		l.judge(t, a, b)
		l.put(t.Context(), a, "0", "too late", old).WantCode(t, 412, "StaleFencingToken")
		l.judge(t, a, b)
	})
}

// TestGuardAddedWhileAProxyIsFrozen: A stands still with an unguarded write on its
// way to the store; B adds a guard over the key; the write arrives in the store
// and A goes on. Either the guard has taken it in, or it is not acknowledged, and
// nothing is written past the guard from then on. (F4, F6, F7, F9)
func TestGuardAddedWhileAProxyIsFrozen(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Build: Race, StoreFaults: true, StateFaults: true, Config: faultsConfig})
	a, b := c.Proxies[0], c.Proxies[1]
	for _, arrives := range []string{
		"before the guard", "after the guard", "before the guard, its answer after",
		// Its own lease is then all that tells A that it must not say yes.
		"after the guard, and A cannot hear of it",
	} {
		t.Run(arrives, func(t *testing.T) {
			prefix := strings.NewReplacer(" ", "-", ",", "").Replace(arrives) + "/"
			key := prefix + "a"
			a.Put(t, key, "base").Want(t, 200)
			a.Put(t, prefix+"other", "other").Want(t, 200)
			direction := faultproxy.Requests
			if strings.Contains(arrives, "answer") {
				direction = faultproxy.Answers
			}
			a.Store.Hold(direction, 0)
			t.Cleanup(func() { _, _ = a.Store.Pass(), a.State.Pass() })
			done := later(func() Answer {
				answer, err := a.TrySend(t.Context(), Request{Method: "PUT", Bucket: c.Bucket, Key: key, Body: "in flight"})
				if err != nil {
					return Answer{what: err.Error()}
				}
				return answer
			})
			require.NoError(t, a.Store.AwaitHeld(t.Context(), direction, 1))
			a.Freeze()
			t.Cleanup(a.Thaw)
			if arrives == "before the guard" {
				require.NoError(t, a.Store.Release(t.Context(), direction))
				require.Eventually(t, func() bool { return b.Get(t, key) == "in flight" }, 10*time.Second, 20*time.Millisecond)
			}
			begun := time.Now()
			b.API(t, "POST", "/-/v1/guards", map[string]any{"pattern": c.Scope(prefix)}).Want(t, 200)
			assert.Less(t, time.Since(begun), 15*time.Second, "a lease, and what a busy machine adds")
			taken := b.Get(t, key)
			require.NoError(t, a.Store.Release(t.Context(), direction))
			if strings.Contains(arrives, "cannot hear") {
				plain := c.Store.Client(t)
				require.Eventually(t, func() bool {
					info, err := plain.StatObject(t.Context(), c.Bucket, key, minio.StatObjectOptions{})
					return err == nil && info.Size == int64(len("in flight"))
				}, 10*time.Second, 20*time.Millisecond)
				a.State.Hold(faultproxy.Answers, 0)
			}
			a.Thaw()
			answer := <-done
			require.NoError(t, a.State.Pass())
			if answer.Status/100 == 2 {
				assert.Equal(t, "in flight", taken, "acknowledged, and not in what the guard took in (F6)")
			}
			if direction == faultproxy.Requests && arrives != "before the guard" {
				assert.Equal(t, "base", taken)
				require.NotEqual(t, 2, answer.Status/100, answer)
			}
			// Reads outside the guards that a cut-off proxy knows go on: until it has
			// heard of this one they show the plain key.
			require.Eventually(t, func() bool { return a.Put(t, key, "unfenced").Status == 403 }, 10*time.Second, 20*time.Millisecond)
			for until := time.Now().Add(watch); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
				for _, p := range c.Proxies {
					require.Equal(t, taken, p.Get(t, key), "changed by itself")
					require.Equal(t, "other", p.Get(t, prefix+"other"))
				}
			}
			for _, p := range c.Proxies {
				p.Put(t, key, "unfenced").WantCode(t, 403, "MissingFencingToken")
			}
			token := a.Take(t, c.Scope(prefix), "holder")
			a.PutToken(t, key, "fenced", token).Want(t, 200)
			assert.Equal(t, "fenced", b.Get(t, key))
		})
	}
}
