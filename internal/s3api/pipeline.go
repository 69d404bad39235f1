package s3api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
)

// request is one request on its way through the pipeline. It belongs to one
// goroutine.
type request struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	ctx   context.Context
	start time.Time

	signed *sigv4.Signed
	who    *auth.Principal
	// entered says that the request has a place among the concurrent ones.
	entered     bool
	op          *operation
	bucket, key string
	// list is the guard list that this request is judged by.
	list      *fence.Guards
	presented presented
	// idempotencyKey is the sender's own name of the request, and request what it
	// names; see named.
	idempotencyKey string
	request        *idempotency.Request
	// fenced says that the target lies in a scope; side is then the fence's side
	// of the operation.
	fenced bool
	side   guarded.Op

	body *sigv4.Body
	// in counts what is read of the body. It is apart from body because the
	// store may answer early, while a Read is still running.
	in     atomic.Int64
	wrote  bool
	record Record
}

// serve is the whole way of a request. Nothing of its body is read before the
// handler runs: net/http sends 100 Continue with the first Read, so whatever is
// refused here is refused before a client that waits has sent a byte.
func (rq *request) serve() error {
	if err := rq.bounds(); err != nil {
		return err
	}
	if err := rq.authenticate(); err != nil {
		return err
	}
	if err := rq.enterShare(); err != nil {
		return err
	}
	if rq.op.plain == nil && rq.op.guarded == nil {
		return rq.op.notHere()
	}
	if !rq.op.long {
		ctx, cancel := context.WithTimeout(rq.ctx, rq.s.limits.Deadline)
		defer cancel()
		rq.ctx = ctx
	}
	if err := rq.authorize(); err != nil {
		return err
	}
	if err := rq.checkIDs(); err != nil {
		return err
	}
	if err := rq.moveHeaders(); err != nil {
		return err
	}
	var err error
	if rq.presented, err = rq.readToken(); err != nil {
		return err
	}
	if err := rq.findGuards(); err != nil {
		return err
	}
	if err := rq.checkHeaders(); err != nil {
		return err
	}
	if err := rq.readKey(); err != nil {
		return err
	}
	switch rq.op.level {
	case objectLevel:
		return rq.serveObject()
	case bucketLevel:
		return rq.serveBucket()
	}
	return rq.op.plain(rq)
}

// bounds refuses requests that are larger than any of S3's.
func (rq *request) bounds() error {
	switch {
	case len(rq.r.RequestURI) > maxTarget:
		return fail(http.StatusBadRequest, "InvalidURI", "The request target is %d bytes long; at most %d are accepted.", len(rq.r.RequestURI), maxTarget)
	}
	return nil
}

// authenticate verifies the signature and finds principal, place and operation.
// An unsigned request learns no more than that its kind does not exist here.
func (rq *request) authenticate() error {
	var err error
	if rq.r.ContentLength == 0 {
		// Old curl sends no x-amz-content-sha256; of no body it is known.
		rq.signed, err = rq.s.verifier.VerifyBuffered(rq.r, 1)
	} else {
		rq.signed, err = rq.s.verifier.Verify(rq.r)
	}
	var rawPath, rawQuery string
	var params []sigv4.Param
	if err == nil {
		rawPath, params = rq.signed.RawPath, rq.signed.Params
	} else {
		var bad error
		if rawPath, rawQuery, bad = sigv4.RawTarget(rq.r); bad != nil {
			return bad
		}
		if params, bad = sigv4.ParseQuery(rawQuery); bad != nil {
			return bad
		}
	}
	path, bad := sigv4.DecodePath(rawPath)
	if bad != nil {
		return bad
	}
	var l level
	if rq.bucket, rq.key, l, bad = rq.s.place(rq.r.Host, path); bad != nil {
		return errors.Join(err, bad)
	}
	rq.record.Bucket, rq.record.Key = rq.bucket, rq.key
	op, bad := route(rq.r.Method, l, params, len(rq.r.Header["X-Amz-Copy-Source"]) > 0)
	switch {
	case errors.Is(err, sigv4.ErrAnonymous) && (bad != nil || op.plain == nil):
		if bad == nil {
			bad = op.notHere()
		}
		return bad
	case err != nil:
		return err
	case bad != nil:
		return bad
	}
	rq.op, rq.record.Operation = op, op.name
	rq.record.AccessKey = rq.signed.AccessKey
	if rq.who, err = rq.s.keyring.Principal(rq.ctx, rq.signed.AccessKey, rq.signed.SessionToken); err != nil {
		return err
	}
	if rq.who.AccessKey != rq.signed.AccessKey {
		rq.record.AccessKey, rq.record.Session = rq.who.AccessKey, rq.signed.AccessKey
	}
	return nil
}

