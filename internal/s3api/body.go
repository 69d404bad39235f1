package s3api

import (
	"bytes"
	"crypto/md5" //nolint:gosec // Content-MD5 and ETags are MD5
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/upstream"
)

const (
	// maxInMemory is the largest body that is read, and thereby verified, whole
	// before it is sent on: the store then gets it in one write with its headers.
	maxInMemory = 64 << 10
	// copyBuffer is the size of the pooled buffers that stream answers.
	copyBuffer = 64 << 10
	// maxPut is the largest body of one request into a scope: S3's bound on a PUT
	// and on a part. Source: "Amazon S3 multipart upload limits",
	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html.
	maxPut = 5 << 30
)

// openBody prepares the verifying reader; it reads nothing.
func (rq *request) openBody(o sigv4.BodyOptions) (*sigv4.Body, error) {
	b, err := rq.signed.Body(rq.r, o)
	if err != nil {
		return nil, err
	}
	rq.body = b
	return b, nil
}

// openContent is openBody for what a scope will keep.
func (rq *request) openContent() (*sigv4.Body, error) {
	b, err := rq.openBody(sigv4.BodyOptions{})
	if err == nil && b.Length() > maxPut {
		return nil, &apiError{status: http.StatusBadRequest, code: "EntityTooLarge",
			message: "Your proposed upload exceeds the maximum allowed size; send it in parts.",
			fields:  []string{"ProposedSize", strconv.FormatInt(b.Length(), 10), "MaxSizeAllowed", strconv.FormatInt(maxPut, 10)}}
	}
	return b, err
}

// meter counts what is read of a request's body.
type meter struct {
	io.Reader
	rq *request
}

func (m meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.rq.in.Add(int64(n))
	return n, err
}

