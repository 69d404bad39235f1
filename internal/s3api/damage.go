package s3api

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"hash"
	"io"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
)

// maxHashed is the largest object that is held against its MD5 when it is read.
// MD5 takes as much of a core as all else of a large read together; checksums are
// several times as fast and compared whatever the size.
const maxHashed = 1 << 20

// heldBody is the whole of an object, read from the store. Its last bytes are
// given out only after all were found to be those that were stored; otherwise it
// ends in guarded.ErrDamaged, short of its Content-Length.
type heldBody struct {
	io.ReadCloser
	algorithm sigv4.Algorithm
	hash      hash.Hash
	want      []byte
	left      int64
	err       error
}

// held lets the body of an object be compared with what its row says of it: with
// one of its checksums over the whole, the cheapest first, or in a small object
// of one piece with the MD5 that its ETag is, unless its store encrypts: a copy has
// the ETag that such a store made up. Where neither is known the body is
// returned as it is; its length is checked by package upstream.
func held(body io.ReadCloser, info *object.Info) io.ReadCloser {
	if info.Size == 0 {
		return body
	}
	b := &heldBody{ReadCloser: body, left: info.Size}
	if info.ChecksumType == "FULL_OBJECT" {
		for _, a := range []sigv4.Algorithm{sigv4.CRC64NVME, sigv4.CRC32C, sigv4.CRC32, sigv4.SHA256, sigv4.SHA1} {
			if sum, err := base64.StdEncoding.DecodeString(info.Checksums[string(a)]); err == nil && len(sum) == a.Size() {
				b.algorithm, b.hash, b.want = a, a.New(), sum
				return b
			}
		}
	}
	if sum := digestOf(info.ETag); sum != nil && info.Size <= maxHashed && !info.Opaque {
		b.algorithm, b.hash, b.want = sigv4.MD5, sigv4.MD5.New(), sum
		return b
	}
	return body
}

// Read implements io.Reader.
func (b *heldBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p)
	b.hash.Write(p[:n])
	if b.left -= int64(n); b.left > 0 || n == 0 {
		return n, err
	}
	if sum := b.hash.Sum(nil); b.left < 0 || !bytes.Equal(sum, b.want) {
		b.err = fmt.Errorf("%w: their %s is %x, not %x", guarded.ErrDamaged, b.algorithm, sum, b.want)
		return 0, b.err
	}
	return n, err
}
