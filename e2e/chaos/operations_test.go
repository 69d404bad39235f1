package chaos

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/s3fence/s3fence/internal/history"
)

// front picks a proxy for the next request.
func (c *client) front() string {
	c.via = c.rng.IntN(len(c.Fronts))
	return c.Fronts[c.via]
}

func (c *client) through() string { return fmt.Sprint("p", c.via) }

// scopeName is the scope that is locked; prefix is where its objects are.
func (c *client) scopeName(scope string) string { return "s3://" + c.Bucket + "/jobs/" + scope + "/" }

func (c *client) prefix() string {
	if c.Fenced {
		return "jobs/" + c.scope + "/"
	}
	return "plain/" + c.scope + "/"
}

func (c *client) path(key string) string { return "/" + c.Bucket + "/" + c.prefix() + key }

// header has the token, where there is a fence that looks at it.
func (c *client) header(token int64) map[string]string {
	h := map[string]string{}
	if c.Fenced && token != 0 {
		h["X-Fencing-Token"] = strconv.FormatInt(token, 10)
	}
	return h
}

// lock calls the lock service.
func (c *client) lock(ctx context.Context, call string, body map[string]any) answer {
	text, err := json.Marshal(body)
	if err != nil {
		return answer{err: err, unsent: true}
	}
	return c.send(ctx, c.front(), request{
		method: http.MethodPost, path: "/-/v1/locks/" + call, body: text, header: map[string]string{"Content-Type": "application/json"},
	})
}

// acquire asks once for a lock and says whether it was granted. The lease counts
// from before it was asked for.
func (c *client) acquire(ctx context.Context, scope string) bool {
	asked := now()
	l := c.record.call(history.Op{Client: c.name, Scope: c.scopeName(scope), Kind: history.Grant})
	a := c.lock(ctx, "acquire", map[string]any{"scope": c.scopeName(scope), "owner": c.name, "ttl": ttl.String()})
	l.Through = c.through()
	var grant struct {
		Token int64 `json:"token"`
	}
	switch {
	case a.status == http.StatusOK:
		if err := json.Unmarshal(a.body, &grant); err != nil || grant.Token <= 0 {
			l.Odd = "200 without a token"
		}
		l.Result, l.Granted = history.OK, grant.Token
	case a.unknown():
	default:
		l.Nothing = true
		if a.status != 0 && a.status != http.StatusConflict && a.status != http.StatusServiceUnavailable {
			l.Odd = a.String()
		}
	}
	if a.status == http.StatusInternalServerError {
		l.Odd = a.String()
	}
	c.record.back(l)
	if l.Result == history.Unknown && !l.Nothing {
		c.think(ctx, 200, 800) // each of these may have been granted
	}
	if l.Result != history.OK {
		return false
	}
	c.scope, c.token, c.deadline = scope, grant.Token, asked+ttl
	return true
}

// renew extends the lease, and gives up only when it is told to.
func (c *client) renew(ctx context.Context) bool {
	asked := now()
	a := c.lock(ctx, "renew", map[string]any{"scope": c.scopeName(c.scope), "token": c.token})
	if a.status == http.StatusOK {
		c.deadline = asked + ttl
	}
	return a.status != http.StatusPreconditionFailed
}

func (c *client) release(ctx context.Context) {
	c.lock(ctx, "release", map[string]any{"scope": c.scopeName(c.scope), "token": c.token})
}

// op begins an operation of the scope at hand under a token.
func (c *client) op(kind history.Kind, key string, token int64) history.Op {
	return history.Op{Client: c.name, Scope: c.scopeName(c.scope), Kind: kind, Key: key, Token: token}
}

// told records an answer that is no success and says whether the lock may still be
// held.
func (c *client) told(l line, a answer) bool {
	l.Through = c.through()
	code := a.code()
	switch {
	case a.unknown():
		if a.status == http.StatusInternalServerError {
			l.Odd = a.String()
		}
	case a.unsent || a.status == http.StatusServiceUnavailable:
		l.Nothing = true
	case code == "StaleFencingToken":
		l.Result = history.Stale
	case a.status == http.StatusPreconditionFailed && code == "PreconditionFailed":
		l.Result = history.Failed
	case a.status == http.StatusNotFound && code == "NoSuchKey":
		l.Result = history.Absent
	default:
		l.Nothing, l.Odd = true, a.String()
	}
	c.record.back(l)
	return l.Result != history.Stale
}

