// Package parity runs S3 tests that others wrote straight at a store and through
// s3fence, and compares the verdicts test by test.
//
// The suites are minio-go's functional tests, go-cloud's conformance tests of blob
// drivers over its S3 driver, and versitygw's integration tests; scripts/parity.sh
// has their versions and builds them outside of this module. The stores are MinIO
// and versitygw. The sides are a bucket without a guard, a sealed bucket where every
// request has a valid token, and one with tokens: none; each over http and TLS, in
// path and virtual-hosted style.
//
// # Verdicts
//
// A difference is a defect, or has a row in differences.txt with its reason. A row
// whose difference no longer happens fails the run, too. What comes out otherwise at
// a second look is no difference: stores and suites are not steady. Tests that fail
// both ways say nothing of the proxy and are counted. The rows stand in
// docs/s3-compatibility.md as well (go test ./e2e/parity -run TestPage -write).
//
// # Running
//
// make parity runs every test in every cell and writes result.txt. make test runs a
// part: each pair of side, transport and style for each suite and store, the long
// suites in slices by the hash of a test's name: 36 cells, 115 s of processor time
// without that of PostgreSQL. One cell, or one test, again:
//
//	go test ./e2e/parity -v -run TestParity -words -only minio-go/minio/token/tls -tests testFunctional
//
// # What stands between
//
// Straight over http, and to an unguarded bucket in path style: nothing. Straight
// over TLS: a listener that takes TLS off and sends the bytes on, since the stores
// serve http. So tests of SSE-C, which stores want TLS for, fail both ways.
//
// Virtual-hosted style needs names that no resolver has. The suites are given an HTTP
// proxy: over TLS it joins connections byte for byte, over http it sends requests on
// with the path in place of the URL.
//
// To sealed buckets: a gate, an HTTP server between suite and proxy. It sends every
// request on with the path and query as they came; header names are in Go's spelling
// and hop-by-hop headers are its own. It does four things more, as an operator would:
//
//   - When a CreateBucket was answered with success, it guards the whole bucket, and on
//     the side token takes the lock, before the suite gets the answer.
//   - Before a DeleteBucket it removes the guard, and when that was granted (nothing
//     stands under it) also what the collector has not removed yet under .s3fence/,
//     since a store deletes no bucket that has something in it. If the bucket is not
//     deleted then, it is guarded again.
//   - On the side token it puts X-Fencing-Token into requests to guarded buckets, and
//     signs them anew with the suite's own key, presigned ones included. It does so
//     only where the signature that came is right, so that nothing that the proxy would
//     have refused gets in. Signed chunks are chained to the signature of the head, so
//     that requests with them go on as they are; therefore suites speak TLS to the gate
//     on this side, also where the proxy is asked over http.
//   - CONNECT joins to the next server, for virtual-hosted style over TLS.
//
// # What it does not do
//
// Nothing here judges whether s3fence is right where a store is wrong: where a test
// fails straight and passes through the proxy there is a row as well. Tests of
// malformed requests reach sealed buckets in the form that Go's HTTP server lets
// through.
package parity
