package lockapi_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// A body that travels in unsigned chunks is as little covered by the signature as
// one that is not signed at all.
func TestUnsignedChunksAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: jobs})
	require.NoError(t, err)
	const plain = `{"scope":"s3://data/jobs/"} `
	require.Len(t, plain, 28)
	chunked := "1c\r\n" + plain + "\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
	status, out := w.answer(w.sign("POST", "/-/v1/locks/acquire", chunked, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", func(r *http.Request) {
		r.Header.Set("Content-Encoding", "aws-chunked")
		r.Header.Set("X-Amz-Decoded-Content-Length", "28")
		r.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
	}))
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, out["message"], "covered by the signature")
}

// What a caller may not see is not in a page, and not in its cursor either.
func TestListTellsNoOthersNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.as("root")
	_, err := root.AddGuard(t.Context(), client.Guard{Pattern: "s3://data/*/"})
	require.NoError(t, err)
	_, err = root.AddGuard(t.Context(), client.Guard{Pattern: "s3://other/*/"})
	require.NoError(t, err)
	for _, s := range []string{"s3://data/a/", "s3://data/jobs/", "s3://data/secret/", "s3://other/a/", "s3://other/b/", "s3://other/c/"} {
		_, err := root.Acquire(t.Context(), client.Acquisition{Scope: s})
		require.NoError(t, err)
	}
	walk := func(c *client.Client, limit int) (names, cursors []string) {
		for after := ""; ; {
			page, next, err := c.List(t.Context(), "", after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit)
			for _, s := range page {
				names = append(names, s.Scope)
			}
			if after = next; next == "" {
				return names, cursors
			}
			cursors = append(cursors, next)
		}
	}
	for _, limit := range []int{1, 2, 1000} {
		names, cursors := walk(w.as("ann"), limit)
		assert.Equal(t, []string{"s3://data/jobs/"}, names)
		assert.Subset(t, names, cursors)
		names, cursors = walk(w.as("eve"), limit)
		assert.Equal(t, []string{"s3://other/a/", "s3://other/b/", "s3://other/c/"}, names)
		assert.Subset(t, names, cursors)
		names, _ = walk(root, limit)
		assert.Len(t, names, 6)
	}
}

// null is how many JSON libraries write what was not given.
func TestNullIsAbsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: jobs})
	require.NoError(t, err)
	const body = `{"scope":"s3://data/jobs/","owner":null,"ttl":null,"wait":null}`
	status, out := w.answer(w.sign("POST", "/-/v1/locks/acquire", body, sha(body), nil))
	assert.Equal(t, http.StatusOK, status, out)
	for _, body := range []string{`{"scope":null}`, `null`, `[]`, `"x"`, `{"scope":"s3://data/jobs/","ttl":"-30s"}`, `{"scope":"s3://data/jobs/","wait":"-1s"}`,
		`{"scope":"s3://data/jobs/","ttl":"9999999999h"}`, `{"scope":"s3://data/jobs/","ttl":["30s"]}`} {
		status, out := w.answer(w.sign("POST", "/-/v1/locks/acquire", body, sha(body), nil))
		assert.Equal(t, http.StatusBadRequest, status, body)
		assert.NotContains(t, out["message"], "lockapi.", body)
	}
}

// F8: after a reset the generation is named with the scope, as in X-Fencing-Scope.
func TestCheckWithAGeneration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.as("root")
	_, err := root.AddGuard(t.Context(), client.Guard{Pattern: jobs, Issuer: "external"})
	require.NoError(t, err)
	_, err = root.Raise(t.Context(), jobs, 500, "")
	require.NoError(t, err)
	_, err = root.Reset(t.Context(), jobs, "started over")
	require.NoError(t, err)
	_, err = root.Raise(t.Context(), jobs, 3, "")
	require.NoError(t, err)
	_, err = root.Check(t.Context(), jobs, 500)
	require.ErrorIs(t, err, client.ErrInvalid)
	_, err = root.Check(t.Context(), jobs+"?generation=2", 3)
	require.NoError(t, err)
	_, err = root.Check(t.Context(), jobs+"?generation=2", 2)
	require.ErrorIs(t, err, client.ErrStale)

	// Own tokens again: the lease says which generation its token belongs to.
	require.NoError(t, root.RemoveGuard(t.Context(), jobs))
	_, err = root.AddGuard(t.Context(), client.Guard{Pattern: jobs})
	require.NoError(t, err)
	l, err := root.Acquire(t.Context(), client.Acquisition{Scope: jobs})
	require.NoError(t, err)
	assert.Equal(t, int64(2), l.Generation)
}
