package s3api

import (
	"net/http"
	"strings"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
)

// The names under which a request presents a token and its scope.
const (
	headerToken = "X-Fencing-Token"
	headerScope = "X-Fencing-Scope"
	// headerHighest is of answers only.
	headerHighest = "X-Fencing-Highest"
	// MinIO's own, in answers that have no body: minio-go/api-error-response.go.
	headerMinioCode    = "X-Minio-Error-Code"
	headerMinioMessage = "X-Minio-Error-Desc"
	metaToken          = "X-Amz-Meta-Fencing-Token"
	metaScope          = "X-Amz-Meta-Fencing-Scope"
)

// presented is the token that a request itself presents, apart from the one
// that its credentials may carry. The zero value presents none.
type presented struct {
	token      fence.Token
	scope      fence.Scope
	generation fence.Generation
	// named says that the scope is named.
	named bool
}

// readToken collects what the request presents in headers, metadata and query,
// and takes it off the metadata. Two that disagree are refused: whichever of
// them were believed, somebody meant the other.
func (rq *request) readToken() (presented, error) {
	var p presented
	h := rq.r.Header
	if len(h[headerToken]) > 0 || len(h[headerScope]) > 0 {
		for _, name := range [...]string{headerToken, headerScope} {
			if len(h[name]) > 0 && rq.signed.SignedHeader(name) == nil {
				return p, badToken("the header %s is not among the signed headers, so anybody on the way may have put it there; sign it", name)
			}
		}
		if err := p.take("header", h[headerToken], h[headerScope]); err != nil {
			return p, err
		}
	}
	if len(h[metaToken]) > 0 || len(h[metaScope]) > 0 {
		if err := p.take("metadata", h[metaToken], h[metaScope]); err != nil {
			return p, err
		}
		delete(h, metaToken)
		delete(h, metaScope)
	}
	for _, q := range rq.signed.Params {
		if len(q.Name) != len(headerToken) {
			continue
		}
		var err error
		switch {
		case strings.EqualFold(q.Name, headerToken):
			err = p.take("query", []string{q.Value}, nil)
		case strings.EqualFold(q.Name, headerScope):
			err = p.take("query", nil, []string{q.Value})
		}
		if err != nil {
			return p, err
		}
	}
	if p.named && p.token == 0 && (rq.who.Carried == nil || rq.who.Carried.Scope != p.scope) {
		return p, badToken("the request names the scope %s but presents no token; send %s too, or neither", p.scope, headerToken)
	}
	return p, nil
}

// take adds what one carrier says.
func (p *presented) take(where string, tokens, scopes []string) error {
	for _, s := range tokens {
		t, err := fence.ParseToken(s)
		switch {
		case err != nil:
			return badToken("the %s presents what is %v", where, err)
		case p.token != 0 && p.token != t:
			return badToken("the request presents two fencing tokens, %d and %d; send one", p.token, t)
		}
		p.token = t
	}
	for _, s := range scopes {
		sc, g, err := fence.ParseScopeRef(s)
		switch {
		case err != nil:
			return badToken("the %s names what is %v", where, err)
		case p.named && (p.scope != sc || p.generation != g):
			return badToken("the request names two scopes, %s and %s; name one", p.scope, s)
		}
		p.scope, p.generation, p.named = sc, g, true
	}
	return nil
}

// sideOf is the fence's side of an operation on one key of a scope: which token
// counts there. needs says that a write wants a token of its own.
func (rq *request) sideOf(g *fence.Guard, sc fence.Scope, key string, needs bool) (guarded.Op, error) {
	op := guarded.Op{Guard: g, Scope: sc, Caller: rq.who.AccessKey}
	p, c := &rq.presented, rq.who.Carried
	if err := rq.displaced(sc, sc.Bucket(), key); err != nil {
		return op, err
	}
	inside := c != nil && c.Scope == sc
	r := &op.Request
	switch {
	case inside && p.named && p.scope == sc && p.generation != 0 && p.generation != c.Generation:
		return op, badToken("the request names generation %d of %s, but its credentials carry a token of generation %d; name that, or none", p.generation, sc, c.Generation)
	case p.named && p.scope != sc:
		return op, badToken("the request names the scope %s, but s3://%s/%s lies in %s", p.scope, sc.Bucket(), shorten(key), sc)
	case p.token != 0:
		if inside && p.token != c.Token {
			return op, badToken("the request presents token %d, but its credentials carry token %d of %s; send one", p.token, c.Token, sc)
		}
		r.Token, r.Generation, r.Named = p.token, p.generation, p.named || inside
	case inside:
		r.Token, r.Generation, r.Named = c.Token, c.Generation, true
	case c != nil && needs && g.Tokens != fence.None:
		return op, &apiError{status: http.StatusForbidden, code: codeMissing, scope: sc,
			message: "The credentials carry a token of " + c.Scope.String() + ", which does not count in " + sc.String() + ". Take the lock of " + sc.String() + " and use its token there."}
	}
	if inside && r.Generation == 0 {
		r.Generation = c.Generation
	}
	r.Unfenced = rq.who.Unfenced && c == nil
	// Asked only where it matters: it walks the grants.
	if g.Issuer == fence.External && r.Token != 0 {
		r.MayRaise = rq.mayWrite(sc.Bucket(), key)
	}
	if needs {
		rq.identify(&op)
	}
	return op, nil
}

// carries reports whether a key, or a list of a prefix, lies wholly in the scope
// whose token the credentials carry.
func (rq *request) carries(bucket, key string) bool {
	return rq.who.Carried != nil && rq.who.Carried.Scope.Contains(bucket, key)
}

// displaced refuses what lies in the scope that the credentials carry when another
// scope governs it now, or none does (sc is zero then): the guard was removed, or
// added again with other scopes. Who was given such credentials must not go on as
// if they fenced anything.
func (rq *request) displaced(sc fence.Scope, bucket, key string) error {
	c := rq.who.Carried
	switch {
	case !rq.carries(bucket, key) || c.Scope == sc:
		return nil
	case sc.IsZero():
		return badToken("the credentials carry a token of %s, but no guard covers s3://%s/%s now; s3fence guard add %s, and fetch new credentials", c.Scope, bucket, shorten(key), c.Scope)
	}
	return badToken("the credentials carry a token of %s, but s3://%s/%s is governed by %s now; fetch new credentials", c.Scope, bucket, shorten(key), sc)
}

// unguarded refuses a token where no guard would look at it: a typo must not
// look fenced. Credentials that carry a token mean it inside their scope only.
func (rq *request) unguarded(bucket, key string) error {
	if err := rq.displaced(fence.Scope{}, bucket, key); err != nil {
		return err
	}
	if rq.presented.token == 0 && !rq.presented.named {
		return nil
	}
	return badToken("no guard covers s3://%s/%s; s3fence guard add %s (or send the request without a token)", bucket, shorten(key), suggestion(bucket, key))
}

// suggestion is the guard that a person probably meant, where it is one that
// can be typed into a shell as it is.
func suggestion(bucket, key string) string {
	dir := key[:strings.LastIndexByte(key, '/')+1]
	if strings.ContainsFunc(dir, func(c rune) bool {
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-_./=+,:@", c)
		return !plain
	}) {
		dir = ""
	}
	s := "s3://" + bucket + "/" + dir
	if _, err := fence.ParseScope(s); err != nil {
		return "s3://" + bucket + "/"
	}
	return s
}
