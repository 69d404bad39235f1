package sigv4

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/minio/crc64nvme"
	"github.com/zeebo/xxh3"
)

// Algorithm names a checksum the way S3 does in x-amz-checksum-algorithm.
// Source: Amazon S3 User Guide, "Checking object integrity".
type Algorithm string

// The checksum algorithms that are verified. Any other is refused as NotImplemented:
// an unverified checksum must not look verified.
const (
	CRC32     Algorithm = "CRC32"
	CRC32C    Algorithm = "CRC32C"
	CRC64NVME Algorithm = "CRC64NVME"
	SHA1      Algorithm = "SHA1"
	SHA256    Algorithm = "SHA256"
	SHA512    Algorithm = "SHA512"
	MD5       Algorithm = "MD5"
	XXHASH64  Algorithm = "XXHASH64"
	XXHASH3   Algorithm = "XXHASH3"
	XXHASH128 Algorithm = "XXHASH128"
)

const checksumPrefix = "x-amz-checksum-"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// New returns a hash whose Sum is the checksum's bytes, big-endian for CRCs, or
// nil for an algorithm that is not supported.
func (a Algorithm) New() hash.Hash {
	switch a {
	case CRC32:
		return crc32.NewIEEE()
	case CRC32C:
		return crc32.New(castagnoli)
	case CRC64NVME:
		return crc64nvme.New()
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	case MD5:
		return md5.New()
	case XXHASH64:
		return xxhash.New()
	case XXHASH3:
		return xxh3.New()
	case XXHASH128:
		return xxh3.New128()
	}
	return nil
}

// Size returns the length of the checksum in bytes, 0 for an algorithm that is
// not supported.
func (a Algorithm) Size() int {
	switch a {
	case CRC32, CRC32C:
		return crc32.Size
	case CRC64NVME:
		return crc64nvme.Size
	case SHA1:
		return sha1.Size
	case SHA256:
		return sha256.Size
	case SHA512:
		return sha512.Size
	case MD5:
		return md5.Size
	case XXHASH64, XXHASH3:
		return 8
	case XXHASH128:
		return 16
	}
	return 0
}

// Header returns the lower-case name of the header that carries the checksum.
func (a Algorithm) Header() string { return checksumPrefix + strings.ToLower(string(a)) }

// Checksum is a checksum of a decoded body.
type Checksum struct {
	Algorithm Algorithm
	Value     []byte
	Trailer   bool // it came in a trailer
}

// String returns the value in base64, as S3 writes it.
func (c Checksum) String() string { return base64.StdEncoding.EncodeToString(c.Value) }

// notBodyChecksums begin like checksums but hold none.
var notBodyChecksums = []string{"x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"}

// parseAlgorithm reads the lower-case name of a checksum header or trailer.
func parseAlgorithm(header string) (Algorithm, error) {
	a := Algorithm(strings.ToUpper(strings.TrimPrefix(header, checksumPrefix)))
	if !strings.HasPrefix(header, checksumPrefix) || a.Size() == 0 {
		return "", refuse(CodeNotImplemented, "The checksum %q is not supported. Use one of crc32, crc32c, crc64nvme, sha1, sha256, sha512, md5, xxhash64, xxhash3, xxhash128.", clip(header))
	}
	return a, nil
}

// parseChecksum decodes the value of a checksum header or trailer.
func parseChecksum(a Algorithm, value string) ([]byte, error) {
	sum, err := base64.StdEncoding.DecodeString(value)
	if err != nil || len(sum) != a.Size() {
		return nil, refuse(CodeInvalidRequest, "Value for %s is invalid: %q is not %d bytes in base64.", a.Header(), clip(value), a.Size())
	}
	return sum, nil
}
