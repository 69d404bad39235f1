package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// ledger is what clients asked of one scope and what they were told, and the one
// judge of all fault tests: no write of a lower token shows after a higher one was
// granted (F4), no acknowledged write is lost (F6), no 2xx that did not happen and
// no 4xx or 503 that did (F7). Every body is written once. Safe for concurrent
// use.
type ledger struct {
	c     *Cluster
	scope string // below the bucket, ends in a slash

	mu     sync.Mutex
	writes []*written
	grants []granted
	// shown is what was seen last, since when nobody has begun to write the key.
	shown map[string]string
}

// written is one PUT. Its status is 0 while there is no answer, or if none came.
type written struct {
	key, body        string
	token            int64
	called, returned time.Time
	status           int
}

// granted is a token with the time at which its holder was told.
type granted struct {
	token int64
	told  time.Time
}

func newLedger(c *Cluster, scope string) *ledger {
	return &ledger{c: c, scope: scope, shown: map[string]string{}}
}

// take is a takeover; it reports how long that took.
func (l *ledger) take(t testing.TB, p *Proxy, owner string) (token int64, took time.Duration) {
	t.Helper()
	begun := time.Now()
	token = p.Take(t, l.c.Scope(l.scope), owner)
	l.note(token)
	return token, time.Since(begun)
}

// note records a grant that was answered otherwise.
func (l *ledger) note(token int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grants = append(l.grants, granted{token, time.Now()})
}

// put writes and records what came of it; Status is 0 where nothing came back.
func (l *ledger) put(ctx context.Context, p *Proxy, key, body string, token int64) Answer {
	w := l.begin(key, body, token)
	a, err := p.TrySend(ctx, Request{Method: "PUT", Bucket: l.c.Bucket, Key: l.scope + key, Body: body, Header: tokenHeader(token)})
	if err != nil {
		a = Answer{what: fmt.Sprintf("PUT %s: %v", key, err)}
	}
	l.end(w, a.Status)
	return a
}

func (l *ledger) begin(key, body string, token int64) *written {
	w := &written{key: key, body: body, token: token, called: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes = append(l.writes, w)
	delete(l.shown, key)
	return w
}

func (l *ledger) end(w *written, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.status, w.returned = status, time.Now()
}

// see reads a key, "" for nothing.
func (l *ledger) see(t testing.TB, p *Proxy, key string, token int64) string {
	t.Helper()
	r := Request{Method: "GET", Bucket: l.c.Bucket, Key: l.scope + key}
	if token != 0 {
		r.Header = tokenHeader(token)
	}
	a := p.Send(t, r)
	if a.Status == http.StatusNotFound {
		a.WantCode(t, 404, "NoSuchKey")
		return ""
	}
	return a.Want(t, 200).Body
}

// watch is how long the judge looks for writes that appear late.
const watch = 1500 * time.Millisecond

// judge reads every key through every living proxy, again and again for a while,
// and fails the test if what shows is not what the answers promised. All writes
// must have ended.
func (l *ledger) judge(t testing.TB, proxies ...*Proxy) {
	t.Helper()
	judgeAll(t, []*ledger{l}, proxies...)
}

// judgeAll judges several scopes at once.
func judgeAll(t testing.TB, all []*ledger, proxies ...*Proxy) {
	t.Helper()
	for until := time.Now().Add(watch); ; time.Sleep(100 * time.Millisecond) {
		for _, l := range all {
			l.look(t, proxies...)
		}
		if t.Failed() || time.Now().After(until) {
			return
		}
	}
}

// look judges what shows now.
func (l *ledger) look(t testing.TB, proxies ...*Proxy) {
	t.Helper()
	l.mu.Lock()
	keys := map[string][]*written{}
	for _, w := range l.writes {
		keys[w.key] = append(keys[w.key], w)
	}
	l.mu.Unlock()
	for key, writes := range keys {
		for _, p := range proxies {
			l.judgeKey(t, key, writes, l.see(t, p, key, 0))
		}
	}
}

func (l *ledger) judgeKey(t testing.TB, key string, writes []*written, body string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.shown[key]; ok && last != body {
		t.Errorf("%s: changed by itself from %.40q to %.40q (F4, F5)", key, last, body)
	}
	l.shown[key] = body
	var shows *written
	for _, w := range writes {
		if w.body == body {
			shows = w
		}
	}
	switch {
	case shows == nil && body != "":
		t.Errorf("%s: shows %.40q, which nobody wrote", key, body)
		return
	case shows != nil && shows.status >= 400 && shows.status != http.StatusGatewayTimeout:
		t.Errorf("%s: shows %.40q, whose PUT was answered %d (F7)", key, body, shows.status)
	}
	for _, w := range writes {
		if shows != w && w.status/100 == 2 {
			// An acknowledged write may only be replaced by one that did not end
			// before it began, and whose token is not lower.
			ended := shows == nil || shows.status != 0 && shows.returned.Before(w.called)
			if ended || shows.token < w.token {
				t.Errorf("%s: shows %.40q and not %.40q, whose PUT under %d was acknowledged (F4, F6)", key, body, w.body, w.token)
			}
		}
		for _, g := range l.grants {
			if w.status/100 == 2 && w.token < g.token && g.told.Before(w.called) {
				t.Errorf("%s: a PUT under %d that began after %d was granted is answered %d (F4)", key, w.token, g.token, w.status)
			}
			if shows == w && w.token < g.token && g.told.Before(w.called) {
				t.Errorf("%s: shows %.40q, written under %d after %d was granted (F4)", key, body, w.token, g.token)
			}
		}
	}
}

// expect records what a holder sees right after its grant: it must not change but
// by the holder's own writes (F5).
func (l *ledger) expect(t testing.TB, p *Proxy, key string, token int64) string {
	t.Helper()
	body := l.see(t, p, key, token)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shown[key] = body
	return body
}

// wrote says that the holder has changed a key itself.
func (l *ledger) wrote(key, body string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shown[key] = body
}
