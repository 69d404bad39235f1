package edge

import (
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// shape refuses requests of which two readers could make two different ones,
// whatever their signature says, with an answer in the words of S3:
//
//   - a header that must be there once, given twice: one reader takes the first,
//     another the last;
//   - a header whose name becomes one of S3's or ours where somebody takes "_" for
//     "-", as gateways to CGI and WSGI do: the typo must not look fenced;
//   - a Connection header that names another header of the request: a hop that
//     obeys it takes that header away (RFC 9110, section 7.6.1), and with it, say,
//     the token;
//   - HTTP/1.0 with a body of which Content-Length does not say how long it is;
//   - the preface of HTTP/2;
//   - more header lines than the limit.
//
// Answers to HTTP/1.0 and to chunked bodies end the connection: net/http has
// forgotten by then whether the framing was in doubt; see the package comment.
func shape(next http.Handler, l Limits) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.ProtoAtLeast(1, 1) || len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		if status, code, message := malformed(r, l.Headers); message != "" {
			w.Header().Set("Connection", "close")
			// Whoever sends the like may not take the answer either.
			Unverified(r)
			refuse(w, r, status, code, message)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// malformed says what is wrong with the shape of a request; "" for nothing.
func malformed(r *http.Request, most int) (status int, code, message string) {
	const bad = http.StatusBadRequest
	if r.ProtoMajor != 1 {
		// net/http hands the preface of HTTP/2 on.
		return http.StatusHTTPVersionNotSupported, "HTTPVersionNotSupported", "HTTP/1.1 is spoken here. Set the client to it."
	}
	lines := 0
	for name, values := range r.Header {
		lines += len(values)
		switch {
		case len(values) > 1 && single(name):
			return bad, "InvalidArgument", fmt.Sprintf("The header %s is given %d times; send it once.", clip(strings.ToLower(name)), len(values))
		case strings.Contains(name, "_") && twin(name):
			return bad, "InvalidArgument", fmt.Sprintf("The header %s is not known, but %s would be; write it with hyphens.",
				clip(strings.ToLower(name)), clip(strings.ToLower(strings.ReplaceAll(name, "_", "-"))))
		}
	}
	if lines > most {
		return bad, "RequestHeaderSectionTooLarge", fmt.Sprintf("The request has %d headers; at most %d are accepted.", lines, most)
	}
	for _, v := range r.Header["Connection"] {
		for option := range strings.SplitSeq(v, ",") {
			name := textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(option))
			if slices.Contains(hopByHop, name) {
				continue
			}
			if len(r.Header[name]) > 0 || name == "Host" || name == "Content-Length" || name == "Transfer-Encoding" {
				return bad, "InvalidRequest", fmt.Sprintf("The Connection header names %s, so whoever passes the request on may take that header away. Leave it out of Connection.", clip(strings.ToLower(name)))
			}
		}
	}
	if !r.ProtoAtLeast(1, 1) && (r.Method == http.MethodPut || r.Method == http.MethodPost) && len(r.Header["Content-Length"]) == 0 {
		return http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header: in HTTP/1.0 nothing else says how long a body is."
	}
	return 0, "", ""
}

// hopByHop may stand in Connection: they are about the connection itself.
var hopByHop = []string{"", "Close", "Keep-Alive", "Te", "Upgrade", "Http2-Settings", "Proxy-Connection", "Connection"}

// singles must be given once, beside all of S3's and ours. If-Match and
// If-None-Match are lists, but one that stores read the first of.
var singles = []string{
	"Authorization", "Content-Md5", "Content-Range", "Content-Type", "Date", "Expect", "If-Match", "If-Modified-Since", "If-None-Match",
	"If-Range", "If-Unmodified-Since", "Range", "Idempotency-Key",
}

// lists are headers of S3 of which a client may send one for each value: the SDKs
// for Go do. Source: the model of Amazon S3, GetObjectAttributes and ListObjectsV2.
var lists = []string{"X-Amz-Object-Attributes", "X-Amz-Optional-Object-Attributes"}

func single(name string) bool {
	if slices.Contains(lists, name) {
		return false
	}
	// Metadata given twice is one value with a comma, to S3 and to the signature.
	return ours(name) && !strings.HasPrefix(name, "X-Amz-Meta-") || slices.Contains(singles, name)
}

// ours reports whether a header, in the canonical form, is one of S3's or ours.
func ours(name string) bool {
	return strings.HasPrefix(name, "X-Amz-") || strings.HasPrefix(name, "X-Fencing-")
}

// twin reports whether a name is none of S3's, but would be with hyphens.
func twin(name string) bool {
	with := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
	name = textproto.CanonicalMIMEHeaderKey(name)
	return ours(with) && !ours(name) || slices.Contains(singles, with) ||
		with == "Content-Length" || with == "Transfer-Encoding" || with == "X-Fencing-Token" || with == "X-Fencing-Scope"
}

func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// refuse answers in the words of the API that was asked, S3's or the lock service's.
func refuse(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	id := rand.Text()
	kind, head := "application/xml", xml.Header
	body, err := xml.Marshal(struct {
		XMLName                  xml.Name `xml:"Error"`
		Code, Message, RequestId string   //nolint:staticcheck // S3's name
	}{Code: code, Message: message, RequestId: id})
	if strings.HasPrefix(r.URL.Path, "/-/") {
		kind, head = "application/json", ""
		body, err = json.Marshal(map[string]string{"code": code, "message": message, "request_id": id})
	}
	if err != nil {
		panic(err) // strings always marshal
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Server", "s3fence")
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_, _ = w.Write(append([]byte(head), body...))
}
