package e2e

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The stories of holder 33, who froze, and holder 34, who took over. What they
// defend: F3, F4, F5 and F7.
func TestFence(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, c *Cluster) {
		c.Run(t, "a stale token is refused by every carrier", func(t *testing.T) { carriersStory(t, c) })
		c.Run(t, "an upload belongs to the token that created it", func(t *testing.T) { uploadStory(t, c) })
		c.Run(t, "a batch delete is answered key by key", func(t *testing.T) { batchStory(t, c) })
		c.Run(t, "wrong tokens", func(t *testing.T) { wrongTokensStory(t, c) })
		c.Run(t, "keys that a store could take for another", func(t *testing.T) { aliasStory(t, c) })
		c.Run(t, "reserved keys", func(t *testing.T) { reservedStory(t, c) })
		c.Run(t, "what would undermine the fence", func(t *testing.T) { bucketStory(t, c) })
		c.Run(t, "a stale write with a condition of its own", func(t *testing.T) { conditionalStaleStory(t, c) })
	})
}

// carriers are the ways in which a request says its token.
var carriers = []struct {
	name string
	add  func(r *Request, token int64)
}{
	{"header", func(r *Request, token int64) {
		r.Header = with(r.Header, "X-Fencing-Token", strconv.FormatInt(token, 10))
	}},
	{"metadata", func(r *Request, token int64) {
		r.Header = with(r.Header, "X-Amz-Meta-Fencing-Token", strconv.FormatInt(token, 10))
	}},
	{"signed query", func(r *Request, token int64) {
		r.Presigned = true
		r.Query = url.Values{"X-Fencing-Token": {strconv.FormatInt(token, 10)}}
	}},
}

func carriersStory(t *testing.T, c *Cluster) {
	for i, carrier := range carriers {
		c.Run(t, carrier.name, func(t *testing.T) {
			a, b := c.Proxies[0], c.last()
			key := fmt.Sprintf("jobs/carried-%d", i)
			put := func(p *Proxy, body string, token int64) Answer {
				r := Request{Method: "PUT", Bucket: c.Bucket, Key: key, Body: body}
				carrier.add(&r, token)
				return p.Send(t, r)
			}
			frozen := c.Take("jobs/", "frozen@host")
			first := put(a, "by the frozen one", frozen).Want(t, 200)
			assert.Equal(t, c.Scope("jobs/"), first.Header.Get("X-Fencing-Scope"))
			assert.Equal(t, strconv.FormatInt(frozen, 10), first.Header.Get("X-Fencing-Highest"))

			next := c.Take("jobs/", "next@host")
			require.Greater(t, next, frozen, "F2: each grant has a higher token")
			// F5: what 33 had written is there for 34, and the mark stands from
			// the grant on, not from 34's first write.
			assert.Equal(t, "by the frozen one", b.Get(t, key))
			put(a, "late, before 34 wrote", frozen).WantCode(t, 412, "StaleFencingToken")
			put(b, "by the next one", next).Want(t, 200)

			for _, p := range []*Proxy{a, b} {
				late := put(p, "late", frozen)
				f := late.WantCode(t, 412, "StaleFencingToken")
				assert.Equal(t, c.Scope("jobs/"), f.Scope)
				assert.Equal(t, strconv.FormatInt(frozen, 10), f.FencingToken)
				assert.Equal(t, strconv.FormatInt(next, 10), f.HighestToken)
				assert.Equal(t, c.Scope("jobs/"), late.Header.Get("X-Fencing-Scope"))
				assert.Equal(t, strconv.FormatInt(next, 10), late.Header.Get("X-Fencing-Highest"))
				for _, said := range []string{strconv.FormatInt(frozen, 10), strconv.FormatInt(next, 10), "next@host", c.Scope("jobs/"), "stale"} {
					assert.Contains(t, f.Message, said)
				}
			}
			remove := Request{Method: "DELETE", Bucket: c.Bucket, Key: key}
			read := Request{Method: "GET", Bucket: c.Bucket, Key: key}
			if carrier.name != "metadata" {
				carrier.add(&remove, frozen)
				b.Send(t, remove).WantCode(t, 412, "StaleFencingToken")
				carrier.add(&read, frozen)
				a.Send(t, read).WantCode(t, 412, "StaleFencingToken")
				head := read
				head.Method = "HEAD"
				answer := a.Send(t, head).Want(t, 412)
				assert.Equal(t, strconv.FormatInt(next, 10), answer.Header.Get("X-Fencing-Highest"), "HEAD has no body to say it in")
			}
			assert.Equal(t, "by the next one", a.Get(t, key))
			got := a.Send(t, Request{Method: "GET", Bucket: c.Bucket, Key: key}).Want(t, 200)
			assert.Empty(t, got.Header.Get("X-Amz-Meta-Fencing-Token"), "the token is no metadata of the object")
		})
	}
}

