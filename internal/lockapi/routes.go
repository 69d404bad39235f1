package lockapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/eventlog"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/locks"
)

// maxPages bounds what one list reads to fill its page: a caller may see few of
// very many scopes.
const maxPages = 100

// route is one call of the API.
type route struct {
	method, path string
	about        string
	do           func(*call) (status int, answer any, err error)
	time         time.Duration
	open         bool // needs no signature
}

func (s *server) routes() []route {
	list := []route{
		{http.MethodPost, "locks/acquire", "take a lock: scope, owner, ttl, wait, ticket, keep", s.acquire, callTime + locks.MaxWait, false},
		{http.MethodPost, "locks/renew", "extend a lease: scope, token, ttl", s.renew, callTime, false},
		{http.MethodPost, "locks/release", "end a lease: scope, token", s.release, callTime, false},
		{http.MethodPost, "locks/take", "take a lock by force: scope, owner, ttl, reason", s.take, callTime, false},
		{http.MethodGet, "locks", "scopes with mark, holder and who waits: ?prefix, ?after, ?limit", s.list, callTime, false},
		{http.MethodPost, "credentials", "temporary credentials that carry a token: scope, token", s.credentials, callTime, false},
		{http.MethodPost, "check", "compare a token with the mark: scope, token", s.check, callTime, false},
		{http.MethodPost, "claims", "claim one slot of a job: job, slot, owner", s.claim, callTime, false},
		{http.MethodGet, "claims", "the claims of a job, the last slots first: ?job, ?after, ?limit", s.claims, callTime, false},
		{http.MethodGet, "guards", "the guards", s.guards, callTime, false},
		{http.MethodPost, "guards", "add a guard: pattern, writes, tokens, issuer, max_jump, lock_delay", s.once(s.addGuard), guardTime, false},
		{http.MethodPatch, "guards", "change a guard: pattern, tokens, max_jump, lock_delay", s.once(s.setGuard), callTime, false},
		{http.MethodDelete, "guards", "remove a guard: pattern", s.once(s.removeGuard), guardTime, false},
		{http.MethodPost, "guards/export", "write the objects of a guard back under their plain keys, in lines of progress: pattern, remove_guard, accept_loss", s.exportGuard, exportTime, false},
		{http.MethodGet, "scopes", "as locks", s.list, callTime, false},
		{http.MethodPost, "scopes/raise", "raise a mark: scope, to, reason", s.raise, callTime, false},
		{http.MethodPost, "scopes/reset", "begin a new generation (external issuers): scope, reason", s.reset, callTime, false},
		{http.MethodGet, "events", "what happened: ?after, ?prefix, ?kind, ?since, ?limit, ?wait", s.events, callTime + eventlog.MaxWait, false},
	}
	index := make([]map[string]string, 0, len(list))
	for _, r := range list {
		index = append(index, map[string]string{"method": r.method, "path": Prefix + r.path, "about": r.about})
	}
	return append(list, route{http.MethodGet, "", "", func(*call) (int, any, error) {
		return http.StatusOK, map[string]any{"service": "s3fence", "calls": index}, nil
	}, callTime, true})
}

// may refuses a caller without a right on all keys of a prefix.
func (c *call) may(r auth.Right, bucket, prefix string) error {
	if c.principal.MayUnder(r, bucket, prefix) {
		return nil
	}
	return fmt.Errorf("%w: the access key %s does not have the right %s on s3://%s/%s", errDenied, c.principal.AccessKey, r, bucket, prefix)
}

// onScope reads the body and checks a right on its scope.
func (c *call) onScope(v any, sc *scope, r auth.Right) (fence.Scope, error) {
	if err := decode(c.body, v); err != nil {
		return fence.Scope{}, err
	}
	s := fence.Scope(*sc)
	if s.IsZero() {
		return s, fmt.Errorf("%w: \"scope\" is missing", errBadRequest)
	}
	return s, c.may(r, s.Bucket(), s.Prefix())
}

type acquireBody struct {
	Scope  scope     `json:"scope"`
	Owner  string    `json:"owner"`
	TTL    duration  `json:"ttl"`
	Wait   duration  `json:"wait"`
	Ticket string    `json:"ticket"`
	Keep   *duration `json:"keep"`
	Reason string    `json:"reason"`
}

