package objectstore

import (
	"bytes"
	"context"
	"crypto/md5"
	"database/sql"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"time"
)

// object is one committed object as a snapshot: its fields never mix two
// versions.
type object struct {
	body     int64
	inlined  bool
	size     int64
	etag     string // without quotes
	modified time.Time
	head     []byte
}

// segment is one run of bytes of a body.
type segment struct {
	part   int // 1 for objects not made of parts
	blob   blobName
	start  int64
	length int64
}

// body is the content of an object or part, durable but not yet visible.
type body struct {
	inlined []byte // the content, when segments is nil
	blob    *blobName
	size    int64
	md5     [md5.Size]byte
}

func (b *body) etag() string { return hex.EncodeToString(b.md5[:]) }

// spool reads src to its end into the database's inline bytes or a durable
// blob. It holds at most inline+1 bytes and a copy buffer in memory.
func (s *Store) spool(src io.Reader, inline int) (*body, error) {
	sum := md5.New()
	src = io.TeeReader(src, sum)
	b := &body{}
	var first []byte
	if inline >= 0 {
		var buf bytes.Buffer
		n, err := io.CopyN(&buf, src, int64(inline)+1)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if n <= int64(inline) {
			b.inlined, b.size = buf.Bytes(), n
			sum.Sum(b.md5[:0])
			return b, nil
		}
		first = buf.Bytes()
	}
	w, err := s.blobs.create()
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(w.file, io.MultiReader(bytes.NewReader(first), src))
	if err != nil {
		w.drop()
		return nil, err
	}
	if err := w.keep(); err != nil {
		return nil, err
	}
	b.blob, b.size = &w.name, n
	sum.Sum(b.md5[:0])
	return b, nil
}

// discard removes the blob of a body whose commit was refused. After an
// undecided commit the row may exist, so the blob stays; the next Open knows.
func (s *Store) discard(b *body, err error) {
	if b.blob != nil && !errors.Is(err, errUndecided) {
		s.blobs.unlink(*b.blob)
	}
}

// put commits b as the object at key when cond holds for what stands there.
func (s *Store) put(ctx context.Context, bucket string, key []byte, h head, b *body, cond conditions) (time.Time, error) {
	text, err := h.encode()
	if err != nil {
		s.discard(b, nil)
		return time.Time{}, err
	}
	id := s.bodies.Add(1)
	var now time.Time
	err = s.commits.do(ctx, func(t *txn) error {
		now = stamp() // here, so that a key's times follow its commits
		bucketID, old, err := t.lookup(bucket, key)
		if err != nil {
			return err
		}
		if err := cond.forWrite(old); err != nil {
			return err
		}
		if err := t.addBody(id, b); err != nil {
			return err
		}
		return t.replace(bucketID, key, old, &object{body: id, inlined: b.blob == nil, size: b.size, etag: b.etag(), modified: now, head: text})
	})
	if err != nil {
		s.discard(b, err)
	}
	return now, err
}

// stamp is the present in the resolution that rows keep.
func stamp() time.Time { return time.UnixMilli(time.Now().UnixMilli()).UTC() }

const objectColumns = `o.body, o.inlined, o.size, o.etag, o.modified, o.head`

func (o *object) fields(modified *int64) []any {
	return []any{&o.body, &o.inlined, &o.size, &o.etag, modified, &o.head}
}

