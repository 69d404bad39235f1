package sigv4

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// CredentialSource resolves access keys.
//
// Lookup returns the secret that the holder of accessKey signs with.
// sessionToken is what the request carried, "" for none; it is handed over before
// the signature was checked, so it must be authenticated by other means before it
// is believed, and a source that knows no session tokens refuses every non-empty
// one. Errors: ErrUnknownKey, ErrBadSessionToken, ErrExpiredSession, wrapped or
// not; any other is answered 503. Called once per request, concurrently.
type CredentialSource interface {
	Lookup(ctx context.Context, accessKey, sessionToken string) (secret string, err error)
}

// StaticCredentials is a CredentialSource of access keys and their secrets that
// have no session tokens. It must not be changed while in use.
type StaticCredentials map[string]string

// Lookup implements CredentialSource.
func (s StaticCredentials) Lookup(_ context.Context, accessKey, sessionToken string) (string, error) {
	secret, ok := s[accessKey]
	switch {
	case !ok:
		return "", ErrUnknownKey
	case sessionToken != "":
		return "", ErrBadSessionToken
	}
	return secret, nil
}

// Options configure a Verifier.
type Options struct {
	// Region every credential scope must name. Default us-east-1.
	Region string
	// Service every credential scope must name. Default s3.
	Service string
	// Credentials resolves access keys. Required.
	Credentials CredentialSource
	// Now is the clock for skew and expiry. Default time.Now.
	Now func() time.Time
	// MustSign lists further prefixes of header names, besides x-amz-, that are
	// refused when present and not signed. Case does not matter.
	MustSign []string
}

// Verifier checks the signatures of requests. Safe for concurrent use.
type Verifier struct {
	region, service string
	credentials     CredentialSource
	now             func() time.Time
	mustSign        []string
	keys            keyCache
}

// NewVerifier returns a Verifier. It panics when o.Credentials is nil, which
// only a programming error can cause.
func NewVerifier(o Options) *Verifier {
	if o.Credentials == nil {
		panic("sigv4: Options.Credentials is required")
	}
	v := &Verifier{
		region:      o.Region,
		service:     o.Service,
		credentials: o.Credentials,
		now:         o.Now,
		mustSign:    append([]string{"x-amz-"}, o.MustSign...),
	}
	if v.region == "" {
		v.region = "us-east-1"
	}
	if v.service == "" {
		v.service = "s3"
	}
	if v.now == nil {
		v.now = time.Now
	}
	return v
}

// Verify checks the signature of r. It reads nothing of the body. The error is
// ErrAnonymous or an *Error.
func (v *Verifier) Verify(r *http.Request) (*Signed, error) {
	return v.verify(r, 0)
}

// VerifyBuffered is Verify for callers whose bodies are small: where a request
// signed by header has no x-amz-content-sha256 (curl before 8 sends none), at most
// limit bytes of the body are read, hashed, and put back in r.Body. A longer
// body is EntityTooLarge. Nothing is read for an unknown key or a wrong time.
func (v *Verifier) VerifyBuffered(r *http.Request, limit int64) (*Signed, error) {
	return v.verify(r, max(limit, 1))
}

func (v *Verifier) verify(r *http.Request, bufferLimit int64) (*Signed, error) {
	rawPath, rawQuery, err := RawTarget(r)
	if err != nil {
		return nil, err
	}
	params, err := ParseQuery(rawQuery)
	if err != nil {
		return nil, err
	}
	c, err := parseClaim(r.Header, params)
	if err != nil {
		return nil, err
	}
	if err := v.checkScope(c); err != nil {
		return nil, err
	}
	if err := v.checkTime(c); err != nil {
		return nil, err
	}
	if err := v.checkSigned(r.Header, c); err != nil {
		return nil, err
	}
	payload, err := payloadValue(r.Header, params, c.kind)
	if err != nil {
		return nil, err
	}
	if payload == "" && bufferLimit == 0 {
		return nil, refuse(CodeInvalidRequest, "The header x-amz-content-sha256 is missing. Every S3 client that signs with AWS4-HMAC-SHA256 sends it.")
	}
	secret, err := v.credentials.Lookup(r.Context(), c.accessKey, c.sessionToken)
	if err == nil && secret == "" {
		err = fmt.Errorf("empty secret: %w", ErrUnknownKey) // anybody could sign with it
	}
	if err != nil {
		return nil, lookupError(c.accessKey, err)
	}
	if payload == "" {
		if payload, err = bufferBody(r, bufferLimit); err != nil {
			return nil, err
		}
	}
	form, sum, err := parsePayload(payload)
	if err != nil {
		return nil, err
	}
	key := v.keys.get(keyID{secret, c.date, c.region, c.service})
	if err := checkSignature(r, c, key, rawPath, rawQuery, params, payload); err != nil {
		return nil, err
	}
	return &Signed{
		AccessKey:    c.accessKey,
		SessionToken: c.sessionToken,
		Kind:         c.kind,
		Time:         c.time,
		Expires:      c.expires,
		Payload:      form,
		RawPath:      rawPath,
		RawQuery:     rawQuery,
		Params:       params,
		header:       r.Header,
		claim:        c,
		sum:          sum,
		key:          key,
	}, nil
}

