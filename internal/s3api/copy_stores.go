package s3api

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // Content-MD5 is MD5
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// Between two stores a copy passes through this proxy. What becomes an object
// outside of every guard is decided by its store alone, so that store gets the whole
// digest before the bytes, or gets them in parts: however source, proxy or network
// end, nothing less than the source becomes an object.

const (
	// maxCopySource is S3's bound on what one CopyObject or UploadPartCopy reads.
	maxCopySource = 5 << 30
	// relayPiece is the size of the parts of a copy whose digest nobody knows.
	relayPiece = 64 << 20
)

// opened is a source that is being read.
type opened struct {
	info object.Info
	tags func(context.Context) ([]object.Tag, error)
	body io.ReadCloser
	size int64 // of body
	// digest is the MD5 of body, nil where it is not known.
	digest []byte
}

// openSource opens what a copy between stores reads, under the source conditions.
func (rq *request) openSource(src *source, from string, client *upstream.Client, rng *guarded.Range) (*opened, error) {
	if src.guard != nil {
		return rq.openSealed(src, client, rng)
	}
	h := http.Header{}
	for name, v := range rq.r.Header {
		// The key of an encrypted source: the same headers, named for a read.
		if s, ok := strings.CutPrefix(name, "X-Amz-Copy-Source-Server-Side-Encryption-Customer-"); ok {
			h["X-Amz-Server-Side-Encryption-Customer-"+s] = v
		}
	}
	q := &upstream.Request{Method: http.MethodGet, Bucket: from, Key: src.Key, Header: h}
	if src.version != "" {
		q.Query = append(q.Query, upstream.Param{Name: "versionId", Value: src.version})
	}
	if rng != nil {
		h["Range"] = []string{rangeHeader(rng)}
	}
	resp, err := client.Do(rq.ctx, q)
	if err != nil {
		return nil, readFailed(err)
	}
	o := &opened{body: resp.Body, size: resp.ContentLength, info: object.Info{Ref: src.Ref, Size: resp.ContentLength, ETag: strings.Trim(resp.Header.Get("Etag"), `"`)}}
	o.info.Modified, _ = http.ParseTime(resp.Header.Get("Last-Modified"))
	o.info.Headers, o.info.Meta = map[string]string{}, map[string]string{}
	for name, v := range resp.Header {
		if key, ok := strings.CutPrefix(name, metaPrefix); ok {
			o.info.Meta[key] = strings.Join(v, ",")
		} else if storedHeaders[name] {
			o.info.Headers[name] = v[0]
		}
	}
	o.tags = func(ctx context.Context) ([]object.Tag, error) {
		if resp.Header.Get("X-Amz-Tagging-Count") == "" {
			return nil, nil
		}
		if src.version != "" {
			return nil, notImplemented("the tags of a version are not copied between stores; send x-amz-tagging-directive: REPLACE")
		}
		tags, err := client.ObjectTags(ctx, from, src.Key)
		if err != nil && !upstream.HasCode(err, "NotImplemented", "NoSuchTagSet", "MethodNotAllowed") {
			return nil, readFailed(err)
		}
		out := make([]object.Tag, len(tags))
		for i, t := range tags {
			out[i] = object.Tag{Key: t.Key, Value: t.Value}
		}
		return out, nil
	}
	if rng == nil && !upstream.Encrypted(resp.Header) {
		o.digest = digestOf(o.info.ETag)
	}
	return o, rq.checkSource(o, rng)
}

