// Package client is the Go client of s3fence's lock service: it acquires,
// renews and releases locks, and administers guards and marks.
//
// A lock comes with a fencing token. Send it with every write into the lock's
// scope, as header X-Fencing-Token or as metadata fencing-token: s3fence refuses
// writes under a token that is no longer the highest, however late they arrive.
//
// # What a holder does
//
// A holder renews once after a grant, before it starts to work, and then well
// within each lease: every third of it. It counts a lease from before it asked
// ([Lease.Deadline] does), and stops when a renewal fails with [ErrLost] or the
// deadline has passed. Forgetting to stop costs work, not data: the token is
// refused.
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
// It does not renew in the background and does not retry, except that
// [Client.Acquire] asks again while its wait lasts, keeping its place in the line. It imports nothing of the
// service's inside; of the AWS SDK only the signer.
package client
