package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/client"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(int) { http.DefaultTransport.(*http.Transport).CloseIdleConnections() }))
}

const jobs = "s3://data/jobs/"

func TestNew(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, endpoint, key, secret, says string }{
		{"no scheme", "127.0.0.1:9000", "k", "s", "http://127.0.0.1:9000"},
		{"other scheme", "s3://data/", "k", "s", "is not a URL"},
		{"path", "http://host/data", "k", "s", "no path"},
		{"no key", "http://host", "", "s", "access key"},
		{"no secret", "http://host", "k", "", "secret key"},
	} {
		_, err := client.New(tc.endpoint, tc.key, tc.secret)
		require.ErrorIs(t, err, client.ErrInvalid, tc.name)
		require.ErrorContains(t, err, tc.says, tc.name)
	}
	_, err := client.New("http://user:hunter2@host/", "k", "s")
	require.NotContains(t, err.Error(), "hunter2")
	_, err = client.New("http://host:9000/", "k", "s")
	require.NoError(t, err)
}

func at(t *testing.T, h http.HandlerFunc) *client.Client {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := client.New(srv.URL, "k", "s")
	require.NoError(t, err)
	return c
}

func answers(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   error
		says   string
	}{
		{"held", 409, `{"code":"LockHeld","message":"m","holder":{"owner":"ann","token":7}}`, client.ErrHeld, "m"},
		{"lost", 412, `{"code":"LockLost","message":"m","highest":9}`, client.ErrLost, "m"},
		{"stale", 412, `{"code":"StaleFencingToken"}`, client.ErrStale, "StaleFencingToken (HTTP 412)"},
		{"no guard", 404, `{"code":"NoSuchGuard"}`, client.ErrNoSuchGuard, ""},
		{"overlap", 409, `{"code":"ScopeOverlap"}`, client.ErrConflict, ""},
		{"other holder", 403, `{"code":"OtherHolder"}`, client.ErrDenied, ""},
		{"bad", 400, `{"code":"InvalidArgument"}`, client.ErrInvalid, ""},
		{"not built", 501, `{"code":"NotImplemented"}`, client.ErrInvalid, ""},
		{"down", 503, `{"code":"ServiceUnavailable"}`, client.ErrUnavailable, ""},
		{"unknown", 504, `{"code":"OutcomeUnknown"}`, client.ErrUnknownOutcome, ""},
		{"internal", 500, `{"code":"InternalError"}`, client.ErrUnknownOutcome, ""},
		{"a gateway's page", 502, `<html>`, client.ErrUnreachable, "does not answer as s3fence"},
		{"something else's page", 200, `<html>`, client.ErrUnreachable, "does not answer as s3fence"},
		{"something else's JSON", 200, `{"ok":true}`, client.ErrUnreachable, "without a token"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := at(t, answers(tc.status, tc.body)).Renew(t.Context(), jobs, 1, 0)
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	endpoint := "http://" + l.Addr().String()
	require.NoError(t, l.Close())
	c, err := client.New(endpoint, "k", "s")
	require.NoError(t, err)
	_, err = c.Guards(t.Context())
	require.ErrorIs(t, err, client.ErrUnreachable)
	require.ErrorContains(t, err, endpoint)
}

// A redirect is not followed: it would carry a signed request to another host.
func TestRedirect(t *testing.T) {
	t.Parallel()
	followed := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer other.Close()
	c := at(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	require.ErrorIs(t, c.Release(t.Context(), jobs, 1), client.ErrUnreachable)
	assert.False(t, followed)
}

// The service waits 50 s at most; the client asks again for as long as its own
// wait lasts, and counts the lease from before the call that got it.
func TestLongWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var waits []string
		c, err := client.New("http://s3fence.test", "k", "s", client.WithHTTPClient(&http.Client{Transport: service(func(r *http.Request) (int, string) {
			var body struct{ Wait string }
			_ = json.NewDecoder(r.Body).Decode(&body)
			waits = append(waits, body.Wait)
			wait, _ := time.ParseDuration(body.Wait)
			if time.Since(start) >= 100*time.Second {
				return 200, `{"scope":"s3://data/jobs/","token":7,"ttl":"30s","expires_in_ms":30000}`
			}
			time.Sleep(wait)
			return 409, `{"code":"LockHeld","holder":{"owner":"ann","token":6}}`
		})}))
		require.NoError(t, err)
		l, err := c.Acquire(t.Context(), client.Acquisition{Scope: jobs, Wait: 2 * time.Minute})
		require.NoError(t, err)
		assert.Equal(t, int64(7), l.Token)
		assert.Equal(t, []string{"50s", "50s", "20s"}, waits)
		assert.Equal(t, start.Add(130*time.Second), l.Deadline)

		waits, start = nil, time.Now()
		_, err = c.Acquire(t.Context(), client.Acquisition{Scope: jobs, Wait: time.Minute})
		require.ErrorIs(t, err, client.ErrHeld)
		assert.Equal(t, []string{"50s", "10s"}, waits)
	})
}

// service answers without a network.
type service func(*http.Request) (int, string)

func (f service) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := f(r)
	w := httptest.NewRecorder()
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, body)
	return w.Result(), nil
}

// What is sent is signed as the service asks for, and bounded in time.
func TestRequest(t *testing.T) {
	t.Parallel()
	c := at(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/-/v1/locks/renew", r.URL.Path)
		assert.Contains(t, r.Header.Get("Authorization"), "/eu-north-1/s3/aws4_request")
		assert.Len(t, r.Header.Get("X-Amz-Content-Sha256"), 64)
		assert.Equal(t, "tok", r.Header.Get("X-Amz-Security-Token"))
		answers(412, `{"code":"LockLost"}`)(w, r)
	})
	client.WithRegion("eu-north-1")(c)
	client.WithSessionToken("tok")(c)
	_, err := c.Renew(t.Context(), jobs, 1, time.Second)
	require.ErrorIs(t, err, client.ErrLost)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Renew(ctx, jobs, 1, time.Second)
	require.ErrorIs(t, err, context.Canceled)
}
