package sealed

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // S3's ETag and Content-MD5 are MD5
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"

	"github.com/s3fence/s3fence/internal/checksum"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

const (
	// maxBuffered is the largest body that is held in memory, verified and
	// hashed before anything is sent.
	maxBuffered = 1 << 20
	// pieceSize is the part size of bodies whose length nobody knows.
	pieceSize = 8 << 20
)

// stored is where the bytes of an attempt are, before the commit.
type stored struct {
	name name
	etag string
	size int64
	// sums are the checksums that were verified with the body.
	sums map[string]string
	// parts are those that an upload joined; none for other bytes, and where they
	// are not known.
	parts []object.Part
	// guessed: of an upload, that these are its bytes is told by what was announced of
	// it alone.
	guessed bool
}

// Put writes one object; see [guarded.Writer].
func (s *Store) Put(ctx context.Context, p *guarded.Put) (object.Info, error) {
	client, bucket, err := s.buckets.Bucket(p.Bucket)
	if err != nil {
		return object.Info{}, err
	}
	if p.Size >= 0 && p.Size <= maxBuffered {
		return s.putSmall(ctx, client, bucket, p)
	}
	whole := newFingerprint(&p.Op, p.Body)
	if whole != nil {
		p.Body = whole
		if info, found, err := s.putBefore(ctx, p, whole); found || err != nil {
			return info, err
		}
	}
	// One question before a large body is taken in: what would be refused at the
	// commit is refused now.
	v, row, err := s.look(ctx, &p.Op, fence.Write, p.Ref, "")
	if err != nil {
		if whole != nil {
			// Perhaps its own first try went through just before.
			if info, found, perr := s.putBefore(ctx, p, whole); found && perr == nil {
				return info, nil
			}
		}
		return object.Info{}, err
	}
	if err := p.CheckWrite(infoOf(v.Objects[p.Ref])); err != nil && p.RetryID == "" && p.Named == nil {
		return object.Info{}, err
	}
	pause.At(pause.BeforeUpload)
	nm := s.names.fresh(p.Scope, row.Epoch, state.NewID())
	body := &bodyError{Reader: p.Body}
	var st stored
	if p.Size >= 0 {
		st, err = s.stream(ctx, client, bucket, nm, body, p)
	} else {
		st, err = s.pieces(ctx, client, bucket, nm, body, p)
	}
	if err != nil {
		if failed := body.err(); failed != nil {
			return object.Info{}, failed
		}
		return object.Info{}, err
	}
	whole.ended(&p.Op)
	pause.At(pause.AfterUpload)
	info, err := s.commitPut(p, st)
	if errors.Is(err, errOldName) {
		return object.Info{}, fmt.Errorf("%w: the upload took longer than the longest upload allowed (%s)", state.ErrBusy, s.opts.LongestUpload)
	}
	return info, err
}

