package sealed

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
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
