package locks_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/state"
)

func TestRaise(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{}, memory.WithIncarnation(1))
	w.guard("s3://foreign/", func(g *fence.Guard) { g.Issuer = fence.External })
	own, foreign := scope(t, "s3://data/jobs/"), scope(t, "s3://foreign/")
	const first = fence.Token(1<<fence.CounterBits + 1)
	l := w.acquire(w.ask("ann"))
	require.Equal(t, first, l.Mark.Token)

	for _, tc := range []struct {
		name  string
		scope fence.Scope
		to    fence.Token
		want  fence.Token // zero: refused as invalid
	}{
		{"own: from the counter", own, 0, first + 1},
		{"own: not to the mark", own, first + 1, 0},
		{"own: above what an operator brings", own, first + 100, first + 101},
		{"own: beyond 2^53", own, 1 << 53, 0},
		{"own: a later incarnation", own, 2<<fence.CounterBits | 5, 0},
		{"own: so far that other scopes would run out", own, 3<<(fence.CounterBits-1) + 1, 0},
		{"own: the last of the counter", own, 2<<fence.CounterBits - 1, 0},
		{"external: needs a number", foreign, 0, 0},
		{"external: any above", foreign, 1 << 60, 1 << 60},
		{"external: never down", foreign, 5, 0},
		{"negative", own, -1, 0},
	} {
		m, err := w.locks.Raise(t.Context(), tc.scope, tc.to, "ops", "", nil)
		if tc.want == 0 {
			require.ErrorIs(t, err, locks.ErrInvalid, tc.name)
			continue
		}
		require.NoError(t, err, tc.name)
		assert.Equal(t, tc.want, m.Token, tc.name)
	}
	_, err := w.locks.Renew(t.Context(), own, first, "ann", 0)
	require.ErrorIs(t, err, locks.ErrLost, "every lease below is over")
	// F2: the counter is above what was raised.
	assert.Equal(t, first+102, w.acquire(w.ask("bob")).Mark.Token)

	_, err = w.locks.Reset(t.Context(), own, "ops", "why not", nil)
	require.ErrorIs(t, err, locks.ErrInvalid)
	m, err := w.locks.Reset(t.Context(), foreign, "ops", "new lock service", nil)
	require.NoError(t, err)
	assert.Equal(t, fence.Mark{Generation: 2}, m)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	l := w.acquire(w.ask("ann"))
	require.NoError(t, w.locks.Release(t.Context(), l.Scope, 1, "ann"))
	w.acquire(w.ask("bob"))
	for token, want := range map[fence.Token]error{0: locks.ErrInvalid, 1: locks.ErrStale, 2: nil, 3: locks.ErrNeverGranted} {
		_, err := w.locks.Check(t.Context(), l.Scope, 0, token)
		require.ErrorIs(t, err, want, "%d", token)
	}
	// Where no token means anything, none is found good.
	w.guard("s3://open/", func(g *fence.Guard) { g.Tokens, g.Issuer = fence.None, fence.External })
	_, err := w.locks.Check(t.Context(), scope(t, "s3://open/"), 0, 2)
	require.ErrorIs(t, err, locks.ErrNoLocks)
	require.ErrorContains(t, err, "tokens: none")
}

func TestList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	for _, s := range []string{"s3://data/tenants/a/", "s3://data/tenants/b/", "s3://data/tenants/c/"} {
		r := w.ask("ann")
		r.Scope = scope(t, s)
		w.acquire(r)
	}
	page, more, err := w.locks.List(t.Context(), "s3://data/tenants/", "", 2)
	require.NoError(t, err)
	assert.True(t, more)
	require.Len(t, page, 2)
	assert.Equal(t, "ann", page[0].Held.Holder)
	page, more, err = w.locks.List(t.Context(), "s3://data/tenants/", page[1].Scope.String(), 2)
	require.NoError(t, err)
	assert.False(t, more)
	assert.Len(t, page, 1)
}

// A counter that fell behind the marks grants nothing (F1, F2).
func TestCounterBehind(t *testing.T) {
	t.Parallel()
	for _, mark := range []fence.Token{1, 1000} { // what the counter gives first, and more
		w := newWorld(t, locks.Options{})
		sc := scope(t, "s3://data/jobs/")
		require.NoError(t, state.Run(t.Context(), w.state, &state.Tx{
			Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}},
			Decide: func(v *state.View) (state.Changes, error) {
				row := v.Scope(sc, fence.Sealed)
				row.Mark.Token = mark
				return state.Changes{Scopes: []state.Scope{row}}, nil
			},
		}))
		_, err := w.locks.Acquire(t.Context(), w.ask("ann"))
		require.ErrorIs(t, err, locks.ErrInvariant)
		assert.Equal(t, []events.Kind{events.Alarm}, w.kinds())
	}
}
