package checksum

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
)

// crc is the arithmetic of one CRC: polynomials over GF(2) modulo its own, with
// the bits of a word reflected, so that the highest of them is x^0.
type crc struct {
	bits int
	poly uint64
}

// The CRCs of S3 begin with all ones and end with their complement, of which
// joining two of them takes care by itself: what the one adds the other removes.
var crcs = map[sigv4.Algorithm]crc{
	sigv4.CRC32:     {32, crc32.IEEE},
	sigv4.CRC32C:    {32, crc32.Castagnoli},
	sigv4.CRC64NVME: {64, 0x9a6c9329ac4bc9b5}, // NVM Express, NVM Command Set 1.0, section 5.2.1.3.4
}

// times multiplies two polynomials.
func (c crc) times(a, b uint64) uint64 {
	var product uint64
	for bit := uint64(1) << (c.bits - 1); bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= c.poly
		}
	}
	return product
}

// shift is x to the power of 8n, by which n more bytes move a CRC on.
func (c crc) shift(n int64) uint64 {
	power := uint64(1) << (c.bits - 1)  // x^0
	square := uint64(1) << (c.bits - 9) // x^8
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			power = c.times(power, square)
		}
		square = c.times(square, square)
	}
	return power
}

// join makes the CRC of the whole of the CRCs of its parts.
func join(a sigv4.Algorithm, sums [][]byte, parts []object.Part) []byte {
	c := crcs[a]
	var whole, shift uint64
	size := int64(-1)
	for i, sum := range sums {
		var buf [8]byte
		copy(buf[8-len(sum):], sum)
		if parts[i].Size != size { // most parts are of one size
			size = parts[i].Size
			shift = c.shift(size)
		}
		whole = c.times(shift, whole) ^ binary.BigEndian.Uint64(buf[:])
	}
	return binary.BigEndian.AppendUint64(nil, whole)[8-c.bits/8:]
}
