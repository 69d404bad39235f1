package fence

import (
	"fmt"
	"slices"
	"strings"
)

const wildcard = "*"

// Pattern says which scopes a guard governs: one (s3://data/jobs/nightly/) or,
// with a * for a whole segment, each directory that matches
// (s3://data/tenants/*/). The zero Pattern matches nothing.
type Pattern struct {
	bucket   string
	segments []string
}

// ParsePattern reads s3://bucket/seg/…/ where a segment may be *.
func ParsePattern(s string) (Pattern, error) {
	bad := func(why string) (Pattern, error) {
		return Pattern{}, fmt.Errorf("%w: %s %s; write s3://bucket/prefix/", ErrBadScope, quote(s), why)
	}
	rest, ok := strings.CutPrefix(s, "s3://")
	if !ok {
		return bad("does not begin with s3://")
	}
	bucket, prefix, ok := strings.Cut(rest, "/")
	if !ok {
		return bad("has no slash after the bucket")
	}
	if err := checkBucket(bucket); err != nil {
		return Pattern{}, err
	}
	p := Pattern{bucket: bucket}
	if prefix == "" {
		return p, nil
	}
	if !strings.HasSuffix(prefix, "/") {
		return bad("does not end in a slash")
	}
	if err := CheckKey(prefix); err != nil {
		return Pattern{}, fmt.Errorf("%w: %w", ErrBadScope, err)
	}
	if IsReserved(prefix) {
		return bad("lies under " + Reserved + ", which belongs to s3fence")
	}
	p.segments = strings.Split(strings.TrimSuffix(prefix, "/"), "/")
	for _, seg := range p.segments {
		if seg != wildcard && strings.Contains(seg, wildcard) {
			return bad("has a * inside a segment; * stands for a whole segment only")
		}
		if strings.Contains(seg, "?") {
			return bad("has a question mark; scopes are also written with ?generation=N")
		}
	}
	return p, nil
}

// Bucket is the client's name of the bucket.
func (p Pattern) Bucket() string { return p.bucket }

// String is the pattern as people write it.
func (p Pattern) String() string {
	if len(p.segments) == 0 {
		return "s3://" + p.bucket + "/"
	}
	return "s3://" + p.bucket + "/" + strings.Join(p.segments, "/") + "/"
}

// Single returns the one scope of a pattern without wildcards.
func (p Pattern) Single() (Scope, bool) {
	if p.bucket == "" || slices.Contains(p.segments, wildcard) {
		return Scope{}, false
	}
	prefix := ""
	if len(p.segments) > 0 {
		prefix = strings.Join(p.segments, "/") + "/"
	}
	return Scope{p.bucket, prefix}, true
}

// Literal is the longest key prefix that all keys of the pattern share. It is
// what a listing of the pattern's keys may start from.
func (p Pattern) Literal() string {
	n := slices.Index(p.segments, wildcard)
	if n < 0 {
		n = len(p.segments)
	}
	if n == 0 {
		return ""
	}
	return strings.Join(p.segments[:n], "/") + "/"
}

// Match finds the scope of the pattern that a key lies in. The reserved prefix
// lies in none.
func (p Pattern) Match(bucket, key string) (Scope, bool) {
	if p.bucket == "" || bucket != p.bucket || IsReserved(key) {
		return Scope{}, false
	}
	end := 0
	for _, want := range p.segments {
		n := strings.IndexByte(key[end:], '/')
		if n < 1 {
			return Scope{}, false
		}
		seg := key[end : end+n]
		if want != wildcard && want != seg || seg == "." || seg == ".." {
			return Scope{}, false
		}
		end += n + 1
	}
	return Scope{bucket, key[:end]}, true
}

// Governs reports whether a scope is one of the pattern's.
func (p Pattern) Governs(s Scope) bool {
	got, ok := p.Match(s.bucket, s.prefix)
	return ok && got == s
}

// Overlaps reports whether some key could lie in scopes of both patterns. It is
// symmetric. Since scopes are prefixes, patterns overlap as soon as their
// common length of segments can be the same.
func (p Pattern) Overlaps(q Pattern) bool {
	if p.bucket != q.bucket {
		return false
	}
	for i := range min(len(p.segments), len(q.segments)) {
		a, b := p.segments[i], q.segments[i]
		if a != b && a != wildcard && b != wildcard {
			return false
		}
	}
	return true
}

// Touches reports whether some key that begins with prefix could lie in a scope
// of the pattern.
func (p Pattern) Touches(prefix string) bool {
	for _, want := range p.segments {
		seg, rest, whole := strings.Cut(prefix, "/")
		if !whole {
			return want == wildcard || strings.HasPrefix(want, seg)
		}
		if want != wildcard && want != seg {
			return false
		}
		prefix = rest
	}
	return true
}
