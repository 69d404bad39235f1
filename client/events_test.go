package client_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// A query travels in the words of the interface, and an answer comes back whole.
func TestEvents(t *testing.T) {
	t.Parallel()
	var asked string
	c := at(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path + "?" + r.URL.Query().Encode()
		answers(200, `{"events":[{"id":8,"time":"2026-01-02T03:04:05.000006Z","kind":"refused","scope":"s3://data/jobs/","bucket":"data","key":"jobs/a",
			"token":1,"highest":2,"owner":"bob","access_key":"ann","operation":"PutObject","access":"write","code":"StaleFencingToken","after_ms":3200,
			"count":7,"span_ms":50,"suppressed":true,"of_a_later_version":1}],"next":9}`)(w, r)
	})
	for want, q := range map[string]client.EventQuery{
		"/-/v1/events?": {Latest: true},
		"/-/v1/events?limit=50&prefix=s3%3A%2F%2Fdata%2Fa+b%2F": {Latest: true, Limit: 50, Prefix: "s3://data/a b/"},
		"/-/v1/events?after=0": {},
		"/-/v1/events?after=7&kind=grant%2Crefused&since=2026-01-02T03%3A04%3A05Z&wait=20s": {
			After: 7, Kinds: []string{client.EventGranted, client.EventRefused}, Wait: client.MaxEventWait,
			Since: time.Date(2026, 1, 2, 4, 4, 5, 0, time.FixedZone("", 3600)),
		},
	} {
		list, next, err := c.Events(t.Context(), q)
		require.NoError(t, err)
		assert.Equal(t, want, asked)
		assert.Equal(t, int64(9), next)
		require.Len(t, list, 1)
		e := list[0]
		assert.True(t, e.WouldCorrupt())
		assert.Equal(t, client.Event{
			ID: 8, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Kind: client.EventRefused, Scope: "s3://data/jobs/", Bucket: "data", Key: "jobs/a",
			Token: 1, Highest: 2, Owner: "bob", AccessKey: "ann", Operation: "PutObject", Access: "write", Code: "StaleFencingToken", AfterMS: 3200,
			Count: 7, SpanMS: 50, Suppressed: true,
		}, e)
	}
	for _, e := range []client.Event{
		{Kind: client.EventRefused, Access: "read", Code: "StaleFencingToken"}, {Kind: client.EventRefused, Access: "stage", Code: "StaleFencingToken"},
		{Kind: client.EventRefused, Access: "write", Code: "MissingFencingToken"}, {Kind: client.EventGranted},
	} {
		assert.False(t, e.WouldCorrupt(), "%+v", e)
	}
	for _, q := range []client.EventQuery{{Latest: true, After: 1}, {Latest: true, Wait: time.Second}} {
		_, _, err := c.Events(context.Background(), q)
		require.ErrorIs(t, err, client.ErrInvalid)
	}
	_, _, err := at(t, answers(200, `{"ok":true}`)).Events(t.Context(), client.EventQuery{})
	require.ErrorIs(t, err, client.ErrUnreachable, "something else's JSON")
}
