package sealed

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // S3's part ETags are MD5
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/checksum"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

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
