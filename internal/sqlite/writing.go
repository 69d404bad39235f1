package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	codes "modernc.org/sqlite/lib"

	"github.com/s3fence/s3fence/internal/state"
)

// errDiscard makes database/sql close a connection instead of keeping it.
var errDiscard = driver.ErrBadConn

// writing is a write transaction: the writer's turn, and the file's one lock.
type writing struct {
	*session
	store *Store
	open  bool
	// now is the clock as read after BEGIN.
	now time.Time
}

// begin waits for the writer's turn in this process, then for the file's lock
// among processes, both together no longer than wait. The caller calls end.
func (s *Store) beginWrite(ctx context.Context, wait time.Duration) (*writing, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", state.ErrUnavailable, err)
	}
	deadline := time.Now().Add(wait)
	select {
	case s.turn <- struct{}{}:
	default:
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case s.turn <- struct{}{}:
		case <-timer.C:
			return nil, fmt.Errorf("%w (waited %v)", state.ErrBusy, wait)
		case <-s.closing:
			return nil, errClosed()
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: gave up waiting for the writer: %w", state.ErrUnavailable, ctx.Err())
		}
	}
	select {
	case <-s.closing:
		<-s.turn
		return nil, errClosed()
	default:
	}
	w := &writing{store: s}
	if err := w.start(ctx, deadline); err != nil {
		w.end()
		return nil, err
	}
	w.now = s.now()
	return w, nil
}

func (w *writing) start(ctx context.Context, deadline time.Time) error {
	s := w.store
	if s.writer == nil {
		c, err := newSession(ctx, s.write)
		if err != nil {
			return err
		}
		s.writer = c
	}
	w.session = s.writer
	if !s.reserve {
		if err := s.keepReserve(); err != nil {
			return err
		}
	}
	for {
		_, err := w.exec(beginSQL)
		switch {
		case err == nil:
			w.open = true
			return nil
		case !isBusy(err):
			s.drop()
			return failed(err)
		case ctx.Err() != nil:
			return fmt.Errorf("%w: gave up waiting for another process: %w", state.ErrUnavailable, ctx.Err())
		case !time.Now().Before(deadline):
			return fmt.Errorf("%w: another process writes to %s: %w", state.ErrBusy, s.path, err)
		}
	}
}

// drop forgets the writer's connection, whose condition is not known.
func (s *Store) drop() {
	if s.writer != nil {
		s.writer.discard()
		s.writer = nil
	}
}

// commit ends the transaction. What its errors mean stands in the package's
// comment.
func (w *writing) commit() error {
	w.open = false
	err := w.store.sendCommit(func() error {
		_, err := w.exec(commitSQL)
		return err
	})
	switch {
	case err == nil:
		return nil
	case isBusy(err):
		if _, rerr := w.exec(rollbackSQL); rerr == nil {
			return failed(err)
		}
	case code(err) == codes.SQLITE_FULL && w.forgotten():
		return failed(err)
	}
	w.store.drop()
	return fmt.Errorf("%w: %w", state.ErrUnknown, full(err))
}

// end rolls back what was not committed and gives the turn away.
func (w *writing) end() {
	if w.open {
		w.open = false
		if _, err := w.exec(rollbackSQL); err != nil {
			w.store.drop() // closing rolls back
		}
	}
	<-w.store.turn
}
