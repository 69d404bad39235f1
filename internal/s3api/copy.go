package s3api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// source is where a copy reads from, as the client names it.
type source struct {
	object.Ref
	version string
	// pieces are the key cut at each plus that stood in the header unencoded.
	pieces []string
	// guard is nil for a plain source.
	guard *fence.Guard
	side  guarded.Op
}

// readSource finds the source of a copy and asks for the right to read it. The
// header is bucket/key or /bucket/key, URL-encoded, perhaps with ?versionId=V; a "?"
// of the key itself is encoded.
// Source: Amazon S3 API Reference, CopyObject, x-amz-copy-source.
//
// So is a plus: a plain one is a space to Amazon S3, which does not find foo++bar.txt
// by it (https://github.com/aws/aws-cli/issues/614), and go-cloud sends it for one.
// That is our reading, too. MinIO reads a plus there; [source.asSent] leaves it to the
// store where the store is what reads.
func (rq *request) readSource() (*source, error) {
	values := rq.r.Header["X-Amz-Copy-Source"]
	if len(values) != 1 {
		return nil, invalid("the request has %d x-amz-copy-source headers; send one", len(values))
	}
	raw := values[0]
	src := &source{}
	if i := strings.LastIndex(raw, "?versionId="); i >= 0 {
		raw, src.version = raw[:i], raw[i+len("?versionId="):]
	}
	if strings.HasPrefix(raw, "arn:") {
		return nil, notImplemented("copy sources named by an ARN are not implemented here; write bucket/key")
	}
	src.pieces = strings.Split(raw, "+")
	for i, piece := range src.pieces {
		var err error
		if src.pieces[i], err = sigv4.DecodePath(piece); err != nil {
			return nil, invalid("x-amz-copy-source is not URL-encoded: %v", err)
		}
	}
	var ok bool
	src.Bucket, src.pieces[0], ok = strings.Cut(strings.TrimPrefix(src.pieces[0], "/"), "/")
	src.Key = strings.Join(src.pieces, " ")
	if !ok || src.Key == "" || !bucketName(src.Bucket) {
		return nil, invalid("x-amz-copy-source is %q; it must be bucket/key", shorten(values[0]))
	}
	if climbs(src.Key) {
		return nil, object.ErrNoSuchKey
	}
	if src.version != "" {
		id, err := sigv4.DecodePath(src.version)
		if err != nil || strays(src.version) || strays(id) {
			return nil, badVersion()
		}
	}
	if !rq.may(auth.Read, src.Bucket, src.Key) {
		return nil, denied("Copying from s3://%s/%s needs the right read, which access key %s does not have there.", src.Bucket, shorten(src.Key), rq.who.AccessKey)
	}
	if reserved(src.Key) {
		return nil, object.ErrNoSuchKey
	}
	if rq.list.Guarded(src.Bucket) && fence.CheckKey(src.Key) != nil {
		return nil, object.ErrNoSuchKey
	}
	if err := checkName(src.Key); err != nil {
		return nil, err
	}
	if src.version != "" && rq.list.Guarded(src.Bucket) {
		if err := onlyVersion(src.version); err != nil {
			return nil, err
		}
		src.version = ""
	}
	if err := rq.findSource(src); err != nil {
		return nil, err
	}
	if src.guard != nil || rq.fenced {
		if err := rq.expectOwner(src.Bucket, headerSourceOwner); err != nil {
			return nil, err
		}
	}
	return src, nil
}

// asSent is the name of a plain source with its pluses as the client sent them, for
// a store to read: what works at the store works through the proxy. Since the store
// may read a plus or a space, the caller needs the right to both keys, and both lie in
// one scope (that is pending) or in none; the two never differ in what is reserved.
func (src *source) asSent(rq *request, bucket string) (string, error) {
	if len(src.pieces) > 1 {
		other := strings.Join(src.pieces, "+")
		_, scope, _ := rq.list.Find(src.Bucket, src.Key)
		_, otherScope, _ := rq.list.Find(src.Bucket, other)
		if scope != otherScope || rq.displaced(otherScope, src.Bucket, other) != nil || !rq.may(auth.Read, src.Bucket, other) {
			return "", invalid("x-amz-copy-source has a plus that is not encoded; stores read it as a space or as a plus, and what holds for the one key does not hold for the other: send %%20 or %%2B")
		}
	}
	names := make([]string, len(src.pieces))
	for i, piece := range src.pieces {
		names[i] = escapePath(piece)
	}
	return escapePath(bucket) + "/" + strings.Join(names, "+"), nil
}

