package sealed

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // S3's part ETags are MD5
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/checksum"
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
	computed, err := checksumOfPart(up, p.Algorithm)
	if err != nil {
		return guarded.PartInfo{}, err
	}
	pause.At(pause.BeforeUpload)
	if p.Size <= maxBuffered {
		if err := bufferPart(p); err != nil {
			return guarded.PartInfo{}, err
		}
	}
	body := &bodyError{Reader: p.Body}
	got, sums, err := s.sendPart(ctx, client, bucket, up, p.Number, body, p.Size, p.ContentMD5, computed)
	if failed := body.err(); failed != nil {
		return guarded.PartInfo{}, failed
	}
	if err != nil {
		return guarded.PartInfo{}, s.unlessEnded(ctx, &p.UploadRef, err)
	}
	if sums == nil {
		sums = verified(p.Checksums, p.Verified)
	}
	return s.keepPart(ctx, up, guarded.PartInfo{Number: p.Number, ETag: got.ETag, Size: p.Size, Checksums: sums})
}

// checksumOfPart says which checksum of a part is still to be computed, where the
// client gives one of algorithm or none. An upload that was created with an
// algorithm takes parts with that one; S3 lets a client leave it to the store where
// it says what the whole comes to.
func checksumOfPart(up *state.Upload, algorithm string) (compute string, err error) {
	switch {
	case up.Algorithm == "" || algorithm == up.Algorithm:
		return "", nil
	case algorithm == "" && up.ChecksumType == checksum.FullObject:
		return up.Algorithm, nil
	}
	return "", typeMismatch(up.Algorithm, algorithm)
}

// typeMismatch words a mismatch as S3 does.
func typeMismatch(want, got string) error {
	said := func(s string) string { return cmp.Or(strings.ToLower(s), "null") }
	return fmt.Errorf("%w, expected checksum Type: %s, actual checksum Type: %s", object.ErrChecksumType, said(want), said(got))
}

// sendPart sends a part's bytes to the store, compares what it has with them, and
// computes a checksum of them, unless algorithm is empty. contentMD5 goes to the
// store, which then refuses other bytes; empty: none is known ahead.
func (s *Store) sendPart(ctx context.Context, client *upstream.Client, bucket string, up *state.Upload, number int, body io.Reader, size int64, contentMD5, algorithm string) (*upstream.Stored, map[string]string, error) {
	sum := md5.New() //nolint:gosec // see the import
	body = io.TeeReader(body, sum)
	extra := checksum.New(algorithm)
	if extra != nil {
		body = io.TeeReader(body, extra)
	}
	got, err := client.UploadPart(ctx, bucket, up.Physical, up.Upstream, number, body, size, upstream.PutOptions{ContentMD5: contentMD5})
	if err != nil {
		return nil, nil, storeError("storing the part", err)
	}
	if err := compare(got, hexSum(sum), nil); err != nil {
		return nil, nil, err
	}
	if extra == nil {
		return got, nil, nil
	}
	return got, map[string]string{algorithm: checksum.String(extra)}, nil
}

// unlessEnded looks again at an upload that the store does not know any more: if it was
// ended while the part was under way, that is the answer, and no failure of the store.
func (s *Store) unlessEnded(ctx context.Context, u *guarded.UploadRef, err error) error {
	if !upstream.HasCode(err, "NoSuchUpload") {
		return err
	}
	switch up, ferr := s.find(ctx, u); {
	case errors.Is(ferr, object.ErrNoSuchUpload), ferr == nil && up.Completed:
		return object.ErrNoSuchUpload
	}
	return err
}

// keepPart records a part that the store has.
func (s *Store) keepPart(ctx context.Context, up *state.Upload, p guarded.PartInfo) (guarded.PartInfo, error) {
	pause.At(pause.AfterUpload)
	row := state.UploadPart{Upload: up.ID, Number: p.Number, ETag: p.ETag, Size: p.Size}
	for algorithm, sum := range p.Checksums {
		row.Algorithm, row.Checksum = algorithm, sum
	}
	return p, s.state.KeepPart(ctx, row)
}

// bufferPart reads a small part whole, so that its MD5 can go ahead of it.
func bufferPart(p *guarded.Part) error {
	var buf bytes.Buffer
	buf.Grow(int(p.Size) + bytes.MinRead)
	if _, err := buf.ReadFrom(p.Body); err != nil {
		return err
	}
	if int64(buf.Len()) != p.Size {
		return fmt.Errorf("%w: part of %d bytes, declared %d", io.ErrUnexpectedEOF, buf.Len(), p.Size)
	}
	sum := md5.Sum(buf.Bytes()) //nolint:gosec // see the import
	p.Body, p.ContentMD5 = &buf, base64.StdEncoding.EncodeToString(sum[:])
	return nil
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
	src, err := s.source(ctx, &p.Source)
	if err != nil {
		return guarded.PartInfo{}, err
	}
	size := src.info.Size
	if r := p.Source.Range; r != nil {
		if r.Offset < 0 || r.Length < 1 || r.Offset >= src.info.Size || r.Length > src.info.Size-r.Offset {
			return guarded.PartInfo{}, object.ErrSourceRange
		}
		size = r.Length
		src.at.Range = byteRange(r)
	}
	info := guarded.PartInfo{Number: p.Number, Size: size, Modified: time.Now().UTC()}
	var got *upstream.Stored
	if src.client == client && up.Algorithm == "" {
		got, err = client.UploadPartCopy(ctx, src.at, bucket, up.Physical, up.Upstream, p.Number, nil)
		if err != nil {
			return guarded.PartInfo{}, s.unlessEnded(ctx, &p.UploadRef, s.copyError(ctx, src, err))
		}
	} else {
		err = s.relay(ctx, src, size, func(body io.Reader) (err error) {
			got, info.Checksums, err = s.sendPart(ctx, client, bucket, up, p.Number, body, size, "", up.Algorithm)
			return err
		})
		if err != nil {
			return guarded.PartInfo{}, s.unlessEnded(ctx, &p.UploadRef, err)
		}
	}
	info.ETag = got.ETag
	return s.keepPart(ctx, up, info)
}

