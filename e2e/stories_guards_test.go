package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

type guardList []struct{ Pattern, Writes, Tokens, Issuer, State string }

func guardsOf(t *testing.T, p *Proxy) map[string]string {
	t.Helper()
	var list guardList
	require.NoError(t, json.Unmarshal([]byte(p.CLI("guard", "list", "--json").Must(t)), &list))
	guards := map[string]string{}
	for _, g := range list {
		guards[g.Pattern] = g.Tokens
		assert.Equal(t, "active", g.State)
		assert.Equal(t, "sealed", g.Writes)
	}
	return guards
}

func TestGuards(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2})
	a, b := c.Proxies[0], c.Proxies[1]

	// What stood there before is taken in: readable, listed, fenced.
	a.Send(t, Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/before", Body: "was here",
		Header: map[string]string{"Content-Type": "text/x-test", "X-Amz-Meta-Colour": "blue"}}).Want(t, 200)
	a.Put(t, "outside", "untouched").Want(t, 200)
	open := createUpload(t, b, "jobs/begun-before", 0)
	sendPart(t, b, "jobs/begun-before", open, 1, "part")
	a.CLI("guard", "add", c.Scope("jobs/")).Must(t)
	for _, p := range c.Proxies {
		got := p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Key: "jobs/before"}).Want(t, 200)
		assert.Equal(t, "was here", got.Body)
		assert.Equal(t, "text/x-test", got.Header.Get("Content-Type"))
		assert.Equal(t, "blue", got.Header.Get("X-Amz-Meta-Colour"))
		assert.Equal(t, `"`+hexMD5("was here")+`"`, got.Header.Get("ETag"))
		assert.Equal(t, []string{"jobs/before", "outside"}, keysBelow(t, p, c.Bucket, ""))
		p.Put(t, "jobs/before", "unfenced").WantCode(t, 403, "MissingFencingToken")
		p.Put(t, "outside", "untouched").Want(t, 200)
	}
	// An upload that was begun without a guard must not end under it.
	if s := completeUpload(t, a, "jobs/begun-before", open, `"`+hexMD5("part")+`"`); s.Status/100 != 4 {
		t.Errorf("an unguarded upload was completed in a scope: %s", s)
	}
	a.WantAbsent(t, "jobs/begun-before")
	stale := a.Take(t, c.Scope("jobs/"), "x")
	token := a.Take(t, c.Scope("jobs/"), "x")
	b.PutToken(t, "jobs/before", "replaced", token).Want(t, 200)

	// Adding it again changes nothing; another rule for it, an overlap or a wrong
	// pattern is refused.
	a.CLI("guard", "add", c.Scope("jobs/")).Must(t)
	a.CLI("guard", "add", "--tokens", "none", c.Scope("jobs/")).WantErr(t, 1, c.Scope("jobs/"))
	for _, overlapping := range []string{"jobs/deeper/", "*/", ""} {
		b.CLI("guard", "add", c.Scope(overlapping)).WantErr(t, 1, c.Scope("jobs/"))
	}
	a.CLI("guard", "add", "s3://"+c.Bucket+"/jobs").Want(t, 2)
	a.CLI("guard", "add", c.Scope("x//y/")).Want(t, 2)
	a.CLI("guard", "add", "--writes", "in-place", c.Scope("later/")).WantErr(t, 1, "in place", "sealed")
	a.CLI("guard", "add", "--tokens", "sometimes", c.Scope("later/")).Want(t, 2)
	b.CLI("guard", "add", c.Scope("tenants/*/")).Must(t)
	a.CLI("guard", "add", c.Scope("tenants/one/")).WantErr(t, 1, c.Scope("tenants/*/"))
	assert.Equal(t, map[string]string{c.Scope("jobs/"): "required", c.Scope("tenants/*/"): "required"}, guardsOf(t, b))

	// Changed while in force: both proxies obey at once.
	a.CLI("guard", "set", "--tokens", "optional", c.Scope("jobs/")).Must(t)
	b.Put(t, "jobs/unfenced", "x").Want(t, 200)
	b.PutToken(t, "jobs/fenced", "x", token).Want(t, 200)
	b.CLI("guard", "set", "--tokens", "required", c.Scope("jobs/")).Must(t)
	a.Put(t, "jobs/unfenced", "y").WantCode(t, 403, "MissingFencingToken")

	// Removed only when empty, and the marks stay (F1).
	a.CLI("guard", "remove", c.Scope("jobs/")).WantErr(t, 1, "jobs/")
	for _, key := range []string{"jobs/before", "jobs/unfenced", "jobs/fenced"} {
		a.Send(t, Request{Method: "DELETE", Bucket: c.Bucket, Key: key, Header: tokenHeader(token)}).Want(t, 204)
	}
	removal := a.CLI("guard", "remove", c.Scope("jobs/"))
	if removal.Code != 0 {
		// What was adopted left its plain key in the store, hidden by the guard:
		// removing the guard would bring the deleted object back.
		removal.WantErr(t, 1, "before")
		require.NoError(t, c.Store.Client(t).RemoveObject(t.Context(), c.Bucket, "jobs/before", minio.RemoveObjectOptions{}))
		a.CLI("guard", "remove", c.Scope("jobs/")).Must(t)
	}
	// The other proxy may not have heard of it yet: until then it refuses, for
	// one guard_lease at most.
	require.Eventually(t, func() bool {
		answer := b.Put(t, "jobs/plain", "plain")
		if answer.Status != 200 {
			answer.WantCode(t, 503, "SlowDown")
		}
		return answer.Status == 200
	}, readyWait, 50*time.Millisecond)
	for _, p := range c.Proxies {
		p.WantAbsent(t, "jobs/before")
		p.PutToken(t, "jobs/x", "x", token).WantCode(t, 400, "InvalidFencingToken")
	}
	assert.Equal(t, "plain", a.Get(t, "jobs/plain"))
	a.CLI("guard", "remove", c.Scope("jobs/")).Want(t, 1)
	b.CLI("guard", "add", c.Scope("jobs/")).Must(t)
	a.PutToken(t, "jobs/plain", "late", stale).WantCode(t, 412, "StaleFencingToken")
	assert.Greater(t, b.Take(t, c.Scope("jobs/"), "y"), token)
	assert.Equal(t, "plain", a.Get(t, "jobs/plain"))
}

