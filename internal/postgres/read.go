package postgres

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// The statements that read records by name. They take no row locks: in a
// transaction the advisory locks were taken before, by earlier statements.
const (
	readListVersion = `SELECT version, last_guard FROM guard_list`
	readAllGuards   = `SELECT ` + guardColumns + ` FROM guards ORDER BY id`
	readSomeGuards  = `SELECT ` + guardColumns + ` FROM guards WHERE id = ANY ($1::bigint[])`
	readSomeScopes  = `SELECT ` + scopeColumns + ` FROM scopes WHERE scope = ANY ($1::bytea[])`
	readOneObject   = `SELECT ` + objectColumns + ` FROM objects WHERE bucket = $1 AND key = $2`
	readSomeClaims  = `SELECT ` + claimColumns + ` FROM claims WHERE (job, slot) IN (SELECT * FROM unnest($1::bytea[], $2::bytea[]))`
	readSomeUploads = `SELECT ` + uploadColumns + ` FROM uploads WHERE id = ANY ($1::text[])`
)

// readSomeObjects looks each object up by the primary key. LATERAL with LIMIT
// keeps the planner from hashing the whole table for a batch of 64, which it
// prefers while the table is of middling size.
const readSomeObjects = `
SELECT o.* FROM unnest($1::text[], $2::bytea[]) AS q (bucket, key)
 CROSS JOIN LATERAL (
       SELECT ` + objectColumns + ` FROM objects WHERE bucket = q.bucket AND key = q.key LIMIT 1) AS o`

// readSomeRetries looks at every day that is not older than yesterday by the
// database's clock, so that a retry across midnight finds its answer. The bound is
// stable within the statement, which lets PostgreSQL leave out older partitions.
const readSomeRetries = `
SELECT id, result FROM retries
 WHERE id = ANY ($1::bytea[]) AND day >= (statement_timestamp() AT TIME ZONE 'UTC')::date - 1`

// readAllRetries looks at every day that is kept: what was promised of a named
// request is that its answer is found for as long as it is there.
const readAllRetries = `SELECT id, result FROM retries WHERE id = ANY ($1::bytea[])`

// readReferenced asks both tables in one statement and so in one snapshot: an
// upload that becomes an object in between is in one of them at any moment.
const readReferenced = `
SELECT a FROM unnest($1::uuid[]) AS a
 WHERE EXISTS (SELECT FROM objects WHERE attempt = a)
    OR EXISTS (SELECT FROM uploads WHERE attempt = a AND NOT completed)`

// readGuardList also reads the highest guard id ever given.
func readGuardList(f *pipeline, v *state.View, last *int64) {
	f.query(func(rows pgx.Rows) error { return rows.Scan(&v.GuardVersion, last) }, readListVersion)
	v.GuardList = []fence.Guard{}
	f.query(func(rows pgx.Rows) error {
		g, err := scanGuard(rows)
		v.GuardList = append(v.GuardList, g)
		return err
	}, readAllGuards)
}

func readGuards(f *pipeline, v *state.View, ids []fence.GuardID) {
	if len(ids) == 0 {
		return
	}
	f.query(func(rows pgx.Rows) error {
		g, err := scanGuard(rows)
		v.Guards[g.ID] = g
		return err
	}, readSomeGuards, integers(ids))
}

func readScopes(f *pipeline, v *state.View, scopes []fence.Scope) {
	if len(scopes) == 0 {
		return
	}
	f.query(func(rows pgx.Rows) error {
		s, err := scanScope(rows)
		v.Scopes[s.Scope] = s
		return err
	}, readSomeScopes, scopeNames(scopes))
}

func readObjects(f *pipeline, v *state.View, refs []object.Ref) {
	row := func(rows pgx.Rows) error {
		o, err := scanObject(rows)
		if err != nil {
			return err
		}
		v.Objects[o.Ref] = o
		return nil
	}
	switch len(refs) {
	case 0:
	case 1:
		f.query(row, readOneObject, refs[0].Bucket, []byte(refs[0].Key))
	default:
		buckets, keys := splitRefs(refs)
		f.query(row, readSomeObjects, buckets, keys)
	}
}

func readUploads(f *pipeline, v *state.View, ids []string) {
	if len(ids) == 0 {
		return
	}
	f.query(func(rows pgx.Rows) error {
		u, err := scanUpload(rows)
		if err != nil {
			return err
		}
		v.Uploads[u.ID] = u
		return nil
	}, readSomeUploads, ids)
}

