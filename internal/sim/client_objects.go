package sim

import (
	"crypto/md5" //nolint:gosec // S3's ETags and Content-MD5 are MD5
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/s3fence/s3fence/internal/history"
)

// s3 is a request for a key of the order's scope; without a key where key is empty.
func (c *client) s3(o Order, name, method, key string, h held) *outgoing {
	r := &outgoing{name: name + " " + method, method: method, path: "/" + bucket, header: http.Header{}, query: url.Values{}, creds: c.creds}
	if key != "" {
		r.path += "/" + scopes[o.Scope].prefix + key
		r.name += " " + scopes[o.Scope].prefix + key
	} else if method != http.MethodPost {
		r.path += "/"
	}
	r.fenced(o, h)
	return r
}

// mutation lets a request name itself, as SDKs do. Outside of guards nobody looks at
// that, so such a request is sent once.
func (c *client) mutation(o Order, r *outgoing, h held) {
	r.header.Set("Amz-Sdk-Invocation-Id", c.id())
	r.once = o.Scope == adopted && h.token == 0
}

// condition makes a write conditional, in request and history.
func (c *client) condition(o Order, r *outgoing, op *history.Op) {
	if o.Scope == adopted && op.Token == 0 {
		return // the store's own conditions are not simulated
	}
	switch o.If {
	case 1:
		if op.Kind == history.Put {
			op.Create = true
			r.header.Set("If-None-Match", "*")
		}
	case 2:
		if v, etag := c.c.seen(o); v != "" {
			op.Match = v
			r.header.Set("If-Match", `"`+etag+`"`)
		}
	}
}

// valueOf is the value that a body stands for: its first line.
func valueOf(body []byte) string {
	v, _, _ := strings.Cut(string(body), "\n")
	return v
}

