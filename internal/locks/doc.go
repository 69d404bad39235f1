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
// Those who wait for a scope in one process stand in line; the first in line
// looks at the scope, without locking it, when a release happens here, when the
// lease it saw ends, and at least four times a second, since a release may happen
// in another process. Lines of different processes race.
//
// # Failures
//
// Errors that wrap state.ErrUnavailable and state.ErrBusy mean that nothing
// happened. state.ErrUnknown means that a grant may have happened; nobody was
// told its token, so at worst its lease runs out. If the caller has gone or the
// witness cannot stand by the time a grant is committed, the lease is given back;
// the mark stays raised. Not so for a request that names itself (Request.Retry):
// a repetition of it may have been given the lease meanwhile, through another
// process, and will be if it comes later.
//
// # Not here
//
// Rights (the caller has checked them), HTTP, credentials, external issuers'
// locks: guards with issuer external only have marks, which Raise and Reset
// change by hand.
package locks
