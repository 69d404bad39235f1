// Package sqlite keeps the state in one SQLite file: for one machine, with
// nothing to install.
//
// # What it guarantees
//
// A commit that was acknowledged survives the death of the process and of the
// machine: write-ahead log with synchronous=FULL. NORMAL would be faster, and a
// loss of power could take the last commits with it, so that a token that a
// holder has already would be granted again (F2).
//
// One transaction writes at a time. BEGIN IMMEDIATE is the one lock: it covers
// the guard list, every guard, scope, key, slot and request at once, so View.Missed is always
// empty and Try has nothing to do. Everything that a transaction reads, it reads
// under that lock. Readers take snapshots and wait for nobody.
//
// The database's clock is this machine's, read after BEGIN. Processes that share
// the file share the machine, and so the clock.
//
// # Several processes
//
// They may share one file on one local disk: SQLite's file locks order their
// writers. Network file systems do not hold those locks, and the write-ahead log
// needs shared memory: [Open] refuses a file that is not in that mode. A process
// that is frozen while it writes holds up the others, who answer
// state.ErrBusy.
//
// # What is known when COMMIT fails
//
// SQLITE_BUSY says that the transaction is still open; it is rolled back, and
// nothing happened. SQLITE_FULL says that the log did not take all of it; the log is
// then emptied, for which some room is kept back on the disk (reserve.go), so that
// nothing of the transaction is left, and nothing happened either. Every other failure is state.ErrUnknown: the commit record
// may stand in the log already, invisible to the living and believed by whoever
// recovers the log after a crash. The connection is thrown away. Resolve then
// writes its verdict over that record, or finds it recovered.
//
// # What it does not do
//
// It shares no transaction between callers: one Tx, one flush to disk (package
// sealed puts many operations into a Tx). It takes no backups; copy the file
// with sqlite3's .backup or VACUUM INTO, never with cp while it is in use.
package sqlite
