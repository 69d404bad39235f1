package locks_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/locks"
)

func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	w.guard("s3://open/", func(g *fence.Guard) { g.Tokens = fence.None })
	w.guard("s3://foreign/", func(g *fence.Guard) { g.Issuer = fence.External })
	w.guard("s3://coming/", func(g *fence.Guard) { g.State = fence.Pending })
	at := func(s string) locks.Request { r := w.ask("ann"); r.Scope = scope(t, s); return r }
	with := func(f func(*locks.Request)) locks.Request { r := w.ask("ann"); f(&r); return r }
	for _, tc := range []struct {
		name string
		ask  locks.Request
		want error
		says string
	}{
		{"no scope", with(func(r *locks.Request) { r.Scope = fence.Scope{} }), locks.ErrInvalid, "no scope"},
		{"no guard", at("s3://data/typo/"), locks.ErrNoSuchGuard, "s3fence guard add s3://data/typo/"},
		{"inside a scope", at("s3://data/jobs/nightly/"), locks.ErrScopeOverlap, "inside the scope s3://data/jobs/"},
		{"inside a template's scope", at("s3://data/tenants/a/b/"), locks.ErrScopeOverlap, "s3://data/tenants/a/"},
		{"above a scope", at("s3://data/"), locks.ErrScopeOverlap, "is not a scope itself"},
		{"above a template's", at("s3://data/tenants/"), locks.ErrScopeOverlap, "s3://data/tenants/*/"},
		{"tokens none", at("s3://open/"), locks.ErrNoLocks, "tokens: none"},
		{"external", at("s3://foreign/"), locks.ErrNoLocks, "external issuer"},
		{"pending", at("s3://coming/"), locks.ErrNotActive, "pending"},
		{"short ttl", with(func(r *locks.Request) { r.TTL = time.Millisecond }), locks.ErrInvalid, "ttl"},
		{"long ttl", with(func(r *locks.Request) { r.TTL = 25 * time.Hour }), locks.ErrInvalid, "ttl"},
		{"long wait", with(func(r *locks.Request) { r.Wait = time.Minute }), locks.ErrInvalid, "wait"},
		{"negative wait", with(func(r *locks.Request) { r.Wait = -1 }), locks.ErrInvalid, "wait"},
		{"long owner", with(func(r *locks.Request) { r.Owner = strings.Repeat("x", 257) }), locks.ErrInvalid, "owner"},
		{"unprintable owner", with(func(r *locks.Request) { r.Owner = "a\nb" }), locks.ErrInvalid, "U+000A"},
		{"no holder", with(func(r *locks.Request) { r.Holder = "" }), locks.ErrInvalid, "holder"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := w.locks.Acquire(t.Context(), tc.ask)
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestLifeOfALock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		ann := w.acquire(w.ask("ann"))
		sc := ann.Scope
		assert.Equal(t, fence.Token(1), ann.Mark.Token)
		assert.Equal(t, locks.DefaultTTL, ann.Left)
		assert.True(t, ann.Settled)

		var held *locks.HeldError
		_, err := w.locks.Acquire(t.Context(), w.ask("bob"))
		require.ErrorAs(t, err, &held)
		assert.Equal(t, "ann@host", held.By.Owner)
		_, err = w.locks.Acquire(t.Context(), w.ask("ann"))
		require.ErrorIs(t, err, locks.ErrHeld, "asking again is a grant like any other")

		_, err = w.locks.Renew(t.Context(), sc, 1, "bob", 0)
		require.ErrorIs(t, err, locks.ErrOtherHolder)
		require.ErrorIs(t, w.locks.Release(t.Context(), sc, 1, "bob"), locks.ErrOtherHolder)
		_, err = w.locks.Renew(t.Context(), sc, 2, "ann", 0)
		require.ErrorIs(t, err, locks.ErrNeverGranted)

		time.Sleep(20 * time.Second)
		renewed, err := w.locks.Renew(t.Context(), sc, 1, "ann", time.Minute)
		require.NoError(t, err)
		assert.Equal(t, time.Minute, renewed.Left)

		require.NoError(t, w.locks.Release(t.Context(), sc, 1, "ann"))
		require.NoError(t, w.locks.Release(t.Context(), sc, 1, "ann"), "again is fine")
		_, err = w.locks.Renew(t.Context(), sc, 1, "ann", 0)
		require.ErrorIs(t, err, locks.ErrLost)

		bob := w.acquire(w.ask("bob"))
		assert.Equal(t, fence.Token(2), bob.Mark.Token, "F1: the release kept the mark")
		var lost *locks.LostError
		_, err = w.locks.Renew(t.Context(), sc, 1, "ann", 0)
		require.ErrorAs(t, err, &lost)
		assert.Equal(t, fence.Token(2), lost.Highest)
		require.ErrorIs(t, w.locks.Release(t.Context(), sc, 1, "ann"), locks.ErrLost)
		assert.Equal(t, []events.Kind{events.Granted, events.Renewed, events.Released, events.RenewLost, events.Granted, events.RenewLost}, w.kinds())
	})
}

