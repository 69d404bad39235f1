package sealed

import (
	"context"
	"crypto/md5" //nolint:gosec // S3's ETag is MD5
	"fmt"
	"hash"
	"io"
	"net/http"

	"github.com/s3fence/s3fence/internal/checksum"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/upstream"
)

// What no store can copy by itself passes through this proxy: from one store to
// another, and bytes of which a checksum is wanted that nobody knows. Nothing is
// held but the buffers of two connections.

// relay reads a source, or the range of it that src.at names, and has send take its
// size bytes. They are the bytes that were found: a plain source is read under its
// ETag, a sealed one never changes under its physical name; where all of it is read,
// what is known of it is compared with what came. Send's destination is nobody's
// object until relay has returned without an error.
func (s *Store) relay(ctx context.Context, src *found, size int64, send func(io.Reader) error) error {
	h := http.Header{}
	if src.at.IfMatch != "" {
		h.Set("If-Match", `"`+src.at.IfMatch+`"`)
	}
	got, err := src.client.GetObject(ctx, src.at.Bucket, src.at.Key, src.at.Range, h)
	if err != nil {
		return s.copyError(ctx, src, err)
	}
	defer got.Body.Close()
	if got.Size != size {
		return fmt.Errorf("%w: the copy's source sends %d bytes instead of %d", guarded.ErrStore, got.Size, size)
	}
	body := &bodyError{Reader: got.Body}
	check := newWitness(src, size)
	if err := send(io.TeeReader(body, check)); err != nil {
		if failed := body.err(); failed != nil {
			// The source broke off: it is a store that failed, not a client.
			return fmt.Errorf("%w: reading the copy's source: %w", guarded.ErrStore, failed)
		}
		return err
	}
	return check.err()
}

// witness holds the bytes of a source against what is known of it.
type witness struct {
	io.Writer
	src    *found
	digest hash.Hash            // nil where the ETag is no digest
	sums   map[string]hash.Hash // by algorithm
}

func newWitness(src *found, size int64) *witness {
	w := &witness{src: src, sums: map[string]hash.Hash{}}
	to := []io.Writer{io.Discard}
	if size == src.info.Size {
		if src.plain && isMD5(src.info.ETag) && !src.encrypted {
			w.digest = md5.New() //nolint:gosec // see the import
			to = append(to, w.digest)
		}
		if src.info.ChecksumType == checksum.FullObject {
			for algorithm := range src.info.Checksums {
				if h := checksum.New(algorithm); h != nil {
					w.sums[algorithm] = h
					to = append(to, h)
				}
			}
		}
	}
	w.Writer = io.MultiWriter(to...)
	return w
}

func (w *witness) err() error {
	if w.digest != nil && !sameDigest(hexSum(w.digest), w.src.info.ETag) {
		return fmt.Errorf("%w: the copy's source sent bytes with the digest %s instead of %s", guarded.ErrStore, hexSum(w.digest), w.src.info.ETag)
	}
	for algorithm, h := range w.sums {
		if sum := checksum.String(h); sum != w.src.info.Checksums[algorithm] {
			return fmt.Errorf("%w: the copy's source sent bytes with the %s %s instead of %s", guarded.ErrStore, algorithm, sum, w.src.info.Checksums[algorithm])
		}
	}
	return nil
}

// relayObject copies a whole object through this proxy. attrs gets the checksum
// that was asked for.
func (s *Store) relayObject(ctx context.Context, client *upstream.Client, bucket string, src *found, c *guarded.Copy, attrs *object.Attributes, nm name) (st stored, err error) {
	st = stored{name: nm, size: src.info.Size}
	sum := checksum.New(c.Checksum)
	if src.info.Size > maxCopy {
		if sum != nil {
			return st, fmt.Errorf("%w: the checksum of a copy larger than %d bytes cannot be computed in one request; copy it in parts", guarded.ErrTooLarge, int64(maxCopy))
		}
		return s.relayPieces(ctx, client, bucket, src, c, attrs, nm)
	}
	err = s.relay(ctx, src, src.info.Size, func(body io.Reader) (err error) {
		if sum != nil {
			body = io.TeeReader(body, sum)
		}
		st, err = s.stream(ctx, client, bucket, nm, body, &guarded.Put{Op: c.Op, Ref: c.Ref, Size: src.info.Size, Attributes: *attrs, Store: c.Store})
		return err
	})
	if err == nil && sum != nil {
		attrs.Checksums, attrs.ChecksumType = map[string]string{c.Checksum: checksum.String(sum)}, checksum.FullObject
	}
	return st, err
}

// relayPieces copies an object that is larger than one PUT may be.
func (s *Store) relayPieces(ctx context.Context, client *upstream.Client, bucket string, src *found, c *guarded.Copy, attrs *object.Attributes, nm name) (st stored, err error) {
	id, err := client.CreateMultipartUpload(ctx, bucket, nm.Key, physicalHeader(&c.Op, c.Ref, attrs, c.Store, nm))
	if err != nil {
		return st, storeError("copying the object's bytes", err)
	}
	completing := false
	defer func() {
		if err != nil && !completing {
			s.abortUpstream(client, bucket, nm.Key, id)
		}
	}()
	var parts []upstream.Part
	for at := int64(0); at < src.info.Size; at += copyPiece {
		size := min(copyPiece, src.info.Size-at)
		piece := *src
		piece.at.Range = byteRange(&guarded.Range{Offset: at, Length: size})
		err := s.relay(ctx, &piece, size, func(body io.Reader) error {
			sum := md5.New() //nolint:gosec // see the import
			got, err := client.UploadPart(ctx, bucket, nm.Key, id, len(parts)+1, io.TeeReader(body, sum), size, upstream.PutOptions{})
			if err != nil {
				return storeError("copying the object's bytes", err)
			}
			parts = append(parts, upstream.Part{Number: len(parts) + 1, ETag: got.ETag, Size: size})
			return compare(got, hexSum(sum), c.Store)
		})
		if err != nil {
			return st, err
		}
	}
	completing = true
	etag, _, err := s.completeUpstream(ctx, client, bucket, nm.Key, id, parts, src.info.Size)
	return stored{name: nm, etag: etag, size: src.info.Size}, err
}
