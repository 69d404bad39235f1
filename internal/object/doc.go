// Package object is the vocabulary of S3 objects that the rooms above share:
// what an object is called, what it carries besides its bytes, and the
// conditions a request puts on it. It knows nothing of fences, stores, SQL or
// HTTP servers, does no I/O, and all of its values are safe to copy.
package object
