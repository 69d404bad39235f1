package sqlite

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

const (
	renewSQL = `INSERT INTO proxies (id, acked, seen) VALUES (?, ?, ?)
	ON CONFLICT (id) DO UPDATE SET acked = excluded.acked, seen = excluded.seen`
	proxiesSQL = `SELECT id, acked, seen FROM proxies ORDER BY id`
	forgetSQL  = `DELETE FROM proxies WHERE id = ?`
)

// once runs f in a write transaction of its own. Where its answer is lost,
// running it again does no harm: what comes here sets rows to what they should
// be and needs no verdict.
func (s *Store) once(ctx context.Context, f func(*writing) error) error {
	w, err := s.beginWrite(ctx, state.DefaultWait)
	if err != nil {
		return err
	}
	defer w.end()
	if err := f(w); err != nil {
		return err
	}
	if err := w.commit(); err != nil {
		return fmt.Errorf("%w: %w", state.ErrUnavailable, err)
	}
	return nil
}

// RenewGuards renews a proxy's lease on the guard list; see [state.State]. The
// row is written before the list is read, in one transaction: no change of the
// list can come between.
func (s *Store) RenewGuards(ctx context.Context, proxy uuid.UUID, acked, known int64) (version int64, list []fence.Guard, err error) {
	err = s.once(ctx, func(w *writing) error {
		if err := w.run(renewSQL, proxy[:], acked, micros(w.now)); err != nil {
			return err
		}
		if err := w.one(versionOfListSQL, nil, &version); err != nil || version == known {
			return err
		}
		version, list, err = w.guardList()
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	return version, list, nil
}

// Proxies lists the proxies by id, with the database's time.
func (s *Store) Proxies(ctx context.Context) (list []state.Proxy, now time.Time, err error) {
	err = s.reading(ctx, false, func(c *session) error {
		err := c.each(proxiesSQL, nil, func(scan func(...any) error) error {
			var p state.Proxy
			var seen int64
			err := scan((*uuidColumn)(&p.ID), &p.Acked, &seen)
			p.Seen = time.UnixMicro(seen).UTC()
			list = append(list, p)
			return err
		})
		now = s.now() // after the rows: nobody was seen later than this
		return err
	})
	return list, now, err
}

// ForgetProxy removes a proxy; one that is not there is fine.
func (s *Store) ForgetProxy(ctx context.Context, proxy uuid.UUID) error {
	return s.once(ctx, func(w *writing) error { return w.run(forgetSQL, proxy[:]) })
}

// dropped is how many rows Maintain drops in one transaction, so that writers
// wait for milliseconds only.
const dropped = 1000

// The statements of Maintain. Outcomes are found by the time in their ids, which
// a proxy with a clock of its own made; their own time decides.
const (
	oldOutcomesSQL = `DELETE FROM outcomes WHERE id IN (SELECT id FROM outcomes WHERE id < ? AND at < ? LIMIT ?)`
	oldRetriesSQL  = `DELETE FROM retries WHERE id IN (SELECT id FROM retries WHERE at < ? LIMIT ?)`
	oldUploadsSQL  = `DELETE FROM uploads WHERE id IN (SELECT id FROM uploads WHERE completed = 1 AND changed < ? LIMIT ?)`
	oldClaimsSQL   = `DELETE FROM claims WHERE (job, slot) IN (SELECT job, slot FROM claims WHERE keep_until < ? LIMIT ?)`
	oldProxiesSQL  = `DELETE FROM proxies WHERE id IN (SELECT id FROM proxies WHERE seen < ? LIMIT ?)`
	oldPlacesSQL   = `DELETE FROM places WHERE turn IN (SELECT turn FROM places WHERE until <= ? LIMIT ?)`
)

// Maintain drops what is older than keep, a little at a time; see
// [state.State]. Several may run at once.
func (s *Store) Maintain(ctx context.Context, keep time.Duration) error {
	cut := s.now().Add(-keep)
	jobs := []struct {
		query string
		args  []any
	}{
		{oldOutcomesSQL, []any{idsBefore(cut), cut.UnixMicro(), dropped}},
		{oldRetriesSQL, []any{cut.UnixMicro(), dropped}},
		{oldUploadsSQL, []any{cut.UnixMicro(), dropped}},
		{oldClaimsSQL, []any{s.now().UnixMicro(), dropped}},
		{oldProxiesSQL, []any{cut.UnixMicro(), dropped}},
		{oldPlacesSQL, []any{s.now().UnixMicro(), dropped}},
	}
	for _, j := range jobs {
		if err := s.dropOld(ctx, j.query, j.args...); err != nil {
			return err
		}
	}
	return nil
}

// dropOld runs a statement that drops rows, up to as many as dropped, until there
// are no more.
func (s *Store) dropOld(ctx context.Context, query string, args ...any) error {
	for {
		var n int64
		err := s.once(ctx, func(w *writing) error {
			result, err := w.exec(query, args...)
			if err != nil {
				return failed(err)
			}
			n, err = result.RowsAffected()
			return failed(err)
		})
		if err != nil || n < dropped {
			return err
		}
	}
}

// idsBefore is above every id of version 7 that was made before t, and below
// those made later: such an id begins with 48 bits of milliseconds (RFC 9562).
func idsBefore(t time.Time) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(max(t.UnixMilli(), 0))<<16)
	id := make([]byte, 16)
	copy(id, b[:6])
	return id
}
