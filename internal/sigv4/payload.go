package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// PayloadForm says how the body travels and what of it the signature covers.
// It is decided by x-amz-content-sha256 alone: some clients leave aws-chunked
// out of Content-Encoding.
type PayloadForm int

// The payload forms of S3.
// Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header".
const (
	// PayloadUnsigned is UNSIGNED-PAYLOAD: plain bytes that no signature covers.
	PayloadUnsigned PayloadForm = iota
	// PayloadSHA256 is a literal SHA-256 of plain bytes.
	PayloadSHA256
	// PayloadSignedChunks is STREAMING-AWS4-HMAC-SHA256-PAYLOAD.
	PayloadSignedChunks
	// PayloadSignedChunksTrailer is STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER.
	PayloadSignedChunksTrailer
	// PayloadUnsignedChunksTrailer is STREAMING-UNSIGNED-PAYLOAD-TRAILER.
	PayloadUnsignedChunksTrailer
)

const (
	unsignedPayload       = "UNSIGNED-PAYLOAD"
	signedChunks          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	signedChunksTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	unsignedChunksTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// String returns the value of x-amz-content-sha256, or "sha256" for a literal hash.
func (p PayloadForm) String() string {
	switch p {
	case PayloadUnsigned:
		return unsignedPayload
	case PayloadSHA256:
		return "sha256"
	case PayloadSignedChunks:
		return signedChunks
	case PayloadSignedChunksTrailer:
		return signedChunksTrailer
	case PayloadUnsignedChunksTrailer:
		return unsignedChunksTrailer
	}
	return "unknown"
}

// Chunked reports whether the body is aws-chunked.
func (p PayloadForm) Chunked() bool { return p >= PayloadSignedChunks }

func (p PayloadForm) chunkSigned() bool {
	return p == PayloadSignedChunks || p == PayloadSignedChunksTrailer
}

func (p PayloadForm) trailers() bool {
	return p == PayloadSignedChunksTrailer || p == PayloadUnsignedChunksTrailer
}

// parsePayload reads a value of x-amz-content-sha256.
func parsePayload(value string) (form PayloadForm, sum [sha256.Size]byte, err error) {
	switch value {
	case unsignedPayload:
		return PayloadUnsigned, sum, nil
	case signedChunks:
		return PayloadSignedChunks, sum, nil
	case signedChunksTrailer:
		return PayloadSignedChunksTrailer, sum, nil
	case unsignedChunksTrailer:
		return PayloadUnsignedChunksTrailer, sum, nil
	}
	if strings.HasPrefix(value, "STREAMING-AWS4-ECDSA-") {
		return 0, sum, refuse(CodeNotImplemented, "Payloads signed with ECDSA (SigV4A) are not supported. Use AWS4-HMAC-SHA256 with a single region.")
	}
	if len(value) == 2*sha256.Size {
		if _, err := hex.Decode(sum[:], []byte(value)); err == nil {
			return PayloadSHA256, sum, nil
		}
	}
	return 0, sum, refuse(CodeInvalidArgument, "x-amz-content-sha256 is %q; it must be %s, %s, %s, %s or 64 hexadecimal digits.",
		clip(value), unsignedPayload, signedChunks, signedChunksTrailer, unsignedChunksTrailer)
}
