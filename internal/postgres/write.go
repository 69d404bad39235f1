package postgres

import (
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// The writes of the second flush. All rows of a kind are one statement; the
// locks on their names are held, so none of them waits for a row (dropPlaces,
// putUploads and dropUploads may, for moments). A row that was silently not written fails its statement
// (must_write), while COMMIT has not been reached yet.

// insertOutcome comes first: where somebody has decided this transaction as
// aborted, or is doing so, it fails (or waits and fails) before anything else is
// written.
const insertOutcome = `INSERT INTO outcomes (day, id, verdict) VALUES ($1, $2, $3)`

const putScopes = `
WITH written AS (
INSERT INTO scopes (` + scopeColumns + `)
SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::timestamptz[],
       $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::bigint[], $13::text[])
ON CONFLICT (scope) DO UPDATE SET
       generation = excluded.generation, token = excluded.token, writes = excluded.writes,
       epoch = excluded.epoch, horizon = excluded.horizon, epoch_since = excluded.epoch_since,
       holder = excluded.holder, owner = excluded.owner, granted = excluded.granted,
       lease_until = excluded.lease_until, ttl_ns = excluded.ttl_ns, ticket = excluded.ticket
RETURNING 1)
SELECT must_write($14, count(*)) FROM written`

const putObjects = `
WITH written AS (
INSERT INTO objects (` + objectColumns + `)
SELECT bucket, key, scope, token, attempt, physical, size, etag, modified, attributes::json
  FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bigint[], $5::uuid[], $6::bytea[], $7::bigint[], $8::text[],
       $9::timestamptz[], $10::text[])
    AS o (bucket, key, scope, token, attempt, physical, size, etag, modified, attributes)
ON CONFLICT (bucket, key) DO UPDATE SET
       scope = excluded.scope, token = excluded.token, attempt = excluded.attempt, physical = excluded.physical,
       size = excluded.size, etag = excluded.etag, modified = excluded.modified, attributes = excluded.attributes
RETURNING 1)
SELECT must_write($11, count(*)) FROM written`

const dropObjects = `
DELETE FROM objects o USING unnest($1::text[], $2::bytea[]) AS q (bucket, key)
 WHERE o.bucket = q.bucket AND o.key = q.key`

const putUploads = `
WITH written AS (
INSERT INTO uploads (` + uploadColumns + `)
SELECT id, bucket, key, scope, token, generation, creator, attempt, physical, upstream, initiated, attributes::json,
       completed, digest, etag, size
  FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[], $7::text[], $8::uuid[],
       $9::bytea[], $10::text[], $11::timestamptz[], $12::text[], $13::boolean[], $14::text[], $15::text[], $16::bigint[])
    AS u (id, bucket, key, scope, token, generation, creator, attempt, physical, upstream, initiated, attributes,
       completed, digest, etag, size)
ON CONFLICT (id) DO UPDATE SET
       bucket = excluded.bucket, key = excluded.key, scope = excluded.scope, token = excluded.token,
       generation = excluded.generation, creator = excluded.creator, attempt = excluded.attempt,
       physical = excluded.physical, upstream = excluded.upstream, initiated = excluded.initiated,
       attributes = excluded.attributes, completed = excluded.completed, digest = excluded.digest,
       etag = excluded.etag, size = excluded.size, changed = clock_timestamp()
RETURNING 1)
SELECT must_write($17, count(*)) FROM written`

const dropUploads = `DELETE FROM uploads WHERE id = ANY ($1::text[])`

// putClaims fails where the slot is claimed already: the program has looked, under
// the slot's lock.
const putClaims = `
WITH written AS (
INSERT INTO claims (` + claimColumns + `)
SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
RETURNING 1)
SELECT must_write($7, count(*)) FROM written`

// putRetries fails where another attempt of the request committed today; that one
// did on another day is seen by the reads, under the key's lock or the request's.
const putRetries = `
WITH written AS (
INSERT INTO retries (day, id, result)
SELECT (statement_timestamp() AT TIME ZONE 'UTC')::date, id, result FROM unnest($1::bytea[], $2::bytea[]) AS r (id, result)
RETURNING 1)
SELECT must_write($3, count(*)) FROM written`

// Guards are few and change seldom: one statement each. The trigger on guards
// refuses an id that was used before, so insertions come before the list's row.
const (
	insertGuard = `
WITH written AS (
INSERT INTO guards (` + guardColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING 1)
SELECT must_write(1, count(*)) FROM written`
	replaceGuard = `
WITH written AS (
UPDATE guards SET pattern = $2, writes = $3, tokens = $4, issuer = $5, max_jump = $6, state = $7, created = $8, lock_delay_ns = $9
 WHERE id = $1 RETURNING 1)
SELECT must_write(1, count(*)) FROM written`
	dropGuards = `DELETE FROM guards WHERE id = ANY ($1::bigint[])`
	// raiseGuardList runs under the list's exclusive lock.
	raiseGuardList = `
WITH written AS (
UPDATE guard_list SET version = version + 1, last_guard = greatest(last_guard, $1) RETURNING 1)
SELECT must_write(1, count(*)) FROM written`
)

const (
	addGarbage = `
INSERT INTO garbage (bucket, physical, found)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::timestamptz[])
ON CONFLICT (bucket, physical) DO NOTHING`
	dropGarbage = `
