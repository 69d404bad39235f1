package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
)

// readTrailers reads what follows the header of the last chunk, up to the end of
// the body, and holds it against what x-amz-trailer announced.
//
// Clients end this part in several ways. AWS documents
//
//	name:value CRLF CRLF                                  unsigned
//	name:value LF CRLF x-amz-trailer-signature:… CRLF CRLF   signed
//
// while SDKs write CRLF after every line, and minio-go name:value LF CRLF CRLF.
// All of them are lines, some empty, of which the last is empty; that, within
// maxTrailer bytes, is what is accepted. The framing of the HTTP message says
// where the body ends, so leniency about empty lines hides nothing.
func (c *chunkReader) readTrailers() error {
	if c.form == PayloadSignedChunks {
		return c.readEnd()
	}
	text, err := io.ReadAll(io.LimitReader(c.src, maxTrailer+1))
	switch {
	case err != nil:
		return cut(err, "inside its trailers")
	case len(text) > maxTrailer:
		return refuse(CodeMalformedTrailer, "What follows the last chunk is longer than %d bytes.", maxTrailer)
	}
	var value, signature string
	var hasValue, hasSignature, empty bool
	rest := string(text)
	for rest != "" {
		line, after, ok := strings.Cut(rest, "\n")
		if !ok {
			return cut(io.ErrUnexpectedEOF, "inside its trailers")
		}
		rest = after
		line = strings.TrimSuffix(line, "\r")
		if empty = line == ""; empty {
			continue
		}
		name, v, ok := strings.Cut(line, ":")
		if !ok {
			return refuse(CodeMalformedTrailer, "The trailer %q is not of the form name:value.", clip(line))
		}
		name, v = strings.ToLower(name), strings.Trim(v, " \t")
		switch {
		case name == trailerSigName && c.signer != nil && !hasSignature:
			signature, hasSignature = v, true
		case len(c.declared) == 1 && name == c.declared[0].Header() && !hasValue && !hasSignature:
			value, hasValue = v, true
		default:
			return refuse(CodeMalformedTrailer, "The trailer %q was not announced in x-amz-trailer, is repeated or out of place.", clip(name))
		}
	}
	switch {
	case !empty:
		return cut(io.ErrUnexpectedEOF, "before the empty line that ends it")
	case len(c.declared) == 1 && !hasValue:
		return refuse(CodeMalformedTrailer, "The trailer %s that x-amz-trailer announces is missing.", c.declared[0].Header())
	case c.signer != nil && !hasSignature:
		return refuse(CodeMalformedTrailer, "The trailer %s is missing.", trailerSigName)
	}
	if c.signer != nil && !c.signer.trailerMatches(c.declared, value, signature) {
		return refuse(CodeSignatureDoesNotMatch, "The signature of the trailers does not match: a trailer or its signature was changed.")
	}
	if hasValue {
		c.trailer, err = parseChecksum(c.declared[0], value)
	}
	return err
}

// trailerMatches checks the last link of the chain of signatures.
func (s *chunkSigner) trailerMatches(declared []Algorithm, value, signature string) bool {
	var signed string
	if len(declared) == 1 {
		signed = declared[0].Header() + ":" + value + "\n"
	}
	sum := sha256.Sum256([]byte(signed))
	s.claimed = signature
	return s.matches([]byte(algorithm + "-TRAILER" + s.middle + s.previous + "\n" + hex.EncodeToString(sum[:])))
}

// readEnd reads the end of a body without trailers: an empty line and nothing else.
func (c *chunkReader) readEnd() error {
	var end [2]byte
	if _, err := io.ReadFull(c.src, end[:]); err != nil {
		return cut(err, "after its last chunk")
	}
	_, err := c.src.ReadByte()
	switch {
	case err == nil || end != [2]byte{'\r', '\n'}:
		return refuse(CodeInvalidRequest, "The chunked body goes on after its last chunk.")
	case err == io.EOF:
		return nil
	}
	return cut(err, "after its last chunk")
}
