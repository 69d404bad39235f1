package sqlite

import (
	"fmt"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// The statements that write. What is dropped goes first, so that a name may move
// from one row to another in one transaction. All of them run under the file's
// one lock, taken by BEGIN IMMEDIATE before anything was read.
const (
	putScopeSQL = `INSERT INTO scopes (` + scopeColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT (scope) DO UPDATE SET generation = excluded.generation, token = excluded.token, writes = excluded.writes,
		epoch = excluded.epoch, horizon = excluded.horizon, epoch_since = excluded.epoch_since, holder = excluded.holder,
		owner = excluded.owner, granted = excluded.granted, lease_until = excluded.lease_until, ttl_ns = excluded.ttl_ns,
		ticket = excluded.ticket`

	putObjectSQL = `INSERT INTO objects (` + objectColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT (bucket, key) DO UPDATE SET scope = excluded.scope, token = excluded.token, attempt = excluded.attempt,
		physical = excluded.physical, size = excluded.size, etag = excluded.etag, modified = excluded.modified,
		attributes = excluded.attributes`
	dropObjectSQL = `DELETE FROM objects WHERE bucket = ? AND key = ?`

	putUploadSQL = `INSERT INTO uploads (` + uploadColumns + `, changed)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT (id) DO UPDATE SET bucket = excluded.bucket, key = excluded.key, scope = excluded.scope,
		token = excluded.token, generation = excluded.generation, creator = excluded.creator, attempt = excluded.attempt,
		physical = excluded.physical, upstream = excluded.upstream, initiated = excluded.initiated,
		attributes = excluded.attributes, completed = excluded.completed, digest = excluded.digest, etag = excluded.etag,
		size = excluded.size, changed = excluded.changed`
	dropUploadSQL = `DELETE FROM uploads WHERE id = ?`

	// addClaimSQL fails where the slot is claimed already.
	addClaimSQL = `INSERT INTO claims (` + claimColumns + `) VALUES (?, ?, ?, ?, ?, ?)`

	// putRetrySQL fails where another attempt of the request committed.
	putRetrySQL = `INSERT INTO retries (id, result, at) VALUES (?, ?, ?)`

	addGuardSQL = `INSERT INTO guards (pattern, writes, tokens, issuer, max_jump, state, created, lock_delay_ns)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
	setGuardSQL = `UPDATE guards SET pattern = ?, writes = ?, tokens = ?, issuer = ?, max_jump = ?, state = ?, created = ?,
		lock_delay_ns = ? WHERE id = ?`
	dropGuardSQL = `DELETE FROM guards WHERE id = ?`
	listMovedSQL = `UPDATE guard_list SET version = version + 1`

	// The id is one above the highest that was ever given (AUTOINCREMENT).
	addEventSQL = `INSERT INTO events (stored, ` + eventColumns + `) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

	addGarbageSQL  = `INSERT INTO garbage (bucket, physical, found) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`
	dropGarbageSQL = `DELETE FROM garbage WHERE bucket = ? AND physical = ?`
)

// write writes changes; the first error ends it.
func (w *writing) write(v *state.View, c *state.Changes) error {
	for i := range c.Scopes {
		r := &c.Scopes[i]
		if err := w.run(putScopeSQL, r.Scope.String(), int64(r.Mark.Generation), int64(r.Mark.Token), string(r.Writes),
			r.Epoch, r.Horizon, micros(r.EpochSince), r.Last.Holder, r.Last.Owner, micros(r.Last.At),
			micros(r.LeaseUntil), int64(r.TTL), r.Ticket); err != nil {
			return err
		}
	}
	if err := w.writeObjects(c); err != nil {
		return err
	}
	if err := w.writeUploads(c); err != nil {
		return err
	}
	if err := w.writeParts(v, c); err != nil {
		return err
	}
	for i := range c.Claims {
		cl := &c.Claims[i]
		if err := w.run(addClaimSQL, cl.Job, cl.Name, cl.Holder, cl.Owner, micros(cl.At), micros(cl.KeepUntil)); err != nil {
			return err
		}
	}
	for i := range c.Retries {
		r := &c.Retries[i]
		if err := w.run(putRetrySQL, r.ID[:], append([]byte{}, r.Result...), micros(w.now)); err != nil {
			return err
		}
	}
	if err := w.writeGuards(c); err != nil {
		return err
	}
	for i := range c.Events {
		e := &c.Events[i]
		details, err := e.Details()
		if err != nil {
			return err
		}
		if err := w.run(addEventSQL, micros(w.now), micros(e.Time), string(e.Kind), e.Scope.String(), e.Bucket, []byte(e.Key),
			e.Guard, int64(e.Token), int64(e.Highest), e.Count, details); err != nil {
			return err
		}
	}
	for _, g := range c.DropGarbage {
		if err := w.run(dropGarbageSQL, g.Bucket, []byte(g.Physical)); err != nil {
			return err
		}
	}
	for _, g := range c.AddGarbage {
		if err := w.run(addGarbageSQL, g.Bucket, []byte(g.Physical), micros(g.Found)); err != nil {
			return err
		}
	}
	for _, id := range c.DropPlaces {
		if err := w.run(dropPlaceSQL, id.Scope.String(), id.Holder, id.Ticket); err != nil {
			return err
		}
	}
	return nil
}

func (w *writing) writeObjects(c *state.Changes) error {
	for _, ref := range c.DropObjects {
		if err := w.run(dropObjectSQL, ref.Bucket, []byte(ref.Key)); err != nil {
			return err
		}
	}
	for i := range c.PutObjects {
		o := &c.PutObjects[i]
		attributes, err := attributesJSON(&o.Attributes)
		if err != nil {
			return fmt.Errorf("the attributes of %s cannot be written: %w", o.Ref, err)
		}
		if err := w.run(putObjectSQL, o.Bucket, []byte(o.Key), o.Scope.String(), int64(o.Token), o.Attempt[:],
			[]byte(o.Physical), o.Size, o.ETag, micros(o.Modified), attributes); err != nil {
			return err
		}
	}
	return nil
}

func (w *writing) writeUploads(c *state.Changes) error {
	for _, id := range c.DropUploads {
		if err := w.run(dropUploadSQL, id); err != nil {
			return err
		}
	}
	for i := range c.PutUploads {
		u := &c.PutUploads[i]
		attributes, err := attributesJSON(&u.Attributes)
		if err != nil {
			return fmt.Errorf("the attributes of upload %s cannot be written: %w", u.ID, err)
		}
		if err := w.run(putUploadSQL, u.ID, u.Bucket, []byte(u.Key), u.Scope.String(), int64(u.Token), int64(u.Generation),
			u.Creator, u.Attempt[:], []byte(u.Physical), u.Upstream, micros(u.Initiated), attributes, u.Completed,
			u.Digest, u.ETag, u.Size, micros(w.now)); err != nil {
			return err
		}
	}
	return nil
}

func (w *writing) writeGuards(c *state.Changes) error {
	if len(c.PutGuards)+len(c.DropGuards) == 0 {
		return nil
	}
	for _, id := range c.DropGuards {
		if err := w.run(dropGuardSQL, int64(id)); err != nil {
			return err
		}
	}
	for _, g := range c.PutGuards {
		columns := []any{
			g.Pattern.String(), string(g.Writes), string(g.Tokens), string(g.Issuer), g.MaxJump, string(g.State), micros(g.Created),
			int64(g.LockDelay),
		}
		query := addGuardSQL
		if g.ID != 0 {
			query, columns = setGuardSQL, append(columns, int64(g.ID))
		}
		result, err := w.exec(query, columns...)
		if err != nil {
			return failed(err)
		}
		if g.ID == 0 {
			id, err := result.LastInsertId()
			if err != nil {
				return failed(err)
			}
			g.ID = fence.GuardID(id)
		} else if n, err := result.RowsAffected(); err != nil || n != 1 {
			return fmt.Errorf("%w: there is no guard %d to replace", state.ErrUnavailable, g.ID)
		}
	}
	return w.run(listMovedSQL)
}
