// Package sigv4 decides whether an HTTP request was signed by who it says,
// and whether its body is the one that was signed. It implements the server
// side of AWS Signature Version 4 as S3 clients use it: the Authorization
// header, presigned URLs, and every aws-chunked payload form, with checksums
// in headers and in trailers.
//
// # Guarantees
//
//   - [Verifier.Verify] returns a [Signed] only when method, path, query, host,
//     every listed header, time, region and service are bound by a signature
//     made with the secret of the named access key. A header whose name begins
//     with x-amz- or one of [Options.MustSign] is never present unsigned.
//   - What was signed is what callers interpret: [Signed.RawPath] and
//     [Signed.Params] are the bytes of the request line and the one decoding of
//     its query that the signature was checked against.
//   - [Body] never returns io.EOF for a body that failed any of its checks:
//     length, SHA-256, chunk signatures, trailer signature, trailer and header
//     checksums, Content-MD5. Where the length is known, the last byte is held
//     back until all checks passed, so that whoever copies the body onwards under
//     a Content-Length can never complete a bad one.
//   - Errors that a header alone can show are returned by Verify and
//     [Signed.Body], before the first byte is read and so before net/http
//     invites the body with 100 Continue.
//   - Memory per body is bounded by a 4 KiB line buffer and an 8 KiB trailer,
//     whatever chunk sizes a client announces. No goroutines are started.
//
// # Assumptions
//
//   - Requests come from net/http: header names are in canonical form, and the
//     body ends where the message framing says so. Deadlines on the connection
//     bound the time a read may take.
//   - [Options.Now] is right within the skew allowed (15 minutes).
//   - SigV4 sorts repeated query parameters, so their order is not bound by a
//     signature. Callers refuse a parameter that must be single and is repeated.
//   - The path is decoded as a whole ([DecodePath]) before it is split.
//
// # Failures
//
// Everything refused is an [*Error] whose Code is S3's own; [ErrAnonymous] says
// that no signature was offered at all. A [CredentialSource] that cannot answer
// yields ServiceUnavailable: a request is never admitted for want of an answer.
//
// # Not here
//
// Signature Version 2, SigV4A (ECDSA) and browser form uploads (POST policies)
// are refused or, for forms, look anonymous. A presigned URL may be used any
// number of times until it expires; this package remembers no signature.
// Signing requests, rendering errors, and what an access key may do are the
// business of others.
package sigv4
