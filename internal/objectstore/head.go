package objectstore

import (
	"encoding/json"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// head is what an object carries besides its bytes. Values are bytes, not
// strings: JSON would replace what is not UTF-8, and headers need not be.
type head struct {
	// Headers has canonical names: Content-Type and the like, X-Amz-Meta-*.
	Headers map[string][]byte `json:"h,omitempty"`
	// Tags is the tag set in the form of the x-amz-tagging header.
	Tags string `json:"t,omitempty"`
	// Checksum is the x-amz-checksum-* header the whole object was checked
	// against, by canonical name. Objects made of parts have none.
	Checksum map[string]string `json:"c,omitempty"`
}

// maxHeadBytes bounds an object's metadata: names and values together. S3
// takes 2 KiB of user metadata; a proxy in front adds its own to that.
const maxHeadBytes = 16 << 10

// storedHeaders are kept with an object and returned with it.
var storedHeaders = map[string]bool{
	"Cache-Control":                   true,
	"Content-Disposition":             true,
	"Content-Encoding":                true,
	"Content-Language":                true,
	"Content-Type":                    true,
	"Expires":                         true,
	"X-Amz-Website-Redirect-Location": true,
}

const metaPrefix = "X-Amz-Meta-"

// headOf takes the metadata out of a request.
func headOf(header http.Header) (head, error) {
	h := head{Headers: map[string][]byte{}}
	size := 0
	for name, values := range header {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if !storedHeaders[name] && !strings.HasPrefix(name, metaPrefix) {
			continue
		}
		value := strings.Join(values, ",")
		if name == "Content-Encoding" {
			value = withoutChunked(value)
		}
		if value == "" && storedHeaders[name] {
			continue
		}
		h.Headers[name] = []byte(value)
		size += len(name) + len(value)
	}
	tags, err := tagsOf(header.Get("X-Amz-Tagging"))
	if err != nil {
		return head{}, err
	}
	h.Tags = tags
	if size+len(tags) > maxHeadBytes {
		return head{}, fail("MetadataTooLarge", "The metadata is %d bytes, at most %d are kept", size+len(tags), maxHeadBytes)
	}
	return h, nil
}

// withoutChunked drops aws-chunked, which says how the body was sent and not
// what it is.
func withoutChunked(value string) string {
	if !strings.Contains(strings.ToLower(value), "aws-chunked") {
		return value
	}
	var kept []string
	for token := range strings.SplitSeq(value, ",") {
		if token = strings.TrimSpace(token); token != "" && !strings.EqualFold(token, "aws-chunked") {
			kept = append(kept, token)
		}
	}
	return strings.Join(kept, ",")
}

// tagsOf checks the x-amz-tagging header against S3's limits.
func tagsOf(value string) (string, error) {
	if value == "" {
		return "", nil
	}
	tags, err := url.ParseQuery(value)
	if err != nil {
		return "", fail("InvalidTag", "x-amz-tagging is not a query string: %v", err)
	}
	if len(tags) > 10 {
		return "", fail("InvalidTag", "%d tags, an object has at most 10", len(tags))
	}
	for k, v := range tags {
		if len(v) != 1 || k == "" || len([]rune(k)) > 128 || len([]rune(v[0])) > 256 {
			return "", fail("InvalidTag", "tag %q: each key once, 1 to 128 characters, its value at most 256", k)
		}
	}
	return tags.Encode(), nil
}

func (h head) encode() ([]byte, error) { return json.Marshal(h) }

func decodeHead(text []byte) (h head, err error) {
	err = json.Unmarshal(text, &h)
	return h, err
}