// authorize asks for the rights of an operation. Copies ask for their source
// where they read it, batches for each key.
func (rq *request) authorize() error {
	switch {
	case rq.op.on == onEach:
		return nil
	case climbs(rq.key) && rq.op.mutates():
		return badName(rq.key)
	case climbs(rq.key):
		return object.ErrNoSuchKey
	case rq.op.on == onPrefix && climbs(rq.param("prefix")):
		return invalid("the prefix %q leads out of the bucket", shorten(rq.param("prefix")))
	}
	for _, r := range rq.op.rights {
		ok := false
		switch rq.op.on {
		case onKey:
			ok = rq.may(r, rq.bucket, rq.key)
		case onBucket:
			ok = rq.who.May(r, rq.bucket, "")
		case onPrefix:
			ok = rq.may(r, rq.bucket, rq.param("prefix"))
		case onSome:
			ok = rq.who.MaySomewhere(r, rq.bucket)
		}
		if ok {
			return nil
		}
	}
	names := make([]string, len(rq.op.rights))
	for i, r := range rq.op.rights {
		names[i] = r.String()
	}
	return denied("%s of s3://%s/%s needs the right %s, which access key %s does not have there.",
		rq.op.name, rq.bucket, shorten(rq.key), strings.Join(names, " or "), rq.who.AccessKey)
}

// checkIDs refuses ids that would lead a store to another place than the one whose
// rights were asked for.
func (rq *request) checkIDs() error {
	for i := range rq.signed.Params {
		switch p := &rq.signed.Params[i]; {
		case p.Name == "uploadId" && strays(p.Value):
			return object.ErrNoSuchUpload
		case p.Name == "versionId" && p.Value != "" && strays(p.Value):
			return badVersion()
		}
	}
	return nil
}

// badVersion is S3's answer to a version id that it cannot have given out.
func badVersion() error {
	return fail(http.StatusBadRequest, "InvalidArgument", "Invalid version id specified")
}

// may asks for rights on a key, or on all keys with a prefix. One that steps back
// may be, for the store, any of its bucket, so it needs them on all.
func (rq *request) may(r auth.Right, bucket, key string) bool {
	if stepsBack(key) {
		key = ""
	}
	return rq.who.May(r, bucket, key)
}

func (rq *request) mayWrite(bucket, key string) bool { return rq.may(auth.Write, bucket, key) }

// moveHeaders puts headers that an SDK moved into a presigned URL back. In other
// requests they would count for nobody, so they are refused.
func (rq *request) moveHeaders() error {
	for _, p := range rq.signed.Params {
		name := http.CanonicalHeaderKey(p.Name)
		switch {
		case !movable(name):
			continue
		case rq.signed.Kind != sigv4.KindPresigned:
			return invalid("%s stands in the query, where it counts in presigned URLs only; send it as a header", shorten(p.Name))
		case strings.ContainsFunc(p.Name, notInName) || strings.ContainsFunc(p.Value, notInValue):
			return invalid("%q stands in the query for a header, but a header cannot have that name or value", shorten(p.Name))
		}
		if have := rq.r.Header[name]; len(have) > 0 && (len(have) > 1 || have[0] != p.Value) {
			return invalid("%s stands in the query and, with another value, in a header; keep one", p.Name)
		}
		rq.r.Header[name] = []string{p.Value}
	}
	return nil
}

