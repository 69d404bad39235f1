package sim

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/history"
	"github.com/s3fence/s3fence/internal/lockapi"
)

// api is a call of the JSON API.
func (c *client) api(name, method, path string, body map[string]any, key string) *outgoing {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err) // plain values
	}
	r := &outgoing{name: name + " " + path, method: method, path: lockapi.Prefix + path, header: http.Header{"Content-Type": {"application/json"}}, body: b, creds: c.creds, once: key == ""}
	if key != "" {
		r.header.Set("Idempotency-Key", key)
	}
	return r
}

// lock takes a lock, by force where the order says so. Where the tokens come from
// outside, the issuer gives the next one.
func (c *client) lock(o Order, name string) {
	sc := scopes[o.Scope]
	if sc.issuer == fence.External {
		if h, ok := c.c.issue(); ok {
			c.hand.take(o.Scope, h)
		}
		return
	}
	body := map[string]any{"scope": sc.String(), "owner": c.name, "ttl": "8s"}
	path := "locks/acquire"
	if o.Do == Take || o.N%4 == 0 {
		path = "locks/take"
		body["reason"] = "it was ordered"
	} else if o.N%3 == 0 {
		body["wait"] = "5s"
	}
	op := c.op(o, history.Grant, held{})
	got, res, m := c.tries(o, c.api(name, http.MethodPost, path, body, c.id()))
	op.Through, op.Result = fmt.Sprintf("p%d", m.n), res
	switch res {
	case history.OK:
		var lease struct {
			Token int64 `json:"token"`
		}
		if err := json.Unmarshal(got.body, &lease); err != nil || lease.Token == 0 {
			c.c.fault(checkAnswers, "%s: a grant without a token: %s", name, got.body)
			return
		}
		op.Granted = lease.Token
		c.c.granted(c.name, lease.Token)
		c.hand.take(o.Scope, held{generation: 1, token: lease.Token})
	case history.Unknown:
	default:
		return // held, or refused: nothing happened
	}
	c.add(o, held{}, op)
}

// keep renews or releases a lock. Nothing rests on what is answered.
func (c *client) keep(o Order, name string, h held) {
	body := map[string]any{"scope": scopes[o.Scope].String(), "token": h.token}
	if o.Do == Renew {
		body["ttl"] = "8s"
		c.tries(o, c.api(name, http.MethodPost, "locks/renew", body, ""))
		return
	}
	c.tries(o, c.api(name, http.MethodPost, "locks/release", body, c.id()))
}

// carryToken fetches credentials that carry the token.
func (c *client) carryToken(o Order, name string, h held) {
	ref := scopes[o.Scope].String()
	if h.generation > 1 {
		ref += fmt.Sprintf("?generation=%d", h.generation)
	}
	got, res, _ := c.tries(o, c.api(name, http.MethodPost, "credentials", map[string]any{"scope": ref, "token": h.token}, ""))
	if res != history.OK {
		return
	}
	var out struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
	}
	if err := json.Unmarshal(got.body, &out); err != nil {
		c.c.fault(checkAnswers, "%s: %v", name, err)
		return
	}
	h.creds = &aws.Credentials{AccessKeyID: out.AccessKeyID, SecretAccessKey: out.SecretAccessKey, SessionToken: out.SessionToken}
	c.hand.take(o.Scope, h)
}

// guard adds or removes the guard of the last scope.
func (c *client) guard(o Order, name string) {
	method := http.MethodPost
	if o.Do == RemoveGuard {
		method = http.MethodDelete
	}
	r := c.api(name+" "+method, method, "guards", map[string]any{"pattern": scopes[o.Scope].String()}, c.id())
	c.tries(o, r)
}

// remark raises a mark by hand, or begins a new generation.
func (c *client) remark(o Order, name string) {
	sc := scopes[o.Scope]
	body := map[string]any{"scope": sc.String(), "reason": "it was ordered"}
	path := "scopes/raise"
	op := c.op(o, history.Grant, held{})
	switch {
	case o.Do == Reset:
		path = "scopes/reset"
	case sc.issuer == fence.External:
		h, ok := c.c.issue()
		if !ok {
			return
		}
		body["to"] = h.token
		// To the scope it is as if a request under that token had come.
		op.Kind, op.Key, op.Token = history.Get, "none", h.packed()
	}
	got, res, m := c.tries(o, c.api(name, http.MethodPost, path, body, c.id()))
	op.Through, op.Result = fmt.Sprintf("p%d", m.n), res
	switch res {
	case history.OK:
		var mark struct {
			Mark       int64 `json:"mark"`
			Generation int64 `json:"generation"`
		}
		if err := json.Unmarshal(got.body, &mark); err != nil {
			c.c.fault(checkAnswers, "%s: %v", name, err)
			return
		}
		h := held{generation: mark.Generation, token: mark.Mark}
		switch {
		case o.Do == Reset:
			c.c.reset(mark.Generation)
			op.Granted = h.packed()
		case op.Kind == history.Get:
			op.Result = history.Absent
		default:
			op.Granted = h.packed()
			c.c.granted(c.name, h.packed())
		}
	case history.Unknown:
	default:
		return
	}
	c.add(o, held{}, op)
}
