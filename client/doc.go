// Package client is the Go client of s3fence's lock service: it holds, acquires,
// renews and releases locks, makes credentials that carry their fencing tokens,
// and administers guards and marks.
//
// A lock comes with a fencing token. Every write into the lock's scope carries it:
// signed with fenced credentials ([Client.Credentials]), which carry it by
// themselves, or with it as header X-Fencing-Token or as metadata fencing-token.
// s3fence refuses writes under a token that is no longer the highest, however late
// they arrive.
//
// # What a holder does
//
// A holder renews once after a grant, before it starts to work, and then well
// within each lease: every third of it. It counts a lease from before it asked
// ([Lease.Deadline] does), and stops when a renewal fails with [ErrLost] or the
// deadline has passed. Forgetting to stop costs work, not data: the token is
// refused.
//
// [Client.Hold] does all of that: it renews in the background, ends [Held.Context]
// when the lock is lost or may be, and has fenced credentials. Whoever uses
// [Client.Acquire] does it by hand.
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
// wait lasts, keeping its place in the line, [Client.Claim] after an answer that was
// lost, and what a [Held] does by itself. It imports nothing of the service but the
// clocks; of the AWS SDK only its core with the signer.
package client
