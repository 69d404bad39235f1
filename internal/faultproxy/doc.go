// Package faultproxy is a TCP proxy that misbehaves on demand: it holds bytes
// back and delivers them later, swallows answers, refuses, resets, delays and
// flips a bit.
// Tests put it between two programs to be the network, or the balancer, of the
// adversary they play.
//
// Guarantees. Bytes are never reordered, and changed by Flip alone. Held bytes are delivered on
// release even when whoever sent them has closed, been killed or reset the
// connection since: that is the network's own behaviour that fences must
// survive. Every control returns after it took effect: what is read from a
// socket later obeys it. No goroutine is left after Close.
//
// Failures. A target that cannot be dialled shows as a reset of the client's
// connection. Bytes are held in memory, at most 64 MiB for one direction of one
// connection; beyond that the sender blocks.
//
// What it does not do: it does not parse what it forwards (but for HTTP's
// interim answers), knows nothing of TLS, and is imported by tests only.
package faultproxy
