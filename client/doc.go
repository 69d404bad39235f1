// Package client is the Go client of s3fence's lock service: it holds, acquires,
// renews and releases locks, makes credentials that carry their fencing tokens,
// and administers guards and marks.
//
// A lock comes with a fencing token. s3fence refuses writes under a token that is
// no longer the highest, however late they arrive.
//
// [Client.Hold] does what a holder has to do: it renews in the background, ends
// [Held.Context] when the lock is lost or may be, and has credentials with which
// every request in the lock's scope carries the token. The other methods are
// single calls.
//
// # What a holder does
//
// A holder renews once after a grant, before it starts to work, and then well
// within each lease: every third of it. It counts a lease from before it asked
// ([Lease.Deadline] does), and stops when a renewal fails with [ErrLost] or the
// deadline has passed. Forgetting to stop costs work, not data: the token is
// refused. A [Held] does all of it; whoever uses [Client.Acquire] does it itself.
//
// # Errors
//
// Compare with errors.Is; [Error] has the details. [ErrUnreachable],
// [ErrUnavailable] and [ErrUnknownOutcome] differ in what may have happened: an
// acquisition that was not answered may have been granted to nobody who knows,
// and is then free again after its lease.
//
// # What this package does not do
//
// Calls are not tried again, except that [Client.Acquire] asks again while its
// wait lasts, and what a [Held] does by itself. It imports nothing of the
// service but the clocks; of the AWS SDK only its core with the signer.
package client
