package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

const placeColumns = `p.scope, p.holder, p.ticket, p.turn, p.owner, p.since, p.until, p.visit, p.proxy`

// alive is whether a place p counts at ?2: it has not lapsed, and the proxy where a
// call waits in it was seen since ?3.
const alive = `p.until > ?2 AND (p.proxy IS NULL OR EXISTS (SELECT 1 FROM proxies AS x WHERE x.id = p.proxy AND x.seen > ?3))`

const (
	// headSQL walks a line in its order and ends at the first place that lives.
	headSQL        = `SELECT ` + placeColumns + ` FROM places AS p WHERE p.scope = ?1 AND ` + alive + ` ORDER BY p.turn LIMIT 1`
	countPlacesSQL = `SELECT count(*) FILTER (WHERE p.turn < ?4), count(*) FROM places AS p WHERE p.scope = ?1 AND ` + alive
	firstPlacesSQL = `SELECT ` + placeColumns + ` FROM places AS p WHERE p.scope = ?1 AND ` + alive + ` ORDER BY p.turn LIMIT ?4`

	// renewPlaceSQL keeps what has not lapsed; takePlaceSQL gives the next turn,
	// which AUTOINCREMENT never gives again.
	renewPlaceSQL = `UPDATE places AS p SET owner = ?, until = ?, visit = ?, proxy = ?
	WHERE scope = ? AND holder = ? AND ticket = ? AND until > ? RETURNING ` + placeReturned
	takePlaceSQL = `INSERT INTO places (scope, holder, ticket, owner, since, until, visit, proxy) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
	RETURNING ` + placeReturned
	placeReturned = `scope, holder, ticket, turn, owner, since, until, visit, proxy`
	// sweepLineSQL drops what has lapsed at the head of a line, which everyone who
	// looks for the head must pass.
	sweepLineSQL = `DELETE FROM places WHERE scope = ?1 AND until <= ?2
	AND turn < (SELECT turn FROM places WHERE scope = ?1 AND until > ?2 ORDER BY turn LIMIT 1)`
	dropPlaceSQL = `DELETE FROM places WHERE scope = ? AND holder = ? AND ticket = ?`

	dropVisitSQL = `DELETE FROM places WHERE scope = ? AND holder = ? AND ticket = ? AND visit IS ?`
	endVisitSQL  = `UPDATE places SET until = ?, visit = NULL, proxy = NULL
	WHERE scope = ? AND holder = ? AND ticket = ? AND visit IS ?`
)

func scanPlace(scan scan) (p state.Place, err error) {
	var scope string
	var since, until int64
	var visit, proxy []byte
	if err = scan(&scope, &p.Holder, &p.Ticket, &p.Turn, &p.Owner, &since, &until, &visit, &proxy); err != nil {
		return p, err
	}
	p.Since, p.Until = time.UnixMicro(since).UTC(), time.UnixMicro(until).UTC()
	copy(p.Visit[:], visit)
	copy(p.Proxy[:], proxy)
	p.Scope, err = fence.ParseScope(scope)
	return p, err
}

// idColumn is an id, or NULL where there is none.
func idColumn(id uuid.UUID) any {
	if id == uuid.Nil {
		return nil
	}
	return id[:]
}

// heads reads the first living places of some lines.
func (c *session) heads(v *state.View, scopes []fence.Scope, now time.Time, absent time.Duration) error {
	for _, sc := range scopes {
		p, found, err := optional(c, headSQL, scanPlace, sc.String(), now.UnixMicro(), now.Add(-absent).UnixMicro())
		if err != nil {
			return err
		} else if found {
			v.Heads[sc] = p
		}
	}
	return nil
}

// KeepPlace takes or keeps a place; see [state.State].
func (s *Store) KeepPlace(ctx context.Context, p state.Place, d time.Duration) (kept state.Place, err error) {
	err = s.once(ctx, func(w *writing) error {
		scope, until := p.Scope.String(), w.now.Add(d).UnixMicro()
		var found bool
		kept, found, err = optional(w.session, renewPlaceSQL, scanPlace,
			p.Owner, until, idColumn(p.Visit), idColumn(p.Proxy), scope, p.Holder, p.Ticket, w.now.UnixMicro())
		if err != nil || found {
			return err
		}
		if err := w.run(dropPlaceSQL, scope, p.Holder, p.Ticket); err != nil {
			return err
		}
		kept, found, err = optional(w.session, takePlaceSQL, scanPlace,
			scope, p.Holder, p.Ticket, p.Owner, w.now.UnixMicro(), until, idColumn(p.Visit), idColumn(p.Proxy))
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("%w: a place in the line of %s was not written", state.ErrUnavailable, p.Scope)
		}
		return w.run(sweepLineSQL, scope, w.now.UnixMicro())
	})
	if err != nil {
		return state.Place{}, err
	}
	return kept, nil
}

// LeavePlace ends a visit; see [state.State].
func (s *Store) LeavePlace(ctx context.Context, id state.PlaceID, visit uuid.UUID, d time.Duration) error {
	return s.once(ctx, func(w *writing) error {
		args := []any{id.Scope.String(), id.Holder, id.Ticket, idColumn(visit)}
		if d <= 0 {
			return w.run(dropVisitSQL, args...)
		}
		return w.run(endVisitSQL, append([]any{w.now.Add(d).UnixMicro()}, args...)...)
	})
}

// CountPlaces counts living places; see [state.State].
func (s *Store) CountPlaces(ctx context.Context, sc fence.Scope, turn int64, absent time.Duration) (before, all int, err error) {
	err = s.reading(ctx, false, func(c *session) error {
		now := s.now()
		return c.one(countPlacesSQL, []any{sc.String(), now.UnixMicro(), now.Add(-absent).UnixMicro(), turn}, &before, &all)
	})
	return before, all, err
}

// ListPlaces returns lines; see [state.State].
func (s *Store) ListPlaces(ctx context.Context, scopes []fence.Scope, limit int, absent time.Duration) (map[fence.Scope]state.Line, error) {
	out := map[fence.Scope]state.Line{}
	err := s.reading(ctx, len(scopes) > 0, func(c *session) error {
		now := s.now()
		for _, sc := range scopes {
			args := []any{sc.String(), now.UnixMicro(), now.Add(-absent).UnixMicro(), int64(0)}
			var l state.Line
			var none int
			if err := c.one(countPlacesSQL, args, &none, &l.Length); err != nil {
				return err
			}
			if l.Length == 0 {
				continue
			}
			args[3] = max(limit, 0)
			if err := c.each(firstPlacesSQL, args, func(scan func(...any) error) error {
				p, err := scanPlace(scan)
				l.First = append(l.First, p)
				return err
			}); err != nil {
				return err
			}
			out[sc] = l
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
