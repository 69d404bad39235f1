package objectstore

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Bounds of S3's multipart uploads,
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
const (
	maxParts      = 10000
	maxObjectSize = 5 << 40
	maxPutSize    = 5 << 30
)

// keepCompleted is how long a second Complete of the same upload is answered
// like the first.
const keepCompleted = 24 * time.Hour

// upload names a multipart upload as a request does: all three must agree.
type upload struct {
	bucket string
	key    []byte
	id     string
}

// createUpload begins a multipart upload. Ids of one key sort by their start.
func (s *Store) createUpload(ctx context.Context, bucket string, key []byte, h head) (string, error) {
	text, err := h.encode()
	if err != nil {
		return "", err
	}
	now := stamp()
	id := fmt.Sprintf("%016x%s", now.UnixNano(), rand.Text())
	return id, s.commits.do(ctx, func(t *txn) error {
		bucketID, err := t.bucket(bucket)
		if err != nil {
			return err
		}
		return t.exec(`INSERT INTO uploads (id, bucket, key, initiated, head) VALUES (?, ?, ?, ?, ?)`, id, bucketID, key, now.UnixMilli(), text)
	})
}

const findUpload = `SELECT u.head FROM uploads u JOIN buckets b ON b.id = u.bucket WHERE u.id = ? AND b.name = ? AND u.key = ?`

// checkUpload refuses an unknown upload before its body is read. The commit
// checks again.
func (s *Store) checkUpload(ctx context.Context, up upload) error {
	if _, err := s.bucketID(ctx, up.bucket); err != nil {
		return err
	}
	var text []byte
	err := s.readDB.QueryRowContext(ctx, findUpload, up.id, up.bucket, up.key).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return noSuchUpload()
	}
	return err
}

func (t *txn) upload(up upload) (headText []byte, err error) {
	err = t.row(findUpload, up.id, up.bucket, up.key).Scan(&headText)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, noSuchUpload()
	}
	return headText, err
}

// putPart commits b as a part, in place of an earlier one of that number.
func (s *Store) putPart(ctx context.Context, up upload, number int, b *body) (time.Time, error) {
	id := s.bodies.Add(1)
	now := stamp()
	err := s.commits.do(ctx, func(t *txn) error {
		if err := t.addBody(id, b); err != nil {
			return err
		}
		return t.replacePart(up, number, id, b.size, b.etag(), now)
	})
	if err != nil {
		s.discard(b, err)
	}
	return now, err
}

// replacePart refuses when the upload is gone, so a part that was in flight
// when its upload was completed or aborted leaves nothing behind.
func (t *txn) replacePart(up upload, number int, body, size int64, etag string, now time.Time) error {
	if _, err := t.upload(up); err != nil {
		return err
	}
	var old int64
	err := t.row(`SELECT body FROM parts WHERE upload = ? AND number = ?`, up.id, number).Scan(&old)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if err == nil {
		if err := t.exec(`DELETE FROM parts WHERE upload = ? AND number = ?`, up.id, number); err != nil {
			return err
		}
		if err := t.dropSegments(old); err != nil {
			return err
		}
	}
	return t.exec(`INSERT INTO parts (upload, number, body, size, etag, modified) VALUES (?, ?, ?, ?, ?, ?)`, up.id, number, body, size, etag, now.UnixMilli())
}

// part is one committed part of an upload.
type part struct {
	number   int
	body     int64
	size     int64
	etag     string
	modified time.Time
}

func scanParts(rows *sql.Rows) ([]part, error) {
	defer rows.Close()
	var parts []part
	for rows.Next() {
		var p part
		var modified int64
		if err := rows.Scan(&p.number, &p.body, &p.size, &p.etag, &modified); err != nil {
			return nil, err
		}
		p.modified = time.UnixMilli(modified).UTC()
		parts = append(parts, p)
	}
	return parts, rows.Err()
}

const selectParts = `SELECT number, body, size, etag, modified FROM parts WHERE upload = ? AND number > ? ORDER BY number LIMIT ?`

// wanted is one entry of the list that Complete sends.
type wanted struct {
	number int
	etag   string // without quotes
}

// multipartETag is S3's ETag of an object made of parts: the MD5 of their
// MD5s, a dash and their number.
func multipartETag(list []wanted) (string, error) {
	sum := md5.New()
	for _, w := range list {
		raw, err := hex.DecodeString(w.etag)
		if err != nil || len(raw) != md5.Size {
			return "", fail("InvalidPart", "part %d: %q is not the ETag of a part", w.number, w.etag)
		}
		sum.Write(raw)
	}
	return fmt.Sprintf("%x-%d", sum.Sum(nil), len(list)), nil
}