// notInName and notInValue are what no header can hold (RFC 9110, sections 5.1
// and 5.5). Of x-amz- names, letters, digits, hyphens and little else exist.
func notInName(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func notInValue(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// findGuards takes the guard list for this request. Changes need one whose
// lease lasts (F9); so do requests with a token, which ask for a fence. Credentials
// that carry one ask for it inside their scope.
func (rq *request) findGuards() error {
	list, err := rq.s.guards.Current()
	if err != nil {
		inside := rq.op.level == objectLevel && rq.carries(rq.bucket, rq.key) || rq.op.on == onPrefix && rq.carries(rq.bucket, rq.param("prefix"))
		if rq.op.mutates() || rq.presented.token != 0 || inside {
			return err
		}
		list = rq.s.guards.Known()
		if list == nil {
			return err
		}
	}
	rq.list = list
	return nil
}

// checkHeaders refuses headers that would change what a mutation does if
// anybody obeyed them, and that are known to nobody here.
func (rq *request) checkHeaders() error {
	if !rq.op.mutates() {
		return nil
	}
	for name, values := range rq.r.Header {
		switch {
		case !strings.HasPrefix(name, "X-Amz-"):
		case !known(name):
			return notImplemented("the header %s is not implemented here", shorten(strings.ToLower(name)))
		case len(values) > 1 && !strings.HasPrefix(name, metaPrefix):
			// One reader takes the first, another the last.
			return invalid("the header %s is given %d times; send it once", shorten(strings.ToLower(name)), len(values))
		}
	}
	if len(rq.r.Header["Content-Range"]) > 0 {
		// RFC 9110, section 14.4: a part must not be taken for the whole.
		return notImplemented("writing a part of an object (Content-Range) is not implemented here")
	}
	if len(rq.r.Header["X-Amz-Bypass-Governance-Retention"]) > 0 && !rq.who.May(auth.Admin, rq.bucket, rq.key) {
		return denied("Going past a retention needs the right admin, which access key %s does not have there.", rq.who.AccessKey)
	}
	return nil
}

// known reports whether an x-amz- header is forwarded, or consumed here, or
// harmless.
func known(name string) bool {
	switch name {
	case "X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token", "X-Amz-Decoded-Content-Length", "X-Amz-Trailer",
		"X-Amz-User-Agent", "X-Amz-Te", "X-Amz-Copy-Source":
		return true
	}
	return movable(name) || strings.HasPrefix(name, "X-Amz-Copy-Source-")
}

// serveObject goes on with an operation on one key.
func (rq *request) serveObject() error {
	o := rq.op
	if reserved(rq.key) {
		if o.mutates() {
			return denied("Keys under %s belong to s3fence; choose another name.", fence.Reserved)
		}
		return object.ErrNoSuchKey
	}
	if rq.list.Guarded(rq.bucket) {
		if err := fence.CheckKey(rq.key); err != nil {
			if o.mutates() {
				return err
			}
			// Nothing under such a name was ever let in, and a store may take it for
			// the name of a plain object that a guard hides.
			return object.ErrNoSuchKey
		}
		if rq.has("versionId") {
			if err := onlyVersion(rq.param("versionId")); err != nil {
				return err
			}
			// It names the object, whatever versions the store keeps.
			rq.signed.Params = slices.DeleteFunc(slices.Clone(rq.signed.Params), func(p sigv4.Param) bool { return p.Name == "versionId" })
		}
	}
	g, sc, ok := rq.list.Find(rq.bucket, rq.key)
	if !ok {
		if err := checkName(rq.key); err != nil {
			return err
		}
		if err := rq.unguarded(rq.bucket, rq.key); err != nil {
			return err
		}
		return rq.servePlain()
	}
	if o.guarded == nil {
		return notImplemented("%s is not available in a guarded scope (%s)", o.name, sc)
	}
	if err := rq.enter(g, sc, rq.key); err != nil {
		return err
	}
	if g.State == fence.Pending && !o.mutates() {
		// Another proxy may have finished what this one still knows as pending.
		pending, err := rq.s.reader.Pending(rq.ctx, g)
		if err != nil {
			return err
		}
		switch {
		case pending && rq.side.Request.Token != 0:
			// Plain objects cannot be read under a token: no commit orders them.
			return fence.Refuse(fence.NotActive, sc, g, fence.Mark{}, rq.side.Request)
		case pending:
			rq.fenced = false
			return rq.servePlain()
		}
	}
	if err := rq.expectOwner(rq.bucket, headerOwner); err != nil {
		return err
	}
	return o.guarded(rq)
}

// nullVersion is the version of every object in a bucket with a guard, which shows
// itself as one that never had versioning. Source: Amazon S3 User Guide, "Using
// versioning in S3 buckets".
const nullVersion = "null"

func onlyVersion(id string) error {
	if id == nullVersion {
		return nil
	}
	return fail(http.StatusNotFound, "NoSuchVersion", "The specified version does not exist: the bucket has a guard, and so no versions but null.")
}

// enter prepares an operation in a scope and refuses a token that is known to
// be stale, before anything is read or asked.
func (rq *request) enter(g *fence.Guard, sc fence.Scope, key string) error {
	needs := rq.op.fenced == fencedWrite || rq.op.fenced == fencedStage
	op, err := rq.sideOf(g, sc, key, needs)
	if err != nil {
		return err
	}
	if rq.op.name == "CompleteMultipartUpload" {
		rq.identify(&op)
	}
	rq.fenced, rq.side = true, op
	rq.record.Scope, rq.record.Token = sc, op.Request.Token
	if rq.s.writers[g.Writes] == nil {
		return notImplemented("%s is not available in this version, so nothing under the guard %s can be reached", g.Writes, g.Pattern)
	}
	// Aborting one's own upload is allowed even when stale. A named request may have
	// an answer from when its token was not; the way to write looks for that first.
	if op.Request.Token != 0 && op.Named == nil && rq.op.name != "AbortMultipartUpload" {
		if refusal := rq.s.judge.KnownStale(&rq.side); refusal != nil {
			return refusal
		}
	}
	return nil
}

// writer is the way to write of the request's guard; enter has seen that there
// is one.
func (rq *request) writer() guarded.Writer { return rq.s.writers[rq.side.Guard.Writes] }

// servePlain answers outside of every guard.
func (rq *request) servePlain() error {
	if rq.op.plain == nil {
		return rq.op.notHere()
	}
	return rq.op.plain(rq)
}

// serveBucket goes on with an operation on a bucket.
func (rq *request) serveBucket() error {
	o := rq.op
	rq.w.Header()["X-Amz-Bucket-Region"] = []string{rq.s.region}
	if o.ours || rq.list.Guarded(rq.bucket) {
		if err := rq.expectOwner(rq.bucket, headerOwner); err != nil {
			return err
		}
	}
	if !rq.list.Guarded(rq.bucket) {
		if o.on == onPrefix {
			if err := rq.displaced(fence.Scope{}, rq.bucket, rq.param("prefix")); err != nil {
				return err
			}
		}
		return rq.servePlain()
	}
	switch o.fenced {
	case fencedConflict:
		return fail(http.StatusConflict, codeBucketGuarded, "The bucket %s has guards; remove them first (s3fence guard list, s3fence guard remove).", rq.bucket)
	case fencedHarmless, fencedEach:
		return rq.servePlain()
	case fencedRead, fencedList:
		if o.guarded == nil {
			return rq.servePlain()
		}
		return o.guarded(rq)
	}
	return notImplemented("%s is not available for bucket %s, which has a guard", o.name, rq.bucket)
}

// param is the value of a query parameter, "" where it is absent.
func (rq *request) param(name string) string {
	for i := range rq.signed.Params {
		if rq.signed.Params[i].Name == name {
			return rq.signed.Params[i].Value
		}
	}
	return ""
}

func (rq *request) has(name string) bool {
	return slices.ContainsFunc(rq.signed.Params, func(p sigv4.Param) bool { return p.Name == name })
}

// ref is the request's object.
func (rq *request) ref() object.Ref { return object.Ref{Bucket: rq.bucket, Key: rq.key} }
