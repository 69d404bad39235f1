package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

const placeColumns = `scope, holder, ticket, turn, owner, since, until, visit, proxy`

// alive is whether a place p counts: it has not lapsed, and the proxy where a call
// waits in it was seen within the seconds of the parameter.
const alive = `p.until > clock_timestamp()
   AND (p.proxy IS NULL OR EXISTS (
       SELECT FROM proxies AS x WHERE x.id = p.proxy AND x.seen > clock_timestamp() - make_interval(secs => $2)))`

// readHeads walks each line from its head, in the order of places_turn, and ends at
// the first place that lives: LATERAL with LIMIT, as in readSomeObjects. It locks
// nothing. In a grant it comes after the scope's lock, so it sees whoever took a
// place before that.
const readHeads = `
SELECT h.* FROM unnest($1::bytea[]) AS q (scope)
 CROSS JOIN LATERAL (
       SELECT ` + placeColumns + ` FROM places AS p WHERE p.scope = q.scope AND ` + alive + `
        ORDER BY p.turn LIMIT 1) AS h`

func readLines(f *pipeline, v *state.View, scopes []fence.Scope, absent time.Duration) {
	if len(scopes) == 0 {
		return
	}
	f.query(func(rows pgx.Rows) error {
		p, err := scanPlace(rows)
		v.Heads[p.Scope] = p
		return err
	}, readHeads, scopeNames(scopes), absent.Seconds())
}

func scanPlace(rows pgx.Rows, more ...any) (p state.Place, err error) {
	var name []byte
	var visit, proxy pgtype.UUID
	columns := []any{&name, &p.Holder, &p.Ticket, &p.Turn, &p.Owner, &p.Since, &p.Until, &visit, &proxy}
	if err = rows.Scan(append(columns, more...)...); err != nil {
		return p, err
	}
	p.Since, p.Until, p.Visit, p.Proxy = p.Since.UTC(), p.Until.UTC(), visit.Bytes, proxy.Bytes
	p.Scope, err = parseScope(name)
	return p, err
}

func scopeNames(scopes []fence.Scope) [][]byte {
	names := make([][]byte, len(scopes))
	for i, s := range scopes {
		names[i] = []byte(s.String())
	}
	return names
}

// optional is an id, or NULL where there is none.
func optional(id uuid.UUID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: id != uuid.Nil} }

// keepPlace takes a place or keeps the one that its id has. Where another statement
// writes that row at the same moment this one waits for it and then decides over
// what that one left: that is how ON CONFLICT DO UPDATE reads under READ COMMITTED.
// The turn of a place that has lapsed is drawn anew.
const keepPlace = `
INSERT INTO places AS p (scope, holder, ticket, owner, since, until, visit, proxy)
VALUES ($1, $2, $3, $4, clock_timestamp(), clock_timestamp() + make_interval(secs => $5), $6, $7)
ON CONFLICT (scope, holder, ticket) DO UPDATE SET
       turn  = CASE WHEN p.until > clock_timestamp() THEN p.turn ELSE excluded.turn END,
       since = CASE WHEN p.until > clock_timestamp() THEN p.since ELSE excluded.since END,
       owner = excluded.owner, until = excluded.until, visit = excluded.visit, proxy = excluded.proxy
RETURNING ` + placeColumns

// sweepLine drops the lapsed places at the head of a line, which everyone who looks
// for the head must pass; it looks at no others. It waits for nobody: the row of
// keepPlace is locked, and two that wait for each other's rows would be a deadlock.
const sweepLine = `
DELETE FROM places WHERE (scope, turn) IN (
       SELECT scope, turn FROM places
        WHERE scope = $1 AND until <= clock_timestamp()
          AND turn < (SELECT turn FROM places WHERE scope = $1 AND until > clock_timestamp() ORDER BY turn LIMIT 1)
        ORDER BY turn LIMIT $2 FOR UPDATE SKIP LOCKED)`

// sweepAtOnce bounds sweepLine. Each place swept was taken once, so taking them
// keeps ahead of the lapsed ones.
const sweepAtOnce = 100

