package sigv4

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Kind says where a signature stood.
type Kind int

// The two places.
const (
	KindHeader    Kind = iota // the Authorization header
	KindPresigned             // the query of a presigned URL
)

// Signed is a request whose signature was good. Its body is not verified yet:
// read it through Body. Not safe for concurrent use with changes of the
// request's header.
type Signed struct {
	AccessKey    string
	SessionToken string // as sent, "" for none; authentic only if the CredentialSource says so
	Kind         Kind
	Time         time.Time     // when it was signed, by the client's clock
	Expires      time.Duration // validity of a presigned URL, else 0
	Payload      PayloadForm

	RawPath  string  // as sent; see RawTarget
	RawQuery string  // as sent
	Params   []Param // RawQuery decoded

	header http.Header
	claim  *claim
	sum    [sha256.Size]byte
	key    *[sha256.Size]byte
}

// SignedHeaders returns the lower-case names the signature covers, in the order
// the client gave. The slice must not be changed.
func (s *Signed) SignedHeaders() []string { return s.claim.signed }

// SignedHeader returns the values of a header in the order they arrived, or nil
// when it is absent or not covered by the signature. Case does not matter. Host,
// Content-Length and Transfer-Encoding are not headers to net/http and not here.
func (s *Signed) SignedHeader(name string) []string {
	if !slices.ContainsFunc(s.claim.signed, func(n string) bool { return strings.EqualFold(n, name) }) {
		return nil
	}
	return s.header[http.CanonicalHeaderKey(name)]
}

// SignedQuery returns the values of a query parameter, whatever the case of its
// name: SDKs that move headers into presigned URLs disagree about it. The whole
// query is signed but for X-Amz-Signature, under both kinds.
func (s *Signed) SignedQuery(name string) []string {
	var values []string
	for _, p := range s.Params {
		if strings.EqualFold(p.Name, name) && p.Name != "X-Amz-Signature" {
			values = append(values, p.Value)
		}
	}
	return values
}

// hoisted returns the values of an x-amz- header, or of the query parameter of
// that name under a presigned URL, where SDKs put headers.
func (s *Signed) hoisted(name string) []string {
	values := s.header[http.CanonicalHeaderKey(name)]
	if s.Kind == KindPresigned {
		values = append(values[:len(values):len(values)], s.SignedQuery(name)...)
	}
	return values
}
