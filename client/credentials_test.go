package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

func TestCredentials(t *testing.T) {
	t.Parallel()
	const whole = `{"Version":1,"AccessKeyId":"AK","SecretAccessKey":"SK","SessionToken":"ST","Expiration":"2026-01-02T03:04:05Z","scope":"s3://data/jobs/","token":7}`
	c, err := at(t, func(w http.ResponseWriter, r *http.Request) {
		var asked map[string]any
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&asked))
		assert.Equal(t, "/-/v1/credentials", r.URL.Path)
		assert.Equal(t, map[string]any{"scope": "s3://data/jobs/?generation=2", "token": 7.0}, asked)
		answers(200, whole)(w, r)
	}).Credentials(t.Context(), "s3://data/jobs/?generation=2", 7)
	require.NoError(t, err)
	assert.Equal(t, client.Credentials{AccessKeyID: "AK", SecretAccessKey: "SK", SessionToken: "ST", Expiration: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, c)

	for name, tc := range map[string]struct {
		status int
		body   string
		want   error
	}{
		"stale":           {412, `{"code":"StaleFencingToken"}`, client.ErrStale},
		"never granted":   {400, `{"code":"InvalidFencingToken"}`, client.ErrInvalid},
		"half an answer":  {200, `{"AccessKeyId":"a","SecretAccessKey":"s"}`, client.ErrUnreachable},
		"something else":  {200, `{}`, client.ErrUnreachable},
		"an older server": {501, `{"code":"NotImplemented"}`, client.ErrInvalid},
	} {
		_, err := at(t, answers(tc.status, tc.body)).Credentials(t.Context(), jobs, 7)
		require.ErrorIs(t, err, tc.want, name)
	}
}

