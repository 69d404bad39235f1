// Package eventlog keeps what happened: it records events in the state, and reads
// them again for those who ask or follow.
//
// # Recording
//
// A [Log] is an events.Observer that never waits and never fails: an event goes
// into a bounded queue in memory, and one goroutine adds batches of them to the
// event log, about five times a second. While the state is away it keeps trying;
// what the queue has no room for is counted, logged, and recorded as one event
// (events.Dropped) where the hole is. Each batch is one transaction with a verdict
// (state.Run), so an event whose COMMIT was not answered is neither lost nor
// recorded twice.
//
// A process that is killed takes what it had not recorded with it: events of the
// last moments may be missing, and no other process knows. Nothing may be decided
// from the log.
//
// # Repetitions
//
// What a client can repeat at will (refusals, renewals of a lost lease, reads of a
// lost object) is written when it first happens; what follows and is alike is
// summed up, for a moment at first and longer the longer it goes on, and then
// written as one row with a count. Each scope, and each process, adds such rows at
// a bounded rate only; beyond it rows stand for events that differ, and say so
// (state.Event.Suppressed). No refusal is left uncounted while the process lives.
//
// Renewals that succeed are not recorded: there are too many, and they change
// nothing that is not told otherwise.
//
// # Reading
//
// Rows become visible in the order of their ids, so whoever follows the log by id
// misses nothing. Those who wait for news share one poll of the state for each
// process, which runs only while somebody waits.
//
// # Not here
//
// Rights: the caller says what may be seen.
package eventlog