// request is the lock that a body asks for.
func (c *call) request(sc fence.Scope, b acquireBody) locks.Request {
	return locks.Request{Scope: sc, Holder: c.principal.AccessKey, Owner: b.Owner, TTL: time.Duration(b.TTL), Wait: time.Duration(b.Wait),
		Retry: c.named("wait", "ticket", "keep")}
}

// named is the call under its Idempotency-Key, nil where it has none: the call, its
// parameters and the fields of its body but those left out, which say how it is asked
// and not what for. Renewals and checks have no use for one: they do no harm when they
// are repeated, and an old answer would.
func (c *call) named(without ...string) *idempotency.Request {
	if c.key == "" {
		return nil
	}
	var fields map[string]any
	// It was read before; of numbers nothing is lost.
	d := json.NewDecoder(bytes.NewReader(c.body))
	d.UseNumber()
	_ = d.Decode(&fields)
	target, parts := "", map[string]string{}
	for name, value := range fields {
		// Names of fields are taken in any case, and tokens as strings too.
		switch name = strings.ToLower(name); {
		case name == "scope", name == "job", name == "pattern":
			target = fmt.Sprint(value)
		case !slices.Contains(without, name):
			parts["the field "+name] = fmt.Sprint(value)
		}
	}
	q := c.URL.Query()
	target = cmp.Or(target, q.Get("pattern"))
	n := idempotency.New(c.principal.AccessKey, c.key, c.Method+" "+strings.TrimPrefix(c.URL.Path, Prefix), target)
	for name, values := range q {
		n.Part("the parameter "+name, strings.Join(values, "&"))
	}
	for name, value := range parts {
		n.Part(name, value)
	}
	return n
}

// once gives a repeated change of guards its first answer. The change is more than
// one transaction and is remembered after it; where that is lost, doing it again
// comes to the same.
func (s *server) once(do func(*call) (int, any, error)) func(*call) (int, any, error) {
	return func(c *call) (int, any, error) {
		named := c.named()
		if named == nil {
			return do(c)
		}
		old, found, err := s.Locks.Answered(c.Context(), named)
		switch {
		case err != nil:
			return 0, nil, err
		case found:
			return http.StatusOK, json.RawMessage(old), nil
		}
		status, answer, err := do(c)
		if err != nil {
			return status, answer, err
		}
		text, err := json.Marshal(answer)
		if err == nil {
			err = s.Locks.Remember(c.Context(), named, text)
		}
		if err != nil {
			s.Logger.Warn("an answer was not remembered for the repetitions of its request", "call", c.URL.Path, "error", err)
		}
		return status, answer, nil
	}
}

func (s *server) acquire(c *call) (int, any, error) {
	var b acquireBody
	sc, err := c.onScope(&b, &b.Scope, auth.Lock)
	if err != nil {
		return 0, nil, err
	}
	if b.Reason != "" {
		return 0, nil, fmt.Errorf("%w: \"reason\" belongs to locks/take", errBadRequest)
	}
	r := c.request(sc, b)
	switch {
	case b.Ticket == "" && b.Keep != nil:
		return 0, nil, fmt.Errorf("%w: \"keep\" says how long the place of a \"ticket\" is kept, and there is none", errBadRequest)
	case b.Ticket != "":
		r.Ticket, r.Keep = b.Ticket, locks.DefaultKeep
		if b.Keep != nil {
			r.Keep = time.Duration(*b.Keep)
		}
	}
	l, err := s.Locks.Acquire(c.Context(), r)
	return http.StatusOK, leaseOf(l), err
}

func (s *server) take(c *call) (int, any, error) {
	var b acquireBody
	sc, err := c.onScope(&b, &b.Scope, auth.Admin)
	if err != nil {
		return 0, nil, err
	}
	if b.Ticket != "" || b.Keep != nil {
		return 0, nil, fmt.Errorf("%w: \"ticket\" and \"keep\" belong to locks/acquire; taking by force passes every line", errBadRequest)
	}
	if b.Wait != 0 {
		return 0, nil, fmt.Errorf("%w: \"wait\" belongs to locks/acquire; taking by force does not wait", errBadRequest)
	}
	l, err := s.Locks.Take(c.Context(), c.request(sc, b), b.Reason)
	return http.StatusOK, leaseOf(l), err
}