// KeepPlace takes or keeps a place in one round trip; see [state.State]. READ
// COMMITTED; it waits for no lock but that of its own row.
func (db *DB) KeepPlace(ctx context.Context, p state.Place, d time.Duration) (state.Place, error) {
	var kept state.Place
	var tag string
	err := db.flush(ctx, func(f *pipeline) {
		f.exec(begin)
		f.exec(setLimits, milliseconds(state.DefaultWait), milliseconds(idleLimit))
		f.query(func(rows pgx.Rows) (err error) {
			kept, err = scanPlace(rows)
			return err
		}, keepPlace, []byte(p.Scope.String()), p.Holder, p.Ticket, p.Owner, d.Seconds(), optional(p.Visit), optional(p.Proxy))
		f.exec(sweepLine, []byte(p.Scope.String()), sweepAtOnce)
		f.command(&tag, commit)
	})
	if err != nil {
		return state.Place{}, err
	}
	if tag != "COMMIT" || kept.PlaceID != p.PlaceID {
		return state.Place{}, fmt.Errorf("%w: a place in the line of %s was not written (%s)", state.ErrUnavailable, p.Scope, tag)
	}
	return kept, nil
}

// Leaving compares the visit: who has come back with the ticket since keeps the
// place. IS NOT DISTINCT FROM, since a place that nobody visits has NULL.
const (
	dropVisit = `
DELETE FROM places WHERE scope = $1 AND holder = $2 AND ticket = $3 AND visit IS NOT DISTINCT FROM $4`
	endVisit = `
UPDATE places SET until = clock_timestamp() + make_interval(secs => $5), visit = NULL, proxy = NULL
 WHERE scope = $1 AND holder = $2 AND ticket = $3 AND visit IS NOT DISTINCT FROM $4`
)

// LeavePlace ends a visit; see [state.State]. One statement.
func (db *DB) LeavePlace(ctx context.Context, id state.PlaceID, visit uuid.UUID, d time.Duration) error {
	return db.flush(ctx, func(f *pipeline) {
		args := []any{[]byte(id.Scope.String()), id.Holder, id.Ticket, optional(visit)}
		if d <= 0 {
			f.exec(dropVisit, args...)
			return
		}
		f.exec(endVisit, append(args, d.Seconds())...)
	})
}

// dropPlaces runs in the second flush of a grant. It may wait for the row of a
// keepPlace or LeavePlace, which themselves wait for nothing that a Tx holds.
const dropPlaces = `
DELETE FROM places p USING unnest($1::bytea[], $2::text[], $3::text[]) AS q (scope, holder, ticket)
 WHERE p.scope = q.scope AND p.holder = q.holder AND p.ticket = q.ticket`

func writePlaces(f *pipeline, ids []state.PlaceID) {
	if len(ids) == 0 {
		return
	}
	scopes, holders, tickets := make([][]byte, len(ids)), make([]string, len(ids)), make([]string, len(ids))
	for i, id := range ids {
		scopes[i], holders[i], tickets[i] = []byte(id.Scope.String()), id.Holder, id.Ticket
	}
	f.exec(dropPlaces, scopes, holders, tickets)
}

const countPlaces = `
SELECT count(*) FILTER (WHERE p.turn < $3), count(*) FROM places AS p WHERE p.scope = $1 AND ` + alive

// CountPlaces counts living places; see [state.State]. One statement, no lock.
func (db *DB) CountPlaces(ctx context.Context, s fence.Scope, turn int64, absent time.Duration) (before, all int, err error) {
	err = db.one(ctx, func() {}, func(rows pgx.Rows) error { return rows.Scan(&before, &all) },
		countPlaces, []byte(s.String()), absent.Seconds(), turn)
	return before, all, err
}

const listPlaces = `
SELECT ` + placeColumns + `, length FROM (
       SELECT p.*, row_number() OVER (PARTITION BY p.scope ORDER BY p.turn) AS nth, count(*) OVER (PARTITION BY p.scope) AS length
         FROM places AS p WHERE p.scope = ANY ($1::bytea[]) AND ` + alive + `) AS l
 WHERE nth <= greatest($3, 1) ORDER BY scope, turn`

// ListPlaces returns lines; see [state.State]. One statement and so one moment.
func (db *DB) ListPlaces(ctx context.Context, scopes []fence.Scope, limit int, absent time.Duration) (map[fence.Scope]state.Line, error) {
	out := map[fence.Scope]state.Line{}
	if len(scopes) == 0 {
		return out, nil
	}
	err := db.one(ctx, func() { clear(out) }, func(rows pgx.Rows) error {
		var length int
		p, err := scanPlace(rows, &length)
		if err != nil {
			return err
		}
		l := out[p.Scope]
		l.Length = length
		if len(l.First) < limit {
			l.First = append(l.First, p)
		}
		out[p.Scope] = l
		return nil
	}, listPlaces, scopeNames(scopes), absent.Seconds(), limit)
	return out, err
}