// openSealed opens an object of a scope.
func (rq *request) openSealed(src *source, client *upstream.Client, rng *guarded.Range) (*opened, error) {
	if src.side.Request.Token != 0 {
		if refusal := rq.s.judge.KnownStale(&src.side); refusal != nil {
			return nil, refusal
		}
	}
	var before guarded.Location
	for range 4 {
		info, at, err := rq.s.reader.Locate(rq.ctx, src.side, src.Ref)
		if err != nil {
			return nil, err
		}
		header := ""
		if rng != nil {
			header = rangeHeader(rng)
		}
		got, err := client.GetObject(rq.ctx, at.Bucket, at.Key, header, nil)
		if upstream.NotFound(err) {
			if at == before {
				return nil, fmt.Errorf("%w: %s (physical key %s): %w", guarded.ErrLostBytes, src.Ref, at.Key, err)
			}
			before = at // replaced and collected since, or lost
			continue
		}
		if err != nil {
			return nil, readFailed(err)
		}
		info.Opaque = upstream.Encrypted(got.Header)
		o := &opened{info: info, body: got.Body, size: got.Size, tags: func(context.Context) ([]object.Tag, error) { return info.Tags, nil }}
		if rng == nil && !info.Opaque {
			o.digest = digestOf(info.ETag)
		}
		if rng == nil {
			o.body = held(got.Body, &info) // what came in parts has a checksum at most
		}
		if rng == nil && got.Size != info.Size {
			got.Body.Close()
			return nil, fmt.Errorf("%w: reading %s: got %d bytes instead of %d", guarded.ErrStore, at.Key, got.Size, info.Size)
		}
		return o, rq.checkSource(o, rng)
	}
	return nil, fmt.Errorf("%w: %s is replaced faster than it can be opened", state.ErrBusy, src.Ref)
}

// checkSource closes a source that the request does not want.
func (rq *request) checkSource(o *opened, rng *guarded.Range) (err error) {
	switch cerr := rq.sourceConditions().CheckRead(&o.info); {
	case cerr != nil:
		err = object.ErrPreconditionFailed
	case o.size < 0:
		err = fmt.Errorf("%w: the copy's source has no length", guarded.ErrStore)
	case rng != nil && o.size != rng.Length:
		err = object.ErrInvalidRange
	case o.size > maxCopySource:
		err = fail(http.StatusBadRequest, "InvalidRequest", "The specified copy source is larger than the maximum allowable size for a copy source: %d", int64(maxCopySource))
	}
	if err != nil {
		o.body.Close()
	}
	return err
}

// readFailed is a source that could not be opened: nothing was written.
func readFailed(err error) error {
	if e, ok := errors.AsType[*upstream.Error](err); ok && e.Outcome == upstream.Refused && e.Status/100 == 4 {
		if upstream.NotFound(err) {
			return object.ErrNoSuchKey
		}
		return &apiError{status: e.Status, code: e.Code, message: e.Message, cause: err}
	}
	// Said here: whoever sees a mutation outside of every guard with an unknown
	// outcome would take this for the copy's own.
	return unavailable(codeUnavailable, "The copy's source cannot be read; nothing was done. Send it again.", err)
}

func rangeHeader(r *guarded.Range) string {
	return "bytes=" + strconv.FormatInt(r.Offset, 10) + "-" + strconv.FormatInt(r.Offset+r.Length-1, 10)
}

// watched is the source's body on its way: its end is an end only if it is the
// expected one, and its own failures are the source's.
type watched struct {
	src    io.Reader
	left   int64
	hash   hash.Hash
	digest []byte
	failed error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.src.Read(p)
	w.left -= int64(n)
	w.hash.Write(p[:n])
	if err == nil {
		return n, nil
	}
	sum := w.hash.Sum(nil)
	switch {
	case err != io.EOF: // an error that wraps io.EOF is a failure, not the end
		w.failed = fmt.Errorf("%w: reading the copy's source: %w", guarded.ErrStore, err)
	case w.left != 0:
		w.failed = fmt.Errorf("%w: the copy's source ended %d bytes early", guarded.ErrStore, w.left)
	case w.digest != nil && !bytes.Equal(sum, w.digest):
		w.failed = fmt.Errorf("%w: the copy's source sent bytes with the digest %x instead of %x", guarded.ErrStore, sum, w.digest)
	default:
		return n, io.EOF
	}
	return 0, w.failed
}