func byteRange(r *guarded.Range) string {
	return "bytes=" + strconv.FormatInt(r.Offset, 10) + "-" + strconv.FormatInt(r.Offset+r.Length-1, 10)
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
		return replayComplete(up, c, digest)
	}
	up, v, err := s.open(ctx, &c.UploadRef, fence.Write)
	if err != nil {
		return object.Info{}, err
	}
	if up.Completed {
		return replayComplete(up, c, digest)
	}
	if err := c.CheckWrite(infoOf(v.Objects[c.Ref])); err != nil {
		// Decided again at the commit; known now, it leaves the upload open.
		return object.Info{}, err
	}
	pause.At(pause.BeforeUpload)
	st, kind, err := s.join(ctx, client, bucket, up, c)
	if err != nil {
		// Perhaps because the client's first try took effect just now, and what was
		// recorded of the parts went with it.
		if now, ferr := s.find(ctx, &c.UploadRef); ferr == nil && now.Completed {
			return replayComplete(now, c, digest)
		}
		return object.Info{}, err
	}
	pause.At(pause.AfterUpload)
	row := *up
	row.Digest = digest
	attrs := up.Attributes
	attrs.Parts = len(c.Parts)
	attrs.Algorithm, attrs.Checksums, attrs.ChecksumType = "", st.sums, kind
	info, err := s.commitObject(&c.Op, "CompleteMultipartUpload", c.Conditions, object.Info{Ref: c.Ref, Attributes: attrs}, st, &row)
	if errors.Is(err, object.ErrNoSuchUpload) {
		// Perhaps the client's own retry was faster.
		if now, ferr := s.find(ctx, &c.UploadRef); ferr == nil && now.Completed {
			return replayComplete(now, c, digest)
		}
	}
	return info, err
}

func replayComplete(up *state.Upload, c *guarded.Complete, digest string) (object.Info, error) {
	if up.Digest != digest {
		return object.Info{}, object.ErrNoSuchUpload
	}
	if err := isWhole(c, up.Size, up.Checksums, up.ChecksumType); err != nil {
		return object.Info{}, err
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

// ListParts lists the parts that the store has of an upload, with the checksums
// that were recorded of them.
func (s *Store) ListParts(ctx context.Context, u *guarded.UploadRef, after, limit int) (guarded.Uploaded, error) {
	client, bucket, err := s.buckets.Bucket(u.Bucket)
	if err != nil {
		return guarded.Uploaded{}, err
	}
	up, err := s.find(ctx, u)
	if err != nil {
		return guarded.Uploaded{}, err
	}
	if up.Completed {
		return guarded.Uploaded{}, object.ErrNoSuchUpload
	}
	if u.Request.Token != 0 {
		// A read that carries a token is fenced (F3).
		if u.Request.Token != up.Token {
			return guarded.Uploaded{}, otherToken(up.Token, u.Request.Token)
		}
		if _, _, err := s.look(ctx, &u.Op, fence.Read, object.Ref{}, ""); err != nil {
			return guarded.Uploaded{}, err
		}
	}
	page, err := client.ListParts(ctx, bucket, up.Physical, up.Upstream, after, limit)
	if err != nil {
		return guarded.Uploaded{}, storeError("listing the parts", err)
	}
	out := guarded.Uploaded{Parts: make([]guarded.PartInfo, len(page.Parts)), More: page.Next > 0, Algorithm: up.Algorithm, ChecksumType: up.ChecksumType, StorageClass: up.StorageClass(), Creator: up.Creator}
	for i, p := range page.Parts {
		out.Parts[i] = guarded.PartInfo{Number: p.Number, ETag: p.ETag, Size: p.Size, Modified: p.LastModified}
	}
	recorded, err := s.recorded(ctx, up, out.Parts)
	if err != nil {
		return guarded.Uploaded{}, err
	}
	for i, p := range out.Parts {
		if row := recorded[partOf(p.Number, p.ETag)]; row.Algorithm != "" {
			out.Parts[i].Checksums = map[string]string{row.Algorithm: row.Checksum}
		}
	}
	return out, nil
}
