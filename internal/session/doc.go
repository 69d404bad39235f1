// Package session issues and opens fenced credentials: temporary ones whose
// session token carries a scope, its generation and a fencing token.
//
// # Guarantees
//
//   - A session token that [Ring] opens was sealed by a Ring of the same deployment
//     for the access key that it is sent with, and says now what it said then: a
//     client can neither alter nor mint one (F8). Whoever knows the secret key of
//     the parent, the credential that asked, can; it gains nothing by it, since it
//     may send any token in a header, which is judged in the same way.
//   - A session ends when its parent is removed or gets another secret key, when
//     the session secret that sealed it is no longer known here, and max age after
//     the parent asked, whatever was asked for with it since.
//   - Every Ring with the same deployment, credentials and session secrets opens
//     what any other sealed. They share nothing else and keep nothing: there is no
//     table of sessions, and nothing to clean up.
//
// # Form
//
// Two keys and an id are derived with HKDF-SHA256 for each pair of a session secret
// and a parent: the salt is the deployment's id, the input the session secret,
// which may be empty, and the parent's secret key, the first one's length before
// them so that no two pairs are the same bytes. A token is, in base64 for URLs,
//
//	version 1 | key id 4 | length, parent's access key | nonce 12 | sealed | tag 16
//
// where sealed is AES-256-GCM over the time of issue, generation, token and scope,
// with all that stands before the nonce and the temporary access key as additional
// data. The nonce is random, which is sound for 2^32 sessions of one parent. The
// secret key that a client signs with is derived from access key and token, so it
// stands in none of them.
//
// # What this package does not do
//
// It does not judge tokens: whether one is stale is asked where the request is
// judged (package fence), and before credentials are issued (package locks). It
// knows no signatures and no HTTP.
package session
