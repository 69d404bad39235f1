// Package history records what clients asked of fenced scopes and what they were
// told, in real time, and judges it.
//
// # The judge
//
// A history is correct if some order of its operations, each placed between its
// call and its return, makes the plainest fenced store there is (register: a
// mark and a few keys, one operation after the other) give every answer that was
// given. That is linearizability, checked by porcupine, and it carries the
// invariants: F1 and F2 (a grant is above the mark), F3 and F4 (no operation
// below it), F5 (a fenced read shows all that was acknowledged and nothing that
// comes later), F6 (what was acknowledged stays), F7 (an answer says what
// happened) and F10 (conditions are decided where the write is).
//
// # What is recorded, and what is not
//
// An operation of unknown outcome (504, a broken connection) has no return: it
// may take effect at any time after its call, or never. An operation that was
// answered 503 is left out, since that answer promises that nothing happened: if
// something did, it shows as a value that nobody wrote. Every put writes a value
// of its own, so that each read names its writer.
//
// # The page
//
// Page draws a history with what was done meanwhile to processes and networks: all
// of a short one, of a longer one its course and what happened around some
// takeovers; and of a violation the operations that led to it.
//
// # What it does not do
//
// It knows nothing of leases: who may renew, and when, protects nothing. It does
// not judge writes without a token, which F4 does not speak of.
package history
