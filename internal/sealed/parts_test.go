package sealed

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/checksum"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// filled makes n bytes that differ by seed.
func filled(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewPCG(seed, 99)
	for i := 0; i+8 <= n; i += 8 {
		v := r.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return b
}

func sumOf(algorithm string, b []byte) string {
	h := checksum.New(algorithm)
	h.Write(b)
	return checksum.String(h)
}

// multipart drives uploads of one key.
type multipart struct {
	*lab
	op  guarded.Op
	ref object.Ref
}

func newMultipart(t *testing.T, opts ...memory.Option) *multipart {
	l := newLab(t, opts...)
	l.guard(jobs)
	return &multipart{l, l.op(jobs, l.grant(jobs)), object.Ref{Bucket: "data", Key: "jobs/big"}}
}

func (m *multipart) create(algorithm, kind string) guarded.UploadRef {
	m.t.Helper()
	id, err := m.CreateUpload(m.t.Context(), &guarded.CreateUpload{Op: m.op, Ref: m.ref, Attributes: object.Attributes{Algorithm: algorithm, ChecksumType: kind}})
	require.NoError(m.t, err)
	return guarded.UploadRef{Op: m.op, Ref: m.ref, ID: id}
}

// send uploads a part with a checksum, without one where algorithm is empty.
func (m *multipart) send(u guarded.UploadRef, n int, b []byte, algorithm string) (guarded.PartInfo, error) {
	p := &guarded.Part{UploadRef: u, Number: n, Body: bytes.NewReader(b), Size: int64(len(b)), Algorithm: algorithm}
	if algorithm != "" {
		p.Checksums = map[string]string{algorithm: sumOf(algorithm, b)}
	}
	return m.UploadPart(m.t.Context(), p)
}

func (m *multipart) mustSend(u guarded.UploadRef, n int, b []byte, algorithm string) guarded.PartInfo {
	m.t.Helper()
	p, err := m.send(u, n, b, algorithm)
	require.NoError(m.t, err)
	return p
}

// piece reads the n-th part as a GET with partNumber does.
func (m *multipart) piece(n int) (object.Info, object.Part, string, error) {
	var got object.Part
	info, body, err := m.Get(context.WithoutCancel(m.t.Context()), m.op, m.ref, func(_ object.Info, part func(int) (object.Part, error)) (*guarded.Range, error) {
		var err error
		if got, err = part(n); err != nil {
			return nil, err
		}
		return &guarded.Range{Offset: got.Start, Length: got.Size}, nil
	})
	if err != nil {
		return info, got, "", err
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	return info, got, string(b), err
}

func TestChecksumsOfUploads(t *testing.T) {
	t.Parallel()
	one, two := filled(minPartSize, 1), filled(minPartSize+3, 2)
	tail := []byte("tail")
	all := bytes.Join([][]byte{one, two, tail}, nil)
	for _, c := range []struct{ algorithm, kind string }{
		{"CRC32", checksum.Composite},
		{"CRC32C", checksum.FullObject}, {"CRC64NVME", checksum.FullObject}, {"SHA256", checksum.Composite},
	} {
		t.Run(c.algorithm+" "+c.kind, func(t *testing.T) {
			t.Parallel()
			m := newMultipart(t)
			u := m.create(c.algorithm, c.kind)
			// Numbers with gaps; the last part first, one part replaced.
			parts := []guarded.PartInfo{{}, {}, m.mustSend(u, 9, tail, c.algorithm)}
			m.mustSend(u, 2, []byte("to be replaced"), c.algorithm)
			parts[0], parts[1] = m.mustSend(u, 2, one, c.algorithm), m.mustSend(u, 5, two, c.algorithm)

			list, err := m.ListParts(t.Context(), &u, 2, 1)
			require.NoError(t, err)
			require.Equal(t, c.algorithm, list.Algorithm)
			require.Equal(t, c.kind, list.ChecksumType)
			require.True(t, list.More)
			require.Len(t, list.Parts, 1)
			require.Equal(t, map[string]string{c.algorithm: sumOf(c.algorithm, two)}, list.Parts[0].Checksums)

			size := int64(len(all))
			want, ok := checksum.Of(c.algorithm, c.kind, []object.Part{
				{Size: int64(len(one)), Checksum: sumOf(c.algorithm, one)}, {Size: int64(len(two)), Checksum: sumOf(c.algorithm, two)}, {Size: 4, Checksum: sumOf(c.algorithm, tail)},
			})
			require.True(t, ok)
			if c.kind == checksum.FullObject {
				require.Equal(t, sumOf(c.algorithm, all), want)
			}
			lie, wrong := sumOf(c.algorithm, []byte("other bytes")), size-1
			complete := func(f func(*guarded.Complete)) (object.Info, error) {
				r := &guarded.Complete{UploadRef: u, Parts: append([]guarded.PartInfo{}, parts...)}
				f(r)
				return m.Complete(t.Context(), r)
			}
			// None of these is true of the object, and each leaves the upload open.
			for name, try := range map[string]struct {
				lie  func(*guarded.Complete)
				want error
			}{
				"a part's checksum": {func(r *guarded.Complete) { r.Parts[1].Checksums = map[string]string{c.algorithm: lie} }, object.ErrInvalidPart},
				"another algorithm": {func(r *guarded.Complete) { r.Parts[1].Checksums = map[string]string{"SHA1": sumOf("SHA1", two)} }, object.ErrInvalidPart},
				"the whole":         {func(r *guarded.Complete) { r.Checksums = map[string]string{c.algorithm: lie} }, object.ErrBadDigest},
				"the whole's kind":  {func(r *guarded.Complete) { r.Checksums = map[string]string{"SHA1": lie} }, object.ErrChecksumType},
				"the size":          {func(r *guarded.Complete) { r.Size = &wrong }, object.ErrObjectSize},
				"a replaced part":   {func(r *guarded.Complete) { r.Parts[0].ETag = hexMD5([]byte("to be replaced")) }, object.ErrInvalidPart},
			} {
				_, err := complete(try.lie)
				require.ErrorIs(t, err, try.want, name)
			}
			say := func(r *guarded.Complete) {
				r.Checksums, r.ChecksumType, r.Size = map[string]string{c.algorithm: want}, c.kind, &size
				r.Parts[1].Checksums = map[string]string{c.algorithm: sumOf(c.algorithm, two)}
			}
			info, err := complete(say)
			require.NoError(t, err)
			require.Equal(t, map[string]string{c.algorithm: want}, info.Checksums)
			require.Equal(t, c.kind, info.ChecksumType)
			again, err := complete(say)
			require.NoError(t, err)
			require.Equal(t, info.Checksums, again.Checksums, "a repeated Complete gets its first answer")
			_, err = complete(func(r *guarded.Complete) { r.Checksums = map[string]string{c.algorithm: lie} })
			require.ErrorIs(t, err, object.ErrBadDigest, "also once it is completed")

			got, err := m.Stat(t.Context(), m.op, m.ref)
			require.NoError(t, err)
			assert.Equal(t, info.Checksums, got.Checksums)
			assert.Empty(t, got.Algorithm)
			for i, b := range [][]byte{one, two, tail} {
				info, p, body, err := m.piece(i + 1)
				require.NoError(t, err)
				assert.Equal(t, 3, info.Parts)
				assert.True(t, body == string(b), "part %d", i+1)
				assert.Equal(t, []int{2, 5, 9}[i], p.Number)
				assert.Equal(t, sumOf(c.algorithm, b), p.Checksum)
			}
			_, some, err := m.Parts(t.Context(), m.op, m.ref, 1, 1)
			require.NoError(t, err)
			require.Len(t, some, 1)
			assert.Equal(t, 5, some[0].Number)

			// A copy is one piece; what was summed by parts says nothing of it.
			to := object.Ref{Bucket: "data", Key: "jobs/copy"}
			copied, err := m.Copy(t.Context(), &guarded.Copy{Op: m.op, Ref: to, Source: guarded.Source{Ref: m.ref, Op: m.op}})
			require.NoError(t, err)
			assert.Zero(t, copied.Parts)
			if c.kind == checksum.FullObject {
				assert.Equal(t, info.Checksums, copied.Checksums)
			} else {
				assert.Empty(t, copied.Checksums)
			}
			copied, err = m.Copy(t.Context(), &guarded.Copy{Op: m.op, Ref: to, Source: guarded.Source{Ref: m.ref, Op: m.op}, Checksum: "SHA256"})
			require.NoError(t, err)
			assert.Equal(t, map[string]string{"SHA256": sumOf("SHA256", all)}, copied.Checksums)
			assert.Equal(t, checksum.FullObject, copied.ChecksumType)
			assert.Equal(t, hexMD5(all), copied.ETag)
		})
	}
}

func hexMD5(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

func TestPartsOfTheWrongChecksum(t *testing.T) {
	t.Parallel()
	m := newMultipart(t)
	body := []byte("body")
	u := m.create("SHA256", checksum.Composite)
	for _, algorithm := range []string{"", "CRC32"} {
		_, err := m.send(u, 1, body, algorithm)
		require.ErrorIs(t, err, object.ErrChecksumType, algorithm)
		require.ErrorContains(t, err, "expected checksum Type: sha256")
	}
	// What is to be the checksum of the whole may be left to us.
	u = m.create("CRC32", checksum.FullObject)
	_, err := m.send(u, 1, body, "CRC32C")
	require.ErrorIs(t, err, object.ErrChecksumType)
	p := m.mustSend(u, 1, body, "")
	require.Equal(t, map[string]string{"CRC32": sumOf("CRC32", body)}, p.Checksums)
	info, err := m.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{p}})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"CRC32": sumOf("CRC32", body)}, info.Checksums)

	// Without an algorithm parts may come with any or none, and the whole has none
	// unless it is asked for at the end and all parts have it.
	u = m.create("", "")
	p = m.mustSend(u, 1, body, "CRC32")
	say := func(sums map[string]string) (object.Info, error) {
		return m.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{p}, Checksums: sums, ChecksumType: checksum.FullObject})
	}
	_, err = say(map[string]string{"CRC32C": sumOf("CRC32C", body)})
	require.ErrorIs(t, err, object.ErrChecksumType)
	_, err = say(map[string]string{"CRC32": sumOf("CRC32", nil)})
	require.ErrorIs(t, err, object.ErrBadDigest)
	info, err = say(map[string]string{"CRC32": sumOf("CRC32", body)})
	require.NoError(t, err)
	require.Equal(t, checksum.FullObject, info.ChecksumType)

	u = m.create("", "")
	p = m.mustSend(u, 1, body, "")
	info, err = m.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{p}})
	require.NoError(t, err)
	require.Empty(t, info.Checksums)
	require.Empty(t, info.ChecksumType)
	_, _, got, err := m.piece(1)
	require.NoError(t, err)
	require.Equal(t, "body", got)
}