func (c *client) put(ctx context.Context, key, value string, sure condition) bool {
	h := c.header(c.token)
	if sure.create {
		h["If-None-Match"] = "*"
	}
	if sure.match != "" {
		h["If-Match"] = sure.match
	}
	o := c.op(history.Put, key, c.token)
	o.Value, o.Create, o.Match = value, sure.create, sure.matches
	l := c.record.call(o)
	a := c.send(ctx, c.front(), request{method: http.MethodPut, path: c.path(key), header: h, body: body(value)})
	if a.status == http.StatusOK {
		return c.wrote(l)
	}
	return c.told(l, a)
}

func (c *client) wrote(l line) bool {
	l.Through, l.Result = c.through(), history.OK
	c.record.back(l)
	c.written++
	return true
}

func (c *client) remove(ctx context.Context, key string) bool {
	l := c.record.call(c.op(history.Delete, key, c.token))
	a := c.send(ctx, c.front(), request{method: http.MethodDelete, path: c.path(key), header: c.header(c.token)})
	if a.status == http.StatusNoContent {
		return c.wrote(l)
	}
	return c.told(l, a)
}

// get reads a key, under a token or without. It is not good where the lock is lost
// or nothing was read.
func (c *client) get(ctx context.Context, key string, token int64) (value, etag string, good bool) {
	if !c.Fenced {
		token = 0 // nobody fences it
	}
	l := c.record.call(c.op(history.Get, key, token))
	a := c.send(ctx, c.front(), request{method: http.MethodGet, path: c.path(key), header: c.header(token)})
	if a.status != http.StatusOK {
		c.told(l, a)
		return "", "", a.status == http.StatusNotFound
	}
	l.Through, l.Result, l.Got = c.through(), history.OK, valueOf(a.body)
	c.record.back(l)
	return l.Got, a.header.Get("Etag"), true
}

// list records ETags where values belong: who gathers the records knows them all.
func (c *client) list(ctx context.Context) bool {
	token := c.token
	if !c.Fenced {
		token = 0
	}
	l := c.record.call(c.op(history.List, "", token))
	a := c.send(ctx, c.front(), request{
		method: http.MethodGet, path: "/" + c.Bucket, header: c.header(token),
		query: url.Values{"list-type": {"2"}, "prefix": {c.prefix()}},
	})
	if a.status != http.StatusOK {
		return c.told(l, a)
	}
	var page struct {
		IsTruncated bool
		Contents    []struct{ Key, ETag string }
	}
	if err := xml.Unmarshal(a.body, &page); err != nil || page.IsTruncated {
		l.Odd = fmt.Sprintf("a list that is truncated (%v) or no XML: %v", page.IsTruncated, err)
	}
	l.Through, l.Result, l.Shown = c.through(), history.OK, map[string]string{}
	for _, o := range page.Contents {
		l.Shown[strings.TrimPrefix(o.Key, c.prefix())] = strings.Trim(o.ETag, `"`)
	}
	c.record.back(l)
	return true
}

// multipart uploads a value in one part. The write is the completion: what came
// before it nobody sees.
func (c *client) multipart(ctx context.Context, key, value string) bool {
	h := c.header(c.token)
	a := c.send(ctx, c.front(), request{method: http.MethodPost, path: c.path(key), query: url.Values{"uploads": {""}}, header: h})
	var created struct {
		ID string `xml:"UploadId"`
	}
	if a.status != http.StatusOK || xml.Unmarshal(a.body, &created) != nil {
		return a.code() != "StaleFencingToken"
	}
	upload := url.Values{"uploadId": {created.ID}}
	part := url.Values{"uploadId": {created.ID}, "partNumber": {"1"}}
	a = c.send(ctx, c.front(), request{method: http.MethodPut, path: c.path(key), query: part, header: h, body: body(value)})
	if a.status != http.StatusOK {
		return a.code() != "StaleFencingToken"
	}
	c.think(ctx, 1, 50)
	o := c.op(history.Put, key, c.token)
	o.Value = value
	l := c.record.call(o)
	document := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + a.header.Get("Etag") + "</ETag></Part></CompleteMultipartUpload>"
	a = c.send(ctx, c.front(), request{method: http.MethodPost, path: c.path(key), query: upload, header: h, body: []byte(document)})
	if a.status == http.StatusOK && a.code() != "" {
		// The document of a failure, said after the answer had begun.
		l.Odd = a.String()
		a.status = 0
	}
	if a.status == http.StatusOK {
		return c.wrote(l)
	}
	return c.told(l, a)
}
