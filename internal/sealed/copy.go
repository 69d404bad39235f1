package sealed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/checksum"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

const (
	// maxCopy is the largest object that stores copy in one request.
	maxCopy = 5 << 30
	// copyPiece is the part size for larger ones.
	copyPiece = 1 << 30
)

// found is the source of a copy: bytes in the store and what they are.
type found struct {
	client *upstream.Client // of the store that has it
	at     upstream.Source
	info   object.Info
	plain  bool
	// encrypted: its ETag is no digest of its bytes, whatever it looks like.
	encrypted bool
	// attempt is the id of a sealed source's bytes, op the read that found it.
	attempt uuid.UUID
	op      *guarded.Op
}

// source finds what a copy reads, admits the read and evaluates the source
// conditions.
func (s *Store) source(ctx context.Context, src *guarded.Source) (*found, error) {
	client, bucket, err := s.buckets.Bucket(src.Bucket)
	if err != nil {
		return nil, err
	}
	f := &found{client: client, plain: src.Guard == nil}
	if f.plain {
		head, err := client.HeadObject(ctx, bucket, src.Key, withChecksums)
		if upstream.NotFound(err) {
			return nil, object.ErrNoSuchKey
		}
		if err != nil {
			return nil, storeError("looking at the copy's source", err)
		}
		f.info, f.encrypted = plainInfo(src.Ref, head), upstream.Encrypted(head.Header)
		f.at = upstream.Source{Bucket: bucket, Key: src.Key, IfMatch: head.ETag}
	} else {
		o, err := s.resolve(ctx, &src.Op, src.Ref)
		if err != nil {
			return nil, err
		}
		f.info, f.attempt, f.op = o.Info, o.Attempt, &src.Op
		f.at = upstream.Source{Bucket: bucket, Key: o.Physical}
	}
	if err := src.CheckRead(&f.info); err != nil {
		return nil, object.ErrPreconditionFailed
	}
	return f, nil
}

// copyError says what a failed server-side copy means. A sealed source that is
// not there is looked up once more, as for any read.
func (s *Store) copyError(ctx context.Context, f *found, err error) error {
	switch {
	case f.plain && upstream.HasCode(err, "PreconditionFailed", "NoSuchKey", "NotFound"):
		return fmt.Errorf("%w: the source changed while it was copied", object.ErrPreconditionFailed)
	case upstream.NotFound(err):
		if o, rerr := s.resolve(ctx, f.op, f.info.Ref); rerr == nil && o.Attempt == f.attempt {
			return s.lost(f.info.Ref, o.Physical)
		}
		return fmt.Errorf("%w: the source was replaced while it was copied", object.ErrConflict)
	}
	return storeError("copying the object's bytes", err)
}

// Copy writes one object from another.
func (s *Store) Copy(ctx context.Context, c *guarded.Copy) (object.Info, error) {
	client, bucket, err := s.buckets.Bucket(c.Bucket)
	if err != nil {
		return object.Info{}, err
	}
	return once(ctx, s, &c.Op,
		func() (object.Info, error) { return s.makeCopy(ctx, client, bucket, c) },
		func(r *result) object.Info { return r.info(c.Ref) })
}

func (s *Store) makeCopy(ctx context.Context, client *upstream.Client, bucket string, c *guarded.Copy) (object.Info, error) {
	v, row, err := s.look(ctx, &c.Op, fence.Write, c.Ref, "")
	if err != nil {
		return object.Info{}, err
	}
	if err := c.Conditions.CheckWrite(infoOf(v.Objects[c.Ref])); err != nil && c.RetryID == "" && c.Named == nil {
		return object.Info{}, err
	}
	src, err := s.source(ctx, &c.Source)
	if err != nil {
		return object.Info{}, err
	}
	attrs := src.info.Attributes
	if c.ReplaceMeta {
		attrs.Headers, attrs.Meta = c.Headers, c.Meta
	} else {
		attrs.Headers = object.CopiedHeaders(src.info.Headers, c.Headers[object.WebsiteRedirect])
	}
	// The class is the copy's own, never its source's (S3 API reference, CopyObject).
	attrs.Class = c.Class
	attrs.Tags = src.info.Tags
	if c.ReplaceTags {
		attrs.Tags = c.Tags
	} else if src.plain {
		if attrs.Tags, err = plainTags(ctx, src.client, src.at); err != nil {
			return object.Info{}, err
		}
	}
	// A copy is one piece, whatever its source was made of (S3 has it so), and what
	// was summed part by part says nothing of it.
	attrs.Parts = 0
	if attrs.ChecksumType == checksum.Composite {
		attrs.Checksums, attrs.ChecksumType = nil, ""
	}
	pause.At(pause.BeforeUpload)
	nm := s.names.fresh(c.Scope, row.Epoch, state.NewID())
	st := stored{name: nm, size: src.info.Size}
	if src.client == client && (c.Checksum == "" || attrs.Checksums[c.Checksum] != "") {
		st.etag, err = s.copyBytes(ctx, client, bucket, src, nm, physicalHeader(&c.Op, c.Ref, &attrs, c.Store, nm))
	} else {
		st, err = s.relayObject(ctx, client, bucket, src, c, &attrs, nm)
	}
	if err != nil {
		return object.Info{}, err
	}
	pause.At(pause.AfterUpload)
	info, err := s.commitObject(&c.Op, "CopyObject", c.Conditions, object.Info{Ref: c.Ref, Attributes: attrs}, st, nil)
	if errors.Is(err, errOldName) {
		return object.Info{}, fmt.Errorf("%w: the copy took longer than the longest upload allowed (%s)", state.ErrBusy, s.opts.LongestUpload)
	}
	return info, err
}

