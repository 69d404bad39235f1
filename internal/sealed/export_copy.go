package sealed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// maxCopyBack is the largest object that is written under its plain key in one copy:
// the store must be done with it within the bound, so that larger ones are staged in
// parts first, which only the end makes visible.
const maxCopyBack = 1 << 30

// errReplaced: the object has other bytes by now.
var errReplaced = errors.New("sealed: the object was replaced while it was exported")

// look compares a plain key with its object. why is what is wrong, empty where
// nothing is. What the store does not keep of a copy is no reason to write it again,
// once it was written.
func (e *export) look(ctx context.Context, o *state.Object, written bool) (st standing, why string, err error) {
	head, err := e.client.HeadObject(ctx, e.bucket, o.Key, nil)
	switch {
	case upstream.NotFound(err):
		return st, "is not there", nil
	case err != nil:
		return st, "", storeError("looking at the plain key", err)
	case head.Size != o.Size:
		return st, fmt.Sprintf("has %d bytes instead of %d", head.Size, o.Size), nil
	}
	tags, err := plainTags(ctx, e.client, upstream.Source{Bucket: e.bucket, Key: o.Key})
	if upstream.NotFound(err) {
		return st, "is not there", nil
	}
	if err != nil {
		return st, "", err
	}
	lost := differences(o, plainInfo(o.Ref, head), tags)
	if len(lost) > 0 && !written {
		return st, "has other " + strings.Join(lost, ", "), nil
	}
	st = standing{attempt: o.Attempt, tags: o.Tags, size: head.Size, etag: head.ETag, modified: head.LastModified, lost: strings.Join(lost, ", ")}
	if head.ETag != o.ETag {
		st.retagged = fmt.Sprintf("%s instead of %s", head.ETag, o.ETag)
	}
	hidden := upstream.Encrypted(head.Header)
	switch {
	case sameDigest(head.ETag, o.ETag) && !hidden && isDigest(o.ETag):
		return st, "", nil // a digest of the bytes, by part or as a whole
	case isMD5(head.ETag) && isMD5(o.ETag) && !hidden && o.Parts == 0:
		return st, fmt.Sprintf("has the digest %s instead of %s", head.ETag, o.ETag), nil
	}
	same, err := e.sameBytes(ctx, o)
	if err == nil && !same {
		why = "has other bytes"
	}
	return st, why, err
}

// isDigest reports whether an ETag has the form of an MD5, of bytes or of parts.
func isDigest(etag string) bool {
	sum, parts, ok := strings.Cut(etag, "-")
	return isMD5(sum) && (!ok || parts != "")
}

// differences are the attributes that a plain object has otherwise than its object.
// An object without a Content-Type has the store's default.
func differences(o *state.Object, plain object.Info, tags []object.Tag) []string {
	var other []string
	for _, name := range systemHeaders {
		want, got := o.Headers[name], plain.Headers[name]
		if want != got && (want != "" || name != "Content-Type") {
			other = append(other, name)
		}
	}
	for _, side := range []map[string]string{o.Meta, plain.Meta} {
		for name := range side {
			if want, ok := o.Meta[name]; (!ok || want != plain.Meta[name]) && !slices.Contains(other, "metadata "+name) {
				other = append(other, "metadata "+name)
			}
		}
	}
	if !sameTags(o.Tags, tags) {
		other = append(other, "tags")
	}
	slices.Sort(other)
	return other
}

// sameBytes reads both and compares their digests.
func (e *export) sameBytes(ctx context.Context, o *state.Object) (bool, error) {
	var sums [2][]byte
	for i, key := range []string{o.Physical, o.Key} {
		got, err := e.client.GetObject(ctx, e.bucket, key, "", nil)
		if err != nil {
			return false, storeError("reading "+key+" back", err)
		}
		h := sha256.New()
		n, err := io.Copy(h, got.Body)
		got.Body.Close()
		if err != nil || n != o.Size {
			return false, fmt.Errorf("%w: reading %s back: %d bytes of %d: %w", guarded.ErrStore, key, n, o.Size, errors.Join(err))
		}
		sums[i] = h.Sum(nil)
	}
	return bytes.Equal(sums[0], sums[1]), nil
}

