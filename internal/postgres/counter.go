package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/s3fence/s3fence/internal/fence"
)

// The counter's lock orders lifts with draws: setval is not transactional, and a
// nextval between its look and its step would be taken back. Draws share it. It
// comes last in the lock order, since no other lock is taken once Decide has
// begun, and it ends with the transaction. A lift after a draw in one transaction
// upgrades it; two that do so at once deadlock, one of them is told state.ErrBusy.
const (
	shareCounter = `SELECT pg_advisory_xact_lock_shared($1)`
	ownCounter   = `SELECT pg_advisory_xact_lock($1)`
)

// nextToken draws (F2). A sequence is not transactional, so no two transactions
// ever get one value and a rollback leaves a gap. The incarnation is a later
// statement's read of a row that only grows.
const nextToken = `SELECT nextval('fencing_token'), (SELECT incarnation FROM deployment)`

const readIncarnation = `SELECT incarnation FROM deployment`

// liftCounter raises the sequence to $1 so that the next value is above it. Under
// the counter's exclusive lock nobody draws between the look and the step.
const liftCounter = `
SELECT setval('fencing_token', $1, true) FROM fencing_token
 WHERE last_value < $1 OR (last_value = $1 AND NOT is_called)`

// atCounter runs a flush that waits for the counter's lock. All grants of the
// deployment pass here: whoever froze with the lock is ended as soon as one that
// froze with a scope is.
func (db *DB) atCounter(ctx context.Context, conn *pgx.Conn, id uuid.UUID, f *pipeline) error {
	stop := db.breakLocks(txLock(id), []int64{lockID(counterDomain)}, nil)
	defer stop()
	_, err := f.run(ctx, conn)
	return err
}

// draw takes the next token in a round trip of its own: grants are rare, and
// which commits need a token is known only when they are decided.
func (db *DB) draw(ctx context.Context, conn *pgx.Conn, id uuid.UUID) (fence.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var counter, incarnation int64
	f := &pipeline{}
	f.exec(shareCounter, lockID(counterDomain))
	f.query(func(rows pgx.Rows) error { return rows.Scan(&counter, &incarnation) }, nextToken)
	if err := db.atCounter(ctx, conn, id, f); err != nil {
		return 0, fmt.Errorf("draw a token: %w", undone(err))
	}
	t, err := fence.MakeToken(incarnation, counter)
	if err != nil {
		return 0, unavailable(err)
	}
	return t, nil
}

// lift makes the counter continue above t. Tokens of an older incarnation lie
// below it anyway; those of a later one, or the last of this one, cannot be
// risen above and are refused.
func (db *DB) lift(ctx context.Context, conn *pgx.Conn, id uuid.UUID, t fence.Token) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	const most = int64(1)<<fence.CounterBits - 1
	var incarnation int64
	f := &pipeline{}
	f.query(func(rows pgx.Rows) error { return rows.Scan(&incarnation) }, readIncarnation)
	if _, err := f.run(ctx, conn); err != nil {
		return fmt.Errorf("lift the counter: %w", undone(err))
	}
	its, counter := int64(t)>>fence.CounterBits, int64(t)&most
	switch {
	case its < incarnation || t <= 0:
		return nil
	case its > incarnation || counter == most:
		return fmt.Errorf("token %d is beyond what incarnation %d of the state can ever grant", t, incarnation)
	case counter == 0:
		return nil
	}
	f = &pipeline{}
	f.exec(ownCounter, lockID(counterDomain))
	f.exec(liftCounter, counter)
	if err := db.atCounter(ctx, conn, id, f); err != nil {
		return fmt.Errorf("lift the counter: %w", undone(err))
	}
	return nil
}