// findSource looks for the source's guard. A token of the request counts for
// the source only where source and destination lie in one scope, or where the
// credentials carry it there: a request has one token, and it is the
// destination's.
func (rq *request) findSource(src *source) error {
	g, sc, ok := rq.list.Find(src.Bucket, src.Key)
	if err := rq.displaced(sc, src.Bucket, src.Key); err != nil || !ok {
		return err
	}
	src.guard = g
	src.side = guarded.Op{Guard: g, Scope: sc, Caller: rq.who.AccessKey}
	c := rq.who.Carried
	switch {
	case rq.fenced && rq.side.Scope == sc:
		src.side.Request = rq.side.Request
	case c != nil && c.Scope == sc:
		src.side.Request = fence.Request{Token: c.Token, Generation: c.Generation, Named: true, MayRaise: rq.mayWrite(src.Bucket, src.Key)}
	}
	if rq.s.writers[g.Writes] == nil {
		return notImplemented("%s is not available in this version, so nothing under the guard %s can be reached", g.Writes, g.Pattern)
	}
	if g.State == fence.Pending {
		pending, err := rq.s.reader.Pending(rq.ctx, g)
		if err != nil {
			return err
		}
		if pending && src.side.Request.Token != 0 {
			return fence.Refuse(fence.NotActive, sc, g, fence.Mark{}, src.side.Request)
		}
		if pending {
			src.guard = nil
		}
	}
	return nil
}

// sourceConditions reads the x-amz-copy-source-if-* headers.
func (rq *request) sourceConditions() object.Conditions {
	return conditions(rq.r.Header, "X-Amz-Copy-Source-If-Match", "X-Amz-Copy-Source-If-None-Match", "X-Amz-Copy-Source-If-Modified-Since", "X-Amz-Copy-Source-If-Unmodified-Since")
}

// sourceRange reads x-amz-copy-source-range, which has one form only.
func (rq *request) sourceRange() (*guarded.Range, error) {
	v := rq.r.Header.Get("X-Amz-Copy-Source-Range")
	if v == "" {
		return nil, nil
	}
	spec, ok := strings.CutPrefix(v, "bytes=")
	first, last, ok2 := strings.Cut(spec, "-")
	a, err1 := strconv.ParseInt(first, 10, 64)
	b, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || !ok2 || err1 != nil || err2 != nil || a < 0 || b < a {
		return nil, invalid("x-amz-copy-source-range is %q; it must be bytes=first-last", shorten(v))
	}
	return &guarded.Range{Offset: a, Length: b - a + 1}, nil
}

// passCopy copies to a place outside of every guard: from another such place
// in the client's own words, from a scope in ours.
func passCopy(rq *request) error {
	src, err := rq.readSource()
	if err != nil {
		return err
	}
	client, from, err := rq.s.buckets.Bucket(src.Bucket)
	if err != nil {
		return err
	}
	to, _, err := rq.s.buckets.Bucket(rq.bucket)
	if err != nil {
		return err
	}
	q, err := rq.forward()
	if err != nil {
		return err
	}
	if client != to {
		return rq.copyBetween(src, from, client, to, q)
	}
	if src.guard == nil {
		name, err := src.asSent(rq, from)
		if err != nil {
			return err
		}
		if src.version != "" {
			name += "?versionId=" + src.version
		}
		q.Header["X-Amz-Copy-Source"] = []string{name}
		return rq.exchange(q)
	}
	if err := rq.copyOut(src, q); err != nil {
		return err
	}
	name := q.Header["X-Amz-Copy-Source"][0]
	if err = rq.exchange(q); !upstream.HasCode(err, "NoSuchKey") {
		return err
	}
	// A physical object is gone only once its object was replaced; the client
	// must not take that for a 404.
	if _, at, lerr := rq.s.reader.Locate(rq.ctx, src.side, src.Ref); lerr != nil {
		return lerr
	} else if escapePath(at.Bucket+"/"+at.Key) == name {
		return fmt.Errorf("%w: %s (physical key %s): %w", guarded.ErrLostBytes, src.Ref, at.Key, err)
	}
	return fmt.Errorf("%w: %s was replaced while it was copied", state.ErrBusy, src.Ref)
}