// lookup finds the bucket and what stands at key; the object is nil when the
// key is free.
func (t *txn) lookup(bucket string, key []byte) (int64, *object, error) {
	id, err := t.bucket(bucket)
	if err != nil {
		return 0, nil, err
	}
	o := &object{}
	var modified int64
	err = t.row(`SELECT `+objectColumns+` FROM objects o WHERE o.bucket = ? AND o.key = ?`, id, key).Scan(o.fields(&modified)...)
	if errors.Is(err, sql.ErrNoRows) {
		return id, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	o.modified = time.UnixMilli(modified).UTC()
	return id, o, nil
}

// addBody inserts the rows that make b's bytes the body id. An empty body
// without a blob has an inlined row too: every body id in use stands in
// inlined or in segments, which is how Open finds the highest.
func (t *txn) addBody(id int64, b *body) error {
	if b.blob == nil {
		if b.inlined == nil {
			b.inlined = []byte{}
		}
		return t.exec(`INSERT INTO inlined (body, bytes) VALUES (?, ?)`, id, b.inlined)
	}
	return t.exec(`INSERT INTO segments (body, n, part, blob, start, length) VALUES (?, 0, 1, ?, 0, ?)`, id, b.blob[:], b.size)
}

// replace points key at the object o, whose body is in place, and drops the
// body of old.
func (t *txn) replace(bucket int64, key []byte, old, o *object) error {
	const upsert = `INSERT INTO objects (bucket, key, body, inlined, size, etag, modified, head) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (bucket, key) DO UPDATE SET body = excluded.body, inlined = excluded.inlined, size = excluded.size,
		etag = excluded.etag, modified = excluded.modified, head = excluded.head`
	inlined := 0
	if o.inlined {
		inlined = 1
	}
	if err := t.exec(upsert, bucket, key, o.body, inlined, o.size, o.etag, o.modified.UnixMilli(), o.head); err != nil {
		return err
	}
	return t.dropObjectBody(old)
}

func (t *txn) dropObjectBody(old *object) error {
	if old == nil {
		return nil
	}
	if old.inlined {
		return t.exec(`DELETE FROM inlined WHERE body = ?`, old.body)
	}
	return t.dropSegments(old.body)
}

// blobsOf names the blobs of a body.
func (t *txn) blobsOf(id int64) ([]blobName, error) {
	rows, err := t.rows(`SELECT DISTINCT blob FROM segments WHERE body = ?`, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []blobName
	for rows.Next() {
		var b sql.RawBytes
		if err := rows.Scan(&b); err != nil {
			return nil, err
		}
		names = append(names, blobName(b))
	}
	return names, rows.Err()
}

// dropSegments removes a body and notes the blobs that nothing names any more.
func (t *txn) dropSegments(id int64) error {
	names, err := t.blobsOf(id)
	if err != nil {
		return err
	}
	if err := t.exec(`DELETE FROM segments WHERE body = ?`, id); err != nil {
		return err
	}
	for _, name := range names {
		var used bool
		if err := t.row(`SELECT EXISTS (SELECT 1 FROM segments WHERE blob = ?)`, name[:]).Scan(&used); err != nil {
			return err
		}
		if !used {
			t.dead = append(t.dead, name)
		}
	}
	return nil
}

// delete removes key when cond holds. A free key is no error, as on S3.
func (t *txn) delete(bucket string, key []byte, cond conditions) error {
	id, old, err := t.lookup(bucket, key)
	if err != nil {
		return err
	}
	if err := cond.forDelete(old); err != nil || old == nil {
		return err
	}
	if err := t.exec(`DELETE FROM objects WHERE bucket = ? AND key = ?`, id, key); err != nil {
		return err
	}
	return t.dropObjectBody(old)
}

// stat returns the object at key without its content.
func (s *Store) stat(ctx context.Context, bucket string, key []byte) (*object, error) {
	o := &object{}
	var modified int64
	err := s.readDB.QueryRowContext(ctx, `SELECT `+objectColumns+` FROM objects o JOIN buckets b ON b.id = o.bucket WHERE b.name = ? AND o.key = ?`,
		bucket, key).Scan(o.fields(&modified)...)
	if errors.Is(err, sql.ErrNoRows) {
		if _, err := s.bucketID(ctx, bucket); err != nil {
			return nil, err
		}
		return nil, noSuchKey()
	}
	o.modified = time.UnixMilli(modified).UTC()
	return o, err
}

// content is an object with hold of its bytes: they can be read whole until
// close, whatever happens to the key meanwhile.
type content struct {
	object
	s        *Store
	bytes    []byte // when inlined
	segments []segment
}

// maxRereads bounds how often a read begins again because the object was
// replaced between two of its statements.
const maxRereads = 100

// open takes hold of the object at key.
func (s *Store) open(ctx context.Context, bucket string, key []byte) (*content, error) {
	for range maxRereads {
		c, err := s.tryOpen(ctx, bucket, key)
		if c != nil || err != nil {
			return c, err
		}
	}
	return nil, fail("SlowDown", "The object was replaced %d times while it was being opened", maxRereads)
}

// tryOpen returns nil without an error when the body went between the two
// statements. Body ids are never reused, so its absence shows that.
func (s *Store) tryOpen(ctx context.Context, bucket string, key []byte) (*content, error) {
	s.blobs.visible.RLock()
	defer s.blobs.visible.RUnlock()
	c := &content{s: s}
	var modified int64
	err := s.readDB.QueryRowContext(ctx, `SELECT `+objectColumns+`, i.bytes FROM objects o JOIN buckets b ON b.id = o.bucket
		LEFT JOIN inlined i ON o.inlined = 1 AND i.body = o.body WHERE b.name = ? AND o.key = ?`, bucket, key).
		Scan(append(c.fields(&modified), &c.bytes)...)
	if errors.Is(err, sql.ErrNoRows) {
		if _, err := s.bucketID(ctx, bucket); err != nil {
			return nil, err
		}
		return nil, noSuchKey()
	}
	if err != nil {
		return nil, err
	}
	c.modified = time.UnixMilli(modified).UTC()
	if c.inlined {
		return c, nil
	}
	rows, err := s.readDB.QueryContext(ctx, `SELECT part, blob, start, length FROM segments WHERE body = ? ORDER BY n`, c.body)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var g segment
		var b sql.RawBytes
		if err := rows.Scan(&g.part, &b, &g.start, &g.length); err != nil {
			return nil, err
		}
		g.blob = blobName(b)
		c.segments = append(c.segments, g)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if len(c.segments) == 0 {
		return nil, nil
	}
	s.blobs.pin(c.segments)
	return c, nil
}

func (c *content) close() {
	if c.segments != nil {
		c.s.blobs.unpin(c.segments)
		c.segments = nil
	}
}

// writeTo copies length bytes from offset on to w.
func (c *content) writeTo(w io.Writer, offset, length int64) error {
	if c.inlined {
		_, err := w.Write(c.bytes[offset : offset+length])
		return err
	}
	return c.s.blobs.copySegments(w, c.segments, offset, length)
}

// partSizes returns the sizes of the parts that made the object, in order; nil
// when it was not made of parts.
func (c *content) partSizes() []int64 {
	if !strings.Contains(c.etag, "-") {
		return nil
	}
	var sizes []int64
	last := 0
	for _, g := range c.segments {
		if g.part != last {
			sizes, last = append(sizes, 0), g.part
		}
		sizes[len(sizes)-1] += g.length
	}
	return sizes
}
