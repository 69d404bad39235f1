package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/state"
)

// Options changes how a Store behaves; its zero value is right.
type Options struct {
	// Readers is how many reads go on at once; 4 where zero.
	Readers int
	// Clock is the database's clock, for tests; time.Now where nil.
	Clock func() time.Time
}

// readWait bounds the wait for one of the readers' connections, and foreign
// how long a read waits for another process that recovers the log.
const (
	readWait = 5 * time.Second
	foreign  = 5 * time.Second
	// patience is how long SQLite waits for another process's writer before the
	// writer looks at its own deadline again.
	patience = 20 * time.Millisecond
)

// Store is a state in an SQLite file, safe for concurrent use. It implements
// [state.State].
type Store struct {
	path  string
	clock func() time.Time

	write *sql.DB
	read  *sql.DB

	// turn holds the one place of the writer; who has it owns writer and reserve.
	turn   chan struct{}
	writer *session // nil until first used, and after a COMMIT failed
	// reserve says that the reserve stands.
	reserve bool
	// readers holds the idle readers; nil stands for one not opened yet.
	readers chan *session

	closing chan struct{}
	close   func() error
	// sendCommit runs COMMIT; tests lose it, or its answer.
	sendCommit func(commit func() error) error
}

var _ state.State = (*Store)(nil)

// Open opens the state in a file that [Migrate] has prepared. It fails with
// state.ErrSchema where there is no file or its schema is not the one that this
// program knows, with state.ErrUnavailable where the file cannot be used. The
// caller closes the Store.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	if err := present(path); err != nil {
		return nil, err
	}
	if o.Readers <= 0 {
		o.Readers = 4
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	s := &Store{
		path: path, clock: o.Clock,
		turn: make(chan struct{}, 1), readers: make(chan *session, o.Readers),
		closing: make(chan struct{}), sendCommit: func(commit func() error) error { return commit() },
	}
	var err error
	if s.write, err = open(path, patience, url.Values{"mode": {"rw"}}); err != nil {
		return nil, err
	}
	if s.read, err = open(path, foreign, url.Values{"mode": {"rw"}, "_pragma": {"query_only(1)"}}); err != nil {
		_ = s.write.Close()
		return nil, err
	}
	for range o.Readers {
		s.readers <- nil
	}
	s.close = sync.OnceValue(s.shut)
	if err := s.begin(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// begin checks that the file is what it should be.
func (s *Store) begin(ctx context.Context) error {
	if err := s.Check(ctx); err != nil {
		return err
	}
	var mode string
	if err := s.read.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return failed(err)
	}
	if !strings.EqualFold(mode, "wal") {
		return fmt.Errorf("%w: %s is in journal mode %s, not wal; put it on a local disk and run s3fence migrate", state.ErrUnavailable, s.path, mode)
	}
	return nil
}

func open(path string, busy time.Duration, query url.Values) (*sql.DB, error) {
	dsn, err := source(path, busy, query)
	if err != nil {
		return nil, err
	}
	return sql.Open("sqlite", dsn)
}

// now is the database's clock, as precise as times are kept.
func (s *Store) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

const deploymentSQL = `SELECT id, incarnation FROM deployment`

// Deployment identifies the state.
func (s *Store) Deployment(ctx context.Context) (d state.Deployment, err error) {
	err = s.reading(ctx, false, func(c *session) error {
		return c.one(deploymentSQL, nil, (*uuidColumn)(&d.ID), &d.Incarnation)
	})
	return d, err
}

// Check fails with state.ErrSchema, naming the remedy, unless the schema is the
// one this program knows.
func (s *Store) Check(ctx context.Context) error {
	return s.reading(ctx, false, func(c *session) error { return checkSchema(context.Background(), c.conn, s.path) })
}

// Close waits for the transactions and reads under way and ends the
// connections. Later calls fail with state.ErrUnavailable.
func (s *Store) Close() error { return s.close() }

func (s *Store) shut() error {
	close(s.closing)
	s.turn <- struct{}{} // kept: nobody writes any more
	for range cap(s.readers) {
		if c := <-s.readers; c != nil {
			c.close()
		}
	}
	if s.writer != nil {
		s.writer.close()
	}
	err := s.read.Close()
	if werr := s.write.Close(); err == nil {
		err = werr
	}
	return err
}

// uuidColumn reads an id from 16 bytes.
type uuidColumn uuid.UUID

// Scan implements sql.Scanner.
func (u *uuidColumn) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok || len(b) != len(u) {
		return fmt.Errorf("%T is no id of 16 bytes", src)
	}
	copy(u[:], b)
	return nil
}
