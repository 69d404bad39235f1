package edge

import (
	"bufio"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTarry(t *testing.T) {
	t.Parallel()
	now := time.Now()
	tarry := NewTarry()
	tarry.now = func() time.Time { return now }
	for i := range tarryBurst {
		require.Zero(t, tarry.delay(), "refusal %d of a few", i)
	}
	var last time.Duration
	for range 10_000 {
		d := tarry.delay()
		require.GreaterOrEqual(t, d, last)
		last = d
	}
	assert.Equal(t, tarryMost, last, "a flood")
	now = now.Add(tarryMost + 100*time.Millisecond)
	assert.Zero(t, tarry.delay(), "soon after it")
	// As many as are allowed, for ever.
	for range 1000 {
		now = now.Add(time.Second / tarryRate)
		require.Zero(t, tarry.delay())
	}
}

// A connection whose refusal is delayed makes room for others.
func TestDelayedRefusalsMakeRoom(t *testing.T) {
	t.Parallel()
	tarry := NewTarry()
	now := time.Now()
	tarry.now = func() time.Time { return now }
	for range 10_000 {
		tarry.delay()
	}
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			tarry.Wait(r)
			w.WriteHeader(http.StatusForbidden)
		}
	}), Limits{Connections: 1})
	bad := s.dial(t)
	begin := time.Now()
	say(t, bad, "GET /bad HTTP/1.1\r\nHost: h\r\n\r\n")
	eventually(t, "the refusal waits", func() bool {
		s.table.mu.Lock()
		defer s.table.mu.Unlock()
		return s.table.conns == 1 && s.table.waiting.Len() == 1
	})
	good := s.dial(t)
	say(t, good, plainGet)
	resp, _ := hear(t, bufio.NewReader(good), "GET")
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	if time.Since(begin) < tarryMost {
		isOver(t, bad)
	}
}
