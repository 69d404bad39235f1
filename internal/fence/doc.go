// Package fence holds the rule of the product: which operation a fencing token
// admits. It has the vocabulary (token, mark, scope, guard) and one pure
// function, [Judge]; it knows no HTTP, no SQL and no S3.
//
// A lock tells its holder that nobody else works; a frozen holder cannot be
// told that this has changed. A fencing token can: it is a number that is
// larger for each new holder, and whatever it guards remembers the largest it
// has seen (the mark) and refuses what comes with a smaller one. See
// M. Kleppmann, "How to do distributed locking" (2016), and Gray and
// Cheriton, "Leases" (SOSP 1989).
//
// # Invariants
//
// Code, SQL, tests and docs cite these by number. docs/protocol.md argues them.
//
//	F1  The mark of a scope, the pair (generation, token), never falls and is
//	    never deleted: not by release, expiry, restart, guard removal, clean-up.
//	F2  A grant takes the next value of one counter of the whole deployment,
//	    drawn while the scope is locked, and raises the scope's mark in the same
//	    transaction. No two grants share a token, in one scope or in two; the
//	    counter is never below the mark of a scope that it issues for.
//	F3  Nothing is admitted under a token below the mark, neither a write nor a
//	    read that carries a token. (Aborting one's own upload, which nobody can
//	    see, is the exception.)
//	F4  Once a lock was granted with token t, or a request under t was answered
//	    with success, no write under a lower token takes effect in that scope.
//	F5  What the holder of t reads after its grant contains every acknowledged
//	    write of lower tokens, and none of theirs appears afterwards.
//	F6  An acknowledged write stays readable until a later write of an equal or
//	    higher token replaces or deletes it.
//	F7  Answers are honest: 2xx took effect, 4xx did not and never will, 503 did
//	    not, 504 may have.
//	F8  A token counts in its own scope only and clients cannot mint one.
//	F9  When the state cannot be asked, fenced operations and writes in guarded
//	    scopes fail closed; so does every mutation once the lease on the guard
//	    list is over.
//	F10 Conditions (If-Match, If-None-Match) in sealed scopes are decided in the
//	    transaction that commits the write.
//
// Judge compares numbers that its caller read. It fences nothing by itself:
// the caller must hold the scope's lock from before the numbers were read until
// the effect of the operation is committed (package sealed does).
package fence