// A Complete whose commit failed after the store had joined the parts: the store
// tells nothing of them any more.
func TestPartsSurviveALostComplete(t *testing.T) { // F7
	t.Parallel()
	var cut atomic.Bool
	m := newMultipart(t, memory.WithFaults(func(at memory.Stage) error {
		if at == memory.Deciding && cut.Load() {
			return errors.New("cut off")
		}
		return nil
	}))
	one := filled(minPartSize, 1)
	u := m.create("CRC32", checksum.FullObject)
	parts := []guarded.PartInfo{m.mustSend(u, 1, one, "CRC32"), m.mustSend(u, 2, []byte("x"), "CRC32")}
	complete := &guarded.Complete{UploadRef: u, Parts: parts}
	cut.Store(true)
	_, err := m.Complete(t.Context(), complete)
	require.ErrorIs(t, err, state.ErrUnavailable)
	cut.Store(false)
	lie := *complete
	lie.Checksums = map[string]string{"CRC32": sumOf("CRC32", one)}
	_, err = m.Complete(t.Context(), &lie)
	require.ErrorIs(t, err, object.ErrBadDigest)
	info, err := m.Complete(t.Context(), complete)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"CRC32": sumOf("CRC32", append(one, 'x'))}, info.Checksums)
	_, p, got, err := m.piece(2)
	require.NoError(t, err)
	require.Equal(t, "x", got)
	require.EqualValues(t, minPartSize, p.Start)
}

