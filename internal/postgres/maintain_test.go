package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/state"
)

// partitionOf tells which table has the outcome.
func partitionOf(t *testing.T, dsn string, id uuid.UUID) string {
	t.Helper()
	var name string
	require.NoError(t, connect(t, dsn).QueryRow(t.Context(), "SELECT tableoid::regclass::text FROM outcomes WHERE id = $1", pgUUID(id)).Scan(&name))
	return name
}

// idAt makes an id of the version 7 whose time is at.
func idAt(at time.Time) uuid.UUID {
	id := state.NewID()
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}

// TestPartitions: each day has its own, a strange clock's ids are taken by the
// default one and found again, old days are dropped whole.
func TestPartitions(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	dropDays(t, dsn, 0)
	db := open(t, dsn, 4)
	sc := testScope(t, "s3://data/jobs/")
	commitAt := func(at time.Time) uuid.UUID {
		tx, _ := putOne(sc, "a", nil)
		tx.ID = idAt(at)
		require.NoError(t, db.Transact(t.Context(), tx))
		verdict, err := db.Resolve(t.Context(), tx.ID)
		require.NoError(t, err)
		require.Equal(t, state.Committed, verdict)
		return tx.ID
	}
	now := time.Now().UTC()
	require.Equal(t, "outcomes_default", partitionOf(t, dsn, commitAt(now)), "before any upkeep")
	for range 2 {
		require.NoError(t, db.Maintain(t.Context(), 24*time.Hour), "today's rows in the default partition are no failure")
	}
	tomorrow := now.AddDate(0, 0, 1)
	require.Equal(t, "outcomes_"+tomorrow.Format(dayName), partitionOf(t, dsn, commitAt(tomorrow)))
	ancient := commitAt(time.UnixMilli(1))
	require.Equal(t, "outcomes_default", partitionOf(t, dsn, ancient))
	future := commitAt(time.UnixMilli(1<<48 - 1))
	require.Equal(t, "outcomes_default", partitionOf(t, dsn, future))

	conn := connect(t, dsn)
	old := now.AddDate(0, 0, -9)
	for _, table := range partitioned {
		for _, sql := range []string{fmt.Sprintf(createDay, table, old.Format(dayName)),
			fmt.Sprintf(attachDay, table, old.Format(dayName), old.Format(time.DateOnly), old.AddDate(0, 0, 1).Format(time.DateOnly))} {
			_, err := conn.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
	}
	kept := commitAt(old)
	require.NoError(t, db.Maintain(t.Context(), 10*24*time.Hour))
	require.Equal(t, "outcomes_"+old.Format(dayName), partitionOf(t, dsn, kept))
	require.NoError(t, db.Maintain(t.Context(), 2*24*time.Hour))
	var left int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_class WHERE relname IN ($1, $2)",
		"outcomes_"+old.Format(dayName), "retries_"+old.Format(dayName)).Scan(&left))
	require.Zero(t, left, "old days are still there")
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM outcomes WHERE id = $1", pgUUID(ancient)).Scan(&left))
	require.Zero(t, left)
	verdict, err := db.Resolve(t.Context(), future)
	require.NoError(t, err)
	require.Equal(t, state.Committed, verdict, "what is not old stays")
}

// dropDays takes away the partitions of the days from one on.
func dropDays(t *testing.T, dsn string, from int) {
	t.Helper()
	conn := connect(t, dsn)
	var now time.Time
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT clock_timestamp()").Scan(&now))
	for _, table := range partitioned {
		for i := from; i <= daysAhead; i++ {
			_, err := conn.Exec(t.Context(), fmt.Sprintf(dropDay, table, now.UTC().AddDate(0, 0, i).Format(dayName)))
			require.NoError(t, err)
		}
	}
}

