package sigv4

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
)

// BodyOptions say what else is computed of a body, and how its headers are meant.
type BodyOptions struct {
	// MD5 computes the MD5 of the decoded body, for ETags.
	MD5 bool
	// Compute lists checksums to compute besides those the client sent.
	Compute []Algorithm
	// ObjectChecksum says that x-amz-checksum-* headers describe an object and
	// not this body: set it for CompleteMultipartUpload. They are left unread.
	ObjectChecksum bool
}

// Body is the decoded body of a signed request. Read returns io.EOF only after
// everything that was promised about the body was found true; any other end is an
// *Error and sticks. Read it to io.EOF before acting on it. Where Length is known,
// the bytes of the last Read are handed out only after all checks passed.
//
// Not safe for concurrent use. Close closes the request's body.
type Body struct {
	src     io.Reader
	closer  io.Closer
	chunks  *chunkReader // nil when the body is not aws-chunked
	length  int64        // decoded bytes promised, -1 unknown
	count   int64        // decoded bytes seen
	running []running
	wants   []want
	client  *Checksum // the client's checksum, its value unknown until a trailer came
	err     error     // sticky; io.EOF once verified
}

// running is one hash over the decoded body; two promises share it.
type running struct {
	algorithm Algorithm
	hash      hash.Hash
	sum       []byte // set once verified
}

// want is one promise about the decoded body.
type want struct {
	algorithm Algorithm
	value     []byte
	code      Code
	header    string
}

// Body prepares the verifying reader for the body of r, the request that s was
// made from. It reads nothing: what the headers alone show to be wrong is
// returned here as an *Error, before a client that waits for 100 Continue sends
// its bytes. Call it once per request.
func (s *Signed) Body(r *http.Request, o BodyOptions) (*Body, error) {
	b := &Body{src: r.Body, closer: r.Body, length: r.ContentLength}
	if r.Body == nil {
		b.src, b.closer, b.length = http.NoBody, http.NoBody, 0
	}
	trailers, err := s.declaredTrailers()
	if err != nil {
		return nil, err
	}
	if s.Payload.Chunked() {
		if b.length, err = s.decodedLength(); err != nil {
			return nil, err
		}
		if r.ContentLength >= 0 && r.ContentLength < b.length {
			return nil, refuse(CodeIncompleteBody, "Content-Length is %d, but x-amz-decoded-content-length promises %d bytes.", r.ContentLength, b.length)
		}
		b.chunks = newChunkReader(b.src, s, b.length, trailers)
		b.src = b.chunks
	}
	if s.Payload == PayloadSHA256 {
		b.expect(want{SHA256, s.sum[:], CodeContentSHA256Mismatch, "x-amz-content-sha256"})
	}
	if err := b.expectMD5(s.header); err != nil {
		return nil, err
	}
	for _, a := range trailers {
		b.hasher(a)
		b.client = &Checksum{Algorithm: a, Trailer: true}
	}
	if !o.ObjectChecksum {
		if err := b.expectChecksum(s); err != nil {
			return nil, err
		}
	}
	if o.MD5 {
		b.hasher(MD5)
	}
	for _, a := range o.Compute {
		if a.Size() == 0 {
			return nil, refuse(CodeNotImplemented, "The checksum %q is not supported.", clip(string(a)))
		}
		b.hasher(a)
	}
	return b, nil
}

// decodedLength reads x-amz-decoded-content-length. S3 demands it of signed
// chunks; with unsigned ones some SDKs stream without knowing it.
func (s *Signed) decodedLength() (int64, error) {
	values := s.hoisted("X-Amz-Decoded-Content-Length")
	switch {
	case len(values) == 0 && s.Payload.chunkSigned():
		return 0, refuse(CodeMissingContentLength, "The header x-amz-decoded-content-length is missing; a body in signed chunks needs it.")
	case len(values) == 0:
		return -1, nil
	}
	n, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil || len(values) > 1 {
		return 0, refuse(CodeInvalidArgument, "x-amz-decoded-content-length is %q; it must be one number of bytes.", clip(strings.Join(values, ",")))
	}
	return int64(n), nil
}

