package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver named "sqlite"

	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/migrations"
)

// source names a file for the driver, with the settings of every connection.
// busy is how long SQLite itself waits for the lock of another process.
func source(path string, busy time.Duration, query url.Values) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	query.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()))
	query.Add("_pragma", "foreign_keys(1)")
	query.Add("_pragma", "recursive_triggers(1)")
	query.Add("_pragma", "synchronous(FULL)")
	query.Add("_pragma", "fullfsync(1)") // macOS: fsync alone does not reach the disk
	query.Add("_pragma", "checkpoint_fullfsync(1)")
	return "file:" + (&url.URL{Path: abs}).EscapedPath() + "?" + query.Encode(), nil
}

// schemas are the migrations of this database.
func schemas() (fs.FS, error) { return fs.Sub(migrations.Files, "sqlite") }

// Migrate makes the file if there is none, readable by its owner only, and
// brings its schema up to date. It may run in several processes at once. The
// directory must exist.
func Migrate(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("the state file cannot be made: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("the state file cannot be made: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("the directory of the state file cannot be synced: %w", err)
	}
	dsn, err := source(path, 10*time.Second, url.Values{"_txlock": {"immediate"}, "_pragma": {"journal_mode(wal)"}})
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	if got, want, err := versions(ctx, db); err != nil {
		return fmt.Errorf("the state file %s cannot be used: %w", path, err)
	} else if got > want {
		return newer(path, got, want)
	}
	files, err := schemas()
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("the migrations cannot be read: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		// Where another process migrated at the same time, its work is ours.
		if checkSchema(ctx, db, path) == nil {
			return nil
		}
		return fmt.Errorf("the state file %s cannot be migrated: %w", path, err)
	}
	return checkSchema(ctx, db, path)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// latest is the schema version that this program knows.
func latest() (int64, error) {
	files, err := schemas()
	if err != nil {
		return 0, err
	}
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return 0, err
	}
	var version int64
	for _, name := range names {
		number, _, _ := strings.Cut(name, "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("migration %s has no number: %w", name, err)
		}
		version = max(version, n)
	}
	return version, nil
}

// versionSQL is the last migration that was applied; goose keeps the table.
const versionSQL = `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`

// querier is a connection, or a pool of them.
type querier interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// versions are the schema's version, 0 where there is none, and the one that
// this program knows.
func versions(ctx context.Context, db querier) (got, want int64, err error) {
	if want, err = latest(); err != nil {
		return 0, 0, err
	}
	var tables int
	const anySQL = `SELECT count(*) FROM sqlite_schema WHERE name = 'goose_db_version'`
	if err := db.QueryRowContext(ctx, anySQL).Scan(&tables); err != nil {
		return 0, 0, failed(err)
	}
	if tables > 0 {
		if err := db.QueryRowContext(ctx, versionSQL).Scan(&got); err != nil {
			return 0, 0, failed(err)
		}
	}
	return got, want, nil
}

// checkSchema fails with state.ErrSchema unless the schema is the one that this
// program knows.
func checkSchema(ctx context.Context, db querier, path string) error {
	got, want, err := versions(ctx, db)
	switch {
	case err != nil:
		return err
	case got == 0:
		return fmt.Errorf("%w: %s has none; run s3fence migrate", state.ErrSchema, path)
	case got < want:
		return fmt.Errorf("%w: %s has version %d and this program needs %d; run s3fence migrate", state.ErrSchema, path, got, want)
	case got > want:
		return newer(path, got, want)
	}
	return nil
}

func newer(path string, got, want int64) error {
	return fmt.Errorf("%w: %s has version %d and this program knows only %d; run the newer s3fence (s3fence migrate cannot go back)", state.ErrSchema, path, got, want)
}

// present fails with state.ErrSchema where there is no file, so that nobody
// starts on an empty state because of a misspelt path.
func present(path string) error {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is no file %s; run s3fence migrate", state.ErrSchema, path)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", state.ErrUnavailable, err)
	}
	return nil
}
