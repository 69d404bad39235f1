package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/s3fence/s3fence/internal/state"
)

// session is one connection with its prepared statements. Its statements run
// without a context: SQLite could only interrupt computing, and what takes time
// here is the disk, which nothing interrupts; a watcher for each statement
// would cost more than the statement. It is used by one goroutine at a time.
type session struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func newSession(ctx context.Context, db *sql.DB) (*session, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, failed(err)
	}
	return &session{conn: conn, stmts: map[string]*sql.Stmt{}}, nil
}

func (c *session) close() {
	for _, st := range c.stmts {
		_ = st.Close()
	}
	_ = c.conn.Close()
}

// discard closes the connection itself, where its condition is not known.
func (c *session) discard() {
	for _, st := range c.stmts {
		_ = st.Close()
	}
	_ = c.conn.Raw(func(any) error { return errDiscard })
	_ = c.conn.Close()
}

func (c *session) prepare(query string) (*sql.Stmt, error) {
	if st := c.stmts[query]; st != nil {
		return st, nil
	}
	st, err := c.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, failed(err)
	}
	c.stmts[query] = st
	return st, nil
}

func (c *session) exec(query string, args ...any) (sql.Result, error) {
	st, err := c.prepare(query) //nolint:sqlclosecheck // kept until the session ends
	if err != nil {
		return nil, err
	}
	return st.ExecContext(context.Background(), args...)
}

// run is exec for those who need no result; its error is translated.
func (c *session) run(query string, args ...any) error {
	_, err := c.exec(query, args...)
	return failed(err)
}

// one reads one row; sql.ErrNoRows stays what it is.
func (c *session) one(query string, args []any, dest ...any) error {
	st, err := c.prepare(query) //nolint:sqlclosecheck // kept until the session ends
	if err != nil {
		return err
	}
	err = st.QueryRowContext(context.Background(), args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return failed(err)
}

// each reads rows.
func (c *session) each(query string, args []any, row func(scan func(...any) error) error) error {
	st, err := c.prepare(query) //nolint:sqlclosecheck // kept until the session ends
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(context.Background(), args...)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return failed(err)
		}
	}
	return failed(rows.Err())
}

const (
	beginReadSQL = `BEGIN`
	beginSQL     = `BEGIN IMMEDIATE`
	commitSQL    = `COMMIT`
	rollbackSQL  = `ROLLBACK`
)

// reading runs f on a reader. With snapshot, all of its statements see one
// moment; a single statement does that by itself.
func (s *Store) reading(ctx context.Context, snapshot bool, f func(*session) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", state.ErrUnavailable, err)
	}
	var c *session
	select {
	case c = <-s.readers:
	default:
		timer := time.NewTimer(readWait)
		defer timer.Stop()
		select {
		case c = <-s.readers:
		case <-timer.C:
			return fmt.Errorf("%w: no reader was free for %v", state.ErrBusy, readWait)
		case <-s.closing:
			return errClosed()
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", state.ErrUnavailable, ctx.Err())
		}
	}
	done := false
	defer func() {
		if !done && c != nil { // a panic, or a connection that is not well
			c.discard()
			c = nil
		}
		s.readers <- c
	}()
	select {
	case <-s.closing:
		done = true
		return errClosed()
	default:
	}
	if c == nil {
		var err error
		if c, err = newSession(ctx, s.read); err != nil {
			return err
		}
	}
	if !snapshot {
		err := f(c)
		done = err == nil || errors.Is(err, sql.ErrNoRows) || errors.Is(err, state.ErrSchema)
		return err
	}
	if err := c.run(beginReadSQL); err != nil {
		return err
	}
	if err := f(c); err != nil {
		return err
	}
	if err := c.run(commitSQL); err != nil {
		return err
	}
	done = true
	return nil
}

func errClosed() error { return fmt.Errorf("%w: it is closed", state.ErrUnavailable) }
