package client_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

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

	_, err = at(t, answers(412, `{"code":"StaleFencingToken","highest":9}`)).Credentials(t.Context(), jobs, 7)
	require.ErrorIs(t, err, client.ErrStale)
	// Without a session token nothing would be fenced.
	_, err = at(t, answers(200, `{"AccessKeyId":"AK","SecretAccessKey":"SK"}`)).Credentials(t.Context(), jobs, 7)
	require.ErrorIs(t, err, client.ErrUnreachable)
}
