package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// seen is what the store was sent.
type seen struct {
	mu   sync.Mutex
	list []sent
}

// sent is one request as the store got it.
type sent struct {
	method, uri, body string
	header            http.Header
}

func (s *seen) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // as a store does with a body that breaks off
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.mu.Lock()
		s.list = append(s.list, sent{r.Method, r.RequestURI, string(body), r.Header.Clone()})
		s.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// about is what was sent for a key, named by a part of its path.
func (s *seen) about(key string) (list []sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.list {
		if path, _, _ := strings.Cut(r.uri, "?"); strings.HasSuffix(path, "/"+key) {
			list = append(list, r)
		}
	}
	return list
}

// socket is a bare connection to a proxy.
type socket struct {
	net.Conn
	t       *testing.T
	answers *bufio.Reader
	host    string
}

func (r *live) socket(t *testing.T) *socket {
	t.Helper()
	c, err := net.Dial("tcp", r.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	if r.config.TLS.CertFile != "" {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	return &socket{c, t, bufio.NewReader(c), r.Addr().String()}
}

// write sends text, and does not mind that the other end may have hung up by now.
func (s *socket) write(text string) { _, _ = io.WriteString(s, text) }

// answer is the next final answer; nil where the connection ends without one.
func (s *socket) answer(method string) (*http.Response, string) {
	s.t.Helper()
	for {
		resp, err := http.ReadResponse(s.answers, &http.Request{Method: method})
		if err != nil {
			ne := net.Error(nil)
			require.False(s.t, errors.As(err, &ne) && ne.Timeout(), "neither an answer nor an end: %v", err)
			return nil, ""
		}
		b, err := io.ReadAll(resp.Body)
		require.NoError(s.t, err)
		resp.Body.Close()
		if resp.StatusCode/100 != 1 {
			return resp, string(b)
		}
	}
}

var wireSigner = v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })

// signed are the header lines that sign a request with an unsigned payload. target
// is the path with query as it travels. Host is not among the lines.
func signed(t testing.TB, method, host, target string, more ...string) string {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	require.NoError(t, err)
	u.Scheme, u.Host = "http", host
	r := &http.Request{Method: method, URL: u, Host: host, Header: http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}}}
	for i := 0; i < len(more); i += 2 {
		r.Header.Set(more[i], more[i+1])
	}
	require.NoError(t, wireSigner.SignHTTP(t.Context(), aws.Credentials{AccessKeyID: "ann", SecretAccessKey: "ann-secret"}, r, "UNSIGNED-PAYLOAD", "s3", "us-east-1", time.Now()))
	var b strings.Builder
	require.NoError(t, r.Header.Write(&b))
	return b.String()
}

// shapeCase is one way to send a request. In raw, {host}, {target}, {path} and {auth}
// stand for the host, a target of its own, that without query, and the lines that sign
// a PUT of it. {next} is a whole signed request.
type shapeCase struct {
	name string
	raw  string
	// status of the first answer, 0 for an end without one; code is S3's where it
	// has one.
	status int
	code   string
	// sent is how many requests about the target reach the store.
	sent int
	// kept says that the connection goes on, so that what was sent behind the request
	// is answered as the next.
	kept bool
	// look, where set, sees what the store got.
	look func(*testing.T, sent)
}

const (
	put   = "PUT {target} HTTP/1.1\r\nHost: {host}\r\n{auth}"
	hello = "Content-Length: 5\r\n\r\nhello"
	chunk = "5\r\nhello\r\n0\r\n\r\n"
)

func whole(t *testing.T, s sent) {
	t.Helper()
	assert.Equal(t, "hello", s.body)
	assert.Equal(t, []string{"5"}, s.header["Content-Length"])
}

