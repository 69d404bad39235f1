package lockapi_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/lockapi"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/state"
)

func TestClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	post := func(body string, header ...string) (int, map[string]any) {
		return w.answer(w.sign("POST", "/-/v1/claims", body, sha(body), func(r *http.Request) {
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
		}))
	}
	status, out := post(`{"job":"nightly","slot":"2026-05-01T04:00:00+02:00","owner":"ann@host"}`)
	require.Equal(t, http.StatusCreated, status, out)
	assert.Equal(t, "2026-05-01T02:00:00Z", out["slot"])
	claimedAt := out["claimed_at"]
	status, out = post(`{"job":"nightly","slot":"2026-05-01T02:00:00Z","owner":"bob@host"}`)
	require.Equal(t, http.StatusConflict, status, out)
	assert.Equal(t, "AlreadyClaimed", out["code"])
	assert.Equal(t, []any{"nightly", "2026-05-01T02:00:00Z", "root", "ann@host", claimedAt},
		[]any{out["job"], out["slot"], out["holder"], out["owner"], out["claimed_at"]})
	assert.Contains(t, out["message"], "ann@host")
	for range 2 {
		status, out = post(`{"job":"nightly","slot":"2"}`, "Idempotency-Key", "a")
		require.Equal(t, http.StatusCreated, status, out)
	}
	status, out = post(`{"job":"nightly","slot":"3"}`, "Idempotency-Key", "a")
	require.Equal(t, http.StatusUnprocessableEntity, status, out)
	assert.Contains(t, out["message"], "the field slot")
	status, out = post(`{"job":"nightly","slot":"2"}`, "Idempotency-Key", "b")
	require.Equal(t, http.StatusConflict, status, out)

	for _, tc := range []struct {
		body, code string
		status     int
		says       string
	}{
		{`{}`, "InvalidArgument", 400, "job is missing"},
		{`{"job":"j","slot":"` + strings.Repeat("s", 129) + `"}`, "InvalidArgument", 400, "129 bytes"},
		{`{"job":"j","slot":"a\u0000"}`, "InvalidArgument", 400, "printed"},
		{`{"job":"s3:///x","slot":"1"}`, "BadRequest", 400, "bucket"},
		{`{"job":"j","slot":"2001-05-01T02:00:00Z"}`, "SlotTooOld", 400, "400 days"},
		{`{"job":"j","slot":"1","scope":"s3://data/"}`, "BadRequest", 400, "scope"},
	} {
		status, out = post(tc.body)
		assert.Equal(t, tc.status, status, tc.body)
		assert.Equal(t, tc.code, out["code"], tc.body)
		assert.Contains(t, out["message"], tc.says)
	}

	list, next, err := w.as("root").Claims(ctx, "nightly", "", 1)
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, "2026-05-01T02:00:00Z", list[0].Slot)
	assert.Equal(t, "ann@host", list[0].Owner)
	list, next, err = w.as("root").Claims(ctx, "nightly", next, 10)
	require.NoError(t, err)
	assert.Empty(t, next)
	require.Len(t, list, 1)
	assert.Equal(t, "2", list[0].Slot)
	_, _, err = w.as("root").Claims(ctx, "", "", 10)
	require.ErrorIs(t, err, client.ErrInvalid)
}

// Names that begin with s3:// belong to their place; all others to whoever may
// lock anything.
func TestRightsOnJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	for _, tc := range []struct {
		who, job    string
		claim, list error
	}{
		{"ann", "nightly", nil, nil},
		{"bob", "nightly", client.ErrClaimed, nil},
		{"ann", "s3://data/jobs/nightly", nil, nil},
		{"bob", "s3://data/jobs/nightly", client.ErrClaimed, nil},
		{"eve", "s3://data/jobs/nightly", client.ErrDenied, client.ErrDenied},
		{"ann", "s3://data/other", client.ErrDenied, client.ErrDenied},
		{"ann", "s3://data", client.ErrDenied, client.ErrDenied},
		{"eve", "s3://other/x", nil, nil},
		{"kim", "nightly", client.ErrDenied, nil}, // may read and no more
		{"kim", "s3://data/jobs/nightly", client.ErrDenied, nil},
	} {
		_, err := w.as(tc.who).Claim(ctx, tc.job, "1", "")
		assert.ErrorIs(t, err, tc.claim, "%s claims %s", tc.who, tc.job)
		_, _, err = w.as(tc.who).Claims(ctx, tc.job, "", 10)
		assert.ErrorIs(t, err, tc.list, "%s lists %s", tc.who, tc.job)
	}
}

// unsteady answers a claim that took effect as one of unknown outcome, twice.
type unsteady struct {
	lockapi.Locks
	left atomic.Int32
}

func (u *unsteady) Claim(ctx context.Context, r locks.ClaimRequest) (state.Claim, error) {
	c, err := u.Locks.Claim(ctx, r)
	if err == nil && u.left.Add(-1) >= 0 {
		return c, state.ErrUnknown
	}
	return c, err
}

// F7: after an unknown outcome the client asks again and is told that its own claim
// is its own.
func TestClaimOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *lockapi.Options) {
		u := &unsteady{Locks: o.Locks}
		u.left.Store(2)
		o.Locks = u
	})
	c, err := w.as("ann").Claim(t.Context(), "nightly", "1", "ann@host")
	require.NoError(t, err)
	assert.Equal(t, "ann@host", c.Owner)
	_, err = w.as("ann").Claim(t.Context(), "nightly", "1", "ann@host")
	require.ErrorIs(t, err, client.ErrClaimed, "another call by the same client is another scheduler")
}

// busy answers the first release as one of unknown outcome, after the next one in
// line got the lock.
type busy struct {
	lockapi.Locks
	tries atomic.Int32
}

func (b *busy) ReleaseOnce(ctx context.Context, sc fence.Scope, token fence.Token, holder string, retry *idempotency.Request) error {
	err := b.Locks.ReleaseOnce(ctx, sc, token, holder, retry)
	if err != nil || b.tries.Add(1) != 1 {
		return err
	}
	if _, err := b.Acquire(ctx, locks.Request{Scope: sc, Holder: "bob"}); err != nil {
		return err
	}
	return state.ErrUnknown
}

// F7: a hold that was given back, and whose answer was lost, was not lost because
// somebody else waited for it.
func TestReleaseOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *lockapi.Options) { o.Locks = &busy{Locks: o.Locks} })
	_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: jobs})
	require.NoError(t, err)
	held, err := w.as("ann").Hold(t.Context(), jobs)
	require.NoError(t, err)
	require.NoError(t, held.Release(t.Context()))
}

// A context that names a job's calls may come along to where its locks are given back.
func TestReleasesUnderOneContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: "s3://data/jobs/*/"})
	require.NoError(t, err)
	ctx := client.WithIdempotencyKey(t.Context(), "the job")
	for _, scope := range []string{"s3://data/jobs/a/", "s3://data/jobs/b/"} {
		held, err := w.as("ann").Hold(t.Context(), scope)
		require.NoError(t, err)
		require.NoError(t, held.Release(ctx))
	}
}