// declaredTrailers reads x-amz-trailer. S3 allows one trailer, a checksum.
func (s *Signed) declaredTrailers() ([]Algorithm, error) {
	var declared []Algorithm
	for _, value := range s.hoisted("X-Amz-Trailer") {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name == "" {
				continue
			}
			a, err := parseAlgorithm(name)
			if err != nil {
				return nil, err
			}
			declared = append(declared, a)
		}
	}
	switch {
	case len(declared) > 1:
		return nil, refuse(CodeInvalidRequest, "x-amz-trailer announces %d trailers; one checksum is accepted.", len(declared))
	case len(declared) > 0 && !s.Payload.trailers():
		return nil, refuse(CodeInvalidRequest, "x-amz-trailer announces a trailer, but a payload of the form %s has none.", s.Payload)
	}
	return declared, nil
}

func (b *Body) expectMD5(h http.Header) error {
	values := h["Content-Md5"]
	if len(values) == 0 {
		return nil
	}
	sum, err := base64.StdEncoding.DecodeString(values[0])
	if err != nil || len(sum) != MD5.Size() || len(values) > 1 {
		return refuse(CodeInvalidDigest, "The Content-MD5 you specified is not valid: it must be 16 bytes in base64.")
	}
	b.expect(want{MD5, sum, CodeBadDigest, "Content-MD5"})
	return nil
}

