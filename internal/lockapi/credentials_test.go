package lockapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/fence"
)

// with is a client that signs with fenced credentials.
func (w *world) with(c client.Credentials) *client.Client {
	w.t.Helper()
	out, err := client.New(w.url, c.AccessKeyID, c.SecretAccessKey, client.WithSessionToken(c.SessionToken))
	require.NoError(w.t, err)
	return out
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	root, ann, bob := w.as("root"), w.as("ann"), w.as("bob")
	_, err := root.AddGuard(ctx, client.Guard{Pattern: jobs})
	require.NoError(t, err)
	l, err := ann.Acquire(ctx, client.Acquisition{Scope: jobs})
	require.NoError(t, err)

	asked := time.Now()
	c, err := ann.Credentials(ctx, jobs, l.Token)
	require.NoError(t, err)
	assert.Regexp(t, `^[A-Z0-9]{20}$`, c.AccessKeyID)
	assert.NotEmpty(t, c.SecretAccessKey)
	assert.Less(t, len(c.SessionToken), 1500)
	assert.Greater(t, c.Expiration, asked.Add(time.Hour))
	who, err := w.ring.Principal(ctx, c.AccessKeyID, c.SessionToken)
	require.NoError(t, err)
	assert.Equal(t, "ann", who.AccessKey)
	assert.Equal(t, jobs, who.Carried.Scope.String())
	assert.Equal(t, fence.Token(l.Token), who.Carried.Token)
	assert.Equal(t, fence.FirstGeneration, who.Carried.Generation)

	// They act for ann: her lock is renewed, and further credentials are hers.
	fenced := w.with(c)
	_, err = fenced.Renew(ctx, jobs, l.Token, time.Minute)
	require.NoError(t, err)
	again, err := fenced.Credentials(ctx, jobs, l.Token)
	require.NoError(t, err)
	assert.NotEqual(t, c.AccessKeyID, again.AccessKeyID)
	_, err = w.with(again).Renew(ctx, jobs, l.Token, time.Minute)
	require.NoError(t, err)
	// And have no right that she does not have.
	_, err = fenced.Take(ctx, jobs, "", 0, "no right")
	require.ErrorIs(t, err, client.ErrDenied)
	require.ErrorContains(t, err, "the access key ann does not have the right admin")
	_, err = fenced.Credentials(ctx, "s3://other/", 1)
	require.ErrorIs(t, err, client.ErrDenied)

	// Whoever may use the token in a header may have it carried, too.
	_, err = bob.Credentials(ctx, jobs, l.Token)
	require.NoError(t, err)
	_, err = w.as("eve").Credentials(ctx, jobs, l.Token)
	require.ErrorIs(t, err, client.ErrDenied)

	_, err = ann.Credentials(ctx, jobs, l.Token+1)
	require.ErrorIs(t, err, client.ErrInvalid)
	require.ErrorContains(t, err, "never granted")
	next, err := root.Take(ctx, jobs, "ops", 0, "test")
	require.NoError(t, err)
	for _, c := range []*client.Client{ann, fenced} {
		_, err = c.Credentials(ctx, jobs, l.Token)
		require.ErrorIs(t, err, client.ErrStale)
		var e *client.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, http.StatusPreconditionFailed, e.Status)
		assert.Equal(t, next.Token, e.Highest)
	}
	// Stale ones can still take the lock again: that is a new grant.
	require.NoError(t, root.Release(ctx, jobs, next.Token))
	l, err = fenced.Acquire(ctx, client.Acquisition{Scope: jobs})
	require.NoError(t, err)
	scopes, _, err := ann.List(ctx, jobs, "", 1)
	require.NoError(t, err)
	assert.Equal(t, "ann", scopes[0].Holder.AccessKey, "the holder is the parent")

	w.aged.Store(int64(7 * 24 * time.Hour))
	_, err = fenced.Check(ctx, jobs, l.Token)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "ExpiredToken", e.Code)
	assert.Equal(t, http.StatusBadRequest, e.Status)
}

