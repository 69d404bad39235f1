package postgres

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// TestBrokenTransactions: what would go round a lock is refused, and nothing
// happens (F2, F4).
func TestBrokenTransactions(t *testing.T) {
	t.Parallel()
	db := open(t, migrated(t), 2)
	sc := testScope(t, "s3://data/jobs/")
	nobody := raise(sc, 34)
	nobody.ID = uuid.Nil
	require.ErrorContains(t, db.Transact(t.Context(), nobody), "no id")

	weak := raise(sc, 34)
	weak.Scopes = shared(sc)
	require.ErrorContains(t, db.Transact(t.Context(), weak), "does not hold it exclusively")

	draws := raise(sc, 0)
	draws.Scopes = shared(sc)
	draws.Decide = func(v *state.View) (state.Changes, error) {
		_, err := v.Draw()
		return state.Changes{}, err
	}
	require.ErrorContains(t, db.Transact(t.Context(), draws), "F2")

	guards := raise(sc, 34)
	guards.Decide = func(*state.View) (state.Changes, error) {
		return state.Changes{DropGuards: []fence.GuardID{1}}, nil
	}
	require.ErrorContains(t, db.Transact(t.Context(), guards), "did not lock their list")

	v, err := db.Read(t.Context(), state.Query{Scopes: []fence.Scope{sc}})
	require.NoError(t, err)
	require.Empty(t, v.Scopes)
}

// TestLockNumbers pins them: proxies of two versions on one database must agree.
func TestLockNumbers(t *testing.T) {
	t.Parallel()
	for got, want := range map[int64]int64{
		lockID(listDomain): 918629955148350975,
		guardLock(7):       1005248088246473382,
		scopeLock(testScope(t, "s3://data/jobs/")): 330269399831123173,
		lockID(keyDomain, "data", "jobs/a"):        7330080696825033124,
		lockID(counterDomain):                      -7396365958914574275,
		lockID(eventsDomain):                       -61040466801550782,
	} {
		require.Equal(t, want, got)
	}
	require.NotEqual(t, lockID(keyDomain, "a", "bc"), lockID(keyDomain, "ab", "c"))
}
