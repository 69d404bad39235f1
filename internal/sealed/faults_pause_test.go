//go:build pausepoints

package sealed

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
)

// Hooks on pause points are global to the process, so the tests of this file run
// one after another; parallel ones of the package begin after them.

// takeoverBound is what a takeover may take at worst, whoever is frozen where.
const takeoverBound = time.Second

// stuck holds the first goroutine that passes a point from then on.
type stuck struct {
	t       *testing.T
	armed   atomic.Bool
	reached chan struct{}
	on      chan struct{}
	once    sync.Once
}

// freezeAt arms a point. Whoever passes it next stands there until release; others
// pass.
func freezeAt(t *testing.T, p pause.Point) *stuck {
	t.Helper()
	s := &stuck{t: t, reached: make(chan struct{}), on: make(chan struct{})}
	s.armed.Store(true)
	pause.Set(t, p, func() {
		if s.armed.CompareAndSwap(true, false) {
			close(s.reached)
			<-s.on
		}
	})
	t.Cleanup(s.release)
	return s
}

func (s *stuck) release() { s.once.Do(func() { close(s.on) }) }

// await waits until somebody stands at the point.
func (s *stuck) await(who <-chan error) {
	s.t.Helper()
	select {
	case <-s.reached:
	case err := <-who:
		s.t.Fatalf("it ended without coming to the point: %v", err)
	case <-time.After(30 * time.Second):
		s.t.Fatal("nobody came to the point")
	}
}

// begin runs f in a goroutine.
func begin(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// end waits for what begin began.
func end(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(60 * time.Second):
		t.Fatal("it does not end")
		return nil
	}
}

// wayToWrite is one kind of write with what is prepared for it before
// anybody stands still. A successful one leaves after ("" for nothing) in the
// place of "base".
type wayToWrite struct {
	name   string
	points []pause.Point
	after  string
	// make prepares it; what it returns may run in another goroutine.
	make func(p *proxy, op guarded.Op) func() error
}

func waysToWrite() []wayToWrite {
	all := []pause.Point{pause.BeforeUpload, pause.AfterUpload, pause.BeforeCommit, pause.AfterCommit}
	put := func(p *proxy, op guarded.Op, body string, size int64) func() error {
		return func() error {
			_, err := p.Put(context.Background(), &guarded.Put{Op: op, Ref: at(op), Body: strings.NewReader(body), Size: size})
			return err
		}
	}
	return []wayToWrite{
		{"put", all, "late", func(p *proxy, op guarded.Op) func() error { return put(p, op, "late", 4) }},
		{"put streamed", all, large, func(p *proxy, op guarded.Op) func() error { return put(p, op, large, int64(len(large))) }},
		{"put of unknown length", all, "late", func(p *proxy, op guarded.Op) func() error { return put(p, op, "late", -1) }},
		{"copy", all, "source", func(p *proxy, op guarded.Op) func() error {
			_, err := p.put(op, other(op).Key, "source")
			require.NoError(p.t, err)
			return func() error {
				_, err := p.Copy(context.Background(), &guarded.Copy{Op: op, Ref: at(op), Source: guarded.Source{Op: op, Ref: other(op)}})
				return err
			}
		}},
		{"complete", all, string(partBytes) + "tail", func(p *proxy, op guarded.Op) func() error {
			id, err := p.CreateUpload(p.t.Context(), &guarded.CreateUpload{Op: op, Ref: at(op)})
			require.NoError(p.t, err)
			u := guarded.UploadRef{Op: op, Ref: at(op), ID: id}
			var parts []guarded.PartInfo
			for i, b := range [][]byte{partBytes, []byte("tail")} {
				part, err := p.UploadPart(p.t.Context(), &guarded.Part{UploadRef: u, Number: i + 1, Body: bytes.NewReader(b), Size: int64(len(b))})
				require.NoError(p.t, err)
				parts = append(parts, part)
			}
			return func() error {
				_, err := p.Complete(context.Background(), &guarded.Complete{UploadRef: u, Parts: parts})
				return err
			}
		}},
		{"delete", []pause.Point{pause.BeforeCommit, pause.AfterCommit}, "", func(p *proxy, op guarded.Op) func() error {
			return func() error {
				return p.Delete(context.Background(), &guarded.Delete{Op: op, Items: []guarded.DeleteItem{{Ref: at(op)}}})[0]
			}
		}},
	}
}

// short keeps failures readable.
func short(s string) string { return fmt.Sprintf("%d bytes %.20q", len(s), s) }

// TestWriterFrozenOverATakeover: a writer of one proxy stands still at each point
// of each kind of write, the scope is taken over through the other proxy, whose
// holder reads and perhaps writes, and the first goes on. Its write was there at
// the takeover and is acknowledged, or it is refused and never there (F4, F5, F7).
func TestWriterFrozenOverATakeover(t *testing.T) {
	for _, kind := range states {
		two := newProxies(t, openStates(t, kind, 2), openStore(t), Options{}, anyScope)
		for _, w := range waysToWrite() {
			for _, point := range w.points {
				if kind == "memory" && point == pause.BeforeCommit {
					// Nobody ends a transaction that stands still in this process's own
					// memory: there is no proxy to lose without losing the state.
					continue
				}
				for _, writesToo := range []bool{false, true} {
					name := fmt.Sprintf("%s/%s/%s/%s", kind, w.name, point, map[bool]string{false: "takeover", true: "other holder writes"}[writesToo])
					t.Run(name, func(t *testing.T) { frozenOverATakeover(t, in(t, two), w, point, writesToo) })
				}
			}
		}
	}
}

