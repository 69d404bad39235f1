// Package upstream is the client to one S3 store: it signs, sends once, and
// says what may have happened. It knows nothing of scopes, tokens or SQL.
//
// # Guarantees
//
// A mutation is signed in the query with X-Amz-Expires (Signature Version 4,
// UNSIGNED-PAYLOAD), so that the store refuses it when it arrives later than
// SignedAt + Validity. Every header that is sent is signed, Content-MD5 among
// them; x-amz-content-sha256 is not sent, because some stores refuse a query
// signature next to it. Reads are signed in headers.
//
// A mutation is sent at most once. There are no retries, no redirects, no
// HTTP/2, no Idempotency-Key, and bodies cannot be rewound. What remains of
// net/http's own retries: a request without a body on a kept connection on
// which not a single byte could be written goes to a fresh connection. Reads
// are sent again when the store closes a kept connection under them.
//
// The key in a [Request] is the key that the store sees, byte for byte.
// Headers are an allow-list, [Forwarded].
//
// Bodies are streamed. The last bytes of a body leave only after its reader
// said EOF at exactly the declared length; an error of the reader, even at the
// very end, leaves the store with fewer bytes than Content-Length and a closed
// connection.
//
// Every wait is bounded: connecting, unacknowledged bytes (TCP_USER_TIMEOUT,
// Linux only), the headers of the answer, the whole answer of a mutation, each
// Read of a streamed answer. The one wait that is not ours is the Read of a
// caller's body.
//
// # Outcomes
//
// All classification stands in outcome.go:
//
//	Took     2xx, whole body, no <Error> in it
//	Refused  4xx with an S3 error document; an <Error> in a 2xx whose code says
//	         that the request was judged and found wanting
//	NotSent  no byte left this process: bad request, no connection, or a
//	         connection that broke before the first write
//	Unknown  everything else: 5xx, 3xx, a 4xx that is not S3's (some balancer's),
//	         a cut or overlong answer, an error after a byte may have left
//
// # Assumptions and failures
//
// Some stores commit a truncated object when the sender closes in the middle,
// and a network that is cut there may look to them as if it had. Where that
// matters a caller that streams must not let anybody read a key whose PUT did
// not return Took, or must give the store a digest. A store may answer 200 for nothing; where it matters, ask
// with [Client.HeadObject]. The store's clock is trusted for expiry only; this
// package does not correct for a clock that differs from it.
//
// # What it does not do
//
// It does not retry, buffer bodies, compute digests of streamed bodies, follow
// pages, or decide what an outcome means for a client.
package upstream