func (v *Verifier) checkScope(c *claim) error {
	code := CodeAuthorizationHeaderMalformed
	if c.kind == KindPresigned {
		code = CodeAuthorizationQueryError
	}
	switch {
	case c.region != v.region:
		e := refuse(code, "The region %q is wrong; expecting %q. Set the client's region to %s.", clip(c.region), v.region, v.region)
		e.Region = v.region
		return e
	case c.service != v.service:
		return refuse(code, "The service %q of the credential is wrong; expecting %q.", clip(c.service), v.service)
	case c.date != c.stamp[:8]:
		return refuse(code, "The date %q of the credential is not that of the request, %s.", clip(c.date), c.stamp[:8])
	}
	return nil
}

func (v *Verifier) checkTime(c *claim) error {
	now := v.now()
	if c.kind == KindPresigned {
		switch {
		case now.After(c.time.Add(c.expires)):
			return refuse(CodeAccessDenied, "Request has expired: it was valid until %s and it is %s here.",
				c.time.Add(c.expires).Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		case c.time.After(now.Add(maxSkew)):
			return refuse(CodeAccessDenied, "Request is not valid yet: it is signed for %s and it is %s here.",
				c.time.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		}
		return nil
	}
	if d := now.Sub(c.time).Abs(); d > maxSkew {
		return refuse(CodeRequestTimeTooSkewed, "The difference between the request time %s and the current time %s is too large; at most 15 minutes are accepted. Set the client's clock.",
			c.time.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkSigned refuses headers that change what a request means but are not bound
// by its signature.
func (v *Verifier) checkSigned(h http.Header, c *claim) error {
	for name := range h {
		if !v.mustBeSigned(name) || slices.ContainsFunc(c.signed, func(s string) bool { return strings.EqualFold(s, name) }) {
			continue
		}
		return refuse(CodeAccessDenied, "There were headers present in the request which were not signed: %s. Sign it or leave it out.", clip(strings.ToLower(name)))
	}
	return nil
}

func (v *Verifier) mustBeSigned(name string) bool {
	for _, prefix := range v.mustSign {
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
			return true
		}
	}
	return false
}

// payloadValue returns what stands at the payload's place in the canonical
// request, or "" where a header-signed request does not say it.
func payloadValue(h http.Header, params []Param, kind Kind) (string, error) {
	values := h["X-Amz-Content-Sha256"]
	if kind == KindPresigned {
		for _, p := range params {
			if strings.EqualFold(p.Name, "X-Amz-Content-Sha256") && !slices.Contains(values, p.Value) {
				values = append(values[:len(values):len(values)], p.Value)
			}
		}
	}
	switch {
	case len(values) > 1:
		return "", refuse(CodeInvalidRequest, "The request gives x-amz-content-sha256 more than once. Send one.")
	case len(values) == 1 && values[0] == "":
		return "", refuse(CodeInvalidArgument, "x-amz-content-sha256 is empty.")
	case len(values) == 1:
		return values[0], nil
	case kind == KindPresigned:
		return unsignedPayload, nil
	}
	return "", nil
}

// bufferBody reads the body, puts it back and returns its hash.
func bufferBody(r *http.Request, limit int64) (string, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return emptySHA256, nil
	}
	tooLarge := refuse(CodeEntityTooLarge, "The body is larger than the %d bytes accepted here.", limit)
	if r.ContentLength > limit {
		return "", tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return "", readError(err)
	}
	if int64(len(body)) > limit {
		return "", tooLarge
	}
	r.Body = buffered{bytes.NewReader(body), r.Body}
	r.ContentLength = int64(len(body))
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:]), nil
}

// buffered is a body that was read already; closing it closes the original.
type buffered struct {
	io.Reader
	io.Closer
}

// maxTold is the largest canonical request, in bytes, that is told to whoever got it
// wrong: an answer to a stranger fits into the buffers of his connection, so that
// nothing waits for him to take it, and is not much larger than what he sent.
const maxTold = 8 << 10

// checkSignature compares the claimed signature with each reading of the request
// that a client may have signed.
func checkSignature(r *http.Request, c *claim, key *[sha256.Size]byte, rawPath, rawQuery string, params []Param, payload string) error {
	paths, err := canonicalPaths(rawPath)
	if err != nil {
		return err
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	buf := scratch.Get().(*[]byte)
	defer release(buf)
	tailBuf := scratch.Get().(*[]byte)
	defer release(tailBuf)
	tail, err := appendHeaders((*tailBuf)[:0], r, c, payload)
	if err != nil {
		return err
	}
	*tailBuf = tail

	mac := hmac.New(sha256.New, key[:])
	var wrong *Error
	for query := range canonicalQueries(params, rawQuery, c.kind) {
		for _, path := range paths {
			b := (*buf)[:0]
			b = append(b, method...)
			b = append(b, '\n')
			b = append(b, path...)
			b = append(b, '\n')
			b = append(b, query...)
			b = append(b, '\n')
			b = append(b, tail...)
			n := len(b)
			b = appendStringToSign(b, c, b)
			end := len(b)
			mac.Write(b[n:])
			var raw [sha256.Size]byte
			b = hex.AppendEncode(b, mac.Sum(raw[:0]))
			*buf = b
			if hmac.Equal(b[end:], []byte(c.signature)) {
				return nil
			}
			mac.Reset()
			if wrong == nil {
				wrong = refuse(CodeSignatureDoesNotMatch, "The request signature we calculated does not match the signature you provided. Check the secret key and what was signed.")
				if n <= maxTold {
					wrong.CanonicalRequest = string(b[:n])
				}
				wrong.StringToSign = string(b[n:end])
			}
		}
	}
	return wrong
}
