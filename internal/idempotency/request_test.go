package idempotency_test

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/state"
)

var at = time.Date(2026, 5, 1, 2, 0, 0, 999, time.UTC)

func request(credential, key string, parts ...string) *idempotency.Request {
	r := idempotency.New(credential, key, "PutObject", "s3://data/jobs/a")
	for i := 0; i+1 < len(parts); i += 2 {
		r.Part(parts[i], parts[i+1])
	}
	return r
}

func records(list ...state.Retry) map[state.RetryID][]byte {
	m := map[state.RetryID][]byte{}
	for _, r := range list {
		m[r.ID] = r.Result
	}
	return m
}

func TestFind(t *testing.T) {
	t.Parallel()
	body := sha256.Sum256([]byte("body"))
	first := request("ann", "key", "the header if-match", `"1"`)
	first.Body(body)
	kept := records(first.Record(at, []byte("answer")))

	same := request("ann", "key", "the header if-match", `"1"`)
	answer, found, err := same.Find(kept)
	require.NoError(t, err)
	assert.True(t, found, "a body that is not known yet is not compared")
	assert.Equal(t, "answer", string(answer))
	same.Body(body)
	_, found, err = same.Find(kept)
	require.NoError(t, err)
	assert.True(t, found)

	for _, r := range []*idempotency.Request{request("bob", "key"), request("ann", "Key")} {
		_, found, err = r.Find(kept)
		require.NoError(t, err)
		assert.False(t, found, "another credential, another key")
	}
	for _, tc := range []struct {
		name  string
		r     *idempotency.Request
		names []string
	}{
		{"value", request("ann", "key", "the header if-match", `"2"`), []string{"the header if-match"}},
		{"missing", request("ann", "key"), []string{"the header if-match"}},
		{"more", request("ann", "key", "the header if-match", `"1"`, "the header content-type", ""), []string{"the header content-type"}},
		{"operation", idempotency.New("ann", "key", "DeleteObject", "s3://data/jobs/b"), []string{"the operation"}},
		{"target", idempotency.New("ann", "key", "PutObject", "s3://data/jobs/b"), []string{"the target"}},
	} {
		_, found, err = tc.r.Find(kept)
		require.ErrorIs(t, err, idempotency.ErrReused, tc.name)
		assert.False(t, found)
		var reused *idempotency.ReusedError
		require.ErrorAs(t, err, &reused)
		assert.Equal(t, tc.names, reused.Differs, tc.name)
		assert.ErrorContains(t, err, "PutObject of s3://data/jobs/a, that took effect at 2026-05-01T02:00:00Z")
	}
	same.Body(sha256.Sum256([]byte("other")))
	_, _, err = same.Find(kept)
	require.ErrorContains(t, err, "the body")

	for id := range kept {
		kept[id] = []byte("{")
	}
	_, _, err = same.Find(kept)
	require.ErrorIs(t, err, idempotency.ErrDamaged, "what cannot be read is not taken for nothing")
}

// The parts of what names a record cannot run into each other.
func TestNamesOfRecords(t *testing.T) {
	t.Parallel()
	seen := map[state.RetryID]string{}
	add := func(what string, id state.RetryID) {
		assert.Empty(t, seen[id], what)
		seen[id] = what
	}
	for _, pair := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"", "abc"}, {"a 1:b", "c"}, {"a", "1:b c"}} {
		r := request(pair[0], pair[1])
		add(strings.Join(pair[:], "|"), r.ID())
		add("step", r.Step("x").ID())
		add("item", r.Item("x", "y"))
		add("item", r.Item("xy"))
		assert.Equal(t, r.Lock(), r.Step("x").Lock(), "everything under a key has its lock")
	}
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	key, err := idempotency.CheckKey(nil)
	require.NoError(t, err)
	assert.Empty(t, key)
	key, err = idempotency.CheckKey([]string{strings.Repeat("k", idempotency.MaxKey)})
	require.NoError(t, err)
	assert.Len(t, key, idempotency.MaxKey)
	for _, values := range [][]string{{""}, {"a", "b"}, {"a", "a"}, {strings.Repeat("k", idempotency.MaxKey+1)}} {
		_, err := idempotency.CheckKey(values)
		require.ErrorIs(t, err, idempotency.ErrBadKey)
	}
}
