package main

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// What a shell makes of the lines is what was meant, whatever is in a scope's name.
func TestExports(t *testing.T) {
	t.Parallel()
	const scope = "s3://data/it's $HOME `id` \"x\" \\ \n ü/"
	env := fencedEnv(t.Context(), "http://127.0.0.1:9000/", "eu-1", scope, 34, client.Credentials{AccessKeyID: "AK", SecretAccessKey: "se_c-ret", SessionToken: "to_k-en"})
	var lines bytes.Buffer
	require.NoError(t, printExports(&lines, env))
	sh := exec.CommandContext(t.Context(), "/bin/sh", "-c", `eval "$1"; env -0`, "sh", lines.String())
	sh.Env = []string{"PATH=/usr/bin:/bin", "AWS_PROFILE=prod", "AWS_CREDENTIAL_EXPIRATION=2020-01-01T00:00:00Z", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true"}
	out, err := sh.Output()
	require.NoError(t, err)
	got := strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
	for _, want := range env {
		assert.Contains(t, got, want)
	}
	for _, v := range got {
		name, _, _ := strings.Cut(v, "=")
		assert.NotContains(t, fencedDrops, name)
	}
	for _, want := range []string{
		"AWS_ACCESS_KEY_ID=AK", "AWS_SECRET_ACCESS_KEY=se_c-ret", "AWS_SESSION_TOKEN=to_k-en", "AWS_ENDPOINT_URL_S3=http://127.0.0.1:9000/",
		"AWS_REGION=eu-1", "AWS_DEFAULT_REGION=eu-1", "S3FENCE_TOKEN=34", "S3FENCE_SCOPE=" + scope,
		"RCLONE_CONFIG_S3FENCE_TYPE=s3", "RCLONE_CONFIG_S3FENCE_SESSION_TOKEN=to_k-en", "MC_HOST_s3fence=http://AK:se_c-ret:to_k-en@127.0.0.1:9000",
	} {
		assert.Contains(t, env, want)
	}
	assert.False(t, slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "AWS_ENDPOINT_URL=") }), "other services are not here")
}

// SDKs put a bucket before a host that is a name.
func TestNumericEndpoint(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"http://localhost:9000":       "http://127.0.0.1:9000",
		"http://localhost":            "http://127.0.0.1:80",
		"http://10.0.0.7:9000":        "http://10.0.0.7:9000",
		"http://[::1]:9000":           "http://[::1]:9000",
		"https://localhost:9000":      "https://localhost:9000", // its certificate is for the name
		"http://no-such-host.invalid": "http://no-such-host.invalid",
		"nonsense":                    "nonsense",
	} {
		assert.Equal(t, want, numericEndpoint(t.Context(), endpoint), endpoint)
	}
}
