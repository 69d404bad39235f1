package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What ends well says so in JSON where it was asked to, under the names of the API.
func TestEndsInJSON(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	const scope = "s3://demo/json/"
	answer := func(code int, args ...string) map[string]any {
		t.Helper()
		r := p.cli(append(args, "--json")...)
		require.Equal(t, code, r.code, "%v: %s", args, r.err)
		var out map[string]any
		require.NoError(t, json.Unmarshal([]byte(r.out), &out), r.out)
		return out
	}
	old := answer(0, "lock", "acquire", scope)
	assert.InDelta(t, 30_000, old["expires_in_ms"], 10_000)
	assert.Equal(t, map[string]any{"scope": scope, "token": 1.0, "released": true}, answer(0, "lock", "release", scope, "--token", "1"))
	answer(0, "lock", "take", scope, "--reason", "test")
	assert.Equal(t, map[string]any{"scope": scope, "token": 1.0, "highest": 2.0, "stale": true}, answer(4, "check", scope, "--token", "1"))
	assert.Equal(t, map[string]any{"scope": scope, "token": 2.0, "highest": 2.0, "stale": false}, answer(0, "check", scope, "--token", "2"))
	answer(0, "lock", "block", scope, "--for", "1m", "--reason", "test")
	assert.Equal(t, map[string]any{"scope": scope, "blocked": false}, answer(0, "lock", "unblock", scope))
	assert.Equal(t, map[string]any{"scope": scope, "blocked": false}, answer(0, "lock", "unblock", scope))
	assert.Equal(t, map[string]any{"pattern": "s3://demo/*/", "removed": true}, answer(0, "guard", "remove", "s3://demo/*/"))
}

// A guard on a bucket that is not there is a typo: the bucket is named, and nobody is
// sent to look at the database.
func TestGuardOnNoBucket(t *testing.T) {
	t.Parallel()
	r := newPlayground(t).cli("guard", "add", "s3://nobucket/jobs/")
	assert.Equal(t, 1, r.code)
	assert.Equal(t, "s3fence: the existing objects cannot be taken in: guard s3://nobucket/jobs/ was not added: no such bucket at the store: nobucket; create it first\n", r.err)
}

// Who looks at a scope that nobody is granted is told why, and for how long.
func TestScopeShowTellsOfTheDelay(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	const scope = "s3://demo/delay/"
	require.Equal(t, 0, p.cli("guard", "set", "s3://demo/*/", "--lock-delay", "1h").code)
	require.Equal(t, 0, p.cli("lock", "acquire", scope, "--ttl", "1s").code)
	require.Equal(t, 3, p.cli("lock", "acquire", scope, "--wait", "1500ms").code)
	assert.Contains(t, p.cli("scope", "show", scope).out, "nobody, and granted to nobody for ")
	assert.Regexp(t, `"delay_ms": 3[56]\d{5},`, p.cli("scope", "show", scope, "--json").out)
}