// An upload over the change to this version: its first part was taken by one that
// recorded nothing. It can be completed, and has no checksum.
func TestUploadOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	m := newMultipart(t)
	u := m.create("CRC32", checksum.FullObject)
	one := filled(minPartSize, 1)
	v, err := m.st.Read(t.Context(), state.Query{Uploads: []string{u.ID}})
	require.NoError(t, err)
	up := v.Uploads[u.ID]
	got, err := m.client.UploadPart(t.Context(), "data", up.Physical, up.Upstream, 1, bytes.NewReader(one), int64(len(one)), upstream.PutOptions{})
	require.NoError(t, err)
	parts := []guarded.PartInfo{
		{Number: 1, ETag: got.ETag, Checksums: map[string]string{"CRC32": sumOf("CRC32", one)}},
		m.mustSend(u, 2, []byte("x"), "CRC32"),
	}
	_, err = m.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: parts, Checksums: map[string]string{"CRC32": "AAAAAA=="}})
	require.ErrorIs(t, err, object.ErrChecksumType, "what cannot be verified is not believed")
	info, err := m.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: parts})
	require.NoError(t, err)
	require.Empty(t, info.Checksums)
	_, p, body, err := m.piece(2)
	require.NoError(t, err)
	require.Equal(t, "x", body)
	require.EqualValues(t, minPartSize, p.Start)
	require.Empty(t, p.Checksum)
}

