package sim

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/history"
)

// scopeOf is one of the scopes that clients work in.
type scopeOf struct {
	prefix string
	issuer fence.Issuer
}

func (s scopeOf) String() string { return "s3://" + bucket + "/" + s.prefix }

// scopes are what the guards of the configuration make, but for the last, whose guard
// the operator adds while its keys are written as plain ones.
var scopes = []scopeOf{{"a/", fence.Own}, {"jobs/x/", fence.Own}, {"ext/", fence.External}, {"new/", fence.Own}}

const adopted = 3

// held is a token as a client has it.
type held struct {
	generation, token int64
	// creds carry it where they are not nil.
	creds *aws.Credentials
}

// packed is a mark as one number, in the order of marks.
func (h held) packed() int64 { return (h.generation-1)<<40 | h.token }

// hand is the tokens that one or two clients have, by scope.
type hand struct {
	mu     sync.Mutex
	tokens map[int]held
}

func (h *hand) take(scope int, t held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokens[scope] = t
}

// drop forgets a token that is stale.
func (h *hand) drop(scope int, t held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tokens[scope].packed() == t.packed() {
		delete(h.tokens, scope)
	}
}

func (h *hand) at(scope int) (held, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t, ok := h.tokens[scope]
	return t, ok
}

// client is one who works; the operator is one, too.
type client struct {
	*actor
	c      *cluster
	orders []Order
	creds  aws.Credentials
	hand   *hand
	n      int // requests that name themselves
}

func (c *client) work() {
	for i, o := range c.orders {
		time.Sleep(o.After)
		name := fmt.Sprintf("%s#%d", c.name, i)
		if c.c.w.step(c.actor, "begins "+o.String()) != nil {
			return
		}
		c.obey(o, name)
	}
}

func (c *client) obey(o Order, name string) {
	h, has := c.hand.at(o.Scope)
	switch o.Do {
	case Acquire, Take:
		c.lock(o, name)
		return
	case Renew, Release:
		if has && scopes[o.Scope].issuer == fence.Own {
			c.keep(o, name, h)
		}
		return
	case AddGuard, RemoveGuard:
		c.guard(o, name)
		return
	case Raise, Reset:
		c.remark(o, name)
		return
	case Carry:
		if has {
			c.carryToken(o, name, h)
		}
		return
	case Get, List:
		c.read(o, name, h)
		return
	}
	if !has && o.Scope != adopted {
		// Nobody writes here without a lock.
		c.lock(o, name+"l")
		if h, has = c.hand.at(o.Scope); !has {
			return
		}
	}
	switch o.Do {
	case Batch:
		c.batch(o, name, h)
	case Upload:
		c.upload(o, name, h)
	default:
		c.write(o, name, h)
	}
}

// op begins an operation of the history.
func (c *client) op(o Order, kind history.Kind, h held) history.Op {
	op := history.Op{Client: c.name, Scope: scopes[o.Scope].String(), Kind: kind, Call: c.c.history.Now()}
	if h.token != 0 {
		op.Token = h.packed()
	}
	if kind != history.Grant && kind != history.List {
		op.Key = strconv.Itoa(o.Key)
	}
	return op
}

// add ends it. An operation of which nothing is told is left out. Who was told that a
// token is stale may go on with it for a while.
func (c *client) add(o Order, h held, op history.Op) {
	if op.Result == history.Stale && o.N%3 > 0 {
		c.hand.drop(o.Scope, h)
	}
	if op.Result != "" {
		c.c.history.Add(op)
	}
}

// machine is where the n-th try goes.
func (c *client) machine(o Order, try int) *machine {
	return c.c.machines[(o.Proxy+try)%len(c.c.machines)]
}

// id names a request over its tries.
func (c *client) id() string {
	c.n++
	return fmt.Sprintf("%s-%d", c.name, c.n)
}

// fenced presents a token.
func (r *outgoing) fenced(o Order, h held) {
	switch {
	case h.token == 0:
	case h.creds != nil:
		r.creds = *h.creds
	default:
		r.header.Set("X-Fencing-Token", strconv.FormatInt(h.token, 10))
		if s := scopes[o.Scope]; s.issuer == fence.External {
			ref := s.String()
			if h.generation > 1 {
				ref += "?generation=" + strconv.FormatInt(h.generation, 10)
			}
			r.header.Set("X-Fencing-Scope", ref)
		}
	}
}

// failure is what an answer that is no success says.
type failure struct {
	Code    string `xml:"Code" json:"code"`
	Message string `xml:"Message" json:"message"`
}

func (r *reply) failure() failure {
	var f failure
	if len(r.body) > 0 && r.body[0] == '{' {
		_ = json.Unmarshal(r.body, &f)
	} else {
		_ = xml.Unmarshal(r.body, &f)
	}
	return f
}

// told translates an answer. The empty result says that nothing happened and nothing
// was learnt; what no answer should be is a fault of the run.
func (c *client) told(r reply, of *outgoing) history.Result {
	switch {
	case errors.Is(r.err, errRefused):
		return ""
	case r.err != nil:
		return history.Unknown
	case r.status/100 == 2:
		return history.OK
	}
	switch f := r.failure(); {
	case r.status == http.StatusServiceUnavailable:
		return ""
	case r.status == http.StatusGatewayTimeout, of.once && r.status == http.StatusInternalServerError:
		return history.Unknown // outside of guards the store's own words are handed on
	case f.Code == "StaleFencingToken":
		return history.Stale
	case r.status == http.StatusPreconditionFailed && f.Code == "PreconditionFailed":
		return history.Failed
	case f.Code == "NoSuchKey" || r.status == http.StatusNotFound && len(r.body) == 0:
		return history.Absent
	case expected[f.Code]:
		return ""
	default:
		c.c.fault(checkAnswers, "%s was answered %d %s: %s", of.name, r.status, f.Code, f.Message)
		return history.Unknown
	}
}

// expected are further answers that say that nothing happened.
var expected = map[string]bool{
	"MissingFencingToken": true, "InvalidFencingToken": true, "ConditionalRequestConflict": true, "NoSuchUpload": true,
	"LockHeld": true, "LockLost": true, "NoSuchGuard": true, "OtherHolder": true, "GuardHoldsObjects": true, "GuardDiffers": true,
	"ObjectsNotTaken": true, "NoLocks": true, "RequestTimeTooSkewed": true, "InvalidArgument": true, "InvalidPart": true,
}

// tries sends a request until it is answered for sure, and says what is known of it
// in the end. Of a request that names itself the last answer counts for all tries; but
// a refusal says nothing of a try before it that nothing was heard of.
func (c *client) tries(o Order, r *outgoing) (reply, history.Result, *machine) {
	maybe := false
	for try := 0; ; try++ {
		m := c.machine(o, try)
		got := c.send(m, r)
		res := c.told(got, r)
		maybe = maybe || got.twice
		switch {
		case res == history.OK:
			return got, res, m
		case res == history.Unknown:
			maybe = true
		case res != "":
			if maybe {
				res = history.Unknown
			}
			return got, res, m
		}
		if try+1 >= o.Tries || r.once {
			if maybe {
				res = history.Unknown
			}
			return got, res, m
		}
		time.Sleep(50 * time.Millisecond << try)
	}
}
