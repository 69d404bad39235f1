package sqlite

import (
	"context"
	"time"

	"github.com/s3fence/s3fence/internal/state"
)

// Each list is one statement, and so one moment.
const (
	listObjectsSQL   = `SELECT ` + objectColumns + ` FROM objects WHERE bucket = ? AND key >= ? ORDER BY key LIMIT ?`
	listObjectsToSQL = `SELECT ` + objectColumns + ` FROM objects WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?`

	listUploadsSQL = `SELECT ` + uploadColumns + ` FROM uploads
	WHERE completed = 0 AND bucket = ? AND (key, id) > (?, ?) ORDER BY key, id LIMIT ?`
	listUploadsToSQL = `SELECT ` + uploadColumns + ` FROM uploads
	WHERE completed = 0 AND bucket = ? AND (key, id) > (?, ?) AND key < ? ORDER BY key, id LIMIT ?`

	// No scope has a byte 0xFF, so prefix and prefix + 0xFF enclose what begins
	// with the prefix.
	listScopesSQL = `SELECT ` + scopeColumns + ` FROM scopes WHERE scope > ? AND scope >= ? AND scope < ? ORDER BY scope LIMIT ?`

	// Backwards through the primary key.
	listClaimsSQL       = `SELECT ` + claimColumns + ` FROM claims WHERE job = ? ORDER BY slot DESC LIMIT ?`
	listClaimsBeforeSQL = `SELECT ` + claimColumns + ` FROM claims WHERE job = ? AND slot < ? ORDER BY slot DESC LIMIT ?`

	listGarbageSQL = `SELECT physical, found FROM garbage WHERE bucket = ? AND found < ? ORDER BY found, physical LIMIT ?`
)

// ListObjects lists objects in key order; see [state.State].
func (s *Store) ListObjects(ctx context.Context, r state.Range, limit int) (list []state.Object, err error) {
	query, args := listObjectsSQL, []any{r.Bucket, []byte(r.From), max(limit, 0)}
	if r.To != "" {
		query, args = listObjectsToSQL, []any{r.Bucket, []byte(r.From), []byte(r.To), max(limit, 0)}
	}
	err = s.reading(ctx, false, func(c *session) error {
		return c.each(query, args, func(scan func(...any) error) error {
			o, err := scanObject(scan)
			list = append(list, o)
			return err
		})
	})
	return list, err
}

// ListUploads lists open uploads by key and id; see [state.State].
func (s *Store) ListUploads(ctx context.Context, r state.Range, afterID string, limit int) (list []state.Upload, err error) {
	query, args := listUploadsSQL, []any{r.Bucket, []byte(r.From), afterID, max(limit, 0)}
	if r.To != "" {
		query, args = listUploadsToSQL, []any{r.Bucket, []byte(r.From), afterID, []byte(r.To), max(limit, 0)}
	}
	err = s.reading(ctx, false, func(c *session) error {
		return c.each(query, args, func(scan func(...any) error) error {
			u, err := scanUpload(scan)
			list = append(list, u)
			return err
		})
	})
	return list, err
}

// ListScopes lists scopes by written form, with the database's time; see
// [state.State].
func (s *Store) ListScopes(ctx context.Context, prefix, after string, limit int) (list []state.Scope, now time.Time, err error) {
	args := []any{after, prefix, prefix + "\xff", max(limit, 0)}
	err = s.reading(ctx, false, func(c *session) error {
		now = s.now()
		return c.each(listScopesSQL, args, func(scan func(...any) error) error {
			row, err := scanScope(scan)
			list = append(list, row)
			return err
		})
	})
	return list, now, err
}

// ListClaims lists the claims of a job, by slot and backwards; see [state.State].
func (s *Store) ListClaims(ctx context.Context, job, before string, limit int) (list []state.Claim, err error) {
	query, args := listClaimsSQL, []any{job, max(limit, 0)}
	if before != "" {
		query, args = listClaimsBeforeSQL, []any{job, before, max(limit, 0)}
	}
	err = s.reading(ctx, false, func(c *session) error {
		return c.each(query, args, func(scan func(...any) error) error {
			cl, err := scanClaim(scan)
			list = append(list, cl)
			return err
		})
	})
	return list, err
}

// ListGarbage lists garbage, oldest first, then by name; see [state.State].
func (s *Store) ListGarbage(ctx context.Context, bucket string, before time.Time, limit int) (list []state.Garbage, err error) {
	args := []any{bucket, before.UnixMicro(), max(limit, 0)}
	err = s.reading(ctx, false, func(c *session) error {
		return c.each(listGarbageSQL, args, func(scan func(...any) error) error {
			var physical []byte
			var found int64
			err := scan(&physical, &found)
			list = append(list, state.Garbage{Bucket: bucket, Physical: string(physical), Found: time.UnixMicro(found).UTC()})
			return err
		})
	})
	return list, err
}
