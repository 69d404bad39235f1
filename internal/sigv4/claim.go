package sigv4

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	timeFormat = "20060102T150405Z"
	maxSkew    = 15 * time.Minute
	maxExpires = 7 * 24 * 60 * 60 // seconds

	// maxSignedHeaders bounds the list a client may name; S3 itself knows
	// about fifty request headers.
	maxSignedHeaders = 128
)

// claim is what a request says about its own signature, syntactically sound but
// not believed yet.
type claim struct {
	kind         Kind
	accessKey    string
	sessionToken string
	date         string // yyyymmdd of the credential scope
	region       string
	service      string
	signedList   string   // SignedHeaders as sent
	signed       []string // the same, split
	signature    string
	stamp        string    // in timeFormat
	time         time.Time // the same instant
	expires      time.Duration
}

func (c *claim) scope() string {
	return c.date + "/" + c.region + "/" + c.service + "/" + terminator
}

// authQuery names the parameters that make a URL presigned.
var authQuery = []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"}

// parseClaim finds out how the request is authenticated and reads the claim, or
// returns ErrAnonymous.
func parseClaim(h http.Header, params []Param) (*claim, error) {
	presigned, v2 := false, false
	hasSignature, hasExpires := false, false
	for _, p := range params {
		switch p.Name {
		case "AWSAccessKeyId":
			v2 = true
		case "Signature":
			hasSignature = true
		case "Expires":
			hasExpires = true
		default:
			presigned = presigned || slices.Contains(authQuery, p.Name)
		}
	}
	v2 = v2 || hasSignature && hasExpires
	auth, hasHeader := h["Authorization"]
	switch {
	case hasHeader && (presigned || v2), presigned && v2:
		return nil, refuse(CodeInvalidArgument, "The request is authenticated twice, by header and by query. Keep one of the two.")
	case hasHeader && len(auth) != 1:
		return nil, refuse(CodeInvalidArgument, "The request has %d Authorization headers. Send one.", len(auth))
	case v2 || hasHeader && strings.HasPrefix(auth[0], "AWS "):
		return nil, refuse(CodeInvalidRequest, "The request is signed with Signature Version 2, which is not supported. Use AWS4-HMAC-SHA256: "+
			"for the aws CLI `aws configure set default.s3.signature_version s3v4`, for boto3 Config(signature_version=\"s3v4\"), for s3cmd signature_v2 = False, for rclone v2_auth = false, for mc --api S3v4.")
	case hasHeader:
		return parseHeaderClaim(h, auth[0])
	case presigned:
		return parseQueryClaim(h, params)
	}
	return nil, ErrAnonymous
}

func malformed(format string, args ...any) *Error {
	return refuse(CodeAuthorizationHeaderMalformed, "The Authorization header is malformed: "+format, args...)
}

func parseHeaderClaim(h http.Header, auth string) (*claim, error) {
	scheme, rest, _ := strings.Cut(auth, " ")
	switch {
	case scheme == algorithm:
	case strings.HasPrefix(scheme, "AWS4-ECDSA-"):
		return nil, errSigV4A()
	default:
		return nil, refuse(CodeInvalidArgument, "The authorization type %q is not supported. Use %s.", clip(scheme), algorithm)
	}
	c := &claim{kind: KindHeader}
	var credential string
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return nil, malformed("%q is not of the form name=value.", clip(part))
		}
		var field *string
		switch name {
		case "Credential":
			field = &credential
		case "SignedHeaders":
			field = &c.signedList
		case "Signature":
			field = &c.signature
		default:
			return nil, malformed("it has an unknown part %q.", clip(name))
		}
		if *field != "" {
			return nil, malformed("%s is given twice.", name)
		}
		*field = value
	}
	for _, f := range [...]struct{ name, value string }{{"Credential", credential}, {"SignedHeaders", c.signedList}, {"Signature", c.signature}} {
		if f.value == "" {
			return nil, malformed("%s is missing.", f.name)
		}
	}
	if err := c.parseCredential(credential); err != "" {
		return nil, malformed("%s", err)
	}
	if err := c.parseSignedHeaders(); err != "" {
		return nil, malformed("%s", err)
	}
	tokens := h["X-Amz-Security-Token"]
	if len(tokens) > 1 {
		return nil, refuse(CodeInvalidRequest, "The request has %d x-amz-security-token headers. Send one.", len(tokens))
	}
	if len(tokens) == 1 {
		c.sessionToken = tokens[0]
	}
	return c, c.parseHeaderTime(h)
}

// parseHeaderTime reads x-amz-date, or Date where that is absent. Either is bound
// by the signature, since it enters the string to sign.
func (c *claim) parseHeaderTime(h http.Header) error {
	name, layouts := "X-Amz-Date", []string{timeFormat}
	values := h[name]
	if len(values) == 0 {
		name, layouts = "Date", []string{timeFormat, http.TimeFormat, time.RFC1123Z}
		values = h[name]
	}
	if len(values) == 0 {
		return refuse(CodeAccessDenied, "A signed request needs an x-amz-date header, in the form 20060102T150405Z.")
	}
	if len(values) == 1 {
		for _, layout := range layouts {
			if t, err := time.Parse(layout, values[0]); err == nil {
				c.setTime(t)
				return nil
			}
		}
	}
	return refuse(CodeAccessDenied, "The %s header %q is not one time in the form 20060102T150405Z.", strings.ToLower(name), clip(values[0]))
}

