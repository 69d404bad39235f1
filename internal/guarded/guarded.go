// Package guarded says what can be done with objects under a guard: the seat
// that each way of writing takes. Package sealed fills it; a way that keeps
// objects under their own names can be added beside it without a change to the
// S3 edge, which knows these types only.
//
// Every operation comes with an [Op]: the guard, the scope and what the request
// says of its token. The implementation, not the caller, judges it, at the
// moment that makes the effect visible. Errors are *fence.Refusal, the errors of
// package object, of package state (unavailable, busy, unknown) and of package
// upstream; nothing else is an answer for a client.
package guarded

import (
	"context"
	"io"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/object"
)

// Op is the fence's side of an operation.
type Op struct {
	Guard *fence.Guard
	Scope fence.Scope
	// Request's Access is set by the implementation.
	Request fence.Request
	// Caller is the access key.
	Caller string
	// RetryID is the id that the client's SDK chose for the request, the same for
	// each of its retries; empty where it sends none, and where Named is set.
	RetryID string
	// Named is the request under the Idempotency-Key that its sender chose, without
	// its body where that is streamed; nil where it chose none. A request has one,
	// however many operations it is made of.
	Named *idempotency.Request
}

// Put writes one object from a body.
type Put struct {
	Op
	object.Ref
	// Body ends with io.EOF only if all that belongs to it (length, signatures,
	// checksums) was verified; any other end writes nothing.
	Body io.Reader
	// Size is the body's length in bytes; -1 where the client sent none.
	Size int64
	// ContentMD5 is the MD5 of the body in base64 where the client sent it ahead,
	// "" where not. The store may be given it.
	ContentMD5 string
	object.Attributes
	// Verified, where not nil, is called after the body's end and returns the
	// checksums that a trailer brought.
	Verified func() map[string]string
	object.Conditions
	// Store are headers for the store alone (storage class, encryption).
	Store map[string]string
}

// Source is where a copy reads from.
type Source struct {
	object.Ref
	// Op is the fence's side of the read; its Guard is nil for a plain source.
	Op
	// Conditions are the x-amz-copy-source-if-* of the request.
	object.Conditions
	// Range limits a part copy; nil for all of it.
	Range *Range
}

// Range is a part of an object: Length bytes from Offset. Length is at least 1.
type Range struct {
	Offset, Length int64
}

// Copy writes one object from another.
type Copy struct {
	Op
	object.Ref
	Source Source
	// Attributes replace the source's where ReplaceMeta says so, Tags where
	// ReplaceTags does.
	object.Attributes
	ReplaceMeta, ReplaceTags bool
	object.Conditions
	Store map[string]string
	// Checksum is the algorithm whose checksum the new object shall have; empty for
	// those that the source has.
	Checksum string
}

// Delete removes objects of one scope.
type Delete struct {
	Op
	Items []DeleteItem
}

// DeleteItem is one object of a Delete with its own conditions.
type DeleteItem struct {
	object.Ref
	object.Conditions
}

// Tagging replaces the tags of an object; an empty set removes them.
type Tagging struct {
	Op
	object.Ref
	Tags []object.Tag
}

// CreateUpload begins a multipart upload. Its Algorithm and ChecksumType are both
// set, and possible together, or both empty.
type CreateUpload struct {
	Op
	object.Ref
	object.Attributes
	Store map[string]string
}

// UploadRef names an upload. The request may carry a token, which must then be
// the one that the upload was created with.
type UploadRef struct {
	Op
	object.Ref
	ID string
}

// Part sends one part of an upload.
type Part struct {
	UploadRef
	Number int
	Body   io.Reader
	// Size is the part's length; parts need one.
	Size int64
	// ContentMD5 is as that of Put.
	ContentMD5 string
	// Algorithm is that of the checksum which the client gives, in a header or
	// trailer; empty where it gives none.
	Algorithm string
	// Checksums are those of the request's headers, Verified as in a Put.
	Checksums map[string]string
	Verified  func() map[string]string
}

// PartCopy makes one part of an upload from another object.
type PartCopy struct {
	UploadRef
	Number int
	Source Source
}

// PartInfo describes a part that the store has.
type PartInfo struct {
	Number    int
	ETag      string
	Size      int64
	Modified  time.Time
	Checksums map[string]string
}

// Uploaded is a page of the parts of an upload.
type Uploaded struct {
	Parts []PartInfo
	More  bool
	// Algorithm, ChecksumType and StorageClass are what the upload was created with.
	Algorithm, ChecksumType, StorageClass string
	// Creator is the access key that created the upload.
	Creator string
}