var shapes = []shapeCase{
	// The right ones: so that the rest is refused for its shape.
	{"plain", put + hello, 200, "", 1, true, whole},
	{"chunked", put + "Transfer-Encoding: chunked\r\n\r\n" + chunk, 200, "", 1, false, whole},
	{"GET", "GET {next} HTTP/1.1\r\nHost: {host}\r\n\r\n", 403, "AccessDenied", 0, true, nil},

	// Content-Length.
	{"length twice, equal", put + "Content-Length: 5\r\n" + hello, 200, "", 1, true, whole},
	{"length twice, different", put + "Content-Length: 6\r\n" + hello, 400, "", 0, false, nil},
	{"lengths in one line", put + "Content-Length: 5, 5\r\n\r\nhello", 400, "", 0, false, nil},
	{"length with sign", put + "Content-Length: +5\r\n\r\nhello", 400, "", 0, false, nil},
	{"negative length", put + "Content-Length: -5\r\n\r\nhello", 400, "", 0, false, nil},
	{"hexadecimal length", put + "Content-Length: 0x5\r\n\r\nhello", 400, "", 0, false, nil},
	{"length with fraction", put + "Content-Length: 5.0\r\n\r\nhello", 400, "", 0, false, nil},
	{"empty length", put + "Content-Length:\r\n\r\nhello", 400, "", 0, false, nil},
	{"length beyond 63 bits", put + "Content-Length: 18446744073709551621\r\n\r\nhello", 400, "", 0, false, nil},
	{"space before the colon", put + "Content-Length : 5\r\n\r\nhello", 400, "", 0, false, nil},
	{"twin of the length", put + "Content_Length: 50\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"no length", put + "\r\n", 200, "", 1, true, func(t *testing.T, s sent) { assert.Empty(t, s.body) }},

	// Transfer-Encoding.
	{"chunked beside a length", put + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk, 200, "", 1, false, whole},
	{"a request in the length, past the chunks", put + "Content-Length: 1000\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk, 200, "", 1, false, whole},
	{"chunked, identity", put + "Transfer-Encoding: chunked, identity\r\n\r\n" + chunk, 501, "", 0, false, nil},
	{"identity", put + "Transfer-Encoding: identity\r\n" + hello, 501, "", 0, false, nil},
	{"gzip, chunked", put + "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk, 501, "", 0, false, nil},
	{"xchunked", put + "Transfer-Encoding: xchunked\r\n\r\n" + chunk, 501, "", 0, false, nil},
	{"chunked with a parameter", put + "Transfer-Encoding: chunked;q=1\r\n\r\n" + chunk, 501, "", 0, false, nil},
	{"chunked in quotes", put + "Transfer-Encoding: \"chunked\"\r\n\r\n" + chunk, 501, "", 0, false, nil},
	{"chunked behind a vertical tab", put + "Transfer-Encoding: \x0bchunked\r\n\r\n" + chunk, 400, "", 0, false, nil},
	{"chunked twice", put + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk, 501, "", 0, false, nil},
	{"chunked and identity in two lines", put + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk, 501, "", 0, false, nil},
	{"empty coding", put + "Transfer-Encoding:\r\n" + hello, 501, "", 0, false, nil},
	{"chunked behind a tab", put + "Transfer-Encoding:\tchunked\r\n\r\n" + chunk, 200, "", 1, false, whole},
	{"ChUnKeD", put + "Transfer-Encoding: ChUnKeD\r\n\r\n" + chunk, 200, "", 1, false, whole},
	{"space before the colon of a coding", put + "Transfer-Encoding : chunked\r\n\r\n" + chunk, 400, "", 0, false, nil},
	{"twin of the coding", put + "Transfer_Encoding: chunked\r\n" + hello, 400, "InvalidArgument", 0, false, nil},

	// Chunks.
	{"chunk extension", put + "Transfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\n\r\n", 200, "", 1, false, whole},
	{"long chunk extension", put + "Transfer-Encoding: chunked\r\n\r\n5;a=" + strings.Repeat("b", 20<<10) + "\r\nhello\r\n0\r\n\r\n", 400, "IncompleteBody", 0, false, nil},
	{"leading zeros", put + "Transfer-Encoding: chunked\r\n\r\n0005\r\nhello\r\n0\r\n\r\n", 200, "", 1, false, whole},
	{"size beyond 64 bits", put + "Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", 400, "IncompleteBody", 0, false, nil},
	{"many zeros", put + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("0", 17) + "5\r\nhello\r\n0\r\n\r\n", 400, "IncompleteBody", 0, false, nil},
	{"negative size", put + "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", 400, "IncompleteBody", 0, false, nil},
	{"size with 0x", put + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400, "IncompleteBody", 0, false, nil},
	{"empty size", put + "Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n", 400, "IncompleteBody", 0, false, nil},
	{"size ended by a bare line feed", put + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", 400, "IncompleteBody", 0, false, nil},
	{"data longer than its size", put + "Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n", 400, "IncompleteBody", 0, false, nil},
	{"data ended by a bare line feed", put + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n", 400, "IncompleteBody", 0, false, nil},

	// Trailers change nothing.
	{"trailer with a token", put + "Transfer-Encoding: chunked\r\nTrailer: X-Fencing-Token\r\n\r\n5\r\nhello\r\n0\r\nX-Fencing-Token: 1\r\n\r\n", 200, "", 1, false, whole},
	{"trailer unannounced", put + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Amz-Acl: public-read\r\nAuthorization: x\r\n\r\n", 200, "", 1, false, func(t *testing.T, s sent) {
		whole(t, s)
		assert.Empty(t, s.header["X-Amz-Acl"])
	}},
	{"trailer of framing", put + "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 1\r\n\r\n", 400, "", 0, false, nil},

	// Other versions.
	{"HTTP/1.0", "PUT {target} HTTP/1.0\r\nHost: {host}\r\n{auth}" + hello, 200, "", 1, false, whole},
	{"HTTP/1.0 with keep-alive", "PUT {target} HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\n{auth}" + hello, 200, "", 1, false, whole},
	{"HTTP/1.0 and chunked", "PUT {target} HTTP/1.0\r\nHost: {host}\r\n{auth}Transfer-Encoding: chunked\r\n\r\n" + chunk, 411, "MissingContentLength", 0, false, nil},
	{"HTTP/1.0, chunked and a length", "PUT {target} HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\n{auth}Transfer-Encoding: chunked\r\n" + hello, 200, "", 1, false, whole},
	{"HTTP/1.0 without a host", "PUT {target} HTTP/1.0\r\n{auth}" + hello, 403, "SignatureDoesNotMatch", 0, false, nil},
	{"HTTP/0.9", "PUT {target}\r\n", 400, "", 0, false, nil},
	// To be taken as the highest minor version that is known (RFC 9110, section 2.5).
	{"HTTP/1.2", "PUT {target} HTTP/1.2\r\nHost: {host}\r\n{auth}" + hello, 200, "", 1, true, whole},
	{"HTTP/2.0 in words", "PUT {target} HTTP/2.0\r\nHost: {host}\r\n{auth}" + hello, 505, "", 0, false, nil},
	{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505, "HTTPVersionNotSupported", 0, false, nil},
	{"h2c upgrade", put + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n" + hello, 200, "", 1, true, whole},
	{"websocket upgrade", put + "Connection: Upgrade\r\nUpgrade: websocket\r\n" + hello, 200, "", 1, true, whole},

	// Hosts and targets.
	{"no host", "PUT {target} HTTP/1.1\r\n{auth}" + hello, 400, "", 0, false, nil},
	{"two hosts", put + "Host: other\r\n" + hello, 400, "", 0, false, nil},
	{"two hosts, equal", put + "Host: {host}\r\n" + hello, 400, "", 0, false, nil},
	{"another host", "PUT {target} HTTP/1.1\r\nHost: other\r\n{auth}" + hello, 403, "SignatureDoesNotMatch", 0, true, nil},
	{"host that is none", "PUT {target} HTTP/1.1\r\nHost: a b\r\n{auth}" + hello, 400, "", 0, false, nil},
	{"absolute", "PUT http://{host}{target} HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 200, "", 1, true, whole},
	{"absolute, whose host counts", "PUT http://{host}{target} HTTP/1.1\r\nHost: other\r\n{auth}" + hello, 200, "", 1, true, whole},
	{"absolute, of another host", "PUT http://other{target} HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 403, "SignatureDoesNotMatch", 0, true, nil},
	{"absolute with a user", "PUT http://x@{host}{target} HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 400, "InvalidURI", 0, true, nil},
	{"absolute with another scheme", "PUT ftp://{host}{target} HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 400, "InvalidURI", 0, true, nil},
	{"fragment", "PUT {target}#x HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 400, "InvalidURI", 0, true, nil},
	{"authority", "PUT {host} HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 400, "", 0, false, nil},
	{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n", 400, "InvalidURI", 0, true, nil},
	{"no slash", "PUT data/k HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 400, "", 0, false, nil},
	{"no bucket", "PUT /{target} HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 400, "InvalidBucketName", 0, true, nil},
	{"space in the target", "PUT {target} x HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 400, "", 0, false, nil},
	{"tab before the target", "PUT\t{target} HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 400, "", 0, false, nil},
	{"NUL in the target", "PUT {target}\x00 HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 400, "", 0, false, nil},

	// Methods.
	{"CONNECT", "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n", 400, "InvalidURI", 0, true, nil},
	{"TRACE", "TRACE {target} HTTP/1.1\r\nHost: {host}\r\nX-Secret: x\r\n\r\n", 501, "NotImplemented", 0, true, nil},
	{"unknown method", "BREW {target} HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 403, "SignatureDoesNotMatch", 0, true, nil},
	{"method in small letters", "put {target} HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 403, "SignatureDoesNotMatch", 0, true, nil},
	{"method that is none", "P(UT {target} HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 400, "", 0, false, nil},
	{"overridden method", "POST {target} HTTP/1.1\r\nHost: {host}\r\nX-HTTP-Method-Override: PUT\r\n{auth}" + hello, 403, "SignatureDoesNotMatch", 0, true, nil},

	// Headers.
	{"two Authorizations", put + "Authorization: AWS4-HMAC-SHA256 x\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"two dates", put + "X-Amz-Date: 20260101T000000Z\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"two hashes", put + "x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"two tokens", put + "X-Fencing-Token: 1\r\nx-fencing-token: 2\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"two tokens, equal", put + "X-Fencing-Token: 1\r\nX-Fencing-Token: 1\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"two conditions", put + "If-None-Match: *\r\nIf-None-Match: \"a\"\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"two types", put + "Content-Type: a/b\r\nContent-Type: c/d\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"twin of a token", put + "X_Fencing_Token: 1\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"half a twin of a token", put + "X-Fencing_Token: 1\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"twin of the date", put + "x_amz_date: 20260101T000000Z\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"twin of a condition", put + "If_None_Match: *\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"unsigned token", put + "X-Fencing-Token: 1\r\n" + hello, 400, "InvalidFencingToken", 0, true, nil},
	{"unsigned x-amz", put + "X-Amz-Acl: public-read\r\n" + hello, 403, "AccessDenied", 0, true, nil},
	{"token to be taken away", put + "X-Fencing-Token: 1\r\nConnection: x-fencing-token\r\n" + hello, 400, "InvalidRequest", 0, false, nil},
	{"signature to be taken away", put + "Connection: close, authorization\r\n" + hello, 400, "InvalidRequest", 0, false, nil},
	{"length to be taken away", put + "Connection: content-length\r\n" + hello, 400, "InvalidRequest", 0, false, nil},
	{"hop-by-hop of its own", put + "Connection: keep-alive, TE\r\nTE: trailers\r\nKeep-Alive: 5\r\n" + hello, 200, "", 1, true, whole},
	{"end", put + "Connection: close\r\n" + hello, 200, "", 1, false, whole},
	{"folded value", put + "Content-Type: text/\r\n plain\r\n" + hello, 200, "", 1, true, func(t *testing.T, s sent) {
		assert.Equal(t, []string{"text/ plain"}, s.header["Content-Type"])
	}},
	{"folded first line", "PUT {target} HTTP/1.1\r\n Host: {host}\r\n{auth}" + hello, 400, "", 0, false, nil},
	{"carriage return in a value", put + "Content-Type: a\rX-Amz-Acl: b\r\n" + hello, 400, "", 0, false, nil},
	{"NUL in a value", put + "Content-Type: a\x00b\r\n" + hello, 400, "", 0, false, nil},
	{"escape in a value", put + "Content-Type: a\x1bb\r\n" + hello, 400, "", 0, false, nil},
	{"space in a name", put + "Content Type: a\r\n" + hello, 400, "", 0, false, nil},
	{"NUL in a name", put + "Content\x00Type: a\r\n" + hello, 400, "", 0, false, nil},
	{"no name", put + ": a\r\n" + hello, 400, "", 0, false, nil},
	{"no colon", put + "Content-Type\r\n" + hello, 400, "", 0, false, nil},
	{"bare line feeds", strings.ReplaceAll(put+"Content-Length: 5\r\n\r\n", "\r\n", "\n") + "hello", 200, "", 1, true, whole},
	{"empty lines first", "\r\n" + put + hello, 400, "", 0, false, nil},
	{"other expectation", put + "Expect: a-miracle\r\n" + hello, 417, "", 0, false, nil},
	{"two expectations", put + "Expect: 100-continue\r\nExpect: a-miracle\r\n" + hello, 400, "InvalidArgument", 0, false, nil},
	{"expectation, and no wait", put + "Expect: 100-continue\r\n" + hello, 200, "", 1, true, whole},
	{"very many headers", put + strings.Repeat("A: b\r\n", 250) + hello, 400, "RequestHeaderSectionTooLarge", 0, false, nil},
	{"very long headers", put + "A: " + strings.Repeat("b", 80<<10) + "\r\n" + hello, 431, "", 0, false, nil},
	{"very long target", "PUT {target}?x-id=" + strings.Repeat("b", 20<<10) + " HTTP/1.1\r\nHost: {host}\r\n{auth}" + hello, 400, "InvalidURI", 0, true, nil},

	// What follows a refusal is the next request, whatever it looks like.
	{"refused, with a request as its body", "PUT {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {nextlength}\r\n\r\n{next}", 403, "AccessDenied", 0, true, nil},
	{"refused, chunked, with a request as its body", "PUT {target} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{nextlengthhex}\r\n{next}\r\n0\r\n\r\n", 403, "AccessDenied", 0, false, nil},
	{"refused, expecting, with a request as its body", "PUT {target} HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: {nextlength}\r\n\r\n{next}", 403, "AccessDenied", 0, false, nil},
	{"refused, with too large a body", "PUT {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n{next}", 403, "AccessDenied", 0, false, nil},
	{"GET with a request as its body", "GET {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {nextlength}\r\n\r\n{next}", 403, "AccessDenied", 0, true, nil},
}

// Each request of the table reaches the store once or not at all, is answered as it
// should be, and what is sent behind it on the same connection is either the next
// request, whole, or nothing.
func TestShapesOfRequests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, 1)
	for scheme, more := range map[string][]string{"http": nil, "https": {"S3FENCE_TLS__CERT_FILE=" + cert, "S3FENCE_TLS__KEY_FILE=" + key}} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			var store seen
			p := newWorld(t, store.wrap).start(t, more...)
			host := p.Addr().String()
			for i, tc := range shapes {
				t.Run(tc.name, func(t *testing.T) {
					k, hidden, follow := fmt.Sprintf("k-%d", i), fmt.Sprintf("hidden-%d", i), fmt.Sprintf("follow-%d", i)
					request := func(key string) string {
						target := "/data/" + key
						return "PUT " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + signed(t, "PUT", host, target) + "Content-Length: 6\r\n\r\nfollow"
					}
					inside := request(hidden)
					if strings.Contains(tc.raw, "GET {next} ") {
						inside = "/data/" + hidden
					}
					raw := strings.NewReplacer("{host}", host, "{target}", "/data/"+k, "{auth}", signed(t, "PUT", host, "/data/"+k),
						"{nextlengthhex}", strconv.FormatInt(int64(len(inside)), 16), "{nextlength}", strconv.Itoa(len(inside)), "{next}", inside).Replace(tc.raw)
					s := p.socket(t)
					s.write(raw + request(follow))
					method, _, _ := strings.Cut(raw, " ")
					resp, body := s.answer(method)
					status, code := 0, ""
					if resp != nil {
						status = resp.StatusCode
						if _, after, ok := strings.Cut(body, "<Code>"); ok {
							code, _, _ = strings.Cut(after, "<")
						}
					}
					assert.Equal(t, tc.status, status, body)
					assert.Equal(t, tc.code, code, body)
					if next, body := s.answer("PUT"); tc.kept {
						if assert.NotNil(t, next, "the next request is not answered") {
							assert.Equal(t, 200, next.StatusCode, body)
						}
						assert.Len(t, store.about(follow), 1)
					} else {
						assert.Nil(t, next, "the connection goes on")
						assert.Empty(t, store.about(follow), "what was sent behind is taken for a request")
					}
					assert.Empty(t, store.about(hidden), "a body is taken for a request")
					got := store.about(k)
					require.Len(t, got, tc.sent)
					if tc.look != nil && tc.sent == 1 {
						tc.look(t, got[0])
					}
				})
			}
		})
	}
}

// Requests that come all at once are answered in their order, each once.
func TestPipelining(t *testing.T) {
	t.Parallel()
	var store seen
	p := newWorld(t, store.wrap).start(t)
	host := p.Addr().String()
	s := p.socket(t)
	var all strings.Builder
	const n = 12
	for i := range n {
		target := fmt.Sprintf("/data/k-%d", i)
		method, length := "PUT", "Content-Length: 5\r\n\r\nhello"
		switch i % 4 {
		case 1:
			method, length = "HEAD", "\r\n"
		case 2: // refused: unsigned, with a body
			fmt.Fprintf(&all, "PUT %s HTTP/1.1\r\nHost: %s\r\n%s", target, host, length)
			continue
		case 3:
			method, length, target = "GET", "\r\n", fmt.Sprintf("/data/k-%d", i-3)
		}
		fmt.Fprintf(&all, "%s %s HTTP/1.1\r\nHost: %s\r\n%s%s", method, target, host, signed(t, method, host, target), length)
	}
	s.write(all.String())
	for i := range n {
		resp, body := s.answer([]string{"PUT", "HEAD", "PUT", "GET"}[i%4])
		require.NotNil(t, resp, i)
		assert.Equal(t, []int{200, 404, 403, 200}[i%4], resp.StatusCode, "%d: %s", i, body)
		if i%4 == 3 {
			assert.Equal(t, "hello", body)
		}
		want := 1
		if i%4 == 2 {
			want = 0
		}
		if i%4 == 0 {
			want = 2 // and once read
		}
		assert.LessOrEqual(t, len(store.about(fmt.Sprintf("k-%d", i))), want)
	}
}

// What is signed is what is judged is what the store gets, byte for byte, and
// nothing in a name becomes a line of its own there.
func TestTargetsArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	var store seen
	p := newWorld(t, store.wrap).start(t)
	host := p.Addr().String()
	for i, tc := range []struct{ target, key string }{
		{"/data/a//b", "a//b"}, {"/data//b", "/b"}, {"/data/a/./b", "a/./b"}, {"/data/a/../b", "a/../b"}, {"/data/a/%2e%2e/b", "a/../b"},
		{"/data/a%2Fb", "a/b"}, {"/data%2Fa/b", "a/b"}, {"/data/a%5Cb", "a\\b"}, {"/data/a;b=c", "a;b=c"}, {"/data/a%3Fb", "a?b"}, {"/data/a%23b", "a#b"},
		{"/data/a%0D%0AX-Amz-Acl:%20public-read", "a\r\nX-Amz-Acl: public-read"}, {"/data/a%20HTTP/1.1%0D%0A", "a HTTP/1.1\r\n"}, {"/data/a%2525", "a%25"},
		{"/data/%C3%A9", "é"}, {"/data/e%CC%81", "e\u0301"}, {"/data/a+b", "a+b"}, {"/data/http://other/k", "http://other/k"},
	} {
		s := p.socket(t)
		// HEAD, since stores differ in which of these they keep.
		s.write("HEAD " + tc.target + " HTTP/1.1\r\nHost: " + host + "\r\n" + signed(t, "HEAD", host, tc.target) + "\r\n")
		resp, _ := s.answer("HEAD")
		require.NotNil(t, resp, tc.target)
		store.mu.Lock()
		last := store.list[len(store.list)-1]
		store.mu.Unlock()
		if strings.Contains(tc.key, "\\") || strings.Contains(tc.key, "..") {
			// Names that some stores take for others may be refused; they are not changed.
			if resp.StatusCode != http.StatusNotFound {
				continue
			}
		}
		u, err := url.ParseRequestURI(last.uri)
		require.NoError(t, err)
		assert.Equal(t, "/data/"+tc.key, u.Path, "%d: %s", i, tc.target)
		assert.Empty(t, last.header["X-Amz-Acl"])
	}
}

// Clients of HTTP/1.0, and those that end each connection, get whole answers; what
// has no body has none.
func TestAnswersWithoutKeepAlive(t *testing.T) {
	t.Parallel()
	p := newWorld(t).start(t)
	require.NoError(t, p.put("k", "hello", 0))
	host := p.Addr().String()
	for _, tc := range []struct {
		method, target, header string
		status                 int
		body                   string // of the answer; "*" for any but none
	}{
		{"GET", "/data/k", "", 200, "hello"},
		{"GET", "/data/k", "Range: bytes=1-2\r\n", 206, "el"},
		{"GET", "/data/k", "If-None-Match: \"5d41402abc4b2a76b9719d911017c592\"\r\n", 304, ""},
		{"HEAD", "/data/k", "", 200, ""},
		{"HEAD", "/data/absent", "", 404, ""},
		{"GET", "/data/absent", "", 404, "*"},
		{"GET", "/data?list-type=2", "", 200, "*"},
		{"DELETE", "/data/absent", "", 204, ""},
		{"HEAD", "/data?list-type=2&x=y", "", 501, ""},
	} {
		for _, version := range []string{"HTTP/1.0\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n", "HTTP/1.1\r\nConnection: close\r\n"} {
			s := p.socket(t)
			s.write(tc.method + " " + tc.target + " " + version + "Host: " + host + "\r\n" + tc.header + signed(t, tc.method, host, tc.target) + "\r\n")
			answer, err := io.ReadAll(s.answers)
			require.NoError(t, err)
			head, body, ok := strings.Cut(string(answer), "\r\n\r\n")
			require.True(t, ok, "%s", answer)
			what := fmt.Sprintf("%s %s %s%s", tc.method, tc.target, version, answer)
			assert.Contains(t, head, fmt.Sprintf("HTTP/1.%c %d ", map[bool]byte{true: '0', false: '1'}[strings.HasPrefix(version, "HTTP/1.0")], tc.status), what)
			assert.NotContains(t, head, "Transfer-Encoding", what)
			if tc.body == "*" {
				assert.NotEmpty(t, body, what)
			} else {
				assert.Equal(t, tc.body, body, what)
			}
		}
	}
}

// Nobody is told to send what will be refused.
func TestNoContinueBeforeARefusal(t *testing.T) {
	t.Parallel()
	p := newWorld(t).start(t, "S3FENCE_GUARDS__0__PATTERN=s3://data/jobs/*/", "S3FENCE_LIMITS__SPOOL_TOTAL_BYTES=65536", "S3FENCE_LIMITS__SPOOL_BYTES=65536")
	host := p.Addr().String()
	for name, tc := range map[string]struct {
		target, auth, header string
		status               int
	}{
		"unsigned": {"/data/k", "", "Content-Length: 1000000\r\n", 403},
		// Up to 1 MiB is read first, and judged at the commit alone.
		"no token":          {"/data/jobs/a/k", "sign", "Content-Length: 2000000\r\n", 403},
		"no bucket":         {"/nobody/k", "sign", "Content-Length: 1000000\r\n", 404},
		"twin":              {"/data/k", "sign", "X_Fencing_Token: 1\r\nContent-Length: 1000000\r\n", 400},
		"unsigned, chunked": {"/data/k", "", "Transfer-Encoding: chunked\r\n", 403},
		"wrong checksum":    {"/data/k", "sign", "Content-Md5: x\r\nContent-Length: 1000000\r\n", 400},
	} {
		if tc.auth != "" {
			tc.auth = signed(t, "PUT", host, tc.target)
		}
		s := p.socket(t)
		s.write("PUT " + tc.target + " HTTP/1.1\r\nHost: " + host + "\r\nExpect: 100-continue\r\n" + tc.auth + tc.header + "\r\n")
		resp, err := http.ReadResponse(s.answers, &http.Request{Method: http.MethodPut})
		require.NoError(t, err, name)
		assert.Equal(t, tc.status, resp.StatusCode, name)
		assert.True(t, resp.Close, name)
	}
}