func (s *server) renew(c *call) (int, any, error) {
	var b struct {
		Scope scope    `json:"scope"`
		Token token    `json:"token"`
		TTL   duration `json:"ttl"`
	}
	sc, err := c.onScope(&b, &b.Scope, auth.Lock)
	if err != nil {
		return 0, nil, err
	}
	l, err := s.Locks.Renew(c.Context(), sc, fence.Token(b.Token), c.principal.AccessKey, time.Duration(b.TTL))
	return http.StatusOK, leaseOf(l), err
}

type tokenBody struct {
	Scope scope `json:"scope"`
	Token token `json:"token"`
}

func (s *server) release(c *call) (int, any, error) {
	var b tokenBody
	sc, err := c.onScope(&b, &b.Scope, auth.Lock)
	if err != nil {
		return 0, nil, err
	}
	retry := c.named()
	if retry != nil {
		// One key may name all that is done with a lock.
		retry = retry.Step("release")
	}
	err = s.Locks.ReleaseOnce(c.Context(), sc, fence.Token(b.Token), c.principal.AccessKey, retry)
	return http.StatusOK, map[string]any{"scope": sc.String(), "token": b.Token, "released": true}, err
}

func (s *server) check(c *call) (int, any, error) {
	sc, t, m, err := s.compare(c)
	return http.StatusOK, map[string]any{"scope": sc.String(), "token": token(t), "highest": token(m.Token)}, err
}

// compare reads scope and token and compares the token with the mark, which it
// returns. Whoever may learn the mark may ask.
func (s *server) compare(c *call) (fence.Scope, fence.Token, fence.Mark, error) {
	var b struct {
		Scope scopeRef `json:"scope"`
		Token token    `json:"token"`
	}
	sc, err := c.onScope(&b, &b.Scope.scope, 0)
	if err != nil {
		return sc, 0, fence.Mark{}, err
	}
	if !c.sees(sc.Bucket(), sc.Prefix()) {
		return sc, 0, fence.Mark{}, c.may(auth.Lock, sc.Bucket(), sc.Prefix())
	}
	m, err := s.Locks.Check(c.Context(), sc, b.Scope.generation, fence.Token(b.Token))
	return sc, fence.Token(b.Token), m, err
}

var eachRight = []auth.Right{auth.Lock, auth.Read, auth.Write, auth.Admin}

// sees reports whether the caller may learn who holds what under a prefix: each
// right lets it.
func (c *call) sees(bucket, prefix string) bool {
	for _, r := range eachRight {
		if c.principal.MayUnder(r, bucket, prefix) {
			return true
		}
	}
	return false
}

func (s *server) list(c *call) (int, any, error) {
	q := c.URL.Query()
	limit, err := limitOf(q)
	if err != nil {
		return 0, nil, err
	}
	scopes := []scopeJSON{}
	// Until the page is full of what the caller may see. The cursor is the last of
	// that: the name of a scope tells something of whose it is.
	for after, pages := q.Get("after"), 0; ; pages++ {
		if pages == maxPages {
			return 0, nil, fmt.Errorf("%w: too many scopes that you may not see come before the next; name a prefix of yours: ?prefix=s3://bucket/…", errBadRequest)
		}
		page, more, err := s.Locks.List(c.Context(), q.Get("prefix"), after, locks.MaxPage)
		if err != nil {
			return 0, nil, err
		}
		for _, st := range page {
			if !c.sees(st.Scope.Bucket(), st.Scope.Prefix()) {
				continue
			}
			if len(scopes) == limit {
				return http.StatusOK, map[string]any{"scopes": scopes, "next": scopes[limit-1].Scope}, nil
			}
			scopes = append(scopes, scopeOf(st))
		}
		if !more {
			return http.StatusOK, map[string]any{"scopes": scopes}, nil
		}
		after = page[len(page)-1].Scope.String()
	}
}

func limitOf(q url.Values) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return locks.MaxPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > locks.MaxPage {
		return 0, fmt.Errorf("%w: limit is a number from 1 to %d", errBadRequest, locks.MaxPage)
	}
	return n, nil
}

func (s *server) raise(c *call) (int, any, error) {
	var b struct {
		Scope  scope  `json:"scope"`
		To     token  `json:"to"`
		Reason string `json:"reason"`
	}
	sc, err := c.onScope(&b, &b.Scope, auth.Admin)
	if err != nil {
		return 0, nil, err
	}
	m, err := s.Locks.Raise(c.Context(), sc, fence.Token(b.To), c.principal.AccessKey, b.Reason, c.named())
	return http.StatusOK, marked(sc, m), err
}

