package upstream

import (
	"net/http"
	"net/textproto"
	"strings"
)

// The headers that go upstream, besides those that net/http and the signature
// make. What is not named here stays behind, whatever it is: new headers of
// clients must not change what the store does before somebody has judged them.
// Source: the request syntax of the S3 API reference, object and multipart
// operations.
var forwarded = func() map[string]bool {
	m := make(map[string]bool)
	for _, h := range []string{
		"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Md5", "Content-Type", "Expires",
		"If-Match", "If-Modified-Since", "If-None-Match", "If-Unmodified-Since", "Range",
		"X-Amz-Acl", "X-Amz-Bucket-Namespace", "X-Amz-Bucket-Object-Lock-Enabled", "X-Amz-Bucket-Object-Lock-Token",
		"X-Amz-Bypass-Governance-Retention", "X-Amz-Confirm-Remove-Self-Bucket-Access", "X-Amz-Expected-Bucket-Owner", "X-Amz-If-Match-Initiated-Time", "X-Amz-If-Match-Last-Modified-Time", "X-Amz-If-Match-Size",
		"X-Amz-Max-Parts", "X-Amz-Metadata-Directive", "X-Amz-Mfa", "X-Amz-Mp-Object-Size",
		"X-Amz-Object-Attributes", "X-Amz-Object-Ownership", "X-Amz-Optional-Object-Attributes", "X-Amz-Part-Number-Marker",
		"X-Amz-Request-Payer", "X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Skip-Destination-Validation", "X-Amz-Source-Expected-Bucket-Owner", "X-Amz-Storage-Class",
		"X-Amz-Tagging", "X-Amz-Tagging-Directive", "X-Amz-Transition-Default-Minimum-Object-Size", "X-Amz-Website-Redirect-Location",
	} {
		m[h] = true
	}
	return m
}()

var forwardedPrefixes = []string{
	"X-Amz-Checksum-",
	"X-Amz-Copy-Source", // and -If-*, -Range, -Server-Side-Encryption-Customer-*
	"X-Amz-Grant-",
	"X-Amz-Meta-",
	"X-Amz-Object-Lock-",
	"X-Amz-Server-Side-Encryption", // and -Aws-Kms-*, -Customer-*, -Context
}

// Forwarded reports whether [Client.Do] sends the header name on. It knows
// names in any case.
func Forwarded(name string) bool {
	name = textproto.CanonicalMIMEHeaderKey(name)
	if forwarded[name] {
		return true
	}
	for _, p := range forwardedPrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// outgoing copies what may go upstream, without the content coding
// aws-chunked, which the reader of the body has taken off already.
func outgoing(in http.Header) http.Header {
	out := make(http.Header, len(in)+2)
	for name, values := range in {
		if !Forwarded(name) {
			continue
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if name == "Content-Encoding" {
			values = withoutChunked(values)
		}
		if len(values) > 0 {
			out[name] = append(out[name], values...)
		}
	}
	out["User-Agent"] = []string{"s3fence"}
	return out
}

func withoutChunked(values []string) []string {
	var rest []string
	for _, v := range values {
		if !strings.Contains(strings.ToLower(v), "aws-chunked") {
			rest = append(rest, v)
			continue
		}
		var codings []string
		for c := range strings.SplitSeq(v, ",") {
			if c = strings.TrimSpace(c); c != "" && !strings.EqualFold(c, "aws-chunked") {
				codings = append(codings, c)
			}
		}
		if len(codings) > 0 {
			rest = append(rest, strings.Join(codings, ","))
		}
	}
	return rest
}
