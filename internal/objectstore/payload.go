package objectstore

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"

	"github.com/minio/crc64nvme"
)

// checksums are the algorithms of the x-amz-checksum-* headers,
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
var checksums = map[string]func() hash.Hash{
	"crc32":     func() hash.Hash { return crc32.NewIEEE() },
	"crc32c":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"crc64nvme": func() hash.Hash { return crc64nvme.New() },
	"sha1":      sha1.New,
	"sha256":    sha256.New,
}

const checksumPrefix = "X-Amz-Checksum-"

// payload is a request's content as it is stored: free of its transfer coding,
// and read to the end only when everything the request says about it holds.
type payload struct {
	src      io.Reader
	left     int64
	checks   []check
	trailer  *chunkReader
	checksum map[string]string // by canonical header name, known at the end
	err      error
}

// check compares a digest of the content with what the request promised.
type check struct {
	hash   hash.Hash
	header string // canonical name, for checksums that are kept
	want   func() ([]byte, error)
	code   string
	what   string
}

// openPayload prepares to read r's content of at most limit bytes. The
// x-amz-content-sha256 header, not Content-Encoding, decides how the body is
// coded: some clients leave aws-chunked out of the latter.
func openPayload(r *http.Request, limit int64, sign *signer) (*payload, error) {
	p := &payload{src: r.Body, left: r.ContentLength, checksum: map[string]string{}}
	kind := r.Header.Get("X-Amz-Content-Sha256")
	streaming := strings.HasPrefix(kind, "STREAMING-")
	if streaming {
		decoded, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil || decoded < 0 {
			return nil, fail("MissingContentLength", "x-amz-decoded-content-length is required with x-amz-content-sha256: %s", kind)
		}
		p.left = decoded
		if p.trailer, err = newChunkReader(r, kind, sign); err != nil {
			return nil, err
		}
		p.src = p.trailer
	}
	if p.left < 0 {
		return nil, fail("MissingContentLength", "You must provide the Content-Length header")
	}
	if p.left > limit {
		return nil, fail("EntityTooLarge", "%d bytes, at most %d are allowed", p.left, limit)
	}
	if err := p.addChecks(r, kind, streaming); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *payload) addChecks(r *http.Request, kind string, streaming bool) error {
	if values, ok := r.Header["Content-Md5"]; ok {
		want, err := base64.StdEncoding.DecodeString(values[0])
		if err != nil || len(want) != md5.Size {
			return fail("InvalidDigest", "Content-MD5 %q is not a base64 MD5", values[0])
		}
		p.checks = append(p.checks, check{hash: md5.New(), want: known(want), code: "BadDigest", what: "Content-MD5"})
	}
	switch {
	case streaming, kind == "", kind == "UNSIGNED-PAYLOAD":
	default:
		want, err := hex.DecodeString(kind)
		if err != nil || len(want) != sha256.Size {
			return fail("InvalidArgument", "x-amz-content-sha256 %q is neither a SHA-256 nor a form this store knows", kind)
		}
		p.checks = append(p.checks, check{hash: sha256.New(), want: known(want), code: "XAmzContentSHA256Mismatch", what: "x-amz-content-sha256"})
	}
	name, want := "", func() ([]byte, error) { return nil, nil }
	for h, values := range r.Header {
		algorithm, ok := strings.CutPrefix(h, checksumPrefix)
		if !ok || checksums[strings.ToLower(algorithm)] == nil {
			continue
		}
		if name != "" {
			return fail("InvalidRequest", "one x-amz-checksum- header is allowed, the request has %s and %s", name, h)
		}
		raw, err := base64.StdEncoding.DecodeString(values[0])
		if err != nil {
			return fail("InvalidRequest", "%s %q is not base64", h, values[0])
		}
		name, want = h, known(raw)
	}
	if t := http.CanonicalHeaderKey(strings.TrimSpace(r.Header.Get("X-Amz-Trailer"))); t != "" {
		algorithm, ok := strings.CutPrefix(t, checksumPrefix)
		if !ok || checksums[strings.ToLower(algorithm)] == nil || p.trailer == nil || !p.trailer.trailing {
			return fail("InvalidRequest", "x-amz-trailer %q announces no checksum this store knows, or the body has no trailer", t)
		}
		if name != "" {
			return fail("InvalidRequest", "the request has a checksum both in the header %s and in its trailer", name)
		}
		name, want = t, func() ([]byte, error) {
			raw, err := base64.StdEncoding.DecodeString(p.trailer.trailers[t])
			if err != nil || len(raw) == 0 {
				return nil, fail("InvalidRequest", "the trailer %s is missing or not base64", t)
			}
			return raw, nil
		}
	}
	if name != "" {
		algorithm := strings.ToLower(strings.TrimPrefix(name, checksumPrefix))
		p.checks = append(p.checks, check{hash: checksums[algorithm](), header: name, want: want, code: "BadDigest", what: name})
	}
	return nil
}

func known(b []byte) func() ([]byte, error) {
	return func() ([]byte, error) { return b, nil }
}

// Read gives io.EOF only after length, digests, checksums and trailer were
// found right; any other end is an error.
func (p *payload) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	if p.left == 0 {
		p.err = p.finish()
		return 0, p.err
	}
	n, err := p.src.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	for _, c := range p.checks {
		c.hash.Write(b[:n])
	}
	if err != nil && p.left > 0 {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
			err = fail("IncompleteBody", "The body ended %d bytes before the length that was announced", p.left)
		}
		p.err = err
		return n, err
	}
	return n, nil
}

func (p *payload) finish() error {
	var one [1]byte
	if n, err := io.ReadFull(p.src, one[:]); n > 0 {
		return fail("IncompleteBody", "The body goes on after the length that was announced")
	} else if errors.Is(err, io.ErrUnexpectedEOF) {
		return fail("IncompleteBody", "The body ended before its last chunk and trailer")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	for _, c := range p.checks {
		want, err := c.want()
		if err != nil {
			return err
		}
		got := c.hash.Sum(nil)
		if !bytes.Equal(got, want) {
			return fail(c.code, "The %s you specified did not match what was received", c.what)
		}
		if c.header != "" {
			p.checksum[c.header] = base64.StdEncoding.EncodeToString(got)
		}
	}
	return io.EOF
}
