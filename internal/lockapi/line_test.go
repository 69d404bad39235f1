package lockapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// queue is the line of s3://data/jobs/ as the list shows it.
func (w *world) queue() client.Scope {
	w.t.Helper()
	scopes, _, err := w.as("root").List(w.t.Context(), jobs, "", 1)
	require.NoError(w.t, err)
	require.Len(w.t, scopes, 1)
	return scopes[0]
}

func (w *world) acquire(body string) (int, map[string]any) {
	w.t.Helper()
	return w.answer(w.sign(http.MethodPost, "/-/v1/locks/acquire", body, sha(body), nil))
}

// A refusal says how the place stands, and the list who waits.
func TestPlacesOverHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: jobs})
	require.NoError(t, err)
	_, err = w.as("ann").Acquire(t.Context(), client.Acquisition{Scope: jobs, Owner: "ann@host"})
	require.NoError(t, err)

	status, answer := w.acquire(`{"scope":"s3://data/jobs/"}`)
	require.Equal(t, http.StatusConflict, status)
	assert.EqualValues(t, 0, answer["waiting"])
	assert.NotContains(t, answer, "position", "without a ticket there is no place")
	status, answer = w.acquire(`{"scope":"s3://data/jobs/","owner":"root@host","ticket":"t1","wait":"1ms"}`)
	require.Equal(t, http.StatusConflict, status)
	assert.Equal(t, "LockHeld", answer["code"])
	assert.EqualValues(t, 1, answer["position"])
	assert.EqualValues(t, 1, answer["waiting"])
	assert.Contains(t, answer["message"], "place 1 of 1")
	assert.Contains(t, answer, "holder")
	_, answer = w.acquire(`{"scope":"s3://data/jobs/","ticket":"t2"}`)
	assert.EqualValues(t, 2, answer["position"])
	_, answer = w.acquire(`{"scope":"s3://data/jobs/"}`)
	assert.EqualValues(t, 2, answer["waiting"])

	sc := w.queue()
	assert.Equal(t, 2, sc.Queue)
	require.Len(t, sc.Waiters, 2)
	assert.Equal(t, "root", sc.Waiters[0].AccessKey)
	assert.Equal(t, "root@host", sc.Waiters[0].Owner)
	assert.False(t, sc.Waiters[0].Calling)
	assert.WithinDuration(t, time.Now(), sc.Waiters[0].Since, time.Minute)

	// Released, and kept for t1.
	require.NoError(t, w.as("ann").Release(t.Context(), jobs, 1))
	_, err = w.as("bob").Acquire(t.Context(), client.Acquisition{Scope: jobs})
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.ErrorIs(t, err, client.ErrHeld)
	assert.Nil(t, e.Holder)
	assert.Equal(t, 2, e.Waiting)
	status, answer = w.acquire(`{"scope":"s3://data/jobs/","ticket":"t1"}`)
	require.Equal(t, http.StatusOK, status)
	assert.EqualValues(t, 2, answer["token"])
	status, answer = w.acquire(`{"scope":"s3://data/jobs/","ticket":"t1","wait":"5s"}`)
	require.Equal(t, http.StatusOK, status, "its answer was lost: the same lease")
	assert.EqualValues(t, 2, answer["token"])
	_, _ = w.acquire(`{"scope":"s3://data/jobs/","ticket":"t2","keep":"0s"}`)
	assert.Zero(t, w.queue().Queue)

	for body, says := range map[string]string{
		`{"scope":"s3://data/jobs/","keep":"5s"}`:                                       "ticket",
		`{"scope":"s3://data/jobs/","ticket":"a b"}`:                                    "ticket has other characters",
		fmt.Sprintf(`{"scope":"s3://data/jobs/","ticket":%q}`, strings.Repeat("x", 65)): "65 bytes",
		`{"scope":"s3://data/jobs/","ticket":"t","keep":"2m"}`:                          "keep is 2m0s",
		`{"scope":"s3://data/jobs/","ticket":7}`:                                        "ticket",
	} {
		status, answer = w.acquire(body)
		assert.Equal(t, http.StatusBadRequest, status, body)
		assert.Contains(t, answer["message"], says, body)
	}
	body := `{"scope":"s3://data/jobs/","reason":"r","ticket":"t"}`
	status, answer = w.answer(w.sign(http.MethodPost, "/-/v1/locks/take", body, sha(body), nil))
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, answer["message"], "locks/acquire")
}

// A client that hangs up while it waits is noticed and leaves the line at once.
func TestHangingUpLeavesTheLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: jobs})
	require.NoError(t, err)
	_, err = w.as("ann").Acquire(t.Context(), client.Acquisition{Scope: jobs, TTL: time.Hour})
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	got := make(chan error, 1)
	go func() {
		_, err := w.as("bob").Acquire(ctx, client.Acquisition{Scope: jobs, Wait: time.Minute})
		got <- err
	}()
	require.Eventually(t, func() bool { return w.queue().Queue == 1 }, 10*time.Second, 5*time.Millisecond)
	assert.True(t, w.queue().Waiters[0].Calling)
	enough := errors.New("enough")
	cancel(enough)
	require.ErrorIs(t, <-got, enough)
	left := time.Now()
	require.Eventually(t, func() bool { return w.queue().Queue == 0 }, 10*time.Second, 5*time.Millisecond)
	assert.Less(t, time.Since(left), 5*time.Second, "not when its place would have lapsed")
}

func TestLockDelayOverHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g, err := w.as("root").AddGuard(t.Context(), client.Guard{Pattern: jobs, LockDelay: "15s"})
	require.NoError(t, err)
	assert.Equal(t, "15s", g.LockDelay)
	_, err = w.as("ann").Acquire(t.Context(), client.Acquisition{Scope: jobs, Owner: "ann@host", TTL: time.Minute})
	require.NoError(t, err)
	w.skew.Add(int64(61 * time.Second))
	_, err = w.as("bob").Acquire(t.Context(), client.Acquisition{Scope: jobs})
	require.ErrorIs(t, err, client.ErrHeld)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	assert.Nil(t, e.Holder, "nobody holds it")
	assert.InDelta(t, 14*time.Second, e.Delay, float64(2*time.Second))
	assert.Contains(t, e.Message, "lock_delay")

	g, err = w.as("root").SetGuard(t.Context(), client.Guard{Pattern: jobs, LockDelay: "0s"})
	require.NoError(t, err)
	assert.Equal(t, "0s", g.LockDelay)
	_, err = w.as("bob").Acquire(t.Context(), client.Acquisition{Scope: jobs})
	require.NoError(t, err)
	_, err = w.as("root").SetGuard(t.Context(), client.Guard{Pattern: jobs, LockDelay: "2h"})
	require.ErrorIs(t, err, client.ErrInvalid)
	_, err = w.as("root").SetGuard(t.Context(), client.Guard{Pattern: jobs, LockDelay: "soon"})
	require.ErrorIs(t, err, client.ErrInvalid)
}
