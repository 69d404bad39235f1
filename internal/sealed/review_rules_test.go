package sealed

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/postgres"
	"github.com/s3fence/s3fence/internal/state"
)

// Listing the parts of an upload under a token is a read that carries one.
func TestReviewListPartsIsFenced(t *testing.T) { // F3
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	old := l.grant(jobs)
	ref := object.Ref{Bucket: "data", Key: "jobs/a"}
	id, err := l.CreateUpload(t.Context(), &guarded.CreateUpload{Op: l.op(jobs, old), Ref: ref})
	require.NoError(t, err)
	list := func(tok fence.Token) error {
		_, err := l.ListParts(t.Context(), &guarded.UploadRef{Op: l.op(jobs, tok), Ref: ref, ID: id}, 0, 10)
		return err
	}
	require.NoError(t, list(old))
	now := l.grant(jobs)
	refusal(t, list(old), fence.Stale)
	require.ErrorIs(t, list(now), guarded.ErrOtherToken)
	require.NoError(t, list(0), "without a token it is a read like any other")
}

// A delete that is sent again because its answer was lost does not delete what
// was written since.
func TestReviewRepeatedDelete(t *testing.T) { // F6
	t.Parallel()
	for _, there := range []bool{true, false} {
		l := newLab(t)
		l.guard(jobs)
		op := l.op(jobs, l.grant(jobs))
		if there {
			_, err := l.put(op, "jobs/a", "one")
			require.NoError(t, err)
		}
		again := op
		again.RetryID = "attempt"
		d := &guarded.Delete{Op: again, Items: []guarded.DeleteItem{{Ref: object.Ref{Bucket: "data", Key: "jobs/a"}}}}
		require.NoError(t, l.Delete(t.Context(), d)[0])
		_, err := l.put(op, "jobs/a", "two")
		require.NoError(t, err)
		require.NoError(t, l.Delete(t.Context(), d)[0])
		got, err := l.get(op, "jobs/a")
		require.NoError(t, err)
		assert.Equal(t, "two", got)
	}
}

// While objects are still being taken in, a row that is not there yet is no 404
// for a holder that reads under a mark from before.
func TestReviewFencedReadOfPendingGuard(t *testing.T) { // F6, F7
	t.Parallel()
	l := newLab(t)
	require.NoError(t, l.plain("jobs/a"))
	l.guard(jobs, func(g *fence.Guard) { g.State = fence.Pending })
	tok := l.grant(jobs)
	_, err := l.get(l.op(jobs, tok), "jobs/a")
	refusal(t, err, fence.NotActive)
	_, err = l.Stat(t.Context(), l.op(jobs, tok), object.Ref{Bucket: "data", Key: "jobs/a"})
	refusal(t, err, fence.NotActive)
}

// The first write makes its scope known to the collector, also the write of a
// credential that may go without a token.
func TestReviewFirstUnfencedWrite(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, 0)
	op.Request.Unfenced = true
	_, err := l.put(op, "jobs/a", "x")
	require.NoError(t, err)
	rows, _, err := l.st.ListScopes(t.Context(), "", "", 10)
	require.NoError(t, err)
	assert.Len(t, rows, 1)
}

// An upload id is anything that a client makes up. The database takes text
// without NUL and in UTF-8 only, and a read is shared with others.
func TestReviewUploadIdsOfAnyBytes(t *testing.T) { // F7
	t.Parallel()
	dsn := pgtest.DSN(t)
	_, _, err := postgres.Migrate(t.Context(), dsn)
	require.NoError(t, err)
	db, err := postgres.Open(t.Context(), dsn, postgres.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	l := newLabOn(t, state.State(db), nil, Options{})
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	for _, id := range []string{"", "x", "a\x00b", "\xff\xfe", "ffffffffffffffffffffffffffffffff"} {
		u := &guarded.UploadRef{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/a"}, ID: id}
		require.ErrorIs(t, l.Abort(t.Context(), u), object.ErrNoSuchUpload, "%q", id)
	}
}
