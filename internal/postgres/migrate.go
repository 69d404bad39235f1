package postgres

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/migrations"
)

// migrateWait bounds the wait for somebody else's migration to end.
const migrateWait = 10 * time.Minute

// lockSchema is held by a transaction of its own while the migrations run on
// other connections, so that of two that begin at once one waits and then finds
// nothing to do. It ends with its transaction: a lock of the session would stay
// behind in PgBouncer's connection. That transaction idles on purpose.
const (
	allowIdle  = `SELECT set_config('idle_in_transaction_session_timeout', '0', true), set_config('lock_timeout', $1, true)`
	lockSchema = `SELECT pg_advisory_xact_lock($1)`
)

// Migrate brings the schema up to date and returns its version before and after.
// It may run while proxies serve, and by several at once. A schema that is newer
// than this program is left alone: state.ErrSchema.
func Migrate(ctx context.Context, dsn string) (from, to int64, err error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return 0, 0, badDSN(err)
	}
	tune(config)
	db := &DB{config: config}
	conn, err := db.connect(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		rollback(conn)
		closing, done := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer done()
		_ = conn.Close(closing)
	}()
	f := &pipeline{}
	f.exec(begin)
	f.exec(allowIdle, milliseconds(migrateWait))
	f.exec(lockSchema, lockID(schemaDomain))
	if _, err := f.run(ctx, conn); err != nil {
		return 0, 0, undone(err)
	}
	from, err = schemaVersion(ctx, conn)
	if err != nil {
		return 0, 0, err
	}
	if from > known {
		return from, from, misfit(from)
	}

	// The simple protocol sends a file's statements as they are written and leaves
	// nothing behind in a pooler's connection.
	config = config.Copy()
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	pool := stdlib.OpenDB(*config)
	defer func() { _ = pool.Close() }()
	files, err := fs.Sub(migrations.Files, "postgres")
	if err != nil {
		return from, from, err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, pool, files)
	if err != nil {
		return from, from, fmt.Errorf("read the migrations: %w", err)
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return from, from, undone(fmt.Errorf("migrate the state: %w", err))
	}
	to = from
	for _, r := range results {
		to = max(to, r.Source.Version)
	}
	return from, to, firstDays(ctx, dsn)
}

// firstDays makes the partitions of today and of the days ahead, so that none is
// attached under the first commits: one that is on its way into the default
// partition at that moment fails.
func firstDays(ctx context.Context, dsn string) error {
	db, err := Open(ctx, dsn, Options{Connections: 2})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	for _, table := range append([]string{eventsTable}, partitioned...) {
		if err := db.maintainDays(ctx, table, keepAll); err != nil {
			return fmt.Errorf("prepare the partitions of %s: %w", table, err)
		}
	}
	return nil
}

// known is the version of the schema that this program works with: the number of
// the last file.
var known = lastMigration()

func lastMigration() (last int64) {
	names, err := fs.Glob(migrations.Files, "postgres/*.sql")
	if err != nil {
		panic(err) // a malformed pattern
	}
	for _, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			panic(fmt.Sprintf("migrations/%s has no number", name))
		}
		last = max(last, n)
	}
	return last
}

const readSchemaVersion = `SELECT coalesce(max(version_id) FILTER (WHERE is_applied), 0) FROM goose_db_version`

// hasSchema looks in the search path, where the unqualified names of all
// statements are looked for.
const hasSchema = `SELECT to_regclass('goose_db_version') IS NOT NULL`

// schemaVersion is 0 where there is no schema.
func schemaVersion(ctx context.Context, conn *pgx.Conn) (version int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var there bool
	f := &pipeline{}
	f.query(func(rows pgx.Rows) error { return rows.Scan(&there) }, hasSchema)
	if _, err := f.run(ctx, conn); err != nil {
		return 0, unavailable(err)
	}
	if !there {
		return 0, nil
	}
	f = &pipeline{}
	f.query(func(rows pgx.Rows) error { return rows.Scan(&version) }, readSchemaVersion)
	if _, err := f.run(ctx, conn); err != nil {
		return 0, unavailable(err)
	}
	return version, nil
}

// Check fails with state.ErrSchema, naming the remedy, unless the schema is the
// one this program knows.
func (db *DB) Check(ctx context.Context) error {
	conn, err := db.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	version, err := schemaVersion(ctx, conn.Conn())
	if err != nil {
		return err
	}
	return misfit(version)
}

// misfit is the error about a schema of this version, nil where it fits.
func misfit(version int64) error {
	switch {
	case version == known:
		return nil
	case version == 0:
		return fmt.Errorf("%w: the database has none yet; %s", state.ErrSchema, remedy)
	case version < known:
		return fmt.Errorf("%w: it has version %d, this program needs %d; %s", state.ErrSchema, version, known, remedy)
	}
	return fmt.Errorf("%w: it has version %d, this program knows %d at most; use the release of s3fence with which somebody has run: s3fence migrate",
		state.ErrSchema, version, known)
}
