// Package awss3 sends the requests of aws-sdk-go-v2 under a lock that is held.
//
// [New] is a client of the S3 behind the lock's service whose every request
// carries the token, by fenced credentials. It is what most programs want:
//
//	held, err := c.Hold(ctx, "s3://data/jobs/nightly/")
//	…
//	_, err = awss3.New(held).PutObject(held.Context(), …)
//
// [Stamp] is for clients that keep credentials of their own: it puts the token
// into a signed header, or into the query of what is presigned, of every request
// that lies in the lock's scope, and of no other:
//
//	s3.NewFromConfig(cfg, awss3.Stamp(held))
//
// Both work below whatever uses the client: uploads in parts, presigned URLs,
// transfer managers.
//
// # How a request is found to lie in the scope
//
// By its input, before it is signed: Bucket and Key as the caller gave them, for
// lists Bucket and Prefix, for a batch delete Bucket and every key of it. Of a
// copy the destination counts. The URL would say less: a bucket may be in its
// path or in its host. Requests on a bucket as a whole stay as they are.
//
// # Once the lock is lost
//
// [New] has no credentials any more and [Stamp] refuses to sign, both with the
// cause of the hold's Context, for errors.Is with client.ErrLost and the like.
// That spares work; what was signed before is refused by s3fence: the error is
// smithy.APIError with code StaleFencingToken.
package awss3
