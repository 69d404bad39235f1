package s3api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // Content-MD5 is MD5
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/upstream"
)

// maxBatch is S3's bound on the keys of one batch delete.
const maxBatch = 1000

// deleteXML is a batch delete as the client sends it.
type deleteXML struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool
	Objects []deleteEntry `xml:"Object"`
}

type deleteEntry struct {
	// Keys must be one; with two, each reader would delete another.
	Keys             []string `xml:"Key"`
	Key              string   `xml:"-"`
	VersionID        string   `xml:"VersionId"`
	shownVersion     string   // what the client is told of; the store is not asked for it
	ETag             string
	LastModifiedTime string
	Size             string
}

// batch is a batch delete that is answered key by key.
type batch struct {
	rq      *request
	entries []deleteEntry
	// failed is nil where the key was deleted; deleted has what the store said of
	// a plain one.
	failed  []*apiError
	deleted []deletedXML
	// fenced is where the token counts, for the headers of the answer; it counts in
	// one scope only. The request itself stays unfenced: what the store says of its
	// plain keys must be read as such.
	fenced *guarded.Op
	// told are the refusals that the observer has been told of.
	told map[string]bool
}

// deletedXML is one success in the store's answer.
type deletedXML struct {
	Key                   string
	VersionID             string `xml:"VersionId"`
	DeleteMarker          string
	DeleteMarkerVersionID string `xml:"DeleteMarkerVersionId"`
}

