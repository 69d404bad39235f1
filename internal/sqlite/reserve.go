package sqlite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/s3fence/s3fence/internal/state"
)

// reserved is how much of the disk is kept back, in a file beside the state's, for the
// pages that the log may hold and the file has no room for yet: SQLite copies the log
// at a thousand pages of 4 KiB. A log that cannot be copied for want of room cannot be
// emptied, and what a refused COMMIT has left in it cannot be told from a commit.
const reserved = 4 << 20

func (s *Store) reservePath() string { return s.path + "-reserve" }

// keepReserve makes the reserve where it is not whole. The bytes are such that no file
// system can keep them in less.
func (s *Store) keepReserve() error {
	if info, err := os.Stat(s.reservePath()); err == nil && info.Size() == reserved {
		s.reserve = true
		return nil
	}
	f, err := os.OpenFile(s.reservePath(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = io.CopyN(f, rand.Reader, reserved)
		err = errors.Join(err, f.Close())
	}
	if s.reserve = err == nil; !s.reserve {
		_ = os.Remove(s.reservePath())
		return fmt.Errorf("%w: %w: there is no room for its reserve: %w", state.ErrUnavailable, state.ErrDiskFull, err)
	}
	return nil
}

// giveReserve frees the reserve.
func (s *Store) giveReserve() bool {
	s.reserve = false
	err := os.Remove(s.reservePath())
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

// emptyLogSQL copies the log into the file and truncates it, unless somebody reads
// from it at this moment.
const emptyLogSQL = `PRAGMA wal_checkpoint(TRUNCATE)`

// emptyTries is how often readers are waited for, each time for patience. They take
// microseconds, but come all the time.
const emptyTries = 25

// emptyLog reports that nothing stands in the log.
func (w *writing) emptyLog() bool {
	for range emptyTries {
		var busy, pages, copied int64
		if err := w.conn.QueryRowContext(context.Background(), emptyLogSQL).Scan(&busy, &pages, &copied); err != nil {
			return false
		}
		if busy == 0 {
			log, err := os.Stat(w.store.path + "-wal")
			return err == nil && log.Size() == 0
		}
	}
	return false
}

// forgotten rolls a transaction back that the disk had no room for, and reports that
// nothing of it is left that a recovery could believe: the log is empty. Where that
// took the reserve, what the log had taken is as much as the file grew by, so that the
// reserve is there again unless somebody else took the room; then no transaction is
// begun until it is.
func (w *writing) forgotten() bool {
	_, _ = w.exec(rollbackSQL) // SQLite may have done so by itself
	if w.emptyLog() {
		return true
	}
	emptied := w.store.giveReserve() && w.emptyLog()
	_ = w.store.keepReserve() // begin tries again, and tells
	return emptied
}