// complete makes the object of an upload's parts, in one transaction and
// without moving a byte. A repetition of a Complete that took effect is
// answered like the first, whatever its conditions say by then.
func (s *Store) complete(ctx context.Context, up upload, list []wanted, size *int64, cond conditions) (etag string, err error) {
	if etag, err = multipartETag(list); err != nil {
		return "", err
	}
	id := s.bodies.Add(1)
	now := stamp()
	return etag, s.commits.do(ctx, func(t *txn) error {
		head, err := t.upload(up)
		if isCode(err, "NoSuchUpload") {
			return t.completedBefore(up, etag)
		}
		if err != nil {
			return err
		}
		bucketID, old, err := t.lookup(up.bucket, up.key)
		if err != nil {
			return err
		}
		total, err := t.selectWanted(up, list, s.opts.MinPartBytes)
		if err != nil {
			return err
		}
		if size != nil && *size != total {
			return fail("InvalidRequest", "x-amz-mp-object-size says %d bytes, the parts have %d", *size, total)
		}
		if err := cond.forWrite(old); err != nil {
			return err
		}
		for _, step := range []struct {
			sql  string
			args []any
		}{
			{`INSERT INTO segments (body, n, part, blob, start, length)
				SELECT ?, row_number() OVER (ORDER BY p.number, g.n) - 1, p.number, g.blob, g.start, g.length
				FROM parts p JOIN segments g ON g.body = p.body WHERE p.upload = ?`, []any{id, up.id}},
			{`DELETE FROM segments WHERE body IN (SELECT body FROM parts WHERE upload = ?)`, []any{up.id}},
			{`DELETE FROM parts WHERE upload = ?`, []any{up.id}},
			{`DELETE FROM uploads WHERE id = ?`, []any{up.id}},
			{`INSERT INTO completed (upload, bucket, key, etag, at) VALUES (?, ?, ?, ?, ?)`, []any{up.id, bucketID, up.key, etag, now.UnixMilli()}},
			{`DELETE FROM completed WHERE at < ?`, []any{now.Add(-keepCompleted).UnixMilli()}},
		} {
			if err := t.exec(step.sql, step.args...); err != nil {
				return err
			}
		}
		return t.replace(bucketID, up.key, old, &object{body: id, size: total, etag: etag, modified: now, head: head})
	})
}

func (t *txn) completedBefore(up upload, etag string) error {
	var n int
	const q = `SELECT count(*) FROM completed c JOIN buckets b ON b.id = c.bucket WHERE c.upload = ? AND b.name = ? AND c.key = ? AND c.etag = ?`
	if err := t.row(q, up.id, up.bucket, up.key, etag).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return noSuchUpload()
	}
	return nil
}

// selectWanted checks the list against the parts that stand, drops those the
// list leaves out, and returns the size of the object.
func (t *txn) selectWanted(up upload, list []wanted, minPart int64) (int64, error) {
	rows, err := t.rows(selectParts, up.id, 0, maxParts)
	if err != nil {
		return 0, err
	}
	have, err := scanParts(rows)
	if err != nil {
		return 0, err
	}
	byNumber := make(map[int]part, len(have))
	for _, p := range have {
		byNumber[p.number] = p
	}
	var total int64
	for i, w := range list {
		p, ok := byNumber[w.number]
		if !ok || p.etag != w.etag {
			return 0, fail("InvalidPart", "Part %d was not uploaded or has another ETag", w.number)
		}
		if p.size < minPart && i < len(list)-1 {
			return 0, fail("EntityTooSmall", "Part %d is %d bytes, every part but the last has at least %d", w.number, p.size, minPart)
		}
		total += p.size
		delete(byNumber, w.number)
	}
	if total > maxObjectSize {
		return 0, fail("EntityTooLarge", "The object would be %d bytes, at most %d are allowed", total, int64(maxObjectSize))
	}
	for _, p := range byNumber {
		if err := t.exec(`DELETE FROM parts WHERE upload = ? AND number = ?`, up.id, p.number); err != nil {
			return 0, err
		}
		if err := t.dropSegments(p.body); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// abort removes an upload and its parts.
func (s *Store) abort(ctx context.Context, up upload) error {
	return s.commits.do(ctx, func(t *txn) error {
		if _, err := t.upload(up); err != nil {
			return err
		}
		rows, err := t.rows(selectParts, up.id, 0, maxParts)
		if err != nil {
			return err
		}
		parts, err := scanParts(rows)
		if err != nil {
			return err
		}
		if err := t.exec(`DELETE FROM parts WHERE upload = ?`, up.id); err != nil {
			return err
		}
		for _, p := range parts {
			if err := t.dropSegments(p.body); err != nil {
				return err
			}
		}
		return t.exec(`DELETE FROM uploads WHERE id = ?`, up.id)
	})
}

// listParts returns up to limit parts behind marker, and whether more follow.
func (s *Store) listParts(ctx context.Context, up upload, marker, limit int) (parts []part, more bool, err error) {
	rows, err := s.readDB.QueryContext(ctx, selectParts, up.id, marker, limit+1)
	if err != nil {
		return nil, false, err
	}
	if parts, err = scanParts(rows); err != nil {
		return nil, false, err
	}
	// Afterwards: an upload that ends between two looks must not be one without parts.
	if err := s.checkUpload(ctx, up); err != nil {
		return nil, false, err
	}
	if len(parts) > limit {
		parts, more = parts[:limit], true
	}
	return parts, more, err
}
