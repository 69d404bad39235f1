// Package auth says who a caller is and what it may do: credentials with rights
// on buckets and prefixes, and the principal that a verified request acts as.
//
// It checks no signatures (package sigv4 does, asking a [Keyring] for secrets)
// and judges no tokens (package fence does). Values are immutable and safe for
// concurrent use.
package auth

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
)

// Right is a set of things that a credential may do.
type Right uint8

// The rights. None implies another.
const (
	// Read looks at objects and lists.
	Read Right = 1 << iota
	// Write changes objects.
	Write
	// Lock takes, renews and releases locks.
	Lock
	// Admin changes guards and bucket settings, raises marks, takes locks by force.
	Admin
)

// All is every right.
const All = Read | Write | Lock | Admin

var rightNames = []struct {
	right Right
	name  string
}{{Read, "read"}, {Write, "write"}, {Lock, "lock"}, {Admin, "admin"}}

// ParseRight reads the name of one right.
func ParseRight(s string) (Right, error) {
	for _, n := range rightNames {
		if n.name == s {
			return n.right, nil
		}
	}
	return 0, fmt.Errorf("unknown right %q; the rights are read, write, lock, admin", s)
}

// String lists the rights by name.
func (r Right) String() string {
	var names []string
	for _, n := range rightNames {
		if r&n.right != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}

// Anywhere as a Grant's bucket stands for every bucket.
const Anywhere = "*"

// Grant gives rights on the keys of a bucket that begin with a prefix.
type Grant struct {
	// Bucket is a bucket's name, or Anywhere.
	Bucket string
	// Prefix is empty for the whole bucket.
	Prefix string
	Rights Right
}

// Credential is one access key with what it may do.
type Credential struct {
	AccessKey string
	SecretKey string
	Grants    []Grant
	// Unfenced lets it write into guarded scopes without a token.
	Unfenced bool
}

// Carried is the scope and token that a principal's credentials carry, so that
// each of its requests inside the scope is fenced without saying so.
type Carried struct {
	Scope      fence.Scope
	Generation fence.Generation
	Token      fence.Token
	// Issued is when the credential itself asked for them. Credentials that these
	// ask for in their turn inherit it, so that nobody prolongs them.
	Issued time.Time
}

// Principal is who a verified request acts as.
type Principal struct {
	// Credential is, for temporary credentials, the one that asked for them.
	*Credential
	// Carried is nil for credentials that carry no token.
	Carried *Carried
}

// May reports whether the credential has all of the rights on one key. An empty
// key asks about the bucket itself and needs a grant on the whole bucket.
func (c *Credential) May(r Right, bucket, key string) bool {
	return c.allowed(r, bucket, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

// MayUnder reports whether the credential has all of the rights on every key
// that begins with prefix, which is what a list of that prefix shows.
func (c *Credential) MayUnder(r Right, bucket, prefix string) bool {
	return c.May(r, bucket, prefix)
}

// MaySomewhere reports whether the credential has one of the rights on some key
// of the bucket: enough to learn that the bucket exists.
func (c *Credential) MaySomewhere(r Right, bucket string) bool {
	for _, g := range c.Grants {
		if g.Rights&r != 0 && (g.Bucket == Anywhere || g.Bucket == bucket) {
			return true
		}
	}
	return false
}

// MaySomewhereUnder reports whether the credential has one of the rights on some key
// that begins with prefix: enough to learn which rule such keys are under.
func (c *Credential) MaySomewhereUnder(r Right, bucket, prefix string) bool {
	for _, g := range c.Grants {
		if g.Rights&r != 0 && (g.Bucket == Anywhere || g.Bucket == bucket) && (strings.HasPrefix(g.Prefix, prefix) || strings.HasPrefix(prefix, g.Prefix)) {
			return true
		}
	}
	return false
}

// MayAnywhere reports whether the credential has one of the rights on anything at
// all: enough for what belongs to no place.
func (c *Credential) MayAnywhere(r Right) bool {
	for _, g := range c.Grants {
		if g.Rights&r != 0 {
			return true
		}
	}
	return false
}

func (c *Credential) allowed(r Right, bucket string, covers func(prefix string) bool) bool {
	var have Right
	for _, g := range c.Grants {
		if (g.Bucket == Anywhere || g.Bucket == bucket) && covers(g.Prefix) {
			have |= g.Rights
		}
	}
	return have&r == r
}

// Errors of a Keyring.
var (
	// ErrUnknownKey: no credential has this access key.
	ErrUnknownKey = errors.New("the access key id you provided does not exist in our records")
	// ErrBadToken: the session token is none that this deployment gave out with
	// this access key, or is missing.
	ErrBadToken = errors.New("the session token is missing, or not one that this deployment gave out with this access key")
	// ErrExpired: the temporary credentials are too old; fetch new ones.
	ErrExpired = errors.New("the temporary credentials have expired; fetch new ones")
)

// Keyring finds principals by access key.
type Keyring struct {
	byKey map[string]*Principal
}

// NewKeyring refuses two credentials with one access key.
func NewKeyring(creds []Credential) (*Keyring, error) {
	k := &Keyring{byKey: make(map[string]*Principal, len(creds))}
	for i := range creds {
		c := creds[i]
		if c.AccessKey == "" || c.SecretKey == "" {
			return nil, fmt.Errorf("credential %d has no access key or no secret key", i+1)
		}
		if k.byKey[c.AccessKey] != nil {
			return nil, fmt.Errorf("two credentials have the access key %s", c.AccessKey)
		}
		k.byKey[c.AccessKey] = &Principal{Credential: &c}
	}
	return k, nil
}

// Credentials are all that the keyring has, in no order. They must not be changed.
func (k *Keyring) Credentials() iter.Seq[*Credential] {
	return func(yield func(*Credential) bool) {
		for _, p := range k.byKey {
			if !yield(p.Credential) {
				return
			}
		}
	}
}

// Principal finds who an access key, with the session token sent along, acts as.
func (k *Keyring) Principal(_ context.Context, accessKey, sessionToken string) (*Principal, error) {
	p := k.byKey[accessKey]
	if p == nil {
		return nil, ErrUnknownKey
	}
	if sessionToken != "" {
		return nil, ErrBadToken
	}
	return p, nil
}
