package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
)

const (
	// idleLimit is how long a session may hold its locks while its proxy says
	// nothing. Decide takes microseconds; a proxy silent for this long is frozen
	// or cut off, and PostgreSQL ends its session.
	idleLimit = 5 * time.Second
	// commitTimeout bounds the wait for the answer to the second flush, whatever
	// the caller's context says.
	commitTimeout = 10 * time.Second
	// freshTries bounds how many connections a transaction or a read tries: a dead one
	// of the pool, another one, and then a new one; see another.
	freshTries = 3
)

// The isolation is set explicitly: a database whose default is another one would
// hand later statements an old snapshot, and one that is read-only by default
// none of the writes.
const begin = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE`

// setLimits bounds this transaction's waits. SET LOCAL in effect, so it is gone
// with the transaction, as PgBouncer needs it. synchronous_commit is left as the
// database has it.
const setLimits = `
SELECT set_config('lock_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $2, true)`

// setLimitsAndSign also takes the transaction's own lock, for which nobody ever
// waits: it tells others whose session this is, through poolers too.
const setLimitsAndSign = setLimits + `, pg_advisory_xact_lock($3)`

// readClock is a statement of its own after the locks: clock_timestamp() before
// a wait would make an expired lease look alive.
const readClock = `SELECT clock_timestamp()`

const commit = `COMMIT`

var errNoID = errors.New("the transaction has no id; use state.Run")

// Transact runs tx once; see [state.Transactor]. A call takes one round trip
// where there is nothing to write, else two, and one more for each Draw or Lift.
// While an exclusive lock is waited for, a second connection may be opened.
func (db *DB) Transact(ctx context.Context, tx *state.Tx) error {
	if tx.ID == uuid.Nil {
		return errNoID
	}
	conn, view, lastGuard, err := db.begin(ctx, tx)
	if err != nil {
		return err
	}
	defer conn.Release() // ends the connection of a transaction left open
	changes, err := tx.Decide(view)
	if err != nil {
		rollback(conn.Conn())
		return err
	}
	if changes.Empty() {
		rollback(conn.Conn())
		return nil
	}
	if err := lockedExclusively(tx, view, &changes); err != nil {
		rollback(conn.Conn())
		return err
	}
	f := &pipeline{}
	f.exec(insertOutcome, outcomeDay(tx.ID), pgUUID(tx.ID), state.Committed)
	if err := write(f, view, &changes, lastGuard); err != nil {
		rollback(conn.Conn())
		return unavailable(err)
	}
	if !tx.EventLog {
		// The points are for what somebody waits for; the log's writer would come by
		// first and take them.
		pause.At(pause.BeforeCommit)
	}
	if err := ctx.Err(); err != nil {
		rollback(conn.Conn())
		return unavailable(err)
	}
	return db.commit(ctx, conn.Conn(), f)
}

// commit sends the second flush. From here on the caller's impatience counts for
// nothing: a commit that is cancelled half way is one whose outcome is unknown.
func (db *DB) commit(ctx context.Context, conn *pgx.Conn, f *pipeline) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), db.commitTimeout)
	defer cancel()
	var tag string
	f.command(&tag, commit)
	seen := warningsOf(conn)
	seen.last = nil
	failed, err := f.run(ctx, conn)
	switch {
	case err == nil && tag == "ROLLBACK":
		return fmt.Errorf("%w: PostgreSQL rolled the transaction back", state.ErrUnavailable)
	case err == nil && tag != "COMMIT":
		return fmt.Errorf("%w: COMMIT was answered with %q", state.ErrUnknown, tag)
	case err == nil && seen.last != nil:
		// Such as "canceling wait for synchronous replication": committed here,
		// and perhaps nowhere else.
		return fmt.Errorf("%w: WARNING: %s", state.ErrUnknown, seen.last.Message)
	case err == nil:
		return nil
	case !refusedByServer(err) || tag == "COMMIT":
		// An ERROR that follows the answer to COMMIT is about something else.
		return fmt.Errorf("%w: %w", state.ErrUnknown, err)
	}
	rollback(conn)
	if failed == 0 && sqlState(err) == uniqueViolation {
		return fmt.Errorf("%w: the transaction was decided as aborted while it was on its way", state.ErrUnavailable)
	}
	return undone(err)
}

// begin sends the first flush: it opens the transaction, takes the locks and
// reads. The connection is the caller's when there is no error. lastGuard is nil
// unless the guard list was locked.
func (db *DB) begin(ctx context.Context, tx *state.Tx) (conn *pgxpool.Conn, view *state.View, lastGuard *int64, err error) {
	for try := 1; ; try++ {
		conn, err := db.acquire(ctx)
		if err != nil {
			return nil, nil, nil, err
		}
		view, lastGuard, err := db.lockAndRead(ctx, conn.Conn(), tx)
		if err == nil {
			return conn, view, lastGuard, nil
		}
		rollback(conn.Conn())
		conn.Release()
		if !db.another(ctx, try, err) {
			return nil, nil, nil, undone(err)
		}
	}
}