// copyBack writes an object under its plain key: in one copy, or in the parts that
// it was made of, which gives it its ETag again.
func (e *export) copyBack(ctx context.Context, o *state.Object) error {
	source, err := e.client.HeadObject(ctx, e.bucket, o.Physical, nil)
	if upstream.NotFound(err) {
		return e.vanished(ctx, o)
	}
	if err != nil {
		return storeError("looking at the object's bytes", err)
	}
	h := plainHeader(o, source.Header)
	parts, err := e.partsOf(ctx, o)
	if err != nil {
		return err
	}
	if parts == nil {
		h.Set("X-Amz-Metadata-Directive", "REPLACE")
		h.Set("X-Amz-Tagging-Directive", "REPLACE")
		err = e.mutate(ctx, o.Key, func(c *upstream.Client) error {
			_, err := c.CopyObject(ctx, upstream.Source{Bucket: e.bucket, Key: o.Physical}, e.bucket, o.Key, h)
			return err
		})
		if upstream.HasCode(err, "NoSuchKey") {
			return e.vanished(ctx, o)
		}
		return storeFailure("writing the plain key", err)
	}
	return e.assemble(ctx, o, parts, h)
}

// storeFailure is storeError that leaves the run's own failure as it is.
func storeFailure(doing string, err error) error {
	if errors.Is(err, errNotHeld) {
		return err
	}
	return storeError(doing, err)
}

// vanished says why the bytes of a row are not there: it was replaced and collected
// since it was read, or the store lost them.
func (e *export) vanished(ctx context.Context, o *state.Object) error {
	now, err := e.row(ctx, o.Key)
	switch {
	case err != nil:
		return err
	case now == nil || now.Attempt != o.Attempt:
		return errReplaced
	}
	return e.lost(o.Ref, o.Physical)
}

// partsOf is how an object is staged; nil where one copy does.
func (e *export) partsOf(ctx context.Context, o *state.Object) ([]object.Part, error) {
	if o.Parts > 0 {
		parts, err := e.state.ObjectParts(ctx, o.Attempt, 0, o.Parts)
		if err != nil {
			return nil, fmt.Errorf("reading the parts: %w", err)
		}
		if len(parts) == o.Parts {
			return parts, nil
		}
	}
	if o.Size <= maxCopyBack {
		return nil, nil
	}
	var parts []object.Part
	for at := int64(0); at < o.Size; at += copyPiece {
		parts = append(parts, object.Part{Number: len(parts) + 1, Start: at, Size: min(copyPiece, o.Size-at)})
	}
	return parts, nil
}

// assemble stages an object in parts, of which only the Complete is seen and needs a
// permit.
func (e *export) assemble(ctx context.Context, o *state.Object, parts []object.Part, h http.Header) error {
	id, err := e.client.CreateMultipartUpload(ctx, e.bucket, o.Key, h)
	if err != nil {
		return storeError("beginning to write the plain key", err)
	}
	list := make([]upstream.Part, len(parts))
	for i, p := range parts {
		st, err := e.stage(ctx, o, id, p, len(parts))
		if err != nil {
			e.abortUpstream(e.client, e.bucket, o.Key, id)
			if upstream.HasCode(err, "NoSuchKey") {
				return e.vanished(ctx, o)
			}
			return storeError("writing a part of the plain key", err)
		}
		list[i] = upstream.Part{Number: p.Number, ETag: st.ETag}
	}
	err = e.mutate(ctx, o.Key, func(c *upstream.Client) error {
		_, err := c.CompleteMultipartUpload(ctx, e.bucket, o.Key, id, list, nil)
		return err
	})
	if out := upstream.OutcomeOf(err); err != nil && (errors.Is(err, errNotHeld) || out == upstream.NotSent || out == upstream.Refused) {
		e.abortUpstream(e.client, e.bucket, o.Key, id)
	}
	return storeFailure("writing the plain key", err)
}

