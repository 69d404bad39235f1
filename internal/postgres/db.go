package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/s3fence/s3fence/internal/state"
)

// DefaultConnections is the size of the pool where Options say nothing: four
// committers and four waiting takeovers of one proxy, and as many readers.
const DefaultConnections = 16

const (
	// connectTimeout bounds each attempt to connect where the DSN does not.
	connectTimeout = 5 * time.Second
	// answerTimeout bounds the wait for the server's answer where no lock is
	// waited for: it is frozen or cut off, and must not hold requests for ever.
	answerTimeout = 10 * time.Second
	// rollbackTimeout bounds a ROLLBACK; past it the connection is closed, which
	// rolls back too.
	rollbackTimeout = 2 * time.Second
)

// Options are the settings of [Open]. The zero value is good.
type Options struct {
	// Logger gets what nobody is there to be told: ended sessions, partitions
	// that could not be made. Nothing is logged where it is nil.
	Logger *slog.Logger
	// Connections bounds the pool; at least 2. Zero: what the DSN says
	// (pool_max_conns), else DefaultConnections.
	Connections int
}

// DB is the state in one PostgreSQL database, safe for concurrent use.
type DB struct {
	pool   *pgxpool.Pool
	config *pgx.ConnConfig
	log    *slog.Logger
	// pooler says that connections do not stand for sessions.
	pooler atomic.Bool
	// crowded is when the server last refused a connection for having too many.
	crowded atomic.Int64
	// commitTimeout is the constant; tests make it shorter.
	commitTimeout time.Duration
}

var _ state.State = (*DB)(nil)

// Open connects to the database that a PostgreSQL connection string names. It
// fails within connectTimeout, in one line and without the password, when the
// server cannot be reached, refuses the password or has no such database. It
// does not look at the schema; [DB.Check] does.
func Open(ctx context.Context, dsn string, options Options) (*DB, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, badDSN(err)
	}
	switch {
	case options.Connections != 0:
		config.MaxConns = int32(max(2, min(options.Connections, 1<<15)))
	case !strings.Contains(dsn, "pool_max_conns"):
		config.MaxConns = DefaultConnections
	}
	tune(config.ConnConfig)
	db := &DB{config: config.ConnConfig, log: options.Logger, commitTimeout: commitTimeout}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	// Who names a mode in the DSN knows what stands in between.
	db.pooler.Store(strings.Contains(dsn, "default_query_exec_mode"))
	config.BeforeConnect, config.AfterConnect = db.beforeConnect, db.afterConnect
	if db.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, unavailable(err)
	}
	conn, err := db.acquire(ctx)
	if err != nil && db.pooler.Load() {
		conn, err = db.acquire(ctx)
	}
	if err != nil {
		db.pool.Close()
		return nil, err
	}
	conn.Release()
	return db, nil
}

// namedStatements bounds the statements that one session keeps. There are fewer.
const namedStatements = 256

// errPooler: a connection that was to have named statements goes through a
// pooler. It is closed; the next one has none.
var errPooler = errors.New("a pooler stands before PostgreSQL")

// beforeConnect gives the pool's connections named statements, which spare the
// server about half of its work for short ones, unless a pooler was seen: a named
// statement lives in a server session, which PgBouncer hands to somebody else.
func (db *DB) beforeConnect(_ context.Context, config *pgx.ConnConfig) error {
	if time.Now().UnixNano()-db.crowded.Load() < int64(crowdedFor) {
		return fmt.Errorf("%w: %w", state.ErrUnavailable, state.ErrNoConnection)
	}
	if !db.pooler.Load() {
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
		config.StatementCacheCapacity = namedStatements
	}
	return nil
}

