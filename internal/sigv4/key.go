package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"sync"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"

	// maxKeys bounds the cache: 1024 credentials in use on one day.
	maxKeys = 1024
)

// keyID names a signing key. It holds the secret itself, not the access key, so
// that a rotated secret can never be served the key of its predecessor.
type keyID struct {
	secret, date, region, service string
}

// keyCache keeps derived signing keys: deriving one costs four HMACs. Only
// credentials that exist get here, so strangers cannot push entries out.
type keyCache struct {
	mu   sync.RWMutex
	keys map[keyID]*[sha256.Size]byte
}

// get returns the signing key of id, derived when it is not cached. Safe for
// concurrent use; the result must not be changed.
func (c *keyCache) get(id keyID) *[sha256.Size]byte {
	c.mu.RLock()
	key := c.keys[id]
	c.mu.RUnlock()
	if key != nil {
		return key
	}
	key = deriveKey(id)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil {
		c.keys = make(map[keyID]*[sha256.Size]byte)
	}
	// Any victim will do: keys of past days are dead weight and the rest is
	// derived again in microseconds.
	for victim := range c.keys {
		if len(c.keys) < maxKeys {
			break
		}
		delete(c.keys, victim)
	}
	c.keys[id] = key
	return key
}

func deriveKey(id keyID) *[sha256.Size]byte {
	k := hmacSHA256([]byte("AWS4"+id.secret), id.date)
	k = hmacSHA256(k, id.region)
	k = hmacSHA256(k, id.service)
	k = hmacSHA256(k, terminator)
	return (*[sha256.Size]byte)(k)
}

func hmacSHA256(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}