// arrivedAs compares what the store says it has of the bytes since the hash began with
// what was sent. Nobody sees a part yet, so nothing is done; see [request.asSent] for
// what says nothing.
func (w *watched) arrivedAs(etag string, h http.Header) error {
	sum, got := w.hash.Sum(nil), digestOf(etag)
	if got == nil || bytes.Equal(got, sum) || upstream.Encrypted(h) {
		return nil
	}
	return unavailable(codeUnavailable, "The object store has other bytes than were sent to it; nothing was done. Send it again.",
		fmt.Errorf("%w: it stored bytes with the digest %x instead of %x", guarded.ErrStore, got, sum))
}

// copyBetween copies from one store to a place outside of every guard in another.
func (rq *request) copyBetween(src *source, from string, client, to *upstream.Client, q *upstream.Request) error {
	part := rq.op.name == "UploadPartCopy"
	var rng *guarded.Range
	var err error
	if part {
		if rng, err = rq.sourceRange(); err != nil {
			return err
		}
	} else if len(rq.r.Header["X-Amz-Checksum-Algorithm"]) > 0 {
		return notImplemented("the header x-amz-checksum-algorithm is not available on a copy between two stores; leave it out")
	}
	o, err := rq.openSource(src, from, client, rng)
	if err != nil {
		return err
	}
	defer o.body.Close()
	if err := rq.copyHeaders(o, q.Header, part); err != nil {
		return err
	}
	body := &watched{src: o.body, left: o.size, hash: md5.New(), digest: o.digest} //nolint:gosec // see the import
	var etag string
	err = rq.mutate(func(ctx context.Context) (err error) {
		switch {
		case part:
			if etag, err = rq.putCopy(ctx, to, q, body, o.size, o.digest); err == nil {
				err = body.arrivedAs(etag, rq.w.Header())
			}
		case o.digest != nil:
			etag, err = rq.putCopy(ctx, to, q, body, o.size, o.digest)
		case o.size <= rq.s.limits.Spool:
			etag, err = rq.putSpooled(ctx, to, q, body, o.size)
		default:
			etag, err = putPieces(ctx, to, q, body, o.size)
		}
		return err
	})
	if err != nil {
		if body.failed != nil {
			// It cannot have become an object: its store lacks bytes or has another
			// digest of them.
			err = unavailable(codeUnavailable, "The copy's source broke off or is damaged; nothing was done. Send it again.", body.failed)
		}
		return err
	}
	if part {
		return rq.copied("CopyPartResult", etag, time.Now().UTC(), nil, "")
	}
	return rq.copied("CopyObjectResult", etag, time.Now().UTC(), nil, "")
}

// copyHeaders makes the headers of a PUT of those of a copy.
func (rq *request) copyHeaders(o *opened, h http.Header, part bool) error {
	replaceMeta, err := directive(h, "X-Amz-Metadata-Directive")
	if err != nil {
		return err
	}
	replaceTags, err := directive(h, "X-Amz-Tagging-Directive")
	if err != nil {
		return err
	}
	headers := object.CopiedHeaders(o.info.Headers, h.Get(object.WebsiteRedirect))
	for name := range h {
		drop := strings.HasPrefix(name, "X-Amz-Copy-Source") || name == "X-Amz-Metadata-Directive" || name == "X-Amz-Tagging-Directive" ||
			name == "X-Amz-Source-Expected-Bucket-Owner" || name == "Content-Md5" ||
			!replaceMeta && (strings.HasPrefix(name, metaPrefix) || storedHeaders[name]) || !replaceTags && name == "X-Amz-Tagging"
		if drop {
			delete(h, name)
		}
	}
	if part {
		return nil
	}
	if !replaceMeta {
		for name, v := range headers {
			h[name] = []string{v}
		}
		for name, v := range o.info.Meta {
			h[http.CanonicalHeaderKey(metaPrefix+name)] = []string{v}
		}
	}
	if !replaceTags {
		tags, err := o.tags(rq.ctx)
		if err != nil {
			return err
		}
		if len(tags) > 0 {
			h["X-Amz-Tagging"] = []string{encodeTags(tags)}
		}
	}
	return nil
}