type initiated struct {
	XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
	UploadID string   `xml:"UploadId"`
}

// createUpload begins an upload with a token, or without one where it is 0.
func createUpload(t *testing.T, p *Proxy, key string, token int64) string {
	t.Helper()
	r := Request{Method: "POST", Bucket: p.cluster.Bucket, Key: key, Query: url.Values{"uploads": {""}}}
	if token != 0 {
		r.Header = tokenHeader(token)
	}
	var begun initiated
	p.Send(t, r).Want(t, 200).XML(t, &begun)
	require.NotEmpty(t, begun.UploadID)
	return begun.UploadID
}

// sendPart sends a part without a token and returns its ETag.
func sendPart(t *testing.T, p *Proxy, key, id string, number int, body string) string {
	t.Helper()
	answer := p.Send(t, Request{Method: "PUT", Bucket: p.cluster.Bucket, Key: key, Body: body,
		Query: url.Values{"uploadId": {id}, "partNumber": {strconv.Itoa(number)}}}).Want(t, 200)
	return answer.Header.Get("ETag")
}

func completeUpload(t *testing.T, p *Proxy, key, id string, etags ...string) Answer {
	t.Helper()
	var body strings.Builder
	body.WriteString("<CompleteMultipartUpload>")
	for i, etag := range etags {
		fmt.Fprintf(&body, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, etag)
	}
	body.WriteString("</CompleteMultipartUpload>")
	return p.Send(t, Request{Method: "POST", Bucket: p.cluster.Bucket, Key: key, Query: url.Values{"uploadId": {id}}, Body: body.String()})
}

