package checksum

import (
	"crypto/sha256"
	"encoding/base64"
	"math/rand/v2"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/s3fence/s3fence/internal/object"
)

// split cuts a body into parts with their checksums.
func split(algorithm string, body []byte, sizes []int) []object.Part {
	var parts []object.Part
	at := 0
	for i, n := range sizes {
		h := New(algorithm)
		h.Write(body[at : at+n])
		parts = append(parts, object.Part{Number: i + 1, Start: int64(at), Size: int64(n), Checksum: String(h)})
		at += n
	}
	return parts
}

func TestFullObjectIsTheChecksumOfAllBytes(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"CRC32", "CRC32C", "CRC64NVME"} {
		rapid.Check(t, func(t *rapid.T) {
			sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 70), rapid.Just(64), rapid.IntRange(0, 5000)), 1, 12).Draw(t, "sizes")
			total := 0
			for _, n := range sizes {
				total += n
			}
			body := make([]byte, total)
			r := rand.NewPCG(uint64(total), 7)
			for i := range body {
				body[i] = byte(r.Uint64())
			}
			h := New(algorithm)
			h.Write(body)
			got, ok := Of(algorithm, FullObject, split(algorithm, body, sizes))
			if !ok || got != String(h) {
				t.Fatalf("%s of %v: %q, %v instead of %q", algorithm, sizes, got, ok, String(h))
			}
		})
	}
}

// What another implementation makes of the same parts.
func TestAgreesWithMinioGo(t *testing.T) {
	t.Parallel()
	body := make([]byte, 3<<20+17)
	r := rand.NewPCG(1, 2)
	for i := range body {
		body[i] = byte(r.Uint64())
	}
	sizes := []int{1 << 20, 1 << 20, 1 << 20, 17}
	for _, c := range []struct {
		algorithm, kind string
		theirs          minio.ChecksumType
		part            func(*minio.ObjectPart, string)
	}{
		{"CRC32", Composite, minio.ChecksumCRC32, func(p *minio.ObjectPart, s string) { p.ChecksumCRC32 = s }},
		{"CRC32", FullObject, minio.ChecksumFullObjectCRC32, func(p *minio.ObjectPart, s string) { p.ChecksumCRC32 = s }},
		{"CRC32C", Composite, minio.ChecksumCRC32C, func(p *minio.ObjectPart, s string) { p.ChecksumCRC32C = s }},
		{"CRC32C", FullObject, minio.ChecksumFullObjectCRC32C, func(p *minio.ObjectPart, s string) { p.ChecksumCRC32C = s }},
		{"CRC64NVME", FullObject, minio.ChecksumCRC64NVME, func(p *minio.ObjectPart, s string) { p.ChecksumCRC64NVME = s }},
		{"SHA1", Composite, minio.ChecksumSHA1, func(p *minio.ObjectPart, s string) { p.ChecksumSHA1 = s }},
		{"SHA256", Composite, minio.ChecksumSHA256, func(p *minio.ObjectPart, s string) { p.ChecksumSHA256 = s }},
	} {
		parts := split(c.algorithm, body, sizes)
		theirs := make([]minio.ObjectPart, len(parts))
		for i, p := range parts {
			theirs[i] = minio.ObjectPart{PartNumber: p.Number, Size: p.Size}
			c.part(&theirs[i], p.Checksum)
		}
		var want *minio.Checksum
		var err error
		if c.kind == FullObject {
			want, err = c.theirs.FullObjectChecksum(theirs)
		} else {
			want, err = c.theirs.CompositeChecksum(theirs)
		}
		require.NoError(t, err, c)
		got, ok := Of(c.algorithm, c.kind, parts)
		require.True(t, ok, c)
		if c.kind == Composite {
			assert.Equal(t, want.Encoded()+"-4", got, "%s %s", c.algorithm, c.kind)
		} else {
			assert.Equal(t, want.Encoded(), got, "%s %s", c.algorithm, c.kind)
		}
	}
}

func TestWhatHasNoChecksum(t *testing.T) {
	t.Parallel()
	a := sha256.Sum256([]byte("a"))
	sum := base64.StdEncoding.EncodeToString(a[:])
	for _, c := range []struct {
		algorithm, kind string
		parts           []object.Part
	}{
		{"SHA256", FullObject, []object.Part{{Checksum: sum}}},
		{"CRC64NVME", Composite, []object.Part{{Checksum: "AAAAAAAAAAA="}}},
		{"SHA512", Composite, []object.Part{{Checksum: sum}}},
		{"", "", []object.Part{{Checksum: sum}}},
		{"SHA256", Composite, nil},
		{"SHA256", Composite, []object.Part{{Checksum: sum}, {}}},
		{"SHA256", Composite, []object.Part{{Checksum: sum[4:]}}},
		{"SHA1", Composite, []object.Part{{Checksum: sum}}},
	} {
		got, ok := Of(c.algorithm, c.kind, c.parts)
		assert.False(t, ok, "%v", c)
		assert.Empty(t, got)
	}
	assert.Nil(t, New("MD5"))
	assert.True(t, Same("abc=-3", "abc=", 3))
	assert.True(t, Same("abc=-3", "abc=-3", 3))
	assert.True(t, Same("abc=", "abc=", 3))
	for _, said := range []string{"", "abc=-4", "abc", "abd="} {
		assert.False(t, Same("abc=-3", said, 3), said)
	}
	assert.False(t, Same("abc=", "abc=-3", 3))
}