// copyOut turns a copy from a scope into a copy of its physical object. All
// attributes are given anew, so that nothing which the store keeps with the
// physical object comes along.
func (rq *request) copyOut(src *source, q *upstream.Request) error {
	if src.side.Request.Token != 0 {
		if refusal := rq.s.judge.KnownStale(&src.side); refusal != nil {
			return refusal
		}
	}
	info, at, err := rq.s.reader.Locate(rq.ctx, src.side, src.Ref)
	if err != nil {
		return err
	}
	if err := rq.sourceConditions().CheckRead(&info); err != nil {
		if errors.Is(err, object.ErrNotModified) {
			err = object.ErrPreconditionFailed
		}
		return err
	}
	h := q.Header
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-Copy-Source-If-") {
			delete(h, name)
		}
	}
	h["X-Amz-Copy-Source"] = []string{escapePath(at.Bucket + "/" + at.Key)}
	if rq.op.name == "UploadPartCopy" {
		return nil
	}
	replaceMeta, err := directive(h, "X-Amz-Metadata-Directive")
	if err != nil {
		return err
	}
	replaceTags, err := directive(h, "X-Amz-Tagging-Directive")
	if err != nil {
		return err
	}
	if !replaceMeta {
		headers := object.CopiedHeaders(info.Headers, h.Get(object.WebsiteRedirect))
		for name := range h {
			if strings.HasPrefix(name, metaPrefix) || storedHeaders[name] {
				delete(h, name)
			}
		}
		for name, v := range headers {
			h[name] = []string{v}
		}
		for name, v := range info.Meta {
			h[http.CanonicalHeaderKey(metaPrefix+name)] = []string{v}
		}
		h["X-Amz-Metadata-Directive"] = []string{"REPLACE"}
	}
	if !replaceTags {
		h["X-Amz-Tagging-Directive"] = []string{"REPLACE"}
		delete(h, "X-Amz-Tagging")
		if len(info.Tags) > 0 {
			h["X-Amz-Tagging"] = []string{encodeTags(info.Tags)}
		}
	}
	return nil
}

// copyObject copies into a scope.
func copyObject(rq *request) error {
	src, err := rq.readSource()
	if err != nil {
		return err
	}
	c := &guarded.Copy{Op: rq.side, Ref: rq.ref()}
	if c.Source, err = rq.guardedSource(src); err != nil {
		return err
	}
	if c.ReplaceMeta, err = directive(rq.r.Header, "X-Amz-Metadata-Directive"); err != nil {
		return err
	}
	if c.ReplaceTags, err = directive(rq.r.Header, "X-Amz-Tagging-Directive"); err != nil {
		return err
	}
	if c.Attributes, c.Store, err = rq.attributes(); err != nil {
		return err
	}
	if c.Conditions, err = rq.writeConditions(); err != nil {
		return err
	}
	c.Checksum = strings.ToUpper(first(rq.r.Header["X-Amz-Checksum-Algorithm"]))
	if err := keeps(c.Checksum); err != nil {
		return err
	}
	if src.Ref == c.Ref && !c.ReplaceMeta && !c.ReplaceTags && len(c.Store) == 0 && c.Attributes.Headers["X-Amz-Website-Redirect-Location"] == "" {
		return fail(http.StatusBadRequest, "InvalidRequest", "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
	}
	info, err := rq.writer().Copy(rq.ctx, c)
	if err != nil {
		return err
	}
	return rq.copied("CopyObjectResult", info.ETag, info.Modified, info.Checksums, info.ChecksumType)
}

// copyPart copies into a part of an upload to a scope.
func copyPart(rq *request) error {
	src, err := rq.readSource()
	if err != nil {
		return err
	}
	p := &guarded.PartCopy{UploadRef: rq.upload()}
	if p.Number, err = rq.partNumber(); err != nil {
		return err
	}
	if err := refuseCustomerKeys(rq.r.Header); err != nil {
		return err
	}
	if p.Source, err = rq.guardedSource(src); err != nil {
		return err
	}
	if p.Source.Range, err = rq.sourceRange(); err != nil {
		return err
	}
	info, err := rq.writer().CopyPart(rq.ctx, p)
	if err != nil {
		return err
	}
	return rq.copied("CopyPartResult", info.ETag, info.Modified, info.Checksums, "")
}

func (rq *request) guardedSource(src *source) (guarded.Source, error) {
	out := guarded.Source{Ref: src.Ref, Op: src.side}
	if src.guard == nil {
		out.Op = guarded.Op{Caller: rq.who.AccessKey}
	}
	if src.version != "" {
		return out, notImplemented("copying a version into a guarded scope is not implemented; leave versionId out")
	}
	out.Conditions = rq.sourceConditions()
	return out, nil
}

// directive reads a COPY or REPLACE header.
func directive(h http.Header, name string) (replace bool, err error) {
	switch v := h.Get(name); {
	case v == "" || strings.EqualFold(v, "COPY"):
		return false, nil
	case strings.EqualFold(v, "REPLACE"):
		return true, nil
	default:
		return false, invalid("%s is %q; it must be COPY or REPLACE", strings.ToLower(name), shorten(v))
	}
}

// copied renders the result of a copy. Checksums say what the new bytes have.
func (rq *request) copied(root, etag string, modified time.Time, sums map[string]string, sumType string) error {
	x := newXML()
	defer x.free()
	x.root(root)
	x.when("LastModified", modified)
	x.etag(etag)
	x.checksums(sums)
	x.some("ChecksumType", sumType)
	x.close(root)
	return rq.document(x)
}
