package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Param is one query parameter, unescaped. A parameter without a value, such
// as uploads, has an empty one.
type Param struct{ Name, Value string }

// Request is one request to the store. It is not changed by [Client.Do].
type Request struct {
	Method string

	// Bucket may be empty only if Key is: the request is for the service.
	Bucket string

	// Key is sent byte for byte as it is. Escaping is ours.
	Key string

	// Query is sent sorted by name, as signatures want it.
	Query []Param

	// Header: only what [Forwarded] knows goes upstream.
	Header http.Header

	// Body is streamed, never buffered, and read to its EOF before its last
	// bytes are sent: an error or another length than ContentLength aborts the
	// request. If Do returns an error without a Status, no Read of Body is
	// running any more, which means that Do waits for a running one: give
	// Body a deadline of its own. If the store answers before it has the whole
	// body, a Read may still be running when Do returns.
	//
	// A *bytes.Reader, *bytes.Buffer or *strings.Reader of up to about 18 KiB
	// is sent in one write together with the headers.
	Body io.Reader

	// ContentLength is the length of Body; 0 without one. An unknown length
	// (-1) is refused: stores do not take chunked uploads.
	ContentLength int64

	// Mutation marks what changes the store. PUT and DELETE must be marked,
	// GET and HEAD must not.
	Mutation bool

	// SignedAt is the time that the signature carries; now if zero. With
	// Mutation, the store refuses the request from SignedAt + Validity on.
	SignedAt time.Time
}

// ErrRequest marks a request that cannot be sent as it is; a fault of the
// caller. Nothing was sent.
var ErrRequest = errors.New("upstream: request cannot be sent")

func (r *Request) check() error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if r.Mutation {
			return fmt.Errorf("%w: %s cannot be a mutation", ErrRequest, r.Method)
		}
		if r.Body != nil {
			return fmt.Errorf("%w: %s with a body", ErrRequest, r.Method)
		}
	case http.MethodPut, http.MethodDelete:
		if !r.Mutation {
			return fmt.Errorf("%w: %s must be marked as a mutation", ErrRequest, r.Method)
		}
	case http.MethodPost:
	default:
		return fmt.Errorf("%w: method %q is none of S3's", ErrRequest, r.Method)
	}
	switch {
	case r.Bucket == "" && r.Key != "":
		return fmt.Errorf("%w: key %q without a bucket", ErrRequest, r.Key)
	case strings.ContainsAny(r.Bucket, "/?#@:%\\ ") || r.Bucket == "." || r.Bucket == "..":
		return fmt.Errorf("%w: bucket %q is no bucket name", ErrRequest, r.Bucket)
	case r.ContentLength < 0:
		return fmt.Errorf("%w: the length of the body is unknown; upload it in parts", ErrRequest)
	case r.Body == nil && r.ContentLength != 0:
		return fmt.Errorf("%w: length %d without a body", ErrRequest, r.ContentLength)
	}
	if n, ok := inMemory(r.Body); ok && n != r.ContentLength {
		return fmt.Errorf("%w: %w: %d bytes, declared %d", ErrRequest, ErrBodyLength, n, r.ContentLength)
	}
	return nil
}

const unsignedPayload = "UNSIGNED-PAYLOAD"

// SHA-256 of nothing, hex.
const emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// build makes the signed HTTP request.
func (c *Client) build(ctx context.Context, r *Request) (*http.Request, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	hr := (&http.Request{
		Method:     r.Method,
		URL:        c.url(r),
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     outgoing(r.Header),
	}).WithContext(ctx)

	if r.Body != nil && r.ContentLength == 0 {
		// net/http takes length 0 with a body for "unknown", and an empty body
		// may still fail its verification.
		if err := atEnd(r.Body); err != nil {
			return nil, fmt.Errorf("reading the body: %w", err)
		}
	} else if r.Body != nil {
		hr.ContentLength = r.ContentLength
		if _, ok := inMemory(r.Body); ok {
			hr.Body = io.NopCloser(r.Body)
		} else {
			hr.Body = newHeldBody(r.Body, r.ContentLength)
		}
		// GetBody stays nil: net/http cannot send the body twice.
	}

	// An empty Content-Type means something to stores that keep it, and is lost on the
	// way to the verifier of others (fasthttp's), so it goes unsigned.
	if v := hr.Header["Content-Type"]; len(v) == 1 && v[0] == "" {
		delete(hr.Header, "Content-Type")
		defer func() { hr.Header["Content-Type"] = v }()
	}

	at := r.SignedAt
	if at.IsZero() {
		at = c.limits.now()
	}
	if r.Mutation {
		expires := "X-Amz-Expires=" + strconv.FormatInt(int64(c.expires/time.Second), 10)
		if hr.URL.RawQuery != "" {
			expires = hr.URL.RawQuery + "&" + expires
		}
		hr.URL.RawQuery = expires
		signed, _, err := c.signer.PresignHTTP(ctx, c.creds, hr, unsignedPayload, "s3", c.region, at)
		if err != nil {
			return nil, fmt.Errorf("%w: sign: %w", ErrRequest, err)
		}
		_, hr.URL.RawQuery, _ = strings.Cut(signed, "?")
		return hr, nil
	}
	payload := emptyPayload
	if hr.Body != nil {
		payload = unsignedPayload
	}
	hr.Header["X-Amz-Content-Sha256"] = []string{payload}
	if err := c.signer.SignHTTP(ctx, c.creds, hr, payload, "s3", c.region, at); err != nil {
		return nil, fmt.Errorf("%w: sign: %w", ErrRequest, err)
	}
	return hr, nil
}

func (c *Client) url(r *Request) *url.URL {
	u := &url.URL{Scheme: c.scheme, Host: c.host, Path: "/", RawPath: "/"}
	if r.Bucket != "" {
		if c.pathStyle {
			u.Path = "/" + r.Bucket
			if r.Key != "" {
				u.Path += "/"
			}
			u.RawPath = escape(u.Path)
		} else {
			u.Host = r.Bucket + "." + c.host
		}
		u.Path += r.Key
		u.RawPath += escape(r.Key)
	}
	if len(r.Query) > 0 {
		var q strings.Builder
		for i, p := range r.Query {
			if i > 0 {
				q.WriteByte('&')
			}
			q.WriteString(url.QueryEscape(p.Name))
			q.WriteByte('=')
			q.WriteString(url.QueryEscape(p.Value))
		}
		u.RawQuery = q.String()
	}
	return u
}

// escape writes every byte but the unreserved ones of RFC 3986 and "/" as %XX:
// the canonical URI of Signature Version 4 for S3. url.PathEscape leaves
// characters bare that stores canonicalise differently.
func escape(s string) string {
	n := 0
	for i := range len(s) {
		if !unreserved(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if b := s[i]; unreserved(b) {
			out = append(out, b)
		} else {
			out = append(out, '%', hex[b>>4], hex[b&15])
		}
	}
	return string(out)
}

func unreserved(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' ||
		b == '-' || b == '.' || b == '_' || b == '~' || b == '/'
}