// A lease ends by the database's clock, even if nobody else has the lock yet.
func TestExpiry(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		skew time.Duration
		lost bool
	}{
		{"inside", locks.DefaultTTL - time.Microsecond, false},
		{"at the end", locks.DefaultTTL, true},
		{"database clock ten minutes ahead", 10 * time.Minute, true},
		{"database clock ten minutes back", -10 * time.Minute, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, locks.Options{})
				l := w.acquire(w.ask("ann"))
				w.skew.Store(int64(tc.skew))
				next, err := w.locks.Acquire(t.Context(), w.ask("bob"))
				if !tc.lost {
					require.ErrorIs(t, err, locks.ErrHeld)
					_, err = w.locks.Renew(t.Context(), l.Scope, l.Mark.Token, "ann", 0)
					require.NoError(t, err)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, l.Mark.Token+1, next.Mark.Token)
				require.NoError(t, w.locks.Release(t.Context(), next.Scope, next.Mark.Token, "bob"))
				_, err = w.locks.Renew(t.Context(), l.Scope, l.Mark.Token, "ann", 0)
				require.ErrorIs(t, err, locks.ErrLost)
			})
		})
	}
}

func TestExpiredAndNotReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	l := w.acquire(w.ask("ann"))
	w.skew.Store(int64(time.Minute))
	_, err := w.locks.Renew(t.Context(), l.Scope, l.Mark.Token, "ann", 0)
	require.ErrorIs(t, err, locks.ErrLost)
	require.ErrorContains(t, err, "its lease ended")
	_, err = w.locks.Check(t.Context(), l.Scope, 0, l.Mark.Token)
	require.NoError(t, err, "the token is the highest still")
	require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
}

func TestTake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	l := w.acquire(w.ask("ann"))
	_, err := w.locks.Take(t.Context(), w.ask("ops"), "")
	require.ErrorIs(t, err, locks.ErrInvalid)
	_, err = w.locks.Take(t.Context(), w.ask("ops"), strings.Repeat("x", 1025))
	require.ErrorIs(t, err, locks.ErrInvalid)
	taken, err := w.locks.Take(t.Context(), w.ask("ops"), "ann is on holiday")
	require.NoError(t, err)
	assert.Greater(t, taken.Mark.Token, l.Mark.Token)
	_, err = w.locks.Renew(t.Context(), l.Scope, l.Mark.Token, "ann", 0)
	require.ErrorIs(t, err, locks.ErrLost)
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.events[1]
	assert.Equal(t, events.Takeover, e.Kind)
	assert.Equal(t, "ann@host (ann)", e.Previous)
	assert.Equal(t, "ann is on holiday", e.Reason)
}

// Whoever had the lock and neither gave it back nor held it any more lost it with
// the next grant, which says so.
func TestGrantTellsWhoLostTheLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	w.acquire(w.ask("ann"))
	w.skew.Store(int64(time.Minute))
	l := w.acquire(w.ask("bob")) // ann's lease ran out
	require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "bob"))
	w.acquire(w.ask("cid")) // bob gave it back
	w.mu.Lock()
	defer w.mu.Unlock()
	var previous []string
	for _, e := range w.events {
		if e.Kind == events.Granted {
			previous = append(previous, e.Previous)
		}
	}
	assert.Equal(t, []string{"", "ann@host (ann)", ""}, previous)
}
