package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
)

// ErrBodyLength says that a body is longer or shorter than its declared
// length. The request was aborted; the caller must not take it for sent.
var ErrBodyLength = errors.New("body length differs from Content-Length")

// inMemory reports whether net/http knows r as a reader that never blocks: it
// then sends headers and body in one write.
func inMemory(r io.Reader) (length int64, ok bool) {
	switch r := r.(type) {
	case *bytes.Reader:
		return int64(r.Len()), true
	case *bytes.Buffer:
		return int64(r.Len()), true
	case *strings.Reader:
		return int64(r.Len()), true
	}
	return 0, false
}

// heldBody passes a caller's body on and holds its last bytes back until the
// reader has said EOF exactly at the declared length. A verifying reader that
// finds the body false at its very end thereby still makes the request short,
// and the connection is closed on the store.
type heldBody struct {
	src       io.Reader
	remaining int64 // used by the one goroutine that reads
	delivered atomic.Bool
	failed    atomic.Pointer[error]
	closed    atomic.Bool
}

func newHeldBody(src io.Reader, length int64) *heldBody {
	return &heldBody{src: src, remaining: length}
}

func (b *heldBody) Read(p []byte) (int, error) {
	switch {
	case b.closed.Load():
		return 0, errForbidden
	case b.failed.Load() != nil:
		return 0, *b.failed.Load()
	case b.remaining == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if b.remaining > int64(len(p)) {
		n, err := b.src.Read(p)
		b.remaining -= int64(n)
		switch {
		case err == io.EOF:
			return 0, b.fail(fmt.Errorf("%w: ended %d bytes early", ErrBodyLength, b.remaining))
		case err != nil:
			return 0, b.fail(err)
		}
		return n, nil
	}

	last := p[:b.remaining]
	if n, err := io.ReadFull(b.src, last); err == io.EOF || err == io.ErrUnexpectedEOF {
		return 0, b.fail(fmt.Errorf("%w: ended %d bytes early", ErrBodyLength, len(last)-n))
	} else if err != nil {
		return 0, b.fail(err)
	}
	if err := atEnd(b.src); err != nil {
		return 0, b.fail(err)
	}
	b.remaining = 0
	b.delivered.Store(true)
	return len(last), io.EOF
}

func (b *heldBody) fail(err error) error {
	b.failed.Store(&err)
	return err
}

// Close ends reading. The caller's reader is the caller's to close.
func (b *heldBody) Close() error {
	b.closed.Store(true)
	return nil
}

// atEnd returns nil if r has nothing more and ends without an error.
func atEnd(r io.Reader) error {
	var one [1]byte
	for range 100 { // as io.ErrNoProgress elsewhere
		n, err := r.Read(one[:])
		switch {
		case n > 0:
			return fmt.Errorf("%w: it goes on after the end", ErrBodyLength)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}