func TestHeldCredentials(t *testing.T) {
	t.Parallel()
	get := func(t *testing.T, h *client.Held) aws.Credentials {
		t.Helper()
		c, err := h.Credentials().Retrieve(t.Context())
		require.NoError(t, err)
		return c
	}
	bubble(t, "fetched once, for all who ask, and anew before they end", func(t *testing.T, f *fake) {
		h := f.hold(t)
		assert.Empty(t, f.calls("credentials"), "nobody asked yet")
		done := make(chan aws.Credentials)
		for range 10 {
			go func() { done <- get(t, h) }()
		}
		for range 10 {
			c := <-done
			assert.Equal(t, "fenced", c.AccessKeyID)
			assert.Equal(t, "secret-1", c.SecretAccessKey)
			assert.Equal(t, "sealed", c.SessionToken)
		}
		assert.Equal(t, int64(7), f.last("credentials").body.Token)
		assert.Equal(t, jobs, f.last("credentials").body.Scope)
		for range 3 * 60 {
			time.Sleep(time.Minute)
			get(t, h)
		}
		at := f.calls("credentials")
		assert.GreaterOrEqual(t, len(at), 4)
		assert.LessOrEqual(t, len(at), 4, "every 55 to 58 minutes of 180")
	})
	bubble(t, "expire no later than the lease, so that caches ask again", func(t *testing.T, f *fake) {
		h := f.hold(t)
		cache := aws.NewCredentialsCache(h.Credentials())
		for range 200 {
			c, err := cache.Retrieve(t.Context())
			require.NoError(t, err)
			require.False(t, c.Expired())
			assert.LessOrEqual(t, time.Until(c.Expires), lasts)
			time.Sleep(time.Second)
		}
		f.sleep(time.Hour)
		time.Sleep(lasts)
		_, err := cache.Retrieve(t.Context())
		require.ErrorIs(t, err, client.ErrMaybeLost)
	})
	bubble(t, "none once the hold has ended", func(t *testing.T, f *fake) {
		h := f.hold(t)
		get(t, h)
		f.sleep(time.Hour)
		_, err := h.Credentials().Retrieve(t.Context())
		require.ErrorIs(t, err, client.ErrMaybeLost, "asking looks at the clock")
		assert.Len(t, f.calls("credentials"), 1)

		h = f.hold(t)
		require.NoError(t, h.Release(t.Context()))
		_, err = h.Credentials().Retrieve(t.Context())
		require.ErrorIs(t, err, client.ErrReleased)
	})
	bubble(t, "none when it ends while they are fetched", func(t *testing.T, f *fake) {
		h := f.hold(t)
		f.on("credentials", func(int) answer {
			a := answer{status: 200, body: `{"AccessKeyId":"a","SecretAccessKey":"s","SessionToken":"t","Expiration":"2100-01-01T00:00:00Z"}`}
			a.after = time.Second
			return a
		})
		time.AfterFunc(time.Second/2, func() { f.sleep(time.Hour) })
		_, err := h.Credentials().Retrieve(t.Context())
		require.ErrorIs(t, err, client.ErrMaybeLost)
	})
	bubble(t, "a stale token ends the hold at once", func(t *testing.T, f *fake) {
		h := f.hold(t)
		f.on("credentials", func(int) answer {
			return answer{status: 412, body: `{"code":"StaleFencingToken","message":"8 was granted to bob"}`}
		})
		_, err := h.Credentials().Retrieve(t.Context())
		require.ErrorIs(t, err, client.ErrLost)
		require.ErrorIs(t, context.Cause(h.Context()), client.ErrLost)
		require.ErrorIs(t, context.Cause(h.Context()), client.ErrStale)
		assert.Zero(t, f.since())
	})
	bubble(t, "through an outage", func(t *testing.T, f *fake) {
		h := f.hold(t)
		f.on("credentials", func(int) answer {
			if f.since() < 8*time.Second {
				return unavailable
			}
			return f.credentials()
		})
		get(t, h)
		assert.GreaterOrEqual(t, f.since(), 8*time.Second)
		f.on("credentials", func(int) answer { return answer{err: errRefused} })
		time.Sleep(59 * time.Minute)
		before := f.since()
		assert.Equal(t, "fenced", get(t, h).AccessKeyID, "those that there are go on")
		assert.Equal(t, 15*time.Second, (f.since() - before).Round(time.Second))
		before = f.since()
		get(t, h)
		assert.Equal(t, before, f.since(), "and nobody waits for the service each time")
	})
	bubble(t, "an outage at the first", func(t *testing.T, f *fake) {
		h := f.hold(t)
		f.on("credentials", func(int) answer { return answer{never: true} })
		_, err := h.Credentials().Retrieve(t.Context())
		require.ErrorIs(t, err, client.ErrUnreachable)
		assert.Equal(t, 15*time.Second, f.since())
		require.NoError(t, h.Context().Err())

		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("enough"))
		defer cancel()
		_, err = h.Credentials().Retrieve(ctx)
		require.Error(t, err)
		assert.Equal(t, 16*time.Second, f.since(), "a caller waits as long as it likes")
		require.NoError(t, h.Release(t.Context()))
		synctest.Wait()
	})
	bubble(t, "denied", func(t *testing.T, f *fake) {
		h := f.hold(t)
		f.on("credentials", func(int) answer { return answer{status: 403, body: `{"code":"AccessDenied"}`} })
		_, err := h.Credentials().Retrieve(t.Context())
		require.ErrorIs(t, err, client.ErrDenied)
		assert.Zero(t, f.since(), "asking again cannot help")
		require.NoError(t, h.Context().Err())
	})
	bubble(t, "of a later generation", func(t *testing.T, f *fake) {
		f.on("renew", func(int) answer {
			return answer{status: 200, body: `{"scope":"s3://data/jobs/","token":7,"generation":2,"ttl":"30s","expires_in_ms":30000}`}
		})
		h := f.hold(t)
		get(t, h)
		assert.Equal(t, jobs+"?generation=2", f.last("credentials").body.Scope)
	})
}
