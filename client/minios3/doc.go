// Package minios3 sends the requests of minio-go under a lock that is held.
//
// [New] is a client of the S3 behind the lock's service whose every request
// carries the token, by fenced credentials; [Credentials] are those credentials
// for a client that is made otherwise:
//
//	held, err := c.Hold(ctx, "s3://data/jobs/nightly/")
//	…
//	m, err := minios3.New(held, nil)
//	_, err = m.PutObject(held.Context(), "data", "jobs/nightly/report", …)
//
// Once the lock is lost there are none: calls fail with the cause of the hold's
// Context. What was signed before is refused by s3fence: minio.ErrorResponse
// with code StaleFencingToken.
//
// # Stamping
//
// Clients that keep credentials of their own can put the token into some
// requests: [StampPut], [StampCopy], [StampGet] and [Query] for what is
// presigned. minio-go has no place for a signed header in deletes, tags, and the
// steps of [minio.Core], so there is no stamping those: use fenced credentials.
package minios3
