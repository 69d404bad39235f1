package lockapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/eventlog"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/lockapi"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/session"
	"github.com/s3fence/s3fence/internal/sigv4"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	}))
}

// source lets the verifier ask the ring for secrets.
type source struct{ *session.Ring }

func (s source) Lookup(ctx context.Context, accessKey, sessionToken string) (string, error) {
	key, err := s.SecretKey(ctx, accessKey, sessionToken)
	switch {
	case errors.Is(err, auth.ErrUnknownKey):
		return "", sigv4.ErrUnknownKey
	case errors.Is(err, auth.ErrExpired):
		return "", sigv4.ErrExpiredSession
	case err != nil:
		return "", sigv4.ErrBadSessionToken
	}
	return key, nil
}

// empty is a store without objects.
type empty struct{}

func (empty) Adopt(context.Context, fence.Guard, func(int)) (int, error) { return 0, nil }

func (empty) Plain(context.Context, fence.Guard) (object.Ref, bool, error) {
	return object.Ref{}, false, nil
}

// world is the API over a state in memory, with clients of several rights.
type world struct {
	t   testing.TB
	url string
	// handler is what is served at url.
	handler http.Handler
	state   *memory.Store
	ring    *session.Ring
	told    *eventlog.Log
	skew    atomic.Int64 // of the database's clock
	aged    atomic.Int64 // by how much the proxy's clock has gone on for sessions
	fault   atomic.Pointer[error]
	log     bytes.Buffer
}

func newWorld(t testing.TB, change ...func(*lockapi.Options)) *world {
	t.Helper()
	w := &world{t: t}
	w.state = memory.New(
		memory.WithClock(func() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) }),
		memory.WithFaults(func(memory.Stage) error {
			if e := w.fault.Load(); e != nil {
				return *e
			}
			return nil
		}))
	list := guards.NewList(w.state, uuid.New(), time.Minute, guards.ListOptions{})
	require.NoError(t, list.Refresh(t.Context()))
	w.told = eventlog.New(w.state, eventlog.Options{})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		w.told.Close(ctx)
	})
	admin := guards.NewAdmin(w.state, empty{}, time.Minute, guards.AdminOptions{Refresh: list.Refresh, Observer: w.told})
	keys, err := auth.NewKeyring([]auth.Credential{
		{AccessKey: "root", SecretKey: "root-secret", Grants: []auth.Grant{{Bucket: auth.Anywhere, Rights: auth.All}}},
		{AccessKey: "ann", SecretKey: "ann-secret", Grants: []auth.Grant{{Bucket: "data", Prefix: "jobs/", Rights: auth.Lock | auth.Write}}},
		{AccessKey: "bob", SecretKey: "bob-secret", Grants: []auth.Grant{{Bucket: "data", Rights: auth.Lock}}},
		{AccessKey: "eve", SecretKey: "eve-secret", Grants: []auth.Grant{{Bucket: "other", Rights: auth.All}}},
		{AccessKey: "kim", SecretKey: "kim-secret", Grants: []auth.Grant{{Bucket: "data", Rights: auth.Read}}},
	})
	require.NoError(t, err)
	w.ring, err = session.New(keys, session.Options{Deployment: "test", Now: func() time.Time { return time.Now().Add(time.Duration(w.aged.Load())) }})
	require.NoError(t, err)
	o := lockapi.Options{
		Verifier:   sigv4.NewVerifier(sigv4.Options{Credentials: source{w.ring}}),
		Principals: w.ring,
		Sessions:   w.ring,
		Locks:      locks.New(w.state, list, locks.Options{Observer: w.told}),
		Guards:     admin,
		Events:     w.told,
		Logger:     slog.New(slog.NewTextHandler(&w.log, nil)),
	}
	for _, f := range change {
		f(&o)
	}
	w.handler = lockapi.New(o)
	srv := httptest.NewServer(w.handler)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	return w
}

func (w *world) as(name string, opts ...client.Option) *client.Client {
	w.t.Helper()
	c, err := client.New(w.url, name, name+"-secret", opts...)
	require.NoError(w.t, err)
	return c
}

// raw sends a request as it is and returns status and body.
func (w *world) raw(method, path, body string, header ...string) (int, string, http.Header) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, bytes.NewBufferString(body))
	require.NoError(w.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	return resp.StatusCode, string(b), resp.Header
}
