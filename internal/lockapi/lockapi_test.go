package lockapi_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/lockapi"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/sigv4"
)

const jobs = "s3://data/jobs/"

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	root, ann, bob := w.as("root"), w.as("ann"), w.as("bob")

	_, err := ann.Acquire(ctx, client.Acquisition{Scope: jobs})
	require.ErrorIs(t, err, client.ErrNoSuchGuard)
	require.ErrorContains(t, err, "s3fence guard add "+jobs)

	g, err := root.AddGuard(ctx, client.Guard{Pattern: jobs})
	require.NoError(t, err)
	assert.Equal(t, client.Guard{Pattern: jobs, Writes: "sealed", Tokens: "required", Issuer: "s3fence", MaxJump: 1 << 32, LockDelay: "0s", State: "active", Created: g.Created}, g)
	_, err = root.AddGuard(ctx, client.Guard{Pattern: "s3://data/"})
	require.ErrorIs(t, err, client.ErrConflict)

	before := time.Now()
	l, err := ann.Acquire(ctx, client.Acquisition{Scope: jobs, Owner: "ann@host", TTL: time.Minute})
	require.NoError(t, err)
	assert.Equal(t, int64(1), l.Token)
	assert.Equal(t, time.Minute, l.TTL)
	assert.True(t, l.Settled)
	assert.WithinDuration(t, before.Add(time.Minute), l.Deadline, 10*time.Second)

	_, err = bob.Acquire(ctx, client.Acquisition{Scope: jobs, Wait: 300 * time.Millisecond})
	require.ErrorIs(t, err, client.ErrHeld)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, http.StatusConflict, e.Status)
	assert.Equal(t, "ann@host", e.Holder.Owner)
	assert.Equal(t, int64(1), e.Holder.Token)

	_, err = bob.Renew(ctx, jobs, 1, 0)
	require.ErrorIs(t, err, client.ErrDenied)
	l, err = ann.Renew(ctx, jobs, 1, 2*time.Minute)
	require.NoError(t, err)
	assert.Equal(t, 2*time.Minute, l.TTL)

	taken, err := root.Take(ctx, jobs, "ops", 0, "ann is on holiday")
	require.NoError(t, err)
	assert.Equal(t, int64(2), taken.Token)
	_, err = ann.Renew(ctx, jobs, 1, 0)
	require.ErrorIs(t, err, client.ErrLost)
	require.ErrorAs(t, err, &e)
	assert.Equal(t, int64(2), e.Highest)
	require.ErrorIs(t, ann.Release(ctx, jobs, 1), client.ErrLost)

	_, err = ann.Check(ctx, jobs, 1)
	require.ErrorIs(t, err, client.ErrStale)
	high, err := ann.Check(ctx, jobs, 2)
	require.NoError(t, err)
	assert.Equal(t, int64(2), high)
	_, err = ann.Check(ctx, jobs, 3)
	require.ErrorIs(t, err, client.ErrInvalid)

	scopes, next, err := ann.List(ctx, "s3://data/", "", 10)
	require.NoError(t, err)
	assert.Empty(t, next)
	require.Len(t, scopes, 1)
	assert.Equal(t, "root", scopes[0].Holder.AccessKey)
	scopes, _, err = w.as("eve").List(ctx, "", "", 10)
	require.NoError(t, err)
	assert.Empty(t, scopes, "who has no right there sees nothing")

	require.NoError(t, root.Release(ctx, jobs, 2))
	mark, err := root.Raise(ctx, jobs, 0, "test")
	require.NoError(t, err)
	assert.Equal(t, int64(3), mark)

	set, err := root.SetGuard(ctx, client.Guard{Pattern: jobs, Tokens: "optional"})
	require.NoError(t, err)
	assert.Equal(t, "optional", set.Tokens)
	_, err = root.SetGuard(ctx, client.Guard{Pattern: jobs, Issuer: "external"})
	require.ErrorIs(t, err, client.ErrConflict)
	gs, err := ann.Guards(ctx)
	require.NoError(t, err)
	assert.Len(t, gs, 1)
	gs, err = w.as("eve").Guards(ctx)
	require.NoError(t, err)
	assert.Empty(t, gs)
	require.NoError(t, root.RemoveGuard(ctx, jobs))
	require.ErrorIs(t, root.RemoveGuard(ctx, jobs), client.ErrNoSuchGuard)

	_, err = root.AddGuard(ctx, client.Guard{Pattern: jobs, Issuer: "external"})
	require.NoError(t, err)
	_, err = root.Raise(ctx, jobs, 77, "")
	require.NoError(t, err)
	gen, err := root.Reset(ctx, jobs, "their counter started over")
	require.NoError(t, err)
	assert.Equal(t, int64(2), gen)
}

func TestWaitOverHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: jobs})
	require.NoError(t, err)
	_, err = w.as("ann").Acquire(t.Context(), client.Acquisition{Scope: jobs})
	require.NoError(t, err)
	got := make(chan error, 1)
	go func() {
		_, err := w.as("bob").Acquire(t.Context(), client.Acquisition{Scope: jobs, Wait: 30 * time.Second})
		got <- err
	}()
	for {
		scopes, _, err := w.as("root").List(t.Context(), jobs, "", 1)
		require.NoError(t, err)
		if scopes[0].Queue == 1 {
			break
		}
	}
	require.NoError(t, w.as("ann").Release(t.Context(), jobs, 1))
	require.NoError(t, <-got)
}

func TestRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	_, err := w.as("root").AddGuard(ctx, client.Guard{Pattern: jobs})
	require.NoError(t, err)
	ann, eve := w.as("ann"), w.as("eve")
	for _, tc := range []struct {
		name string
		call func() error
	}{
		{"acquire", func() error { _, err := eve.Acquire(ctx, client.Acquisition{Scope: jobs}); return err }},
		{"acquire where no guard is", func() error {
			_, err := eve.Acquire(ctx, client.Acquisition{Scope: "s3://data/none/"})
			return err
		}},
		{"renew", func() error { _, err := eve.Renew(ctx, jobs, 1, 0); return err }},
		{"release", func() error { return eve.Release(ctx, jobs, 1) }},
		{"check", func() error { _, err := eve.Check(ctx, jobs, 1); return err }},
		{"take", func() error { _, err := ann.Take(ctx, jobs, "", 0, "r"); return err }},
		{"raise", func() error { _, err := ann.Raise(ctx, jobs, 0, ""); return err }},
		{"reset", func() error { _, err := ann.Reset(ctx, jobs, "r"); return err }},
		{"add guard", func() error { _, err := ann.AddGuard(ctx, client.Guard{Pattern: "s3://data/jobs/x/"}); return err }},
		{"set guard", func() error { _, err := ann.SetGuard(ctx, client.Guard{Pattern: jobs, Tokens: "none"}); return err }},
		{"remove guard", func() error { return ann.RemoveGuard(ctx, jobs) }},
		{"wrong secret", func() error {
			c, err := client.New(w.url, "ann", "wrong")
			require.NoError(t, err)
			_, err = c.Guards(ctx)
			return err
		}},
		{"session token of nobody", func() error { _, err := w.as("ann", client.WithSessionToken("x")).Guards(ctx); return err }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := tc.call()
			if tc.name == "session token of nobody" {
				require.ErrorIs(t, err, client.ErrInvalid)
				return
			}
			require.ErrorIs(t, err, client.ErrDenied)
		})
	}
}

// sign makes a signed request by hand.
func (w *world) sign(method, path, body, hash string, change func(*http.Request)) *http.Request {
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	require.NoError(w.t, err)
	req.Header.Set("X-Amz-Content-Sha256", hash)
	if change != nil {
		change(req)
	}
	require.NoError(w.t, v4.NewSigner().SignHTTP(w.t.Context(), aws.Credentials{AccessKeyID: "root", SecretAccessKey: "root-secret"}, req, hash, "s3", "us-east-1", time.Now()))
	return req
}

