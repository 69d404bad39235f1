// Package pgtest gives tests a real PostgreSQL, started from local binaries,
// and a real PgBouncer.
//
// [DSN] is what most tests want: an empty database of their own on a server
// that the whole test process shares, or that the whole run of make shares when
// S3FENCE_TEST_POSTGRES names one. [Start] gives a server that nobody else
// uses, to be stopped, frozen and killed.
//
// Guarantees. A missing PostgreSQL fails the test and names the package to
// install; nothing is ever skipped. It works as root too: initdb and postgres
// refuse root, so they run as the user postgres, or nobody. Nothing of a server
// outlives the test process, not even when that is killed (package testserver
// says how).
//
// Assumptions. Linux; PostgreSQL 15 or later in /usr/lib/postgresql/*/bin or in
// PATH. Servers trust every local user: they listen on loopback only and hold
// test data only.
//
// What it does not do: it brings in no schema, and a server without
// [Options.Durable] proves nothing about power loss.
package pgtest
