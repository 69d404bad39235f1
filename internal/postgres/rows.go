package postgres

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// The columns of each record, in the order in which its scan function takes them.
const (
	guardColumns  = `id, pattern, writes, tokens, issuer, max_jump, state, created, lock_delay_ns`
	scopeColumns  = `scope, generation, token, writes, epoch, horizon, epoch_since, holder, owner, granted, lease_until, ttl_ns, ticket`
	objectColumns = `bucket, key, scope, token, attempt, physical, size, etag, modified, attributes`
	claimColumns  = `job, slot, holder, owner, claimed, keep_until`
	eventColumns  = `id, at, kind, scope, bucket, key, guard, token, highest, count, details`
	uploadColumns = `id, bucket, key, scope, token, generation, creator, attempt, physical, upstream, initiated, attributes, completed, digest, etag, size`
)

// moment is a time as a column has it; the zero time is NULL.
func moment(t time.Time) pgtype.Timestamptz {
	return pgtype.Timestamptz{Time: t, Valid: !t.IsZero()}
}

func fromMoment(t pgtype.Timestamptz) time.Time {
	if !t.Valid {
		return time.Time{}
	}
	return t.Time.UTC()
}

func scanTime(rows pgx.Rows, t *time.Time) error {
	if err := rows.Scan(t); err != nil {
		return err
	}
	*t = t.UTC()
	return nil
}

func packAttributes(a *object.Attributes) (string, error) {
	b, err := json.Marshal(a)
	if err != nil {
		return "", fmt.Errorf("attributes: %w", err)
	}
	return string(b), nil
}

func unpackAttributes(b []byte, a *object.Attributes) error {
	if string(b) == "{}" {
		return nil
	}
	if err := json.Unmarshal(b, a); err != nil {
		return fmt.Errorf("attributes: %w", err)
	}
	return nil
}

// parseScope reads a scope that we wrote. One that cannot be read is a damaged
// row, which must not be taken for "no row".
func parseScope(b []byte) (fence.Scope, error) {
	s, err := fence.ParseScope(string(b))
	if err != nil {
		return s, fmt.Errorf("damaged row: %w", err)
	}
	return s, nil
}

func scanGuard(rows pgx.Rows) (g fence.Guard, err error) {
	var pattern []byte
	var created pgtype.Timestamptz
	if err = rows.Scan(&g.ID, &pattern, (*string)(&g.Writes), (*string)(&g.Tokens), (*string)(&g.Issuer), &g.MaxJump, (*string)(&g.State), &created, &g.LockDelay); err != nil {
		return g, err
	}
	if g.Pattern, err = fence.ParsePattern(string(pattern)); err != nil {
		return g, fmt.Errorf("damaged row of guard %d: %w", g.ID, err)
	}
	g.Created = fromMoment(created)
	return g, nil
}

func scanScope(rows pgx.Rows) (s state.Scope, err error) {
	var name []byte
	var since, granted, lease pgtype.Timestamptz
	if err = rows.Scan(&name, &s.Mark.Generation, &s.Mark.Token, (*string)(&s.Writes), &s.Epoch, &s.Horizon, &since,
		&s.Last.Holder, &s.Last.Owner, &granted, &lease, &s.TTL, &s.Ticket); err != nil {
		return s, err
	}
	s.Scope, err = parseScope(name)
	s.EpochSince, s.Last.At, s.LeaseUntil = fromMoment(since), fromMoment(granted), fromMoment(lease)
	return s, err
}

func scanObject(rows pgx.Rows) (*state.Object, error) {
	o := &state.Object{}
	var key, scope, physical, attributes []byte
	var modified pgtype.Timestamptz
	err := rows.Scan(&o.Bucket, &key, &scope, &o.Token, (*[16]byte)(&o.Attempt), &physical, &o.Size, &o.ETag, &modified, &attributes)
	if err != nil {
		return nil, err
	}
	o.Key, o.Physical, o.Modified = string(key), string(physical), fromMoment(modified)
	if o.Scope, err = parseScope(scope); err != nil {
		return nil, err
	}
	return o, unpackAttributes(attributes, &o.Attributes)
}

func scanUpload(rows pgx.Rows) (*state.Upload, error) {
	u := &state.Upload{}
	var key, scope, physical, attributes []byte
	var initiated pgtype.Timestamptz
	err := rows.Scan(&u.ID, &u.Bucket, &key, &scope, &u.Token, &u.Generation, &u.Creator, (*[16]byte)(&u.Attempt), &physical,
		&u.Upstream, &initiated, &attributes, &u.Completed, &u.Digest, &u.ETag, &u.Size)
	if err != nil {
		return nil, err
	}
	u.Key, u.Physical, u.Initiated = string(key), string(physical), fromMoment(initiated)
	if u.Scope, err = parseScope(scope); err != nil {
		return nil, err
	}
	return u, unpackAttributes(attributes, &u.Attributes)
}

func scanClaim(rows pgx.Rows) (c state.Claim, err error) {
	var job, slot []byte
	err = rows.Scan(&job, &slot, &c.Holder, &c.Owner, &c.At, &c.KeepUntil)
	c.Job, c.Name, c.At, c.KeepUntil = string(job), string(slot), c.At.UTC(), c.KeepUntil.UTC()
	return c, err
}

func scanEvent(rows pgx.Rows) (e state.Event, err error) {
	var scope, key, guard, details []byte
	if err = rows.Scan(&e.ID, &e.Time, (*string)(&e.Kind), &scope, &e.Bucket, &key, &guard, &e.Token, &e.Highest, &e.Count, &details); err != nil {
		return e, err
	}
	e.Time, e.Key, e.Guard = e.Time.UTC(), string(key), string(guard)
	if len(scope) > 0 {
		if e.Scope, err = parseScope(scope); err != nil {
			return e, err
		}
	}
	return e, e.SetDetails(details)
}

func scanUUID(rows pgx.Rows) (id uuid.UUID, err error) {
	err = rows.Scan((*[16]byte)(&id))
	return id, err
}
