package sealed

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/upstream"
)

// TestListsMatchAModel lists a bucket of plain, sealed and hidden keys in every
// way and compares with what a sorted set says.
func TestListsMatchAModel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.guard("s3://data/jobs/")
	l.guard("s3://data/t/*/")
	l.guard("s3://data/deep/er/")
	words := []string{"a", "b", "z", "ü", "a b", "x+y", "%41", "0", "~"}
	visible := map[string]bool{}
	word := func() string { return words[rand.IntN(len(words))] }
	for range 40 {
		for _, key := range []string{word(), word() + "/" + word(), "jobs" + word(), "t/" + word() + "x", "deep/" + word(), "jobs-" + word() + "/" + word()} {
			_, err := l.client.PutObject(t.Context(), "data", key, strings.NewReader("p"), 1, upstream.PutOptions{})
			require.NoError(t, err)
			visible[key] = true
		}
		// Left behind in sealed scopes: hidden.
		for _, key := range []string{"jobs/" + word(), "t/" + word() + "/" + word(), "deep/er/" + word()} {
			_, err := l.client.PutObject(t.Context(), "data", key, strings.NewReader("h"), 1, upstream.PutOptions{})
			require.NoError(t, err)
		}
	}
	for _, scope := range []string{"s3://data/jobs/", "s3://data/t/a/", "s3://data/t/ü/"} {
		op := l.op(scope, l.grant(scope))
		for range 20 {
			key := op.Scope.Prefix() + word() + []string{"", "/" + word(), "/" + word() + "/" + word()}[rand.IntN(3)]
			_, err := l.put(op, key, "s")
			require.NoError(t, err)
			visible[key] = true
		}
	}
	var keys []string
	for k := range visible {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, prefix := range []string{"", "j", "jobs", "jobs/", "t/", "t/a", "deep/", "deep/er/", "a", ".s3", "none"} {
		for _, delimiter := range []string{"", "/", "a"} {
			for _, limit := range []int{1, 2, 7, 1000} {
				for _, from := range []string{"", "jobs/a", "k"} {
					name := fmt.Sprintf("prefix=%q delimiter=%q limit=%d from=%q", prefix, delimiter, limit, from)
					var want []string
					for _, k := range keys {
						if !strings.HasPrefix(k, prefix) || k < from {
							continue
						}
						if i := strings.Index(k[len(prefix):], delimiter); delimiter != "" && i >= 0 {
							k = k[:len(prefix)+i+1]
						}
						if k >= from && !slices.Contains(want, k) {
							want = append(want, k)
						}
					}
					var got []string
					at := from
					for pages := 0; ; pages++ {
						require.Less(t, pages, 2000, name)
						entries, next, more, err := l.List(t.Context(), l.list(), guarded.ListQuery{Bucket: "data", Prefix: prefix, Delimiter: delimiter, From: at, Limit: limit})
						require.NoError(t, err, name)
						for _, e := range entries {
							got = append(got, e.Key)
						}
						// Truncated means that there is more to come.
						require.Equal(t, len(got) < len(want), more, name)
						if !more {
							break
						}
						at = next
					}
					require.Equal(t, want, got, name)
				}
			}
		}
	}
}
