package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/s3fence/s3fence/internal/state"
)

// Rows of the event log are selected along their ids. The kinds are a JSON list,
// since a statement has a fixed number of parameters; the bounds are always there,
// at their extremes where nothing is bounded.
const (
	eventsWhereSQL = ` FROM events WHERE id > ? AND id < ? AND at >= ?
	AND (? = '' OR kind IN (SELECT value FROM json_each(?)))
	AND (? = '' OR substr(scope, 1, length(?)) = ? OR substr(guard, 1, length(?)) = ?
		OR key <> x'' AND substr('s3://' || bucket || '/' || CAST(key AS TEXT), 1, length(?)) = ?)`
	firstEventsSQL  = `SELECT id, ` + eventColumns + eventsWhereSQL + ` ORDER BY id LIMIT ?`
	latestEventsSQL = `SELECT id, ` + eventColumns + eventsWhereSQL + ` ORDER BY id DESC LIMIT ?`
	highestEventSQL = `SELECT coalesce(max(id), 0) FROM events`
	givenEventSQL   = `SELECT seq FROM sqlite_sequence WHERE name = 'events'`
)

// ListEvents returns rows of the event log; see [state.State].
func (s *Store) ListEvents(ctx context.Context, q state.EventQuery) (page state.EventPage, err error) {
	kinds := ""
	if len(q.Kinds) > 0 {
		b, err := json.Marshal(q.Kinds)
		if err != nil {
			return page, err
		}
		kinds = string(b)
	}
	before, since := int64(1<<63-1), int64(-1<<63)
	if q.Before != 0 {
		before = q.Before
	}
	if !q.Since.IsZero() {
		// Times are kept to the microsecond: the first one that is not before Since.
		since = q.Since.Add(time.Microsecond - 1).UnixMicro()
	}
	p := q.Prefix
	args := []any{q.After, before, since, kinds, kinds, p, p, p, p, p, p, p, max(q.Limit, 0)}
	query := firstEventsSQL
	if q.Latest {
		query = latestEventsSQL
	}
	err = s.reading(ctx, true, func(c *session) error {
		var rows []state.Event
		if err := c.each(query, args, func(scan func(...any) error) error {
			e, err := scanEvent(scan)
			rows = append(rows, e)
			return err
		}); err != nil {
			return err
		}
		var highest, given int64
		if err := c.one(highestEventSQL, nil, &highest); err != nil {
			return err
		}
		// No row where none was ever given.
		if err := c.one(givenEventSQL, nil, &given); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if q.Latest {
			slices.Reverse(rows)
		}
		page = q.Page(rows, highest, given)
		return nil
	})
	return page, err
}

// oldEventsSQL goes by when rows were added: the times that they tell of may be
// older.
const oldEventsSQL = `DELETE FROM events WHERE id IN (SELECT id FROM events WHERE stored < ? ORDER BY stored LIMIT ?)`

// MaintainEvents drops old rows of the event log, a little at a time; see
// [state.State].
func (s *Store) MaintainEvents(ctx context.Context, keep time.Duration) error {
	return s.dropOld(ctx, oldEventsSQL, s.now().Add(-keep).UnixMicro(), dropped)
}
