// Package memory is the state in memory: the reference that the databases are
// measured against, and the state of simulations.
//
// # What it guarantees
//
// Everything that package state promises, in the plainest way that can be read
// to be right. Locks are real objects with waiting queues: a transaction holds
// its locks while Decide runs and until its changes are applied, others wait in
// the order they came, Try does not wait, and a wait has its bound. Changes are
// applied as a whole or not at all, under one mutex.
//
// It is stricter than a database: Changes that touch what the transaction did
// not lock, or name one row twice, are refused with [ErrContract]. A rule that
// passes here cannot rely on a lock it does not hold.
//
// # Faults
//
// [WithFaults] takes a hook that is asked at every [Stage] and can make the
// state unreachable, or lose the answer of a commit that took effect, of one
// that did not, or of one that is still on its way ([ErrLate], [Store.Deliver]).
//
// # What it does not do
//
// Nothing survives the process. Tokens drawn by a transaction that rolls back
// are lost, as those of a database's sequence are.
package memory