// afterConnect looks whether the session behind the connection is the one that
// greeted us: poolers greet with a process id of their own, since they have to
// forward cancel requests.
func (db *DB) afterConnect(ctx context.Context, conn *pgx.Conn) error {
	watchWarnings(conn)
	if db.pooler.Load() {
		return nil
	}
	answer, err := conn.PgConn().Exec(ctx, "SELECT pg_backend_pid()").ReadAll()
	if err != nil {
		return err
	}
	if len(answer) == 1 && len(answer[0].Rows) == 1 && string(answer[0].Rows[0][0]) == strconv.FormatUint(uint64(conn.PgConn().PID()), 10) {
		return nil
	}
	db.pooler.Store(true)
	return errPooler
}

// tune sets what all connections of this package have in common.
func tune(config *pgx.ConnConfig) {
	// Statements are described once and then sent unnamed, which is right behind
	// every pooler; beforeConnect changes this where there is none.
	config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	config.StatementCacheCapacity = 0
	config.OnNotice = onNotice
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "s3fence"
	}
}

// connect opens a connection beside the pool, for what must not wait for those
// that are stuck in it.
func (db *DB) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, db.config.Copy())
	if err != nil {
		return nil, explain(db.config, err)
	}
	watchWarnings(conn)
	return conn, nil
}

// acquire takes a connection of the pool, for answerTimeout at most.
//
// Where the server takes no more of them, those that the pool has go round: one is
// waited for. The pool itself fails at once if it cannot make a further one.
func (db *DB) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errPoolBusy)
	defer cancel()
	var crowded error
	for pause := time.Millisecond; ; pause = min(2*pause, mostPause) {
		conn, err := db.pool.Acquire(ctx)
		if err == nil {
			return conn, nil
		}
		if cause := context.Cause(ctx); cause != nil {
			if crowded != nil {
				return nil, fmt.Errorf("%w; %w", crowded, cause)
			}
			return nil, unavailable(cause)
		}
		if crowded = db.tookNoMore(err); crowded == nil {
			return nil, explain(db.config, err)
		}
		if stat := db.pool.Stat(); stat.AcquiredConns()+stat.IdleConns() == 0 {
			return nil, crowded
		}
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(pause)):
		}
	}
}

// mostPause bounds the pauses between two looks for a connection that is free.
const mostPause = 16 * time.Millisecond

// crowdedFor is how long no connection is asked for once the server has said that it
// takes no more, lest a crowd of requests knocks without end.
const crowdedFor = 100 * time.Millisecond

// tookNoMore is the error of callers where err says that the server takes no more
// connections, and nil where it is another one.
func (db *DB) tookNoMore(err error) error {
	if errors.Is(err, state.ErrNoConnection) {
		return err
	}
	if sqlState(err) != tooManySessions {
		return nil
	}
	db.crowded.Store(time.Now().UnixNano())
	return explain(db.config, err)
}

var errPoolBusy = fmt.Errorf("no connection to PostgreSQL became free within %v", answerTimeout)

// Close ends the connections. It waits for those in use.
func (db *DB) Close() error {
	db.pool.Close()
	return nil
}

// warnings remembers a WARNING that the server sent on one connection. The
// handler runs in the goroutine that reads the connection, which is the only
// one that uses it.
type warnings struct{ last *pgconn.Notice }

const warningsKey = "s3fence.warnings"

func watchWarnings(conn *pgx.Conn) {
	conn.PgConn().CustomData()[warningsKey] = &warnings{}
}

func warningsOf(conn *pgx.Conn) *warnings {
	return conn.PgConn().CustomData()[warningsKey].(*warnings)
}

func onNotice(conn *pgconn.PgConn, notice *pgconn.Notice) {
	if w, ok := conn.CustomData()[warningsKey].(*warnings); ok && notice.SeverityUnlocalized == "WARNING" {
		w.last = notice
	}
}

// rollback ends an open transaction so that the connection can be used again;
// where that does not work at once the connection is closed, which does the same.
// The simple protocol needs no description of the statement.
func rollback(conn *pgx.Conn) {
	if conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	if _, err := conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
		_ = conn.Close(ctx)
	}
}