func (w *world) answer(req *http.Request) (int, map[string]any) {
	resp, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	var out map[string]any
	require.NoError(w.t, json.NewDecoder(resp.Body).Decode(&out))
	assert.Equal(w.t, "application/json", resp.Header.Get("Content-Type"))
	assert.NotEmpty(w.t, resp.Header.Get("X-Amz-Request-Id"))
	return resp.StatusCode, out
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: jobs})
	require.NoError(t, err)
	const acquire = "/-/v1/locks/acquire"
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		code, says               string
	}{
		{"empty", "POST", acquire, "", 400, "BadRequest", "empty"},
		{"not JSON", "POST", acquire, "{", 400, "BadRequest", ""},
		{"unknown field", "POST", acquire, `{"scope":"s3://data/jobs/","tll":"30s"}`, 400, "BadRequest", "tll"},
		{"field given twice", "POST", acquire, `{"scope":"s3://data/jobs/","SCOPE":"s3://other/"}`, 400, "BadRequest", `"SCOPE" is given twice`},
		{"field given twice, same case", "POST", "/-/v1/guards", `{"pattern":"s3://other/","pattern":"s3://more/"}`, 400, "BadRequest", `"pattern" is given twice`},
		{"two values", "POST", acquire, `{"scope":"s3://data/jobs/"} {}`, 400, "BadRequest", "follows"},
		{"no scope", "POST", acquire, `{}`, 400, "BadRequest", "scope"},
		{"bad scope", "POST", acquire, `{"scope":"data/jobs"}`, 400, "InvalidScope", "s3://"},
		{"duration as number", "POST", acquire, `{"scope":"s3://data/jobs/","ttl":30}`, 400, "BadRequest", "30s"},
		{"bad duration", "POST", acquire, `{"scope":"s3://data/jobs/","ttl":"30"}`, 400, "BadRequest", "30s"},
		{"short ttl", "POST", acquire, `{"scope":"s3://data/jobs/","ttl":"1ms"}`, 400, "InvalidArgument", "ttl"},
		{"inside a scope", "POST", acquire, `{"scope":"s3://data/jobs/x/"}`, 409, "ScopeOverlap", "s3://data/jobs/"},
		{"fractional token", "POST", "/-/v1/check", `{"scope":"s3://data/jobs/","token":1.5}`, 400, "InvalidFencingToken", ""},
		{"huge token", "POST", "/-/v1/check", `{"scope":"s3://data/jobs/","token":99999999999999999999}`, 400, "InvalidFencingToken", "large"},
		{"negative token", "POST", "/-/v1/check", `{"scope":"s3://data/jobs/","token":"-1"}`, 400, "InvalidFencingToken", ""},
		{"no token", "POST", "/-/v1/locks/renew", `{"scope":"s3://data/jobs/"}`, 400, "InvalidArgument", "token"},
		{"never granted", "POST", "/-/v1/locks/renew", `{"scope":"s3://data/jobs/","token":"5"}`, 400, "InvalidFencingToken", "never granted"},
		{"take without reason", "POST", "/-/v1/locks/take", `{"scope":"s3://data/jobs/"}`, 400, "InvalidArgument", "reason"},
		{"in place", "POST", "/-/v1/guards", `{"pattern":"s3://other/","writes":"in-place"}`, 501, "NotImplemented", "sealed"},
		{"overlap", "POST", "/-/v1/guards", `{"pattern":"s3://data/*/"}`, 409, "GuardOverlap", jobs},
		{"no pattern", "POST", "/-/v1/guards", `{}`, 400, "BadRequest", "pattern"},
		{"unknown call", "POST", "/-/v1/lock", `{}`, 404, "NoSuchCall", "/-/v1/"},
		{"unclean path", "POST", "/-/v1//guards", `{}`, 404, "NoSuchCall", ""},
		{"method", "PUT", "/-/v1/guards", `{}`, 405, "MethodNotAllowed", "PUT"},
		{"too large", "POST", acquire, `{"owner":"` + strings.Repeat("x", 64<<10) + `"}`, 413, "EntityTooLarge", ""},
		{"limit", "GET", "/-/v1/locks?limit=0", ``, 400, "BadRequest", "limit"},
	} {
		t.Run(tc.name+" "+tc.path, func(t *testing.T) {
			t.Parallel()
			status, out := w.answer(w.sign(tc.method, tc.path, tc.body, sha(tc.body), nil))
			assert.Equal(t, tc.status, status)
			assert.Equal(t, tc.code, out["code"])
			assert.Contains(t, out["message"], tc.says)
			assert.NotEmpty(t, out["request_id"])
		})
	}
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const body = `{"pattern":"s3://data/jobs/"}`
	status, text, _ := w.raw("POST", "/-/v1/guards", body)
	assert.Equal(t, http.StatusForbidden, status, text)
	assert.Contains(t, text, "--aws-sigv4")

	status, out := w.answer(w.sign("POST", "/-/v1/guards", body, "UNSIGNED-PAYLOAD", nil))
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, out["message"], "covered by the signature")

	status, out = w.answer(w.sign("POST", "/-/v1/guards", body, sha("another body"), nil))
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Equal(t, "XAmzContentSHA256Mismatch", out["code"])

	// As curl before 8 signs: the hash is bound by the signature and not sent.
	req := w.sign("POST", "/-/v1/guards", body, sha(body), func(r *http.Request) { r.Header.Del("X-Amz-Content-Sha256") })
	status, out = w.answer(req)
	assert.Equal(t, http.StatusOK, status, out)

	status, text, _ = w.raw("GET", "/-/v1/", "")
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, text, "/-/v1/locks/acquire")
}

