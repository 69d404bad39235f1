package sigv4

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// appendHeaders appends the canonical headers, a line per signed name, the empty
// line, the list of names and the payload hash: everything of a canonical
// request after the query.
func appendHeaders(dst []byte, r *http.Request, c *claim, payload string) ([]byte, error) {
	for _, name := range c.signed {
		dst = append(dst, name...)
		dst = append(dst, ':')
		values, ok := headerValues(r, name)
		if !ok {
			return nil, refuse(CodeSignatureDoesNotMatch, "The header %s is listed as signed but did not arrive. Something on the way may have removed it.", name)
		}
		for i, v := range values {
			if strings.ContainsAny(v, "\r\n") {
				return nil, refuse(CodeInvalidRequest, "The header %s holds a line break.", name)
			}
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendCollapsed(dst, v)
		}
		dst = append(dst, '\n')
	}
	dst = append(dst, '\n')
	dst = append(dst, c.signedList...)
	dst = append(dst, '\n')
	return append(dst, payload...), nil
}

// commonKeys spares the hot path the allocation of canonical names that net/http
// does not know.
var commonKeys = func() map[string]string {
	keys := make(map[string]string)
	for _, name := range []string{
		"amz-sdk-invocation-id", "amz-sdk-request", "x-amz-checksum-crc32", "x-amz-checksum-crc64nvme", "x-amz-content-sha256",
		"x-amz-date", "x-amz-decoded-content-length", "x-amz-sdk-checksum-algorithm", "x-amz-security-token", "x-amz-trailer",
	} {
		keys[name] = http.CanonicalHeaderKey(name)
	}
	return keys
}()

// headerValues looks a lower-case name up, also among those which net/http takes
// out of the header map.
func headerValues(r *http.Request, name string) ([]string, bool) {
	if name == "host" {
		return []string{r.Host}, true
	}
	key, ok := commonKeys[name]
	if !ok {
		key = http.CanonicalHeaderKey(name)
	}
	if values, ok := r.Header[key]; ok {
		return values, true
	}
	switch name {
	case "content-length":
		if r.ContentLength >= 0 {
			return []string{strconv.FormatInt(r.ContentLength, 10)}, true
		}
	case "transfer-encoding":
		return r.TransferEncoding, len(r.TransferEncoding) > 0
	}
	return nil, false
}

// appendCollapsed trims a header value and makes one space of each run.
func appendCollapsed(dst []byte, v string) []byte {
	v = strings.Trim(v, " \t")
	if !strings.Contains(v, "  ") {
		return append(dst, v...)
	}
	for i := range len(v) {
		if v[i] == ' ' && v[i-1] == ' ' {
			continue
		}
		dst = append(dst, v[i])
	}
	return dst
}

// canonicalQuery sorts the parameters, all but X-Amz-Signature, by encoded name
// and value.
func canonicalQuery(params []Param) string {
	encoded := make([]Param, 0, len(params))
	for _, p := range params {
		if p.Name != "X-Amz-Signature" {
			encoded = append(encoded, Param{escape(p.Name, false), escape(p.Value, false)})
		}
	}
	return joinSorted(encoded)
}

func joinSorted(params []Param) string {
	slices.SortFunc(params, func(a, b Param) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
	})
	n := 0
	for _, p := range params {
		n += len(p.Name) + len(p.Value) + 2
	}
	out := make([]byte, 0, n)
	for i, p := range params {
		if i > 0 {
			out = append(out, '&')
		}
		out = append(out, p.Name...)
		out = append(out, '=')
		out = append(out, p.Value...)
	}
	return string(out)
}

// canonicalPaths lists the readings of the path a client may have signed: as
// sent, and decoded then encoded anew.
//
// Two raw targets share a reading only when they decode to the same bytes, so
// trying several does not let a signature for one object stand for another. The
// exception is %2F in the first segment, where decoding would move the border
// between bucket and key; there only the raw form counts.
func canonicalPaths(raw string) ([]string, error) {
	decoded, err := unescape(raw, false)
	if err != nil {
		return nil, err
	}
	again := escape(decoded, true)
	first, _, _ := strings.Cut(strings.TrimPrefix(raw, "/"), "/")
	if again == raw || strings.Contains(first, "%2F") || strings.Contains(first, "%2f") {
		return []string{raw}, nil
	}
	return []string{raw, again}, nil
}

// canonicalQueries is the same for the query: sorted and encoded, and as sent,
// which is what curl before 8 signs, unsorted and unencoded. A presigned URL
// has no second reading: as sent, it holds its own signature.
func canonicalQueries(params []Param, raw string, kind Kind) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		normal := canonicalQuery(params)
		if yield(normal) && kind == KindHeader && raw != normal {
			yield(raw)
		}
	}
}

// scratch recycles the memory of canonical requests.
var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// maxScratch keeps a giant request from pinning its buffer in the pool.
const maxScratch = 64 << 10

func release(b *[]byte) {
	if cap(*b) <= maxScratch {
		*b = (*b)[:0]
		scratch.Put(b)
	}
}

// appendStringToSign appends the string to sign of a canonical request.
func appendStringToSign(dst []byte, c *claim, canonical []byte) []byte {
	dst = append(dst, algorithm...)
	dst = append(dst, '\n')
	dst = append(dst, c.stamp...)
	dst = append(dst, '\n')
	dst = append(dst, c.scope()...)
	dst = append(dst, '\n')
	sum := sha256.Sum256(canonical)
	return hex.AppendEncode(dst, sum[:])
}
