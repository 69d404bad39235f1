package s3api

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // Content-MD5 is MD5
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/upstream"
)

// pass hands a request outside of every guard on to the store and its answer
// back.
func pass(rq *request) error {
	q, err := rq.forward()
	if err != nil {
		return err
	}
	switch rq.op.body {
	case document:
		limit := int64(maxDocument)
		if rq.op.name == "CompleteMultipartUpload" {
			limit = maxComplete
		}
		doc, err := rq.readDocument(limit, sigv4.BodyOptions{ObjectChecksum: rq.op.name == "CompleteMultipartUpload"})
		if err != nil {
			return err
		}
		rq.attach(q, doc)
	case content:
		body, err := rq.send()
		if err != nil {
			return err
		}
		defer body.Close()
		q.Body, q.ContentLength = body.Reader, body.length
	}
	return rq.exchange(q)
}

// passRead is pass for the reads of an object, the most frequent of all.
func passRead(rq *request) error {
	q, err := rq.forward()
	if err != nil {
		return err
	}
	return rq.exchange(q)
}

// passSetting relays a setting of a bucket. A store that does not know it may
// answer as if it had not been asked for: with a list of the bucket, where our
// own keys are and what a guard hides. That is refused.
func passSetting(rq *request) error {
	q, err := rq.forward()
	if err != nil {
		return err
	}
	resp, err := rq.do(rq.ctx, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	doc, err := readAnswer(resp.Body)
	switch {
	case err != nil:
		return err
	case isList(doc):
		return unknownSetting(rq)
	}
	whole := *resp
	whole.Body, whole.ContentLength = io.NopCloser(bytes.NewReader(doc)), int64(len(doc))
	return rq.relay(&whole)
}

// changeSetting puts or deletes a setting of a bucket. A store that does not know
// it may take the request for one without it: MinIO takes DELETE ?analytics for the
// deletion of the bucket. So the setting is looked at first.
func changeSetting(rq *request) error {
	_, bucket, err := rq.s.buckets.Bucket(rq.bucket)
	if err != nil {
		return err
	}
	q := &upstream.Request{Method: http.MethodGet, Bucket: bucket}
	for i := range rq.signed.Params {
		if p := &rq.signed.Params[i]; rq.op.selectedBy(p) {
			q.Query = append(q.Query, upstream.Param{Name: p.Name, Value: rq.op.valueOf(p)})
		}
	}
	resp, err := rq.do(rq.ctx, q)
	if e, ok := errors.AsType[*upstream.Error](err); ok && (e.Outcome == upstream.Refused || e.Status == http.StatusNotImplemented) {
		// It says that there is none, or who may look at it: it knows what is meant.
		return pass(rq)
	}
	if err != nil {
		return err
	}
	doc, err := readAnswer(resp.Body)
	resp.Body.Close()
	switch {
	case err != nil:
		return unavailable(codeUnavailable, "The object store did not answer as it should when it was asked for the setting; nothing was done. Send it again.", err)
	case isList(doc):
		return unknownSetting(rq)
	}
	return pass(rq)
}

func unknownSetting(rq *request) error {
	return notImplemented("the object store does not know what %s is about", rq.op.name)
}

// attach makes a document the body of a request.
func (rq *request) attach(q *upstream.Request, doc []byte) {
	h := rq.r.Header
	if q.Header != nil {
		h = q.Header
	}
	// The document is verified; how its client proved it is not the store's
	// matter, and some stores insist on an MD5.
	for name := range h {
		if name == "X-Amz-Sdk-Checksum-Algorithm" || strings.HasPrefix(name, "X-Amz-Checksum-") && rq.op.name != "CompleteMultipartUpload" {
			delete(h, name)
		}
	}
	delete(h, "Content-Md5")
	if len(doc) == 0 {
		return
	}
	h["Content-Md5"] = documentMD5(md5.Sum(doc)) //nolint:gosec // see the import
	q.Body, q.ContentLength = bytes.NewReader(doc), int64(len(doc))
}

// forward makes the request for the store: its place there, the parameters that
// the table knows, and of the headers those that [upstream.Forwarded] knows.
func (rq *request) forward() (*upstream.Request, error) {
	_, bucket, err := rq.s.buckets.Bucket(rq.bucket)
	if err != nil {
		return nil, err
	}
	q := &upstream.Request{Method: rq.r.Method, Bucket: bucket, Key: rq.key, Header: rq.r.Header, Mutation: rq.op.mutates()}
	for i := range rq.signed.Params {
		if p := &rq.signed.Params[i]; !tolerated(p.Name) {
			q.Query = append(q.Query, upstream.Param{Name: p.Name, Value: rq.op.valueOf(p)})
		}
	}
	if len(rq.r.Header["If-Range"]) > 0 {
		// The store is not asked to evaluate it: the whole object is always right.
		delete(rq.r.Header, "Range")
	}
	return q, nil
}

// begin registers a mutation outside of every guard, so that whoever adds one
// waits for it.
func (rq *request) begin() (*guards.Flight, error) {
	if rq.op.level == objectLevel {
		return rq.s.guards.Begin(rq.ctx, rq.bucket, rq.key)
	}
	if rq.list.Guarded(rq.bucket) {
		// A setting that is harmless under a guard needs no flight, but a lease.
		return nil, nil
	}
	return rq.s.guards.BeginBucket(rq.ctx, rq.bucket)
}

// exchange sends a request and relays the answer.
func (rq *request) exchange(q *upstream.Request) error {
	if !q.Mutation {
		resp, err := rq.do(rq.ctx, q)
		if err != nil {
			return err
		}
		return rq.relay(resp)
	}
	flight, err := rq.begin()
	if err != nil {
		return err
	}
	ctx := rq.ctx
	if flight != nil {
		defer flight.End()
		if err := flight.StillValid(); err != nil {
			return err
		}
		ctx = flight.Context()
	}
	resp, err := rq.do(ctx, q)
	if err != nil {
		return err
	}
	if flight != nil {
		if err := landed(flight); err != nil {
			return err
		}
	}
	if err := rq.asSent(resp); err != nil {
		return err
	}
	return rq.relay(resp)
}

// landed says what a mutation is worth whose flight is over though the store
// took it: it stands there, perhaps under a guard by now, and is not
// acknowledged. "Nothing happened" would be a lie (F7).
func landed(f *guards.Flight) error {
	err := f.StillValid()
	if err == nil {
		return nil
	}
	return &apiError{status: http.StatusGatewayTimeout, code: codeUnknown, cause: err,
		message: "The store took the request, but the guards of this bucket could not be known any more when it did: it may or may not stay. Look before you send it again."}
}

func (rq *request) do(ctx context.Context, q *upstream.Request) (*upstream.Response, error) {
	client, _, err := rq.s.buckets.Bucket(rq.bucket)
	if err != nil {
		return nil, err
	}
	return client.Do(ctx, q)
}

// relayed headers of the store's answers. All others are the store's own
// business, ids and connection handling among them.
var relayedHeaders = map[string]bool{
	"Accept-Ranges": true, "Cache-Control": true, "Content-Disposition": true, "Content-Encoding": true, "Content-Language": true,
	"Content-Range": true, "Content-Type": true, "Etag": true, "Expires": true, "Last-Modified": true,
}

func relayedHeader(name string) bool {
	if relayedHeaders[name] {
		return true
	}
	if !strings.HasPrefix(name, "X-Amz-") {
		return false
	}
	switch name {
	case "X-Amz-Request-Id", "X-Amz-Id-2", "X-Amz-Bucket-Region", "X-Amz-Cf-Id":
		return false
	}
	return true
}

// relay hands an answer of the store to the client.
func (rq *request) relay(resp *upstream.Response) error {
	defer resp.Body.Close()
	h := rq.w.Header()
	for name, v := range resp.Header {
		if relayedHeader(name) {
			h[metaName(name)] = v
		}
	}
	if rq.op.renames {
		doc, err := readAnswer(resp.Body)
		if err != nil {
			return err
		}
		doc, err = rq.translate(doc)
		if err != nil {
			return err
		}
		h["Content-Length"] = []string{strconv.Itoa(len(doc))}
		rq.status(resp.Status)
		n, _ := rq.w.Write(doc)
		rq.record.BytesOut += int64(n)
		return nil
	}
	if resp.ContentLength >= 0 && resp.Status != http.StatusNoContent {
		h["Content-Length"] = []string{strconv.FormatInt(resp.ContentLength, 10)}
	}
	rq.status(resp.Status)
	if rq.r.Method == http.MethodHead {
		return nil
	}
	return rq.stream(resp.Body)
}

// maxRelayedDocument bounds a document of the store that is read whole.
const maxRelayedDocument = 16 << 20

// readAnswer reads a document of the store. That it breaks off is [errStrange].
func readAnswer(body io.Reader) ([]byte, error) {
	doc, err := io.ReadAll(io.LimitReader(body, maxRelayedDocument+1))
	switch {
	case err != nil:
		return nil, errors.Join(errStrange, err)
	case len(doc) > maxRelayedDocument:
		return nil, errStrange
	}
	return doc, nil
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}

// stream copies an answer's body. Once it has begun, a failure can only be told
// by cutting the connection: render does that.
func (rq *request) stream(body io.Reader) error {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	// Hidden from io.CopyBuffer: the writer's own ReadFrom has smaller buffers.
	n, err := io.CopyBuffer(struct{ io.Writer }{rq.w}, struct{ io.Reader }{body}, *buf)
	rq.record.BytesOut += n
	return err
}

// passListing relays a list of the store without what is ours.
func passListing(rq *request) error {
	if cutsReserved(rq.param("prefix"), rq.param("delimiter")) {
		return notImplemented("%s with a delimiter that is found in %q is not implemented here", rq.op.name, fence.Reserved)
	}
	q, err := rq.forward()
	if err != nil {
		return err
	}
	resp, err := rq.do(rq.ctx, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	doc, err := readAnswer(resp.Body)
	if err != nil {
		return err
	}
	if doc, err = rq.translate(doc); err != nil {
		return err
	}
	h := rq.w.Header()
	h["Content-Type"] = contentXML
	h["Content-Length"] = []string{strconv.Itoa(len(doc))}
	rq.status(http.StatusOK)
	n, _ := rq.w.Write(doc)
	rq.record.BytesOut += int64(n)
	return nil
}
