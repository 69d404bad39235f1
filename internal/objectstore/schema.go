package objectstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// layoutVersion stands in the database header as user_version. It changes
// whenever schema or the naming of blob files does.
const layoutVersion = 1

// applicationID ("s3ob") marks the database file as ours, so that a database
// of something else in the same place is refused instead of altered.
const applicationID = 0x73336f62

// schema, in words:
//
// An object row points at one body. A body is immutable and never reused: its
// bytes stand whole in inlined, or as an ordered run of segments, each a range
// of a blob file. Several segments may share one blob, which is how a copy
// costs no bytes; a blob is dead when no segment names it any more.
// Upload parts own bodies in the same way.
const schema = `
CREATE TABLE buckets (
	id      INTEGER PRIMARY KEY,
	name    TEXT    NOT NULL UNIQUE,
	created INTEGER NOT NULL
) STRICT;

CREATE TABLE objects (
	bucket   INTEGER NOT NULL REFERENCES buckets(id),
	key      BLOB    NOT NULL CHECK (length(key) BETWEEN 1 AND 1024),
	body     INTEGER NOT NULL,
	inlined  INTEGER NOT NULL CHECK (inlined IN (0, 1)),
	size     INTEGER NOT NULL CHECK (size >= 0),
	etag     TEXT    NOT NULL CHECK (etag <> ''),
	modified INTEGER NOT NULL,
	head     BLOB    NOT NULL,
	PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE inlined (
	body  INTEGER PRIMARY KEY,
	bytes BLOB NOT NULL
) STRICT;

CREATE TABLE segments (
	body   INTEGER NOT NULL,
	n      INTEGER NOT NULL,
	part   INTEGER NOT NULL,
	blob   BLOB    NOT NULL CHECK (length(blob) = 16),
	start  INTEGER NOT NULL CHECK (start >= 0),
	length INTEGER NOT NULL CHECK (length >= 0),
	PRIMARY KEY (body, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX segments_blob ON segments (blob);

CREATE TABLE uploads (
	id        TEXT    PRIMARY KEY,
	bucket    INTEGER NOT NULL REFERENCES buckets(id),
	key       BLOB    NOT NULL CHECK (length(key) BETWEEN 1 AND 1024),
	initiated INTEGER NOT NULL,
	head      BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_key ON uploads (bucket, key, id);

CREATE TABLE parts (
	upload   TEXT    NOT NULL REFERENCES uploads(id),
	number   INTEGER NOT NULL CHECK (number BETWEEN 1 AND 10000),
	body     INTEGER NOT NULL UNIQUE,
	size     INTEGER NOT NULL CHECK (size >= 0),
	etag     TEXT    NOT NULL,
	modified INTEGER NOT NULL,
	PRIMARY KEY (upload, number)
) STRICT, WITHOUT ROWID;

-- Uploads that were completed lately: a client that lost the answer and
-- completes again is told the same ETag.
CREATE TABLE completed (
	upload TEXT    PRIMARY KEY,
	bucket INTEGER NOT NULL REFERENCES buckets(id) ON DELETE CASCADE,
	key    BLOB    NOT NULL,
	etag   TEXT    NOT NULL,
	at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX completed_at ON completed (at);
`

const databaseFile = "objects.db"

// openPool opens dir's database. synchronous=FULL makes every commit wait for
// the write-ahead log to reach the disk; NORMAL would lose acknowledged writes
// when the power fails.
func openPool(dir string, writer bool) (*sql.DB, error) {
	q := url.Values{}
	q.Add("_pragma", "busy_timeout(10000)")
	q.Add("_pragma", "journal_mode(WAL)")
	q.Add("_pragma", "synchronous(FULL)")
	q.Add("_pragma", "foreign_keys(ON)")
	if writer {
		q.Set("_txlock", "immediate")
	} else {
		q.Add("_pragma", "query_only(ON)")
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.Join(dir, databaseFile)}).EscapedPath(), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	if writer {
		db.SetMaxOpenConns(1)
	} else {
		db.SetMaxOpenConns(readers)
		db.SetMaxIdleConns(readers)
	}
	return db, nil
}

// readers bounds the read connections: each keeps a page cache of its own
// (2 MiB at most by SQLite's default).
const readers = 8

// prepareLayout creates the tables in an empty database and refuses every
// database that is not of this layout.
func prepareLayout(ctx context.Context, db *sql.DB, dir string) error {
	file := filepath.Join(dir, databaseFile)
	var version, application, tables int
	err := errors.Join(
		db.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version),
		db.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&application),
		db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema`).Scan(&tables),
	)
	if err != nil {
		return fmt.Errorf("%w: cannot read %s (restore it from a backup, or start with an empty directory): %w", ErrLayout, file, err)
	}
	if version == layoutVersion && application == applicationID {
		return nil
	}
	if tables > 0 || version != 0 || application != 0 {
		return fmt.Errorf("%w: %s has application id %#x and layout version %d, this build reads %#x and %d; use the build that wrote it, or another directory",
			ErrLayout, file, application, version, applicationID, layoutVersion)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("create layout in %s: %w", file, err)
	}
	defer tx.Rollback() //nolint:errcheck // reports ErrTxDone after the commit
	for _, stmt := range []string{
		schema,
		fmt.Sprintf(`PRAGMA application_id = %d`, applicationID),
		fmt.Sprintf(`PRAGMA user_version = %d`, layoutVersion),
	} {
		if _, err := tx.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("create layout in %s: %w", file, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("create layout in %s: %w", file, err)
	}
	return nil
}
