package sealed

import (
	"context"
	"crypto/md5" //nolint:gosec // S3's part ETags are MD5
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// S3's limits of multipart uploads
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
const (
	maxParts    = 10_000
	minPartSize = 5 << 20
)

// CreateUpload begins an upload. It belongs to the token it was created with.
func (s *Store) CreateUpload(ctx context.Context, c *guarded.CreateUpload) (string, error) {
	client, bucket, err := s.buckets.Bucket(c.Bucket)
	if err != nil {
		return "", err
	}
	return once(ctx, s, &c.Op,
		func() (string, error) { return s.createUpload(ctx, client, bucket, c) },
		func(r *result) string { return r.UploadID })
}

func (s *Store) createUpload(ctx context.Context, client *upstream.Client, bucket string, c *guarded.CreateUpload) (string, error) {
	_, row, err := s.look(ctx, &c.Op, fence.Write, c.Ref, "")
	if err != nil {
		return "", err
	}
	pause.At(pause.BeforeUpload)
	nm := s.names.fresh(c.Scope, row.Epoch, state.NewID())
	id, err := client.CreateMultipartUpload(ctx, bucket, nm.Key, physicalHeader(&c.Op, c.Ref, &c.Attributes, c.Store, nm))
	if err != nil {
		return "", storeError("creating the upload", err)
	}
	pause.At(pause.AfterUpload)
	up := state.Upload{
		ID: strings.ReplaceAll(state.NewID().String(), "-", ""), Ref: c.Ref, Scope: c.Scope,
		Token: c.Request.Token, Generation: c.Request.Generation, Creator: c.Caller,
		Attempt: nm.Attempt, Physical: nm.Key, Upstream: id, Attributes: c.Attributes,
	}
	mine := up.ID
	o := s.operation(&c.Op, fence.Write, c.Ref)
	o.answer = func() result { return result{UploadID: up.ID} }
	o.replay = func(r *result) { up.ID, up.Token = r.UploadID, fence.Token(r.Token) }
	o.apply = func(v *state.View, row *state.Scope, ch *state.Changes) error {
		if nm.Epoch < row.Horizon {
			return fmt.Errorf("%w: %w", state.ErrBusy, errOldName)
		}
		up.Initiated = v.Now
		up.Generation = row.Mark.Current()
		ch.PutUploads = append(ch.PutUploads, up)
		return nil
	}
	if err := s.commits.do(o); err != nil {
		if !errors.Is(err, state.ErrUnknown) {
			s.abortUpstream(client, bucket, nm.Key, id)
		}
		return "", err
	}
	if up.ID != mine {
		// Another try of the request was faster.
		s.abortUpstream(client, bucket, nm.Key, id)
	}
	if up.Token != c.Request.Token {
		// Each part would be refused to whoever came for this one.
		return "", fmt.Errorf("%w. It was created under the same Idempotency-Key; choose a new key for an upload of your own", otherToken(up.Token, c.Request.Token))
	}
	return up.ID, nil
}

// abortUpstream ends an upload that no row will ever refer to. A failure is left
// to the collector.
func (s *Store) abortUpstream(client *upstream.Client, bucket, key, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := client.AbortMultipartUpload(ctx, bucket, key, id); err != nil {
		s.log.Debug("upload left for the collector", "key", key, "error", err)
	}
}

// open finds an upload and judges a step of it under the upload's own token.
func (s *Store) open(ctx context.Context, u *guarded.UploadRef, access fence.Access) (*state.Upload, *state.View, error) {
	up, err := s.find(ctx, u)
	if err != nil {
		return nil, nil, err
	}
	if up.Completed && access == fence.Stage {
		return nil, nil, object.ErrNoSuchUpload
	}
	if u.Request.Token != 0 && u.Request.Token != up.Token {
		return nil, nil, otherToken(up.Token, u.Request.Token)
	}
	u.Request.Token = up.Token
	if up.Token != 0 {
		u.Request.Generation, u.Request.Named = up.Generation, true
	}
	v, _, err := s.look(ctx, &u.Op, access, u.Ref, u.ID)
	if err != nil {
		return nil, nil, err
	}
	if up = v.Uploads[u.ID]; up == nil {
		return nil, nil, object.ErrNoSuchUpload
	}
	return up, v, nil
}

func otherToken(has, presented fence.Token) error {
	return fmt.Errorf("%w: this one has token %d, the request %d", guarded.ErrOtherToken, has, presented)
}

// find reads the row of an upload. An id that the state does not know is
// refused, whatever the store says of it. One that is none of ours is not even
// asked for: the read is shared, and a database that chokes on strange bytes
// would fail it for everyone.
func (s *Store) find(ctx context.Context, u *guarded.UploadRef) (*state.Upload, error) {
	if id, err := hex.DecodeString(u.ID); err != nil || len(id) != len(uuid.UUID{}) {
		return nil, object.ErrNoSuchUpload
	}
	v, err := s.reads.read(ctx, state.Query{Uploads: []string{u.ID}})
	if err != nil {
		return nil, err
	}
	up := v.Uploads[u.ID]
	if up == nil || up.Ref != u.Ref {
		return nil, object.ErrNoSuchUpload
	}
	return up, nil
}

// UploadPart sends a part. Nobody can see it before the Complete, so it is
// judged without a commit.
func (s *Store) UploadPart(ctx context.Context, p *guarded.Part) (guarded.PartInfo, error) {
	client, bucket, err := s.buckets.Bucket(p.Bucket)
	if err != nil {
		return guarded.PartInfo{}, err
	}
	up, _, err := s.open(ctx, &p.UploadRef, fence.Stage)
	if err != nil {
		return guarded.PartInfo{}, err
	}
	pause.At(pause.BeforeUpload)
	sum := md5.New() //nolint:gosec // see the import
	body := &bodyError{Reader: p.Body}
	got, err := client.UploadPart(ctx, bucket, up.Physical, up.Upstream, p.Number, io.TeeReader(body, sum), p.Size, upstream.PutOptions{})
	if failed := body.err(); failed != nil {
		return guarded.PartInfo{}, failed
	}
	if err != nil {
		return guarded.PartInfo{}, storeError("storing the part", err)
	}
	if err := compare(got, hexSum(sum), nil); err != nil {
		return guarded.PartInfo{}, err
	}
	return guarded.PartInfo{Number: p.Number, ETag: got.ETag, Size: p.Size, Checksums: verified(p.Checksums, p.Verified)}, nil
}

// CopyPart makes a part from another object.
func (s *Store) CopyPart(ctx context.Context, p *guarded.PartCopy) (guarded.PartInfo, error) {
	client, bucket, err := s.buckets.Bucket(p.Bucket)
	if err != nil {
		return guarded.PartInfo{}, err
	}
	up, _, err := s.open(ctx, &p.UploadRef, fence.Stage)
	if err != nil {
		return guarded.PartInfo{}, err
	}
	src, err := s.source(ctx, &p.Source, client)
	if err != nil {
		return guarded.PartInfo{}, err
	}
	size := src.info.Size
	if r := p.Source.Range; r != nil {
		if r.Offset < 0 || r.Length < 1 || r.Offset >= src.info.Size || r.Length > src.info.Size-r.Offset {
			return guarded.PartInfo{}, object.ErrSourceRange
		}
		size = r.Length
		src.at.Range = "bytes=" + strconv.FormatInt(r.Offset, 10) + "-" + strconv.FormatInt(r.Offset+r.Length-1, 10)
	}
	got, err := client.UploadPartCopy(ctx, src.at, bucket, up.Physical, up.Upstream, p.Number, nil)
	if err != nil {
		return guarded.PartInfo{}, s.copyError(ctx, src, err)
	}
	return guarded.PartInfo{Number: p.Number, ETag: got.ETag, Size: size, Modified: time.Now().UTC()}, nil
}

// Complete joins the parts and commits the object. The store's Complete makes
// only a physical key that nobody reads; the commit decides.
func (s *Store) Complete(ctx context.Context, c *guarded.Complete) (object.Info, error) {
	client, bucket, err := s.buckets.Bucket(c.Bucket)
	if err != nil {
		return object.Info{}, err
	}
	digest, err := listDigest(c.Parts)
	if err != nil {
		return object.Info{}, err
	}
	if err := s.goOn(ctx, c); err != nil {
		return object.Info{}, err
	}
	return once(ctx, s, &c.Op,
		func() (object.Info, error) { return s.complete(ctx, client, bucket, c, digest) },
		func(r *result) object.Info { return r.info(c.Ref) })
}

// goOn lets a Complete have the name that its upload was created under: whoever
// sets one for all requests of an upload means one thing by it.
func (s *Store) goOn(ctx context.Context, c *guarded.Complete) error {
	if c.Named == nil {
		return nil
	}
	return state.Run(ctx, s.state, &state.Tx{
		Requests: []state.Request{c.Named.Locked()}, Wait: lockWait,
		Decide: func(v *state.View) (state.Changes, error) {
			answer, ok := c.Named.Began(v.Retries, "CreateMultipartUpload")
			if !ok {
				return state.Changes{}, nil
			}
			r, err := decodeResult(answer)
			if err == nil && r.UploadID == c.ID {
				c.Named = c.Named.Step("CompleteMultipartUpload")
			}
			return state.Changes{}, err
		},
	})
}

func (s *Store) complete(ctx context.Context, client *upstream.Client, bucket string, c *guarded.Complete, digest string) (object.Info, error) {
	up, err := s.find(ctx, &c.UploadRef)
	if err != nil {
		return object.Info{}, err
	}
	if up.Completed {
		// Its answer would be one under a mark that never rose (F4).
		if c.Request.Token != 0 && c.Request.Token != up.Token {
			return object.Info{}, otherToken(up.Token, c.Request.Token)
		}
		return replayComplete(up, digest)
	}
	up, v, err := s.open(ctx, &c.UploadRef, fence.Write)
	if err != nil {
		return object.Info{}, err
	}
	if up.Completed {
		return replayComplete(up, digest)
	}
	if err := c.CheckWrite(infoOf(v.Objects[c.Ref])); err != nil {
		// Decided again at the commit; known now, it leaves the upload open.
		return object.Info{}, err
	}
	pause.At(pause.BeforeUpload)
	st, err := s.join(ctx, client, bucket, up, c.Parts)
	if err != nil {
		return object.Info{}, err
	}
	pause.At(pause.AfterUpload)
	row := *up
	row.Digest = digest
	attrs := up.Attributes
	attrs.Parts = len(c.Parts)
	info, err := s.commitObject(&c.Op, "CompleteMultipartUpload", c.Conditions, object.Info{
		Ref: c.Ref, Size: st.size, ETag: st.etag, Attributes: attrs,
	}, st.name, &row)
	if errors.Is(err, object.ErrNoSuchUpload) {
		// Perhaps the client's own retry was faster.
		if now, ferr := s.find(ctx, &c.UploadRef); ferr == nil && now.Completed {
			return replayComplete(now, digest)
		}
	}
	return info, err
}

func replayComplete(up *state.Upload, digest string) (object.Info, error) {
	if up.Digest != digest {
		return object.Info{}, object.ErrNoSuchUpload
	}
	return object.Info{Ref: up.Ref, Size: up.Size, ETag: up.ETag, Attributes: up.Attributes}, nil
}

// listDigest checks the order of a part list and names it.
func listDigest(parts []guarded.PartInfo) (string, error) {
	if len(parts) == 0 {
		return "", object.ErrInvalidPart
	}
	h := sha256.New()
	var line []byte
	for i, p := range parts {
		if p.Number < 1 || p.Number > maxParts || i > 0 && p.Number <= parts[i-1].Number {
			return "", object.ErrInvalidPartOrder
		}
		line = fmt.Appendf(line[:0], "%d %s\n", p.Number, p.ETag)
		h.Write(line)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// join completes the upload in the store and proves that the bytes are there:
// stores were seen to answer 200 for nothing, and to have done what they
// answered an error for.
func (s *Store) join(ctx context.Context, client *upstream.Client, bucket string, up *state.Upload, list []guarded.PartInfo) (stored, error) {
	prefix := s.names.scopePrefix(up.Scope)
	nm, ok := parseName(prefix, up.Physical)
	if !ok {
		return stored{}, fmt.Errorf("%w: the physical key %s of upload %s is not one of this deployment", guarded.ErrStore, up.Physical, up.ID)
	}
	have, err := s.partsUpstream(ctx, client, bucket, up)
	if upstream.HasCode(err, "NoSuchUpload", "NotFound", "NoSuchKey") {
		// An earlier Complete went through in the store and not in the state.
		return s.joined(ctx, client, bucket, nm, list)
	}
	if err != nil {
		return stored{}, storeError("listing the parts", err)
	}
	parts := make([]upstream.Part, 0, len(list))
	var size int64
	for i, want := range list {
		p, ok := have[want.Number]
		if !ok || !sameDigest(p.ETag, want.ETag) {
			return stored{}, fmt.Errorf("%w: part %d", object.ErrInvalidPart, want.Number)
		}
		if i < len(list)-1 && p.Size < minPartSize {
			return stored{}, fmt.Errorf("%w: part %d has %d bytes", object.ErrPartTooSmall, want.Number, p.Size)
		}
		size += p.Size
		parts = append(parts, p)
	}
	etag, err := s.completeUpstream(ctx, client, bucket, up.Physical, up.Upstream, parts, size)
	return stored{name: nm, etag: etag, size: size}, err
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
	if want, ok := multipartETag(parts); ok && strings.Contains(head.ETag, "-") && !sameDigest(head.ETag, want) && !encrypted(head.Header) {
		return "", fmt.Errorf("%w: the completed upload has the ETag %s instead of %s", guarded.ErrStore, head.ETag, want)
	}
	return head.ETag, nil
}

// joined accepts an upload that the store no longer knows because it was
// completed before, if the object is the one that the list describes.
func (s *Store) joined(ctx context.Context, client *upstream.Client, bucket string, nm name, list []guarded.PartInfo) (stored, error) {
	parts := make([]upstream.Part, len(list))
	for i, p := range list {
		parts[i] = upstream.Part{Number: p.Number, ETag: p.ETag}
	}
	want, ok := multipartETag(parts)
	if !ok {
		return stored{}, object.ErrNoSuchUpload
	}
	head, err := client.HeadObject(ctx, bucket, nm.Key, nil)
	switch {
	case upstream.NotFound(err):
		return stored{}, object.ErrNoSuchUpload
	case err != nil:
		return stored{}, storeError("looking for the completed upload", err)
	case !sameDigest(head.ETag, want):
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

// Abort ends an upload. Its row goes first: from then on no Complete that is
// under way can commit, so whatever the store makes of both is nobody's object.
// One's own upload may be aborted under a stale token too.
func (s *Store) Abort(ctx context.Context, u *guarded.UploadRef) error {
	client, bucket, err := s.buckets.Bucket(u.Bucket)
	if err != nil {
		return err
	}
	up, err := s.find(ctx, u)
	if err != nil {
		return err
	}
	if u.Request.Token != 0 && u.Request.Token != up.Token {
		return otherToken(up.Token, u.Request.Token)
	}
	if up.Completed {
		return object.ErrNoSuchUpload
	}
	tx := &state.Tx{
		Scopes:  []state.ScopeLock{{Scope: u.Scope, Mode: state.Shared}},
		Keys:    []object.Ref{u.Ref},
		Uploads: []string{u.ID},
		Wait:    lockWait,
		Decide: func(v *state.View) (state.Changes, error) {
			if now := v.Uploads[u.ID]; now == nil || now.Completed {
				return state.Changes{}, object.ErrNoSuchUpload
			}
			return state.Changes{DropUploads: []string{u.ID}}, nil
		},
	}
	if err := state.Run(ctx, s.state, tx); err != nil {
		return err
	}
	if err := client.AbortMultipartUpload(ctx, bucket, up.Physical, up.Upstream); err != nil && !upstream.HasCode(err, "NoSuchUpload") {
		s.log.Debug("aborted upload left for the collector", "key", up.Physical, "error", err)
	}
	return nil
}

// ListParts lists the parts that the store has of an upload.
func (s *Store) ListParts(ctx context.Context, u *guarded.UploadRef, after, limit int) ([]guarded.PartInfo, bool, error) {
	client, bucket, err := s.buckets.Bucket(u.Bucket)
	if err != nil {
		return nil, false, err
	}
	up, err := s.find(ctx, u)
	if err != nil {
		return nil, false, err
	}
	if up.Completed {
		return nil, false, object.ErrNoSuchUpload
	}
	if u.Request.Token != 0 {
		// A read that carries a token is fenced (F3).
		if u.Request.Token != up.Token {
			return nil, false, otherToken(up.Token, u.Request.Token)
		}
		if _, _, err := s.look(ctx, &u.Op, fence.Read, object.Ref{}, ""); err != nil {
			return nil, false, err
		}
	}
	page, err := client.ListParts(ctx, bucket, up.Physical, up.Upstream, after, limit)
	if err != nil {
		return nil, false, storeError("listing the parts", err)
	}
	parts := make([]guarded.PartInfo, len(page.Parts))
	for i, p := range page.Parts {
		parts[i] = guarded.PartInfo{Number: p.Number, ETag: p.ETag, Size: p.Size, Modified: p.LastModified, Checksums: p.Checksums}
	}
	return parts, page.Next > 0, nil
}
