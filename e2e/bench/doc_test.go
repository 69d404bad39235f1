//go:build bench

// Package bench measures what the proxy costs: the same requests from the same
// client, direct at a store and through the proxy, in turn.
//
// make bench builds and runs it. It starts a durable PostgreSQL, MinIO and the
// s3fence binary, and drives each case from concurrent callers in rounds of a
// few seconds: direct, unguarded, sealed, direct, … so that whatever else the
// machine does meets all sides alike. Each round gives a rate and latencies; a
// ratio compares a proxied round with the direct round just before it; what is
// printed are medians over rounds.
//
// What the numbers mean. Client, store, database and proxy share one machine:
// where processors are few, a ratio says how much processor time the proxy and
// its database add to what the store takes, not what a network would hide. The
// client is made lean (signed before the round, one write per request, no
// goroutine besides its callers), and its own processor time is printed.
//
// What it does not do: it fails on errors, never on slow results, and it checks
// no content; tests do that. The bench build tag keeps it out of every other
// build and test run: it takes minutes and a quiet machine.
package bench
