package sealed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

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

// complete answers a Complete whose upload is completed already as the first was
// answered. All tries of one Complete name one upload and one list, so an answer that
// ends the trying speaks for all of them (F7): whatever made this try fail, an
// earlier one may have taken effect meanwhile.
func (s *Store) complete(ctx context.Context, client *upstream.Client, bucket string, c *guarded.Complete, digest string) (object.Info, error) {
	up, err := s.find(ctx, &c.UploadRef)
	if err != nil {
		return object.Info{}, err
	}
	if up.Completed {
		return replayComplete(up, c, digest)
	}
	info, err := s.completeOpen(ctx, client, bucket, c, digest)
	if err == nil || errors.Is(err, state.ErrUnknown) {
		return info, err
	}
	switch now, ferr := s.find(ctx, &c.UploadRef); {
	case ferr == nil && now.Completed:
		return replayComplete(now, c, digest)
	case ferr != nil && !errors.Is(ferr, object.ErrNoSuchUpload):
		return object.Info{}, ferr
	}
	return object.Info{}, err
}

// completeOpen completes an upload that was open a moment ago.
func (s *Store) completeOpen(ctx context.Context, client *upstream.Client, bucket string, c *guarded.Complete, digest string) (object.Info, error) {
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
	j := &joining{s: s, c: c, client: client, bucket: bucket, up: up, digest: digest}
	st, kind, err := j.join(ctx)
	if err != nil {
		return object.Info{}, err
	}
	pause.At(pause.AfterUpload)
	row := *up
	row.Digest = digest
	attrs := up.Attributes
	attrs.Parts = len(c.Parts)
	attrs.Algorithm, attrs.Checksums, attrs.ChecksumType = "", st.sums, kind
	return s.commitObject(&c.Op, "CompleteMultipartUpload", c.Conditions, object.Info{Ref: c.Ref, Attributes: attrs}, st, &row)
}

func replayComplete(up *state.Upload, c *guarded.Complete, digest string) (object.Info, error) {
	if c.Request.Token != 0 && c.Request.Token != up.Token {
		// Its answer would be one under a mark that never rose (F4).
		return object.Info{}, otherToken(up.Token, c.Request.Token)
	}
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