// putBefore answers a large put that took effect before, once its body turned out
// to be the same: it is read and compared, and not stored a second time.
func (s *Store) putBefore(ctx context.Context, p *guarded.Put, body *fingerprint) (info object.Info, found bool, err error) {
	if _, found, err = s.answered(ctx, &p.Op); !found || err != nil {
		return info, false, err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return info, false, err
	}
	body.ended(&p.Op)
	r, found, err := s.answered(ctx, &p.Op)
	switch {
	case err != nil:
		return info, false, err
	case !found:
		return info, false, fmt.Errorf("%w: the answer of the first try has just been forgotten", state.ErrBusy)
	}
	return r.info(p.Ref), true, nil
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxPooled keeps the pool from holding many large buffers.
const maxPooled = 128 << 10

func (s *Store) putSmall(ctx context.Context, client *upstream.Client, bucket string, p *guarded.Put) (object.Info, error) {
	buf := buffers.Get().(*bytes.Buffer) //nolint:forcetypeassert // the pool's New makes nothing else
	buf.Reset()
	idle := true
	defer func() {
		if idle && buf.Cap() <= maxPooled {
			buffers.Put(buf)
		}
	}()
	buf.Grow(int(p.Size) + bytes.MinRead)
	if _, err := buf.ReadFrom(p.Body); err != nil {
		return object.Info{}, err
	}
	if int64(buf.Len()) != p.Size {
		return object.Info{}, fmt.Errorf("%w: body of %d bytes, declared %d", io.ErrUnexpectedEOF, buf.Len(), p.Size)
	}
	if p.Named != nil {
		p.Named.Body(sha256.Sum256(buf.Bytes()))
	}
	return once(ctx, s, &p.Op,
		func() (object.Info, error) { return s.putBuffered(ctx, client, bucket, p, buf.Bytes(), &idle) },
		func(r *result) object.Info { return r.info(p.Ref) })
}

// putBuffered puts a whole body. idle tells when nobody reads it any more.
func (s *Store) putBuffered(ctx context.Context, client *upstream.Client, bucket string, p *guarded.Put, body []byte, idle *bool) (object.Info, error) {
	sum := md5.Sum(body) //nolint:gosec // see the import
	row, ok := s.known.get(p.Scope)
	if !ok {
		var err error
		if _, row, err = s.look(ctx, &p.Op, fence.Write, p.Ref, ""); err != nil {
			return object.Info{}, err
		}
	}
	sums := verified(p.Checksums, p.Verified)
	for again := false; ; again = true {
		pause.At(pause.BeforeUpload)
		nm := s.names.fresh(p.Scope, row.Epoch, state.NewID())
		// Until the whole body is known to have been read, a connection that is
		// being given up may read the buffer, also after the call.
		*idle = false
		got, err := client.PutObject(ctx, bucket, nm.Key, bytes.NewReader(body), p.Size, upstream.PutOptions{
			Header:     physicalHeader(&p.Op, p.Ref, &p.Attributes, p.Store, nm),
			ContentMD5: base64.StdEncoding.EncodeToString(sum[:]),
		})
		if err != nil {
			return object.Info{}, storeError("storing the object's bytes", err)
		}
		if err := compare(got, hex.EncodeToString(sum[:]), p.Store); err != nil {
			return object.Info{}, err
		}
		*idle = sameDigest(got.ETag, hex.EncodeToString(sum[:]))
		pause.At(pause.AfterUpload)
		info, err := s.commitPut(p, stored{name: nm, etag: hex.EncodeToString(sum[:]), size: p.Size, sums: sums})
		if !errors.Is(err, errOldName) {
			return info, err
		}
		// This proxy has not seen the scope for long; the bytes are still here.
		if row, ok = s.known.get(p.Scope); !ok || again {
			return object.Info{}, fmt.Errorf("%w: %w", state.ErrBusy, err)
		}
	}
}

func (s *Store) stream(ctx context.Context, client *upstream.Client, bucket string, nm name, body io.Reader, p *guarded.Put) (stored, error) {
	sum := md5.New() //nolint:gosec // see the import
	got, err := client.PutObject(ctx, bucket, nm.Key, io.TeeReader(body, sum), p.Size, upstream.PutOptions{
		Header:     physicalHeader(&p.Op, p.Ref, &p.Attributes, p.Store, nm),
		ContentMD5: p.ContentMD5,
	})
	if err != nil {
		return stored{}, storeError("storing the object's bytes", err)
	}
	etag := hexSum(sum)
	if !sameDigest(got.ETag, etag) {
		if err := compare(got, etag, p.Store); err != nil {
			return stored{}, err
		}
		// The size is all that the store tells.
		if err := s.checkSize(ctx, client, bucket, nm.Key, p.Size); err != nil {
			return stored{}, err
		}
	}
	return stored{name: nm, etag: etag, size: p.Size, sums: verified(p.Checksums, p.Verified)}, nil
}

// compare compares what the store says it has with what was sent. A store that
// encrypts, because it was asked to or always does, has ETags of its own kind,
// which may look like digests.
func compare(got *upstream.Stored, digest string, asked map[string]string) error {
	if !isMD5(got.ETag) || sameDigest(got.ETag, digest) || len(asked) > 0 || upstream.Encrypted(got.Header) {
		return nil
	}
	return fmt.Errorf("%w: it stored bytes with the digest %s instead of %s", guarded.ErrStore, got.ETag, digest)
}

func (s *Store) checkSize(ctx context.Context, client *upstream.Client, bucket, key string, size int64) error {
	head, err := client.HeadObject(ctx, bucket, key, nil)
	if err != nil {
		return storeError("looking at the bytes just stored", err)
	}
	if head.Size != size {
		return fmt.Errorf("%w: it stored %d bytes instead of %d", guarded.ErrStore, head.Size, size)
	}
	return nil
}

// pieces stores a body of unknown length in parts, with one part in memory.
func (s *Store) pieces(ctx context.Context, client *upstream.Client, bucket string, nm name, body io.Reader, p *guarded.Put) (st stored, err error) {
	header := physicalHeader(&p.Op, p.Ref, &p.Attributes, p.Store, nm)
	id, err := client.CreateMultipartUpload(ctx, bucket, nm.Key, header)
	if err != nil {
		return st, storeError("storing the object's bytes", err)
	}
	completing := false
	defer func() {
		if err != nil && !completing {
			s.abortUpstream(client, bucket, nm.Key, id)
		}
	}()
	whole := md5.New() //nolint:gosec // see the import
	piece := make([]byte, pieceSize)
	var parts []upstream.Part
	for last := false; !last; {
		n, rerr := io.ReadFull(body, piece)
		switch {
		case errors.Is(rerr, io.EOF) || errors.Is(rerr, io.ErrUnexpectedEOF):
			last = true
		case rerr != nil:
			return st, rerr
		}
		if n == 0 && len(parts) > 0 {
			break
		}
		if len(parts) == maxParts {
			return st, fmt.Errorf("%w: a body of unknown length may have %d bytes at most; send its length", guarded.ErrTooLarge, int64(pieceSize)*maxParts)
		}
		whole.Write(piece[:n])
		sum := md5.Sum(piece[:n]) //nolint:gosec // see the import
		got, uerr := client.UploadPart(ctx, bucket, nm.Key, id, len(parts)+1, bytes.NewReader(piece[:n]), int64(n), upstream.PutOptions{
			ContentMD5: base64.StdEncoding.EncodeToString(sum[:]),
		})
		if uerr != nil {
			return st, storeError("storing the object's bytes", uerr)
		}
		if err := compare(got, hex.EncodeToString(sum[:]), p.Store); err != nil {
			return st, err
		}
		parts = append(parts, upstream.Part{Number: len(parts) + 1, ETag: got.ETag, Size: int64(n)})
		st.size += int64(n)
	}
	completing = true
	if _, _, err := s.completeUpstream(ctx, client, bucket, nm.Key, id, parts, st.size); err != nil {
		return st, err
	}
	st.name, st.etag, st.sums = nm, hexSum(whole), verified(p.Checksums, p.Verified)
	return st, nil
}

// verified joins the checksums of a request's headers with those of its trailer.
func verified(header map[string]string, trailer func() map[string]string) map[string]string {
	if trailer == nil {
		return header
	}
	sums := trailer()
	if len(header) == 0 {
		return sums
	}
	sums = maps.Clone(sums)
	if sums == nil {
		sums = map[string]string{}
	}
	maps.Copy(sums, header)
	return sums
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

func isMD5(etag string) bool {
	_, err := hex.DecodeString(etag)
	return err == nil && len(etag) == 2*md5.Size
}

func sameDigest(a, b string) bool { return strings.EqualFold(a, b) }

// commitPut makes stored bytes the object.
func (s *Store) commitPut(p *guarded.Put, st stored) (object.Info, error) {
	attrs := p.Attributes
	if len(st.sums) > 0 {
		attrs.Checksums, attrs.ChecksumType = st.sums, checksum.FullObject
	}
	return s.commitObject(&p.Op, "PutObject", p.Conditions, object.Info{
		Ref: p.Ref, Attributes: attrs,
	}, st, nil)
}

// commitObject points a row at stored bytes, whose size and ETag info gets. up is the upload that they came by,
// nil for none; it is marked completed in the same transaction.
func (s *Store) commitObject(op *guarded.Op, what string, cond object.Conditions, info object.Info, st stored, up *state.Upload) (object.Info, error) {
	nm := st.name
	info.Size, info.ETag = st.size, st.etag
	o := s.operation(op, fence.Write, info.Ref)
	o.retry = retryID(op, what, info.Ref, info.ETag)
	if up != nil {
		o.upload = up.ID
	}
	o.apply = func(v *state.View, row *state.Scope, ch *state.Changes) error {
		if up == nil {
			if nm.Epoch < row.Horizon {
				return errOldName
			}
		} else if err := completable(v.Uploads[up.ID], up, st.guessed); err != nil {
			return err
		}
		if err := cond.CheckWrite(infoOf(v.Objects[info.Ref])); err != nil {
			return err
		}
		info.Modified = v.Now
		if up != nil {
			done := *up
			done.Completed, done.ETag, done.Size, done.Attributes = true, info.ETag, info.Size, info.Attributes
			ch.PutUploads = append(ch.PutUploads, done)
		}
		ch.PutObjects = append(ch.PutObjects, state.Object{
			Info: info, Scope: op.Scope, Token: op.Request.Token, Attempt: nm.Attempt, Physical: nm.Key,
		})
		if len(st.parts) > 0 {
			ch.PutParts = append(ch.PutParts, state.ObjectParts{Attempt: nm.Attempt, Parts: st.parts})
		}
		return nil
	}
	o.answer = func() result {
		r := resultOf(&info)
		r.Own = up != nil
		return r
	}
	o.replay = func(r *result) { info = r.info(info.Ref) }
	if err := s.commits.do(o); err != nil {
		return object.Info{}, err
	}
	pause.At(pause.AfterCommit)
	return info, nil
}

// Metadata of physical objects, from which an index can be rebuilt.
const (
	metaKey     = "X-Amz-Meta-S3fence-Key"     // base64url of the logical key
	metaToken   = "X-Amz-Meta-S3fence-Token"   // token of the write
	metaAttempt = "X-Amz-Meta-S3fence-Attempt" // attempt id
	metaPartial = "X-Amz-Meta-S3fence-Partial" // 1: the user's metadata is in the row only
	// metaOurs begins the names that are ours, as users write theirs.
	metaOurs = "s3fence-"
	// maxMeta is what S3 allows for the names and values of user metadata.
	maxMeta = 2 << 10
)

// physicalHeader makes the headers that go with the bytes.
func physicalHeader(op *guarded.Op, ref object.Ref, a *object.Attributes, store map[string]string, nm name) http.Header {
	h := make(http.Header, 4+len(a.Headers)+len(a.Meta)+len(store))
	for k, v := range a.Headers {
		h.Set(k, v)
	}
	for k, v := range store {
		h.Set(k, v)
	}
	key := base64.RawURLEncoding.EncodeToString([]byte(ref.Key))
	h[metaKey] = []string{key}
	h[metaToken] = []string{op.Request.Token.String()}
	h[metaAttempt] = []string{nm.Attempt.String()}
	size := len(key) + 160 // our names, token and attempt
	ours := false
	for k, v := range a.Meta {
		size += len(k) + len(v)
		ours = ours || strings.HasPrefix(k, metaOurs)
	}
	if size > maxMeta || ours {
		h[metaPartial] = []string{"1"}
		return h
	}
	for k, v := range a.Meta {
		h["X-Amz-Meta-"+http.CanonicalHeaderKey(k)] = []string{v}
	}
	return h
}