// A repeated call with an Idempotency-Key is given the first one's answer; another
// one under the key takes no effect; one that was refused leaves the key free.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: jobs})
	require.NoError(t, err)
	post := func(path, body, key string) (int, map[string]any) {
		return w.answer(w.sign("POST", path, body, sha(body), func(r *http.Request) { r.Header.Set("Idempotency-Key", key) }))
	}
	const acquire, body = "/-/v1/locks/acquire", `{"scope":"s3://data/jobs/","wait":"100ms"}`
	for range 3 {
		status, out := post(acquire, body, "a")
		require.Equal(t, http.StatusOK, status, out)
		assert.Equal(t, 1.0, out["token"])
	}
	status, _ := post(acquire, body, "b")
	assert.Equal(t, http.StatusConflict, status)
	const raise, reset = "/-/v1/scopes/raise", "/-/v1/scopes/reset"
	for _, tc := range []struct{ path, body, names string }{
		{acquire, `{"scope":"s3://data/jobs/","owner":"o"}`, "the field owner"},
		{acquire, `{"scope":"s3://data/jobs/","TTL":"1m"}`, "the field ttl"},
		{acquire, `{"scope":"s3://data/jobs/x/"}`, "the target"},
		{"/-/v1/locks/take", `{"scope":"s3://data/jobs/","reason":"r"}`, "the operation"},
		{raise, `{"scope":"s3://data/jobs/"}`, "the operation"},
		{"/-/v1/claims", `{"job":"nightly","slot":"1"}`, "the operation"},
	} {
		status, out := post(tc.path, tc.body, "a")
		if tc.names == "the target" {
			assert.Equal(t, http.StatusConflict, status, "that is no scope")
			continue
		}
		assert.Equal(t, http.StatusUnprocessableEntity, status, tc.body)
		assert.Equal(t, "IdempotencyKeyReused", out["code"])
		assert.Contains(t, out["message"], "differs in "+tc.names+". ")
		assert.Contains(t, out["message"], "POST locks/acquire of s3://data/jobs/")
	}
	// How long to wait is no part of what is asked for.
	status, out := post(acquire, `{"scope":"s3://data/jobs/","wait":"1ms"}`, "a")
	require.Equal(t, http.StatusOK, status, out)
	assert.Equal(t, 1.0, out["token"])
	for range 2 {
		status, out := post("/-/v1/locks/take", `{"scope":"s3://data/jobs/","reason":"r"}`, "b")
		require.Equal(t, http.StatusOK, status, out)
		assert.Equal(t, 2.0, out["token"])
	}
	for range 2 { // a mark that rose twice would end the lease of whoever came between
		status, out := post(raise, `{"scope":"s3://data/jobs/","reason":"r"}`, "c")
		require.Equal(t, http.StatusOK, status, out)
		assert.Equal(t, 3.0, out["mark"])
	}
	_, err = w.as("root").AddGuard(t.Context(), client.Guard{Pattern: "s3://data/ext/", Issuer: "external"})
	require.NoError(t, err)
	for range 2 { // and a generation begun twice would make the tokens of the first stale
		status, out := post(reset, `{"scope":"s3://data/ext/","reason":"r"}`, "d")
		require.Equal(t, http.StatusOK, status, out)
		assert.Equal(t, 2.0, out["generation"])
	}
	// A release that is sent again late is answered as the first time, whoever got the
	// lock since. It may be under the key of the acquire.
	const release = "/-/v1/locks/release"
	lease := func(key string) string {
		status, out := post(acquire, body, key)
		require.Equal(t, http.StatusOK, status, out)
		return fmt.Sprintf(`{"scope":"s3://data/jobs/","token":%v}`, out["token"])
	}
	mine := lease("held")
	for range 3 {
		status, out := post(release, mine, "held")
		require.Equal(t, http.StatusOK, status, out)
		_, _ = post(acquire, body, "the next one")
	}
	status, _ = post(release, mine, "of another call")
	assert.Equal(t, http.StatusPreconditionFailed, status)
	status, out = post(release, strings.Replace(mine, `"token":`, `"token":1`, 1), "held")
	assert.Equal(t, http.StatusUnprocessableEntity, status, out)
	// A change of guards that is sent again late does not undo what came since.
	const guards, remove = "/-/v1/guards", "/-/v1/guards?pattern=s3%3A%2F%2Fother%2F"
	change := func(method, path, body, key string) (int, map[string]any) {
		return w.answer(w.sign(method, path, body, sha(body), func(r *http.Request) { r.Header.Set("Idempotency-Key", key) }))
	}
	tokens := func() string {
		list, err := w.as("root").Guards(t.Context())
		require.NoError(t, err)
		for _, g := range list {
			if g.Pattern == "s3://other/" {
				return g.Tokens
			}
		}
		return ""
	}
	status, _ = change("POST", guards, `{"pattern":"s3://other/"}`, "e")
	require.Equal(t, http.StatusOK, status)
	for range 2 {
		status, out = change("PATCH", guards, `{"pattern":"s3://other/","tokens":"optional"}`, "f")
		require.Equal(t, http.StatusOK, status, out)
		assert.Equal(t, "optional", out["tokens"])
		_, err = w.as("root").SetGuard(t.Context(), client.Guard{Pattern: "s3://other/", Tokens: "none"})
		require.NoError(t, err)
	}
	assert.Equal(t, "none", tokens())
	for range 2 {
		status, out = change("DELETE", remove, "", "g")
		require.Equal(t, http.StatusOK, status, out)
	}
	status, _ = change("POST", guards, `{"pattern":"s3://other/"}`, "e")
	require.Equal(t, http.StatusOK, status)
	assert.Empty(t, tokens(), "removed since")
	status, out = change("DELETE", strings.Replace(remove, "other", "data", 1), "", "g")
	require.Equal(t, http.StatusUnprocessableEntity, status, out)

	for _, path := range []string{acquire, "/-/v1/locks/renew", "/-/v1/locks/release", "/-/v1/check", "/-/v1/guards"} {
		for _, key := range []string{"", strings.Repeat("k", 257)} {
			status, out = post(path, body, key)
			assert.Equal(t, http.StatusBadRequest, status)
			assert.Contains(t, out["message"], "Idempotency-Key")
		}
		r := w.sign("POST", path, body, sha(body), nil)
		r.Header["Idempotency-Key"] = []string{"a", "b"}
		status, out = w.answer(r)
		assert.Equal(t, http.StatusBadRequest, status)
		assert.Contains(t, out["message"], "2 times")
	}
}

