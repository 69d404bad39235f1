package objectstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// maxBatch bounds the writes that share one commit, and with it how long the
// first of them waits for the others.
const maxBatch = 128

// committer runs every write of the store on one connection. Writes that
// arrive while a commit waits for the disk share the next one.
//
// Each write runs in a savepoint, so one that fails (a false condition, say)
// leaves the others alone. Every verdict, refusals included, is told only
// after the shared commit: a refusal may rest on what an earlier write of the
// same batch did.
type committer struct {
	conn  *sql.Conn
	blobs *blobs
	queue chan *write
	done  chan struct{}

	mu     sync.RWMutex // guards closed against senders on queue
	closed bool

	broken error // owned by the loop
	stmts  map[string]*sql.Stmt
}

type write struct {
	ctx  context.Context
	fn   func(*txn) error
	dead []blobName
	err  error
	done chan struct{}
}

func startCommitter(ctx context.Context, db *sql.DB, b *blobs) (*committer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	c := &committer{conn: conn, blobs: b, queue: make(chan *write, maxBatch), done: make(chan struct{}), stmts: map[string]*sql.Stmt{}}
	go c.loop()
	return c, nil
}

func (c *committer) close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.queue)
	}
	c.mu.Unlock()
	<-c.done
}

// do runs fn in a transaction and returns when it is durable or refused.
// A cancelled ctx withdraws a write that has not begun; one that has begun is
// waited for, so the answer always says what happened. fn may be run once only
// and must not keep the txn. An error that is not errUndecided means that
// nothing was written.
func (c *committer) do(ctx context.Context, fn func(*txn) error) error {
	w := &write{ctx: ctx, fn: fn, done: make(chan struct{})}
	c.mu.RLock()
	if c.closed {
		c.mu.RUnlock()
		return ErrClosed
	}
	select {
	case c.queue <- w:
		c.mu.RUnlock()
	case <-ctx.Done():
		c.mu.RUnlock()
		return ctx.Err()
	}
	<-w.done
	return w.err
}

// errUndecided marks the failure of the commit itself: the write may or may
// not be found after the next Open. Its blobs must stay.
var errUndecided = errors.New("outcome of the commit is unknown")

func (c *committer) loop() {
	defer close(c.done)
	defer c.conn.Close()
	defer func() {
		for _, s := range c.stmts {
			s.Close()
		}
	}()
	for w := range c.queue {
		batch := []*write{w}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case next, ok := <-c.queue:
				if more = ok; ok {
					batch = append(batch, next)
				}
			default:
				more = false
			}
		}
		c.run(batch)
	}
}

func (c *committer) run(batch []*write) {
	err := c.commit(batch)
	for _, w := range batch {
		if err != nil {
			w.err, w.dead = err, nil
		}
		if w.err != nil {
			w.dead = nil
		}
		c.blobs.remove(w.dead)
		close(w.done)
	}
}

// commit runs the batch in one transaction. It returns an error when none of
// the batch has a verdict of its own.
func (c *committer) commit(batch []*write) error {
	if c.broken != nil {
		return c.broken
	}
	t := &txn{c: c}
	if err := t.exec(`BEGIN IMMEDIATE`); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for _, w := range batch {
		if w.err = w.ctx.Err(); w.err != nil {
			continue
		}
		if err := c.apply(t, w); err != nil {
			return c.rollback(err)
		}
	}
	if err := t.exec(`COMMIT`); err != nil {
		// A full disk is found before the log takes the commit, and SQLite
		// then undoes the transaction. Any other failure may hide a commit
		// record of which the disk has kept a part: what is appended behind it
		// would be acknowledged and then lost, so nothing is appended.
		if code, ok := sqliteCode(err); ok && code == sqlite3.SQLITE_FULL {
			return c.rollback(err)
		}
		c.broken = fmt.Errorf("%w; open the store again: %w", ErrBroken, err)
		return fmt.Errorf("%w: %w", errUndecided, c.broken)
	}
	return nil
}

// apply runs one write in its savepoint. It returns an error only when the
// transaction as a whole is lost.
func (c *committer) apply(t *txn, w *write) error {
	if err := t.exec(`SAVEPOINT w`); err != nil {
		return err
	}
	t.dead = nil
	if w.err = w.fn(t); w.err != nil {
		if err := t.exec(`ROLLBACK TO w`); err != nil {
			return err
		}
	}
	w.dead = t.dead
	return t.exec(`RELEASE w`)
}

// rollback ends a transaction that cannot be committed; err is its reason.
func (c *committer) rollback(err error) error {
	t := &txn{c: c}
	if rerr := t.exec(`ROLLBACK`); rerr != nil {
		// SQLite has rolled back by itself after some errors and says so;
		// only a connection that still is inside the transaction is lost.
		if berr := t.exec(`BEGIN IMMEDIATE`); berr != nil {
			c.broken = fmt.Errorf("%w; open the store again: %w", ErrBroken, errors.Join(err, rerr, berr))
			return c.broken
		}
		if rerr := t.exec(`ROLLBACK`); rerr != nil {
			c.broken = fmt.Errorf("%w; open the store again: %w", ErrBroken, errors.Join(err, rerr))
			return c.broken
		}
	}
	return fmt.Errorf("transaction undone: %w", err)
}

func sqliteCode(err error) (int, bool) {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff, true
	}
	return 0, false
}

// txn is the open transaction of the committer, valid during one write.
type txn struct {
	c    *committer
	dead []blobName // blobs that lost their last segment in this write
}

// stmt prepares each statement text once for the life of the connection.
// Statements carry no context: a write that has begun is always finished.
func (t *txn) stmt(query string) (*sql.Stmt, error) {
	if s := t.c.stmts[query]; s != nil {
		return s, nil
	}
	s, err := t.c.conn.PrepareContext(context.Background(), query)
	if err == nil {
		t.c.stmts[query] = s
	}
	return s, err
}

func (t *txn) exec(query string, args ...any) error {
	s, err := t.stmt(query) //nolint:sqlclosecheck // kept for the life of the connection
	if err != nil {
		return err
	}
	_, err = s.ExecContext(context.Background(), args...)
	return err
}

func (t *txn) rows(query string, args ...any) (*sql.Rows, error) {
	s, err := t.stmt(query) //nolint:sqlclosecheck // kept for the life of the connection
	if err != nil {
		return nil, err
	}
	return s.QueryContext(context.Background(), args...)
}

type scanner interface{ Scan(...any) error }

type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

func (t *txn) row(query string, args ...any) scanner {
	s, err := t.stmt(query) //nolint:sqlclosecheck // kept for the life of the connection
	if err != nil {
		return failedRow{err}
	}
	return s.QueryRowContext(context.Background(), args...)
}

func (t *txn) bucket(name string) (int64, error) {
	var id int64
	err := t.row(`SELECT id FROM buckets WHERE name = ?`, name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, noSuchBucket(name)
	}
	return id, err
}
