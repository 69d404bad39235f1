// Package checksum knows the checksums that S3 keeps with an object, and how that
// of an object made of parts follows from those of the parts. Values are base64,
// as S3 writes them.
// Source: Amazon S3 User Guide, "Checking object integrity for data uploads".
package checksum

import (
	"encoding/base64"
	"hash"
	"slices"
	"strconv"
	"strings"

	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
)

// The two ways in which an object of several parts has a checksum: FullObject is
// that of all its bytes, Composite that of its parts' checksums, with "-" and the
// number of parts behind it.
const (
	FullObject = "FULL_OBJECT"
	Composite  = "COMPOSITE"
)

// kept are the algorithms that objects keep, by their upper-case names. The others
// that clients may send are verified and forgotten.
var kept = []sigv4.Algorithm{sigv4.CRC32, sigv4.CRC32C, sigv4.CRC64NVME, sigv4.SHA1, sigv4.SHA256}

// Kept reports whether objects keep checksums of an algorithm.
func Kept(algorithm string) bool { return slices.Contains(kept, sigv4.Algorithm(algorithm)) }

// KeptNames are the algorithms that objects keep, for people.
func KeptNames() string {
	names := make([]string, len(kept))
	for i, a := range kept {
		names[i] = string(a)
	}
	return strings.Join(names, ", ")
}

// New returns a hash of a kept algorithm, nil for others.
func New(algorithm string) hash.Hash {
	if !Kept(algorithm) {
		return nil
	}
	return sigv4.Algorithm(algorithm).New()
}

// String writes what a hash has come to.
func String(h hash.Hash) string { return base64.StdEncoding.EncodeToString(h.Sum(nil)) }

// DefaultType is the type of an upload that names an algorithm alone.
func DefaultType(algorithm string) string {
	if algorithm == string(sigv4.CRC64NVME) {
		return FullObject
	}
	return Composite
}

// Possible reports whether an upload can have an algorithm with a type: digests of
// parts cannot be joined to one of the whole, and S3 gives CRC64NVME to whole
// objects only.
func Possible(algorithm, kind string) bool {
	switch sigv4.Algorithm(algorithm) {
	case sigv4.CRC32, sigv4.CRC32C:
		return kind == FullObject || kind == Composite
	case sigv4.CRC64NVME:
		return kind == FullObject
	case sigv4.SHA1, sigv4.SHA256:
		return kind == Composite
	}
	return false
}

// Of is the checksum of the object that parts make, in order. ok is false where
// one of them has none, or one that cannot be read, or where no such checksum is
// possible.
func Of(algorithm, kind string, parts []object.Part) (sum string, ok bool) {
	if len(parts) == 0 || !Possible(algorithm, kind) {
		return "", false
	}
	sums := make([][]byte, len(parts))
	for i, p := range parts {
		raw, err := base64.StdEncoding.DecodeString(p.Checksum)
		if err != nil || len(raw) != sigv4.Algorithm(algorithm).Size() {
			return "", false
		}
		sums[i] = raw
	}
	if kind == FullObject {
		return base64.StdEncoding.EncodeToString(join(sigv4.Algorithm(algorithm), sums, parts)), true
	}
	h := New(algorithm)
	for _, raw := range sums {
		h.Write(raw)
	}
	return String(h) + "-" + strconv.Itoa(len(parts)), true
}

// Same compares what a client says of an object of so many parts with its
// checksum: clients write composite ones with the number of parts and without.
func Same(sum, said string, parts int) bool {
	if said == sum {
		return true
	}
	value, count, composite := strings.Cut(sum, "-")
	return composite && said == value && count == strconv.Itoa(parts)
}
