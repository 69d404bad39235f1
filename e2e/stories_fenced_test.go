package e2e

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Fenced credentials: the token goes with every request inside the scope, and
// nobody alters or mints it (F3, F4, F8).
func TestFencedCredentials(t *testing.T) {
	t.Parallel()
	for _, place := range places[:2] { // what is between proxy and database plays no part
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			c := place.open(t)
			c.Run(t, "issued", func(t *testing.T) { issuedStory(t, c) })
			c.Run(t, "inside the scope", func(t *testing.T) { insideStory(t, c) })
			c.Run(t, "outside the scope", func(t *testing.T) { outsideStory(t, c) })
			c.Run(t, "an upload", func(t *testing.T) { fencedUploadStory(t, c) })
			c.Run(t, "forged", func(t *testing.T) { forgedStory(t, c) })
		})
	}
	t.Run("guards that change", func(t *testing.T) {
		t.Parallel()
		c := NewDev(t, Options{}) // one proxy, which waits for no other
		c.Run(t, "removed, added again", func(t *testing.T) { regardedStory(t, c) })
		c.Run(t, "external issuer and reset", func(t *testing.T) { resetStory(t, c) })
	})
}

func issuedStory(t *testing.T, c *Cluster) {
	a, b := c.Proxies[0], c.last()
	old := c.Take("jobs/", "ann")
	asked := time.Now()
	f := c.Fence(a, "jobs/", old)
	assert.Equal(t, 1, f.Version)
	assert.Regexp(t, `^[A-Z0-9]{20}$`, f.AccessKey)
	assert.Regexp(t, `^[A-Za-z0-9/+_-]{40}$`, f.SecretKey)
	assert.LessOrEqual(t, len(f.SessionToken), 1500)
	assert.True(t, f.Expiration.After(asked.Add(time.Hour)), f.Expiration)
	assert.Equal(t, c.Scope("jobs/"), f.Scope)
	assert.Equal(t, old, f.Token)
	other := c.Fence(b, "jobs/", old)
	assert.NotEqual(t, f.AccessKey, other.AccessKey)

	// Any proxy opens them, on the lock API too, where they act for their parent.
	f.Put(t, b, "jobs/issued", "x").Want(t, 200)
	other.Put(t, a, "jobs/issued", "y").Want(t, 200)
	ask := func(p *Proxy, prefix string, token any) Answer {
		t.Helper()
		return p.API(t, "POST", "/-/v1/credentials", map[string]any{"scope": c.Scope(prefix), "token": token})
	}
	asFenced := func(call, body string) Answer {
		t.Helper()
		return b.Send(t, f.sign(Request{Method: "POST", RawPath: "/-/v1/" + call, Body: body, Header: map[string]string{"Content-Type": "application/json"}}))
	}
	body := `{"scope":"` + c.Scope("jobs/") + `","token":` + strconv.FormatInt(old, 10) + `}`
	asFenced("locks/renew", body).Want(t, 200)
	var further Fenced
	asFenced("credentials", body).Want(t, 200).JSON(t, &further)
	further.Put(t, a, "jobs/issued", "z").Want(t, 200)
	assert.False(t, further.Expiration.After(f.Expiration), "credentials do not prolong themselves")

	next := c.Take("jobs/", "bob")
	wantLock(t, ask(b, "jobs/", old), 412, "StaleFencingToken")
	wantLock(t, asFenced("credentials", body), 412, "StaleFencingToken")
	wantLock(t, ask(a, "jobs/", next+1000), 400, "InvalidFencingToken")
	wantLock(t, ask(a, "other/", next), 400, "InvalidFencingToken")
	wantLock(t, ask(a, "jobs/deep/", next), 409, "ScopeOverlap")
	c.Fence(b, "jobs/", next).Put(t, a, "jobs/issued", "next").Want(t, 200)
}

