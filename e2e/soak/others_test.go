//go:build soak

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// line is a lock for which several wait; whoever has it counts up one object. Each
// acknowledged step is one of the number that must stand there in the end, and each
// unknown one may be. (F2, F5, F6)
type line struct {
	w           *world
	name        string
	sure, maybe atomic.Int64
	highest     atomic.Int64
}

func (l *line) path() string { return "/" + guardedBucket + "/" + l.name + "count" }

// waiter stands in the line again and again, and leaves it early one time of four.
type waiter struct {
	line  *line
	name  string
	first bool
}

func (v *waiter) step(ctx context.Context) {
	l, s := v.line, v.line.w.any()
	wait := 2 * time.Second
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	if rand.IntN(4) == 0 {
		time.AfterFunc(time.Duration(rand.IntN(300))*time.Millisecond, cancel)
	}
	scope := "s3://" + guardedBucket + "/" + l.name
	a := l.w.api(asking, s, http.MethodPost, "locks/acquire", map[string]any{"scope": scope, "owner": v.name, "ttl": "5s", "wait": wait.String()})
	switch {
	case a.status == http.StatusOK:
	case a.status == http.StatusConflict, a.maybe(), a.status == http.StatusServiceUnavailable:
		return
	default:
		l.w.fault("%s: acquire is answered %v", l.name, a)
		return
	}
	token := a.token()
	for {
		before := l.highest.Load()
		if before > token {
			break // granted to somebody else since, whose answer came first
		}
		if before == token {
			l.w.fault("%s: %d was granted twice (F2)", l.name, token)
		}
		if l.highest.CompareAndSwap(before, token) {
			break
		}
	}
	read := l.w.send(ctx, l.w.any(), &call{method: http.MethodGet, path: l.path(), token: token})
	if n, ok := count(read); ok {
		body := []byte(strconv.FormatInt(n+1, 10))
		switch a := l.w.send(ctx, l.w.any(), &call{method: http.MethodPut, path: l.path(), token: token, body: body}); {
		case a.status == http.StatusOK:
			l.sure.Add(1)
		case a.maybe():
			l.maybe.Add(1)
		}
	}
	a = l.w.api(ctx, l.w.any(), http.MethodPost, "locks/release", map[string]any{"scope": scope, "token": token})
	if a.status != http.StatusOK && a.status != http.StatusPreconditionFailed && a.status != http.StatusServiceUnavailable && !a.maybe() {
		l.w.fault("%s: release is answered %v", l.name, a)
	}
}

// count reads a counter; one that is absent is 0.
func count(a answer) (int64, bool) {
	if a.status == http.StatusNotFound {
		return 0, true
	}
	n, err := strconv.ParseInt(string(a.body), 10, 64)
	return n, a.status == http.StatusOK && err == nil
}

func (v *waiter) verify(t *testing.T) {
	t.Helper()
	if v.first {
		within(t, v.line.w, v.line.path(), v.line.sure.Load(), v.line.maybe.Load())
	}
}

func within(t *testing.T, w *world, path string, sure, maybe int64) {
	t.Helper()
	for _, s := range w.sites {
		a := w.send(t.Context(), s, &call{method: http.MethodGet, path: path})
		if n, ok := count(a); !ok || n < sure || n > sure+maybe {
			w.fault("%s: counts %d (%v), after %d acknowledged steps and %d unknown ones (F6)", path, n, a.status, sure, maybe)
		}
	}
}

// swap is an object that several writers count up by If-Match alone, in a scope
// without tokens. (F10)
type swap struct {
	w           *world
	sure, maybe atomic.Int64
}

const swapPath = "/" + guardedBucket + "/swap/count"

type swapper struct {
	swap  *swap
	first bool
}

func (v *swapper) step(ctx context.Context) {
	s := v.swap
	read := s.w.send(ctx, s.w.any(), &call{method: http.MethodGet, path: swapPath})
	n, ok := count(read)
	if !ok {
		return
	}
	header := map[string]string{"If-None-Match": "*"}
	if read.status == http.StatusOK {
		header = map[string]string{"If-Match": `"` + read.etag + `"`}
	}
	a := s.w.send(ctx, s.w.any(), &call{method: http.MethodPut, path: swapPath, header: header, body: []byte(strconv.FormatInt(n+1, 10))})
	switch {
	case a.status == http.StatusOK:
		s.sure.Add(1)
	case a.maybe():
		s.maybe.Add(1)
	case a.status == http.StatusPreconditionFailed, a.status == http.StatusServiceUnavailable, a.status == http.StatusConflict:
	default:
		s.w.fault("%s: a conditional write is answered %v", swapPath, a)
	}
	// One object is one row: it would be all that the database does.
	pause(ctx, 100*time.Millisecond)
}

func (v *swapper) verify(t *testing.T) {
	t.Helper()
	if v.first {
		within(t, v.swap.w, swapPath, v.swap.sure.Load(), v.swap.maybe.Load())
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// slots are claimed by both schedulers; each belongs to one of them.
type slots struct {
	w   *world
	run int64
	mu  sync.Mutex
	// won is who was told that a slot is its own.
	won map[int64]string
}

type claimer struct {
	slots *slots
	name  string
	site  *site
	next  int64
}

func (c *claimer) step(ctx context.Context) {
	pause(ctx, 500*time.Millisecond)
	slot := c.next
	job := fmt.Sprintf("soak-%d", c.slots.run)
	a := c.slots.w.api(ctx, c.site, http.MethodPost, "claims", map[string]any{"job": job, "slot": strconv.FormatInt(slot, 10), "owner": c.name})
	switch {
	case a.status == http.StatusServiceUnavailable:
		return
	case a.maybe():
		c.next++
		return
	case a.status != http.StatusCreated && (a.status != http.StatusConflict || a.code() != "AlreadyClaimed"):
		c.slots.w.fault("claim of %d is answered %v", slot, a)
		return
	}
	c.next++
	if a.status != http.StatusCreated {
		return
	}
	c.slots.mu.Lock()
	defer c.slots.mu.Unlock()
	if c.slots.won == nil {
		c.slots.won = map[int64]string{}
	}
	if other := c.slots.won[slot]; other != "" {
		c.slots.w.fault("slot %d is both %s's and %s's", slot, other, c.name)
	}
	c.slots.won[slot] = c.name
}

// verify compares all claims with what was told. (F6)
func (c *claimer) verify(t *testing.T) {
	t.Helper()
	if c.site != c.slots.w.sites[0] {
		return
	}
	owner := map[string]string{}
	for after := ""; ; {
		a := c.slots.w.send(t.Context(), c.site, &call{method: http.MethodGet, path: "/-/v1/claims",
			query: url.Values{"job": {fmt.Sprintf("soak-%d", c.slots.run)}, "after": {after}, "limit": {"1000"}}})
		var page struct {
			Claims []struct{ Slot, Owner string }
			Next   string
		}
		if err := json.Unmarshal(a.body, &page); err != nil || a.status != http.StatusOK {
			c.slots.w.fault("claims are answered %v", a)
			return
		}
		for _, claim := range page.Claims {
			owner[claim.Slot] = claim.Owner
		}
		if after = page.Next; after == "" {
			break
		}
	}
	for slot, won := range c.slots.won {
		if got := owner[strconv.FormatInt(slot, 10)]; got != won {
			c.slots.w.fault("slot %d was claimed by %s and is %q's", slot, won, got)
		}
	}
}
