package sealed

import (
	"context"
	"crypto/md5" //nolint:gosec // S3's ETags of uploads are MD5s of MD5s
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// join completes the upload in the store and proves that the bytes are there:
// stores were seen to answer 200 for nothing, and to have done what they
// answered an error for. What the client says of parts and whole is held against
// what was recorded first: what is refused leaves the upload open.
func (s *Store) join(ctx context.Context, client *upstream.Client, bucket string, up *state.Upload, c *guarded.Complete) (st stored, kind string, err error) {
	prefix := s.names.scopePrefix(up.Scope)
	nm, ok := parseName(prefix, up.Physical)
	if !ok {
		return st, "", fmt.Errorf("%w: the physical key %s of upload %s is not one of this deployment", guarded.ErrStore, up.Physical, up.ID)
	}
	recorded, err := s.recorded(ctx, up, c.Parts)
	if err != nil {
		return st, "", err
	}
	if err := checkParts(c.Parts, recorded); err != nil {
		return st, "", err
	}
	have, err := s.partsUpstream(ctx, client, bucket, up)
	if upstream.HasCode(err, "NoSuchUpload", "NotFound", "NoSuchKey") {
		// An earlier Complete went through in the store and not in the state.
		if st, err = s.joined(ctx, client, bucket, nm, c.Parts); err != nil {
			return st, "", err
		}
		parts, _ := layOut(c.Parts, recorded)
		if n := len(parts); n > 0 && parts[n-1].Start+parts[n-1].Size != st.size {
			parts = nil
		}
		st.sums, kind, st.parts, err = whole(up, c, parts, recorded, st.size)
		return st, kind, err
	}
	if err != nil {
		return st, "", storeError("listing the parts", err)
	}
	parts := make([]upstream.Part, 0, len(c.Parts))
	for i, want := range c.Parts {
		p, ok := have[want.Number]
		if !ok || !sameDigest(p.ETag, want.ETag) {
			if _, err := s.find(ctx, &c.UploadRef); err != nil {
				// Aborted while the parts were listed: that is why it is not there.
				return st, "", err
			}
			return st, "", fmt.Errorf("%w: part %d", object.ErrInvalidPart, want.Number)
		}
		if i < len(c.Parts)-1 && p.Size < minPartSize {
			return st, "", fmt.Errorf("%w: part %d has %d bytes", object.ErrPartTooSmall, want.Number, p.Size)
		}
		id := partOf(want.Number, want.ETag)
		if row, ok := recorded[id]; !ok || row.Size != p.Size {
			// Uploaded by an older version; the store knows its size.
			recorded[id] = state.UploadPart{Number: p.Number, ETag: p.ETag, Size: p.Size}
		}
		st.size += p.Size
		// Its checksums are the store's own matter: the upload has none there.
		p.Checksums = nil
		parts = append(parts, p)
	}
	made, _ := layOut(c.Parts, recorded)
	if st.sums, kind, st.parts, err = whole(up, c, made, recorded, st.size); err != nil {
		return st, "", err
	}
	st.name = nm
	st.etag, err = s.completeUpstream(ctx, client, bucket, up.Physical, up.Upstream, parts, st.size)
	return st, kind, err
}

func (s *Store) partsUpstream(ctx context.Context, client *upstream.Client, bucket string, up *state.Upload) (map[int]upstream.Part, error) {
	have := map[int]upstream.Part{}
	for after := 0; ; {
		page, err := client.ListParts(ctx, bucket, up.Physical, up.Upstream, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, p := range page.Parts {
			have[p.Number] = p
		}
		if page.Next <= after {
			return have, nil
		}
		after = page.Next
	}
}

// completeUpstream completes an upload under a physical key and checks what came
// of it. The answer alone, be it 200 or an error, proves nothing.
func (s *Store) completeUpstream(ctx context.Context, client *upstream.Client, bucket, key, id string, parts []upstream.Part, size int64) (etag string, err error) {
	_, cerr := client.CompleteMultipartUpload(ctx, bucket, key, id, parts, nil)
	if cerr != nil && upstream.OutcomeOf(cerr) == upstream.Refused && !upstream.HasCode(cerr, "NoSuchUpload") {
		return "", storeError("completing the upload", cerr)
	}
	head, err := client.HeadObject(ctx, bucket, key, nil)
	switch {
	case err != nil && cerr != nil:
		return "", storeError("completing the upload", cerr)
	case err != nil:
		return "", storeError("looking at the completed upload", err)
	case head.Size != size:
		return "", fmt.Errorf("%w: the completed upload has %d bytes instead of %d", guarded.ErrStore, head.Size, size)
	}
	want, ok := multipartETag(parts)
	if cerr != nil && upstream.HasCode(cerr, "NoSuchUpload") && (!ok || !sameDigest(head.ETag, want) && upstream.Encrypted(head.Header)) {
		return "", errJoined
	}
	if ok && strings.Contains(head.ETag, "-") && !sameDigest(head.ETag, want) && !upstream.Encrypted(head.Header) {
		return "", fmt.Errorf("%w: the completed upload has the ETag %s instead of %s", guarded.ErrStore, head.ETag, want)
	}
	return head.ETag, nil
}

// errJoined: another Complete has joined the upload, and the ETags of this store do
// not tell of which parts. It may be about to commit.
var errJoined = fmt.Errorf("%w: the upload was completed by another request", object.ErrConflict)

// joined accepts an upload that the store no longer knows because it was
// completed before, if the object is the one that the list describes.
func (s *Store) joined(ctx context.Context, client *upstream.Client, bucket string, nm name, list []guarded.PartInfo) (stored, error) {
	parts := make([]upstream.Part, len(list))
	for i, p := range list {
		parts[i] = upstream.Part{Number: p.Number, ETag: p.ETag}
	}
	want, ok := multipartETag(parts)
	head, err := client.HeadObject(ctx, bucket, nm.Key, nil)
	switch {
	case upstream.NotFound(err):
		return stored{}, object.ErrNoSuchUpload
	case err != nil:
		return stored{}, storeError("looking for the completed upload", err)
	case ok && sameDigest(head.ETag, want):
	case !ok || upstream.Encrypted(head.Header):
		return stored{}, errJoined
	default:
		return stored{}, object.ErrNoSuchUpload
	}
	return stored{name: nm, etag: head.ETag, size: head.Size}, nil
}

// multipartETag is the MD5 of the parts' MD5s with their number, as S3 makes it;
// ok is false where the parts' ETags are something else.
func multipartETag(parts []upstream.Part) (etag string, ok bool) {
	h := md5.New() //nolint:gosec // see the import
	for _, p := range parts {
		sum, err := hex.DecodeString(p.ETag)
		if err != nil || len(sum) != md5.Size {
			return "", false
		}
		h.Write(sum)
	}
	return hexSum(h) + "-" + strconv.Itoa(len(parts)), true
}