func insideStory(t *testing.T, c *Cluster) {
	a, b := c.Proxies[0], c.last()
	old := c.Take("jobs/", "frozen@host")
	f := c.Fence(a, "jobs/", old)
	put := f.Put(t, a, "jobs/k", "old").Want(t, 200)
	assert.Equal(t, c.Scope("jobs/"), put.Header.Get("X-Fencing-Scope"))
	assert.Equal(t, strconv.FormatInt(old, 10), put.Header.Get("X-Fencing-Highest"))
	list := Request{Method: "GET", Bucket: c.Bucket, Query: url.Values{"list-type": {"2"}, "prefix": {"jobs/k"}}}
	requests := map[string]Request{
		"put":    {Method: "PUT", Bucket: c.Bucket, Key: "jobs/k2", Body: "x"},
		"get":    {Method: "GET", Bucket: c.Bucket, Key: "jobs/k"},
		"range":  {Method: "GET", Bucket: c.Bucket, Key: "jobs/k", Header: map[string]string{"Range": "bytes=0-0"}},
		"list":   list,
		"delete": {Method: "DELETE", Bucket: c.Bucket, Key: "jobs/k2"},
		"copy":   {Method: "PUT", Bucket: c.Bucket, Key: "jobs/copy", Header: map[string]string{"X-Amz-Copy-Source": c.Bucket + "/jobs/k"}},
		"out":    {Method: "PUT", Bucket: c.Bucket, Key: "elsewhere", Header: map[string]string{"X-Amz-Copy-Source": c.Bucket + "/jobs/k"}},
	}
	for name, r := range requests {
		for _, presigned := range []bool{false, true} {
			r.Presigned = presigned
			if answer := b.Send(t, f.sign(r)); answer.Status/100 != 2 {
				t.Fatalf("%s: %s", name, answer)
			}
		}
	}
	// Made before, used after.
	link, err := a.build(t.Context(), f.sign(Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/k", Body: "late", Presigned: true}))
	require.NoError(t, err)

	next := c.Take("jobs/", "next@host")
	late, err := a.do(link)
	require.NoError(t, err)
	said := late.WantCode(t, 412, "StaleFencingToken")
	assert.Contains(t, said.Message, "token "+strconv.FormatInt(old, 10)+" of "+c.Scope("jobs/")+" is stale: "+strconv.FormatInt(next, 10)+" was granted to next@host")
	for name, r := range requests {
		for _, presigned := range []bool{false, true} {
			r.Presigned = presigned
			answer := b.Send(t, f.sign(r))
			fail := answer.WantCode(t, 412, "StaleFencingToken")
			assert.Equal(t, strconv.FormatInt(old, 10), fail.FencingToken, name)
			assert.Equal(t, strconv.FormatInt(next, 10), fail.HighestToken, name)
		}
	}
	head := a.Send(t, f.sign(Request{Method: "HEAD", Bucket: c.Bucket, Key: "jobs/k"})).Want(t, 412)
	assert.Equal(t, strconv.FormatInt(next, 10), head.Header.Get("X-Fencing-Highest"))
	f.Get(t, a, "jobs/absent").WantCode(t, 412, "StaleFencingToken")
	conditional := Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/k", Body: "late", Header: map[string]string{"If-Match": put.Header.Get("ETag")}}
	a.Send(t, f.sign(conditional)).WantCode(t, 403, "StaleFencingToken")
	g := c.Fence(b, "jobs/", next)
	assert.Equal(t, "old", g.Get(t, a, "jobs/k").Want(t, 200).Body)

	// A header that says something else.
	both := Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/k", Body: "y", Header: tokenHeader(next)}
	a.Send(t, g.sign(both)).Want(t, 200)
	both.Header = tokenHeader(old)
	a.Send(t, g.sign(both)).WantCode(t, 400, "InvalidFencingToken")
	both.Header = map[string]string{"X-Amz-Meta-Fencing-Token": strconv.FormatInt(next+1, 10)}
	a.Send(t, g.sign(both)).WantCode(t, 400, "InvalidFencingToken")
	both.Header = map[string]string{"X-Fencing-Scope": c.Scope("other/")}
	a.Send(t, g.sign(both)).WantCode(t, 400, "InvalidFencingToken")
}

func outsideStory(t *testing.T, c *Cluster) {
	a, b := c.Proxies[0], c.last()
	other := c.Take("other/", "else")
	a.PutToken(t, "other/k", "theirs", other).Want(t, 200)
	a.Put(t, "plain", "plain").Want(t, 200)
	old := c.Take("jobs/", "ann")
	stale := c.Fence(a, "jobs/", old)
	stale.Put(t, a, "jobs/k", "x").Want(t, 200)
	good := c.Fence(a, "jobs/", c.Take("jobs/", "bob"))
	for _, f := range []Fenced{good, stale} {
		denied := f.Put(t, b, "other/k", "mine").WantCode(t, 403, "MissingFencingToken")
		assert.Contains(t, denied.Message, c.Scope("jobs/"))
		b.Send(t, f.sign(Request{Method: "DELETE", Bucket: c.Bucket, Key: "other/k"})).WantCode(t, 403, "MissingFencingToken")
		b.Send(t, f.sign(Request{Method: "POST", Bucket: c.Bucket, Key: "other/k", Query: url.Values{"uploads": {""}}})).WantCode(t, 403, "MissingFencingToken")
		for _, r := range []Request{
			{Method: "GET", Bucket: c.Bucket, Key: "other/k"},
			{Method: "GET", Bucket: c.Bucket, Key: "plain"},
			{Method: "PUT", Bucket: c.Bucket, Key: "plain", Body: "plain"},
			{Method: "PUT", Bucket: c.Bucket, Key: "plain-copy", Header: map[string]string{"X-Amz-Copy-Source": c.Bucket + "/other/k"}},
			{Method: "HEAD", Bucket: c.Bucket},
			{Method: "GET"},
			{Method: "GET", Bucket: c.Bucket, Query: url.Values{"location": {""}}},
			{Method: "GET", Bucket: c.Bucket, Query: url.Values{"versioning": {""}}},
			{Method: "GET", Bucket: c.Bucket, Query: url.Values{"list-type": {"2"}}},
			{Method: "GET", Bucket: c.Bucket, Query: url.Values{"list-type": {"2"}, "prefix": {"jobs"}, "delimiter": {"/"}}},
			{Method: "GET", Bucket: c.Bucket, Query: url.Values{"list-type": {"2"}, "prefix": {"other/"}}},
			{Method: "GET", Bucket: c.Bucket, Query: url.Values{"uploads": {""}}},
		} {
			for _, r.Presigned = range []bool{false, true} {
				b.Send(t, f.sign(r)).Want(t, 200)
			}
		}
	}
	remove := Request{Method: "POST", Bucket: c.Bucket, Query: url.Values{"delete": {""}},
		Body: "<Delete><Object><Key>jobs/k</Key></Object><Object><Key>other/k</Key></Object><Object><Key>plain-copy</Key></Object></Delete>"}
	remove.Header = map[string]string{"Content-MD5": contentMD5(remove.Body)}
	for _, test := range []struct {
		f    Fenced
		want map[string]string
	}{
		{stale, map[string]string{"jobs/k": "StaleFencingToken", "other/k": "MissingFencingToken"}},
		{good, map[string]string{"other/k": "MissingFencingToken"}},
	} {
		var result deleted
		b.Send(t, test.f.sign(remove)).Want(t, 200).XML(t, &result)
		got := map[string]string{}
		for _, e := range result.Error {
			got[e.Key] = e.Code
		}
		assert.Equal(t, test.want, got)
		assert.Len(t, result.Deleted, 3-len(got))
	}
	assert.Equal(t, "theirs", a.Get(t, "other/k"))
	a.WantAbsent(t, "jobs/k")
	// Into the other scope with the token of that one, which the header can say.
	b.Send(t, good.sign(Request{Method: "PUT", Bucket: c.Bucket, Key: "other/k", Body: "both", Header: tokenHeader(other)})).Want(t, 200)
}

func fencedUploadStory(t *testing.T, c *Cluster) {
	a, b := c.Proxies[0], c.last()
	old := c.Fence(a, "jobs/", c.Take("jobs/", "ann"))
	begin := func(f Fenced, key string) string {
		t.Helper()
		var begun initiated
		a.Send(t, f.sign(Request{Method: "POST", Bucket: c.Bucket, Key: key, Query: url.Values{"uploads": {""}}})).Want(t, 200).XML(t, &begun)
		return begun.UploadID
	}
	part := func(f Fenced, p *Proxy, key, id string) Answer {
		t.Helper()
		return p.Send(t, f.sign(Request{Method: "PUT", Bucket: c.Bucket, Key: key, Body: "part", Query: url.Values{"uploadId": {id}, "partNumber": {"1"}}}))
	}
	complete := func(f Fenced, p *Proxy, key, id, etag string) Answer {
		t.Helper()
		return p.Send(t, f.sign(Request{Method: "POST", Bucket: c.Bucket, Key: key, Query: url.Values{"uploadId": {id}},
			Body: "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + etag + "</ETag></Part></CompleteMultipartUpload>"}))
	}
	whole := begin(old, "jobs/whole")
	etag := part(old, b, "jobs/whole", whole).Want(t, 200).Header.Get("ETag")
	complete(old, a, "jobs/whole", whole, etag).Want(t, 200)
	left := begin(old, "jobs/left")
	etag = part(old, b, "jobs/left", left).Want(t, 200).Header.Get("ETag")

	next := c.Fence(b, "jobs/", c.Take("jobs/", "bob"))
	part(old, a, "jobs/left", left).WantCode(t, 412, "StaleFencingToken")
	complete(old, b, "jobs/left", left, etag).WantCode(t, 412, "StaleFencingToken")
	// It belongs to the token that created it.
	part(next, a, "jobs/left", left).WantCode(t, 400, "InvalidFencingToken")
	complete(next, b, "jobs/left", left, etag).WantCode(t, 400, "InvalidFencingToken")
	a.Send(t, old.sign(Request{Method: "DELETE", Bucket: c.Bucket, Key: "jobs/left", Query: url.Values{"uploadId": {left}}})).Want(t, 204)
	a.WantAbsent(t, "jobs/left")
}

func forgedStory(t *testing.T, c *Cluster) {
	a := c.Proxies[0]
	token := c.Take("jobs/", "ann")
	f, g := c.Fence(a, "jobs/", token), c.Fence(a, "jobs/", token)
	try := func(name string, f Fenced, status int, code string) {
		t.Helper()
		for _, presigned := range []bool{false, true} {
			r := f.sign(Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/forged", Body: "x", Presigned: presigned})
			answer := a.Send(t, r)
			if answer.Status != status || answer.Failure().Code != code {
				t.Errorf("%s: want %d %s; %s", name, status, code, answer)
			}
			assert.NotContains(t, answer.Body, f.SecretKey)
		}
		api := a.Send(t, f.sign(Request{Method: "GET", RawPath: "/-/v1/locks"}))
		if api.Status != status || api.Code() != code {
			t.Errorf("%s: want %d %s; %s", name, status, code, api)
		}
	}
	altered := func(change func(f *Fenced)) Fenced {
		f := f
		change(&f)
		return f
	}
	for _, at := range []int{0, 1, len(f.SessionToken) / 3, len(f.SessionToken) / 2, len(f.SessionToken) - 1} {
		try("altered at "+strconv.Itoa(at), altered(func(f *Fenced) {
			b := []byte(f.SessionToken)
			if b[at] == 'B' {
				b[at] = 'C'
			} else {
				b[at] = 'B'
			}
			f.SessionToken = string(b)
		}), 400, "InvalidToken")
	}
	try("cut", altered(func(f *Fenced) { f.SessionToken = f.SessionToken[:len(f.SessionToken)-2] }), 400, "InvalidToken")
	try("nonsense", altered(func(f *Fenced) { f.SessionToken = "nonsense" }), 400, "InvalidToken")
	try("none", altered(func(f *Fenced) { f.SessionToken = "" }), 400, "InvalidToken")
	try("of another session", altered(func(f *Fenced) { f.SessionToken = g.SessionToken }), 400, "InvalidToken")
	try("another access key", altered(func(f *Fenced) { f.AccessKey = g.AccessKey }), 400, "InvalidToken")
	try("wrong secret", altered(func(f *Fenced) { f.SecretKey = strings.Repeat("x", 40) }), 403, "SignatureDoesNotMatch")
	try("the parent's secret", altered(func(f *Fenced) { f.SecretKey = c.SecretKey }), 403, "SignatureDoesNotMatch")
	try("the parent with a session token", altered(func(f *Fenced) { f.AccessKey, f.SecretKey = c.AccessKey, c.SecretKey }), 400, "InvalidToken")
	try("a key of nobody", altered(func(f *Fenced) { f.AccessKey = "ASIAIOSFODNN7EXAMPLE" }), 403, "InvalidAccessKeyId")
	a.WantAbsent(t, "jobs/forged")
	// A session token that came along unsigned.
	r := Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/forged", Body: "x", Unsigned: map[string]string{"X-Amz-Security-Token": f.SessionToken}}
	a.Send(t, r).WantCode(t, 403, "AccessDenied")
	r = f.sign(Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/forged", Body: "x", Presigned: true})
	answer, err := a.sendAltered(t.Context(), r, func(u *url.URL) {
		u.RawQuery = strings.Replace(u.RawQuery, f.SessionToken, g.SessionToken, 1)
	})
	require.NoError(t, err)
	answer.WantCode(t, 400, "InvalidToken")
	f.Put(t, a, "jobs/forged", "x").Want(t, 200)
	assert.NotContains(t, a.Log(), f.SecretKey)
	assert.NotContains(t, a.Log(), f.SessionToken)
}

func regardedStory(t *testing.T, c *Cluster) {
	a := c.Proxies[0]
	bucket := c.NewBucket()
	add := func(pattern string, flags ...string) {
		t.Helper()
		a.CLI(append([]string{"guard", "add", "s3://" + bucket + "/" + pattern}, flags...)...).Must(t)
	}
	remove := func(pattern string) {
		t.Helper()
		a.CLI("guard", "remove", "s3://"+bucket+"/"+pattern).Must(t)
	}
	add("a/b/")
	scope := "s3://" + bucket + "/a/b/"
	token := a.Take(t, scope, "ann")
	var f Fenced
	a.API(t, "POST", "/-/v1/credentials", map[string]any{"scope": scope, "token": token}).Want(t, 200).JSON(t, &f)
	put := func(key string) Answer {
		t.Helper()
		return a.Send(t, f.sign(Request{Method: "PUT", Bucket: bucket, Key: key, Body: "x"}))
	}
	put("a/b/k").Want(t, 200)
	a.Send(t, f.sign(Request{Method: "DELETE", Bucket: bucket, Key: "a/b/k"})).Want(t, 204)

	remove("a/b/")
	said := put("a/b/k").WantCode(t, 400, "InvalidFencingToken")
	assert.Contains(t, said.Message, "no guard covers")
	put("a/k").Want(t, 200)
	a.Send(t, Request{Method: "DELETE", Bucket: bucket, Key: "a/k"}).Want(t, 204)
	add("a/")
	said = put("a/b/k").WantCode(t, 400, "InvalidFencingToken")
	assert.Contains(t, said.Message, "fetch new credentials")
	remove("a/")
	add("a/b/", "--tokens", "none")
	put("a/b/k").WantCode(t, 400, "InvalidFencingToken")
	wantLock(t, a.API(t, "POST", "/-/v1/credentials", map[string]any{"scope": scope, "token": token}), 400, "NoLocks")
	remove("a/b/")
	// The mark was kept (F1), so the same scope again knows the token.
	add("a/b/")
	put("a/b/k").Want(t, 200)
	a.Take(t, scope, "bob")
	put("a/b/k").WantCode(t, 412, "StaleFencingToken")
}

func resetStory(t *testing.T, c *Cluster) {
	a := c.Proxies[0]
	bucket := c.NewBucket()
	scope := "s3://" + bucket + "/ext/"
	a.CLI("guard", "add", scope, "--issuer", "external").Must(t)
	fence := func(scope string, token int64) Fenced {
		t.Helper()
		var f Fenced
		a.API(t, "POST", "/-/v1/credentials", map[string]any{"scope": scope, "token": token}).Want(t, 200).JSON(t, &f)
		return f
	}
	put := func(f Fenced) Answer {
		t.Helper()
		return a.Send(t, f.sign(Request{Method: "PUT", Bucket: bucket, Key: "ext/k", Body: "x"}))
	}
	old, newer := fence(scope, 70), fence(scope, 80)
	put(old).Want(t, 200)
	put(newer).Want(t, 200)
	put(old).WantCode(t, 412, "StaleFencingToken")
	wantLock(t, a.API(t, "POST", "/-/v1/credentials", map[string]any{"scope": scope, "token": 79}), 412, "StaleFencingToken")
	a.API(t, "POST", "/-/v1/scopes/reset", map[string]any{"scope": scope, "reason": "a test"}).Want(t, 200)
	said := put(newer).WantCode(t, 400, "InvalidFencingToken")
	assert.Contains(t, said.Message, "etch new credentials")
	wantLock(t, a.API(t, "POST", "/-/v1/credentials", map[string]any{"scope": scope, "token": 1}), 400, "InvalidArgument")
	put(fence(scope+"?generation=2", 1)).Want(t, 200)
}
