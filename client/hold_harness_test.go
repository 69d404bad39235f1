package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/boottime"
)

// ttl of the locks that are held in tests, unless said otherwise, and how long
// a Context goes on after the moment before a renewal was asked for.
const (
	ttl   = 30 * time.Second
	lasts = ttl - ttl/10
)

// world is time as a test sets it: that of the bubble, which is what timers and
// Go's monotonic clock show, and what it is ahead by on the others.
type world struct {
	mu          sync.Mutex
	start       time.Time
	slept, wall time.Duration
}

// sleep suspends the machine: no timer runs meanwhile.
func (w *world) sleep(d time.Duration) { w.mu.Lock(); defer w.mu.Unlock(); w.slept += d }

// set sets the wall clock forward.
func (w *world) set(d time.Duration) { w.mu.Lock(); defer w.mu.Unlock(); w.wall += d }

// since is the true time since the beginning.
func (w *world) since() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.start) + w.slept
}

func (w *world) clock() boottime.Clock {
	return boottime.Clock{
		Now:   func() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return time.Now().Add(w.wall) },
		Awake: w.since,
	}
}

// answer is what a call is answered, or an error of the network.
type answer struct {
	status int
	body   string
	err    error
	// after is how long the answer takes; never answers when the caller gives up.
	after time.Duration
	never bool
}

// request is a call as the service saw it.
type request struct {
	call string
	at   time.Duration
	body struct {
		Scope, Owner, TTL, Wait, Reason string
		Token                           int64
	}
}

// fake answers the calls of the lock service without a network.
type fake struct {
	world
	ttl time.Duration
	// answer overrides the answers of calls by name: "renew", "release",
	// "credentials", … n counts them from 1.
	mu     sync.Mutex
	answer map[string]func(n int) answer
	seen   []request
	count  map[string]int
}

func newFake() *fake {
	return &fake{world: world{start: time.Now()}, ttl: ttl, answer: map[string]func(int) answer{}, count: map[string]int{}}
}

// on sets the answers of one call.
func (f *fake) on(call string, do func(n int) answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer[call] = do
}

// calls are the times at which a call came.
func (f *fake) calls(call string) []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var at []time.Duration
	for _, r := range f.seen {
		if r.call == call {
			at = append(at, r.at)
		}
	}
	return at
}

// last is the latest request of one call.
func (f *fake) last(call string) request {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.seen) - 1; i >= 0; i-- {
		if f.seen[i].call == call {
			return f.seen[i]
		}
	}
	return request{}
}

func (f *fake) granted() answer {
	return answer{status: 200, body: fmt.Sprintf(`{"scope":%q,"token":7,"owner":"ann","ttl":%q,"expires_in_ms":%d}`, jobs, f.ttl, f.ttl.Milliseconds())}
}

func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	q := request{call: r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:], at: f.since()}
	_ = json.NewDecoder(r.Body).Decode(&q.body)
	f.mu.Lock()
	f.seen = append(f.seen, q)
	f.count[q.call]++
	n, do := f.count[q.call], f.answer[q.call]
	f.mu.Unlock()
	var a answer
	switch {
	case do != nil:
		a = do(n)
	case q.call == "release":
		a = answer{status: 200, body: `{"released":true}`}
	case q.call == "credentials":
		a = f.credentials()
	default:
		a = f.granted()
	}
	var after <-chan time.Time
	if !a.never {
		after = time.After(a.after)
	}
	select {
	case <-after:
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
	if a.err != nil {
		return nil, a.err
	}
	return service(func(*http.Request) (int, string) { return a.status, a.body }).RoundTrip(r)
}

// credentials are good for an hour; the secret says how often they were made.
func (f *fake) credentials() answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return answer{status: 200, body: fmt.Sprintf(`{"Version":1,"AccessKeyId":"fenced","SecretAccessKey":"secret-%d","SessionToken":"sealed","Expiration":%q,"scope":%q,"token":7}`,
		f.count["credentials"], time.Now().Add(time.Hour).Format(time.RFC3339), jobs)}
}

func (f *fake) client(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.New("http://s3fence.test", "k", "s", client.WithHTTPClient(&http.Client{Transport: f}))
	require.NoError(t, err)
	return c
}

// hold takes the lock; the test's end releases it.
func (f *fake) hold(t *testing.T, opts ...client.HoldOption) *client.Held {
	t.Helper()
	h, err := f.client(t).Hold(t.Context(), jobs, append([]client.HoldOption{client.WithHoldClock(f.clock())}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Release(context.Background()) })
	return h
}

// bubble runs a test in fake time.
func bubble(t *testing.T, name string, test func(t *testing.T, f *fake)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) { test(t, newFake()) })
	})
}

// observed collects what an observer is told.
type observed struct {
	mu     sync.Mutex
	events []client.HoldEvent
}

func (o *observed) option() client.HoldOption {
	return client.WithObserver(func(e client.HoldEvent) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.events = append(o.events, e)
	})
}

func (o *observed) kinds() map[client.HoldEventKind]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := map[client.HoldEventKind]int{}
	for _, e := range o.events {
		n[e.Kind]++
	}
	return n
}

var errRefused = errors.New("dial tcp 127.0.0.1:9000: connect: connection refused")

var (
	unavailable = answer{status: 503, body: `{"code":"ServiceUnavailable","message":"the state cannot be asked"}`}
	lockLost    = answer{status: 412, body: `{"code":"LockLost","message":"the lock on s3://data/jobs/ under token 7 is lost: 8 was granted to bob 3s ago","highest":8}`}
)
