// Package testserver runs foreign servers (PostgreSQL, MinIO, PgBouncer) as
// children of a test and lets the test stop, freeze and kill them.
//
// Guarantees. No process and no file of a server outlives the test process,
// however that one ends: normally, by panic, by time-out or by SIGKILL. A
// watcher, one shell in a session of its own per test process, holds the
// reading end of a pipe whose writing end only the test process has; when the
// pipe ends, it ends every process that works below the scratch folder and
// removes the folder. It needs no signal handler, no TestMain and no order of
// clean-ups. The package keeps no goroutine, so tests that look for leaked
// goroutines need no exception for it.
//
// How processes are found. Every server has a working directory of its own
// below the scratch folder, and all of its processes stay in it. Process groups
// would not do: PostgreSQL's backends call setsid. Parentage would not do
// either: backends of a killed postmaster are handed to init.
//
// Road not taken: Pdeathsig. It fires when the thread that forked dies, not the
// process, and a signal that a stopped process never handles, or a backend
// without its postmaster never gets, leaves that process behind.
//
// Assumptions. Linux with /proc and a POSIX shell. As root, servers that refuse
// root run as the user that [Unprivileged] names.
//
// What it does not do: it knows nothing of any server's protocol, waits for no
// readiness, and is imported by test code only.
package testserver
