package fence

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Reserved is the key prefix that belongs to s3fence in every bucket: physical
// objects, witness, scratch. Keys under it do not exist for clients.
const Reserved = ".s3fence/"

// MaxKeyBytes is the longest key S3 allows
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html).
const MaxKeyBytes = 1024

// ErrBadScope is wrapped by every error about a scope or pattern as written.
var ErrBadScope = errors.New("not a scope")

// ErrBadKey is wrapped by every error about a key that a guarded bucket does
// not take, because a store could take it for another one.
var ErrBadKey = errors.New("key not allowed in a guarded bucket")

// Scope is a bucket and a key prefix governed by one fence, written
// s3://bucket/prefix/. The prefix is empty (the whole bucket) or ends in a
// slash. Scopes never nest. A Scope is comparable and safe as a map key; its
// zero value means "none".
type Scope struct {
	bucket string
	prefix string
}

// Bucket is the client's name of the bucket.
func (s Scope) Bucket() string { return s.bucket }

// Prefix is the prefix of every key in the scope: empty or ending in a slash.
func (s Scope) Prefix() string { return s.prefix }

// IsZero reports whether s is no scope at all.
func (s Scope) IsZero() bool { return s.bucket == "" }

// String is the scope as people write it: s3://bucket/prefix/.
func (s Scope) String() string {
	if s.IsZero() {
		return ""
	}
	return "s3://" + s.bucket + "/" + s.prefix
}

// Contains reports whether a key of a bucket lies in the scope.
func (s Scope) Contains(bucket, key string) bool {
	return !s.IsZero() && bucket == s.bucket && strings.HasPrefix(key, s.prefix)
}

// ParseScope reads s3://bucket/prefix/ (or s3://bucket/ for a whole bucket).
// Wildcards are not scopes; see [ParsePattern].
func ParseScope(s string) (Scope, error) {
	p, err := ParsePattern(s)
	if err != nil {
		return Scope{}, err
	}
	sc, ok := p.Single()
	if !ok {
		return Scope{}, fmt.Errorf("%w: %s is a template; name one directory of it", ErrBadScope, quote(s))
	}
	return sc, nil
}

// ParseScopeRef reads a scope as requests name it: s3://bucket/prefix/,
// optionally with ?generation=N. Generation is zero where none is named.
func ParseScopeRef(s string) (Scope, Generation, error) {
	name, query, has := strings.Cut(s, "?")
	sc, err := ParseScope(name)
	if err != nil {
		return Scope{}, 0, err
	}
	if !has {
		return sc, 0, nil
	}
	number, ok := strings.CutPrefix(query, "generation=")
	if !ok {
		return Scope{}, 0, fmt.Errorf("%w: %s: only ?generation=N may follow a scope", ErrBadScope, quote(s))
	}
	g, err := ParseToken(number)
	if err != nil {
		return Scope{}, 0, fmt.Errorf("%w: %s: the generation must be a whole number from 1", ErrBadScope, quote(s))
	}
	return sc, Generation(g), nil
}

// CheckKey refuses the keys that stores were seen to take for another key:
// an empty key, a leading slash, and empty, "." or ".." segments (measured:
// jobs//a, jobs/./a, x/../jobs/a and /jobs/a all reached jobs/a on some
// store, past a fence on jobs/). The key is judged decoded. Control bytes and
// invalid UTF-8 are refused for the same reason. A trailing slash (a directory
// marker) is allowed.
func CheckKey(key string) error {
	bad := func(why string) error {
		return fmt.Errorf("%w: %s %s; stores may take it for another key", ErrBadKey, quote(key), why)
	}
	switch {
	case key == "":
		return bad("is empty")
	case len(key) > MaxKeyBytes:
		return bad(fmt.Sprintf("is longer than %d bytes", MaxKeyBytes))
	case key[0] == '/':
		return bad("begins with a slash")
	case !utf8.ValidString(key):
		return bad("is not UTF-8")
	case strings.ContainsRune(key, 0):
		return bad("has a NUL byte")
	}
	for seg := range strings.SplitSeq(strings.TrimSuffix(key, "/"), "/") {
		switch seg {
		case "":
			return bad("has an empty segment")
		case ".", "..":
			return bad("has the segment " + seg)
		}
	}
	return nil
}

// IsReserved reports whether a key belongs to s3fence itself.
func IsReserved(key string) bool { return strings.HasPrefix(key, Reserved) }

func checkBucket(b string) error {
	if len(b) < 3 || len(b) > 63 {
		return fmt.Errorf("%w: bucket %s must have 3 to 63 characters", ErrBadScope, quote(b))
	}
	for i := range len(b) {
		c := b[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return fmt.Errorf("%w: bucket %s may have lower case letters, digits, dots and hyphens only", ErrBadScope, quote(b))
		}
	}
	return nil
}