// mutate runs a change outside of every guard that is more than one request.
func (rq *request) mutate(change func(context.Context) error) error {
	flight, err := rq.begin()
	if err != nil {
		return err
	}
	defer flight.End()
	if err := flight.StillValid(); err != nil {
		return err
	}
	if err := change(flight.Context()); err != nil {
		return err
	}
	return landed(flight)
}

// putCopy sends a copy in one request.
func (rq *request) putCopy(ctx context.Context, to *upstream.Client, q *upstream.Request, body io.Reader, size int64, digest []byte) (etag string, err error) {
	put := *q
	put.Body, put.ContentLength = body, size
	if digest != nil {
		put.Header = put.Header.Clone()
		put.Header["Content-Md5"] = []string{base64.StdEncoding.EncodeToString(digest)}
	}
	resp, err := to.Do(ctx, &put)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	for name, v := range resp.Header {
		if strings.HasPrefix(name, "X-Amz-Server-Side-Encryption") || name == "X-Amz-Version-Id" {
			rq.w.Header()[name] = v
		}
	}
	return strings.Trim(resp.Header.Get("Etag"), `"`), nil
}

// putSpooled keeps a copy in a file without a name until its digest is known.
func (rq *request) putSpooled(ctx context.Context, to *upstream.Client, q *upstream.Request, body *watched, size int64) (etag string, err error) {
	share := &room{s: rq.s}
	defer share.free()
	if err := share.upTo(size); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(rq.s.limits.SpoolDir, "s3fence-copy-*")
	if err != nil {
		return "", unavailable(codeUnavailable, "The proxy has no room left in its spool_dir to keep the copy; nothing was done. Free space there, then send it again.", err)
	}
	_ = os.Remove(f.Name())
	defer discard(f)
	if _, err = io.Copy(f, body); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		err = unavailable(codeUnavailable, "The proxy has no room left in its spool_dir to keep the copy; nothing was done. Free space there, then send it again.", err)
	}
	if err != nil {
		return "", err
	}
	return rq.putCopy(ctx, to, q, io.LimitReader(f, size), size, body.hash.Sum(nil))
}

// putPieces sends a copy in parts, of which nothing is seen before they are joined.
func putPieces(ctx context.Context, to *upstream.Client, q *upstream.Request, body *watched, size int64) (etag string, err error) {
	h := q.Header.Clone()
	// A key of the client's goes with every part (S3 API Reference, UploadPart).
	conditions, key := http.Header{}, http.Header{}
	for name, v := range h {
		if strings.HasPrefix(name, "X-Amz-Server-Side-Encryption-Customer-") {
			key[name] = v
		}
	}
	for _, name := range []string{"If-Match", "If-None-Match"} {
		if v := h[name]; len(v) > 0 {
			conditions[name] = v
			delete(h, name)
		}
	}
	id, err := to.CreateMultipartUpload(ctx, q.Bucket, q.Key, h)
	if err != nil {
		return "", err
	}
	completing := false
	defer func() {
		if err != nil && !completing {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			_ = to.AbortMultipartUpload(ctx, q.Bucket, q.Key, id) // else the store's lifecycle rules end it
		}
	}()
	var parts []upstream.Part
	for at := int64(0); at < size; at += relayPiece {
		n := min(relayPiece, size-at)
		piece := io.LimitReader(body, n)
		if at+n == size {
			piece = body // to its end, which is checked
		}
		body.hash.Reset()
		got, err := to.UploadPart(ctx, q.Bucket, q.Key, id, len(parts)+1, piece, n, upstream.PutOptions{Header: key})
		if err != nil {
			return "", err
		}
		if err := body.arrivedAs(got.ETag, got.Header); err != nil {
			return "", err
		}
		parts = append(parts, upstream.Part{Number: len(parts) + 1, ETag: got.ETag, Size: n})
	}
	completing = true
	got, err := to.CompleteMultipartUpload(ctx, q.Bucket, q.Key, id, parts, conditions)
	if err != nil {
		return "", err
	}
	return got.ETag, nil
}
