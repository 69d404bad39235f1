package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// daysAhead is how many days after today have a partition ready. Maintenance
	// runs many times a day; until it does again the default partition serves.
	daysAhead = 2
	// upkeepWait bounds the wait for the locks of a partition's creation or
	// removal. Everybody who comes later queues behind that wait, so it is short,
	// and what was not had is tried again the next time.
	upkeepWait = 200 * time.Millisecond
	// leastKept is kept whatever the caller says: verdicts of transactions that
	// may still be on their way, and answers of yesterday's requests.
	leastKept = time.Hour
	// keepAll keeps every day.
	keepAll = 100 * 365 * 24 * time.Hour
	// forgetAtOnce bounds the rows that one statement deletes.
	forgetAtOnce = 1000
	dayName      = "20060102"
)

// partitioned are the tables that Maintain keeps in days.
var partitioned = []string{"outcomes", "retries"}

const (
	// tryUpkeep makes one maintain at a time; the lock ends with the transaction.
	tryUpkeep = `SELECT pg_try_advisory_xact_lock($1)`

	// listPartitions reads the catalog, with the database's day.
	listPartitions = `
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::text::regclass`

	// A partition is made as a table and then attached: CREATE … PARTITION OF
	// would lock the parent against everyone, ATTACH locks out nobody but other
	// changes of the schema. Insert-only and dropped whole, it needs no vacuum for
	// visibility; that a wraparound would need is never switched off.
	createDay = `CREATE TABLE %[1]s_%[2]s (LIKE %[1]s INCLUDING ALL) WITH (autovacuum_vacuum_insert_threshold = -1)`
	attachDay = `ALTER TABLE %[1]s ATTACH PARTITION %[1]s_%[2]s FOR VALUES FROM ('%[3]s') TO ('%[4]s')`

	// DROP locks the parent against everyone for the moment it takes.
	dropDay = `DROP TABLE %s_%s`

	// What a strange clock put into the default partition; no lock but the rows'.
	dropDefault = `DELETE FROM %s_default WHERE day < $1`

	// Completed uploads only, so no writer of theirs is waited for; SKIP LOCKED
	// leaves one that is being written this moment.
	forgetUploads = `
DELETE FROM uploads WHERE id IN (
       SELECT id FROM uploads WHERE completed AND changed < clock_timestamp() - make_interval(secs => $1)
        ORDER BY changed LIMIT $2 FOR UPDATE SKIP LOCKED)`

	// A place that is being kept at this moment is left.
	forgetPlaces = `
DELETE FROM places WHERE (scope, turn) IN (
       SELECT scope, turn FROM places WHERE until <= clock_timestamp() LIMIT $1 FOR UPDATE SKIP LOCKED)`

	// By the same clock as the trigger that keeps claims from being dropped early.
	forgetClaims = `
DELETE FROM claims WHERE (job, slot) IN (
       SELECT job, slot FROM claims WHERE keep_until < clock_timestamp() ORDER BY keep_until LIMIT $1 FOR UPDATE SKIP LOCKED)`

	forgetProxies = `DELETE FROM proxies WHERE seen < clock_timestamp() - make_interval(secs => $1)`
)

// Maintain drops what is older than keep and prepares partitions; see
// [state.State]. Outcomes and retries go by whole days of UTC, so they are kept
// up to a day longer; keep counts as leastKept at least there. What somebody else
// maintains at this moment is left to them. It never holds up commits for longer
// than upkeepWait.
func (db *DB) Maintain(ctx context.Context, keep time.Duration) error {
	var errs []error
	for _, table := range partitioned {
		errs = append(errs, db.maintainDays(ctx, table, max(keep, leastKept)))
	}
	errs = append(errs,
		db.forget(ctx, forgetUploads, keep.Seconds(), forgetAtOnce),
		db.forget(ctx, forgetPlaces, forgetAtOnce),
		db.forget(ctx, forgetClaims, forgetAtOnce))
	errs = append(errs, db.flush(ctx, func(f *pipeline) { f.exec(forgetProxies, keep.Seconds()) }))
	return errors.Join(errs...)
}

// forget repeats a statement that deletes up to forgetAtOnce rows until it finds
// fewer.
func (db *DB) forget(ctx context.Context, sql string, args ...any) error {
	for {
		var deleted int64
		err := db.flush(ctx, func(f *pipeline) { f.affect(&deleted, sql, args...) })
		if err != nil || deleted < forgetAtOnce {
			return err
		}
	}
}

// maintainDays makes and drops the partitions of one table, each in a transaction
// of its own so that no lock is held for long.
func (db *DB) maintainDays(ctx context.Context, table string, keep time.Duration) error {
	var now time.Time
	there := map[string]bool{}
	if err := db.flush(ctx, func(f *pipeline) {
		f.query(func(rows pgx.Rows) error { return scanTime(rows, &now) }, readClock)
		f.query(func(rows pgx.Rows) error {
			var name string
			err := rows.Scan(&name)
			if day, ok := strings.CutPrefix(name, table+"_"); ok {
				there[day] = true
			}
			return err
		}, listPartitions, table)
	}); err != nil {
		return err
	}
	today := now.Truncate(24 * time.Hour)
	var errs []error
	for i := range daysAhead + 1 {
		day := today.AddDate(0, 0, i)
		if name := day.Format(dayName); !there[name] {
			errs = append(errs, db.upkeep(ctx,
				fmt.Sprintf(createDay, table, name),
				fmt.Sprintf(attachDay, table, name, day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly))))
		}
	}
	cut := now.Add(-keep).Truncate(24 * time.Hour)
	for name := range there {
		if day, err := time.Parse(dayName, name); err == nil && day.Before(cut) {
			errs = append(errs, db.upkeep(ctx, fmt.Sprintf(dropDay, table, name)))
		}
	}
	errs = append(errs, db.flush(ctx, func(f *pipeline) { f.exec(fmt.Sprintf(dropDefault, table), cut) }))
	return errors.Join(errs...)
}

// upkeep changes the schema in one transaction, unless somebody else is at it, or
// the locks are not to be had, or the default partition has rows of that day
// already: then the default goes on serving. Those are logged, not failures.
func (db *DB) upkeep(ctx context.Context, statements ...string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, err := db.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	free := false
	f := &pipeline{}
	f.exec(begin)
	f.exec(setLimits, milliseconds(upkeepWait), milliseconds(idleLimit))
	f.query(func(rows pgx.Rows) error { return rows.Scan(&free) }, tryUpkeep, lockID(upkeepDomain))
	if _, err := f.run(ctx, conn.Conn()); err != nil || !free {
		rollback(conn.Conn())
		if err != nil {
			return undone(err)
		}
		return nil
	}
	for _, statement := range statements {
		// The simple protocol: none of these can be described before the one
		// ahead of it ran.
		if _, err := conn.Conn().PgConn().Exec(ctx, statement).ReadAll(); err != nil {
			rollback(conn.Conn())
			switch sqlState(err) {
			case lockNotAvailable, deadlockDetected, checkViolation, duplicateTable, undefinedTable:
				db.log.Info("a partition is left for the next maintenance", "statement", statement, "reason", err)
				return nil
			}
			return undone(err)
		}
	}
	var tag string
	f = &pipeline{}
	f.command(&tag, commit)
	if _, err := f.run(ctx, conn.Conn()); err != nil {
		return unavailable(err)
	}
	return nil
}