// TestUpkeepBesideCommits: several make the partitions of the days ahead while
// others commit, and none of them fails. Today's is there since the migration.
func TestUpkeepBesideCommits(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	dropDays(t, dsn, 1)
	db := open(t, dsn, 8)
	sc := testScope(t, "s3://data/jobs/")
	var g errgroup.Group
	for w := range 4 {
		g.Go(func() error {
			for n := range 25 {
				tx, _ := putOne(sc, fmt.Sprintf("%d-%d", w, n), nil)
				if err := db.Transact(t.Context(), tx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 3 {
		g.Go(func() error {
			for range 4 {
				if err := db.Maintain(t.Context(), 48*time.Hour); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	list, err := db.ListObjects(t.Context(), state.Range{Bucket: "data"}, 1000)
	require.NoError(t, err)
	require.Len(t, list, 100)
}

// TestUpkeepGivesWay: a partition whose locks are not to be had is left for the
// next time.
func TestUpkeepGivesWay(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	dropDays(t, dsn, 0)
	db := open(t, dsn, 4)
	holder := freezeIdle(t, dsn, "LOCK TABLE outcomes_default IN ROW EXCLUSIVE MODE")
	require.NoError(t, db.Maintain(t.Context(), 48*time.Hour))
	count := func() (n int) {
		require.NoError(t, connect(t, dsn).QueryRow(t.Context(), "SELECT count(*) FROM pg_inherits WHERE inhparent = 'outcomes'::regclass").Scan(&n))
		return n
	}
	require.Equal(t, 1, count())
	require.NoError(t, holder.Close(context.Background()))
	require.Eventually(t, func() bool {
		require.NoError(t, db.Maintain(t.Context(), 48*time.Hour))
		return count() == daysAhead+2
	}, waitLong, waitTick)
}

// TestPlans: what is on the hot path reads an index by its whole condition, also
// while the table is of the size at which a planner likes to read all of it, and
// while it does not know that there are any rows.
func TestPlans(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	conn := connect(t, dsn)
	_, err := conn.PgConn().Exec(t.Context(), `
		ALTER TABLE objects SET (autovacuum_enabled = off);
		ALTER TABLE uploads SET (autovacuum_enabled = off);
		ALTER TABLE scopes SET (autovacuum_enabled = off);
		ALTER TABLE garbage SET (autovacuum_enabled = off);
		INSERT INTO objects SELECT 'data', convert_to(lpad(n::text, 8, '0'), 'UTF8'), 's3://data/', 1, gen_random_uuid(), 'p', 1, 'e', now(), '{}' FROM generate_series(1, 5000) n;
		INSERT INTO uploads SELECT n::text, 'data', convert_to(lpad(n::text, 8, '0'), 'UTF8'), 's3://data/', 1, 1, 'c', gen_random_uuid(), 'p', 'u', now(), '{}', n % 3 = 0, '', '', 0 FROM generate_series(1, 5000) n;
		INSERT INTO scopes SELECT convert_to('s3://data/' || lpad(n::text, 8, '0') || '/', 'UTF8'), 1, 1, 'sealed', 1, 1, NULL, '', '', NULL, NULL, 0 FROM generate_series(1, 5000) n;
		INSERT INTO garbage SELECT 'data', convert_to(n::text, 'UTF8'), now() FROM generate_series(1, 5000) n`).ReadAll()
	require.NoError(t, err)
	var buckets []string
	var keys [][]byte
	for n := range 64 {
		buckets, keys = append(buckets, "data"), append(keys, fmt.Appendf(nil, "%08d", n*70))
	}
	for _, analysed := range []bool{false, true} {
		if analysed {
			_, err := conn.Exec(t.Context(), "ANALYZE objects, uploads, scopes, garbage")
			require.NoError(t, err)
		}
		for name, c := range map[string]struct {
			index string
			sql   string
			args  []any
		}{
			"one object":       {"objects_pkey", readOneObject, []any{"data", keys[3]}},
			"64 objects":       {"objects_pkey", readSomeObjects, []any{buckets, keys}},
			"list objects":     {"objects_pkey", listObjectsFrom, []any{"data", keys[3], 100}},
			"list a directory": {"objects_pkey", listObjectsTo, []any{"data", keys[3], 100, keys[9]}},
			"list uploads":     {"uploads_open", listUploadsFrom, []any{"data", keys[3], "7", 100}},
			"list scopes":      {"scopes_pkey", listScopesTo, []any{[]byte("s3://data/000"), []byte("s3://data/0001"), 10, []byte("s3://data/001")}},
			"list garbage":     {"garbage_found", listGarbage, []any{"data", time.Now(), 100}},
		} {
			t.Run(fmt.Sprintf("%s, analysed %v", name, analysed), func(t *testing.T) {
				var raw []byte
				require.NoError(t, conn.QueryRow(t.Context(), "EXPLAIN (FORMAT JSON) "+c.sql, c.args...).Scan(&raw))
				require.True(t, json.Valid(raw))
				plan := string(raw)
				require.Contains(t, plan, `"Index Name": "`+c.index+`"`)
				require.NotContains(t, plan, "Seq Scan")
				require.NotContains(t, plan, `"Node Type": "Sort"`)
				require.True(t, strings.Contains(plan, "Index Cond"), plan)
			})
		}
	}
}

// Whoever comes sweeps what has lapsed at the head of the line, which everybody who
// looks for the head must pass.
func TestNewcomersSweepTheLine(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 2)
	conn := connect(t, dsn)
	sc := testScope(t, "s3://data/jobs/")
	keep := func(ticket string) {
		t.Helper()
		_, err := db.KeepPlace(t.Context(), state.Place{PlaceID: state.PlaceID{Scope: sc, Holder: "ann", Ticket: ticket}}, time.Hour)
		require.NoError(t, err)
	}
	for n := range 2*sweepAtOnce + 2 {
		keep(strconv.Itoa(n))
	}
	_, err := conn.Exec(t.Context(), `UPDATE places SET until = now() - interval '1 s' WHERE ticket <> '7'`)
	require.NoError(t, err)
	rows := func() (n int) {
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM places`).Scan(&n))
		return n
	}
	keep("7")
	require.Equal(t, 2*sweepAtOnce+2-7, rows(), "all before the first that lives")
	require.NoError(t, db.LeavePlace(t.Context(), state.PlaceID{Scope: sc, Holder: "ann", Ticket: "7"}, uuid.Nil, 0))
	keep("new")
	require.Equal(t, sweepAtOnce+2-7, rows(), "so many at once")
	keep("newer")
	keep("newest")
	require.Equal(t, 3, rows())
}