func uploadStory(t *testing.T, c *Cluster) {
	a, b := c.Proxies[0], c.last()
	old := c.Take("jobs/", "old")
	begun := createUpload(t, a, "jobs/big", old)
	doomed := createUpload(t, a, "jobs/doomed", old)
	part := sendPart(t, a, "jobs/big", begun, 1, "the only part")
	whole := createUpload(t, b, "jobs/whole", old)
	etag := sendPart(t, a, "jobs/whole", whole, 1, "in time")
	completeUpload(t, b, "jobs/whole", whole, etag).Want(t, 200)
	assert.Equal(t, "in time", a.Get(t, "jobs/whole"))

	next := c.Take("jobs/", "next")
	f := completeUpload(t, b, "jobs/big", begun, part).WantCode(t, 412, "StaleFencingToken")
	assert.Equal(t, strconv.FormatInt(old, 10), f.FencingToken)
	assert.Equal(t, strconv.FormatInt(next, 10), f.HighestToken)
	a.WantAbsent(t, "jobs/big")

	// Not even the new holder may complete what the old one began.
	adopt := Request{Method: "POST", Bucket: c.Bucket, Key: "jobs/big", Query: url.Values{"uploadId": {begun}}, Header: tokenHeader(next),
		Body: "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + part + "</ETag></Part></CompleteMultipartUpload>"}
	if s := a.Send(t, adopt); s.Status < 400 || s.Status >= 500 {
		t.Fatalf("an upload of %d was completed under %d: %s", old, next, s)
	}
	a.WantAbsent(t, "jobs/big")

	// Aborting one's own upload harms nobody (F3's exception).
	for key, id := range map[string]string{"jobs/doomed": doomed, "jobs/big": begun} {
		b.Send(t, Request{Method: "DELETE", Bucket: c.Bucket, Key: key, Query: url.Values{"uploadId": {id}}}).Want(t, 204)
	}
	completeUpload(t, a, "jobs/big", begun, part).WantCode(t, 404, "NoSuchUpload")
	a.Send(t, Request{Method: "POST", Bucket: c.Bucket, Key: "jobs/x", Query: url.Values{"uploads": {""}}}).WantCode(t, 403, "MissingFencingToken")
	a.Send(t, Request{Method: "POST", Bucket: c.Bucket, Key: "jobs/x", Query: url.Values{"uploads": {""}}, Header: tokenHeader(old)}).WantCode(t, 412, "StaleFencingToken")
}

type deleted struct {
	XMLName xml.Name `xml:"DeleteResult"`
	Deleted []struct{ Key string }
	Error   []struct{ Key, Code, Message string }
}

func batchStory(t *testing.T, c *Cluster) {
	a := c.Proxies[0]
	jobs, other := c.Take("jobs/", "batch"), c.Take("other/", "batch")
	a.PutToken(t, "jobs/mine", "1", jobs).Want(t, 200)
	a.PutToken(t, "jobs/mine & <too>", "1", jobs).Want(t, 200)
	a.PutToken(t, "other/theirs", "1", other).Want(t, 200)
	a.Put(t, "plain", "1").Want(t, 200)
	batch := func(token int64, keys ...string) map[string]string {
		var body strings.Builder
		body.WriteString("<Delete>")
		for _, key := range keys {
			body.WriteString("<Object><Key>")
			require.NoError(t, xml.EscapeText(&body, []byte(key)))
			body.WriteString("</Key></Object>")
		}
		body.WriteString("</Delete>")
		r := Request{Method: "POST", Bucket: c.Bucket, Query: url.Values{"delete": {""}}, Body: body.String()}
		if token != 0 {
			r.Header = tokenHeader(token)
		}
		r.Header = with(r.Header, "Content-MD5", contentMD5(r.Body))
		var result deleted
		a.Send(t, r).Want(t, 200).XML(t, &result)
		verdicts := map[string]string{}
		for _, d := range result.Deleted {
			verdicts[d.Key] = "deleted"
		}
		for _, e := range result.Error {
			verdicts[e.Key] = e.Code
			assert.NotEmpty(t, e.Message)
		}
		assert.Len(t, verdicts, len(keys))
		return verdicts
	}
	assert.Equal(t, map[string]string{"jobs/mine": "MissingFencingToken", "other/theirs": "MissingFencingToken", "nothing": "deleted"},
		batch(0, "jobs/mine", "other/theirs", "nothing"))

	verdicts := batch(jobs, "jobs/mine", "other/theirs", "plain", "jobs/mine & <too>", "jobs/never-was")
	assert.Equal(t, "deleted", verdicts["jobs/mine"])
	assert.Equal(t, "deleted", verdicts["jobs/mine & <too>"])
	assert.Equal(t, "deleted", verdicts["jobs/never-was"], "as S3 has it")
	// F8: a token counts in its own scope. By its number alone it may also be
	// taken for a stale one of the other scope.
	assert.Contains(t, []string{"InvalidFencingToken", "StaleFencingToken"}, verdicts["other/theirs"])
	assert.Equal(t, "InvalidFencingToken", verdicts["plain"], "outside of every guard a token means nothing")
	a.WantAbsent(t, "jobs/mine")
	assert.Equal(t, "1", a.Get(t, "other/theirs"))
	assert.Equal(t, "1", a.Get(t, "plain"))

	a.PutToken(t, "jobs/kept", "1", jobs).Want(t, 200)
	c.Take("jobs/", "another")
	assert.Equal(t, map[string]string{"jobs/kept": "StaleFencingToken"}, batch(jobs, "jobs/kept"))
	assert.Equal(t, "1", a.Get(t, "jobs/kept"))
}

func wrongTokensStory(t *testing.T, c *Cluster) {
	a := c.Proxies[0]
	token := c.Take("jobs/", "right")
	other := c.Take("other/", "right")
	right := strconv.FormatInt(token, 10)
	put := func(key string) Request {
		return Request{Method: "PUT", Bucket: c.Bucket, Key: key, Body: "must not be written"}
	}
	for _, test := range []struct {
		name   string
		key    string
		header map[string]string
		// unsigned is added after signing, query signed along.
		unsigned map[string]string
		query    url.Values
		status   int
		code     string
		says     string
	}{
		{name: "none", status: 403, code: "MissingFencingToken", says: c.Scope("jobs/")},
		{name: "huge, never granted", header: tokenHeader(1 << 52), status: 400, code: "InvalidFencingToken"},
		{name: "the next one, not granted yet", header: tokenHeader(token + 1000), status: 400, code: "InvalidFencingToken"},
		{name: "of another scope", header: tokenHeader(other), status: 400, code: "InvalidFencingToken"},
		{name: "above int64", header: map[string]string{"X-Fencing-Token": "9223372036854775808"}, status: 400, code: "InvalidFencingToken"},
		{name: "zero", header: map[string]string{"X-Fencing-Token": "0"}, status: 400, code: "InvalidFencingToken"},
		{name: "negative", header: map[string]string{"X-Fencing-Token": "-" + right}, status: 400, code: "InvalidFencingToken"},
		{name: "with a sign", header: map[string]string{"X-Fencing-Token": "+" + right}, status: 400, code: "InvalidFencingToken"},
		{name: "leading zero", header: map[string]string{"X-Fencing-Token": "0" + right}, status: 400, code: "InvalidFencingToken"},
		{name: "fraction", header: map[string]string{"X-Fencing-Token": right + ".0"}, status: 400, code: "InvalidFencingToken"},
		{name: "hexadecimal", header: map[string]string{"X-Fencing-Token": "0x1"}, status: 400, code: "InvalidFencingToken"},
		{name: "words", header: map[string]string{"X-Fencing-Token": "newest"}, status: 400, code: "InvalidFencingToken"},
		{name: "two numbers", header: map[string]string{"X-Fencing-Token": right + ", " + right}, status: 400, code: "InvalidFencingToken"},
		{name: "malformed metadata", header: map[string]string{"X-Amz-Meta-Fencing-Token": "x"}, status: 400, code: "InvalidFencingToken"},
		{name: "header and metadata disagree", header: with(tokenHeader(token), "X-Amz-Meta-Fencing-Token", strconv.FormatInt(other, 10)), status: 400, code: "InvalidFencingToken"},
		{name: "unsigned header", unsigned: tokenHeader(token), status: 400, code: "InvalidFencingToken", says: "sign"},
		{name: "unsigned scope", header: tokenHeader(token), unsigned: map[string]string{"X-Fencing-Scope": c.Scope("jobs/")}, status: 400, code: "InvalidFencingToken", says: "sign"},
		{name: "header turned up after signing", header: tokenHeader(other), unsigned: tokenHeader(token), status: 403, code: "SignatureDoesNotMatch"},
		{name: "scope of another", header: with(tokenHeader(token), "X-Fencing-Scope", c.Scope("other/")), status: 400, code: "InvalidFencingToken", says: c.Scope("other/")},
		{name: "scope that is none", header: with(tokenHeader(token), "X-Fencing-Scope", "jobs/"), status: 400, code: "InvalidFencingToken"},
		{name: "scope without a token", header: map[string]string{"X-Fencing-Scope": c.Scope("jobs/")}, status: 400, code: "InvalidFencingToken"},
		{name: "outside every guard", key: "elsewhere", header: tokenHeader(token), status: 400, code: "InvalidFencingToken", says: "s3fence guard add s3://" + c.Bucket + "/"},
		{name: "outside every guard, metadata", key: "elsewhere", header: map[string]string{"X-Amz-Meta-Fencing-Token": right}, status: 400, code: "InvalidFencingToken", says: "no guard covers"},
	} {
		c.Run(t, test.name, func(t *testing.T) {
			r := put("jobs/wrong")
			if test.key != "" {
				r = put(test.key)
			}
			r.Header, r.Unsigned, r.Query = test.header, test.unsigned, test.query
			f := a.Send(t, r).WantCode(t, test.status, test.code)
			assert.Contains(t, f.Message, test.says)
			a.WantAbsent(t, r.Key)
		})
	}
	c.Run(t, "query parameter added after signing", func(t *testing.T) {
		r := put("jobs/wrong")
		r.Presigned = true
		answer, err := a.sendAltered(t.Context(), r, func(u *url.URL) { u.RawQuery += "&X-Fencing-Token=" + right })
		require.NoError(t, err)
		answer.WantCode(t, 403, "SignatureDoesNotMatch")
		a.WantAbsent(t, r.Key)
	})
	// None of it locked anybody out (F8).
	a.PutToken(t, "jobs/right", "x", token).Want(t, 200)
	a.Send(t, Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/right", Body: "named", Header: with(tokenHeader(token), "X-Fencing-Scope", c.Scope("jobs/"))}).Want(t, 200)
}

// The fence judges names: a name that a store takes for another one would pass
// by it. MinIO maps each of these onto jobs/a.
func aliasStory(t *testing.T, c *Cluster) {
	a := c.Proxies[0]
	token := c.Take("jobs/", "alias")
	a.PutToken(t, "jobs/a", "true", token).Want(t, 200)
	for _, raw := range []string{
		"jobs//a", "jobs/./a", "x/../jobs/a", "/jobs/a", "./jobs/a", "jobs/b/../a", "jobs/a/.", "jobs/a/..",
		"jobs/%2e/a", "x/%2E%2e/jobs/a", "%2Fjobs/a", "jobs%2F%2Fa",
	} {
		path := "/" + c.Bucket + "/" + raw
		for _, header := range []map[string]string{nil, tokenHeader(token)} {
			a.Send(t, Request{Method: "PUT", RawPath: path, Header: header, Body: "false"}).WantCode(t, 400, "InvalidObjectName")
			a.Send(t, Request{Method: "DELETE", RawPath: path, Header: header}).WantCode(t, 400, "InvalidObjectName")
			a.Send(t, Request{Method: "POST", RawPath: path, Header: header, Query: url.Values{"uploads": {""}}}).WantCode(t, 400, "InvalidObjectName")
			copied := Request{Method: "PUT", RawPath: path, Header: with(header, "X-Amz-Copy-Source", c.Bucket+"/jobs/a")}
			a.Send(t, copied).WantCode(t, 400, "InvalidObjectName")
		}
		// Nothing by such a name was ever let in, so nothing is there to be read.
		a.Send(t, Request{Method: "GET", RawPath: path}).WantCode(t, 404, "NoSuchKey")
		a.Send(t, Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/copy", Header: with(tokenHeader(token), "X-Amz-Copy-Source", c.Bucket+"/"+raw)}).WantCode(t, 404, "NoSuchKey")
	}
	assert.Equal(t, "true", a.Get(t, "jobs/a"))
}

func reservedStory(t *testing.T, c *Cluster) {
	a := c.Proxies[0]
	token := c.Take("jobs/", "reserved")
	a.PutToken(t, "jobs/kept", "kept", token).Want(t, 200)
	for _, method := range []string{"GET", "HEAD"} {
		a.Send(t, Request{Method: method, Bucket: c.Bucket, Key: ".s3fence/x"}).Want(t, 404)
	}
	for _, r := range []Request{
		{Method: "PUT", Bucket: c.Bucket, Key: ".s3fence/x", Body: "x"},
		{Method: "PUT", Bucket: c.Bucket, Key: "open", Header: map[string]string{"X-Amz-Copy-Source": c.Bucket + "/.s3fence/x"}},
		{Method: "POST", Bucket: c.Bucket, Key: ".s3fence/x", Query: url.Values{"uploads": {""}}},
		{Method: "DELETE", Bucket: c.Bucket, Key: ".s3fence/x"},
	} {
		// Deleting what does not exist is a success in S3.
		if s := a.Send(t, r); s.Status/100 != 4 && (r.Method != http.MethodDelete || s.Status != 204) {
			t.Errorf("a reserved key: %s", s)
		}
	}
	for _, query := range []url.Values{
		{"list-type": {"2"}, "prefix": {".s3"}}, {"list-type": {"2"}, "prefix": {".s3fence/"}}, {"prefix": {".s3fence/"}},
		{"list-type": {"2"}, "delimiter": {"/"}}, {"uploads": {""}},
	} {
		body := a.Send(t, Request{Method: "GET", Bucket: c.Bucket, Query: query}).Want(t, 200).Body
		_, listed, _ := strings.Cut(body, "<IsTruncated>")
		assert.NotContains(t, listed, ".s3fence", "%v", query)
	}
	assert.Equal(t, "kept", a.Get(t, "jobs/kept"))
}

func bucketStory(t *testing.T, c *Cluster) {
	a := c.Proxies[0]
	versioning := "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
	for name, r := range map[string]Request{
		"versioning":  {Method: "PUT", Query: url.Values{"versioning": {""}}, Body: versioning},
		"lifecycle":   {Method: "PUT", Query: url.Values{"lifecycle": {""}}, Body: "<LifecycleConfiguration/>"},
		"replication": {Method: "PUT", Query: url.Values{"replication": {""}}, Body: "<ReplicationConfiguration/>"},
		"policy":      {Method: "PUT", Query: url.Values{"policy": {""}}, Body: "{}"},
		"no such":     {Method: "PUT", Query: url.Values{"no-such-subresource": {""}}},
	} {
		r.Bucket = c.Bucket
		r.Header = map[string]string{"Content-MD5": contentMD5(r.Body)}
		if s := a.Send(t, r); s.Status != 501 || s.Failure().Code != "NotImplemented" {
			t.Errorf("%s: want 501 NotImplemented; %s", name, s)
		}
	}
	a.Send(t, Request{Method: "DELETE", Bucket: c.Bucket}).WantCode(t, 409, "BucketGuarded")
	a.Send(t, Request{Method: "HEAD", Bucket: c.Bucket}).Want(t, 200)
}

func conditionalStaleStory(t *testing.T, c *Cluster) {
	a := c.Proxies[0]
	old := c.Take("jobs/", "old")
	etag := a.PutToken(t, "jobs/swap", "1", old).Want(t, 200).Header.Get("ETag")
	next := c.Take("jobs/", "next")
	for _, condition := range []map[string]string{{"If-Match": etag}, {"If-Match": `"no"`}, {"If-None-Match": "*"}} {
		r := Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/swap", Body: "2", Header: tokenHeader(old)}
		for name, value := range condition {
			r.Header = with(r.Header, name, value)
		}
		f := a.Send(t, r).WantCode(t, 403, "StaleFencingToken")
		assert.Equal(t, strconv.FormatInt(next, 10), f.HighestToken)
	}
	a.Send(t, Request{Method: "PUT", Bucket: c.Bucket, Key: "jobs/swap", Body: "2", Header: with(tokenHeader(next), "If-Match", `"no"`)}).WantCode(t, 412, "PreconditionFailed")
	assert.Equal(t, "1", a.Get(t, "jobs/swap"))
}
