package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/s3fence/s3fence/internal/state"
)

// Lists are range scans of one index, in its order, in one statement and so in
// one snapshot. They take no locks. The limit is a subquery, whose value a planner
// does not know: where it takes a range for a few rows, because the table was filled
// since it was analysed, it would read all of them and sort. The end of a range is a parameter of a
// statement of its own, not an "or", so that every plan has both bounds.
const (
	listObjectsFrom = `
SELECT ` + objectColumns + ` FROM objects WHERE bucket = $1 AND key >= $2 ORDER BY key LIMIT (SELECT $3::bigint)`
	listObjectsTo = `
SELECT ` + objectColumns + ` FROM objects WHERE bucket = $1 AND key >= $2 AND key < $4 ORDER BY key LIMIT (SELECT $3::bigint)`
	listUploadsFrom = `
SELECT ` + uploadColumns + ` FROM uploads
 WHERE bucket = $1 AND (key, id) > ($2, $3) AND NOT completed ORDER BY key, id LIMIT (SELECT $4::bigint)`
	listUploadsTo = `
SELECT ` + uploadColumns + ` FROM uploads
 WHERE bucket = $1 AND (key, id) > ($2, $3) AND key < $5 AND NOT completed ORDER BY key, id LIMIT (SELECT $4::bigint)`
	listScopesFrom = `
SELECT ` + scopeColumns + ` FROM scopes WHERE scope >= $1 AND scope > $2 ORDER BY scope LIMIT (SELECT $3::bigint)`
	listScopesTo = `
SELECT ` + scopeColumns + ` FROM scopes WHERE scope >= $1 AND scope > $2 AND scope < $4 ORDER BY scope LIMIT (SELECT $3::bigint)`
	listGarbage = `
SELECT physical, found FROM garbage WHERE bucket = $1 AND found < $2 ORDER BY found, physical LIMIT (SELECT $3::bigint)`
)

// ListObjects returns objects of a range in key order; see [state.State].
func (db *DB) ListObjects(ctx context.Context, r state.Range, limit int) ([]state.Object, error) {
	sql, args := listObjectsFrom, []any{r.Bucket, []byte(r.From), max(limit, 0)}
	if r.To != "" {
		sql, args = listObjectsTo, append(args, []byte(r.To))
	}
	var list []state.Object
	err := db.one(ctx, func() { list = nil }, func(rows pgx.Rows) error {
		o, err := scanObject(rows)
		if err == nil {
			list = append(list, *o)
		}
		return err
	}, sql, args...)
	return list, err
}

// ListUploads returns open uploads of a range; see [state.State].
func (db *DB) ListUploads(ctx context.Context, r state.Range, afterID string, limit int) ([]state.Upload, error) {
	sql, args := listUploadsFrom, []any{r.Bucket, []byte(r.From), afterID, max(limit, 0)}
	if r.To != "" {
		sql, args = listUploadsTo, append(args, []byte(r.To))
	}
	var list []state.Upload
	err := db.one(ctx, func() { list = nil }, func(rows pgx.Rows) error {
		u, err := scanUpload(rows)
		if err == nil {
			list = append(list, *u)
		}
		return err
	}, sql, args...)
	return list, err
}

// ListScopes returns scopes by written form, with the database's time; see
// [state.State].
func (db *DB) ListScopes(ctx context.Context, prefix, after string, limit int) ([]state.Scope, time.Time, error) {
	sql, args := listScopesFrom, []any{[]byte(prefix), []byte(after), max(limit, 0)}
	if end, ok := afterPrefix(prefix); ok {
		sql, args = listScopesTo, append(args, end)
	}
	var list []state.Scope
	var now time.Time
	err := db.flush(ctx, func(f *pipeline) {
		list = nil
		f.query(func(rows pgx.Rows) error { return scanTime(rows, &now) }, readClock)
		f.query(func(rows pgx.Rows) error {
			s, err := scanScope(rows)
			list = append(list, s)
			return err
		}, sql, args...)
	})
	return list, now, err
}

// afterPrefix is the least string that is above everything with the prefix;
// there is none for a prefix of 0xff alone, nor for the empty one.
func afterPrefix(prefix string) ([]byte, bool) {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1], true
		}
	}
	return nil, false
}

// The lists of claims go backwards through the primary key.
const (
	listClaims       = `SELECT ` + claimColumns + ` FROM claims WHERE job = $1 ORDER BY slot DESC LIMIT (SELECT $2::bigint)`
	listClaimsBefore = `SELECT ` + claimColumns + ` FROM claims WHERE job = $1 AND slot < $3 ORDER BY slot DESC LIMIT (SELECT $2::bigint)`
)

// ListClaims returns the claims of a job, by slot and backwards; see [state.State].
func (db *DB) ListClaims(ctx context.Context, job, before string, limit int) ([]state.Claim, error) {
	sql, args := listClaims, []any{[]byte(job), max(limit, 0)}
	if before != "" {
		sql, args = listClaimsBefore, append(args, []byte(before))
	}
	var list []state.Claim
	err := db.one(ctx, func() { list = nil }, func(rows pgx.Rows) error {
		c, err := scanClaim(rows)
		list = append(list, c)
		return err
	}, sql, args...)
	return list, err
}

// ListGarbage returns garbage, oldest first; see [state.State].
func (db *DB) ListGarbage(ctx context.Context, bucket string, before time.Time, limit int) ([]state.Garbage, error) {
	var list []state.Garbage
	err := db.one(ctx, func() { list = nil }, func(rows pgx.Rows) error {
		g := state.Garbage{Bucket: bucket}
		var name []byte
		if err := rows.Scan(&name, &g.Found); err != nil {
			return err
		}
		g.Physical, g.Found = string(name), g.Found.UTC()
		list = append(list, g)
		return nil
	}, listGarbage, bucket, before, max(limit, 0))
	return list, err
}
