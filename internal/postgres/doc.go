// Package postgres keeps the state in PostgreSQL 15 or later. It is the driver
// of package state for several proxies that share one database; every statement
// of its dialect stands here, written by hand, beside the method that sends it.
//
// # A transaction, in two flushes
//
//	1  BEGIN, timeouts, locks (guard list, guards, scopes, keys), then the reads
//	   Decide, in Go
//	2  the outcome, the writes, COMMIT
//
// Each flush is one pipelined round trip. Locks are transaction-level advisory
// locks on 64-bit hashes, taken by statements of their own; the reads are later
// statements. That is the point of the order: under READ COMMITTED a statement
// sees what was committed before that statement began, so a statement that both
// waits and reads looks at a world from before its wait. Locks on hashes also
// protect rows that do not exist yet (If-None-Match: *, the first grant of a
// scope). Two names with one hash only wait for each other.
//
// # What it guarantees
//
// The contract of package state, and in the schema itself, against people with
// psql too: marks, epochs and horizons never fall, scopes are never deleted (F1),
// guard ids are never used again, verdicts are final.
//
// A proxy that freezes between lock and COMMIT holds its locks for 5 s at most,
// then PostgreSQL ends its session; and whoever waits for an exclusive lock ends
// it after 300 ms (see breaker).
//
// # What it assumes
//
// That an acknowledged commit is durable: fsync on, synchronous_commit at least
// on (it is left as the database has it), and synchronous replication where a
// failover must lose nothing (F6). A commit whose wait for a replica was
// cancelled is reported as unknown. That all proxies use one role, and that
// nobody drops its triggers.
//
// PgBouncer in transaction pooling mode is fine: nothing outlives a transaction,
// neither prepared statements nor settings nor locks, and nothing listens.
//
// # When things fail
//
// Before the second flush everything ends as state.ErrUnavailable or
// state.ErrBusy and nothing happened. From the second flush on the caller's
// context no longer counts; an error of the server before COMMIT still means
// that nothing happened, a lost connection is state.ErrUnknown, for
// [DB.Resolve] to decide.
//
// # What it does not do
//
// It judges no token and retries no transaction (except on a connection that
// turned out dead before anything was decided), uses no replica and caches
// no row.
package postgres