// copyBytes copies within the store to a physical key, in parts where the
// object is larger than one copy may be, and checks what is there.
func (s *Store) copyBytes(ctx context.Context, client *upstream.Client, bucket string, src *found, nm name, header http.Header) (etag string, err error) {
	if src.info.Size > maxCopy {
		return s.copyPieces(ctx, client, bucket, src, nm, header)
	}
	header.Set("X-Amz-Metadata-Directive", "REPLACE")
	if _, err := client.CopyObject(ctx, src.at, bucket, nm.Key, header); err != nil {
		return "", s.copyError(ctx, src, err)
	}
	head, err := client.HeadObject(ctx, bucket, nm.Key, nil)
	if err != nil {
		return "", storeError("looking at the copy", err)
	}
	if head.Size != src.info.Size {
		return "", fmt.Errorf("%w: the copy has %d bytes instead of %d", guarded.ErrStore, head.Size, src.info.Size)
	}
	return head.ETag, nil
}

func (s *Store) copyPieces(ctx context.Context, client *upstream.Client, bucket string, src *found, nm name, header http.Header) (etag string, err error) {
	id, err := client.CreateMultipartUpload(ctx, bucket, nm.Key, header)
	if err != nil {
		return "", storeError("copying the object's bytes", err)
	}
	var parts []upstream.Part
	for at := int64(0); at < src.info.Size; at += copyPiece {
		end := min(at+copyPiece, src.info.Size)
		piece := src.at
		piece.Range = "bytes=" + strconv.FormatInt(at, 10) + "-" + strconv.FormatInt(end-1, 10)
		got, err := client.UploadPartCopy(ctx, piece, bucket, nm.Key, id, len(parts)+1, nil)
		if err != nil {
			s.abortUpstream(client, bucket, nm.Key, id)
			return "", s.copyError(ctx, src, err)
		}
		parts = append(parts, upstream.Part{Number: len(parts) + 1, ETag: got.ETag, Size: end - at})
	}
	etag, _, err = s.completeUpstream(ctx, client, bucket, nm.Key, id, parts, src.info.Size)
	return etag, err
}

// withChecksums asks for an object's checksums; a store that knows none, or has
// another word for it, says nothing of them.
var withChecksums = http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}

// plainChecksums are the checksums of all bytes that a store says an object has.
// Composite ones are of parts that a copy does not have.
func plainChecksums(h http.Header) map[string]string {
	if kind := h.Get("X-Amz-Checksum-Type"); kind != "" && kind != checksum.FullObject {
		return nil
	}
	var sums map[string]string
	for name := range h {
		algorithm, ok := strings.CutPrefix(strings.ToUpper(name), "X-AMZ-CHECKSUM-")
		if v := h.Get(name); ok && checksum.Kept(algorithm) && v != "" && !strings.Contains(v, "-") {
			if sums == nil {
				sums = map[string]string{}
			}
			sums[algorithm] = v
		}
	}
	return sums
}

// systemHeaders are the headers of an object that are the client's own.
var systemHeaders = []string{
	"Content-Type", "Cache-Control", "Content-Disposition", "Content-Encoding",
	"Content-Language", "Expires", "X-Amz-Website-Redirect-Location",
}

// plainInfo describes an object of the store as its HEAD does.
func plainInfo(ref object.Ref, head *upstream.Info) object.Info {
	i := object.Info{Ref: ref, Size: head.Size, ETag: head.ETag, Modified: head.LastModified}
	if i.Checksums = plainChecksums(head.Header); i.Checksums != nil {
		i.ChecksumType = checksum.FullObject
	}
	for _, k := range systemHeaders {
		if v := head.Header.Get(k); v != "" {
			if i.Headers == nil {
				i.Headers = map[string]string{}
			}
			i.Headers[k] = v
		}
	}
	for k, v := range head.Header {
		if m, ok := strings.CutPrefix(k, "X-Amz-Meta-"); ok && len(v) > 0 {
			if i.Meta == nil {
				i.Meta = map[string]string{}
			}
			i.Meta[strings.ToLower(m)] = strings.Join(v, ",")
		}
	}
	return i
}

// plainTags reads the tags of a plain object. A store without tags has none.
func plainTags(ctx context.Context, client *upstream.Client, at upstream.Source) ([]object.Tag, error) {
	tags, err := client.ObjectTags(ctx, at.Bucket, at.Key)
	if upstream.HasCode(err, "NotImplemented", "NoSuchTagSet", "MethodNotAllowed") {
		return nil, nil
	}
	if err != nil {
		return nil, storeError("reading the source's tags", err)
	}
	out := make([]object.Tag, len(tags))
	for i, t := range tags {
		out[i] = object.Tag{Key: t.Key, Value: t.Value}
	}
	return out, nil
}