func (s *server) reset(c *call) (int, any, error) {
	var b struct {
		Scope  scope  `json:"scope"`
		Reason string `json:"reason"`
	}
	sc, err := c.onScope(&b, &b.Scope, auth.Admin)
	if err != nil {
		return 0, nil, err
	}
	m, err := s.Locks.Reset(c.Context(), sc, c.principal.AccessKey, b.Reason, c.named())
	return http.StatusOK, marked(sc, m), err
}

func marked(sc fence.Scope, m fence.Mark) any {
	return map[string]any{"scope": sc.String(), "mark": token(m.Token), "generation": int64(m.Current())}
}

func (s *server) guards(c *call) (int, any, error) {
	list, err := s.Guards.List(c.Context())
	if err != nil {
		return 0, nil, err
	}
	seen := []guardJSON{}
	for _, g := range list {
		if c.principal.MaySomewhereUnder(auth.All, g.Pattern.Bucket(), g.Pattern.Literal()) {
			seen = append(seen, guardOf(g))
		}
	}
	return http.StatusOK, map[string]any{"guards": seen}, nil
}

type guardBody struct {
	Pattern pattern       `json:"pattern"`
	Writes  *fence.Writes `json:"writes"`
	Tokens  *fence.Tokens `json:"tokens"`
	Issuer  *fence.Issuer `json:"issuer"`
	MaxJump *token        `json:"max_jump"`
	Delay   *duration     `json:"lock_delay"`
}

// onPattern reads the body and checks that the caller administers the pattern.
func (c *call) onPattern(b *guardBody) (fence.Pattern, error) {
	if err := decode(c.body, b); err != nil {
		return fence.Pattern{}, err
	}
	p := fence.Pattern(b.Pattern)
	if p.Bucket() == "" {
		return p, fmt.Errorf("%w: \"pattern\" is missing", errBadRequest)
	}
	return p, c.may(auth.Admin, p.Bucket(), p.Literal())
}

func (s *server) addGuard(c *call) (int, any, error) {
	var b guardBody
	p, err := c.onPattern(&b)
	if err != nil {
		return 0, nil, err
	}
	g := fence.Guard{Pattern: p}
	set(&g.Writes, b.Writes)
	set(&g.Tokens, b.Tokens)
	set(&g.Issuer, b.Issuer)
	if b.MaxJump != nil {
		g.MaxJump = int64(*b.MaxJump)
	}
	if b.Delay != nil {
		g.LockDelay = time.Duration(*b.Delay)
	}
	g, err = s.Guards.Add(c.Context(), g)
	return http.StatusOK, guardOf(g), err
}

func set[T any](field *T, v *T) {
	if v != nil {
		*field = *v
	}
}

func (s *server) setGuard(c *call) (int, any, error) {
	var b guardBody
	p, err := c.onPattern(&b)
	if err != nil {
		return 0, nil, err
	}
	change := guards.Change{Tokens: b.Tokens, Writes: b.Writes, Issuer: b.Issuer}
	if b.MaxJump != nil {
		n := int64(*b.MaxJump)
		change.MaxJump = &n
	}
	change.LockDelay = (*time.Duration)(b.Delay)
	g, err := s.Guards.Set(c.Context(), p, change)
	return http.StatusOK, guardOf(g), err
}

func (s *server) removeGuard(c *call) (int, any, error) {
	var b struct {
		Pattern pattern `json:"pattern"`
	}
	// Many clients send no body with DELETE; the pattern may stand in the query.
	if text := c.URL.Query().Get("pattern"); text != "" && len(c.body) == 0 {
		p, err := fence.ParsePattern(text)
		if err != nil {
			return 0, nil, fmt.Errorf("%w: %w", errBadRequest, err)
		}
		b.Pattern = pattern(p)
	} else if err := decode(c.body, &b); err != nil {
		return 0, nil, err
	}
	p := fence.Pattern(b.Pattern)
	if p.Bucket() == "" {
		return 0, nil, fmt.Errorf("%w: \"pattern\" is missing", errBadRequest)
	}
	if err := c.may(auth.Admin, p.Bucket(), p.Literal()); err != nil {
		return 0, nil, err
	}
	err := s.Guards.Remove(c.Context(), p)
	return http.StatusOK, map[string]any{"pattern": p.String(), "removed": true}, err
}
