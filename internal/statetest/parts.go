package statetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

func testParts(t *testing.T, s Subject) {
	st := s.State
	one := func(sc fence.Scope, keys ...string) *state.Tx {
		tx := &state.Tx{Scopes: shared(sc)}
		for _, k := range keys {
			tx.Keys = append(tx.Keys, object.Ref{Bucket: sc.Bucket(), Key: k})
		}
		return tx
	}
	open := func(t *testing.T, sc fence.Scope) state.Upload {
		u := upload(sc, "k", sc.Bucket()+"u")
		write(t, st, one(sc, u.Key), state.Changes{PutUploads: []state.Upload{u}})
		return u
	}
	name := func(p state.UploadPart) state.PartName { return state.PartName{Number: p.Number, ETag: p.ETag} }
	uploadParts := func(t *testing.T, id string, names ...state.PartName) []state.UploadPart {
		list, err := st.UploadParts(t.Context(), id, names)
		require.NoError(t, err)
		return list
	}
	parts := func(t *testing.T, attempt uuid.UUID, skip, limit int) []object.Part {
		list, err := st.ObjectParts(t.Context(), attempt, skip, limit)
		require.NoError(t, err)
		return list
	}
	t.Run("parts of an upload are kept by number and ETag", func(t *testing.T) {
		t.Parallel()
		u := open(t, scopeOf(newBucket(), ""))
		p := state.UploadPart{Upload: u.ID, Number: 7, ETag: "b", Size: 1 << 41, Algorithm: "SHA256", Checksum: "c2"}
		twin := state.UploadPart{Upload: u.ID, Number: 7, ETag: "a"}
		last := state.UploadPart{Upload: u.ID, Number: 10000, ETag: "z", Size: 3, Algorithm: "CRC32", Checksum: "q"}
		for _, p := range []state.UploadPart{last, p, twin, p} {
			require.NoError(t, st.KeepPart(t.Context(), p))
		}
		require.Equal(t, []state.UploadPart{twin, p, last}, uploadParts(t, u.ID, name(last), name(twin), name(p)))
		require.Equal(t, []state.UploadPart{p}, uploadParts(t, u.ID, state.PartName{Number: 7, ETag: "B"}, name(p)))
		require.Empty(t, uploadParts(t, u.ID, state.PartName{Number: 8, ETag: "b"}, state.PartName{Number: 7, ETag: "z"}))
		require.Empty(t, uploadParts(t, "none", name(p)))
		require.Empty(t, uploadParts(t, u.ID))
		p.Size, p.Algorithm, p.Checksum = 5, "", ""
		require.NoError(t, st.KeepPart(t.Context(), p))
		require.Equal(t, []state.UploadPart{twin, p}, uploadParts(t, u.ID, name(p), name(twin)))
	})
	t.Run("parts go with their upload, and none is kept without one", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		u := open(t, sc)
		p := state.UploadPart{Upload: u.ID, Number: 1, ETag: "a"}
		require.NoError(t, st.KeepPart(t.Context(), p))
		write(t, st, one(sc, u.Key), state.Changes{DropUploads: []string{u.ID}})
		require.ErrorIs(t, st.KeepPart(t.Context(), p), object.ErrNoSuchUpload)
		// An upload of the same id finds nothing of the first one's.
		u = open(t, sc)
		require.Empty(t, uploadParts(t, u.ID, name(p)))

		require.NoError(t, st.KeepPart(t.Context(), p))
		u.Completed = true
		write(t, st, one(sc, u.Key), state.Changes{PutUploads: []state.Upload{u}})
		require.Empty(t, uploadParts(t, u.ID, name(p)))
		require.ErrorIs(t, st.KeepPart(t.Context(), p), object.ErrNoSuchUpload)
		if s.Advance != nil {
			s.Advance(t, 48*time.Hour)
			require.NoError(t, st.Maintain(t.Context(), time.Hour))
		}
	})
	t.Run("parts of an object are read in order and never by another attempt", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		o, other := full(sc, "k", 3), full(sc, "l", 3)
		made, others := partsOf(o.Parts), partsOf(other.Parts)
		made[2].Checksum, made[6].Number, others[0].Size = "q83v", 9999, 0
		write(t, st, one(sc, "k", "l"), state.Changes{
			PutObjects: []state.Object{o, other},
			PutParts:   []state.ObjectParts{{Attempt: o.Attempt, Parts: made}, {Attempt: other.Attempt, Parts: others}},
		})
		require.Equal(t, made, parts(t, o.Attempt, 0, 1000))
		require.Equal(t, made[2:4], parts(t, o.Attempt, 2, 2))
		require.Empty(t, parts(t, o.Attempt, 7, 10))
		require.Empty(t, parts(t, o.Attempt, 0, 0))
		require.Empty(t, parts(t, state.NewID(), 0, 10))
		require.Equal(t, others, parts(t, other.Attempt, 0, 1000))

		// Other attributes of the same bytes change nothing.
		o.Tags = nil
		putObjects(t, st, sc, o)
		require.Equal(t, made, parts(t, o.Attempt, 0, 1000))
		// Other bytes do, and so does the row's end.
		putObjects(t, st, sc, small(sc, "k", 4))
		require.Empty(t, parts(t, o.Attempt, 0, 1000))
		require.Equal(t, others, parts(t, other.Attempt, 0, 1000))
		write(t, st, one(sc, "l"), state.Changes{DropObjects: []object.Ref{other.Ref}})
		require.Empty(t, parts(t, other.Attempt, 0, 1000))
	})
	t.Run("nothing is written of a transaction that is decided against", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		o := full(sc, "k", 3)
		write(t, st, one(sc, "k"), state.Changes{PutObjects: []state.Object{o}, PutParts: []state.ObjectParts{{Attempt: o.Attempt, Parts: partsOf(o.Parts)}}})
		next := full(sc, "k", 4)
		tx := newTx(func(*state.View) (state.Changes, error) {
			return state.Changes{PutObjects: []state.Object{next}, PutParts: []state.ObjectParts{{Attempt: next.Attempt, Parts: partsOf(next.Parts)}}}, nil
		})
		tx.Scopes, tx.Keys = shared(sc), []object.Ref{o.Ref}
		verdict, err := st.Resolve(t.Context(), tx.ID)
		require.NoError(t, err)
		require.Equal(t, state.Aborted, verdict)
		require.Error(t, st.Transact(t.Context(), tx))
		require.Equal(t, partsOf(o.Parts), parts(t, o.Attempt, 0, 1000))
		require.Empty(t, parts(t, next.Attempt, 0, 1000))
	})
	t.Run("ten thousand parts, kept by many at once", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		u := open(t, sc)
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for n := w + 1; n <= 40; n += 4 {
					if err := st.KeepPart(t.Context(), state.UploadPart{Upload: u.ID, Number: n, ETag: fmt.Sprint(n), Size: int64(n)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var all []state.PartName
		for n := range 40 {
			all = append(all, state.PartName{Number: n + 1, ETag: fmt.Sprint(n + 1)})
		}
		require.Len(t, uploadParts(t, u.ID, all...), 40)
		o := full(sc, "k", 3)
		o.Parts, o.Attempt = 10000, u.Attempt
		u.Completed = true
		write(t, st, one(sc, "k"), state.Changes{
			PutObjects: []state.Object{o}, PutUploads: []state.Upload{u},
			PutParts: []state.ObjectParts{{Attempt: o.Attempt, Parts: partsOf(o.Parts)}},
		})
		require.Equal(t, partsOf(o.Parts)[9990:], parts(t, o.Attempt, 9990, 100))
		require.Empty(t, uploadParts(t, u.ID, all...))
	})
}

// partsOf makes n parts of different sizes.
func partsOf(n int) []object.Part {
	parts := make([]object.Part, n)
	var at int64
	for i := range parts {
		parts[i] = object.Part{Number: i + 1, Start: at, Size: int64(i+1) << 20}
		at += parts[i].Size
	}
	return parts
}
