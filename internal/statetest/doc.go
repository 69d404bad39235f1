// Package statetest holds a driver of package state to its contract. Each
// driver's own test makes a [Subject] and calls [Run]; what a driver is allowed
// to lack is said in the Subject, with its reason.
//
// The suites rise in strength: single records, then marks and counters (F1,
// F2), locks, decisions under locks that others want (F4, F10), lost answers,
// claims and named requests, lists, guards, lines of waiters, upkeep, and last a
// property test that runs random transactions on the driver and on the in-memory
// reference and compares everything that can be seen.
//
// Wherever two handles on one state can be had, the concurrent suites go
// through both.
//
// The suites take no driver's word for its isolation: they look only at what
// transactions saw and what was committed. They do not kill processes and do
// not pull plugs; drivers with durable storage add crash tests of their own.
package statetest