// keysBelow lists all keys below a prefix.
func keysBelow(t *testing.T, p *Proxy, bucket, prefix string) []string {
	t.Helper()
	var keys []string
	for token := ""; ; {
		query := url.Values{"list-type": {"2"}, "prefix": {prefix}}
		if token != "" {
			query.Set("continuation-token", token)
		}
		var l listing
		p.Send(t, Request{Method: "GET", Bucket: bucket, Query: query}).Want(t, 200).XML(t, &l)
		for _, entry := range l.Contents {
			keys = append(keys, entry.Key)
		}
		if !l.IsTruncated {
			return keys
		}
		token = l.NextContinuationToken
	}
}

// A guard in force before the first byte, from the configuration; one that
// differs there stops the start.
func TestGuardsOfTheConfiguration(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Guards: []Guard{{Prefix: "jobs/"}, {Prefix: "free/", Tokens: "none"}}})
	assert.Equal(t, map[string]string{c.Scope("jobs/"): "required", c.Scope("free/"): "none"}, guardsOf(t, c.Proxies[0]))
	p := c.Proxies[1]
	p.Stop()
	c.options.Guards[0].Tokens = "optional"
	writeConfig(t, p.folder, c.config(c.DSN, c.Store.Endpoint, p.addr, p.admin))
	out := p.local("serve", "--config", "s3fence.yaml")
	out.WantErr(t, 1, c.Scope("jobs/"), "required", "optional")
	assert.Empty(t, out.Stdout)
}

