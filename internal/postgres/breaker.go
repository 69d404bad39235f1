package postgres

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience is how long an exclusive lock is waited for before sessions that do
// not move are ended, and how long a session must not have moved to be one of
// them. A commit holds a scope for single milliseconds and a paused garbage
// collector or a busy machine stalls a proxy for tens; a takeover is promised
// within a second. Ending a session that would have come back costs its callers
// a repeated request and nothing else.
const patience = 300 * time.Millisecond

// endStuck ends the sessions of our own role that hold one of the locks $1 and
// have not taken a step for $2 milliseconds, where the step that is missing is
// the proxy's (idle in a transaction, or in the middle of a flush whose rest does
// not come) or a lock that somebody else keeps from them. It lists what it ended.
//
// Sessions that work, that write the log, or that wait for a synchronous replica
// are left alone: their transactions may be past COMMIT. Those that merely wait
// in the queue for the lock do not hold it and are never ended; pg_blocking_pids
// would name them too. The lock's number is in two halves in pg_locks.
//
// Reads shared memory only, takes no lock that a transaction of ours could hold.
const endStuck = `
SELECT a.pid, a.state, a.application_name, pg_terminate_backend(a.pid)
  FROM (SELECT DISTINCT pid FROM pg_locks
         WHERE locktype = 'advisory' AND granted AND objsubid = 1
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND ((classid::bigint << 32) | objid::bigint) = ANY ($1::bigint[])) AS h
  JOIN pg_stat_activity a ON a.pid = h.pid
 WHERE a.usename = current_user AND a.pid <> pg_backend_pid()
   AND (a.state LIKE 'idle in transaction%' OR a.state = 'active' AND a.wait_event_type IN ('Client', 'Lock'))
   AND a.state_change < clock_timestamp() - make_interval(secs => $2::float8 / 1000)`

// breakLocks ends stuck sessions that hold one of the locks, once patience is
// over and then again and again until stop is called. A proxy frozen between lock
// and COMMIT must not hold back a takeover until idleLimit.
//
// It has a connection of its own: those of the pool may all be waiting.
func (db *DB) breakLocks(ids []int64) (stop func()) {
	if len(ids) == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(patience)
		defer tick.Stop()
		var conn *pgx.Conn
		defer func() {
			if conn != nil {
				closing, done := context.WithTimeout(context.Background(), rollbackTimeout)
				defer done()
				_ = conn.Close(closing)
			}
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if conn == nil || conn.IsClosed() {
				var err error
				if conn, err = db.connect(ctx); err != nil {
					db.log.Warn("cannot look for sessions that hold a lock", "error", err)
					continue
				}
			}
			if err := db.endStuck(ctx, conn, ids); err != nil && ctx.Err() == nil {
				db.log.Warn("cannot end sessions that hold a lock", "error", err)
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

func (db *DB) endStuck(ctx context.Context, conn *pgx.Conn, ids []int64) error {
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
	}, endStuck, ids, patience.Milliseconds())
	_, err := f.run(ctx, conn)
	return err
}