// JSON numbers: a token is written as a number and taken as either.
func TestTokensInJSON(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: jobs})
	require.NoError(t, err)
	post := func(path, body string) map[string]any {
		status, out := w.answer(w.sign("POST", path, body, sha(body), nil))
		require.Equal(t, http.StatusOK, status, out)
		return out
	}
	out := post("/-/v1/locks/acquire", `{"scope":"s3://data/jobs/","owner":"o","ttl":"1m"}`)
	assert.Equal(t, 1.0, out["token"])
	assert.Equal(t, "1m0s", out["ttl"])
	post("/-/v1/locks/renew", `{"scope":"s3://data/jobs/","token":"1"}`)
	post("/-/v1/locks/renew", `{"scope":"s3://data/jobs/","token":1}`)
	body := `{"scope":"s3://data/jobs/"}`
	_, out = w.answer(w.sign("POST", "/-/v1/locks/acquire", body, sha(body), nil))
	holder := out["holder"].(map[string]any)
	assert.Equal(t, 1.0, holder["token"])
	assert.Equal(t, "o", holder["owner"])
}

// F9: without the state nothing is granted, and the answer says that nothing
// happened.
func TestStateUnreachable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: jobs})
	require.NoError(t, err)
	down := errors.New("connection refused")
	w.fault.Store(&down)
	_, err = w.as("ann").Acquire(t.Context(), client.Acquisition{Scope: jobs})
	require.ErrorIs(t, err, client.ErrUnavailable)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "ServiceUnavailable", e.Code)
}

type panicking struct{ lockapi.Locks }

func (panicking) Acquire(context.Context, locks.Request) (locks.Lease, error) { panic("oh no") }

func TestPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *lockapi.Options) { o.Locks = panicking{} })
	_, err := w.as("ann").Acquire(t.Context(), client.Acquisition{Scope: jobs})
	require.ErrorIs(t, err, client.ErrUnknownOutcome)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "InternalError", e.Code)
	assert.NotContains(t, e.Message, "oh no")
	assert.Contains(t, w.log.String(), "oh no")
	assert.Contains(t, w.log.String(), e.RequestID)
}

func TestClockSkewIsToldToTheClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.as("ann", client.WithClock(func() time.Time { return time.Now().Add(-time.Hour) })).Guards(t.Context())
	require.ErrorIs(t, err, client.ErrDenied)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, string(sigv4.CodeRequestTimeTooSkewed), e.Code)
}

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