func frozenOverATakeover(t *testing.T, two []*proxy, w wayToWrite, point pause.Point, writesToo bool) {
	a, b, scope := two[0], two[1], newScope()
	old := a.op(scope, a.mustTake(scope))
	_, err := a.put(old, at(old).Key, "base")
	require.NoError(t, err)
	act := w.make(a, old)
	b.seen(b.op(scope, 0)) // the takeover's bound is not about a first connection

	frozen := freezeAt(t, point)
	done := begin(act)
	frozen.await(done)

	begun := time.Now()
	now := b.op(scope, b.mustTake(scope))
	took := time.Since(begun)
	first := b.seen(now)
	if writesToo {
		_, err := b.put(now, at(now).Key, "new")
		require.NoError(t, err)
	}
	frozen.release()
	err = end(t, done)

	assert.Less(t, took, takeoverBound, "the takeover")
	want := "base"
	switch point {
	case pause.AfterCommit:
		require.NoError(t, err, "the write took effect before the takeover (F7)")
		want = w.after
	case pause.BeforeCommit:
		require.Error(t, err)
		require.NotErrorIs(t, err, state.ErrUnknown, "the verdict can be had")
	default:
		refusal(t, err, fence.Stale)
	}
	assert.Equal(t, short(want), short(first), "what the new holder reads first (F5)")
	if writesToo {
		want = "new"
	}
	for i, p := range two {
		assert.Equal(t, short(want), short(p.seen(now)), "proxy %d (F4)", i)
		assert.Equal(t, short(want), short(p.seen(p.op(scope, 0))), "proxy %d, without a token", i)
	}
	// The first holder is told, at once and by its own proxy, that it has lost.
	_, err = a.put(old, at(now).Key, "more")
	refusal(t, err, fence.Stale)
	require.NotNil(t, a.KnownStale(&old))
}

// TestFrozenRaises: the one that stands still is a takeover.
func TestFrozenRaises(t *testing.T) {
	for _, kind := range states {
		both := newProxies(t, openStates(t, kind, 2), openStore(t), Options{}, anyScope)
		both[0].guard("s3://external/*/", func(g *fence.Guard) { g.Issuer = fence.External })
		t.Run(kind+"/before the raise", func(t *testing.T) { // F5
			two, scope := in(t, both), newScope()
			a, b := two[0], two[1]
			old := a.op(scope, a.mustTake(scope))
			frozen := freezeAt(t, pause.BeforeRaise)
			var tok fence.Token
			done := begin(func() (err error) { tok, err = b.take(context.Background(), scope); return err })
			frozen.await(done)
			_, err := a.put(old, at(old).Key, "meanwhile")
			require.NoError(t, err, "nobody was granted anything yet")
			frozen.release()
			require.NoError(t, end(t, done))
			assert.Equal(t, "meanwhile", b.seen(b.op(scope, tok)))
			_, err = a.put(old, at(old).Key, "late")
			refusal(t, err, fence.Stale)
		})
		t.Run(kind+"/after the raise", func(t *testing.T) { // F4: the mark counts, not the answer
			two, scope := in(t, both), newScope()
			a, b := two[0], two[1]
			old := a.op(scope, a.mustTake(scope))
			_, err := a.put(old, at(old).Key, "base")
			require.NoError(t, err)
			frozen := freezeAt(t, pause.AfterRaise)
			var tok fence.Token
			done := begin(func() (err error) { tok, err = b.take(context.Background(), scope); return err })
			frozen.await(done)
			_, err = a.put(old, at(old).Key, "late")
			refusal(t, err, fence.Stale)
			// A third holder overtakes the one that has not been told yet.
			third := a.op(scope, a.mustTake(scope))
			_, err = a.put(third, at(third).Key, "third")
			require.NoError(t, err)
			frozen.release()
			require.NoError(t, end(t, done))
			require.Less(t, tok, third.Request.Token)
			_, err = b.put(b.op(scope, tok), at(b.op(scope, tok)).Key, "second")
			refusal(t, err, fence.Stale)
			_, err = b.see(b.op(scope, tok), at(b.op(scope, tok)))
			refusal(t, err, fence.Stale)
			assert.Equal(t, "third", b.seen(third))
		})
		for _, point := range []pause.Point{pause.BeforeRaise, pause.AfterRaise} {
			t.Run(kind+"/external token/"+string(point), func(t *testing.T) { // F3, F4, F5
				two, scope := in(t, both), fmt.Sprintf("s3://external/%d/", scopes.Add(1))
				a, b := two[0], two[1]
				_, err := a.put(a.op(scope, 33), at(a.op(scope, 33)).Key, "33")
				require.NoError(t, err)
				frozen := freezeAt(t, point)
				var first string
				done := begin(func() (err error) { first, err = b.see(b.op(scope, 34), at(b.op(scope, 34))); return err })
				frozen.await(done)
				_, err = a.put(a.op(scope, 33), at(a.op(scope, 33)).Key, "33 again")
				want := "33"
				if point == pause.BeforeRaise {
					require.NoError(t, err)
					want = "33 again"
				} else {
					refusal(t, err, fence.Stale)
				}
				frozen.release()
				require.NoError(t, end(t, done))
				assert.Equal(t, want, first, "the first read under 34 raises before it reads")
				_, err = a.put(a.op(scope, 33), at(a.op(scope, 33)).Key, "33 late")
				refusal(t, err, fence.Stale)
				assert.Equal(t, want, a.seen(a.op(scope, 34)))
			})
		}
	}
}