// readDocument reads and verifies an XML body of at most limit bytes.
func (rq *request) readDocument(limit int64, o sigv4.BodyOptions) ([]byte, error) {
	b, err := rq.openBody(o)
	if err != nil {
		return nil, err
	}
	tooLarge := fail(http.StatusBadRequest, "MaxMessageLengthExceeded", "Your request was too big: %s takes at most %d bytes of XML.", rq.op.name, limit)
	if b.Length() > limit {
		return nil, tooLarge
	}
	var buf bytes.Buffer
	if n := b.Length(); n > 0 {
		buf.Grow(int(n) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(meter{b, rq}, limit+1)); err != nil {
		return nil, err
	}
	if int64(buf.Len()) > limit {
		return nil, tooLarge
	}
	return buf.Bytes(), nil
}

// decode reads a document into out, whose XMLName names the root.
func decode(doc []byte, out any) error {
	if err := xml.Unmarshal(doc, out); err != nil {
		return &apiError{status: http.StatusBadRequest, code: "MalformedXML", cause: err,
			message: "The XML you provided was not well-formed or did not validate against our published schema."}
	}
	return nil
}

// hasDigest reports whether the body is bound by more than its framing, which
// S3 asks for where a few flipped bits would delete something else.
func (rq *request) hasDigest() bool {
	if rq.signed.Payload != sigv4.PayloadUnsigned && rq.signed.Payload != sigv4.PayloadUnsignedChunksTrailer {
		return true
	}
	if len(rq.r.Header["Content-Md5"]) > 0 {
		return true
	}
	_, ok := rq.body.Client()
	return ok
}

// clientSums are the checksums that the client gave in headers, known before
// the body is read, by algorithm.
func clientSums(b *sigv4.Body) map[string]string {
	c, ok := b.Client()
	if !ok || c.Trailer || !kept(c.Algorithm) {
		return nil
	}
	return map[string]string{string(c.Algorithm): c.String()}
}

// trailerSums, called after the body's end, are those that came in a trailer;
// nil where none was announced.
func trailerSums(b *sigv4.Body) func() map[string]string {
	c, ok := b.Client()
	if !ok || !c.Trailer || !kept(c.Algorithm) {
		return nil
	}
	return func() map[string]string {
		c, _ := b.Client()
		return map[string]string{string(c.Algorithm): c.String()}
	}
}

// kept are the checksums that objects keep; the others are verified only.
func kept(a sigv4.Algorithm) bool {
	switch a {
	case sigv4.CRC32, sigv4.CRC32C, sigv4.CRC64NVME, sigv4.SHA1, sigv4.SHA256:
		return true
	}
	return false
}

// outgoing is a body as the store gets it. What is held here goes with an MD5 of
// ours, so that the store refuses it if it is changed on the way. What is streamed
// goes with the digest that its client sent in a header; where there is none, the
// store's ETag is compared afterwards, see [request.asSent].
type outgoing struct {
	io.Reader
	length int64
	file   *os.File
	// room is what the file has of the spool.
	room *room
}

func (o *outgoing) Close() {
	if o.file != nil {
		discard(o.file)
		o.room.free()
	}
}

// roomStep is how much of the spool a body of unknown length takes at a time.
const roomStep = 64 << 10

// room is what one body has of the spool that all requests share.
type room struct {
	s     *Server
	taken int64
}

// upTo makes sure that there is room for n bytes in all.
func (m *room) upTo(n int64) error {
	if n <= m.taken {
		return nil
	}
	more := n - m.taken
	if m.s.spooled.Add(more) > m.s.limits.SpoolTotal {
		m.s.spooled.Add(-more)
		return unavailable(codeSlowDown, "There is no room left at the moment for bodies that must be kept until their end is known. Send it again, or send its length and its checksum first.", nil)
	}
	m.taken = n
	return nil
}

func (m *room) free() {
	m.s.spooled.Add(-m.taken)
	m.taken = 0
}

// roomy writes to a file within its room.
type roomy struct {
	file    io.Writer
	room    *room
	written int64
}

func (w *roomy) Write(p []byte) (int, error) {
	if end := w.written + int64(len(p)); end > w.room.taken {
		if err := w.room.upTo((end + roomStep - 1) / roomStep * roomStep); err != nil {
			return 0, err
		}
	}
	n, err := w.file.Write(p)
	w.written += int64(n)
	return n, err
}

// send prepares the body for the store, which wants to know its length, and
// its checksum before its bytes. Small bodies are read into memory and those of
// which something comes last into a file; all others are streamed.
func (rq *request) send() (*outgoing, error) {
	b, err := rq.openBody(sigv4.BodyOptions{})
	if err != nil {
		return nil, err
	}
	h := rq.r.Header
	c, has := b.Client()
	late := has && c.Trailer
	length := b.Length()
	if length < 0 && rq.r.ContentLength >= 0 {
		// Chunks without their sum, but framed: no longer than the frame.
		if rq.r.ContentLength > rq.s.limits.Spool {
			return nil, tooLong()
		}
	}
	delete(h, "X-Amz-Trailer")
	held := length < 0 || length <= maxInMemory || late && length <= rq.s.limits.Spool
	if digested := len(h["Content-Md5"]) > 0 || clientSums(b) != nil; held || !digested {
		b.Compute(sigv4.MD5)
	}
	switch {
	case length >= 0 && length <= maxInMemory:
		buf := make([]byte, length)
		if _, err := io.ReadFull(meter{b, rq}, buf); err != nil && (length > 0 || !errors.Is(err, io.EOF)) {
			return nil, err
		}
		// The last Read may end without io.EOF; only that means "verified".
		if err := atEnd(b); err != nil {
			return nil, err
		}
		rq.lateSum(b, late)
		rq.bindBytes(b, length)
		return &outgoing{Reader: bytes.NewReader(buf), length: length}, nil
	case length < 0, late && length <= rq.s.limits.Spool:
		return rq.spool(b, late)
	case late:
		// Too large to wait for its checksum. It is verified here and not stored
		// there.
		delete(h, "X-Amz-Sdk-Checksum-Algorithm")
	}
	return &outgoing{Reader: meter{b, rq}, length: length}, nil
}

func tooLong() error {
	return fail(http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header (or x-amz-decoded-content-length): a body of unknown length is too long to be kept here.")
}

// lateSum puts a checksum that came in a trailer into the header.
func (rq *request) lateSum(b *sigv4.Body, late bool) {
	if !late {
		return
	}
	if c, ok := b.Client(); ok {
		rq.r.Header[http.CanonicalHeaderKey(c.Algorithm.Header())] = []string{c.String()}
	}
}

// bindBytes adds the MD5 of a verified body, where it was computed.
func (rq *request) bindBytes(b *sigv4.Body, length int64) {
	if sum := b.MD5(); len(sum) == md5.Size && length > 0 {
		rq.r.Header["Content-Md5"] = documentMD5([md5.Size]byte(sum))
	}
}

// asSent compares what the store says it has with the body as it was verified
// here. It is too late to undo what the store did, but not to be honest.
func (rq *request) asSent(resp *upstream.Response) error {
	if rq.op.body != content || rq.body == nil {
		return nil
	}
	want, got := rq.body.MD5(), digestOf(strings.Trim(first(resp.Header["Etag"]), `"`))
	if want == nil || got == nil || bytes.Equal(got, want) || upstream.Encrypted(resp.Header) {
		return nil
	}
	return &apiError{status: http.StatusGatewayTimeout, code: codeUnknown,
		message: fmt.Sprintf("The object store has other bytes than were sent to it, in the place of the object: its ETag is %x, not %x. Send them again.", got, want),
		cause:   fmt.Errorf("%w: it stored bytes with the digest %x instead of %x", guarded.ErrStore, got, want)}
}

// digestOf is the MD5 that an ETag is, nil where it cannot be one.
func digestOf(etag string) []byte {
	sum, err := hex.DecodeString(etag)
	if err != nil || len(sum) != md5.Size {
		return nil
	}
	return sum
}

// discard ends a spool file. Where the system let it be removed while open, it
// has no name any more; elsewhere it loses it here.
func discard(f *os.File) {
	_ = f.Close()
	_ = os.Remove(f.Name())
}

// noSpool is the answer to a body or a copy that must be kept on this machine, and for
// which there is no disk.
func noSpool(cause error) error {
	return unavailable(codeUnavailable, "The proxy has no room left in its spool_dir for a body that it must keep. Free space there, or send the body's length and checksum in headers.", cause)
}

// spool keeps a body in a file without a name until its end is known.
func (rq *request) spool(b *sigv4.Body, late bool) (*outgoing, error) {
	share := &room{s: rq.s}
	if length := b.Length(); length > 0 {
		// Before the client is told to send it.
		if err := share.upTo(length); err != nil {
			return nil, err
		}
	}
	f, err := os.CreateTemp(rq.s.limits.SpoolDir, "s3fence-body-*")
	if err != nil {
		share.free()
		return nil, noSpool(err)
	}
	_ = os.Remove(f.Name())
	n, err := io.Copy(&roomy{file: f, room: share}, io.LimitReader(meter{b, rq}, rq.s.limits.Spool+1))
	if err == nil && n > rq.s.limits.Spool {
		err = tooLong()
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		discard(f)
		share.free()
		if pe := (*os.PathError)(nil); errors.As(err, &pe) {
			err = noSpool(err)
		}
		return nil, err
	}
	rq.lateSum(b, late)
	rq.bindBytes(b, n)
	return &outgoing{Reader: f, length: n, file: f, room: share}, nil
}

// atEnd demands that a verified body ends here.
func atEnd(b *sigv4.Body) error {
	if b.Verified() {
		return nil
	}
	var one [1]byte
	for range 100 {
		switch n, err := b.Read(one[:]); {
		case n > 0:
			return fail(http.StatusBadRequest, "IncompleteBody", "The body is longer than its headers promise.")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// documentMD5 is the Content-MD5 of a document as we send it.
func documentMD5(sum [16]byte) []string {
	return []string{base64.StdEncoding.EncodeToString(sum[:])}
}
