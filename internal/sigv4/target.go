package sigv4

import (
	"net/http"
	"strings"
)

// maxParams bounds the parameters of one query. S3 knows no request with more
// than two dozen; the bound keeps sorting them cheap.
const maxParams = 1000

// Param is one parameter of a query, decoded. "?acl" and "?acl=" are both
// {Name: "acl"}.
type Param struct {
	Name, Value string
}

// RawTarget returns path and query of the request line byte for byte as the
// client sent them, the query without its "?". Absolute-form request lines
// (http://host/path) are reduced to their path; net/http has taken their host for
// that of the request. An empty path is "/". Fragments and names of users have no
// place in a request line (RFC 9112, section 3.2; RFC 9110, section 4.2.4).
//
// r.URL is not used where the request came over the wire: parsing and printing
// it again may change escapes, and a signature is over bytes.
func RawTarget(r *http.Request) (rawPath, rawQuery string, err error) {
	target := r.RequestURI
	if target == "" {
		if rawPath = r.URL.EscapedPath(); rawPath == "" {
			rawPath = "/"
		}
		target = rawPath
		if r.URL.RawQuery != "" {
			target += "?" + r.URL.RawQuery
		}
	}
	for i := range len(target) {
		if target[i] <= ' ' || target[i] == 0x7f {
			return "", "", refuse(CodeInvalidURI, "The request line holds the byte 0x%02x at offset %d. Percent-encode it.", target[i], i)
		}
		if target[i] == '#' {
			return "", "", refuse(CodeInvalidURI, "The request line holds a # at offset %d, where a fragment begins. In a name it is written %%23.", i)
		}
	}
	if target[0] != '/' {
		scheme, rest, ok := strings.Cut(target, "://")
		if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
			return "", "", refuse(CodeInvalidURI, "The request target %q is neither a path nor an http URL.", clip(target))
		}
		i := strings.IndexAny(rest, "/?")
		authority := rest
		if i >= 0 {
			authority = rest[:i]
		}
		if strings.Contains(authority, "@") {
			return "", "", refuse(CodeInvalidURI, "The request target names a user. Leave everything before the @ out.")
		}
		switch {
		case i < 0:
			target = "/"
		case rest[i] == '?':
			target = "/" + rest[i:]
		default:
			target = rest[i:]
		}
	}
	rawPath, rawQuery, _ = strings.Cut(target, "?")
	return rawPath, rawQuery, nil
}

// ParseQuery splits a raw query on "&" only (a ";" is data) and decodes names
// and values, "+" as space. Order and duplicates are kept; empty pieces are
// dropped. A malformed percent escape is an *Error that shows it.
func ParseQuery(raw string) ([]Param, error) {
	if raw == "" {
		return nil, nil
	}
	n := strings.Count(raw, "&") + 1
	if n > maxParams {
		return nil, refuse(CodeInvalidURI, "The query has %d parameters; at most %d are accepted.", n, maxParams)
	}
	params := make([]Param, 0, n)
	for piece := range strings.SplitSeq(raw, "&") {
		if piece == "" {
			continue
		}
		name, value, _ := strings.Cut(piece, "=")
		var p Param
		var err error
		if p.Name, err = unescape(name, true); err != nil {
			return nil, err
		}
		if p.Value, err = unescape(value, true); err != nil {
			return nil, err
		}
		params = append(params, p)
	}
	return params, nil
}

// DecodePath decodes the percent escapes of a raw path; "+" stays a plus.
// Decode the whole path before splitting it: the signature does not tell %2F
// from "/" past the first segment.
func DecodePath(raw string) (string, error) { return unescape(raw, false) }

// EncodePath encodes a decoded path the way SigV4 for S3 does: everything but
// A-Z a-z 0-9 - _ . ~ and "/" as %XX in upper case.
func EncodePath(path string) string { return escape(path, true) }

// EncodeQuery encodes a decoded name or value of a query the way SigV4 does;
// "/" is encoded too.
func EncodeQuery(s string) string { return escape(s, false) }

const upperHex = "0123456789ABCDEF"

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '_' || c == '.' || c == '~'
}

func escape(s string, keepSlash bool) string {
	plain := func(c byte) bool { return unreserved(c) || keepSlash && c == '/' }
	n := 0
	for i := range len(s) {
		if !plain(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	out := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; plain(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(out)
}

func unescape(s string, plusIsSpace bool) (string, error) {
	if !strings.Contains(s, "%") && (!plusIsSpace || !strings.Contains(s, "+")) {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) {
				return "", refuse(CodeInvalidURI, "The escape %q at the end of %q is cut short. A literal percent sign is written %%25.", s[i:], clip(s))
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 0 || lo < 0 {
				return "", refuse(CodeInvalidURI, "The escape %q in %q is not hexadecimal. A literal percent sign is written %%25.", s[i:i+3], clip(s))
			}
			out = append(out, byte(hi<<4|lo))
			i += 2
		case c == '+' && plusIsSpace:
			out = append(out, ' ')
		default:
			out = append(out, c)
		}
	}
	return string(out), nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// clip keeps messages short whatever a client sent.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
