package locks_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/state"
)

// witnessed looks at a scope in each transaction that writes it.
type witnessed struct {
	*memory.Store
	scope fence.Scope
	mu    sync.Mutex
	rows  [][2]state.Scope // before and after
}

func (w *witnessed) Transact(ctx context.Context, tx *state.Tx) error {
	decide := tx.Decide
	seen := *tx
	seen.Decide = func(v *state.View) (state.Changes, error) {
		ch, err := decide(v)
		for _, row := range ch.Scopes {
			if row.Scope == w.scope && err == nil {
				w.mu.Lock()
				w.rows = append(w.rows, [2]state.Scope{v.Scope(w.scope, fence.Sealed), row})
				w.mu.Unlock()
			}
		}
		return ch, err
	}
	return w.Store.Transact(ctx, &seen)
}

// Whatever makes somebody a holder raises the mark in the same transaction: between
// two, the holder before it would still be writing (F2, F4).
func TestGrantCommitsItsMark(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	st := &witnessed{Store: w.state, scope: scope(t, "s3://data/jobs/")}
	s := locks.New(st, &list{state: w.state}, locks.Options{})
	for _, grant := range []func() (locks.Lease, error){
		func() (locks.Lease, error) { return s.Acquire(t.Context(), w.ask("ann")) },
		func() (locks.Lease, error) { return s.Take(t.Context(), w.ask("bob"), "ann is on holiday") },
		func() (locks.Lease, error) {
			w.skew.Add(int64(locks.DefaultTTL))
			r := w.ask("cid")
			r.Retry = idempotency.New("cid", "key", "POST", "/-/v1/locks/acquire")
			return s.Acquire(t.Context(), r)
		},
	} {
		st.rows = nil
		l, err := grant()
		require.NoError(t, err)
		require.Len(t, st.rows, 1, "transactions that write the scope")
		was, is := st.rows[0][0], st.rows[0][1]
		assert.Greater(t, is.Mark.Token, was.Mark.Token)
		assert.Equal(t, l.Mark, is.Mark)
		assert.False(t, is.LeaseUntil.IsZero())
		_, err = s.Renew(t.Context(), l.Scope, l.Mark.Token, is.Last.Holder, 0)
		require.NoError(t, err)
	}
}
