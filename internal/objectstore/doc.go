// Package objectstore is a durable S3 object store in one directory, for one
// process and one credential. It serves the S3 API as an http.Handler.
//
// # Guarantees
//
//   - An answered write survives: kill -9 and loss of power at any moment lose
//     no acknowledged write and never show half of one. Bytes are on the disk,
//     name and all, before the row that makes them visible is committed, and
//     that commit waits for the disk too.
//   - A write is visible whole or not at all. Complete is one transaction,
//     whatever the number of parts. Conditions (If-Match, If-None-Match) of
//     writes, copies, completions and deletes are judged in the transaction
//     that writes.
//   - What was acknowledged is seen by every later read and list. A read keeps
//     the version it opened, though the key be replaced or deleted meanwhile.
//   - Keys are bytes. No key is taken for another, and lists are in the order
//     of the bytes. (A key that is not UTF-8 is refused with the signature: the
//     rules of signing give it no canonical form.)
//   - Every request is verified: signature, expiry of presigned requests, and
//     whatever it says about its body: length, SHA-256, MD5, checksums, chunk
//     signatures, trailers. A refused body leaves nothing behind.
//   - Memory per request is bounded: bodies are streamed; what is held is at
//     most the inline limit, one XML body of 4 MiB, or the list of the 10,000
//     segments of the largest object.
//
// # Layout
//
//	lock          held while a process uses the directory
//	objects.db    SQLite, write-ahead log: buckets, objects, uploads, small bodies
//	blobs/xx/…    larger bodies and parts, one file each, named at random
//
// A blob file means nothing until a committed row names it, and goes when the
// last such row has gone and no read holds it. Files that no row names are
// removed by Open. Copies name the blobs of their source instead of copying
// bytes.
//
// All writes go through one connection; those that arrive while a commit waits
// for the disk share the next one.
//
// # Assumptions
//
// fsync does what it says, on files and on directories; flock works (local
// file systems, not every network one); the credential's secret is known to
// trusted processes only.
//
// # Failures
//
// A write that cannot be stored is answered with an error and leaves nothing.
// When a commit itself fails for another reason than a full disk, that answer
// is 500 and its outcome unknown; the store then refuses all writes with 503
// until it is opened again, since the disk may have kept a part of the log and
// anything appended behind it could be lost. Reads go on.
//
// # What it does not do
//
// No versions, ACLs, object lock, encryption, browser form uploads, several
// credentials, or regions. Checksums are verified on every body and returned
// for objects put whole, not for objects made of parts; a checksum of the whole
// object sent with Complete is not compared. Abandoned uploads stay until
// aborted. It runs on Unix only.
package objectstore
