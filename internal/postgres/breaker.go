package postgres

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// patience is how long an exclusive lock, or a verdict, is waited for before
	// sessions that do not move are ended, and how long a session must not have
	// moved to be one of them. A commit holds a scope for single milliseconds and a
	// paused garbage collector or a busy machine stalls a proxy for tens; a takeover
	// is promised within a second. Ending a session that would have come back costs
	// its callers a repeated request and nothing else.
	patience = 300 * time.Millisecond
	// keyPatience is the same for the locks of keys, and for guards and scopes that
	// are waited for to be shared. Nobody's takeover hangs on them, so the proxy gets
	// more time to come back; but one that was cut off in the middle of its second
	// flush would otherwise hold them until TCP gives it up, after two hours:
	// PostgreSQL does not call that idle.
	keyPatience = 2 * time.Second
)

// endStuck ends the sessions of our own role that hold one of the locks $1 and
// have not taken a step for $2 milliseconds, where the step that is missing is
// the proxy's: it is idle in a transaction, or in the middle of a flush whose rest
// does not come. A session that itself waits for a lock gets twice the time, since
// the one at the end of the chain is the one to be ended. Whoever holds the lock
// $3, the waiter itself, is spared.
//
// Sessions that work, that write the log, or that wait for a synchronous replica
// are left alone: their transactions may be past COMMIT. Those that merely stand
// in the queue for the lock do not hold it and are never ended; pg_blocking_pids
// would name them too. With $4 only those count that hold a lock exclusively: who
// waits to share it is blocked by nobody else. The number of a lock is in two halves in pg_locks.
//
// Reads shared memory only, takes no lock that a transaction of ours could hold.
const endStuck = `
WITH held AS (
     SELECT pid, mode, (classid::bigint << 32) | objid::bigint AS id FROM pg_locks
      WHERE locktype = 'advisory' AND granted AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
SELECT a.pid, a.state, a.application_name, pg_terminate_backend(a.pid)
  FROM pg_stat_activity a
 WHERE a.pid IN (SELECT pid FROM held WHERE id = ANY ($1::bigint[]) AND (mode = 'ExclusiveLock' OR NOT $4))
   AND a.pid NOT IN (SELECT pid FROM held WHERE id = $3)
   AND a.usename = current_user
   AND CASE WHEN a.state LIKE 'idle in transaction%' THEN 1
            WHEN a.state = 'active' AND a.wait_event_type = 'Client' THEN 1
            WHEN a.state = 'active' AND a.wait_event_type = 'Lock' THEN 2
       END * make_interval(secs => $2::float8 / 1000) < clock_timestamp() - a.state_change`

// breakLocks ends stuck sessions that hold one of the locks: for urgent ones after
// patience, for others after keyPatience and only where they hold them
// exclusively, and again and again until stop is called. own is a lock of the
// waiter itself. A proxy frozen between lock and COMMIT must not hold back a takeover
// until idleLimit. A call that ends in time has cost a timer.
func (db *DB) breakLocks(own int64, urgent, others []int64) (stop func()) {
	if len(urgent)+len(others) == 0 {
		return func() {}
	}
	first := patience
	if len(urgent) == 0 {
		first = keyPatience
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	begun := time.Now()
	timer := time.AfterFunc(first, func() {
		defer close(ended)
		db.breaking(ctx, begun, own, urgent, others)
	})
	return func() {
		cancel()
		if !timer.Stop() {
			<-ended
		}
	}
}

// breaking has a connection of its own: those of the pool may all be waiting.
func (db *DB) breaking(ctx context.Context, begun time.Time, own int64, urgent, others []int64) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			closing, done := context.WithTimeout(context.Background(), rollbackTimeout)
			defer done()
			_ = conn.Close(closing)
		}
	}()
	tick := time.NewTicker(patience)
	defer tick.Stop()
	for ctx.Err() == nil {
		var err error
		if conn == nil || conn.IsClosed() {
			conn, err = db.connect(ctx)
		}
		if err == nil && len(urgent) > 0 {
			err = db.endStuck(ctx, conn, urgent, patience, own, false)
		}
		if err == nil && len(others) > 0 && time.Since(begun) >= keyPatience {
			err = db.endStuck(ctx, conn, others, keyPatience, own, true)
		}
		if err != nil && ctx.Err() == nil {
			db.log.Warn("cannot look for sessions that hold a lock and do not move", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (db *DB) endStuck(ctx context.Context, conn *pgx.Conn, ids []int64, still time.Duration, own int64, exclusiveOnly bool) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	f := &pipeline{}
	f.query(func(rows pgx.Rows) error {
		var pid int32
		var state, application string
		var ended bool
		if err := rows.Scan(&pid, &state, &application, &ended); err != nil {
			return err
		}
		db.log.Warn("ended a session that held a lock and did not move",
			slog.Int("pid", int(pid)), "state", state, "application", application, "ended", ended)
		return nil
	}, endStuck, ids, still.Milliseconds(), own, exclusiveOnly)
	_, err := f.run(ctx, conn)
	return err
}
