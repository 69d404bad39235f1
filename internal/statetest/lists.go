package statetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// plenty is a limit that nothing here reaches.
const plenty = 1000

func testLists(t *testing.T, s Subject) {
	st := s.State
	t.Run("objects, in byte order, by range, in pages", func(t *testing.T) {
		t.Parallel()
		sc, decoy := scopeOf(newBucket(), ""), scopeOf(newBucket(), "")
		var put []state.Object
		for i, k := range oddKeys {
			put = append(put, full(sc, k, fence.Token(i)))
		}
		putObjects(t, st, sc, put...)
		putObjects(t, st, decoy, small(decoy, "a", 1))
		slices.SortFunc(put, func(a, b state.Object) int { return strings.Compare(a.Key, b.Key) })

		ends := append([]string{"", "a\x00\x00", "z", "\xff\xff"}, oddKeys...)
		for _, from := range ends {
			for _, to := range ends {
				var want []state.Object
				for _, o := range put {
					if o.Key >= from && (to == "" || o.Key < to) {
						want = append(want, o)
					}
				}
				got, err := st.ListObjects(t.Context(), state.Range{Bucket: sc.Bucket(), From: from, To: to}, plenty)
				require.NoError(t, err)
				same(t, want, got, "from %q to %q", from, to)
			}
		}
		for _, limit := range []int{1, 7} {
			var got []state.Object
			r := state.Range{Bucket: sc.Bucket()}
			for {
				page, err := st.ListObjects(t.Context(), r, limit)
				require.NoError(t, err)
				require.LessOrEqual(t, len(page), limit)
				if len(page) == 0 {
					break
				}
				got = append(got, page...)
				r.From = page[len(page)-1].Key + "\x00"
			}
			same(t, put, got)
		}
	})
	t.Run("open uploads, by key and id", func(t *testing.T) {
		t.Parallel()
		sc := scopeOf(newBucket(), "")
		var all []state.Upload
		tx := &state.Tx{Scopes: shared(sc)}
		for i, k := range []string{"a", "a\x00", "\xff", "é"} {
			tx.Keys = append(tx.Keys, object.Ref{Bucket: sc.Bucket(), Key: k})
			for _, id := range []string{"1", "10", "2", "B", "a"} {
				all = append(all, upload(sc, k, fmt.Sprintf("%s/%d/%s", sc.Bucket(), 9-i, id)))
			}
		}
		done := upload(sc, "a", sc.Bucket()+"done")
		done.Completed = true
		write(t, st, tx, state.Changes{PutUploads: append(slices.Clone(all), done)})
		slices.SortFunc(all, func(a, b state.Upload) int {
			if c := strings.Compare(a.Key, b.Key); c != 0 {
				return c
			}
			return strings.Compare(a.ID, b.ID)
		})
		list := func(from, to, afterID string, limit int) []state.Upload {
			got, err := st.ListUploads(t.Context(), state.Range{Bucket: sc.Bucket(), From: from, To: to}, afterID, limit)
			require.NoError(t, err)
			return got
		}
		same(t, all, list("", "", "", plenty))
		same(t, all[5:10], list("a\x00", "b", "", plenty))
		for _, limit := range []int{1, 3, 100} {
			var got []state.Upload
			from, after := "", ""
			for {
				page := list(from, "", after, limit)
				if len(page) == 0 {
					break
				}
				require.LessOrEqual(t, len(page), limit)
				got = append(got, page...)
				from, after = page[len(page)-1].Key, page[len(page)-1].ID
			}
			same(t, all, got, "pages of %d", limit)
		}
	})
	t.Run("scopes, by written form", func(t *testing.T) {
		t.Parallel()
		b := newBucket()
		var all []state.Scope
		tx := &state.Tx{}
		for _, p := range []string{"", "A/", "a/", "a/b/", "a_b/", "a%/", "ab/", "é/", "日本/", "z/"} {
			all = append(all, scopeRow(scopeOf(b, p), 5))
			tx.Scopes = append(tx.Scopes, exclusive(scopeOf(b, p))...)
		}
		write(t, st, tx, state.Changes{Scopes: all})
		slices.SortFunc(all, func(a, b state.Scope) int { return strings.Compare(a.Scope.String(), b.Scope.String()) })
		list := func(prefix, after string, limit int) []state.Scope {
			got, now, err := st.ListScopes(t.Context(), prefix, after, limit)
			require.NoError(t, err)
			require.False(t, now.IsZero())
			return got
		}
		root := "s3://" + b + "/"
		same(t, all, list(root, "", plenty))
		for _, prefix := range []string{"a", "a/", "a_", "a%", "é", "none"} {
			var want []state.Scope
			for _, row := range all {
				if strings.HasPrefix(row.Scope.Prefix(), prefix) {
					want = append(want, row)
				}
			}
			same(t, want, list(root+prefix, "", plenty), "prefix %q", prefix)
		}
		for _, limit := range []int{1, 3} {
			var got []state.Scope
			after := ""
			for {
				page := list(root, after, limit)
				if len(page) == 0 {
					break
				}
				require.LessOrEqual(t, len(page), limit)
				got, after = append(got, page...), page[len(page)-1].Scope.String()
			}
			same(t, all, got)
		}
		everything := list("", "", plenty)
		require.Subset(t, names(everything), names(all), "an empty prefix is every scope")
	})
	t.Run("garbage, oldest first", func(t *testing.T) {
		t.Parallel()
		b, decoy := newBucket(), newBucket()
		g := func(bucket, physical string, n int) state.Garbage {
			return state.Garbage{Bucket: bucket, Physical: physical, Found: moment(n)}
		}
		write(t, st, &state.Tx{}, state.Changes{AddGarbage: []state.Garbage{
			g(b, "x/3", 3), g(b, "x/1", 1), g(b, "x/2b", 2), g(b, "x/2a", 2), g(decoy, "x/1", 0),
		}})
		list := func(bucket string, before time.Time, limit int) []state.Garbage {
			got, err := st.ListGarbage(t.Context(), bucket, before, limit)
			require.NoError(t, err)
			return got
		}
		want := []state.Garbage{g(b, "x/1", 1), g(b, "x/2a", 2), g(b, "x/2b", 2), g(b, "x/3", 3)}
		same(t, want, list(b, moment(9), plenty))
		same(t, want[:3], list(b, moment(3), plenty), "found before, not at")
		same(t, want[:2], list(b, moment(9), 2))

		write(t, st, &state.Tx{}, state.Changes{
			AddGarbage:  []state.Garbage{g(b, "x/1", 8), g(b, "x/4", 4)},
			DropGarbage: []state.Garbage{g(b, "x/2a", 99), g(b, "none", 1)},
		})
		want = []state.Garbage{g(b, "x/1", 1), g(b, "x/2b", 2), g(b, "x/3", 3), g(b, "x/4", 4)}
		same(t, want, list(b, moment(9), plenty), "what is added again keeps its time")
		same(t, []state.Garbage{g(decoy, "x/1", 0)}, list(decoy, moment(9), plenty))
	})
}

func names(rows []state.Scope) []string {
	var out []string
	for _, r := range rows {
		out = append(out, r.Scope.String())
	}
	return out
}
