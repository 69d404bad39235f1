// Package idempotency compares requests that their clients named with an
// Idempotency-Key: a repetition is given the first answer, and another request
// under the same key is refused.
//
// A record is found by credential and key, and holds what the request was beside
// its answer: each part by a digest, so that a refusal can say which ones differ.
// It is written in the transaction that makes the request take effect, so there is
// none of a request that was refused or failed, and a repetition of that runs.
//
// The record's name is locked by every transaction that looks for it
// (state.Tx.Requests), since two requests under one key need have no other lock
// in common: without it both would find nothing and both would take effect. A
// unique index is not enough, since records are kept by days and two attempts
// may stand on both sides of midnight.
//
// # What is no part of a request
//
// The fencing token: who writes again under a new lock asks for the same. What a
// token admits is judged by whoever replays an answer. Nor how a request travels:
// signature, date, framing, checksums of the body that is compared itself.
//
// # What this package does not do
//
// It reads no headers and takes no locks; what is compared is said by whoever
// knows the request.
package idempotency
