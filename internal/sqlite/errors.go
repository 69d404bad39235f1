package sqlite

import (
	"errors"
	"fmt"
	"strings"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/s3fence/s3fence/internal/state"
)

// fallen is in the message of each trigger that refuses to lower something.
const fallen = "must never fall"

// code is SQLite's primary result code of an error; 0 if it has none.
func code(err error) int {
	var e *driver.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

func isBusy(err error) bool {
	c := code(err)
	return c == codes.SQLITE_BUSY || c == codes.SQLITE_LOCKED
}

// failed translates the error of a statement other than COMMIT: its
// transaction is, or will be, rolled back.
func failed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, state.ErrMarkFalls), errors.Is(err, state.ErrUnavailable), errors.Is(err, state.ErrBusy):
		return err
	case code(err) == codes.SQLITE_CONSTRAINT && strings.Contains(err.Error(), fallen):
		return fmt.Errorf("%w: %w", state.ErrMarkFalls, err)
	}
	return fmt.Errorf("%w: %w", state.ErrUnavailable, full(err))
}

// full names the cause where it is a disk without room.
func full(err error) error {
	if code(err) == codes.SQLITE_FULL {
		return fmt.Errorf("%w: %w", state.ErrDiskFull, err)
	}
	return err
}
