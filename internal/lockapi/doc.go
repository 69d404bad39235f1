// Package lockapi is the JSON API under /-/v1/: locks, marks and guards for
// clients that are not S3 clients.
//
// Every call but the index is signed with AWS Signature Version 4 as requests to
// S3 are (service s3), with a body that the signature covers: its hash in
// x-amz-content-sha256, or hashed here where that header is absent. Bodies are
// JSON objects of at most 64 KiB; fields that a call does not have are refused,
// so that a typo does not silently mean the default. Tokens are taken as numbers
// or strings and written as numbers; durations are written like 1m30s.
//
// An Idempotency-Key makes a repeated acquire, take, raise, reset, claim or change
// of guards return its first answer, and refuses another such call under the key
// with 422. The other calls do no harm when they are repeated and need none.
//
// Who may do what: lock on the scope to acquire, renew and release; admin on
// it to take by force, raise and reset; admin on all keys of a pattern to change
// its guard; lock on its place to claim a job whose name begins with s3://, lock on
// anything to claim others. Lists, and the event log, show what the
// caller may see; checks and fenced
// credentials are for whoever has some right on the scope. Rights are checked before
// anything is looked up, so that refusals tell nothing. Fenced credentials act, here
// as everywhere, for the credential that asked for them: the locks that they take are
// its locks. The token that they carry is for S3 requests and plays no part here.
//
// Errors are {"code","message","request_id"} with what a program may need beside
// it; statuses and codes stand in one table (errors.go). 5xx say whether the call
// may have taken effect: 503 says it did not, 504 (OutcomeUnknown) that it may.
//
// This package decides nothing about locks or guards: it reads requests, asks
// packages locks, guards and eventlog, and writes answers.
package lockapi
