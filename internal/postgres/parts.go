package postgres

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

const (
	// keepPart writes nothing where the upload is not open. FOR SHARE waits for one
	// that is being completed or dropped at the same moment, and then looks at it
	// again; REFERENCES takes a weaker lock, and only once the part is written. Who
	// completes or drops the upload waits for this row in turn, and for nothing else.
	keepPart = `
INSERT INTO upload_parts (upload, number, etag, size, algorithm, checksum)
SELECT $1, $2, $3, $4, $5, $6 FROM uploads WHERE id = $1 AND NOT completed FOR SHARE
ON CONFLICT (upload, number, etag) DO UPDATE SET size = excluded.size, algorithm = excluded.algorithm, checksum = excluded.checksum
RETURNING 1`
	listUploadParts = `
SELECT p.number, p.etag, p.size, p.algorithm, p.checksum FROM upload_parts p
  JOIN (SELECT DISTINCT number, lower(etag) AS etag FROM unnest($2::integer[], $3::text[]) AS q (number, etag)) q
    ON p.number = q.number AND lower(p.etag) = q.etag
 WHERE p.upload = $1 ORDER BY p.number, p.etag`
	dropUploadParts = `DELETE FROM upload_parts WHERE upload = ANY ($1::text[])`

	putObjectParts = `
WITH written AS (
INSERT INTO object_parts (attempt, position, number, start, size, checksum)
SELECT $1, p.position, p.number, p.start, p.size, p.checksum
  FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::text[]) WITH ORDINALITY AS p (number, start, size, checksum, position)
RETURNING 1)
SELECT must_write($6, count(*)) FROM written`
	listObjectParts = `
SELECT number, start, size, checksum FROM object_parts WHERE attempt = $1 AND position > $2 ORDER BY position LIMIT $3`
	dropObjectParts = `DELETE FROM object_parts WHERE attempt = ANY ($1::uuid[])`
)

// writeParts writes the parts of new objects and drops those of what went. The
// parts of dropped uploads go with them (ON DELETE CASCADE).
func writeParts(f *pipeline, v *state.View, c *state.Changes) {
	if gone := c.Displaced(v); len(gone) > 0 {
		f.exec(dropObjectParts, pgUUIDs(gone))
	}
	if ended := c.Ended(); len(ended) > 0 {
		f.exec(dropUploadParts, ended)
	}
	for _, o := range c.PutParts {
		n := len(o.Parts)
		number, start, size, checksum := make([]int32, n), make([]int64, n), make([]int64, n), make([]string, n)
		for i, p := range o.Parts {
			number[i], start[i], size[i], checksum[i] = int32(p.Number), p.Start, p.Size, p.Checksum
		}
		f.exec(putObjectParts, pgUUID(o.Attempt), number, start, size, checksum, n)
	}
}

// KeepPart records a part of an upload; see [state.State]. One statement.
func (db *DB) KeepPart(ctx context.Context, p state.UploadPart) error {
	kept := false
	err := db.one(ctx, func() { kept = false }, func(rows pgx.Rows) error {
		var one int
		kept = true
		return rows.Scan(&one)
	}, keepPart, p.Upload, p.Number, p.ETag, p.Size, p.Algorithm, p.Checksum)
	if err == nil && !kept {
		return object.ErrNoSuchUpload
	}
	return err
}

// UploadParts returns recorded parts of an upload; see [state.State].
func (db *DB) UploadParts(ctx context.Context, upload string, names []state.PartName) ([]state.UploadPart, error) {
	numbers, etags := make([]int32, len(names)), make([]string, len(names))
	for i, n := range names {
		numbers[i], etags[i] = int32(n.Number), strings.ToValidUTF8(strings.ReplaceAll(n.ETag, "\x00", ""), "")
	}
	var list []state.UploadPart
	err := db.one(ctx, func() { list = nil }, func(rows pgx.Rows) error {
		p := state.UploadPart{Upload: upload}
		err := rows.Scan(&p.Number, &p.ETag, &p.Size, &p.Algorithm, &p.Checksum)
		list = append(list, p)
		return err
	}, listUploadParts, upload, numbers, etags)
	return list, err
}

// ObjectParts returns parts of an object; see [state.State].
func (db *DB) ObjectParts(ctx context.Context, attempt uuid.UUID, skip, limit int) ([]object.Part, error) {
	var list []object.Part
	err := db.one(ctx, func() { list = nil }, func(rows pgx.Rows) error {
		var p object.Part
		err := rows.Scan(&p.Number, &p.Start, &p.Size, &p.Checksum)
		list = append(list, p)
		return err
	}, listObjectParts, pgUUID(attempt), max(skip, 0), max(limit, 0))
	return list, err
}
