package s3api

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/upstream"
)

var errStrange = errors.New("the store's answer is not the XML it should be")

// translate rewrites a document of the store for the client: bucket and place
// get the client's names, and entries of a list whose keys are ours go. All
// other bytes stay as they are.
func (rq *request) translate(doc []byte) ([]byte, error) {
	d := xml.NewDecoder(bytes.NewReader(upstream.Readable(doc)))
	d.Strict = false
	var out bytes.Buffer
	out.Grow(len(doc) + 128)
	copied := int64(0)
	depth := 0
	encoded := rq.param("encoding-type") == "url"
	marker := pastReserved(doc, encoded)
	var child string      // name of the root's child that the decoder is in
	var childStart int64  // where it begins
	var textStart int64   // where the content of the element at hand begins
	var name, key string  // of the element at hand; the child's key or prefix
	var text bytes.Buffer // its text
	for {
		before := d.InputOffset()
		tok, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errStrange, err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			depth++
			name = t.Name.Local
			if depth == 2 {
				child, childStart, key = name, before, ""
			}
			text.Reset()
			textStart = d.InputOffset()
		case xml.CharData:
			text.Write(t)
		case xml.EndElement:
			ending := t.Name.Local
			if depth == 3 && (ending == "Key" || ending == "Prefix") {
				key = text.String()
			}
			if depth == 2 {
				switch {
				case ending == name && rq.renamed(ending) != "" && textStart <= before:
					out.Write(doc[copied:textStart])
					x := xmlWriter{}
					x.escape(rq.renamed(ending))
					out.Write(x.buf.Bytes())
					copied = before
				case ending == "NextKeyMarker" && marker != "":
					out.Write(doc[copied:textStart])
					x := xmlWriter{}
					x.escape(marker)
					out.Write(x.buf.Bytes())
					copied = before
				case (ending == "NextUploadIdMarker" || ending == "NextVersionIdMarker") && marker != "", hides(child, key, encoded):
					out.Write(doc[copied:childStart])
					copied = d.InputOffset()
				}
			}
			depth--
			text.Reset()
		}
	}
	if depth != 0 || child == "" && name == "" && len(bytes.TrimSpace(doc)) > 0 {
		return nil, errStrange
	}
	out.Write(doc[copied:])
	return out.Bytes(), nil
}

// pastReserved is what a list's next page begins after, in place of a key of ours,
// whose name nobody is to learn: the last name that a key of ours could have. It is ""
// where the store's own marker may stay.
func pastReserved(doc []byte, encoded bool) string {
	var list struct {
		NextKeyMarker string
	}
	d := xml.NewDecoder(bytes.NewReader(upstream.Readable(doc)))
	d.Strict = false
	if err := d.Decode(&list); err != nil || !isReserved(list.NextKeyMarker, encoded) {
		return ""
	}
	if encoded {
		return escapePath(fence.Reserved + "~")
	}
	return fence.Reserved + "~"
}

// cutsReserved reports whether a list with this delimiter would roll our keys up into
// a prefix that is not ours alone, so that nobody could say whether to show it.
func cutsReserved(prefix, delimiter string) bool {
	rest, under := strings.CutPrefix(fence.Reserved, prefix)
	if !under || delimiter == "" {
		return false
	}
	i := strings.Index(rest, delimiter)
	return i >= 0 && i+len(delimiter) < len(rest)
}

// isList reports whether a document of the store lists objects or buckets.
func isList(doc []byte) bool {
	d := xml.NewDecoder(bytes.NewReader(upstream.Readable(doc)))
	d.Strict = false
	for {
		tok, err := d.RawToken()
		if err != nil {
			return false
		}
		if start, ok := tok.(xml.StartElement); ok {
			switch start.Name.Local {
			case "ListBucketResult", "ListVersionsResult", "ListAllMyBucketsResult":
				return true
			}
			return false
		}
	}
}

// renamed is what an element of the store's answer says to the client; "" where
// it is left alone.
func (rq *request) renamed(element string) string {
	switch element {
	case "Bucket":
		return rq.bucket
	case "Name":
		if rq.op.level == bucketLevel {
			return rq.bucket
		}
	case "Location":
		return rq.location()
	case "Key":
		// The echo of a key must not keep a client from reading the rest.
		if rq.op.level == objectLevel && strings.ContainsFunc(rq.key, upstream.Unreadable) && rq.param("encoding-type") == "" {
			return rq.key
		}
	}
	return ""
}

// hides reports whether an entry of a list is about keys of ours. A store that
// ignores encoding-type is no matter: our prefix has nothing to decode.
func hides(child, key string, encoded bool) bool {
	switch child {
	case "Version", "DeleteMarker", "Upload", "CommonPrefixes", "Contents":
	default:
		return false
	}
	return isReserved(key, encoded)
}

// isReserved is reserved for a name of a list.
func isReserved(name string, encoded bool) bool {
	if encoded {
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
	}
	return reserved(name)
}

// escapePath escapes all but unreserved characters and slashes. Unlike
// url.PathEscape it agrees with what signatures canonicalise.
func escapePath(s string) string {
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '~', c == '/':
			out.WriteByte(c)
		default:
			out.WriteByte('%')
			out.WriteByte(hex[c>>4])
			out.WriteByte(hex[c&15])
		}
	}
	return out.String()
}
