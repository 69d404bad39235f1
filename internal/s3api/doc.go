// Package s3api is the S3 edge: it turns an HTTP request into one operation
// with all its targets, finds out which guard each target lies under, hands the
// operation to the store or to a way to write, and renders what came of it. It
// knows no SQL and no leases of holders, and it judges no token by itself: the
// ways to write (package guarded) do that at the moment of the effect.
//
// # One request
//
//	server.go      request id, the record
//	pipeline.go    bounds → signature → place and operation → a share of the
//	               concurrent requests → rights → headers moved into the query →
//	               token → guard list → unknown headers
//	shares.go      places for concurrent requests, for each credential some
//	target.go      host and path to bucket and key, byte for byte
//	operations.go  the table of every S3 operation; route.go matches it
//	idempotency.go what a request under an Idempotency-Key is
//	token.go       the carriers of a token, and which token counts for a target
//	relay.go       outside of every guard: the request for the store, its answer
//	objects.go, multipart.go, copy.go, copy_stores.go, batch.go, attributes.go, acl.go, list.go
//	               in a scope: the calls of package guarded
//	errors.go      errors to statuses; render.go writes them
//
// # Guarantees
//
//   - What matches no row of the table, or two, is refused with 501; so is a
//     query parameter that its operation does not take and, on a mutation, an
//     x-amz- header that nobody here knows. The table says for each operation
//     what becomes of it where a guard is; what it leaves open is refused.
//   - The key that is authorised is the key that is judged is the key that is
//     sent. Copies ask for their source, batches for each key. In a bucket with
//     a guard, a name that a store could take for another is refused for writes
//     and does not exist for reads; so is, in every bucket, one that leads out of
//     it by ".." segments. Other names with such segments need their right on
//     the whole bucket.
//   - Nothing of a body is read before everything that can be refused without it
//     was refused, known stale tokens included: a client that waits for 100
//     Continue never sends it.
//   - A body is handed on through the verifying reader of package sigv4. Bodies
//     of up to 64 KiB are verified whole before the store sees a byte. What is held
//     here before it is sent goes with an MD5 of ours, what is streamed with the
//     digest that its client sent ahead; without one the store's ETag is compared,
//     where it is an MD5, and the answer is 504 if other bytes were stored.
//   - An object of a scope that is read whole is compared with a checksum of it
//     that is known, or up to 1 MiB with its MD5. Its last bytes are held back until
//     then; a damaged one ends in a cut connection.
//   - A mutation outside of every guard runs as a flight of the guard list: it is
//     not sent and not answered with success without the list's lease (F9).
//     Otherwise such requests never touch the state.
//   - Keys under the reserved prefix do not exist for clients, in lists neither;
//     a list that a store gives in place of a setting is not handed on.
//   - Answers are honest (F7): 503 says that nothing happened, 504 that it may
//     have, a body that breaks off ends in a cut connection. Stale tokens are 412,
//     or 403 where the request is itself conditional, since loops of compare and
//     swap read 412 as a lost race.
//   - Each request has one [Record]; each refusal of the fence is also an event.
//     Neither they nor any answer hold secrets.
//   - An Idempotency-Key names a write into a scope: its repetitions are answered
//     as the first time, other requests under it are 422. One that cannot be is 400
//     everywhere; outside of every guard it counts for nothing. It never goes to a
//     store.
//
// # Tokens
//
// A token comes with the credentials, in a signed header, in metadata or in the
// query of a presigned URL; two that disagree are refused. One that the request
// itself presents must meet a guard: outside of every guard it is refused,
// whether the request reads or writes, because a typo must not look fenced.
// Operations on a bucket as a whole have no scope and look at no token. One that
// the credentials carry counts inside its scope; elsewhere reads are as
// without, and writes into other scopes are refused unless the guard there
// takes no tokens. If the scope it names has no guard any more, it is refused.
//
// # Bounds
//
// Memory per request: 64 KiB for a body or 64 KiB to stream an answer, XML
// bodies of at most 4 MiB, answers of the store that are rewritten of at most
// 16 MiB. A body whose length or checksum comes last is kept in a file of at
// most [Limits.Spool] bytes, all together [Limits.SpoolTotal], beyond which they are
// 503; longer ones of unknown length are 411, longer ones
// with a checksum in the trailer are streamed and verified, but the store does
// not get their checksum and its ETag is compared instead. Requests that stream no object end after
// [Limits.Deadline]; how fast bodies move is bounded by the HTTP server (package
// edge) and by package upstream. A request whose signature is not verified has no
// share of anything that is bounded, and nothing waits for its body or its client.
//
// # Assumptions
//
// The handler gets requests unparsed: no router has cleaned the path. The
// verifier does not insist that X-Fencing-* are signed (sigv4.Options.MustSign),
// since that is answered here with a code of its own. Names of buckets are
// unambiguous: no two names lead to one bucket of a store.
//
// # Not here
//
// Browser form uploads, CORS preflights, website hosting, S3 Select under a
// guard, and keys of clients (SSE-C) in a scope are refused. Objects in a scope
// have no versions but null and no ACL but their owner's. Bucket policies and
// ACLs are the store's and bind the proxy's own key: rights of clients are those
// of package auth.
package s3api
