// Package sealed writes objects of guarded scopes so that no store can undo the
// fence: the bytes go to a name that is used once and that nobody reads, and a
// commit in the state makes them the object. The store only keeps bytes; the
// commit is the write.
//
// # One write
//
//	body ──► fresh physical key in the store      (put.go, join.go, copy.go)
//	         .s3fence/objects/<scope>/<epoch>/<attempt>
//	     ──► one transaction                        (commit.go, batch.go)
//	         lock guard, scope (shared), key (exclusive)
//	         then compare token with mark           F3, F4
//	         then epoch of the name with horizon    F6
//	         then the request's conditions          F10
//	         then point the key's row at the physical key
//	     ──► answer                                 F7
//
// A write that is frozen, delayed or replayed anywhere before its transaction
// leaves bytes under a name that no row points at: an orphan, which the
// collector removes later. A write whose transaction comes after a takeover is
// refused there. Nothing depends on clocks, and nothing on the store beyond "a
// new key can be read once its PUT was answered".
//
// The parts of uploads, their sizes and checksums, are rows of the state
// (parts.go). They belong to an attempt, as the bytes do: what a read is told of
// parts is of the very bytes that its row names. What no store can copy by itself
// passes through here and is compared (relay.go).
// What tries of one Complete tell each other of what is joined is in join.go.
//
// # Reads
//
// Each read resolves the key through its row, in one snapshot taken after the
// request arrived (read.go); there is no pointer cache. Lists merge rows with
// the plain keys of the bucket (list.go).
//
// # Collector
//
// A scope has an epoch, which goes into new names, and a horizon, below which
// names can never be committed any more (collect.go). The horizon follows an
// epoch only after the longest possible upload; only names below the horizon
// that nothing refers to are deleted, and only after the grace for running
// reads and for restoring the database.
//
// # Leaving
//
// An export writes objects back under their plain keys, in place (export.go), under
// permits that end by the store's clock (export_settle.go): ADR 23. The rows outlive
// their guard for a moment, and no longer (tidy); they are nobody's object then.
//
// # What it does not do
//
// It knows no HTTP and no SQL; it takes no locks for holders (package locks) and
// does not decide which keys are guarded (package guards). Several objects are
// never written atomically.
package sealed
