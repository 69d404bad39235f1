package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// The endpoint of credentials tells nothing to who does not send its token, and
// errors as SDKs read them.
func TestCredentialsHandler(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	good := func(context.Context) (client.Credentials, error) {
		return client.Credentials{AccessKeyID: "AK", SecretAccessKey: "SK", SessionToken: "ST", Expiration: at}, nil
	}
	fails := func(err error) func(context.Context) (client.Credentials, error) {
		return func(context.Context) (client.Credentials, error) { return client.Credentials{}, err }
	}
	for _, tc := range []struct {
		name, method, path, token string
		fetch                     func(context.Context) (client.Credentials, error)
		status                    int
		code                      string
	}{
		{"good", "GET", "/", "secret", good, 200, ""},
		{"no token", "GET", "/", "", good, 403, "AccessDenied"},
		{"another token", "GET", "/", "secreT", good, 403, "AccessDenied"},
		{"a part of it", "GET", "/", "secre", good, 403, "AccessDenied"},
		{"more than it", "GET", "/", "secrets", good, 403, "AccessDenied"},
		{"other method", "POST", "/", "secret", good, 404, "NotFound"},
		{"other path", "GET", "/x", "secret", good, 404, "NotFound"},
		{"stale", "GET", "/", "secret", fails(&client.Error{Status: 412, Code: "StaleFencingToken", Message: "stale"}), 412, "StaleFencingToken"},
		{"unreachable", "GET", "/", "secret", fails(fmt.Errorf("%w: x", client.ErrUnreachable)), 502, "ServiceUnreachable"},
		{"other", "GET", "/", "secret", fails(errors.New("x")), 502, "ServiceUnreachable"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, nil)
		r.Header.Set("Authorization", tc.token)
		w := httptest.NewRecorder()
		credentialsHandler("secret", tc.fetch).ServeHTTP(w, r)
		assert.Equal(t, tc.status, w.Code, tc.name)
		var got map[string]string
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got), tc.name)
		assert.Equal(t, tc.code, got["code"], tc.name)
		if tc.status == http.StatusOK {
			assert.Equal(t, map[string]string{"AccessKeyId": "AK", "SecretAccessKey": "SK", "Token": "ST", "Expiration": "2026-01-02T02:04:05Z"}, got)
		} else {
			assert.NotContains(t, w.Body.String(), "SK")
		}
	}
}

func TestCredentialsUsage(t *testing.T) {
	t.Parallel()
	const scope = "s3://data/jobs/"
	nobody := []string{"S3FENCE_ENDPOINT=http://" + closedPort(t), "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}
	for _, tc := range []struct {
		name string
		args []string
		env  []string
		code int
		err  string
	}{
		{"no scope", nil, nil, 2, `takes other arguments: s3fence credentials SCOPE`},
		{"no token", []string{scope}, nobody, 2, `no token is named`},
		{"bad token", []string{scope, "--token", "-1"}, nobody, 2, `not a fencing token`},
		{"no endpoint", []string{scope, "--token", "1"}, nil, 2, `no proxy is named`},
		{"nobody there", []string{scope, "--token", "1"}, nobody, 5, `service unreachable`},
		{"token of the environment", []string{scope}, append(nobody, "S3FENCE_TOKEN=7"), 5, `service unreachable`},
		{"two forms", []string{scope, "--token", "1", "--env", "--listen", "127.0.0.1:0"}, nobody, 2, `exclude each other`},
		{"listen to everybody", []string{scope, "--token", "1", "--listen", ":0"}, nobody, 2, `not a loopback address`},
		{"listen to others", []string{scope, "--token", "1", "--listen", "0.0.0.0:0"}, nobody, 2, `not a loopback address`},
		{"listen to a name", []string{scope, "--token", "1", "--listen", "example.com:80"}, nobody, 2, `not a loopback address`},
		{"listen to nothing", []string{scope, "--token", "1", "--listen", "here"}, nobody, 2, `not HOST:PORT`},
		{"no profile", []string{scope, "--token", "1", "--profile", "none"}, nobody, 1, `none`},
		{"acquire in two forms", []string{"acquire", scope, "--env", "--json"}, nobody, 2, `exclude each other`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"credentials"}, tc.args...)
			if len(tc.args) > 0 && tc.args[0] == "acquire" {
				args[0] = "lock"
			}
			r := call(t, t.TempDir(), tc.env, args...)
			assert.Equal(t, tc.code, r.code, r.err)
			assert.Regexp(t, tc.err, r.err)
			assert.Empty(t, r.out)
		})
	}
}

// A lock whose credentials cannot be had is given back: nobody would know of it.
func TestAcquireWithoutCredentials(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var calls []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, r.URL.Path)
		switch r.URL.Path {
		case "/-/v1/credentials":
			w.WriteHeader(http.StatusPreconditionFailed)
			_, _ = w.Write([]byte(`{"code":"StaleFencingToken","message":"token 7 is stale"}`))
		default:
			_, _ = w.Write([]byte(`{"scope":"s3://data/jobs/","token":7,"ttl":"30s","expires_in_ms":30000}`))
		}
	}))
	defer srv.Close()
	r := call(t, t.TempDir(), []string{"S3FENCE_ENDPOINT=" + srv.URL, "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}, "lock", "acquire", "--env", "s3://data/jobs/")
	assert.Equal(t, 4, r.code, r.err)
	assert.Equal(t, "s3fence: token 7 is stale\n", r.err)
	assert.Empty(t, r.out)
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []string{"/-/v1/locks/acquire", "/-/v1/credentials", "/-/v1/locks/release"}, calls)
}

// A profile that gets its credentials from this very command is told so, once,
// and starts no chain of processes.
func TestCredentialProcessOfItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	require.NoError(t, os.WriteFile(file, []byte("[default]\ncredential_process = "+binary+" credentials s3://data/jobs/ --token 1\n"), 0o600))
	r := call(t, dir, []string{"AWS_CONFIG_FILE=" + file, "S3FENCE_ENDPOINT=http://" + closedPort(t)}, "credentials", "s3://data/jobs/", "--token", "1")
	assert.Equal(t, 1, r.code, r.err)
	assert.Contains(t, r.err, "is s3fence credentials itself: name the profile of the credentials that ask with --profile")
	assert.Empty(t, r.out)
}
