// Package storetest gives tests a real MinIO and a real versitygw: S3 stores that
// share no code with this product, built from their Go modules at pinned versions.
//
// [MinIO] and [Versitygw] are the servers that all tests of a process share;
// [Start] and [StartVersitygw] give one that a test may freeze, kill and start
// again. [Server.Bucket] makes a bucket for one test. [StartDiscard] is no real
// store: it hashes and drops what it is sent, for sizes that no disk takes.
//
// Guarantees. scripts/minio.sh and scripts/versitygw.sh say which version runs
// and build it where it is missing; a failed build fails the test and nothing is ever skipped.
// Readiness is waited for within a bound. Nothing of a server outlives the test
// process, not even when that is killed (package testserver says how).
//
// Assumptions. Linux; the test runs inside the checkout.
//
// What it does not do: MinIO on one folder of one disk says nothing about
// clusters, and nothing about other stores. Killing it proves what survives a
// crash of the process, not of the machine.
package storetest