func etagOf(body []byte) string {
	sum := md5.Sum(body) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// write puts, copies or deletes one key.
func (c *client) write(o Order, name string, h held) {
	method, kind := http.MethodPut, history.Put
	if o.Do == Delete {
		method, kind = http.MethodDelete, history.Delete
	}
	op := c.op(o, kind, h)
	r := c.s3(o, name, method, op.Key, h)
	c.mutation(o, r, h)
	c.condition(o, r, &op)
	switch o.Do {
	case Copy:
		// Sources never change, and each is copied once.
		var source string
		source, op.Value = c.c.source()
		r.header.Set("X-Amz-Copy-Source", "/"+bucket+"/"+source)
		c.c.saw(o, op.Value, etagOf([]byte(op.Value)))
	case Delete:
	default:
		op.Value = c.c.value()
		r.body = []byte(op.Value)
		if o.Do == PutBig {
			r.body = append(r.body, "\n"+strings.Repeat("large ", largeBody/6+1)...)
		}
		c.c.saw(o, op.Value, etagOf(r.body))
	}
	_, res, m := c.tries(o, r)
	op.Through, op.Result = fmt.Sprintf("p%d", m.n), res
	c.add(o, h, op)
}

// read gets or lists. Without a token, in a scope whose guard may be new, it may be
// answered by a proxy that does not know the guard: nothing is promised of that.
func (c *client) read(o Order, name string, h held) {
	if !o.Fenced {
		h = held{}
	}
	if o.Scope == adopted && h.token == 0 {
		return
	}
	c.look(o, name, h)
}

// look is a get or a list, recorded; it reports whether it was answered.
func (c *client) look(o Order, name string, h held) bool {
	kind, key := history.Get, strconv.Itoa(o.Key)
	if o.Do == List {
		kind, key = history.List, ""
	}
	op := c.op(o, kind, h)
	r := c.s3(o, name, http.MethodGet, key, h)
	if kind == history.List {
		r.query.Set("list-type", "2")
		r.query.Set("prefix", scopes[o.Scope].prefix)
		r.name += " list " + scopes[o.Scope].prefix
	}
	got, res, m := c.tries(o, r)
	op.Through, op.Result = fmt.Sprintf("p%d", m.n), res
	switch {
	case res == history.OK && kind == history.List:
		shown, ok := c.shown(got.body, scopes[o.Scope].prefix)
		if !ok {
			c.c.fault(checkAnswers, "%s: a list that nobody can read: %s", name, got.body)
			return false
		}
		op.Shown = shown
	case res == history.OK:
		op.Got = valueOf(got.body)
	case res == history.Unknown && h.token == 0:
		return false // it changes nothing
	}
	c.add(o, h, op)
	return res == history.OK || res == history.Absent
}

// shown reads a list as values by key: each value has its own ETag.
func (c *client) shown(body []byte, prefix string) (map[string]string, bool) {
	var list struct {
		Contents []struct{ Key, ETag string }
	}
	if xml.Unmarshal(body, &list) != nil {
		return nil, false
	}
	shown := map[string]string{}
	for _, e := range list.Contents {
		shown[strings.TrimPrefix(e.Key, prefix)] = c.c.valueOfTag(strings.Trim(e.ETag, `"`))
	}
	return shown, true
}

// batch deletes two keys in one request, each of which has a fate of its own.
func (c *client) batch(o Order, name string, h held) {
	keys := []string{strconv.Itoa(o.Key), strconv.Itoa((o.Key + 1) % 3)}
	ops := make([]history.Op, len(keys))
	var b strings.Builder
	b.WriteString("<Delete>")
	for i, k := range keys {
		ops[i] = c.op(o, history.Delete, h)
		ops[i].Key, ops[i].Client = k, fmt.Sprintf("%s/%d", c.name, i)
		fmt.Fprintf(&b, "<Object><Key>%s%s</Key></Object>", scopes[o.Scope].prefix, k)
	}
	b.WriteString("</Delete>")
	r := c.s3(o, name, http.MethodPost, "", h)
	r.query.Set("delete", "")
	r.body = []byte(b.String())
	sum := md5.Sum(r.body) //nolint:gosec // see the import
	r.header.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
	c.mutation(o, r, h)
	// What each try did to each key is told by that try alone.
	maybe := make([]bool, len(keys))
	for try := 0; ; try++ {
		m := c.machine(o, try)
		got := c.send(m, r)
		again := false
		for i, res := range c.batchTold(got, r, keys, scopes[o.Scope].prefix) {
			if res == history.Unknown || got.twice {
				maybe[i] = true
			}
			if maybe[i] && res != history.OK {
				res = history.Unknown
			}
			ops[i].Through, ops[i].Result = fmt.Sprintf("p%d", m.n), res
			again = again || res == "" || res == history.Unknown
		}
		if !again || try+1 >= o.Tries || r.once {
			break
		}
	}
	for i := range ops {
		c.add(o, h, ops[i])
	}
}

func (c *client) batchTold(got reply, r *outgoing, keys []string, prefix string) []history.Result {
	results := make([]history.Result, len(keys))
	whole := c.told(got, r)
	for i := range results {
		results[i] = whole
	}
	if whole != history.OK {
		return results
	}
	var doc struct {
		Error []struct{ Key, Code, Message string }
	}
	if err := xml.Unmarshal(got.body, &doc); err != nil {
		c.c.fault(checkAnswers, "%s: %v", r.name, err)
	}
	for _, e := range doc.Error {
		for i, k := range keys {
			if prefix+k != e.Key {
				continue
			}
			switch e.Code {
			case "StaleFencingToken":
				results[i] = history.Stale
			case "OutcomeUnknown":
				results[i] = history.Unknown
			case "ServiceUnavailable", "SlowDown", "MissingFencingToken", "InvalidFencingToken":
				results[i] = ""
			default:
				c.c.fault(checkAnswers, "%s: key %s was answered %s: %s", r.name, e.Key, e.Code, e.Message)
			}
		}
	}
	return results
}

// upload makes an object of two parts, or aborts it.
func (c *client) upload(o Order, name string, h held) {
	if scopes[o.Scope].prefix == "ext/" || o.Scope == adopted && h.token == 0 {
		return // parts raise marks, and history has no word for it; a plain one is not ours
	}
	key := strconv.Itoa(o.Key)
	r := c.s3(o, name+" create", http.MethodPost, key, h)
	r.query.Set("uploads", "")
	c.mutation(o, r, h)
	got, res, _ := c.tries(o, r)
	if res != history.OK {
		return
	}
	var up struct {
		UploadID string `xml:"UploadId"`
	}
	if err := xml.Unmarshal(got.body, &up); err != nil || up.UploadID == "" {
		c.c.fault(checkAnswers, "%s: no upload id: %s", name, got.body)
		return
	}
	value := c.c.value()
	var list strings.Builder
	var sums []byte
	list.WriteString("<CompleteMultipartUpload>")
	// The first has the smallest size of S3, so that it can be one of two, in some.
	parts := []string{value + "\n"}
	for i, body := range parts {
		r := c.s3(o, fmt.Sprintf("%s part %d", name, i+1), http.MethodPut, key, h)
		r.query.Set("partNumber", strconv.Itoa(i+1))
		r.query.Set("uploadId", up.UploadID)
		r.body = []byte(body)
		c.mutation(o, r, h)
		got, res, _ := c.tries(o, r)
		if res != history.OK {
			return
		}
		etag := strings.Trim(got.header.Get("Etag"), `"`)
		fmt.Fprintf(&list, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, etag)
		sum := md5.Sum(r.body) //nolint:gosec // see the import
		sums = append(sums, sum[:]...)
	}
	list.WriteString("</CompleteMultipartUpload>")
	if o.N%4 == 0 {
		r := c.s3(o, name+" abort", http.MethodDelete, key, h)
		r.query.Set("uploadId", up.UploadID)
		c.mutation(o, r, h)
		c.tries(o, r)
		return
	}
	c.c.saw(o, value, fmt.Sprintf("%s-%d", etagOf(sums), len(parts)))
	op := c.op(o, history.Put, h)
	op.Value = value
	r = c.s3(o, name+" complete", http.MethodPost, key, h)
	r.query.Set("uploadId", up.UploadID)
	r.body = []byte(list.String())
	c.mutation(o, r, h)
	c.condition(o, r, &op)
	_, res, m := c.tries(o, r)
	op.Through, op.Result = fmt.Sprintf("p%d", m.n), res
	c.add(o, h, op)
}