// Adoption takes 10,000 objects and refuses more, leaving everything as it was.
func TestAdoptionRefusesMoreThanItCanDo(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{})
	p := c.Proxies[0]
	const limit = 10_000
	store := p.MinIO(t)
	var next atomic.Int64
	var group errgroup.Group
	for range 16 {
		group.Go(func() error {
			for {
				i := next.Add(1)
				if i > limit+1 {
					return nil
				}
				_, err := store.PutObject(t.Context(), c.Bucket, fmt.Sprintf("many/%05d", i), strings.NewReader("x"), 1, minio.PutObjectOptions{})
				if err != nil {
					return err
				}
			}
		})
	}
	require.NoError(t, group.Wait())
	p.CLI("guard", "add", c.Scope("many/")).WantErr(t, 1, "more than 10000 under "+c.Scope("many/"))
	assert.Empty(t, guardsOf(t, p))
	p.Put(t, "many/00001", "still plain").Want(t, 200)
	assert.Equal(t, "still plain", p.Get(t, "many/00001"))
	assert.Len(t, keysBelow(t, p, c.Bucket, "many/"), limit+1)
}

// A guard is put into force through one proxy while clients write plain keys
// through another: each write that was acknowledged before is readable
// afterwards through both, and none is acknowledged without a token once the
// addition has returned.
func TestGuardAddedWhileClientsWrite(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2})
	a, b := c.Proxies[0], c.Proxies[1]
	type written struct{ key, body string }
	var mu sync.Mutex
	var acknowledged []written
	var returned atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	counts := map[int]int{}
	for w := range 8 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				// One key of its own for each, and one that is overwritten.
				for _, item := range []written{{fmt.Sprintf("jobs/w%d/%d", w, n), fmt.Sprint(n)}, {fmt.Sprintf("jobs/w%d/same", w), fmt.Sprint(n)}} {
					late := returned.Load()
					answer, err := b.TrySend(ctx, Request{Method: "PUT", Bucket: c.Bucket, Key: item.key, Body: item.body})
					if err != nil {
						if ctx.Err() == nil {
							t.Errorf("PUT %s: %v", item.key, err)
						}
						return
					}
					mu.Lock()
					counts[answer.Status]++
					switch {
					case answer.Status == 200 && late:
						t.Errorf("an unfenced write into the scope, sent after guard add returned, was acknowledged: %s", answer)
					case answer.Status == 200:
						acknowledged = append(acknowledged, item)
					case answer.Status == 403 && answer.Failure().Code == "MissingFencingToken":
					case answer.Status == 503 && !late:
					default:
						t.Errorf("%s", answer)
					}
					mu.Unlock()
				}
			}
		})
	}
	// Let them write.
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) >= 200 }, readyWait, 5*time.Millisecond)
	a.CLI("guard", "add", c.Scope("jobs/")).Must(t)
	returned.Store(true)
	refused := func() int { mu.Lock(); defer mu.Unlock(); return counts[403] }
	begun := refused()
	require.Eventually(t, func() bool { return refused() >= begun+50 }, readyWait, 5*time.Millisecond)
	cancel()
	all.Wait()
	t.Logf("%d acknowledged; statuses %v", len(acknowledged), counts)
	want := map[string]string{}
	for _, item := range acknowledged {
		want[item.key] = item.body
	}
	for _, p := range c.Proxies {
		listed := keysBelow(t, p, c.Bucket, "jobs/")
		for key := range want {
			assert.Contains(t, listed, key)
		}
		for key, body := range want {
			if got := p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Key: key}); got.Status != 200 || got.Body != body {
				t.Errorf("%s was acknowledged with body %q: %s", key, body, got)
			}
		}
	}
	// What was refused is not there: no 4xx that took effect (F7).
	for _, key := range keysBelow(t, a, c.Bucket, "jobs/") {
		if _, ok := want[key]; !ok {
			t.Errorf("%s was never acknowledged, and is there", key)
		}
	}
}
