package sigv4

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strconv"
	"strings"
)

const (
	lineBuffer     = 4 << 10
	maxChunkHeader = 128     // 16 digits, ";chunk-signature=", 64 digits, CRLF, with room
	maxChunkSize   = 5 << 30 // the largest single PUT of S3
	maxTrailer     = 8 << 10 // everything after the last chunk's header
	sizeDigits     = 16      // enough for any int64
	signatureTag   = ";chunk-signature="
	trailerSigName = "x-amz-trailer-signature"
)

// chunkReader decodes aws-chunked bodies:
//
//	size;chunk-signature=…CRLF data CRLF … 0;chunk-signature=…CRLF trailers CRLF
//
// without the signatures where the form has none. A chunk's bytes are passed on
// as they come, its signature is checked at its end: a consumer learns of a bad
// chunk at that point, and never sees io.EOF.
// Source: Amazon S3 API Reference, "Transferring payload in multiple chunks".
type chunkReader struct {
	src      *bufio.Reader
	form     PayloadForm
	signer   *chunkSigner // nil when chunks are unsigned
	left     int64        // bytes left in the current chunk
	budget   int64        // decoded bytes still allowed, -1 unlimited
	declared []Algorithm  // trailers announced
	trailer  []byte       // decoded value of the one trailer
	err      error
}

// chunkSigner follows the chain of signatures that begins at the request's own.
type chunkSigner struct {
	mac      hash.Hash
	body     hash.Hash
	middle   string // "\n" time "\n" scope "\n"
	previous string
	claimed  string // what the current chunk's header says
	buf      []byte
}

func newChunkReader(src io.Reader, s *Signed, length int64, declared []Algorithm) *chunkReader {
	c := &chunkReader{src: bufio.NewReaderSize(src, lineBuffer), form: s.Payload, budget: length, declared: declared}
	if s.Payload.chunkSigned() {
		c.signer = &chunkSigner{
			mac:      hmac.New(sha256.New, s.key[:]),
			body:     sha256.New(),
			middle:   "\n" + s.claim.stamp + "\n" + s.claim.scope() + "\n",
			previous: s.claim.signature,
		}
	}
	return c
}

// Read implements io.Reader. Errors stick.
func (c *chunkReader) Read(p []byte) (int, error) {
	if c.err != nil || len(p) == 0 {
		return 0, c.err
	}
	n, err := c.read(p)
	c.err = err
	return n, err
}

func (c *chunkReader) read(p []byte) (int, error) {
	if c.left == 0 {
		if err := c.nextChunk(); err != nil {
			return 0, err
		}
	}
	n, err := c.src.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if c.budget >= 0 {
		c.budget -= int64(n)
	}
	if c.signer != nil {
		c.signer.body.Write(p[:n])
	}
	switch {
	case err != nil:
		return 0, cut(err, "inside a chunk")
	case c.left > 0:
		return n, nil
	}
	var end [2]byte
	if _, err := io.ReadFull(c.src, end[:]); err != nil {
		return 0, cut(err, "after a chunk")
	}
	if end != [2]byte{'\r', '\n'} {
		return 0, refuse(CodeInvalidRequest, "The chunked body is malformed: a chunk is not followed by CRLF where its size says it ends.")
	}
	if err := c.checkChunk(); err != nil {
		return 0, err
	}
	return n, nil
}

// nextChunk reads a chunk header; behind the last one everything up to the end of
// the body, and returns io.EOF.
func (c *chunkReader) nextChunk() error {
	line, err := c.src.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || len(line) > maxChunkHeader:
		return refuse(CodeInvalidRequest, "The chunked body is malformed: a chunk header is longer than %d bytes.", maxChunkHeader)
	case err != nil:
		return cut(err, "before the last chunk")
	}
	header, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok {
		return refuse(CodeInvalidRequest, "The chunked body is malformed: a chunk header does not end in CRLF.")
	}
	digits, signature, signed := strings.Cut(header, signatureTag)
	if signed != (c.signer != nil) {
		return refuse(CodeInvalidRequest, "The chunked body is malformed: in a payload of the form %s the chunk header %q is not right.", c.form, clip(header))
	}
	if len(digits) == 0 || len(digits) > sizeDigits || strings.ContainsFunc(digits, func(r rune) bool { return r > 'f' || unhex(byte(r)) < 0 }) {
		return refuse(CodeInvalidRequest, "The chunked body is malformed: %q is no chunk size in hexadecimal.", clip(digits))
	}
	size, err := strconv.ParseUint(digits, 16, 64)
	if err != nil || size > maxChunkSize {
		return refuse(CodeInvalidRequest, "A chunk announces 0x%s bytes; at most %d are accepted.", digits, int64(maxChunkSize))
	}
	if c.budget >= 0 && int64(size) > c.budget {
		return refuse(CodeIncompleteBody, "The chunks hold more bytes than x-amz-decoded-content-length promises.")
	}
	if c.signer != nil {
		c.signer.claimed = signature
	}
	if c.left = int64(size); size > 0 {
		return nil
	}
	if c.budget > 0 {
		return refuse(CodeIncompleteBody, "The chunks end %d bytes before what x-amz-decoded-content-length promises.", c.budget)
	}
	if err := c.checkChunk(); err != nil {
		return err
	}
	if err := c.readTrailers(); err != nil {
		return err
	}
	return io.EOF
}

// checkChunk compares the signature of the chunk whose bytes have all passed.
func (c *chunkReader) checkChunk() error {
	s := c.signer
	if s == nil {
		return nil
	}
	b := s.buf[:0]
	b = append(b, algorithm+"-PAYLOAD"...)
	b = append(b, s.middle...)
	b = append(b, s.previous...)
	b = append(b, "\n"+emptySHA256+"\n"...)
	var raw [sha256.Size]byte
	b = hex.AppendEncode(b, s.body.Sum(raw[:0]))
	s.body.Reset()
	s.buf = b
	if !s.matches(b) {
		return refuse(CodeSignatureDoesNotMatch, "A chunk's signature does not match: its bytes, its place or its signature were changed.")
	}
	return nil
}

// matches compares the signature of a string to sign with the claimed one, which
// becomes the previous one.
func (s *chunkSigner) matches(toSign []byte) bool {
	s.mac.Reset()
	s.mac.Write(toSign)
	var raw [sha256.Size]byte
	var text [2 * sha256.Size]byte
	hex.Encode(text[:], s.mac.Sum(raw[:0]))
	if !hmac.Equal(text[:], []byte(s.claimed)) {
		return false
	}
	s.previous = s.claimed
	return true
}

// cut names the place where a body ended too early; other errors pass.
func cut(err error, where string) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // what wraps them says more than this would
		return &Error{Code: CodeIncompleteBody, Message: "The chunked body was cut off " + where + ".", Err: io.ErrUnexpectedEOF}
	}
	return err
}
