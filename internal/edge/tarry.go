package edge

import (
	"net/http"
	"sync"
	"time"
)

// Bounds of [Tarry].
const (
	// tarryRate is how many refusals of strangers are answered at once in a second,
	// tarryBurst how many of them in a moment.
	tarryRate, tarryBurst = 100, 200
	// tarryMost is the longest that one waits.
	tarryMost = time.Second
)

// Tarry delays the refusals of requests that nobody vouches for once there are
// many of them, so that who sends the next when the last is answered does not get
// the processors to himself. Requests that are not refused are never delayed,
// wherever they come from. From then on the connection counts as one that waits, and
// makes room for others, until its next request: also where the answer is not taken. Safe for concurrent use.
type Tarry struct {
	mu sync.Mutex
	// next is when the next refusal is due that is not ahead of its time.
	next time.Time
	now  func() time.Time
}

// NewTarry makes one, for all requests of a process.
func NewTarry() *Tarry { return &Tarry{now: time.Now} }

// delay is how long the next refusal has to wait.
func (t *Tarry) delay() time.Duration {
	const step, burst = time.Second / tarryRate, tarryBurst * time.Second / tarryRate
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if earliest := now.Add(-burst); t.next.Before(earliest) {
		t.next = earliest
	}
	wait := t.next.Sub(now)
	// Beyond the longest wait nothing piles up: those waits end when the flood does.
	if wait < tarryMost {
		t.next = t.next.Add(step)
	}
	return min(max(wait, 0), tarryMost)
}

// Wait delays the refusal of r.
func (t *Tarry) Wait(r *http.Request) {
	Unverified(r)
	d := t.delay()
	if d == 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-r.Context().Done():
	case <-timer.C:
	}
}

// Unverified lets the connection of r count as one without a request, which makes
// room for others, until the function that it returns is called, or its next request:
// while something is waited for of a client that nobody vouches for.
func Unverified(r *http.Request) (over func()) {
	conn := connOf(r)
	conn.waits()
	return conn.works
}
