package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"math"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/fence"
)

const (
	version = 1
	idSize  = 4
	// overhead is what [cipher.NewGCMWithRandomNonce] adds: nonce and tag.
	overhead = 12 + 16
	// label begins the info of every derivation; another form gets another one.
	label = "s3fence session v1 "

	// keyPrefix and keySize make access keys that every SDK takes and that people
	// recognize: 20 capital letters and digits, of which 16 are random.
	keyPrefix = "S3FT"
	keySize   = 20
	// secretBytes become 40 characters, as secret keys of AWS are.
	secretBytes = 30
)

// Strict, so that one token has one spelling.
var text = base64.RawURLEncoding.Strict()

// seal seals and opens under one session secret for one parent. Safe for
// concurrent use.
type seal struct {
	id   [idSize]byte
	aead cipher.AEAD
	root []byte
}

func newSeal(deployment, secret, parentSecret string) (*seal, error) {
	in := binary.BigEndian.AppendUint64(nil, uint64(len(secret)))
	in = append(in, secret...)
	in = append(in, parentSecret...)
	root, err := hkdf.Extract(sha256.New, in, []byte(deployment))
	if err != nil {
		return nil, err
	}
	s := &seal{root: root}
	id, err := s.derive("id", idSize)
	if err != nil {
		return nil, err
	}
	copy(s.id[:], id)
	key, err := s.derive("seal", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	s.aead, err = cipher.NewGCMWithRandomNonce(block)
	return s, err
}

// derive is one output of the seal's root; purposes must not be prefixes of each
// other.
func (s *seal) derive(purpose string, size int) ([]byte, error) {
	return hkdf.Expand(sha256.New, s.root, label+purpose, size)
}

// secretKey is what the holder of a token signs with.
func (s *seal) secretKey(accessKey string, raw []byte) (string, error) {
	b, err := s.derive("sign "+accessKey+string(raw), secretBytes)
	return text.EncodeToString(b), err
}

// newAccessKey makes a temporary access key.
func newAccessKey() string {
	var b [(keySize - len(keyPrefix)) * 5 / 8]byte
	_, _ = rand.Read(b[:]) // never fails
	return keyPrefix + base32.StdEncoding.EncodeToString(b[:])
}

// temporary reports whether an access key is of the form that is made here.
func temporary(accessKey string) bool {
	rest, ok := strings.CutPrefix(accessKey, keyPrefix)
	return ok && len(accessKey) == keySize && !strings.ContainsFunc(rest, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < '2' || r > '7')
	})
}

// seal makes the bytes of a session token.
func (s *seal) seal(parent, accessKey string, c auth.Carried) []byte {
	raw := append([]byte{version}, s.id[:]...)
	raw = binary.AppendUvarint(raw, uint64(len(parent)))
	raw = append(raw, parent...)
	plain := binary.AppendUvarint(nil, uint64(c.Issued.Unix()))
	plain = binary.AppendUvarint(plain, uint64(c.Generation))
	plain = binary.AppendUvarint(plain, uint64(c.Token))
	plain = append(plain, c.Scope.String()...)
	return s.aead.Seal(raw, nil, plain, bound(raw, accessKey))
}

// bound is what a token is authenticated with but does not seal. The part before
// the nonce says its own length, so the two cannot be joined otherwise.
func bound(header []byte, accessKey string) []byte {
	return append(header[:len(header):len(header)], accessKey...)
}

// opened is a token taken apart but not believed yet.
type opened struct {
	raw    []byte
	id     [idSize]byte
	parent string
	header int // its length
}

// parse takes a token apart; false where it cannot be one.
func parse(token string) (o opened, ok bool) {
	// The decoder skips line breaks, which would be a second spelling.
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return o, false
	}
	raw, err := text.DecodeString(token)
	if err != nil || len(raw) < 1+idSize || raw[0] != version {
		return o, false
	}
	o.raw, o.id = raw, [idSize]byte(raw[1:])
	rest := raw[1+idSize:]
	size, n := binary.Uvarint(rest)
	if n <= 0 || len(rest)-n < overhead || size > uint64(len(rest)-n-overhead) {
		return o, false
	}
	o.parent = string(rest[n : n+int(size)])
	o.header = 1 + idSize + n + int(size)
	return o, true
}

// open believes a token that was sealed with s for this access key.
func (s *seal) open(o *opened, accessKey string) (c auth.Carried, ok bool) {
	plain, err := s.aead.Open(nil, nil, o.raw[o.header:], bound(o.raw[:o.header], accessKey))
	if err != nil {
		return c, false
	}
	var numbers [3]int64
	for i := range numbers {
		v, n := binary.Uvarint(plain)
		if n <= 0 || v > math.MaxInt64 {
			return c, false
		}
		numbers[i], plain = int64(v), plain[n:]
	}
	sc, err := fence.ParseScope(string(plain))
	if err != nil {
		return c, false
	}
	c = auth.Carried{Scope: sc, Generation: fence.Generation(numbers[1]), Token: fence.Token(numbers[2]), Issued: time.Unix(numbers[0], 0)}
	return c, c.Generation >= fence.FirstGeneration && c.Token > 0
}
