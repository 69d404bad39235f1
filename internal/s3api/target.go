package s3api

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"unicode"

	"github.com/s3fence/s3fence/internal/fence"
)

// place finds bucket and key of a request. path is the decoded path as a whole:
// what the client escaped decides nothing, the bytes do.
func (s *Server) place(host, path string) (bucket, key string, l level, err error) {
	if path == "" || path[0] != '/' {
		return "", "", 0, invalid("the path %q does not begin with a slash", shorten(path))
	}
	key = path[1:]
	if bucket = s.hostBucket(host); bucket == "" {
		bucket, key, _ = strings.Cut(key, "/")
		if bucket == "" && key == "" {
			return "", "", serviceLevel, nil
		}
	}
	if !bucketName(bucket) {
		return "", "", 0, fail(400, "InvalidBucketName", "The bucket name %q is not valid: 3 to 63 letters, digits, dots, hyphens.", shorten(bucket))
	}
	switch {
	case len(key) > fence.MaxKeyBytes:
		return "", "", 0, fail(400, "KeyTooLongError", "Your key is %d bytes long; at most %d are allowed.", len(key), fence.MaxKeyBytes)
	case key == "":
		return bucket, "", bucketLevel, nil
	}
	return bucket, key, objectLevel, nil
}

// hostBucket is the bucket that a virtual-hosted-style request names in its
// host, or "".
func (s *Server) hostBucket(host string) string {
	if s.domain == "" {
		return ""
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if n := len(host) - len(s.domain) - 1; n > 0 && host[n] == '.' && strings.EqualFold(host[n+1:], s.domain) {
		return strings.ToLower(host[:n])
	}
	return ""
}

// bucketName takes what any store takes, old names with capitals and
// underscores included.
func bucketName(b string) bool {
	if len(b) < 3 || len(b) > 63 || b == "..." {
		return false
	}
	for i := range len(b) {
		switch c := b[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', 'A' <= c && c <= 'Z', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

// climbs reports whether a key or prefix leads out of its bucket where a store
// joins the two as paths: some take free/../data/k for data/k, past the rights
// and the guards of data. Backslashes count, because they do for such stores on
// Windows.
func climbs(key string) bool {
	depth := 0
	for seg := range strings.FieldsFuncSeq(key, isSeparator) {
		switch seg {
		case ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

// reserved reports whether a key is ours, or one that a store over a file system
// may take for ours: in other capitals, with slashes or dots between that lead nowhere
// (measured: MinIO and versitygw take /.s3fence/k for .s3fence/k), or the directory
// itself, which as an object would keep every write under a guard from its place.
func reserved(key string) bool {
	const n = len(fence.Reserved) - 1
	if len(key) < n {
		return false
	}
	if strings.EqualFold(key[:n], fence.Reserved[:n]) && (len(key) == n || isSeparator(rune(key[n]))) {
		return true
	}
	depth, ours := 0, false
	for seg := range strings.FieldsFuncSeq(key, isSeparator) {
		switch seg {
		case ".":
		case "..":
			depth = max(depth-1, 0)
		default:
			if depth == 0 {
				ours = strings.EqualFold(seg, fence.Reserved[:n])
			}
			depth++
		}
	}
	return ours && depth > 0
}

// stepsBack reports whether a key has a ".." segment, and so may stand for a key
// under another prefix of its bucket.
func stepsBack(key string) bool {
	if !strings.Contains(key, "..") {
		return false
	}
	for seg := range strings.FieldsFuncSeq(key, isSeparator) {
		if seg == ".." {
			return true
		}
	}
	return false
}

// strays reports whether the id of an upload or of a version is none that a store
// gave out but, for a store over a file system, a path: some take it for the name of
// a directory, so that ".." in it leads to other keys and buckets, and one of dots or
// slashes alone to all uploads of a key.
func strays(id string) bool {
	named := false
	for seg := range strings.FieldsFuncSeq(id, isSeparator) {
		if seg == "." || seg == ".." {
			return true
		}
		named = true
	}
	return !named || strings.ContainsFunc(id, unicode.IsControl)
}

func isSeparator(r rune) bool { return r == '/' || r == '\\' }

func badName(key string) error {
	return fail(http.StatusBadRequest, codeInvalidName, "The key %q leads out of its bucket by its \"..\" segments; stores may take it for a key of another bucket. Choose another name.", shorten(key))
}

// resource is the path that error bodies name.
func resource(bucket, key string) string {
	switch {
	case bucket == "":
		return "/"
	case key == "":
		return "/" + bucket
	}
	return "/" + bucket + "/" + key
}

// shorten keeps messages short whatever a client sent.
func shorten(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// pathOf is the way a client of ours reaches an object.
func (rq *request) location() string {
	scheme := "http"
	if rq.r.TLS != nil {
		scheme = "https"
	}
	path := "/" + escapePath(rq.key)
	if rq.s.hostBucket(rq.r.Host) == "" {
		path = "/" + rq.bucket + path
	}
	return fmt.Sprintf("%s://%s%s", scheme, rq.r.Host, path)
}
