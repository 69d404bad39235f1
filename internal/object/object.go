package object

import (
	"cmp"
	"errors"
	"maps"
	"time"
)

// Ref names an object as its clients do. Key is the exact bytes of the key.
type Ref struct {
	Bucket string
	Key    string
}

// String is the object as people write it, s3://bucket/key.
func (r Ref) String() string { return "s3://" + r.Bucket + "/" + r.Key }

// Attributes are what an object carries besides bytes, as its writer gave it.
type Attributes struct {
	// Headers are the system headers that a GET gives back: Content-Type,
	// Cache-Control, Content-Disposition, Content-Encoding, Content-Language,
	// Expires, X-Amz-Website-Redirect-Location. Names are canonical.
	Headers map[string]string `json:"h,omitempty"`
	// Meta is the user metadata; names are lower case, without X-Amz-Meta-.
	Meta map[string]string `json:"m,omitempty"`
	// Checksums are the verified x-amz-checksum values by upper-case algorithm
	// (CRC32, CRC32C, CRC64NVME, SHA1, SHA256), in base64.
	Checksums map[string]string `json:"c,omitempty"`
	// ChecksumType is FULL_OBJECT or COMPOSITE where Checksums has any.
	ChecksumType string `json:"t,omitempty"`
	// Tags is the tag set in the order given.
	Tags []Tag `json:"g,omitempty"`
	// Parts is the number of parts of a multipart object; zero for others.
	Parts int `json:"p,omitempty"`
	// Algorithm is the checksum algorithm that an upload was created with, and
	// ChecksumType then how its object's checksum is made; empty for objects.
	Algorithm string `json:"a,omitempty"`
	// Class is the storage class that the client asked for, as it wrote it; empty for
	// STANDARD.
	Class string `json:"s,omitempty"`
}

// StorageClass is the storage class as documents have it. Headers leave STANDARD out,
// as S3 does.
func (a *Attributes) StorageClass() string { return cmp.Or(a.Class, StandardClass) }

// StandardClass is the storage class of objects whose client named none.
const StandardClass = "STANDARD"

// WebsiteRedirect is the header that says where a website's reader is sent.
const WebsiteRedirect = "X-Amz-Website-Redirect-Location"

// CopiedHeaders are the headers of a copy whose source has these: all but the
// redirect, which the copy's own request gives or does not. The source's map stays as
// it is. Source: Amazon S3 API Reference, CopyObject, x-amz-website-redirect-location.
func CopiedHeaders(source map[string]string, redirect string) map[string]string {
	h := make(map[string]string, len(source)+1)
	maps.Copy(h, source)
	delete(h, WebsiteRedirect)
	if redirect != "" {
		h[WebsiteRedirect] = redirect
	}
	return h
}

// Part is one part of a multipart object.
type Part struct {
	// Number is what the client called it, from 1 to 10,000.
	Number int
	// Start is where it begins in the object, Size how long it is, in bytes.
	Start, Size int64
	// Checksum is base64, in the algorithm of the object's own checksum; empty
	// where the object has none.
	Checksum string
}

// Tag is one object tag
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html).
type Tag struct {
	Key   string `json:"k"`
	Value string `json:"v"`
}

// Info describes an object to a client.
type Info struct {
	Ref
	Size int64
	// ETag has no quotes.
	ETag string
	// Opaque says that the ETag is no digest of the bytes, whatever it looks like:
	// their store encrypts them. Known only where the bytes are read, never kept.
	Opaque bool
	// Modified is when the write was committed.
	Modified time.Time
	Attributes
}

// Errors of objects. Each is an answer that a client of S3 knows.
var (
	// ErrNoSuchKey: there is no such object.
	ErrNoSuchKey = errors.New("the specified key does not exist")
	// ErrPreconditionFailed: a condition of the request is false; nothing was
	// done. The caller lost a race and may read again.
	ErrPreconditionFailed = errors.New("at least one of the preconditions you specified did not hold")
	// ErrNotModified: a conditional read found nothing newer.
	ErrNotModified = errors.New("not modified")
	// ErrConflict: the object is being changed by someone else at this moment;
	// nothing was done, and the request may be sent again.
	ErrConflict = errors.New("a conflicting operation is in progress against this resource; please try again")
	// ErrNoSuchUpload: the upload does not exist, was aborted or completed.
	ErrNoSuchUpload = errors.New("the specified multipart upload does not exist; the upload id may be invalid, or the upload may have been aborted or completed")
	// ErrInvalidPart: a part is missing or has another ETag.
	ErrInvalidPart = errors.New("one or more of the specified parts could not be found, or the specified entity tag does not match the part's")
	// ErrInvalidPartOrder: the parts are not in ascending order.
	ErrInvalidPartOrder = errors.New("the list of parts was not in ascending order; parts must be ordered by part number")
	// ErrPartTooSmall: a part other than the last has less than 5 MiB.
	ErrPartTooSmall = errors.New("your proposed upload is smaller than the minimum allowed size: every part but the last has at least 5 MiB")
	// ErrInvalidPartNumber: the object has no such part.
	ErrInvalidPartNumber = errors.New("the requested partnumber is not satisfiable")
	// ErrBadDigest: the bytes are not those that a checksum was given of.
	ErrBadDigest = errors.New("the checksum you specified did not match the calculated checksum")
	// ErrChecksumType: a checksum is missing, or of another kind than the upload was
	// created with.
	ErrChecksumType = errors.New("checksum Type mismatch occurred")
	// ErrObjectSize: the whole has not the size that was given.
	ErrObjectSize = errors.New("the provided 'x-amz-mp-object-size' header does not match what was computed")
	// ErrInvalidRange: the range lies outside the object.
	ErrInvalidRange = errors.New("the requested range is not satisfiable")
	// ErrSourceRange: the range of a part copy lies outside its source.
	ErrSourceRange = errors.New("the range specified is not valid for the source object's size")
)
