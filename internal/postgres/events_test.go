package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/state"
)

func tellTx(n int) *state.Tx {
	return &state.Tx{ID: state.NewID(), EventLog: true, Decide: func(v *state.View) (state.Changes, error) {
		var list []state.Event
		for range n {
			list = append(list, state.Event{Event: events.Event{Time: v.Now, Kind: events.Granted}, Count: 1})
		}
		return state.Changes{Events: list}, nil
	}}
}

// TestFrozenHolderOfTheEventLog: a proxy that froze while it added to the log does
// not keep others from adding to it, and nobody but them waits at all.
func TestFrozenHolderOfTheEventLog(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 4)
	require.NoError(t, db.Transact(t.Context(), tellTx(1))) // describes the statements
	freezeMidFlush(t, dsn, lockStatement(state.Exclusive, lockID(eventsDomain)))
	sc := testScope(t, "s3://data/jobs/")
	begun := time.Now()
	require.NoError(t, db.Transact(t.Context(), raise(sc, 34)))
	page, err := db.ListEvents(t.Context(), state.EventQuery{Limit: 10})
	require.NoError(t, err)
	require.Len(t, page.Events, 1)
	require.Less(t, time.Since(begun), keyPatience)
	require.NoError(t, db.Transact(t.Context(), tellTx(1)))
}

// TestEventPartitions: each day has its own, made by the migration and by upkeep;
// old ones are dropped whole, by the day on which their rows were added.
func TestEventPartitions(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 4)
	conn := connect(t, dsn)
	days := func() (n int) {
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass").Scan(&n))
		return n
	}
	require.Equal(t, daysAhead+2, days(), "the migration makes them")
	require.NoError(t, db.Transact(t.Context(), tellTx(3)))
	var table string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT DISTINCT tableoid::regclass::text FROM events").Scan(&table))
	require.True(t, strings.HasPrefix(table, "events_2"), table)

	old := time.Now().UTC().AddDate(0, 0, -9)
	for _, sql := range []string{fmt.Sprintf(createDay, eventsTable, old.Format(dayName)),
		fmt.Sprintf(attachDay, eventsTable, old.Format(dayName), old.Format(time.DateOnly), old.AddDate(0, 0, 1).Format(time.DateOnly))} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	_, err := conn.Exec(t.Context(), "UPDATE events SET day = $1 WHERE id = (SELECT min(id) FROM events)", old)
	require.NoError(t, err)
	left := func() int {
		page, err := db.ListEvents(t.Context(), state.EventQuery{Limit: 10})
		require.NoError(t, err)
		return len(page.Events)
	}
	require.NoError(t, db.MaintainEvents(t.Context(), 10*24*time.Hour))
	require.Equal(t, daysAhead+3, days())
	require.Equal(t, 3, left())
	require.NoError(t, db.MaintainEvents(t.Context(), 2*24*time.Hour))
	require.Equal(t, daysAhead+2, days())
	require.Equal(t, 2, left())
}

// TestEventPlans: who follows the log, or looks at its end, reads along the ids,
// whatever its size, and sorts nothing.
func TestEventPlans(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	conn := connect(t, dsn)
	// A month of days, most of them with rows.
	db := open(t, dsn, 2)
	today := time.Now().UTC()
	for i := range 30 {
		day := today.AddDate(0, 0, -i-1)
		require.NoError(t, db.upkeep(t.Context(), fmt.Sprintf(createDay, eventsTable, day.Format(dayName)),
			fmt.Sprintf(attachDay, eventsTable, day.Format(dayName), day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly))))
	}
	_, err := conn.PgConn().Exec(t.Context(), `
		INSERT INTO events SELECT (now() AT TIME ZONE 'UTC')::date - (30 - n / 1000), n, now() - make_interval(days => 30 - n / 1000), 'grant',
		       's3://data/jobs/', '', '', '', 1, 1, 1, '{}' FROM generate_series(1, 30999) n;
		ANALYZE events`).ReadAll()
	require.NoError(t, err)
	for name, q := range map[string]state.EventQuery{
		"follow":               {After: 30_000, Limit: 50},
		"from the beginning":   {Limit: 50},
		"the end":              {Latest: true, Limit: 50},
		"the end of one scope": {Latest: true, Prefix: "s3://data/jobs/", Limit: 50},
		"of the last day":      {Since: today.AddDate(0, 0, -1), Limit: 50},
	} {
		t.Run(name, func(t *testing.T) {
			sql, args := selectEvents(&q)
			rows, err := conn.Query(t.Context(), "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "+sql, args...)
			require.NoError(t, err)
			defer rows.Close()
			var plan strings.Builder
			for rows.Next() {
				var line string
				require.NoError(t, rows.Scan(&line))
				plan.WriteString(line + "\n")
			}
			require.NoError(t, rows.Err())
			require.Contains(t, plan.String(), "Index Scan")
			require.NotContains(t, plan.String(), "Sort Method", plan.String())
			if !q.Since.IsZero() {
				require.NotContains(t, plan.String(), today.AddDate(0, 0, -5).Format(dayName), "days before are left out")
			}
		})
	}
}