func (e *export) stage(ctx context.Context, o *state.Object, id string, p object.Part, of int) (*upstream.Stored, error) {
	if p.Size == 0 {
		return e.client.UploadPart(ctx, e.bucket, o.Key, id, p.Number, http.NoBody, 0, upstream.PutOptions{})
	}
	from := upstream.Source{Bucket: e.bucket, Key: o.Physical}
	if of > 1 {
		from.Range = byteRange(&guarded.Range{Offset: p.Start, Length: p.Size})
	}
	return e.client.UploadPartCopy(ctx, from, e.bucket, o.Key, id, p.Number, nil)
}

// plainHeader is what a plain object is written with: all that its client gave, and
// the encryption that its bytes have.
func plainHeader(o *state.Object, source http.Header) http.Header {
	h := make(http.Header, 8+len(o.Headers)+len(o.Meta))
	for k, v := range o.Headers {
		h.Set(k, v)
	}
	for k, v := range o.Meta {
		h["X-Amz-Meta-"+http.CanonicalHeaderKey(k)] = []string{v}
	}
	if len(o.Tags) > 0 {
		tags := make([]string, len(o.Tags))
		for i, t := range o.Tags {
			tags[i] = url.QueryEscape(t.Key) + "=" + url.QueryEscape(t.Value)
		}
		h.Set("X-Amz-Tagging", strings.Join(tags, "&"))
	}
	if o.Class != "" {
		h.Set("X-Amz-Storage-Class", o.Class)
	}
	for _, k := range []string{"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"} {
		if v := source.Get(k); v != "" {
			h.Set(k, v)
		}
	}
	return h
}

// holdable fails where keys are prefixes of others and the store keeps no file where
// a directory is.
func (e *export) holdable(ctx context.Context) error {
	keys, err := e.wanted(ctx, nil)
	if err != nil {
		return err
	}
	var pairs []string
	for key := range keys {
		for i := range len(key) {
			if key[i] != '/' || i == 0 {
				continue
			}
			if _, both := keys[key[:i]]; both {
				pairs = append(pairs, fmt.Sprintf("%q and %q", key[:i], key))
			}
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	ok, err := e.holdsBoth(ctx)
	if err != nil || ok {
		return err
	}
	slices.Sort(pairs)
	more := ""
	if n := len(pairs) - maxNamed; n > 0 {
		pairs, more = pairs[:maxNamed], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("the store keeps no object under a key that is a directory of another: %s%s; rename one of each pair through the proxy first", strings.Join(pairs, ", "), more)
}

// holdsBoth tries it.
func (e *export) holdsBoth(ctx context.Context) (bool, error) {
	file := exportPrefix + state.NewID().String()
	keys := []string{file, file + "/x"}
	defer func() {
		for _, key := range slices.Backward(keys) {
			if err := e.client.DeleteObject(context.WithoutCancel(ctx), e.bucket, key); err != nil {
				e.log.Debug("a probe was left", "key", key, "error", err)
			}
		}
	}()
	for _, key := range keys {
		_, err := e.client.PutObject(ctx, e.bucket, key, strings.NewReader(key), int64(len(key)), upstream.PutOptions{})
		switch {
		case upstream.OutcomeOf(err) == upstream.Refused:
			return false, nil
		case err != nil:
			// A store that fails on the way to a directory says 500, so this is no
			// reason to trust it either.
			return false, storeError("asking whether the store keeps keys that are directories of others", err)
		}
	}
	for _, key := range keys {
		head, err := e.client.HeadObject(ctx, e.bucket, key, nil)
		if upstream.NotFound(err) || err == nil && head.Size != int64(len(key)) {
			return false, nil
		}
		if err != nil {
			return false, storeError("asking whether the store keeps keys that are directories of others", err)
		}
	}
	return true, nil
}
