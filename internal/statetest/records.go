package statetest

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// oddKeys are keys that a careless column type would alter, refuse or take for
// one another.
var oddKeys = []string{
	"a", "A", "a ", " a", "a/", "a//b", "a/../b", "./a", "%2F", "a%00b", "a\x00", "a\x00b", "\x00", "\xff", "\xff\xfe",
	"é", "e\u0301", "\u2028", "日本", "\U0001F600", "'; DROP TABLE objects; --", `\x41`, `"`, "\r\n", "_", "%", "*",
	strings.Repeat("k", fence.MaxKeyBytes),
}

func testRecords(t *testing.T, s Subject) {
	st := s.State
	t.Run("objects round trip, with every byte of the key", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		var put []state.Object
		q := state.Query{}
		for i, k := range oddKeys {
			o := full(sc, k, fence.Token(i))
			if i%2 == 1 {
				o = small(sc, k, 1<<62)
			}
			put, q.Objects = append(put, o), append(q.Objects, o.Ref)
		}
		putObjects(t, st, sc, put...)
		got := read(t, st, q).Objects
		require.Len(t, got, len(put))
		for _, o := range put {
			same(t, &o, got[o.Ref], "key %q", o.Key)
		}
		absent := object.Ref{Bucket: sc.Bucket(), Key: "b"}
		require.Nil(t, seen(t, st, absent))
	})
	t.Run("objects are replaced whole and dropped", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "jobs/")
		old, next := full(sc, "jobs/a", 3), small(sc, "jobs/a", 4)
		putObjects(t, st, sc, old)
		putObjects(t, st, sc, next)
		same(t, &next, seen(t, st, old.Ref))
		write(t, st, &state.Tx{Scopes: shared(sc), Keys: []object.Ref{old.Ref, {Bucket: sc.Bucket(), Key: "jobs/none"}}},
			state.Changes{DropObjects: []object.Ref{old.Ref, {Bucket: sc.Bucket(), Key: "jobs/none"}}})
		require.Nil(t, seen(t, st, old.Ref))
	})
	t.Run("scopes round trip", func(t *testing.T) {
		t.Parallel()
		b := newBucket()
		fullRow := scopeRow(scopeOf(b, "日本/"), 1<<62)
		bare := state.NewScope(scopeOf(b, "bare/"), fence.InPlace)
		none := scopeOf(b, "none/")
		write(t, st, &state.Tx{Scopes: append(exclusive(fullRow.Scope), exclusive(bare.Scope)...)},
			state.Changes{Scopes: []state.Scope{fullRow, bare}})
		v := read(t, st, state.Query{Scopes: []fence.Scope{fullRow.Scope, bare.Scope, none}})
		same(t, map[fence.Scope]state.Scope{fullRow.Scope: fullRow, bare.Scope: bare}, v.Scopes)
		require.False(t, v.Now.IsZero(), "a read says the database's time")

		fullRow.Last, fullRow.TTL = fence.Grant{}, 0
		fullRow.LeaseUntil = bare.LeaseUntil
		write(t, st, &state.Tx{Scopes: exclusive(fullRow.Scope)}, state.Changes{Scopes: []state.Scope{fullRow}})
		same(t, fullRow, scopeSeen(t, st, fullRow.Scope))
	})
	t.Run("uploads round trip, are completed and dropped", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		locks := func(keys ...string) *state.Tx {
			tx := &state.Tx{Scopes: shared(sc)}
			for _, k := range keys {
				tx.Keys = append(tx.Keys, object.Ref{Bucket: sc.Bucket(), Key: k})
			}
			return tx
		}
		a, b := upload(sc, "\xff\x00", sc.Bucket()+"a"), upload(sc, "b", sc.Bucket()+"b")
		b.Token, b.Generation, b.Attributes = 0, 0, object.Attributes{}
		write(t, st, locks(a.Key, b.Key), state.Changes{PutUploads: []state.Upload{a, b}})
		q := state.Query{Uploads: []string{a.ID, b.ID, "none"}}
		same(t, map[string]*state.Upload{a.ID: &a, b.ID: &b}, read(t, st, q).Uploads)

		a.Completed, a.Digest, a.ETag, a.Size = true, "digest", "etag-2", 1<<41
		write(t, st, locks(a.Key, b.Key), state.Changes{PutUploads: []state.Upload{a}, DropUploads: []string{b.ID, "none"}})
		same(t, map[string]*state.Upload{a.ID: &a}, read(t, st, q).Uploads)

		tx := locks(a.Key)
		tx.Uploads = []string{a.ID, b.ID}
		var view *state.View
		tx.ID, tx.Decide = state.NewID(), func(v *state.View) (state.Changes, error) {
			view = v
			return state.Changes{}, nil
		}
		require.NoError(t, st.Transact(t.Context(), tx))
		same(t, map[string]*state.Upload{a.ID: &a}, view.Uploads, "a transaction sees what a read sees")
	})
	t.Run("retries are unique", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		id, other := state.RetryID(append([]byte(sc.String()+"\x00\xff"), make([]byte, 32)...)), state.RetryID{31: 9}
		write(t, st, &state.Tx{Scopes: shared(sc)}, state.Changes{Retries: []state.Retry{{ID: id, Result: []byte{0, 1, 0xff}}}})
		ask := func() map[state.RetryID][]byte {
			var got map[state.RetryID][]byte
			tx := newTx(func(v *state.View) (state.Changes, error) {
				got = v.Retries
				return state.Changes{}, nil
			})
			tx.Retries = []state.RetryID{id, other}
			require.NoError(t, st.Transact(t.Context(), tx))
			return got
		}
		same(t, map[state.RetryID][]byte{id: {0, 1, 0xff}}, ask())

		o := small(sc, "k", 0)
		tx := newTx(func(*state.View) (state.Changes, error) {
			return state.Changes{PutObjects: []state.Object{o}, Retries: []state.Retry{{ID: id, Result: []byte("second")}}}, nil
		})
		tx.Scopes, tx.Keys = shared(sc), []object.Ref{o.Ref}
		require.ErrorIs(t, st.Transact(t.Context(), tx), state.ErrUnavailable, "of all attempts of one request one commits")
		same(t, map[state.RetryID][]byte{id: {0, 1, 0xff}}, ask())
		require.Nil(t, seen(t, st, o.Ref))
	})
	t.Run("attempts are referred to by objects and open uploads", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		o, gone := small(sc, "o", 0), small(sc, "gone", 0)
		open, done := upload(sc, "u", sc.Bucket()+"u"), upload(sc, "d", sc.Bucket()+"d")
		done.Completed = true
		keys := []object.Ref{o.Ref, gone.Ref, open.Ref, done.Ref}
		write(t, st, &state.Tx{Scopes: shared(sc), Keys: keys},
			state.Changes{PutObjects: []state.Object{o, gone}, PutUploads: []state.Upload{open, done}})
		write(t, st, &state.Tx{Scopes: shared(sc), Keys: keys}, state.Changes{DropObjects: []object.Ref{gone.Ref}})
		asked := []uuid.UUID{o.Attempt, gone.Attempt, open.Attempt, done.Attempt, state.NewID()}
		want := map[uuid.UUID]bool{o.Attempt: true, open.Attempt: true}
		same(t, want, read(t, st, state.Query{Attempts: asked}).Referenced)
		tx := newTx(func(v *state.View) (state.Changes, error) {
			same(t, want, v.Referenced)
			return state.Changes{}, nil
		})
		tx.Attempts = asked
		require.NoError(t, st.Transact(t.Context(), tx))
	})
	t.Run("no two objects share an attempt", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		a, b := small(sc, "a", 1), small(sc, "b", 1)
		b.Attempt = a.Attempt
		putObjects(t, st, sc, a)
		tx := newTx(func(*state.View) (state.Changes, error) { return state.Changes{PutObjects: []state.Object{b}}, nil })
		tx.Scopes, tx.Keys = shared(sc), []object.Ref{b.Ref}
		require.ErrorIs(t, st.Transact(t.Context(), tx), state.ErrUnavailable)
		require.Nil(t, seen(t, st, b.Ref))
		write(t, st, &state.Tx{Scopes: shared(sc), Keys: []object.Ref{a.Ref, b.Ref}},
			state.Changes{PutObjects: []state.Object{b}, DropObjects: []object.Ref{a.Ref}})
		same(t, &b, seen(t, st, b.Ref), "it may move")
	})
	t.Run("many records in one transaction", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		var put []state.Object
		q := state.Query{}
		for i := range 300 {
			o := small(sc, strings.Repeat("k", i+1), fence.Token(i))
			put, q.Objects, q.Attempts = append(put, o), append(q.Objects, o.Ref), append(q.Attempts, o.Attempt)
		}
		putObjects(t, st, sc, put...)
		v := read(t, st, q)
		require.Len(t, v.Objects, len(put))
		require.Len(t, v.Referenced, len(put))
		for _, o := range put {
			same(t, &o, v.Objects[o.Ref])
		}
		write(t, st, &state.Tx{Scopes: shared(sc), Keys: q.Objects}, state.Changes{DropObjects: q.Objects})
		require.Empty(t, read(t, st, q).Objects)
	})
	t.Run("the second handle and a later one see the same", func(t *testing.T) {
		t.Parallel()
		if s.Second == nil {
			t.Skip("this state cannot be shared")
		}
		sc := scopeOf(newBucket(), "")
		other := s.Second(t)
		d, err := st.Deployment(t.Context())
		require.NoError(t, err)
		require.NotEqual(t, uuid.Nil, d.ID)
		e, err := other.Deployment(t.Context())
		require.NoError(t, err)
		require.Equal(t, d, e)
		// A read sees everything that was committed before it began (F5).
		for i := range 20 {
			o := small(sc, "k", fence.Token(i+1))
			putObjects(t, st, sc, o)
			same(t, &o, seen(t, other, o.Ref))
			o = small(sc, "k", fence.Token(i+1))
			putObjects(t, other, sc, o)
			same(t, &o, seen(t, st, o.Ref))
		}
	})
	t.Run("check", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, st.Check(t.Context()))
	})
}