// deleteObjects deletes up to 1,000 keys of one bucket, each judged by itself:
// those of a scope together, under the one token of the request; plain ones
// together, at the store.
func deleteObjects(rq *request) error {
	doc, err := rq.readDocument(maxDelete, sigv4.BodyOptions{})
	if err != nil {
		return err
	}
	if !rq.hasDigest() {
		return fail(http.StatusBadRequest, "InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
	}
	rq.bodyIs(doc)
	var in deleteXML
	if err := decode(doc, &in); err != nil {
		return err
	}
	if len(in.Objects) == 0 || len(in.Objects) > maxBatch {
		return fail(http.StatusBadRequest, "MalformedXML", "The batch has %d keys; it must have 1 to %d.", len(in.Objects), maxBatch)
	}
	for i := range in.Objects {
		e := &in.Objects[i]
		if len(e.Keys) != 1 {
			return fail(http.StatusBadRequest, "MalformedXML", "Object %d of the batch has %d keys; it must have one.", i+1, len(e.Keys))
		}
		e.Key = e.Keys[0]
	}
	// Who may do nothing in a bucket is refused key by key, whether it is there or not.
	if _, _, err := rq.s.buckets.Bucket(rq.bucket); err != nil && rq.who.MaySomewhere(auth.All, rq.bucket) {
		return err
	}
	b := &batch{rq: rq, entries: in.Objects, failed: make([]*apiError, len(in.Objects)), deleted: make([]deletedXML, len(in.Objects))}
	scopes, plain := b.sort()
	for _, s := range scopes {
		b.deleteScope(s)
	}
	if len(plain) > 0 {
		if err := b.deletePlain(plain); err != nil {
			if len(scopes) == 0 {
				return err
			}
			// Some keys were answered already; the others share this failure.
			for _, i := range plain {
				b.fail(i, err)
			}
		}
	}
	return b.render(in.Quiet)
}

// scopeBatch are the keys of a batch that lie in one scope, by their index.
type scopeBatch struct {
	op    guarded.Op
	index []int
	items []guarded.DeleteItem
	// listed says that the batch knows of it; all its keys may be refused yet.
	listed bool
}

// sort refuses what can be refused key by key and groups the rest.
func (b *batch) sort() (scopes []*scopeBatch, plain []int) {
	byScope := map[fence.Scope]*scopeBatch{}
	for i := range b.entries {
		s, err := b.place(i, byScope)
		switch {
		case err != nil:
			b.fail(i, err)
		case s == nil:
			plain = append(plain, i)
		default:
			if !s.listed {
				s.listed, scopes = true, append(scopes, s)
			}
			c, err := b.entries[i].conditions()
			if err != nil {
				b.fail(i, err)
				continue
			}
			s.index = append(s.index, i)
			s.items = append(s.items, guarded.DeleteItem{Ref: object.Ref{Bucket: b.rq.bucket, Key: b.entries[i].Key}, Conditions: c})
		}
	}
	return scopes, plain
}

// place finds the scope of a key; nil for a plain one.
func (b *batch) place(i int, byScope map[fence.Scope]*scopeBatch) (*scopeBatch, error) {
	rq, e := b.rq, &b.entries[i]
	switch {
	case e.Key == "" || len(e.Key) > fence.MaxKeyBytes:
		return nil, fail(http.StatusBadRequest, "KeyTooLongError", "A key has 1 to %d bytes.", fence.MaxKeyBytes)
	case reserved(e.Key):
		return nil, denied("Keys under %s belong to s3fence.", fence.Reserved)
	case climbs(e.Key):
		return nil, badName(e.Key)
	case e.VersionID != "" && strays(e.VersionID):
		return nil, badVersion()
	case !rq.mayWrite(rq.bucket, e.Key):
		return nil, denied("Deleting s3://%s/%s needs the right write, which access key %s does not have there.", rq.bucket, shorten(e.Key), rq.who.AccessKey)
	}
	if rq.list.Guarded(rq.bucket) {
		if err := fence.CheckKey(e.Key); err != nil {
			return nil, err
		}
		if e.VersionID != "" {
			if err := onlyVersion(e.VersionID); err != nil {
				return nil, err
			}
			e.shownVersion, e.VersionID = e.VersionID, ""
		}
	}
	g, sc, ok := rq.list.Find(rq.bucket, e.Key)
	if !ok {
		return nil, rq.unguarded(rq.bucket, e.Key)
	}
	if s := byScope[sc]; s != nil {
		// What sideOf says holds for the whole scope, but for this.
		return s, rq.displaced(sc, rq.bucket, e.Key)
	}
	op, err := rq.sideOf(g, sc, e.Key, true)
	if err != nil {
		return nil, err
	}
	if rq.s.writers[g.Writes] == nil {
		return nil, notImplemented("%s is not available in this version, so nothing under the guard %s can be reached", g.Writes, g.Pattern)
	}
	s := &scopeBatch{op: op}
	byScope[sc] = s
	return s, nil
}

// conditions are those of one entry.
func (e *deleteEntry) conditions() (object.Conditions, error) {
	c := object.Conditions{IfMatch: e.ETag}
	var err error
	if e.LastModifiedTime != "" {
		if c.IfLastModified, err = parseTime(e.LastModifiedTime); err != nil {
			return c, invalid("LastModifiedTime is %q; it must be a time", shorten(e.LastModifiedTime))
		}
	}
	if e.Size != "" {
		n, err := parseSize(e.Size)
		if err != nil {
			return c, invalid("Size is %q; it must be a number of bytes", shorten(e.Size))
		}
		c.IfSize = &n
	}
	return c, nil
}

func (b *batch) deleteScope(s *scopeBatch) {
	rq := b.rq
	if len(s.items) == 0 {
		return
	}
	if s.op.Request.Token != 0 && s.op.Named == nil {
		if refusal := rq.s.judge.KnownStale(&s.op); refusal != nil {
			for _, i := range s.index {
				b.fail(i, refusal)
			}
			return
		}
	}
	errs := rq.s.writers[s.op.Guard.Writes].Delete(rq.ctx, &guarded.Delete{Op: s.op, Items: s.items})
	for n, i := range s.index {
		switch {
		case n >= len(errs):
			b.fail(i, fmt.Errorf("no answer to the delete of a key: %d of %d", len(errs), len(s.index)))
		case errs[n] != nil:
			b.fail(i, errs[n])
		}
	}
	if s.op.Request.Token != 0 {
		b.fenced = &s.op
	}
}

// fail answers one key. The observer is told once for each scope and code.
func (b *batch) fail(i int, err error) {
	e := b.rq.answerTo(err)
	b.failed[i] = e
	id := e.code + " " + e.scope.String()
	if b.told[id] {
		return
	}
	if b.told == nil {
		b.told = map[string]bool{}
	}
	b.told[id] = true
	b.rq.tellOf(e, b.entries[i].Key)
}

// deletePlain deletes keys outside of every guard in one request of ours.
func (b *batch) deletePlain(index []int) error {
	rq := b.rq
	client, bucket, err := rq.s.buckets.Bucket(rq.bucket)
	if err != nil {
		return err
	}
	keys := make([]string, len(index))
	x := newXML()
	defer x.free()
	x.root("Delete")
	for n, i := range index {
		e := &b.entries[i]
		keys[n] = e.Key
		x.open("Object")
		x.text("Key", e.Key)
		x.some("VersionId", e.VersionID)
		x.some("ETag", e.ETag)
		x.some("LastModifiedTime", e.LastModifiedTime)
		x.some("Size", e.Size)
		x.close("Object")
	}
	x.close("Delete")
	h := http.Header{
		"Content-Type": contentXML,
		"Content-Md5":  documentMD5(md5.Sum(x.buf.Bytes())), //nolint:gosec // see the import
	}
	for _, name := range []string{"X-Amz-Bypass-Governance-Retention", "X-Amz-Expected-Bucket-Owner", "X-Amz-Mfa", "X-Amz-Request-Payer"} {
		if v := rq.r.Header[name]; len(v) > 0 {
			h[name] = v
		}
	}
	flight, err := rq.s.guards.Begin(rq.ctx, rq.bucket, keys[0], keys[1:]...)
	if err != nil {
		return err
	}
	defer flight.End()
	if err := flight.StillValid(); err != nil {
		return err
	}
	doc := bytes.Clone(x.buf.Bytes())
	out, err := sendBatch(flight.Context(), client, &upstream.Request{
		Method: http.MethodPost, Bucket: bucket, Query: []upstream.Param{{Name: "delete"}}, Mutation: true,
		Header: h, Body: bytes.NewReader(doc), ContentLength: int64(len(doc)),
	})
	if err != nil {
		return err
	}
	if err := landed(flight); err != nil {
		return err
	}
	b.match(index, out)
	return nil
}

// resultXML is the store's answer.
type resultXML struct {
	XMLName xml.Name     `xml:"DeleteResult"`
	Deleted []deletedXML `xml:"Deleted"`
	Errors  []struct {
		Key, Code, Message string
		VersionID          string `xml:"VersionId"`
	} `xml:"Error"`
}

func sendBatch(ctx context.Context, client *upstream.Client, q *upstream.Request) (*resultXML, error) {
	resp, err := client.Do(ctx, q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var out resultXML
	if err := xml.NewDecoder(io.LimitReader(resp.Body, maxRelayedDocument)).Decode(&out); err != nil {
		return nil, &apiError{status: http.StatusGatewayTimeout, code: codeUnknown, cause: errors.Join(errStrange, err),
			message: "The object store's answer could not be read: the keys may or may not be deleted. Look before you send it again."}
	}
	return &out, nil
}

// match gives each key its part of the store's answer. A key that the store
// does not mention is not said to be deleted.
func (b *batch) match(index []int, out *resultXML) {
	type version struct{ key, id string }
	done := map[version]deletedXML{}
	bad := map[version]*apiError{}
	for _, d := range out.Deleted {
		done[version{d.Key, d.VersionID}] = d
	}
	for _, e := range out.Errors {
		bad[version{e.Key, e.VersionID}] = &apiError{status: http.StatusBadRequest, code: e.Code, message: e.Message}
	}
	for _, i := range index {
		v := version{b.entries[i].Key, b.entries[i].VersionID}
		if _, ok := done[v]; !ok && bad[v] == nil {
			// MinIO takes /k for k, and says so.
			v.key = strings.TrimLeft(v.key, "/")
		}
		if d, ok := done[v]; ok {
			b.deleted[i] = d
		} else if e, ok := bad[v]; ok {
			b.failed[i] = e
		} else {
			b.failed[i] = fail(http.StatusInternalServerError, "InternalError", "The object store did not say what became of this key.")
		}
	}
}

func (b *batch) render(quiet bool) error {
	if op := b.fenced; op != nil {
		b.rq.fenced, b.rq.side = true, *op
		b.rq.record.Scope, b.rq.record.Token = op.Scope, op.Request.Token
	}
	x := newXML()
	defer x.free()
	x.root("DeleteResult")
	for i := range b.entries {
		e := &b.entries[i]
		if f := b.failed[i]; f != nil {
			x.open("Error")
			x.text("Key", e.Key)
			x.some("VersionId", cmp.Or(e.shownVersion, e.VersionID))
			x.text("Code", f.code)
			x.text("Message", f.message)
			if !f.scope.IsZero() {
				x.text("Scope", f.scope.String())
				if f.token != 0 {
					x.text("FencingToken", f.token.String())
				}
				if f.highest != 0 {
					x.text("HighestToken", f.highest.String())
				}
			}
			x.close("Error")
			continue
		}
		if quiet {
			continue
		}
		d := &b.deleted[i]
		x.open("Deleted")
		x.text("Key", e.Key)
		x.some("VersionId", cmp.Or(e.shownVersion, e.VersionID))
		x.some("DeleteMarker", d.DeleteMarker)
		x.some("DeleteMarkerVersionId", d.DeleteMarkerVersionID)
		x.close("Deleted")
	}
	x.close("DeleteResult")
	return b.rq.document(x)
}