// expectChecksum reads the checksum header, of which S3 allows one, and holds it
// against x-amz-sdk-checksum-algorithm.
func (b *Body) expectChecksum(s *Signed) error {
	var found []Param
	for name, values := range s.header {
		for _, v := range values {
			found = appendChecksum(found, name, v)
		}
	}
	if s.Kind == KindPresigned {
		for _, p := range s.Params {
			found = appendChecksum(found, p.Name, p.Value)
		}
	}
	if len(found) > 1 || len(found) == 1 && b.client != nil {
		return refuse(CodeInvalidRequest, "Expecting a single x-amz-checksum- header or trailer; the request gives several.")
	}
	if len(found) == 1 {
		a, err := parseAlgorithm(found[0].Name)
		if err != nil {
			return err
		}
		sum, err := parseChecksum(a, found[0].Value)
		if err != nil {
			return err
		}
		b.expect(want{a, sum, CodeBadDigest, a.Header()})
		b.client = &Checksum{Algorithm: a, Value: sum}
	}
	// Only the header is held against the checksum: SDKs leave the parameter in
	// presigned URLs made without a body.
	for _, announced := range s.header["X-Amz-Sdk-Checksum-Algorithm"] {
		switch {
		case b.client != nil && !strings.EqualFold(string(b.client.Algorithm), announced):
			return refuse(CodeInvalidRequest, "x-amz-sdk-checksum-algorithm is %q, but the checksum given is %s.", clip(announced), b.client.Algorithm)
		case b.client == nil && len(s.header["Content-Md5"]) == 0:
			return refuse(CodeInvalidRequest, "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
		}
	}
	return nil
}

// appendChecksum adds a header or parameter that holds a checksum, once.
func appendChecksum(found []Param, name, value string) []Param {
	if len(name) < len(checksumPrefix) || !strings.EqualFold(name[:len(checksumPrefix)], checksumPrefix) {
		return found
	}
	p := Param{strings.ToLower(name), value}
	if slices.Contains(notBodyChecksums, p.Name) || slices.Contains(found, p) {
		return found
	}
	return append(found, p)
}

func (b *Body) expect(w want) {
	b.wants = append(b.wants, w)
	b.hasher(w.algorithm)
}

func (b *Body) hasher(a Algorithm) {
	if !slices.ContainsFunc(b.running, func(r running) bool { return r.algorithm == a }) {
		b.running = append(b.running, running{algorithm: a, hash: a.New()})
	}
}

// Compute adds a checksum to those that are computed, as [BodyOptions.Compute]
// does. Call it before the first Read, with a supported algorithm.
func (b *Body) Compute(a Algorithm) { b.hasher(a) }

// Length returns the bytes of the decoded body, or -1 where the client does not
// say: read to io.EOF, or answer MissingContentLength.
func (b *Body) Length() int64 { return b.length }

// Client returns the checksum the client promised in a header or trailer. Its
// Value is nil, for a trailer, until the body was read to io.EOF.
func (b *Body) Client() (Checksum, bool) {
	if b.client == nil {
		return Checksum{}, false
	}
	return *b.client, true
}

// Verified reports whether the body was read to its end and found good.
func (b *Body) Verified() bool { return b.err == io.EOF } //nolint:errorlint // a refusal that wraps io.EOF is no end

// Sum returns a checksum of the decoded body, nil until it is Verified or when
// it was not computed.
func (b *Body) Sum(a Algorithm) []byte {
	for _, r := range b.running {
		if r.algorithm == a {
			return r.sum
		}
	}
	return nil
}

// MD5 returns Sum(MD5).
func (b *Body) MD5() []byte { return b.Sum(MD5) }

// Count returns the decoded bytes read so far.
func (b *Body) Count() int64 { return b.count }

// Close closes the request's body. Later reads fail unless the body had ended.
func (b *Body) Close() error {
	if b.err == nil {
		b.err = &Error{Code: CodeIncompleteBody, Message: "The body was closed before its end.", Err: os.ErrClosed}
	}
	return b.closer.Close()
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	n, err := b.src.Read(p)
	b.count += int64(n)
	for i := range b.running {
		b.running[i].hash.Write(p[:n])
	}
	if b.length >= 0 && b.count > b.length {
		return 0, b.fail(b.tooLong())
	}
	if err == nil && b.count == b.length {
		err = b.confirmEnd()
	}
	switch {
	case err == nil:
		return n, nil
	case err != io.EOF: //nolint:errorlint // an error that wraps io.EOF is a failure, not the end
		return 0, b.fail(readError(err))
	}
	if err := b.finish(); err != nil {
		return 0, b.fail(err)
	}
	b.err = io.EOF
	return n, io.EOF
}

func (b *Body) fail(err error) error {
	b.err = err
	return err
}

func (b *Body) tooLong() error {
	return refuse(CodeIncompleteBody, "The body is longer than the %d bytes its headers promise.", b.length)
}

// confirmEnd looks past the last promised byte while its bytes are held back:
// chunk framing and trailers come after it.
func (b *Body) confirmEnd() error {
	var probe [1]byte
	const patience = 100 // empty reads, as bufio counts them
	for range patience {
		switch n, err := b.src.Read(probe[:]); {
		case n > 0:
			return b.tooLong()
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// finish holds the whole body against what was promised.
func (b *Body) finish() error {
	if b.length >= 0 && b.count != b.length {
		return refuse(CodeIncompleteBody, "The body ended after %d of the %d bytes its headers promise.", b.count, b.length)
	}
	wants := b.wants
	if b.client != nil && b.client.Trailer {
		b.client.Value = b.chunks.trailer
		wants = append(wants, want{b.client.Algorithm, b.client.Value, CodeBadDigest, b.client.Algorithm.Header()})
	}
	sums := make([][]byte, len(b.running))
	for i := range b.running {
		sums[i] = b.running[i].hash.Sum(nil)
	}
	for _, w := range wants {
		i := slices.IndexFunc(b.running, func(r running) bool { return r.algorithm == w.algorithm })
		if bytes.Equal(sums[i], w.value) {
			continue
		}
		if w.code == CodeContentSHA256Mismatch {
			return refuse(w.code, "The provided x-amz-content-sha256 does not match what was computed of the body.")
		}
		return refuse(w.code, "The %s you specified in %s did not match the calculated checksum.", w.algorithm, w.header)
	}
	for i := range b.running {
		b.running[i].sum = sums[i]
	}
	return nil
}

// readError gives an error of the connection its code. An *Error passes as it is.
func readError(err error) error {
	if CodeOf(err) != "" {
		return err
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Code: CodeIncompleteBody, Message: "The body ended before the number of bytes its headers promise.", Err: err}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &Error{Code: CodeRequestTimeout, Message: "The body did not arrive within the time allowed.", Err: err}
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Error{Code: CodeEntityTooLarge, Message: fmt.Sprintf("The body is larger than the %d bytes accepted here.", tooLarge.Limit), Err: err}
	}
	return &Error{Code: CodeIncompleteBody, Message: "The body could not be read to its end.", Err: err}
}

// ContentEncoding returns the Content-Encoding to store or forward: what the
// client sent without aws-chunked, which belongs to the transfer. It is "" when
// nothing else was there.
func ContentEncoding(h http.Header) string {
	if whole := strings.Join(h["Content-Encoding"], ","); !strings.Contains(strings.ToLower(whole), "aws-chunked") {
		return whole
	}
	var keep []string
	for _, value := range h["Content-Encoding"] {
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.TrimSpace(part); part != "" && !strings.EqualFold(part, "aws-chunked") {
				keep = append(keep, part)
			}
		}
	}
	return strings.Join(keep, ",")
}