DELETE FROM garbage g USING unnest($1::text[], $2::bytea[]) AS q (bucket, physical)
 WHERE g.bucket = q.bucket AND g.physical = q.physical`
)

// write adds the statements that make the changes.
func write(f *pipeline, v *state.View, c *state.Changes, lastGuard *int64) error {
	if err := writeGuards(f, c, lastGuard); err != nil {
		return err
	}
	writeScopes(f, c.Scopes)
	if len(c.DropObjects) > 0 {
		buckets, keys := splitRefs(c.DropObjects)
		f.exec(dropObjects, buckets, keys)
	}
	if err := writeObjects(f, c.PutObjects); err != nil {
		return err
	}
	if len(c.DropUploads) > 0 {
		f.exec(dropUploads, c.DropUploads)
	}
	if err := writeUploads(f, c.PutUploads); err != nil {
		return err
	}
	writeParts(f, v, c)
	writeClaims(f, c.Claims)
	if n := len(c.Retries); n > 0 {
		ids, results := make([][]byte, n), make([][]byte, n)
		for i := range c.Retries {
			// An empty result is not NULL.
			ids[i], results[i] = c.Retries[i].ID[:], append([]byte{}, c.Retries[i].Result...)
		}
		f.exec(putRetries, ids, results, n)
	}
	if err := writeEvents(f, c.Events); err != nil {
		return err
	}
	if len(c.DropGarbage) > 0 {
		buckets, names, _ := splitGarbage(c.DropGarbage)
		f.exec(dropGarbage, buckets, names)
	}
	if len(c.AddGarbage) > 0 {
		buckets, names, found := splitGarbage(c.AddGarbage)
		f.exec(addGarbage, buckets, names, found)
	}
	writePlaces(f, c.DropPlaces)
	return nil
}

func writeGuards(f *pipeline, c *state.Changes, lastGuard *int64) error {
	if len(c.PutGuards)+len(c.DropGuards) == 0 {
		return nil
	}
	if lastGuard == nil {
		return errListNotLocked
	}
	if len(c.DropGuards) > 0 {
		f.exec(dropGuards, integers(c.DropGuards))
	}
	for _, g := range c.PutGuards {
		statement := replaceGuard
		if g.ID == 0 {
			*lastGuard++
			g.ID = fence.GuardID(*lastGuard)
			statement = insertGuard
		}
		f.exec(statement, int64(g.ID), []byte(g.Pattern.String()), string(g.Writes), string(g.Tokens), string(g.Issuer),
			g.MaxJump, string(g.State), moment(g.Created), int64(g.LockDelay))
	}
	f.exec(raiseGuardList, *lastGuard)
	return nil
}

var errListNotLocked = fmt.Errorf("guards are changed by a transaction that did not lock their list")

func writeScopes(f *pipeline, list []state.Scope) {
	n := len(list)
	if n == 0 {
		return
	}
	scope, writes := make([][]byte, n), make([]string, n)
	generation, token, epoch, horizon, ttl := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	holder, owner, ticket := make([]string, n), make([]string, n), make([]string, n)
	since, granted, lease := make([]pgtype.Timestamptz, n), make([]pgtype.Timestamptz, n), make([]pgtype.Timestamptz, n)
	for i := range list {
		s := &list[i]
		scope[i], writes[i] = []byte(s.Scope.String()), string(s.Writes)
		generation[i], token[i] = int64(s.Mark.Generation), int64(s.Mark.Token)
		epoch[i], horizon[i], since[i] = s.Epoch, s.Horizon, moment(s.EpochSince)
		holder[i], owner[i], granted[i] = s.Last.Holder, s.Last.Owner, moment(s.Last.At)
		lease[i], ttl[i], ticket[i] = moment(s.LeaseUntil), int64(s.TTL), s.Ticket
	}
	f.exec(putScopes, scope, generation, token, writes, epoch, horizon, since, holder, owner, granted, lease, ttl, ticket, n)
}

func writeObjects(f *pipeline, list []state.Object) error {
	n := len(list)
	if n == 0 {
		return nil
	}
	bucket, key, scope, token := make([]string, n), make([][]byte, n), make([][]byte, n), make([]int64, n)
	attempt, physical, size := make([]pgtype.UUID, n), make([][]byte, n), make([]int64, n)
	etag, modified, attributes := make([]string, n), make([]pgtype.Timestamptz, n), make([]string, n)
	for i := range list {
		o := &list[i]
		packed, err := packAttributes(&o.Attributes)
		if err != nil {
			return fmt.Errorf("object %s: %w", o.Ref, err)
		}
		bucket[i], key[i], scope[i], token[i] = o.Bucket, []byte(o.Key), []byte(o.Scope.String()), int64(o.Token)
		attempt[i], physical[i], size[i] = pgUUID(o.Attempt), []byte(o.Physical), o.Size
		etag[i], modified[i], attributes[i] = o.ETag, moment(o.Modified), packed
	}
	f.exec(putObjects, bucket, key, scope, token, attempt, physical, size, etag, modified, attributes, n)
	return nil
}

func writeUploads(f *pipeline, list []state.Upload) error {
	n := len(list)
	if n == 0 {
		return nil
	}
	id, bucket, key, scope := make([]string, n), make([]string, n), make([][]byte, n), make([][]byte, n)
	token, generation, creator := make([]int64, n), make([]int64, n), make([]string, n)
	attempt, physical, upstream := make([]pgtype.UUID, n), make([][]byte, n), make([]string, n)
	initiated, attributes, completed := make([]pgtype.Timestamptz, n), make([]string, n), make([]bool, n)
	digest, etag, size := make([]string, n), make([]string, n), make([]int64, n)
	for i := range list {
		u := &list[i]
		packed, err := packAttributes(&u.Attributes)
		if err != nil {
			return fmt.Errorf("upload %s: %w", u.ID, err)
		}
		id[i], bucket[i], key[i], scope[i] = u.ID, u.Bucket, []byte(u.Key), []byte(u.Scope.String())
		token[i], generation[i], creator[i] = int64(u.Token), int64(u.Generation), u.Creator
		attempt[i], physical[i], upstream[i] = pgUUID(u.Attempt), []byte(u.Physical), u.Upstream
		initiated[i], attributes[i], completed[i] = moment(u.Initiated), packed, u.Completed
		digest[i], etag[i], size[i] = u.Digest, u.ETag, u.Size
	}
	f.exec(putUploads, id, bucket, key, scope, token, generation, creator, attempt, physical, upstream, initiated, attributes,
		completed, digest, etag, size, n)
	return nil
}

func writeClaims(f *pipeline, list []state.Claim) {
	n := len(list)
	if n == 0 {
		return
	}
	job, slot, holder, owner := make([][]byte, n), make([][]byte, n), make([]string, n), make([]string, n)
	claimed, keep := make([]pgtype.Timestamptz, n), make([]pgtype.Timestamptz, n)
	for i := range list {
		c := &list[i]
		job[i], slot[i], holder[i], owner[i] = []byte(c.Job), []byte(c.Name), c.Holder, c.Owner
		claimed[i], keep[i] = moment(c.At), moment(c.KeepUntil)
	}
	f.exec(putClaims, job, slot, holder, owner, claimed, keep, n)
}

func splitGarbage(list []state.Garbage) (buckets []string, names [][]byte, found []time.Time) {
	for _, g := range list {
		buckets, names, found = append(buckets, g.Bucket), append(names, []byte(g.Physical)), append(found, g.Found)
	}
	return buckets, names, found
}
