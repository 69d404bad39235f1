// Package edge is where the network ends: it bounds connections and the pace of
// what moves on them, refuses requests that two readers could take for two
// different ones, and ends connections so that the last answer arrives. It knows
// neither S3 nor locks nor who signed what: whoever the client is, these bounds
// come first.
//
// # Connections
//
//	listener.go  how many, in all and from one address; which one makes room
//	conn.go      the pace of answers, and the end of a connection
//	body.go      the pace of bodies of requests
//	expect.go    100 Continue
//	shape.go     requests that are refused by their shape alone
//	tarry.go     refusals of strangers are delayed when there are many
//	server.go    the HTTP server over all of it
//
// Where there are too many connections, the one that has waited longest without a
// whole request (new, in its TLS handshake, or idle between two requests) makes
// room for the next. Only where all of them have a request under way is a new one
// refused, with 503 SlowDown. So who opens connections and sends nothing, or sends
// headers a byte at a time, displaces himself.
//
// # Pace
//
// A client may make the proxy wait for [Limits.Stall] in all, whether for bytes of
// a body or for room for an answer; what moves wins that time back, at
// [Limits.MinRate] bytes a second. So a connection that stands still ends after
// Stall, one that moves more slowly than MinRate ends somewhat later, and one that
// is faster never ends for its pace, however long a body takes. Only time in which
// the proxy waits for the client counts, never time in which the client waits for
// the proxy or for the store behind it.
//
// # Which requests are refused by their shape
//
// Framing is net/http's: conflicting or malformed Content-Length, any
// Transfer-Encoding but one plain "chunked", a second Host, control characters and
// names that are none are answered 400 or 501 by it and end the connection. Where
// it takes one of two readings of a framing in doubt (Content-Length beside
// chunked, Transfer-Encoding in HTTP/1.0), the connection ends with the answer, so
// that nothing that follows is read as a request (RFC 9112, section 6.1). See
// [Shape] for the rest.
//
// HTTP/2 is not spoken, in TLS neither: ALPN offers http/1.1 alone, an h2c upgrade
// is not taken up, and the preface of HTTP/2 is refused.
//
// # Known gaps
//
// net/http takes a bare line feed as the end of a header line and a folded header
// line as one line with a space, both as RFC 9112 permits (sections 2.2, 5.2).
// Requests behind a front end that reads those differently are still bound by
// their signature.
package edge
