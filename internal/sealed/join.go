package sealed

import (
	"context"
	"crypto/md5" //nolint:gosec // S3's ETags of uploads are MD5s of MD5s
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// Tries of one Complete meet in the store: the first whose request is obeyed joins
// the parts, and to the others the upload is gone. What the store shows of it
// tells of which parts it was made only where ETags are digests. So each try
// announces its list in the upload's row before its request leaves, and where one
// list alone was ever announced, what was joined was joined from that one.

// severalLists stands for a list in the row of an open upload of which more than
// one was announced. It is the name of none.
const severalLists = "several"

// errUnderWay: the store shows neither the upload nor what it would become, as it
// does while it joins the parts for another request (versitygw, which answers 200 to
// that one's repetitions meanwhile, and takes as long as it takes to copy them).
var errUnderWay = errors.New("another request may be completing the upload")

// What another request is about is waited for and looked at again, the first time
// after firstLook and then after twice as long each, looks times in all: 1.6 s.
const (
	firstLook = 25 * time.Millisecond
	looks     = 7
)

// joining is one try to make a physical object of an upload's parts.
type joining struct {
	s      *Store
	c      *guarded.Complete
	client *upstream.Client
	bucket string
	up     *state.Upload
	digest string // of the list
}

// join completes the upload in the store and proves that the bytes are there:
// stores were seen to answer 200 for nothing, and to have done what they
// answered an error for. What the client says of parts and whole is held against
// what was recorded first: what is refused leaves the upload open.
func (j *joining) join(ctx context.Context) (st stored, kind string, err error) {
	wait := firstLook
	for range looks {
		st, kind, err = j.try(ctx)
		if !errors.Is(err, errUnderWay) {
			return st, kind, err
		}
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return st, "", err
		}
		now, ferr := j.s.find(ctx, &j.c.UploadRef)
		if ferr != nil {
			return st, "", ferr
		}
		if now.Completed {
			return st, "", object.ErrNoSuchUpload
		}
		j.up = now
	}
	return j.try(ctx)
}

func (j *joining) try(ctx context.Context) (st stored, kind string, err error) {
	nm, ok := parseName(j.s.names.scopePrefix(j.up.Scope), j.up.Physical)
	if !ok {
		return st, "", fmt.Errorf("%w: the physical key %s of upload %s is not one of this deployment", guarded.ErrStore, j.up.Physical, j.up.ID)
	}
	recorded, err := j.s.recorded(ctx, j.up, j.c.Parts)
	if err != nil {
		return st, "", err
	}
	if err := checkParts(j.c.Parts, recorded); err != nil {
		return st, "", err
	}
	have, err := j.s.partsUpstream(ctx, j.client, j.bucket, j.up)
	if upstream.HasCode(err, "NoSuchUpload", "NotFound", "NoSuchKey") {
		// An earlier Complete went through in the store and not in the state.
		if st, err = j.joined(ctx, nm); err != nil {
			return st, "", err
		}
		parts, _ := layOut(j.c.Parts, recorded)
		if n := len(parts); n > 0 && parts[n-1].Start+parts[n-1].Size != st.size {
			if st.guessed {
				// It was joined from another list.
				return st, "", object.ErrNoSuchUpload
			}
			parts = nil
		}
		st.sums, kind, st.parts, err = whole(j.up, j.c, parts, recorded, st.size)
		return st, kind, err
	}
	if err != nil {
		return st, "", storeError("listing the parts", err)
	}
	parts, size, err := j.listed(ctx, have, recorded)
	if err != nil {
		return st, "", err
	}
	made, _ := layOut(j.c.Parts, recorded)
	st.name, st.size = nm, size
	if st.sums, kind, st.parts, err = whole(j.up, j.c, made, recorded, size); err != nil {
		return st, "", err
	}
	if err := j.announce(); err != nil {
		return st, "", err
	}
	st.etag, st.guessed, err = j.s.completeUpstream(ctx, j.client, j.bucket, j.up.Physical, j.up.Upstream, parts, size)
	return st, kind, err
}

// listed finds the parts of the list among those that the store has.
func (j *joining) listed(ctx context.Context, have map[int]upstream.Part, recorded map[partID]state.UploadPart) (parts []upstream.Part, size int64, err error) {
	parts = make([]upstream.Part, 0, len(j.c.Parts))
	for i, want := range j.c.Parts {
		p, ok := have[want.Number]
		if !ok || !sameDigest(p.ETag, want.ETag) {
			now, err := j.s.find(ctx, &j.c.UploadRef)
			if err != nil {
				// Aborted while the parts were listed: that is why it is not there.
				return nil, 0, err
			}
			if !ok && now.Digest != "" {
				// Whoever announced a list had seen all of its parts.
				return nil, 0, fmt.Errorf("%w: %w", guarded.ErrUndecided, errUnderWay)
			}
			return nil, 0, fmt.Errorf("%w: part %d", object.ErrInvalidPart, want.Number)
		}
		if i < len(j.c.Parts)-1 && p.Size < minPartSize {
			return nil, 0, fmt.Errorf("%w: part %d has %d bytes", object.ErrPartTooSmall, want.Number, p.Size)
		}
		id := partOf(want.Number, want.ETag)
		if row, ok := recorded[id]; !ok || row.Size != p.Size {
			// Uploaded by an older version; the store knows its size.
			recorded[id] = state.UploadPart{Number: p.Number, ETag: p.ETag, Size: p.Size}
		}
		size += p.Size
		// Its checksums are the store's own matter: the upload has none there.
		p.Checksums = nil
		parts = append(parts, p)
	}
	return parts, size, nil
}

