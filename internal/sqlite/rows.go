package sqlite

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// micros is a time as a column keeps it; nil for the zero time.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func fromMicros(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMicro(n.Int64).UTC()
}

// attributesJSON is the column of an object's attributes; most have none.
func attributesJSON(a *object.Attributes) (string, error) {
	if a.Headers == nil && a.Meta == nil && a.Checksums == nil && a.ChecksumType == "" && a.Tags == nil && a.Parts == 0 && a.Algorithm == "" && a.Class == "" {
		return "{}", nil
	}
	b, err := json.Marshal(a)
	return string(b), err
}

func parseAttributes(s []byte, a *object.Attributes) error {
	if len(s) == 2 {
		return nil
	}
	if err := json.Unmarshal(s, a); err != nil {
		return fmt.Errorf("the attributes of a row cannot be read: %w", err)
	}
	return nil
}

// scan reads columns of a row, as sql.Rows.Scan does.
type scan = func(...any) error

const scopeColumns = `scope, generation, token, writes, epoch, horizon, epoch_since, holder, owner, granted, lease_until, ttl_ns, ticket`

func scanScope(scan scan) (row state.Scope, err error) {
	var name string
	var since, granted, until sql.NullInt64
	err = scan(&name, &row.Mark.Generation, &row.Mark.Token, &row.Writes, &row.Epoch, &row.Horizon, &since,
		&row.Last.Holder, &row.Last.Owner, &granted, &until, &row.TTL, &row.Ticket)
	if err != nil {
		return row, err
	}
	row.EpochSince, row.Last.At, row.LeaseUntil = fromMicros(since), fromMicros(granted), fromMicros(until)
	row.Scope, err = fence.ParseScope(name)
	return row, err
}

const objectColumns = `bucket, key, scope, token, attempt, physical, size, etag, modified, attributes`

func scanObject(scan scan) (o state.Object, err error) {
	var key, physical, attributes []byte
	var scope string
	var modified sql.NullInt64
	err = scan(&o.Bucket, &key, &scope, &o.Token, (*uuidColumn)(&o.Attempt), &physical, &o.Size, &o.ETag, &modified, &attributes)
	if err != nil {
		return o, err
	}
	o.Key, o.Physical, o.Modified = string(key), string(physical), fromMicros(modified)
	if o.Scope, err = fence.ParseScope(scope); err != nil {
		return o, err
	}
	return o, parseAttributes(attributes, &o.Attributes)
}

const uploadColumns = `id, bucket, key, scope, token, generation, creator, attempt, physical, upstream, initiated, attributes,
	completed, digest, etag, size`

func scanUpload(scan scan) (u state.Upload, err error) {
	var key, physical, attributes []byte
	var scope string
	var initiated sql.NullInt64
	err = scan(&u.ID, &u.Bucket, &key, &scope, &u.Token, &u.Generation, &u.Creator, (*uuidColumn)(&u.Attempt), &physical,
		&u.Upstream, &initiated, &attributes, &u.Completed, &u.Digest, &u.ETag, &u.Size)
	if err != nil {
		return u, err
	}
	u.Key, u.Physical, u.Initiated = string(key), string(physical), fromMicros(initiated)
	if u.Scope, err = fence.ParseScope(scope); err != nil {
		return u, err
	}
	return u, parseAttributes(attributes, &u.Attributes)
}

const claimColumns = `job, slot, holder, owner, claimed, keep_until`

func scanClaim(scan scan) (c state.Claim, err error) {
	var at, keep int64
	err = scan(&c.Job, &c.Name, &c.Holder, &c.Owner, &at, &keep)
	c.At, c.KeepUntil = time.UnixMicro(at).UTC(), time.UnixMicro(keep).UTC()
	return c, err
}

// eventColumns are those of an event but its id, which an insertion does not name.
const eventColumns = `at, kind, scope, bucket, key, guard, token, highest, count, details`

func scanEvent(scan scan) (e state.Event, err error) {
	var at int64
	var scope string
	var key, details []byte
	if err = scan(&e.ID, &at, &e.Kind, &scope, &e.Bucket, &key, &e.Guard, &e.Token, &e.Highest, &e.Count, &details); err != nil {
		return e, err
	}
	e.Time, e.Key = time.UnixMicro(at).UTC(), string(key)
	if scope != "" {
		if e.Scope, err = fence.ParseScope(scope); err != nil {
			return e, err
		}
	}
	return e, e.SetDetails(details)
}

const guardColumns = `id, pattern, writes, tokens, issuer, max_jump, state, created, lock_delay_ns`

func scanGuard(scan scan) (g fence.Guard, err error) {
	var pattern string
	var created sql.NullInt64
	if err = scan(&g.ID, &pattern, &g.Writes, &g.Tokens, &g.Issuer, &g.MaxJump, &g.State, &created, &g.LockDelay); err != nil {
		return g, err
	}
	g.Created = fromMicros(created)
	g.Pattern, err = fence.ParsePattern(pattern)
	return g, err
}