// The answer is what credential_process wants, and says what it carries.
func TestCredentialsAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	root := w.as("root")
	_, err := root.AddGuard(ctx, client.Guard{Pattern: jobs, Issuer: "external"})
	require.NoError(t, err)
	_, err = root.AddGuard(ctx, client.Guard{Pattern: "s3://data/free/", Tokens: "none"})
	require.NoError(t, err)
	_, err = root.AddGuard(ctx, client.Guard{Pattern: "s3://data/long/*/"})
	require.NoError(t, err)
	ask := func(body string) (int, map[string]any) {
		t.Helper()
		return w.answer(w.sign(http.MethodPost, "/-/v1/credentials", body, sha(body), nil))
	}
	status, got := ask(`{"scope":"s3://data/jobs/","token":"77"}`)
	require.Equal(t, 200, status, got)
	assert.EqualValues(t, 1, got["Version"])
	for _, name := range []string{"AccessKeyId", "SecretAccessKey", "SessionToken"} {
		assert.NotEmpty(t, got[name])
	}
	at, err := time.Parse(time.RFC3339, got["Expiration"].(string))
	require.NoError(t, err)
	assert.Greater(t, at, time.Now().Add(time.Hour))
	assert.True(t, strings.HasSuffix(got["Expiration"].(string), "Z"), "some readers know UTC only")
	assert.Equal(t, jobs, got["scope"])
	assert.EqualValues(t, 77, got["token"])
	assert.NotContains(t, got, "generation")

	// External tokens: not below the mark, and after a reset with the generation.
	_, err = root.Raise(ctx, jobs, 100, "")
	require.NoError(t, err)
	status, got = ask(`{"scope":"s3://data/jobs/","token":77}`)
	assert.Equal(t, 412, status)
	assert.Equal(t, "StaleFencingToken", got["code"])
	_, err = root.Reset(ctx, jobs, "test")
	require.NoError(t, err)
	status, got = ask(`{"scope":"s3://data/jobs/","token":7}`)
	assert.Equal(t, 400, status)
	assert.Contains(t, got["message"], "?generation=2")
	status, _ = ask(`{"scope":"s3://data/jobs/?generation=1","token":7}`)
	assert.Equal(t, 400, status)
	status, got = ask(`{"scope":"s3://data/jobs/?generation=2","token":7}`)
	require.Equal(t, 200, status, got)
	assert.EqualValues(t, 2, got["generation"])
	who, err := w.ring.Principal(ctx, got["AccessKeyId"].(string), got["SessionToken"].(string))
	require.NoError(t, err)
	assert.Equal(t, fence.Generation(2), who.Carried.Generation)

	for body, want := range map[string]string{
		`{"scope":"s3://data/free/","token":1}`:     "NoLocks",
		`{"scope":"s3://data/nothing/","token":1}`:  "NoSuchGuard",
		`{"scope":"s3://data/jobs/","token":0}`:     "InvalidFencingToken",
		`{"scope":"s3://data/jobs/"}`:               "InvalidArgument",
		`{"token":1}`:                               "BadRequest",
		`{"scope":"s3://data/jobs","token":1}`:      "InvalidScope",
		`{"scope":"s3://data/jobs/","tokn":1}`:      "BadRequest",
		``:                                          "BadRequest",
		`{"scope":"s3://data/long/x/","token":999}`: "InvalidFencingToken",
	} {
		status, got := ask(body)
		assert.GreaterOrEqual(t, status, 400)
		assert.Equal(t, want, got["code"], "%s: %v", body, got)
	}
	long := "s3://" + strings.Repeat("b", 63) + "/" + strings.Repeat("p", 1022) + "/"
	_, err = root.AddGuard(ctx, client.Guard{Pattern: long, Issuer: "external"})
	require.NoError(t, err)
	status, got = ask(`{"scope":"` + long + `","token":1}`)
	assert.Equal(t, 400, status)
	assert.Equal(t, "InvalidArgument", got["code"])
	assert.Contains(t, got["message"], "X-Fencing-Token")
	status, body, _ := w.raw(http.MethodPost, "/-/v1/credentials", `{"scope":"s3://data/jobs/","token":7}`)
	assert.Equal(t, 403, status, body)
}
