// Package storetest gives tests a real MinIO: an S3 store that shares no code
// with this product, built from its Go module at a pinned version.
//
// [MinIO] is the server that all tests of a process share; [Start] gives one
// that a test may freeze, kill and start again. [Server.Bucket] makes a bucket
// for one test.
//
// Guarantees. scripts/minio.sh says which version runs and builds it where it
// is missing; a failed build fails the test and nothing is ever skipped.
// Readiness is waited for within a bound. Nothing of a server outlives the test
// process, not even when that is killed (package testserver says how).
//
// Assumptions. Linux; the test runs inside the checkout.
//
// What it does not do: MinIO on one folder of one disk says nothing about
// clusters, and nothing about other stores. Killing it proves what survives a
// crash of the process, not of the machine.
package storetest
