package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/s3fence/s3fence/internal/state"
)

// claimOutcome writes the id as aborted. While the transaction itself is still in
// progress and has written its outcome, this waits for its end, lock_timeout at
// most; when it has not written it yet, this one wins, and the transaction fails
// at its own insert.
const claimOutcome = `
INSERT INTO outcomes (day, id, verdict) VALUES ($1, $2, $3) ON CONFLICT (day, id) DO NOTHING`

// readVerdict is a later statement than the insert that may have waited, so it
// sees the verdict that stands. It also writes the row again: its commit then
// waits for the disk and for the replicas, behind everything that was written
// before, so that a verdict is never told that a failover could still take back.
const readVerdict = `
UPDATE outcomes SET verdict = verdict WHERE day = $1 AND id = $2 RETURNING verdict`

// resolveDurably makes this commit as durable as the database can where its
// default is less. Local to the transaction.
const resolveDurably = `
SELECT set_config('synchronous_commit', 'on', true)
 WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')`

// Resolve decides a transaction whose answer was lost; see [state.Transactor]. It
// uses a connection of its own, since those of the pool may be as dead as the one
// that lost the answer. One round trip, READ COMMITTED.
func (db *DB) Resolve(ctx context.Context, id uuid.UUID) (state.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, state.DefaultWait+answerTimeout)
	defer cancel()
	conn, err := db.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() {
		closing, done := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer done()
		_ = conn.Close(closing)
	}()
	var verdict state.Outcome
	var tag string
	f := &pipeline{}
	f.exec(begin)
	f.exec(setLimits, milliseconds(state.DefaultWait), milliseconds(idleLimit))
	f.exec(resolveDurably)
	f.exec(claimOutcome, outcomeDay(id), pgUUID(id), state.Aborted)
	f.query(func(rows pgx.Rows) error { return rows.Scan((*int)(&verdict)) }, readVerdict, outcomeDay(id), pgUUID(id))
	f.command(&tag, commit)
	// A proxy cut off in the middle of its second flush has written its outcome and
	// will never say COMMIT: without an end to its session there is no verdict.
	stop := db.breakLocks(0, []int64{txLock(id)}, nil)
	_, err = f.run(ctx, conn)
	stop()
	if err != nil {
		return 0, undone(err)
	}
	if warning := warningsOf(conn).last; tag != "COMMIT" || warning != nil {
		return 0, fmt.Errorf("%w: the verdict on transaction %s is not durable yet (%s)", state.ErrUnavailable, id, tag)
	}
	if verdict != state.Committed && verdict != state.Aborted {
		return 0, fmt.Errorf("%w: transaction %s has verdict %d", state.ErrUnavailable, id, verdict)
	}
	return verdict, nil
}
