package objectstore

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxChunkLine bounds one chunk header or trailer line.
const maxChunkLine = 4 << 10

const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// signer has what the signatures of chunks are made of: each covers the one
// before it, the first the signature of the request.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
type signer struct {
	key      []byte
	date     string // ISO 8601 basic, as signed
	scope    string // date/region/s3/aws4_request
	previous string
}

// newSigner reads the signature values of a request that has been verified.
// It returns nil when the request is signed in its query.
func newSigner(r *http.Request, secret string) *signer {
	auth, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256")
	if !ok {
		return nil
	}
	fields := map[string]string{}
	for f := range strings.SplitSeq(auth, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[k] = v
	}
	credential := strings.Split(fields["Credential"], "/")
	if len(credential) < 5 {
		return nil
	}
	scope := credential[len(credential)-4:]
	key := []byte("AWS4" + secret)
	for _, s := range scope {
		key = mac(key, s)
	}
	return &signer{key: key, date: r.Header.Get("X-Amz-Date"), scope: strings.Join(scope, "/"), previous: fields["Signature"]}
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func (s *signer) verify(kind string, digests []string, signature string) error {
	text := strings.Join(append([]string{"AWS4-HMAC-SHA256-" + kind, s.date, s.scope, s.previous}, digests...), "\n")
	want := hex.EncodeToString(mac(s.key, text))
	if !hmac.Equal([]byte(want), []byte(signature)) {
		return fail("SignatureDoesNotMatch", "The signature of a chunk of the body does not match")
	}
	s.previous = signature
	return nil
}

// chunkReader takes the aws-chunked coding off a body, verifying the signature
// of each chunk where chunks are signed. It returns io.EOF only after the last
// chunk and the trailer.
type chunkReader struct {
	src      *bufio.Reader
	sign     *signer // nil for unsigned chunks
	trailing bool
	trailers map[string]string

	left      int64 // of the current chunk
	started   bool
	signature string
	sum       hash.Hash
	err       error
}

func newChunkReader(r *http.Request, kind string, sign *signer) (*chunkReader, error) {
	c := &chunkReader{src: bufio.NewReaderSize(r.Body, maxChunkLine), trailers: map[string]string{}}
	switch kind {
	case "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
		c.trailing = true
		return c, nil
	case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD":
	case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER":
		c.trailing = true
	default:
		return nil, fail("NotImplemented", "x-amz-content-sha256: %s is not supported", kind)
	}
	if sign == nil {
		return nil, fail("InvalidRequest", "signed chunks need a signature in the Authorization header")
	}
	c.sign, c.sum = sign, sha256.New()
	return c, nil
}

func (c *chunkReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.left == 0 {
		if c.err = c.nextChunk(); c.err != nil {
			return 0, c.err
		}
	}
	n, err := c.src.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if c.sum != nil {
		c.sum.Write(p[:n])
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	c.err = err
	return n, err
}

// nextChunk ends the current chunk and reads the header of the next. After the
// last one it reads the trailer and returns io.EOF.
func (c *chunkReader) nextChunk() error {
	if c.started {
		if line, err := c.line(); err != nil {
			return err
		} else if line != "" {
			return malformedChunk("a chunk is longer than it says")
		}
		if err := c.verifyChunk(); err != nil {
			return err
		}
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	size, extension, _ := strings.Cut(line, ";")
	c.left, err = strconv.ParseInt(size, 16, 64)
	if err != nil || c.left < 0 || size == "" {
		return malformedChunk(fmt.Sprintf("%.40q is not the size of a chunk", size))
	}
	c.started = true
	if c.sign != nil {
		var ok bool
		if c.signature, ok = strings.CutPrefix(extension, "chunk-signature="); !ok {
			return malformedChunk("a chunk has no signature")
		}
		c.sum.Reset()
	}
	if c.left > 0 {
		return nil
	}
	if err := c.verifyChunk(); err != nil {
		return err
	}
	return c.readTrailer()
}

func (c *chunkReader) verifyChunk() error {
	if c.sign == nil {
		return nil
	}
	return c.sign.verify("PAYLOAD", []string{emptySHA256, hex.EncodeToString(c.sum.Sum(nil))}, c.signature)
}

// readTrailer takes both endings that clients send: the lines, an empty line
// and the end, or the lines and the end at once.
func (c *chunkReader) readTrailer() error {
	var signed bytes.Buffer
	for end := false; !end; {
		line, err := c.line()
		if end = errors.Is(err, io.ErrUnexpectedEOF); err != nil && !end {
			return err
		}
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !c.trailing || len(c.trailers) > 8 {
			return malformedChunk(fmt.Sprintf("%.40q does not belong behind the last chunk", line))
		}
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		c.trailers[http.CanonicalHeaderKey(name)] = value
		if name != "x-amz-trailer-signature" {
			fmt.Fprintf(&signed, "%s:%s\n", name, value)
		}
	}
	if c.sign != nil && c.trailing {
		sum := sha256.Sum256(signed.Bytes())
		if err := c.sign.verify("TRAILER", []string{hex.EncodeToString(sum[:])}, c.trailers["X-Amz-Trailer-Signature"]); err != nil {
			return err
		}
	}
	return io.EOF
}

// line reads up to the next line feed. The end of the body before any byte is
// io.ErrUnexpectedEOF with an empty line.
func (c *chunkReader) line() (string, error) {
	text, err := c.src.ReadSlice('\n')
	if errors.Is(err, io.EOF) {
		return string(text), io.ErrUnexpectedEOF
	}
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", malformedChunk("a line is too long")
	}
	return strings.TrimRight(string(text), "\r\n"), err
}

func malformedChunk(why string) error {
	return fail("IncompleteBody", "The body is not well-formed aws-chunked: %s", why)
}
