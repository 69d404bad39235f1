package sqlite_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// BenchmarkListPage reads a page of 1,000 of 100,000 objects, from the first key,
// from the middle and the last: the cost must not depend on where.
func BenchmarkListPage(b *testing.B) {
	s, sc := benchStore(b)
	const there, page = 100_000, 1000
	for from := 0; from < there; from += page {
		tx := &state.Tx{Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Shared}}}
		var c state.Changes
		for i := range page {
			o := state.Object{
				Info:  object.Info{Ref: object.Ref{Bucket: "data", Key: fmt.Sprintf("jobs/%08d", from+i)}, Size: 4096, ETag: "d41d8cd98f00b204e9800998ecf8427e"},
				Scope: sc, Token: 34, Attempt: state.NewID(),
			}
			o.Physical = ".s3fence/o/1/" + o.Attempt.String()
			tx.Keys, c.PutObjects = append(tx.Keys, o.Ref), append(c.PutObjects, o)
		}
		tx.Decide = func(*state.View) (state.Changes, error) { return c, nil }
		require.NoError(b, state.Run(b.Context(), s, tx))
	}
	for _, from := range []int{0, there / 2, there - page} {
		b.Run(fmt.Sprintf("from=%d", from), func(b *testing.B) {
			r := state.Range{Bucket: "data", From: fmt.Sprintf("jobs/%08d", from), To: "jobs0"}
			for b.Loop() {
				list, err := s.ListObjects(b.Context(), r, page)
				if err != nil || len(list) != page {
					b.Fatal(err, len(list))
				}
			}
		})
	}
}
