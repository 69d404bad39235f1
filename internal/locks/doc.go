// Package locks grants locks on scopes: leases with an owner and, for each
// grant, a fencing token.
//
// # Guarantees
//
//   - A grant takes the next token of the deployment's counter and raises the
//     scope's mark to it in one transaction that holds the scope exclusively
//     (F2). When Acquire or Take returns a lease, no write under a lower token
//     can take effect in the scope any more (F4).
//   - A lease is had by one holder at a time, by the database's clock, which is
//     read under the scope's lock: after every wait, never before.
//   - Nothing here lowers or forgets a mark: a release and an expiry end the right
//     to renew, and the next grant is above whatever stood (F1).
//   - Renewal and release compare scope, token and holder in the transaction that
//     changes the row.
//
// # What a lease is not
//
// The lease only says who may renew. What protects the data is the token: a
// holder whose lease is over may still write as long as nobody was granted a
// higher one, and cannot from then on, whatever its clock says.
//
// A holder counts a renewal from before it asked, on a clock that runs through
// suspend, and renews once after a grant before it starts to work. Asking again
// for what one holds already is a new grant like any other and waits like any
// other: the same owner on the same key may be two processes, of which one has
// not noticed that it lives.
//
// # Waiting
//
// Those who wait for a scope stand in one line over all processes. A place in it is
// a row of the state, with a turn that the state gives: the processes' clocks do
// not say who came first. The lock goes to the first living place and to nobody
// else, which is decided where it is granted, under the scope's lock: a try does
// not pass those who wait. Taking by force does, and changes nothing in the line.
//
// A place lives until the call that waits in it must have ended, and only while
// that call's process is seen ([Options.Absent]); so nobody waits for the dead, and
// a waiter sends no sign of life of its own. A process that was frozen is passed
// over, and has its places back when it wakes in time. Whose caller has gone, or
// whose wait is over, leaves at once; with a [Request.Ticket] the place is kept for
// the next call, through whatever process, for as long as [Request.Keep] says.
//
// A waiting call sleeps. One watcher for each process looks at the scopes that are
// waited for, without locking them, in one read for all: four times a second, since
// a release may happen in another process; when a lease is known to end; and when
// something happens here. It wakes the call whose turn it is.
//
// The line serves fairness and protects nothing: no mark and no admission depends
// on it. Where its rows are lost, whoever waits is served in some order; where they
// cannot be read, nobody is granted anything.
//
// # The answer to a grant is lost
//
// A ticket is one acquisition. The scope's row remembers the one that the lease was
// granted to, and a call that repeats it is given that lease for as long as it
// stands; afterwards the ticket asks afresh. A Request.Retry is stricter: of all
// its tries at most one is ever granted a lock.
//
// # The lock delay
//
// After a lease that ran out, a guard's LockDelay must pass before anybody is
// granted the lock; not after a release, and not by force. The data needs none of
// this. It is for what no fence reaches: a program started, a mail sent, a machine
// switched by a holder that has not noticed yet that its lease is over.
//
// # Failures
//
// Errors that wrap state.ErrUnavailable and state.ErrBusy mean that nothing
// happened. state.ErrUnknown means that a grant may have happened; nobody was
// told its token, so at worst its lease runs out. If the caller has gone or the
// witness cannot stand by the time a grant is committed, the lease is given back;
// the mark stays raised. Not so for a request that names itself (Request.Retry,
// Request.Ticket): a repetition of it may have been given the lease meanwhile,
// through another process, and will be if it comes later.
//
// # Claims
//
// A claim gives one slot of a job to the first who asks, once and for all: a row
// that is inserted under the slot's lock and never changes ([Service.Claim]). A slot
// that names a time cannot be claimed twice even after its claim was forgotten,
// since slots that old are refused.
//
// # Not here
//
// Rights (the caller has checked them), HTTP, credentials, external issuers'
// locks: guards with issuer external only have marks, which Raise and Reset
// change by hand.
package locks
