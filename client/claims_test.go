package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// keyed records the keys and bodies of requests, and answers each in turn.
type keyed struct {
	mu           sync.Mutex
	keys, bodies []string
}

func (a *keyed) serve(t *testing.T, turns ...http.HandlerFunc) *client.Client {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		a.keys, a.bodies = append(a.keys, r.Header.Get("Idempotency-Key")), append(a.bodies, string(body))
		turn := turns[min(len(a.keys), len(turns))-1]
		a.mu.Unlock()
		assert.Contains(t, r.Header.Get("Authorization"), "idempotency-key", "the key is signed")
		turn(w, r)
	}))
	t.Cleanup(srv.Close)
	c, err := client.New(srv.URL, "k", "s")
	require.NoError(t, err)
	return c
}

const mine = `{"job":"nightly","slot":"1","holder":"k","owner":"ann@host","claimed_at":"2026-05-01T02:00:00Z"}`

// A claim whose answer is lost is asked for again under the same key: otherwise it
// would be taken for somebody else's.
func TestClaimIsRepeatedUnderItsKey(t *testing.T) {
	t.Parallel()
	lost := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	var a keyed
	// net/http may repeat it by itself, since it has a key.
	c := a.serve(t, answers(http.StatusGatewayTimeout, `{"code":"OutcomeUnknown"}`), lost, answers(http.StatusServiceUnavailable, `{"code":"SlowDown"}`), answers(http.StatusCreated, mine))
	claim, err := c.Claim(t.Context(), "nightly", "1", "ann@host")
	require.NoError(t, err)
	assert.Equal(t, client.Claim{Job: "nightly", Slot: "1", Holder: "k", Owner: "ann@host", ClaimedAt: time.Date(2026, 5, 1, 2, 0, 0, 0, time.UTC)}, claim)
	require.GreaterOrEqual(t, len(a.keys), 4)
	for i := range a.keys {
		assert.NotEmpty(t, a.keys[i])
		assert.Equal(t, a.keys[0], a.keys[i])
		assert.Equal(t, a.bodies[0], a.bodies[i])
	}
	first := a.keys[0]
	_, err = c.Claim(t.Context(), "nightly", "1", "ann@host")
	require.NoError(t, err)
	assert.NotEqual(t, first, a.keys[len(a.keys)-1], "each call is a request of its own")
	_, err = c.Claim(client.WithIdempotencyKey(t.Context(), "chosen"), "nightly", "1", "ann@host")
	require.NoError(t, err)
	assert.Equal(t, "chosen", a.keys[len(a.keys)-1])
}

func TestClaimed(t *testing.T) {
	t.Parallel()
	var a keyed
	c := a.serve(t, answers(http.StatusConflict, `{"code":"AlreadyClaimed","message":"bob has it",`+mine[1:]))
	_, err := c.Claim(t.Context(), "nightly", "1", "")
	require.ErrorIs(t, err, client.ErrClaimed)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "ann@host", e.Claim.Owner)
	assert.Equal(t, "bob has it", err.Error())
	assert.Len(t, a.keys, 1, "a final answer is not asked for again")

	c = a.serve(t, answers(http.StatusUnprocessableEntity, `{"code":"IdempotencyKeyReused","message":"m"}`))
	_, err = c.Claim(t.Context(), "nightly", "1", "")
	require.ErrorIs(t, err, client.ErrKeyReused)
	assert.Len(t, a.keys, 2)
}
