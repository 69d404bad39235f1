package objectstore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// blobName names one blob file: 128 random bits, drawn anew for each attempt
// and never reused.
type blobName [16]byte

// blobs keeps object bytes in files, blobs/ab/abcdef….
//
// A file is written under its final name: that name means nothing until a
// committed segment row holds it, so a rename would add a step and no safety.
// What a crash leaves half written is unnamed and falls to the sweep.
type blobs struct {
	dir string
	log *slog.Logger

	// visible orders readers against removal: a reader holds it shared from
	// before it reads the rows until it has pinned their blobs, the remover
	// takes it after its commit. So every reader that could have seen the
	// rows has pinned before the files go.
	visible sync.RWMutex

	mu     sync.Mutex
	pins   map[blobName]int
	doomed map[blobName]bool // dead, but pinned by a reader
}

func openBlobs(dir string, log *slog.Logger) (*blobs, error) {
	b := &blobs{dir: filepath.Join(dir, "blobs"), log: log, pins: map[blobName]int{}, doomed: map[blobName]bool{}}
	if err := makeDir(b.dir); err != nil {
		return nil, err
	}
	for i := range 256 {
		if err := os.Mkdir(filepath.Join(b.dir, hex.EncodeToString([]byte{byte(i)})), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return b, syncDir(b.dir)
}

func (b *blobs) path(name blobName) string {
	s := hex.EncodeToString(name[:])
	return filepath.Join(b.dir, s[:2], s)
}

// sweep removes every file that live does not name, and reports names without
// a file: those were taken away by somebody else. live is asked once for each
// first byte. Nothing may be writing meanwhile.
func (b *blobs) sweep(live func(first byte) (map[blobName]bool, error)) error {
	for i := range 256 {
		shard := filepath.Join(b.dir, hex.EncodeToString([]byte{byte(i)}))
		entries, err := os.ReadDir(shard)
		if err != nil {
			return err
		}
		keep, err := live(byte(i))
		if err != nil {
			return err
		}
		for _, e := range entries {
			var name blobName
			if n, err := hex.Decode(name[:], []byte(e.Name())); len(e.Name()) == 32 && err == nil && n == 16 && keep[name] {
				delete(keep, name)
				continue
			}
			if err := os.Remove(filepath.Join(shard, e.Name())); err != nil {
				return err
			}
		}
		for name := range keep {
			b.log.Error("a blob that an object needs is missing; reading the object will fail", "file", b.path(name))
		}
	}
	return nil
}

// blobWriter is a blob being written. Exactly one of keep and drop ends it.
type blobWriter struct {
	blobs *blobs
	name  blobName
	file  *os.File
}

func (b *blobs) create() (*blobWriter, error) {
	var name blobName
	rand.Read(name[:])
	f, err := os.OpenFile(b.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &blobWriter{blobs: b, name: name, file: f}, nil
}

// keep makes bytes and name durable. After an error the file is gone.
func (w *blobWriter) keep() error {
	err := w.file.Sync()
	if cerr := w.file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = syncDir(filepath.Dir(w.file.Name()))
	}
	if err != nil {
		w.blobs.unlink(w.name)
	}
	return err
}

func (w *blobWriter) drop() {
	_ = w.file.Close() // nothing of it is wanted
	w.blobs.unlink(w.name)
}

// remove unlinks blobs that no segment names any more, at once or when their
// last reader is done. Call it after the commit that made them dead.
// It needs no fsync: a file that comes back after a power loss is swept.
func (b *blobs) remove(dead []blobName) {
	if len(dead) == 0 {
		return
	}
	b.visible.Lock()
	b.mu.Lock()
	now := make([]blobName, 0, len(dead))
	for _, name := range dead {
		if b.pins[name] > 0 {
			b.doomed[name] = true
		} else {
			now = append(now, name)
		}
	}
	b.mu.Unlock()
	b.visible.Unlock()
	for _, name := range now {
		b.unlink(name)
	}
}

func (b *blobs) unlink(name blobName) {
	if err := os.Remove(b.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.log.Warn("cannot remove a blob that nothing uses; the next start tries again", "file", b.path(name), "err", err)
	}
}

func (b *blobs) pin(segments []segment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range segments {
		b.pins[s.blob]++
	}
}

func (b *blobs) unpin(segments []segment) {
	var dead []blobName
	b.mu.Lock()
	for _, s := range segments {
		if b.pins[s.blob]--; b.pins[s.blob] > 0 {
			continue
		}
		delete(b.pins, s.blob)
		if b.doomed[s.blob] {
			delete(b.doomed, s.blob)
			dead = append(dead, s.blob)
		}
	}
	b.mu.Unlock()
	for _, name := range dead {
		b.unlink(name)
	}
}

// copySegments writes length bytes to w, from offset in the run of segments.
// The segments must be pinned.
func (b *blobs) copySegments(w io.Writer, segments []segment, offset, length int64) error {
	for _, s := range segments {
		if length == 0 {
			return nil
		}
		if offset >= s.length {
			offset -= s.length
			continue
		}
		n := min(s.length-offset, length)
		if err := b.copyRange(w, s.blob, s.start+offset, n); err != nil {
			return err
		}
		offset, length = 0, length-n
	}
	if length > 0 {
		return fmt.Errorf("body is %d bytes short of its size", length)
	}
	return nil
}

func (b *blobs) copyRange(w io.Writer, name blobName, start, length int64) error {
	f, err := os.Open(b.path(name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	if start > 0 {
		if _, err := f.Seek(start, io.SeekStart); err != nil {
			return err
		}
	}
	// CopyN lets net/http hand file to socket without a buffer of ours.
	if _, err := io.CopyN(w, f, length); err != nil {
		return fmt.Errorf("read blob %s: %w", f.Name(), err)
	}
	return nil
}

// makeDir creates dir and its missing parents and makes their names durable.
func makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil {
		return syncDir(filepath.Dir(dir))
	} else if errors.Is(err, fs.ErrExist) {
		if info, serr := os.Stat(dir); serr != nil || !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(filepath.Dir(dir)); err != nil {
		return err
	}
	return makeDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // it was only read
	return d.Sync()
}
