package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/s3fence/s3fence/internal/state"
)

// eventsTable is partitioned by days as those of Maintain, and kept for a time of
// its own.
const eventsTable = "events"

// addEvents draws the ids under the log's lock, row by row in the order of the
// array: the inner query is sorted before the outer one draws. READ COMMITTED. A
// transaction that comes later draws after this one is visible to everybody, since
// the lock is let go after that.
const addEvents = `
WITH written AS (
INSERT INTO events (day, ` + eventColumns + `)
SELECT (statement_timestamp() AT TIME ZONE 'UTC')::date, nextval('event_id'),
       at, kind, scope, bucket, key, guard, token, highest, count, details::json
  FROM (SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::bytea[],
               $7::bigint[], $8::bigint[], $9::bigint[], $10::text[])
               WITH ORDINALITY AS e (at, kind, scope, bucket, key, guard, token, highest, count, details, position)
         ORDER BY position) AS e
RETURNING 1)
SELECT must_write($11, count(*)) FROM written`

func writeEvents(f *pipeline, list []state.Event) error {
	n := len(list)
	if n == 0 {
		return nil
	}
	at, kind, bucket, details := make([]time.Time, n), make([]string, n), make([]string, n), make([]string, n)
	scope, key, guard := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	token, highest, count := make([]int64, n), make([]int64, n), make([]int64, n)
	for i := range list {
		e := &list[i]
		var err error
		if details[i], err = e.Details(); err != nil {
			return err
		}
		at[i], kind[i], bucket[i] = e.Time, string(e.Kind), e.Bucket
		scope[i], key[i], guard[i] = []byte(e.Scope.String()), []byte(e.Key), []byte(e.Guard)
		token[i], highest[i], count[i] = int64(e.Token), int64(e.Highest), e.Count
	}
	f.exec(addEvents, at, kind, scope, bucket, key, guard, token, highest, count, details, n)
	return nil
}

// Rows are selected along the primary key of each partition, whose orders are
// merged. A row was added on the day it tells of, or later: with Since older
// partitions are left out, but for one, since clocks may step.
const (
	eventsWhere = `
  FROM events
 WHERE id > $1 AND id < $2 AND day >= $3 AND at >= $4
   AND ($5::text[] IS NULL OR kind = ANY ($5))
   AND ($6::bytea = '' OR substring(scope FROM 1 FOR length($6)) = $6 OR substring(guard FROM 1 FOR length($6)) = $6
        OR key <> '' AND substring(convert_to('s3://' || bucket || '/', 'UTF8') || key FROM 1 FOR length($6)) = $6)`
	firstEvents  = `SELECT ` + eventColumns + eventsWhere + ` ORDER BY id LIMIT $7`
	latestEvents = `SELECT ` + eventColumns + eventsWhere + ` ORDER BY id DESC LIMIT $7`
	highestEvent = `SELECT coalesce(max(id), 0) FROM events`
	// givenEvent may be ahead of what is visible, never behind it.
	givenEvent = `SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM event_id`
)

// selectEvents is the statement for a query. Bounds that are not asked for are at
// their extremes.
func selectEvents(q *state.EventQuery) (sql string, args []any) {
	before, since := int64(1<<63-1), pgtype.Timestamptz{Valid: true, InfinityModifier: pgtype.NegativeInfinity}
	day := pgtype.Date{Valid: true, InfinityModifier: pgtype.NegativeInfinity}
	if q.Before != 0 {
		before = q.Before
	}
	if !q.Since.IsZero() {
		// Times are kept to the microsecond: the first one that is not before Since.
		since = moment(q.Since.Add(time.Microsecond - 1).Truncate(time.Microsecond))
		day = pgtype.Date{Valid: true, Time: q.Since.UTC().AddDate(0, 0, -1).Truncate(24 * time.Hour)}
	}
	var kinds []string
	for _, k := range q.Kinds {
		kinds = append(kinds, string(k))
	}
	sql = firstEvents
	if q.Latest {
		sql = latestEvents
	}
	return sql, []any{q.After, before, day, since, kinds, []byte(q.Prefix), max(q.Limit, 0)}
}

// ListEvents returns rows of the event log; see [state.State]. One snapshot.
func (db *DB) ListEvents(ctx context.Context, q state.EventQuery) (state.EventPage, error) {
	sql, args := selectEvents(&q)
	var rows []state.Event
	var highest, given int64
	err := db.flush(ctx, func(f *pipeline) {
		rows = nil
		f.exec(beginSnapshot)
		f.query(func(r pgx.Rows) error {
			e, err := scanEvent(r)
			rows = append(rows, e)
			return err
		}, sql, args...)
		f.query(func(r pgx.Rows) error { return r.Scan(&highest) }, highestEvent)
		f.query(func(r pgx.Rows) error { return r.Scan(&given) }, givenEvent)
		f.exec(commit)
	})
	if err != nil {
		return state.EventPage{}, err
	}
	if q.Latest {
		slices.Reverse(rows)
	}
	return q.Page(rows, highest, given), nil
}

// MaintainEvents makes and drops the partitions of the event log; see
// [state.State]. Rows go by whole days of UTC, so they are kept up to a day
// longer; keep counts as leastKept at least.
func (db *DB) MaintainEvents(ctx context.Context, keep time.Duration) error {
	return db.maintainDays(ctx, eventsTable, max(keep, leastKept))
}