func (c *claim) setTime(t time.Time) {
	c.time = t.UTC()
	c.stamp = c.time.Format(timeFormat)
}

func queryError(format string, args ...any) *Error {
	return refuse(CodeAuthorizationQueryError, format, args...)
}

func parseQueryClaim(h http.Header, params []Param) (*claim, error) {
	var algo, credential, date, expires string
	c := &claim{kind: KindPresigned}
	fields := [...]struct {
		name  string
		value *string
	}{
		{"X-Amz-Algorithm", &algo},
		{"X-Amz-Credential", &credential},
		{"X-Amz-Date", &date},
		{"X-Amz-Expires", &expires},
		{"X-Amz-SignedHeaders", &c.signedList},
		{"X-Amz-Signature", &c.signature},
		{"X-Amz-Security-Token", &c.sessionToken},
	}
	var seen [len(fields)]bool
	for _, p := range params {
		for i := range fields {
			if p.Name != fields[i].name {
				continue
			}
			if seen[i] {
				return nil, queryError("The query parameter %s is given twice.", p.Name)
			}
			seen[i], *fields[i].value = true, p.Value
		}
	}
	for _, f := range fields[:6] {
		if *f.value == "" {
			return nil, queryError("Query-string authentication needs the parameter %s.", f.name)
		}
	}
	switch {
	case algo == algorithm:
	case strings.HasPrefix(algo, "AWS4-ECDSA-"):
		return nil, errSigV4A()
	default:
		return nil, queryError("X-Amz-Algorithm is %q; only %s is supported.", clip(algo), algorithm)
	}
	if len(h["X-Amz-Security-Token"]) > 0 {
		return nil, refuse(CodeInvalidRequest, "A presigned URL carries its session token as X-Amz-Security-Token in the query, not as a header.")
	}
	if err := c.parseCredential(credential); err != "" {
		return nil, queryError("X-Amz-Credential is malformed: %s", err)
	}
	if err := c.parseSignedHeaders(); err != "" {
		return nil, queryError("X-Amz-SignedHeaders is malformed: %s", err)
	}
	t, err := time.Parse(timeFormat, date)
	if err != nil {
		return nil, queryError("X-Amz-Date is %q; it must be a time in the form 20060102T150405Z.", clip(date))
	}
	c.setTime(t)
	seconds, err := strconv.ParseUint(expires, 10, 32)
	if err != nil || seconds < 1 || seconds > maxExpires {
		return nil, queryError("X-Amz-Expires is %q; it must be a number of seconds from 1 to %d (seven days).", clip(expires), maxExpires)
	}
	c.expires = time.Duration(seconds) * time.Second
	return c, nil
}

func errSigV4A() *Error {
	return refuse(CodeNotImplemented, "Signature Version 4A (ECDSA) is not supported. Use AWS4-HMAC-SHA256 with a single region.")
}

// parseCredential reads accessKey/date/region/service/aws4_request from the right:
// an access key may hold slashes. It returns what is wrong, or "".
func (c *claim) parseCredential(s string) string {
	rest := s
	var parts [4]string
	for i := 3; i >= 0; i-- {
		at := strings.LastIndexByte(rest, '/')
		if at < 0 {
			return "the credential " + strconv.Quote(clip(s)) + " is not of the form accessKey/date/region/service/aws4_request."
		}
		rest, parts[i] = rest[:at], rest[at+1:]
	}
	if rest == "" {
		return "the credential names no access key."
	}
	if parts[3] != terminator {
		return "the credential must end in \"/aws4_request\", not in " + strconv.Quote("/"+clip(parts[3])) + "."
	}
	c.accessKey, c.date, c.region, c.service = rest, parts[0], parts[1], parts[2]
	return ""
}

// parseSignedHeaders splits the list. Names must be lower case and unique; their
// order is taken as given, since it is part of what is signed.
func (c *claim) parseSignedHeaders() string {
	n := strings.Count(c.signedList, ";") + 1
	if n > maxSignedHeaders {
		return "it lists " + strconv.Itoa(n) + " signed headers; at most " + strconv.Itoa(maxSignedHeaders) + " are accepted."
	}
	c.signed = make([]string, 0, n)
	for name := range strings.SplitSeq(c.signedList, ";") {
		if name == "" || strings.ContainsFunc(name, notHeaderRune) {
			return "the signed header name " + strconv.Quote(clip(name)) + " is not a header name in lower case."
		}
		if slices.Contains(c.signed, name) {
			return "the signed header " + name + " is listed twice."
		}
		c.signed = append(c.signed, name)
	}
	if !slices.Contains(c.signed, "host") {
		return "the host header must be signed."
	}
	return ""
}

// notHeaderRune reports what is no lower-case token character (RFC 9110, 5.6.2).
func notHeaderRune(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
