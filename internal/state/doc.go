// Package state is the contract between the rules and the databases that keep
// them: the records, and the one kind of transaction that changes them.
//
// A [Tx] names everything it locks before it begins. A driver takes the locks in
// statements of their own, in one global order, then reads the locked records in
// later statements, hands them to the transaction's Decide function, writes what
// it returns and commits. The rules are therefore plain Go over a [View] and
// stand once (packages fence, locks, sealed, guards); a driver has statements
// and no rules. internal/statetest holds each driver to this contract.
//
// # Lock order
//
// The guard list, then guards, then scopes, then keys, then slots, then named
// requests, each kind sorted; then the event log. The counter comes last, where a
// token is drawn. Modes are chosen before the first lock is taken and never
// upgraded: a decision that finds it needs more returns an error, and its caller
// begins again with the stronger lock. Reading and locking in one statement is
// forbidden: such a statement looks at a snapshot from before it waited (measured:
// two conditional
// writers both won).
//
// # Commits whose answer is lost
//
// Every transaction that writes inserts its own id into the outcomes in the same
// transaction. Where the answer to COMMIT is lost, Resolve inserts the id as
// aborted on another connection: if that succeeds the transaction can never
// commit any more, if the id stands there already its verdict is final. [Run]
// does this; everyone calls it. Reading the written rows back instead proves
// nothing, since the transaction may still be on its way.
//
// # Lines
//
// Those who wait for a scope have places in its line. A line serves fairness and
// protects nothing: no mark, commit or lock depends on it, and a place that was
// lost costs whoever had it a turn. So places are taken and left in statements of
// their own, outside of every Tx and under no lock of this package: the lock of
// the scope would stop its writers. A Tx that grants reads the head of the line
// after it has locked the scope, and drops the granted place.
//
// # What this package does not do
//
// It judges nothing, retries nothing and caches nothing.
package state
