package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/s3fence/s3fence/client"
)

// What the environment had of other credentials is gone, the rest stays, and no name
// stands twice: programs differ in which of two they take.
func TestCommandEnv(t *testing.T) {
	t.Parallel()
	base := []string{
		"PATH=/bin", "AWS_CA_BUNDLE=/ca", "AWS_CONFIG_FILE=/c", "AWS_SHARED_CREDENTIALS_FILE=/s", "AWS_MAX_ATTEMPTS=1", "EMPTY=", "=strange",
		"AWS_PROFILE=prod", "AWS_ACCESS_KEY_ID=old", "AWS_ACCESS_KEY=old", "AWS_SECRET_KEY=old", "AWS_SECURITY_TOKEN=old", "AWS_SESSION_TOKEN=old",
		"AWS_CREDENTIAL_EXPIRATION=2020-01-01T00:00:00Z", "AWS_WEB_IDENTITY_TOKEN_FILE=/w", "AWS_ROLE_ARN=r", "AWS_ROLE_SESSION_NAME=n",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://x", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x", "AWS_CONTAINER_AUTHORIZATION_TOKEN=x",
		"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true", "S3FENCE_TOKEN=1", "S3FENCE_SCOPE=s3://other/", "MC_HOST_s3fence=old", "RCLONE_CONFIG_S3FENCE_ENDPOINT=old",
	}
	s := service{nil, "http://10.0.0.7:9000", "eu-1"}
	env := commandEnv(t.Context(), base, s, "s3://data/jobs/", 34, client.Credentials{AccessKeyID: "AK", SecretAccessKey: "SK", SessionToken: "ST"})
	got := map[string]string{}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		if name != "" {
			assert.NotContains(t, got, name, "%s stands twice", name)
		}
		got[name] = value
	}
	for _, kept := range base[:7] {
		assert.Contains(t, env, kept)
	}
	for _, v := range env {
		assert.NotContains(t, v, "old")
	}
	for _, name := range fencedDrops {
		assert.NotContains(t, got, name)
	}
	assert.Equal(t, "AK", got["AWS_ACCESS_KEY_ID"])
	assert.Equal(t, "34", got["S3FENCE_TOKEN"])
	assert.Equal(t, "s3://data/jobs/", got["S3FENCE_SCOPE"])
	assert.Equal(t, "http://AK:SK:ST@10.0.0.7:9000", got["MC_HOST_s3fence"])
}

// A proxy on the same machine may take its configuration from the environment. Its
// secrets end there; what the client's commands and the tests read goes on.
func TestCommandEnvHasNoSecretsOfTheProxy(t *testing.T) {
	t.Parallel()
	base := []string{
		"S3FENCE_SESSION_SECRET=marked", "S3FENCE_SESSION_SECRETS_ACCEPTED__0=marked", "S3FENCE_SESSION_SECRET_FILE=/marked",
		"S3FENCE_STATE=postgres://s3fence:marked@db/fence", "S3FENCE_UPSTREAMS__MAIN__SECRET_KEY=marked", "S3FENCE_UPSTREAMS__MAIN__ACCESS_KEY=marked",
		"S3FENCE_CREDENTIALS__0__SECRET_KEY=marked", "S3FENCE_CREDENTIALS__0__SECRET_KEY_FILE=/marked", "S3FENCE_NO_SUCH_KEY=marked",
		"S3FENCE_CONFIG=/etc/s3fence.yaml", "S3FENCE_CACHE=/c", "S3FENCE_SERVICE_HOST=10.0.0.1", "S3FENCEX=1", "PATH=/bin",
	}
	env := commandEnv(t.Context(), base, service{nil, "http://10.0.0.7:9000", "eu-1"}, "s3://data/jobs/", 34, client.Credentials{})
	assert.Subset(t, env, base[9:])
	for _, v := range env {
		assert.NotContains(t, v, "marked")
	}
}

// An address that stands for a name goes past the proxy that the name goes past.
func TestPastProxy(t *testing.T) {
	for _, name := range []string{"NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	const name, at = "http://fence.internal:9000", "http://10.0.0.7:9000"
	assert.Empty(t, pastProxy(name, at), "there is no proxy")
	t.Setenv("HTTP_PROXY", "http://proxy:3128")
	assert.Empty(t, pastProxy(name, at), "both take it")
	t.Setenv("NO_PROXY", ".internal,localhost")
	want := []string{"NO_PROXY=.internal,localhost,10.0.0.7", "no_proxy=.internal,localhost,10.0.0.7"}
	assert.Equal(t, want, pastProxy(name, at))
	assert.Empty(t, pastProxy(name, name), "the name stays")
	t.Setenv("no_proxy", ".internal,localhost,10.0.0.0/8")
	assert.Empty(t, pastProxy(name, at), "neither takes it")
}