// another reports that a call whose connection was found dead may try once more. The
// second dead one is no accident: after a restart of the server all are that the pool
// has, and those that were used within the last second it gives away unseen. So the
// pool begins anew, and the next try has a new connection.
func (db *DB) another(ctx context.Context, try int, err error) bool {
	if try == freshTries || !lostConnection(ctx, err) {
		return false
	}
	if try == freshTries-1 {
		db.pool.Reset()
	}
	return true
}

// lockAndRead is the first flush. READ COMMITTED; locks in statements of their
// own, in the global order; then the reads, each in a later statement, so that
// each sees everything that was committed by whoever held the locks before.
func (db *DB) lockAndRead(ctx context.Context, conn *pgx.Conn, tx *state.Tx) (view *state.View, lastGuard *int64, err error) {
	wait := cmp.Or(tx.Wait, state.DefaultWait)
	// lock_timeout bounds each wait; this one bounds all of them and the reads.
	flush, cancel := context.WithTimeout(ctx, 2*wait+answerTimeout)
	defer cancel()

	view = newView()
	p := planLocks(tx)
	f := &pipeline{}
	f.exec(begin)
	f.exec(setLimitsAndSign, milliseconds(wait), milliseconds(idleLimit), txLock(tx.ID))
	p.take(f, tx.Try, view.Missed)
	f.query(func(rows pgx.Rows) error { return scanTime(rows, &view.Now) }, readClock)
	if tx.GuardList {
		lastGuard = new(int64)
		readGuardList(f, view, lastGuard)
	}
	readGuards(f, view, tx.Guards)
	scopes := make([]fence.Scope, len(tx.Scopes))
	for i, s := range tx.Scopes {
		scopes[i] = s.Scope
	}
	readScopes(f, view, scopes)
	readObjects(f, view, tx.Keys)
	readClaims(f, view, tx.Slots)
	readUploads(f, view, tx.Uploads)
	readRetries(f, view, readAllRetries, state.RecordsOf(tx.Requests))
	readRetries(f, view, readSomeRetries, tx.Retries)
	readAttempts(f, view, tx.Attempts)
	readLines(f, view, tx.Lines, tx.Absent)

	stop := db.breakLocks(txLock(tx.ID), p.urgent(tx.Try), p.others(tx.Try))
	_, err = f.run(flush, conn)
	stop()
	if err != nil {
		return nil, nil, err
	}
	for s := range view.Missed {
		delete(view.Scopes, s)
	}
	view.Draw = func() (fence.Token, error) {
		if !slices.ContainsFunc(tx.Scopes, func(l state.ScopeLock) bool { return l.Mode == state.Exclusive && !view.Missed[l.Scope] }) {
			return 0, errDrawUnlocked
		}
		return db.draw(ctx, conn, tx.ID)
	}
	view.Lift = func(t fence.Token) error { return db.lift(ctx, conn, tx.ID, t) }
	return view, lastGuard, nil
}

var errDrawUnlocked = errors.New("a token was drawn by a transaction that holds no scope exclusively (F2)")

// lockedExclusively refuses to write a scope that the transaction does not hold
// exclusively: somebody may be committing under the mark that it read (F4). A bug
// of the caller, so no sentinel.
func lockedExclusively(tx *state.Tx, v *state.View, c *state.Changes) error {
	for i := range c.Scopes {
		s := c.Scopes[i].Scope
		if v.Missed[s] || !slices.Contains(tx.Scopes, state.ScopeLock{Scope: s, Mode: state.Exclusive}) {
			return fmt.Errorf("scope %s is written by a transaction that does not hold it exclusively", s)
		}
	}
	if len(c.Events) > 0 && !tx.EventLog {
		return errors.New("events are added by a transaction that does not hold their log")
	}
	return nil
}

func newView() *state.View {
	return &state.View{
		Guards:     map[fence.GuardID]fence.Guard{},
		Scopes:     map[fence.Scope]state.Scope{},
		Missed:     map[fence.Scope]bool{},
		Objects:    map[object.Ref]*state.Object{},
		Claims:     map[state.Slot]*state.Claim{},
		Uploads:    map[string]*state.Upload{},
		Retries:    map[state.RetryID][]byte{},
		Referenced: map[uuid.UUID]bool{},
		Heads:      map[fence.Scope]state.Place{},
	}
}

// milliseconds is a duration as PostgreSQL's settings take it; never 0, which
// would mean no limit.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

// outcomeDay is the day of a UUID version 7's own time, which everyone who looks
// for the id computes alike. Any 48 bits make a day that PostgreSQL knows.
func outcomeDay(id uuid.UUID) pgtype.Date {
	ms := int64(id[0])<<40 | int64(id[1])<<32 | int64(id[2])<<24 | int64(id[3])<<16 | int64(id[4])<<8 | int64(id[5])
	return pgtype.Date{Time: time.UnixMilli(ms).UTC().Truncate(24 * time.Hour), Valid: true}
}

func pgUUID(id uuid.UUID) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

func pgUUIDs(ids []uuid.UUID) []pgtype.UUID {
	list := make([]pgtype.UUID, len(ids))
	for i, id := range ids {
		list[i] = pgUUID(id)
	}
	return list
}