// Complete joins the parts of an upload into the object.
type Complete struct {
	UploadRef
	Parts []PartInfo // Number, ETag and Checksums as the client lists them
	object.Conditions
	// Checksums, by algorithm, ChecksumType and Size, in bytes, are what the client
	// says of the whole object; empty and nil for nothing. What is not true of it is
	// refused.
	Checksums    map[string]string
	ChecksumType string
	Size         *int64
}

// UploadInfo describes an open upload.
type UploadInfo struct {
	object.Ref
	ID        string
	Initiated time.Time
	Creator   string
	// Algorithm, ChecksumType and StorageClass are what it was created with.
	Algorithm, ChecksumType, StorageClass string
}

// Writer is one way to write into guarded scopes. All methods are safe for
// concurrent use. A nil error means that the write took effect, durably.
type Writer interface {
	Put(ctx context.Context, p *Put) (object.Info, error)
	Copy(ctx context.Context, c *Copy) (object.Info, error)
	// Delete answers item by item, in order. Removing what is not there is a
	// success, as S3 has it.
	Delete(ctx context.Context, d *Delete) []error
	SetTags(ctx context.Context, t *Tagging) error
	// Admit judges a write that changes nothing of an object, which must be there.
	Admit(ctx context.Context, op *Op, ref object.Ref) error

	CreateUpload(ctx context.Context, c *CreateUpload) (id string, err error)
	UploadPart(ctx context.Context, p *Part) (PartInfo, error)
	CopyPart(ctx context.Context, p *PartCopy) (PartInfo, error)
	Complete(ctx context.Context, c *Complete) (object.Info, error)
	Abort(ctx context.Context, u *UploadRef) error
	// ListParts returns up to limit parts above a part number.
	ListParts(ctx context.Context, u *UploadRef, after, limit int) (Uploaded, error)
}

// Reader reads guarded objects.
type Reader interface {
	// Pending asks the state whether a guard that this proxy knows as pending
	// still is, so that the plain objects under it are the ones to read.
	Pending(ctx context.Context, g *fence.Guard) (bool, error)
	// Stat describes an object without asking the store.
	Stat(ctx context.Context, op Op, ref object.Ref) (object.Info, error)
	// Parts describes an object with up to limit of its parts behind the first so
	// many: none for an object of one piece, and none where they were not recorded,
	// although Info.Parts counts them.
	Parts(ctx context.Context, op Op, ref object.Ref, skip, limit int) (object.Info, []object.Part, error)
	// Get opens an object. choose is called with what the object is, evaluates
	// the request's conditions and picks the range (nil: all); it may be called
	// again if the object is replaced at that moment. The caller closes the body,
	// which is exactly the chosen bytes or ends with an error.
	Get(ctx context.Context, op Op, ref object.Ref, choose Choose) (object.Info, io.ReadCloser, error)
	// Locate finds the bytes of an object in the store, for a copy to a place
	// outside of every guard.
	Locate(ctx context.Context, op Op, ref object.Ref) (object.Info, Location, error)
}

// Choose picks what is read of an object; nil is all of it. part finds the n-th
// part of this very object, n from 1 to Info.Parts, or fails with
// [ErrPartsUnknown], which Choose hands on.
type Choose func(info object.Info, part func(n int) (object.Part, error)) (*Range, error)

// Location is a key in the store's bucket, with the ETag it has there.
type Location struct {
	Bucket, Key string
}

// ListQuery asks for a page of a list.
type ListQuery struct {
	Bucket, Prefix, Delimiter string
	// From is the first key or common prefix that may be listed, inclusive.
	From string
	// Limit is at least 1.
	Limit int
}

// Entry is a key of a list or, with Prefix, a common prefix. Of the Info only
// what lists show is set.
type Entry struct {
	object.Info
	Prefix       bool
	StorageClass string
	// ChecksumAlgorithms are those of a plain object, of which no values are known.
	ChecksumAlgorithms []string
	// OwnerID and OwnerName are as the store gave them for plain objects.
	OwnerID, OwnerName string
}

// Lister lists buckets: guarded objects and plain ones merged in byte order,
// without plain keys that a guard hides and without reserved keys.
type Lister interface {
	// List returns up to Limit entries and whether there are more. Next is then
	// the From of the page that follows.
	List(ctx context.Context, guards *fence.Guards, q ListQuery) (entries []Entry, next string, more bool, err error)
	// ListUploads returns up to limit open uploads of guarded and plain keys
	// that begin with prefix, after (key, id) in order.
	ListUploads(ctx context.Context, guards *fence.Guards, bucket, prefix, afterKey, afterID string, limit int) (uploads []UploadInfo, more bool, err error)
}

// Judge answers cheaply, without the state, whether a token is known to be
// stale; it is asked before a body is read. A nil answer means nothing.
type Judge interface {
	KnownStale(op *Op) *fence.Refusal
}