func readClaims(f *pipeline, v *state.View, slots []state.Slot) {
	if len(slots) == 0 {
		return
	}
	jobs, names := make([][]byte, len(slots)), make([][]byte, len(slots))
	for i, s := range slots {
		jobs[i], names[i] = []byte(s.Job), []byte(s.Name)
	}
	f.query(func(rows pgx.Rows) error {
		c, err := scanClaim(rows)
		v.Claims[c.Slot] = &c
		return err
	}, readSomeClaims, jobs, names)
}

func readRetries(f *pipeline, v *state.View, statement string, ids []state.RetryID) {
	if len(ids) == 0 {
		return
	}
	names := make([][]byte, len(ids))
	for i := range ids {
		names[i] = ids[i][:]
	}
	f.query(func(rows pgx.Rows) error {
		var id, result []byte
		if err := rows.Scan(&id, &result); err != nil {
			return err
		}
		v.Retries[state.RetryID(id)] = result
		return nil
	}, statement, names)
}

func readAttempts(f *pipeline, v *state.View, ids []uuid.UUID) {
	if len(ids) == 0 {
		return
	}
	f.query(func(rows pgx.Rows) error {
		id, err := scanUUID(rows)
		v.Referenced[id] = true
		return err
	}, readReferenced, pgUUIDs(ids))
}

func integers[T ~int64](list []T) []int64 {
	out := make([]int64, len(list))
	for i, n := range list {
		out[i] = int64(n)
	}
	return out
}

func splitRefs(refs []object.Ref) (buckets []string, keys [][]byte) {
	buckets, keys = make([]string, len(refs)), make([][]byte, len(refs))
	for i, r := range refs {
		buckets[i], keys[i] = r.Bucket, []byte(r.Key)
	}
	return buckets, keys
}

// beginSnapshot makes the statements that follow see one moment. It lies after
// the call, since a snapshot is taken by the first of them.
const beginSnapshot = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`

// Read answers one Query in one round trip; see [state.Transactor]. A query for
// one kind of record is one statement and needs no transaction around it: a
// statement has one snapshot anyway.
func (db *DB) Read(ctx context.Context, q state.Query) (*state.View, error) {
	kinds := 0
	for _, n := range []int{len(q.Guards), len(q.Scopes), len(q.Objects), len(q.Slots), len(q.Uploads), len(q.Attempts), len(q.Lines)} {
		if n > 0 {
			kinds++
		}
	}
	v := newView()
	build := func(f *pipeline) {
		*v = *newView()
		if kinds > 1 {
			f.exec(beginSnapshot)
		}
		f.query(func(rows pgx.Rows) error { return scanTime(rows, &v.Now) }, readClock)
		readGuards(f, v, q.Guards)
		readScopes(f, v, q.Scopes)
		readObjects(f, v, q.Objects)
		readClaims(f, v, q.Slots)
		readUploads(f, v, q.Uploads)
		readAttempts(f, v, q.Attempts)
		readLines(f, v, q.Lines, q.Absent)
		if kinds > 1 {
			f.exec(commit)
		}
	}
	if err := db.flush(ctx, build); err != nil {
		return nil, err
	}
	return v, nil
}

// flush runs one pipeline that begins and ends by itself. On a connection that
// turns out dead it is built and run again on another one, so it must be
// repeatable: a read, or a write that may happen twice. Its errors are wrapped.
func (db *DB) flush(ctx context.Context, build func(*pipeline)) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	for try := 1; ; try++ {
		conn, err := db.acquire(ctx)
		if err != nil {
			return err
		}
		f := &pipeline{}
		build(f)
		_, err = f.run(ctx, conn.Conn())
		if err != nil && conn.Conn().PgConn().TxStatus() != 'I' {
			rollback(conn.Conn())
		}
		conn.Release()
		if err == nil {
			return nil
		}
		if !db.another(ctx, try, err) {
			return undone(err)
		}
	}
}

// one runs a single statement as a flush; row is called at each row, from the
// beginning again if the connection was dead: reset makes it forget.
func (db *DB) one(ctx context.Context, reset func(), row func(pgx.Rows) error, sql string, args ...any) error {
	return db.flush(ctx, func(f *pipeline) {
		reset()
		f.query(row, sql, args...)
	})
}
