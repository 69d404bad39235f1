package objectstore

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"net/url"
	"strings"
	"time"
)

// source names what a copy reads.
type source struct {
	bucket string
	key    []byte
	cond   conditions
}

// parseSource reads x-amz-copy-source: bucket/key, percent-encoded, with or
// without a leading slash. A plus that is not encoded is a space, as Amazon S3 has
// it (https://github.com/aws/aws-cli/issues/614).
func parseSource(value string, cond conditions) (source, error) {
	path, query, _ := strings.Cut(value, "?")
	if v, ok := strings.CutPrefix(query, "versionId="); query != "" && (!ok || v != "null") {
		return source{}, fail("NotImplemented", "x-amz-copy-source %q: this store keeps no versions", value)
	}
	plain, err := url.QueryUnescape(strings.TrimPrefix(path, "/"))
	if err != nil {
		return source{}, fail("InvalidArgument", "x-amz-copy-source %q: %v", value, err)
	}
	bucket, key, ok := strings.Cut(plain, "/")
	if !ok || bucket == "" || key == "" {
		return source{}, fail("InvalidArgument", "x-amz-copy-source %q is not bucket/key", value)
	}
	if len(key) > maxKeyBytes {
		return source{}, noSuchKey()
	}
	return source{bucket: bucket, key: []byte(key), cond: cond}, nil
}

// maxCopies bounds how often a copy begins again because its source was
// replaced meanwhile.
const maxCopies = 10

// copyObject copies src to key without copying bytes: the new body names the
// same blobs. decide makes the new object's head from the source's. That the
// source still is the body that was read is checked in the transaction, as are
// the conditions on the destination.
func (s *Store) copyObject(ctx context.Context, src source, bucket string, key []byte, cond conditions, decide func(head) (head, error)) (*object, error) {
	for range maxCopies {
		o, moved, err := s.tryCopy(ctx, src, bucket, key, cond, decide)
		if !moved {
			return o, err
		}
	}
	return nil, fail("SlowDown", "The source was replaced %d times while it was being copied", maxCopies)
}

func (s *Store) tryCopy(ctx context.Context, src source, bucket string, key []byte, cond conditions, decide func(head) (head, error)) (_ *object, moved bool, _ error) {
	c, err := s.open(ctx, src.bucket, src.key)
	if err != nil {
		return nil, false, err
	}
	defer c.close()
	if err := src.cond.forSource(&c.object); err != nil {
		return nil, false, err
	}
	sourceHead, err := decodeHead(c.head)
	if err != nil {
		return nil, false, err
	}
	newHead, err := decide(sourceHead)
	if err != nil {
		return nil, false, err
	}
	text, err := newHead.encode()
	if err != nil {
		return nil, false, err
	}
	etag, err := c.md5(ctx)
	if err != nil {
		return nil, false, err
	}
	o := &object{body: s.bodies.Add(1), inlined: c.inlined, size: c.size, etag: etag, modified: stamp(), head: text}
	err = s.commits.do(ctx, func(t *txn) error {
		_, now, err := t.lookup(src.bucket, src.key)
		if err != nil {
			return err
		}
		if now == nil || now.body != c.body {
			moved = true
			return errPrecondition
		}
		id, old, err := t.lookup(bucket, key)
		if err != nil {
			return err
		}
		if err := cond.forWrite(old); err != nil {
			return err
		}
		clone := `INSERT INTO segments (body, n, part, blob, start, length) SELECT ?, n, 1, blob, start, length FROM segments WHERE body = ?`
		if c.inlined {
			clone = `INSERT INTO inlined (body, bytes) SELECT ?, bytes FROM inlined WHERE body = ?`
		}
		if err := t.exec(clone, o.body, c.body); err != nil {
			return err
		}
		return t.replace(id, key, old, o)
	})
	return o, moved, err
}

// md5 returns the MD5 of the whole content, as S3 gives a copied object even
// where its source was made of parts. It reads the bytes only in that case.
func (c *content) md5(ctx context.Context) (string, error) {
	if !strings.Contains(c.etag, "-") {
		return c.etag, nil
	}
	return c.md5Range(ctx, 0, c.size)
}

func (c *content) md5Range(ctx context.Context, offset, length int64) (string, error) {
	sum := md5.New()
	if err := c.writeTo(stopping{ctx, sum}, offset, length); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// stopping is a writer that ends with its context.
type stopping struct {
	ctx context.Context
	w   io.Writer
}

func (s stopping) Write(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.w.Write(p)
}

// slice returns the segments that hold length bytes from offset on.
func slice(segments []segment, offset, length int64) []segment {
	var out []segment
	for _, g := range segments {
		if length == 0 {
			break
		}
		if offset >= g.length {
			offset -= g.length
			continue
		}
		n := min(g.length-offset, length)
		out = append(out, segment{part: 1, blob: g.blob, start: g.start + offset, length: n})
		offset, length = 0, length-n
	}
	return out
}

// copyPart makes a part of an upload from a range of an object, by naming its
// blobs. length < 0 means all of it.
func (s *Store) copyPart(ctx context.Context, src source, up upload, number int, offset, length int64) (etag string, modified time.Time, err error) {
	for range maxCopies {
		var moved bool
		if etag, modified, moved, err = s.tryCopyPart(ctx, src, up, number, offset, length); !moved {
			return etag, modified, err
		}
	}
	return "", time.Time{}, fail("SlowDown", "The source was replaced %d times while it was being copied", maxCopies)
}

func (s *Store) tryCopyPart(ctx context.Context, src source, up upload, number int, offset, length int64) (etag string, modified time.Time, moved bool, err error) {
	c, err := s.open(ctx, src.bucket, src.key)
	if err != nil {
		return "", time.Time{}, false, err
	}
	defer c.close()
	if err := src.cond.forSource(&c.object); err != nil {
		return "", time.Time{}, false, err
	}
	if length < 0 {
		length = c.size
	}
	if offset+length > c.size {
		return "", time.Time{}, false, fail("InvalidRange", "x-amz-copy-source-range ends at byte %d, the source has %d bytes", offset+length-1, c.size)
	}
	if c.inlined || length == 0 {
		// Parts are always made of segments: an inlined source is written out.
		r, w := io.Pipe()
		go func() { w.CloseWithError(c.writeTo(w, offset, length)) }()
		b, err := s.spool(r, -1)
		r.CloseWithError(io.ErrClosedPipe)
		if err != nil {
			return "", time.Time{}, false, err
		}
		modified, err = s.putPart(ctx, up, number, b)
		return b.etag(), modified, false, err
	}
	if etag, err = c.md5Range(ctx, offset, length); err != nil {
		return "", time.Time{}, false, err
	}
	segments := slice(c.segments, offset, length)
	id := s.bodies.Add(1)
	modified = stamp()
	err = s.commits.do(ctx, func(t *txn) error {
		_, now, err := t.lookup(src.bucket, src.key)
		if err != nil {
			return err
		}
		if now == nil || now.body != c.body {
			moved = true
			return errPrecondition
		}
		for n, g := range segments {
			if err := t.exec(`INSERT INTO segments (body, n, part, blob, start, length) VALUES (?, ?, 1, ?, ?, ?)`, id, n, g.blob[:], g.start, g.length); err != nil {
				return err
			}
		}
		return t.replacePart(up, number, id, length, etag, modified)
	})
	return etag, modified, moved, err
}
