package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClaims(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, c *Cluster) {
		c.Run(t, "one of many", func(t *testing.T) { claimStory(t, c) })
		c.Run(t, "command line", func(t *testing.T) { claimCommandStory(t, c) })
		c.Run(t, "requests under a key", func(t *testing.T) { keyStory(t, c) })
		c.Run(t, "lock calls under a key", func(t *testing.T) { keyedLocksStory(t, c) })
		c.Run(t, "check", func(t *testing.T) { checkStory(t, c) })
	})
}

// named adds an Idempotency-Key to a call of the JSON API.
func (p *Proxy) named(t *testing.T, key, call string, body any) Answer {
	t.Helper()
	text, err := json.Marshal(body)
	require.NoError(t, err)
	return p.Send(t, Request{Method: "POST", RawPath: "/-/v1/" + call, Body: string(text), Header: map[string]string{"Idempotency-Key": key}})
}

// claimStory: many schedulers want one slot at once, through every proxy, and the
// winner's answer is lost.
func claimStory(t *testing.T, c *Cluster) {
	const schedulers, slots = 5, 4
	var mu sync.Mutex
	won, told := map[int]string{}, map[int]map[string]bool{}
	var all sync.WaitGroup
	for i := range schedulers {
		all.Go(func() {
			for n := range slots {
				p := c.Proxies[(i+n)%len(c.Proxies)]
				owner := fmt.Sprint("scheduler-", i)
				a, err := p.TryAPI(t.Context(), "POST", "/-/v1/claims", map[string]any{"job": "story", "slot": strconv.Itoa(n), "owner": owner})
				if !assert.NoError(t, err) {
					return
				}
				var said struct{ Job, Slot, Holder, Owner, Code string }
				a.JSON(t, &said)
				mu.Lock()
				switch a.Status {
				case 201:
					assert.Empty(t, won[n], "slot %d was claimed twice", n)
					won[n] = said.Owner
				case 409:
					assert.Equal(t, "AlreadyClaimed", said.Code)
				default:
					t.Errorf("%s", a)
				}
				if told[n] == nil {
					told[n] = map[string]bool{}
				}
				told[n][said.Owner] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for n := range slots {
		assert.NotEmpty(t, won[n])
		assert.Equal(t, map[string]bool{won[n]: true}, told[n], "everybody is told of one winner")
	}
	body := map[string]any{"job": "story", "slot": "again"}
	for _, p := range []*Proxy{c.Proxies[0], c.last(), c.Proxies[0]} {
		p.named(t, "story key", "claims", body).Want(t, 201)
	}
	if a := c.last().named(t, "story key", "claims", map[string]any{"job": "story", "slot": "other"}); a.Status != 422 || a.Code() != "IdempotencyKeyReused" {
		t.Errorf("%s", a)
	}
	if a := c.last().named(t, "another key", "claims", body); a.Status != 409 {
		t.Errorf("%s", a)
	}
}

func claimCommandStory(t *testing.T, c *Cluster) {
	a, b := c.Proxies[0], c.last()
	first := a.CLI("claim", "report", "2026-05-01T04:00:00+02:00", "--owner", "ann@host")
	assert.Empty(t, first.Want(t, 0))
	assert.Contains(t, first.Stderr, "slot 2026-05-01T02:00:00Z of job report is yours")
	b.CLI("claim", "report", "2026-05-01T02:00:00Z").WantErr(t, 3, "ann@host", a.cluster.AccessKey)
	var out struct {
		Claimed   bool
		Owner     string
		ClaimedAt time.Time `json:"claimed_at"`
	}
	require.NoError(t, json.Unmarshal([]byte(b.CLI("claim", "report", "2026-05-01T02:00:00Z", "--json").Want(t, 3)), &out))
	assert.False(t, out.Claimed)
	assert.Equal(t, "ann@host", out.Owner)
	assert.WithinDuration(t, time.Now(), out.ClaimedAt, time.Minute)
	require.NoError(t, json.Unmarshal([]byte(b.CLI("claim", "report", "1w", "--json").Must(t)), &out))
	assert.True(t, out.Claimed)
	for range 2 {
		a.CLI("claim", "report", "x", "--idempotency-key", "mine").Must(t)
	}
	list := b.CLI("claims", "report").Must(t)
	assert.Len(t, strings.Split(list, "\n"), 4)
	assert.Contains(t, list, "ann@host")
	b.CLI("claim", "report", "15min").WantErr(t, 2, "15m")
	b.CLI("claim", "report", strings.Repeat("x", 129)).WantErr(t, 2, "129 bytes")
	b.CLI("claim", "report", "2001-05-01T02:00:00Z").WantErr(t, 1, "400 days")
	a.CLIWith(map[string]string{"S3FENCE_ENDPOINT": "http://127.0.0.1:1"}, "claim", "report", "y").WantErr(t, 5, "s3fence claims report")
}

// keyStory: a write is sent again through another proxy, after a takeover and after
// others wrote, and answered as the first time.
func keyStory(t *testing.T, c *Cluster) {
	a, b := c.Proxies[0], c.last()
	token := c.Take("jobs/", "ann")
	put := func(p *Proxy, key, object, body string, header ...string) Answer {
		return p.Send(t, Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/" + object, Body: body, Header: with(tokenHeader(token), append(header, "Idempotency-Key", key)...)})
	}
	first := put(a, "k1", "named", "one", "If-None-Match", "*").Want(t, 200)
	put(b, "k1", "named", "one", "If-None-Match", "*").Want(t, 200)
	for _, other := range []Answer{
		put(b, "k1", "named", "two", "If-None-Match", "*"),
		put(b, "k1", "named", "one"),
		put(a, "k1", "other", "one", "If-None-Match", "*"),
	} {
		f := other.WantCode(t, 422, "IdempotencyKeyReused")
		assert.Contains(t, f.Message, "differs in")
	}
	a.WantAbsent(t, "jobs/other")
	a.PutToken(t, "jobs/named", "since", token).Want(t, 200)
	next := c.Take("jobs/", "bob")
	a.PutToken(t, "jobs/named", "late", token).WantCode(t, 412, "StaleFencingToken")
	again := put(a, "k1", "named", "one", "If-None-Match", "*").Want(t, 200)
	assert.Equal(t, first.Header.Get("Etag"), again.Header.Get("Etag"))
	put(b, "k2", "named", "one").WantCode(t, 412, "StaleFencingToken")
	assert.Equal(t, "since", b.Get(t, "jobs/named"))
	put(a, strings.Repeat("k", 257), "named", "x").WantCode(t, 400, "InvalidArgument")
	// Refused under the key, it was never recorded: under the new token it runs.
	token = next
	put(b, "k2", "named", "one").Want(t, 200)
	assert.Equal(t, "one", a.Get(t, "jobs/named"))

	// Outside of every guard the key counts for nothing.
	for _, body := range []string{"one", "two"} {
		a.Send(t, Request{Method: "PUT", Bucket: c.Bucket, Key: "plain", Body: body, Header: map[string]string{"Idempotency-Key": "k1"}}).Want(t, 200)
	}
	assert.Equal(t, "two", b.Get(t, "plain"))
	said := b.Python("named.py", c.Bucket, "jobs/", strconv.FormatInt(token, 10)).Must(t)
	assert.Contains(t, said, "the body")
}

func keyedLocksStory(t *testing.T, c *Cluster) {
	a, b := c.Proxies[0], c.last()
	scope := c.Scope("other/")
	acquire := map[string]any{"scope": scope, "owner": "ann", "ttl": "60s"}
	token := a.named(t, "lock key", "locks/acquire", acquire).Want(t, 200).Token(t)
	assert.Equal(t, token, b.named(t, "lock key", "locks/acquire", acquire).Want(t, 200).Token(t))
	wantLock(t, b.named(t, "lock key", "locks/acquire", map[string]any{"scope": c.Scope("jobs/")}), 422, "IdempotencyKeyReused")
	wantLock(t, b.named(t, "lock key", "locks/take", map[string]any{"scope": scope, "reason": "r"}), 422, "IdempotencyKeyReused")
	var marks [2]struct{ Mark int64 }
	for i, p := range []*Proxy{a, b} {
		p.named(t, "raise key", "scopes/raise", map[string]any{"scope": scope, "reason": "r"}).Want(t, 200).JSON(t, &marks[i])
	}
	assert.Equal(t, marks[0], marks[1], "raised once")
	wantLock(t, b.named(t, "lock key", "locks/acquire", acquire), 412, "LockLost")
}

// checkStory: a token is compared right before something that is not S3.
func checkStory(t *testing.T, c *Cluster) {
	p := c.last()
	scope := c.Scope("jobs/")
	token := strconv.FormatInt(c.Take("jobs/", "ann"), 10)
	p.CLI("check", scope, "--token", token).Must(t)
	p.CLIWith(map[string]string{"S3FENCE_SCOPE": scope, "S3FENCE_TOKEN": token}, "check").Must(t)
	c.Take("jobs/", "bob@host")
	p.CLI("check", scope, "--token", token).WantErr(t, 4, "stale", "bob@host")
	wantLock(t, p.API(t, "POST", "/-/v1/check", map[string]any{"scope": scope, "token": token}), 412, "StaleFencingToken")
	p.CLI("check", scope).WantErr(t, 2, "--token")
}

// TestNamedRequestsOverAKilledProxy: a proxy is killed between what took effect and
// its answer; the request is sent again to another one. (F7)
func TestNamedRequestsOverAKilledProxy(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Pause: armedWith("kill"), Config: faultsConfig, Guards: []Guard{{Prefix: "jobs/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	token := b.Take(t, c.Scope("jobs/"), "ann")
	put := Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/a", Body: "once", Header: with(tokenHeader(token), "Idempotency-Key", "put", "If-None-Match", "*")}
	claim := Request{Method: "POST", RawPath: "/-/v1/claims", Body: `{"job":"nightly","slot":"1"}`, Header: map[string]string{"Idempotency-Key": "claim"}}
	raise := Request{Method: "POST", RawPath: "/-/v1/scopes/raise", Body: fmt.Sprintf(`{"scope":%q}`, c.Scope("jobs/")), Header: map[string]string{"Idempotency-Key": "raise"}}
	for _, tc := range []struct {
		point  string
		send   Request
		status int
	}{
		// Nothing had happened yet: the second try does it.
		{"BeforeCommit", put, 200},
		{"AfterCommit", Request{Method: "DELETE", Bucket: c.Bucket, Key: "jobs/none", Header: with(tokenHeader(token), "Idempotency-Key", "delete")}, 204},
		{"BeforeAnswer", claim, 201},
		{"AfterRaise", raise, 200},
	} {
		c.Run(t, tc.point, func(t *testing.T) {
			a.Arm(tc.point)
			done := later(func() Answer {
				answer, _ := a.TrySend(t.Context(), tc.send)
				return answer
			})
			a.AwaitHit(tc.point)
			require.Zero(t, (<-done).Status, "a killed proxy answers nothing")
			a.Disarm(tc.point)
			first := b.Send(t, tc.send).Want(t, tc.status)
			a.Restart()
			again := a.Send(t, tc.send).Want(t, tc.status)
			assert.Equal(t, first.Body, again.Body)
		})
	}
	assert.Equal(t, "once", b.Get(t, "jobs/a"))
	assert.Equal(t, 409, b.API(t, "POST", "/-/v1/claims", map[string]any{"job": "nightly", "slot": "1"}).Status)
}
