package postgres

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/state"
)

// BenchmarkListPage reads a page of 1,000 of 100,000 objects, from the first key,
// from the middle and the last: the cost must not depend on where.
func BenchmarkListPage(b *testing.B) {
	db, sc := durable(b), benchScope(b)
	const there, page = 100_000, 1000
	for from := 0; from < there; from += page {
		objects := make([]state.Object, page)
		for i := range objects {
			objects[i] = benchObject(sc, fmt.Sprintf("hot/%08d", from+i))
		}
		require.NoError(b, commitObjects(b.Context(), db, sc, objects))
	}
	for _, from := range []int{0, there / 2, there - page} {
		b.Run(fmt.Sprintf("from=%d", from), func(b *testing.B) {
			r := state.Range{Bucket: sc.Bucket(), From: fmt.Sprintf("hot/%08d", from), To: "hot0"}
			for b.Loop() {
				list, err := db.ListObjects(b.Context(), r, page)
				if err != nil || len(list) != page {
					b.Fatal(err, len(list))
				}
			}
		})
	}
}