// Objects whose parts nobody recorded: those of an older version.
func TestPartsThatWereNotRecorded(t *testing.T) {
	t.Parallel()
	m := newMultipart(t)
	u := m.create("", "")
	p := m.mustSend(u, 1, []byte("body"), "")
	_, err := m.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{p}})
	require.NoError(t, err)
	// A row of other bytes with as many parts, as an older version wrote it.
	require.NoError(t, state.Run(t.Context(), m.st, &state.Tx{
		Scopes: []state.ScopeLock{{Scope: m.op.Scope, Mode: state.Shared}}, Keys: []object.Ref{m.ref},
		Decide: func(v *state.View) (state.Changes, error) {
			row := *v.Objects[m.ref]
			row.Attempt = state.NewID()
			return state.Changes{PutObjects: []state.Object{row}}, nil
		},
	}))
	_, _, _, err = m.piece(1)
	require.ErrorIs(t, err, guarded.ErrPartsUnknown)
	info, parts, err := m.Parts(t.Context(), m.op, m.ref, 0, 10)
	require.NoError(t, err)
	require.Equal(t, 1, info.Parts)
	require.Empty(t, parts)
}

// While an object is replaced over and over, by uploads of different parts and by
// plain puts, each read of a part is one of one object: its bytes, its checksum, the
// count of its parts.
func TestPartsAreOfOneObject(t *testing.T) { // F6
	t.Parallel()
	m := newMultipart(t)
	head := filled(minPartSize, 7)
	write := func(round int) {
		tail := fmt.Appendf(nil, "round %d%s", round, bytes.Repeat([]byte("."), round%40))
		u := m.create("CRC32", checksum.FullObject)
		p1, p2 := m.mustSend(u, 1, head, "CRC32"), m.mustSend(u, 2, tail, "CRC32")
		_, err := m.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{p1, p2}})
		require.NoError(t, err)
	}
	tailOf := func(b string) bool { return len(b) > 6 && b[:6] == "round " }
	write(0)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	var reads atomic.Int64
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				info, p, body, err := m.piece(2)
				if errors.Is(err, guarded.ErrPartsUnknown) && info.Parts == 0 {
					continue // the plain put's turn
				}
				if err != nil {
					t.Error(err)
					return
				}
				if info.Parts != 2 || p.Start != minPartSize || info.Size != minPartSize+p.Size || !tailOf(body) || sumOf("CRC32", []byte(body)) != p.Checksum {
					t.Errorf("part 2 is %+v %q of %+v", p, body, info)
					return
				}
				reads.Add(1)
			}
		})
	}
	for round := 1; round < 15; round++ {
		if round%5 == 0 {
			_, err := m.put(m.op, m.ref.Key, "plain")
			require.NoError(t, err)
		}
		write(round)
	}
	close(stop)
	readers.Wait()
	require.Positive(t, reads.Load())
}

// What is read of an upload is bounded by the list, not by how often its parts were
// sent again.
func TestPartsSentAgain(t *testing.T) {
	t.Parallel()
	m := newMultipart(t)
	u := m.create("", "")
	var last guarded.PartInfo
	for i := range 50 {
		last = m.mustSend(u, 1, fmt.Append(nil, i), "")
	}
	up, err := m.find(t.Context(), &u)
	require.NoError(t, err)
	found, err := m.recorded(t.Context(), up, []guarded.PartInfo{last})
	require.NoError(t, err)
	require.Len(t, found, 1)
}
