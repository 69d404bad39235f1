package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// captured is a request as somebody on the way has it: the very bytes, to be sent
// again, also to another proxy under the first one's name.
type captured struct {
	t    *testing.T
	r    *http.Request
	body string
}

func (p *Proxy) capture(t *testing.T, r Request) captured {
	t.Helper()
	req, err := p.build(t.Context(), r)
	require.NoError(t, err)
	req.Host = req.URL.Host
	return captured{t, req, r.Body}
}

func (p *Proxy) captureCall(t *testing.T, path string, header map[string]string, body map[string]any) captured {
	t.Helper()
	var text []string
	for k, v := range body {
		text = append(text, fmt.Sprintf("%q:%q", k, v))
	}
	return p.capture(t, Request{Method: "POST", RawPath: path, Header: with(header, "Content-Type", "application/json"), Body: "{" + strings.Join(text, ",") + "}"})
}

// send sends it to a proxy.
func (c captured) send(p *Proxy) Answer {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), callWait)
	defer cancel()
	r := c.r.Clone(ctx)
	base, err := url.Parse(p.URL)
	require.NoError(c.t, err)
	r.URL.Host = base.Host
	setBody(r, c.body)
	answer, err := p.do(r)
	require.NoError(c.t, err)
	return answer
}

// TestReplays holds docs/security.md to what it says of requests that are sent again
// by somebody who saw them: they do again what they did, for 15 minutes, and nothing
// once the token is passed (F4).
func TestReplays(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Guards: []Guard{{Prefix: "*/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	both := []*Proxy{a, b}
	write := func(t *testing.T, key string, edit func(*Request)) (seen captured, token int64) {
		t.Helper()
		token = c.Take(key[:strings.Index(key, "/")+1], "ann")
		r := Request{Method: "PUT", Bucket: c.Bucket, Key: key, Body: "seen", Header: tokenHeader(token)}
		if edit != nil {
			edit(&r)
		}
		seen = a.capture(t, r)
		seen.send(a).Want(t, 200)
		a.PutToken(t, key, "later", token).Want(t, 200)
		return seen, token
	}
	t.Run("a write", func(t *testing.T) {
		seen, _ := write(t, "write/k", nil)
		for _, p := range both {
			seen.send(p).Want(t, 200)
			assert.Equal(t, "seen", p.Get(t, "write/k"), "done again, while the token counts")
		}
		next := c.Take("write/", "bob")
		a.PutToken(t, "write/k", "next", next).Want(t, 200)
		for _, p := range both {
			seen.send(p).WantCode(t, 412, "StaleFencingToken")
			assert.Equal(t, "next", p.Get(t, "write/k"))
		}
	})
	t.Run("a write under its own name", func(t *testing.T) {
		for i, header := range []string{"Idempotency-Key", "Amz-Sdk-Invocation-Id"} {
			scope := fmt.Sprintf("named%d/", i)
			seen, _ := write(t, scope+"k", func(r *Request) { r.Header[header] = "one-of-ours" })
			for _, p := range both {
				seen.send(p).Want(t, 200)
				assert.Equal(t, "later", p.Get(t, scope+"k"), "%s: answered, and not done again", header)
			}
			c.Take(scope, "bob")
			seen.send(b)
			assert.Equal(t, "later", b.Get(t, scope+"k"), header)
		}
	})
	t.Run("a presigned URL", func(t *testing.T) {
		seen, _ := write(t, "presigned/k", func(r *Request) {
			r.Presigned = true
			r.Query = url.Values{"X-Fencing-Token": {r.Header["X-Fencing-Token"]}}
			r.Header = nil
		})
		seen.send(b).Want(t, 200)
		assert.Equal(t, "seen", a.Get(t, "presigned/k"))
		c.Take("presigned/", "bob")
		seen.send(b).WantCode(t, 412, "StaleFencingToken")
	})
	t.Run("a session token", func(t *testing.T) {
		token := c.Take("session/", "ann")
		f := c.Fence(a, "session/", token)
		seen := a.capture(t, f.sign(Request{Method: "PUT", Bucket: c.Bucket, Key: "session/k", Body: "seen"}))
		read := a.capture(t, f.sign(Request{Method: "GET", Bucket: c.Bucket, Key: "session/k"}))
		for _, p := range both {
			seen.send(p).Want(t, 200)
			read.send(p).Want(t, 200)
		}
		c.Take("session/", "bob")
		for _, p := range both {
			seen.send(p).WantCode(t, 412, "StaleFencingToken")
			read.send(p).WantCode(t, 412, "StaleFencingToken")
		}
	})
	t.Run("another name of a proxy", func(t *testing.T) {
		seen, _ := write(t, "host/k", nil)
		base, err := url.Parse(b.URL)
		require.NoError(t, err)
		seen.r.Host = base.Host
		seen.send(b).WantCode(t, 403, "SignatureDoesNotMatch")
	})
	t.Run("calls of the lock service", func(t *testing.T) {
		scope := c.Scope("lock/")
		mark := func() int64 {
			t.Helper()
			var list struct {
				Scopes []struct {
					Scope string
					Mark  int64
				}
			}
			b.API(t, "GET", "/-/v1/scopes", nil).Want(t, 200).JSON(t, &list)
			for _, s := range list.Scopes {
				if s.Scope == scope {
					return s.Mark
				}
			}
			t.Fatalf("no %s in %v", scope, list)
			return 0
		}
		acquire := a.captureCall(t, "/-/v1/locks/acquire", nil, map[string]any{"scope": scope, "owner": "ann", "ttl": "60s"})
		first := acquire.send(a).Want(t, 200).Token(t)
		what := map[string]any{"scope": scope, "token": strconv.FormatInt(first, 10)}
		renew, release := a.captureCall(t, "/-/v1/locks/renew", nil, what), a.captureCall(t, "/-/v1/locks/release", nil, what)
		renew.send(a).Want(t, 200)
		release.send(a).Want(t, 200)
		again := acquire.send(b).Want(t, 200).Token(t)
		assert.Greater(t, again, first, "a free lock is granted again, to the same owner")

		// Whoever holds the lock now loses nothing by renewals and releases of before.
		now := c.Take("lock/", "bob")
		for _, call := range []captured{renew, release, acquire} {
			got := call.send(b)
			assert.Equal(t, 4, got.Status/100, "%s", got)
		}
		assert.Equal(t, now, mark())
		b.PutToken(t, "lock/k", "bob's", now).Want(t, 200)
		b.API(t, "POST", "/-/v1/locks/renew", map[string]any{"scope": scope, "token": strconv.FormatInt(now, 10)}).Want(t, 200)

		take := map[string]any{"scope": scope, "owner": "ops", "ttl": "60s", "reason": "a test"}
		named := a.captureCall(t, "/-/v1/locks/take", map[string]string{"Idempotency-Key": "taken-once"}, take)
		taken := named.send(a).Want(t, 200).Token(t)
		now = c.Take("lock/", "bob")
		named.send(b)
		assert.Equal(t, now, mark(), "a call under its own name takes once")
		assert.Greater(t, now, taken)

		plain := a.captureCall(t, "/-/v1/locks/take", nil, take)
		plain.send(a).Want(t, 200)
		now = c.Take("lock/", "bob")
		assert.Greater(t, plain.send(b).Want(t, 200).Token(t), now, "one without takes again")
	})
}

// TestConfusedDeputies presents what counts in one place for another (F8).
func TestConfusedDeputies(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Guards: []Guard{{Prefix: "jobs/*/"}}})
	p := c.Proxies[0]
	low, high := c.Take("jobs/low/", "ann"), c.Take("jobs/high/", "ann")
	p.PutToken(t, "jobs/low/k", "low", low).Want(t, 200)
	p.PutToken(t, "jobs/high/k", "high", high).Want(t, 200)
	fenced := c.Fence(p, "jobs/low/", low)
	put := func(key string, header map[string]string) Request {
		return Request{Method: "PUT", Bucket: c.Bucket, Key: key, Header: header, Body: "forged"}
	}
	for name, tc := range map[string]struct {
		r      Request
		status int
		code   string
	}{
		"the lower token of another scope":          {put("jobs/high/k", tokenHeader(low)), 412, "StaleFencingToken"},
		"the higher token of another scope":         {put("jobs/low/k", tokenHeader(high)), 400, "InvalidFencingToken"},
		"another scope named":                       {put("jobs/low/k", with(tokenHeader(high), "X-Fencing-Scope", c.Scope("jobs/high/"))), 400, "InvalidFencingToken"},
		"another scope named, with a token of ours": {put("jobs/low/k", with(tokenHeader(low), "X-Fencing-Scope", c.Scope("jobs/high/"))), 400, "InvalidFencingToken"},
		"a scope below the guard's":                 {put("jobs/low/k", with(tokenHeader(low), "X-Fencing-Scope", c.Scope("jobs/low/deeper/"))), 400, "InvalidFencingToken"},
		"credentials of another scope":              {fenced.sign(put("jobs/high/k", nil)), 403, "MissingFencingToken"},
		"credentials of one, token of another":      {fenced.sign(put("jobs/low/k", tokenHeader(high))), 400, "InvalidFencingToken"},
		"a copy under the source's token":           {put("jobs/high/k", with(tokenHeader(low), "X-Amz-Copy-Source", c.Bucket+"/jobs/low/k")), 412, "StaleFencingToken"},
		"a copy by the source's credentials":        {fenced.sign(put("jobs/high/k", map[string]string{"X-Amz-Copy-Source": c.Bucket + "/jobs/low/k"})), 403, "MissingFencingToken"},
		"a copy out of what is ours":                {put("jobs/low/k", with(tokenHeader(low), "X-Amz-Copy-Source", c.Bucket+"/.s3fence/objects/x")), 404, "NoSuchKey"},
		"a browser's form":                          {Request{Method: "POST", Bucket: c.Bucket, Header: with(tokenHeader(low), "Content-Type", "multipart/form-data; boundary=x"), Body: "--x\r\n--x--\r\n"}, 501, "NotImplemented"},
	} {
		t.Run(name, func(t *testing.T) {
			p.Send(t, tc.r).WantCode(t, tc.status, tc.code)
			assert.Equal(t, "low", p.Get(t, "jobs/low/k"))
			assert.Equal(t, "high", p.Get(t, "jobs/high/k"))
		})
	}
	// A batch is judged key by key, each in its own scope.
	batch := func(token int64) Answer {
		body := "<Delete><Object><Key>jobs/low/k</Key></Object><Object><Key>jobs/high/k</Key></Object></Delete>"
		return p.Send(t, Request{Method: "POST", Bucket: c.Bucket, Query: url.Values{"delete": {""}}, Header: with(tokenHeader(token), "Content-Md5", contentMD5(body)), Body: body})
	}
	got := batch(low)
	assert.Contains(t, got.Body, "StaleFencingToken", "%s", got)
	assert.Equal(t, "high", p.Get(t, "jobs/high/k"))
	p.WantAbsent(t, "jobs/low/k")
}