// announce writes the list into the row of the upload. A list that stands there is
// never taken out again: nobody knows of a request to the store that it never will
// be obeyed.
func (j *joining) announce() error {
	if j.up.Digest == j.digest || j.up.Digest == severalLists {
		return nil
	}
	op := j.c.Op
	op.Named = nil // the name is the commit's
	o := j.s.operation(&op, fence.Write, j.c.Ref)
	o.upload = j.up.ID
	o.apply = func(v *state.View, _ *state.Scope, ch *state.Changes) error {
		now := v.Uploads[j.up.ID]
		if now == nil || now.Completed {
			return object.ErrNoSuchUpload
		}
		if now.Digest == j.digest || now.Digest == severalLists {
			return nil
		}
		row := *now
		if row.Digest = j.digest; now.Digest != "" {
			row.Digest = severalLists
		}
		ch.PutUploads = append(ch.PutUploads, row)
		return nil
	}
	err := j.s.commits.do(o)
	if errors.Is(err, state.ErrUnknown) {
		// Announced or not, nothing has left for the store.
		return fmt.Errorf("%w: announcing the list: %v", state.ErrUnavailable, err) //nolint:errorlint // its outcome is of no account
	}
	return err
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
// of it. The answer alone, be it 200 or an error, proves nothing. guessed: the bytes
// are there, and neither the answer nor the ETag says that they are those of parts.
func (s *Store) completeUpstream(ctx context.Context, client *upstream.Client, bucket, key, id string, parts []upstream.Part, size int64) (etag string, guessed bool, err error) {
	_, cerr := client.CompleteMultipartUpload(ctx, bucket, key, id, parts, nil)
	if cerr != nil && upstream.OutcomeOf(cerr) == upstream.Refused && !upstream.HasCode(cerr, "NoSuchUpload") {
		return "", false, storeError("completing the upload", cerr)
	}
	head, err := client.HeadObject(ctx, bucket, key, nil)
	switch {
	case upstream.NotFound(err) && (cerr == nil || upstream.HasCode(cerr, "NoSuchUpload")):
		return "", false, fmt.Errorf("%w: %w", storeError("looking at the completed upload", err), errUnderWay)
	case err != nil && cerr != nil:
		return "", false, storeError("completing the upload", cerr)
	case err != nil:
		return "", false, storeError("looking at the completed upload", err)
	case head.Size != size:
		return "", false, fmt.Errorf("%w: the completed upload has %d bytes instead of %d", guarded.ErrStore, head.Size, size)
	}
	want, ok := multipartETag(parts)
	if ok && sameDigest(head.ETag, want) {
		return head.ETag, false, nil
	}
	if ok && strings.Contains(head.ETag, "-") && !upstream.Encrypted(head.Header) {
		return "", false, fmt.Errorf("%w: the completed upload has the ETag %s instead of %s", guarded.ErrStore, head.ETag, want)
	}
	return head.ETag, cerr != nil, nil
}

// joined finds the object that an upload has become which the store no longer
// knows, if it is the one that the list describes.
func (j *joining) joined(ctx context.Context, nm name) (stored, error) {
	parts := make([]upstream.Part, len(j.c.Parts))
	for i, p := range j.c.Parts {
		parts[i] = upstream.Part{Number: p.Number, ETag: p.ETag}
	}
	want, ok := multipartETag(parts)
	head, err := j.client.HeadObject(ctx, j.bucket, nm.Key, nil)
	switch {
	case upstream.NotFound(err):
		now, err := j.s.find(ctx, &j.c.UploadRef)
		if err != nil {
			return stored{}, err
		}
		if now.Digest != "" {
			return stored{}, fmt.Errorf("%w: %w", guarded.ErrUndecided, errUnderWay)
		}
		return stored{}, object.ErrNoSuchUpload
	case err != nil:
		return stored{}, storeError("looking for the completed upload", err)
	case ok && sameDigest(head.ETag, want):
		return stored{name: nm, etag: head.ETag, size: head.Size}, nil
	case !ok || upstream.Encrypted(head.Header):
		return stored{name: nm, etag: head.ETag, size: head.Size, guessed: true}, nil
	}
	return stored{}, object.ErrNoSuchUpload
}

// completable says whether the row of an upload as it stands at the commit lets what
// was joined be the object. want is the row that the try knew, with the digest of its
// list; guessed is of the bytes, see [stored].
func completable(now, want *state.Upload, guessed bool) error {
	switch {
	case now == nil, now.Completed, now.Attempt != want.Attempt:
		// While its row stood, the collector kept away from the name; now somebody
		// aborted it, or another Complete was faster.
		return object.ErrNoSuchUpload
	case !guessed, now.Digest == want.Digest:
		return nil
	case now.Digest == severalLists, now.Digest == "":
		return guarded.ErrUndecided
	}
	return object.ErrNoSuchUpload // no try of this list has ever left
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
