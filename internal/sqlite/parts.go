package sqlite

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

const (
	// keepPartSQL writes nothing where the upload is not open.
	keepPartSQL = `INSERT INTO upload_parts (upload, number, etag, size, algorithm, checksum)
	SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM uploads WHERE id = ?1 AND completed = 0)
	ON CONFLICT (upload, number, etag) DO UPDATE SET size = excluded.size, algorithm = excluded.algorithm, checksum = excluded.checksum`
	uploadPartsSQL = `SELECT number, etag, size, algorithm, checksum FROM upload_parts
	WHERE upload = ? AND number BETWEEN ? AND ? ORDER BY number, etag`
	dropUploadPartsSQL = `DELETE FROM upload_parts WHERE upload = ?`

	addObjectPartSQL   = `INSERT INTO object_parts (attempt, position, number, start, size, checksum) VALUES (?, ?, ?, ?, ?, ?)`
	objectPartsSQL     = `SELECT number, start, size, checksum FROM object_parts WHERE attempt = ? AND position > ? ORDER BY position LIMIT ?`
	dropObjectPartsSQL = `DELETE FROM object_parts WHERE attempt = ?`
)

// writeParts writes the parts of new objects and drops those of what went. The
// parts of dropped uploads have gone with them (ON DELETE CASCADE).
func (w *writing) writeParts(v *state.View, c *state.Changes) error {
	for _, attempt := range c.Displaced(v) {
		if err := w.run(dropObjectPartsSQL, attempt[:]); err != nil {
			return err
		}
	}
	for _, id := range c.Ended() {
		if err := w.run(dropUploadPartsSQL, id); err != nil {
			return err
		}
	}
	for _, o := range c.PutParts {
		for i, p := range o.Parts {
			if err := w.run(addObjectPartSQL, o.Attempt[:], i+1, p.Number, p.Start, p.Size, p.Checksum); err != nil {
				return err
			}
		}
	}
	return nil
}

// KeepPart records a part of an upload; see [state.State].
func (s *Store) KeepPart(ctx context.Context, p state.UploadPart) error {
	return s.once(ctx, func(w *writing) error {
		result, err := w.exec(keepPartSQL, p.Upload, p.Number, p.ETag, p.Size, p.Algorithm, p.Checksum)
		if err != nil {
			return failed(err)
		}
		n, err := result.RowsAffected()
		if err == nil && n == 0 {
			return object.ErrNoSuchUpload
		}
		return failed(err)
	})
}

// UploadParts returns recorded parts of an upload; see [state.State].
func (s *Store) UploadParts(ctx context.Context, upload string, names []state.PartName) (list []state.UploadPart, err error) {
	wanted := make(map[state.PartName]bool, len(names))
	from, to := 0, 0
	for i, n := range names {
		if i == 0 {
			from = n.Number
		}
		from, to = min(from, n.Number), max(to, n.Number)
		wanted[state.PartName{Number: n.Number, ETag: strings.ToLower(n.ETag)}] = true
	}
	err = s.reading(ctx, false, func(c *session) error {
		return c.each(uploadPartsSQL, []any{upload, from, to}, func(scan func(...any) error) error {
			p := state.UploadPart{Upload: upload}
			err := scan(&p.Number, &p.ETag, &p.Size, &p.Algorithm, &p.Checksum)
			if wanted[state.PartName{Number: p.Number, ETag: strings.ToLower(p.ETag)}] {
				list = append(list, p)
			}
			return err
		})
	})
	return list, err
}

// ObjectParts returns parts of an object; see [state.State].
func (s *Store) ObjectParts(ctx context.Context, attempt uuid.UUID, skip, limit int) (list []object.Part, err error) {
	err = s.reading(ctx, false, func(c *session) error {
		return c.each(objectPartsSQL, []any{attempt[:], max(skip, 0), max(limit, 0)}, func(scan func(...any) error) error {
			var p object.Part
			err := scan(&p.Number, &p.Start, &p.Size, &p.Checksum)
			list = append(list, p)
			return err
		})
	})
	return list, err
}