// TestPastTheProxyAtTheStore does what whoever has the store's own key can, and holds
// docs/security.md to what it says is noticed of that.
func TestPastTheProxyAtTheStore(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Guards: []Guard{{Prefix: "jobs/"}}})
	p := c.Proxies[0]
	token := c.Take("jobs/", "ann")
	store := c.Store.Client(t)
	conn, err := pgx.Connect(t.Context(), c.DSN)
	require.NoError(t, err)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	physical := func(key string) (name string) {
		t.Helper()
		var b []byte
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT physical FROM objects WHERE key = $1", []byte(key)).Scan(&b))
		return string(b)
	}
	plant := func(key, body string) {
		t.Helper()
		_, err := store.PutObject(t.Context(), c.Bucket, key, strings.NewReader(body), int64(len(body)), minio.PutObjectOptions{})
		require.NoError(t, err)
	}
	get := func(key string) (Answer, error) {
		return p.TrySend(t.Context(), Request{Method: "GET", Bucket: c.Bucket, Key: key})
	}
	large := strings.Repeat("a", 1<<20) + "!"
	forged := strings.Repeat("b", len(large))
	for key, body := range map[string]string{"jobs/small": "aaaa", "jobs/large": large, "jobs/short": "aaaa", "jobs/gone": "aaaa"} {
		p.PutToken(t, key, body, token).Want(t, 200)
	}
	p.Send(t, Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/summed", Body: large, Header: with(tokenHeader(token), "X-Amz-Checksum-Crc32c", crc32c(large))}).Want(t, 200)

	// Plain keys in a scope are nobody's.
	plant("jobs/planted", "planted")
	plant("jobs/small", "planted")
	p.WantAbsent(t, "jobs/planted")
	assert.Equal(t, "aaaa", p.Get(t, "jobs/small"))
	list := p.Send(t, Request{Method: "GET", Bucket: c.Bucket, Query: url.Values{"list-type": {"2"}}}).Want(t, 200)
	assert.NotContains(t, list.Body, "planted")

	plant(physical("jobs/small"), "bbbb")
	_, err = get("jobs/small")
	require.Error(t, err, "a small object with other bytes never looks whole")
	plant(physical("jobs/summed"), forged)
	_, err = get("jobs/summed")
	require.Error(t, err, "nor one whose writer gave a checksum")
	plant(physical("jobs/short"), "aaa")
	got, err := get("jobs/short")
	require.NoError(t, err)
	got.WantCode(t, 503, "ServiceUnavailable")
	require.NoError(t, store.RemoveObject(t.Context(), c.Bucket, physical("jobs/gone"), minio.RemoveObjectOptions{}))
	got, err = get("jobs/gone")
	require.NoError(t, err)
	got.WantCode(t, 500, "InternalError")

	// What is not noticed.
	plant(physical("jobs/large"), forged)
	got, err = get("jobs/large")
	require.NoError(t, err)
	assert.True(t, got.Status == 200 && got.Body == forged, "a large object without a checksum: status %d", got.Status)
	plant("open", "planted")
	assert.Equal(t, "planted", p.Get(t, "open"))
}
