package sigv4

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Each row takes a good request, as a server sees it, and changes one thing. They
// defend F8 as far as it rests on signatures: what a client did not sign, it did
// not say.

const putTarget = "/bucket/dir/key?partNumber=1&uploadId=u"

func goodPut(tb testing.TB) *http.Request {
	return overWire(tb, signed(tb, "PUT", putTarget, sha256Hex("hello"), "hello", func(r *http.Request) {
		r.Header.Set("X-Amz-Meta-Owner", "ann")
		r.Header.Set("X-Fencing-Token", "34")
		r.Header.Set("Content-Type", "text/plain")
	}))
}

func replaceAuth(old, new string) func(*http.Request) {
	return func(r *http.Request) {
		auth := r.Header.Get("Authorization")
		if !strings.Contains(auth, old) {
			panic(auth + " lacks " + old)
		}
		r.Header.Set("Authorization", strings.Replace(auth, old, new, 1))
	}
}

func TestHeaderRefusals(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	uri := func(s string) func(*http.Request) { return func(r *http.Request) { r.RequestURI = s } }
	for _, tt := range []struct {
		name string
		edit func(*http.Request)
		code Code
	}{
		{"other method", func(r *http.Request) { r.Method = "DELETE" }, CodeSignatureDoesNotMatch},
		{"other key", uri("/bucket/dir/key2?partNumber=1&uploadId=u"), CodeSignatureDoesNotMatch},
		{"other bucket", uri("/bucket2/dir/key?partNumber=1&uploadId=u"), CodeSignatureDoesNotMatch},
		{"slash doubled", uri("/bucket//dir/key?partNumber=1&uploadId=u"), CodeSignatureDoesNotMatch},
		{"dot segment", uri("/bucket/x/../dir/key?partNumber=1&uploadId=u"), CodeSignatureDoesNotMatch},
		{"bucket border moved", uri("/bucket%2Fdir/key?partNumber=1&uploadId=u"), CodeSignatureDoesNotMatch},
		{"query added", uri(putTarget + "&acl"), CodeSignatureDoesNotMatch},
		{"query doubled", uri(putTarget + "&partNumber=2"), CodeSignatureDoesNotMatch},
		{"query dropped", uri("/bucket/dir/key?uploadId=u"), CodeSignatureDoesNotMatch},
		{"query changed", uri("/bucket/dir/key?partNumber=2&uploadId=u"), CodeSignatureDoesNotMatch},
		{"semicolon is data", uri("/bucket/dir/key?partNumber=1;uploadId=u"), CodeSignatureDoesNotMatch},
		{"bad escape in query", uri(putTarget + "&x=%zz"), CodeInvalidURI},
		{"cut escape in query", uri(putTarget + "&x=%2"), CodeInvalidURI},
		{"bad escape in path", uri("/bucket/%g0"), CodeInvalidURI},
		{"line break in target", uri("/bucket/a\nb"), CodeInvalidURI},
		{"authority form", uri("example.com:443"), CodeInvalidURI},
		{"asterisk form", uri("*"), CodeInvalidURI},
		{"other scheme", uri("ftp://example.com/bucket"), CodeInvalidURI},
		{"too many parameters", uri("/bucket?" + strings.Repeat("a&", 2000)), CodeInvalidURI},
		{"other host", func(r *http.Request) { r.Host = "evil.example.test" }, CodeSignatureDoesNotMatch},
		{"signed header changed", set("X-Amz-Meta-Owner", "bob"), CodeSignatureDoesNotMatch},
		{"signed header removed", func(r *http.Request) { r.Header.Del("X-Amz-Meta-Owner") }, CodeSignatureDoesNotMatch},
		{"signed header repeated", func(r *http.Request) { r.Header.Add("X-Amz-Meta-Owner", "bob") }, CodeSignatureDoesNotMatch},
		{"signed content type changed", set("Content-Type", "text/html"), CodeSignatureDoesNotMatch},
		{"token changed", set("X-Fencing-Token", "35"), CodeSignatureDoesNotMatch},
		{"x-amz header added", set("X-Amz-Acl", "public-read"), CodeAccessDenied},
		{"x-fencing header added", set("X-Fencing-Scope", "s3://bucket/"), CodeAccessDenied},
		{"line break in value", set("X-Amz-Meta-Owner", "ann\nx-amz-acl:public-read"), CodeInvalidRequest},
		{"payload hash changed", set("X-Amz-Content-Sha256", sha256Hex("other")), CodeSignatureDoesNotMatch},
		{"payload form changed", set("X-Amz-Content-Sha256", unsignedPayload), CodeSignatureDoesNotMatch},
		{"payload hash missing", func(r *http.Request) { r.Header.Del("X-Amz-Content-Sha256") }, CodeInvalidRequest},
		{"payload hash empty", set("X-Amz-Content-Sha256", ""), CodeInvalidArgument},
		{"payload hash twice", func(r *http.Request) { r.Header.Add("X-Amz-Content-Sha256", unsignedPayload) }, CodeInvalidRequest},
		{"payload hash nonsense", set("X-Amz-Content-Sha256", "nonsense"), CodeInvalidArgument},
		{"payload ECDSA", set("X-Amz-Content-Sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"), CodeNotImplemented},
		{"date changed", set("X-Amz-Date", "20130524T000001Z"), CodeSignatureDoesNotMatch},
		{"date missing", func(r *http.Request) { r.Header.Del("X-Amz-Date") }, CodeAccessDenied},
		{"date nonsense", set("X-Amz-Date", "yesterday"), CodeAccessDenied},
		{"session token out of nowhere", set("X-Amz-Security-Token", "t"), CodeAccessDenied},
		{"no authorization", func(r *http.Request) { r.Header.Del("Authorization") }, ""},
		{"two authorizations", func(r *http.Request) { r.Header.Add("Authorization", "x") }, CodeInvalidArgument},
		{"basic", set("Authorization", "Basic dTpw"), CodeInvalidArgument},
		{"signature version 2", set("Authorization", "AWS AKIA:c2ln"), CodeInvalidRequest},
		{"signature version 2 query", func(r *http.Request) {
			r.Header.Del("Authorization")
			r.RequestURI = "/bucket/key?AWSAccessKeyId=a&Signature=b&Expires=1"
		}, CodeInvalidRequest},
		{"SigV4A", set("Authorization", "AWS4-ECDSA-P256-SHA256 Credential=a/b"), CodeNotImplemented},
		{"header and query", uri(putTarget + "&X-Amz-Signature=0"), CodeInvalidArgument},
		{"header and version 2 query", uri(putTarget + "&AWSAccessKeyId=0"), CodeInvalidArgument},
		{"signature changed", replaceAuth("Signature=", "Signature=0"), CodeSignatureDoesNotMatch},
		{"signature upper case", func(r *http.Request) {
			head, sig, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
			r.Header.Set("Authorization", head+"Signature="+strings.ToUpper(sig))
		}, CodeSignatureDoesNotMatch},
		{"signature missing", replaceAuth("Signature=", "Sign="), CodeAuthorizationHeaderMalformed},
		{"signature twice", replaceAuth("Signature=", "Signature=a,Signature="), CodeAuthorizationHeaderMalformed},
		{"part without value", replaceAuth("SignedHeaders=", "x,SignedHeaders="), CodeAuthorizationHeaderMalformed},
		{"empty", set("Authorization", algorithm), CodeAuthorizationHeaderMalformed},
		{"unknown key", replaceAuth(exampleKey, "AKIAOTHER"), CodeInvalidAccessKeyID},
		{"no key", replaceAuth(exampleKey, ""), CodeAuthorizationHeaderMalformed},
		{"short credential", replaceAuth("/us-east-1/s3", ""), CodeAuthorizationHeaderMalformed},
		{"wrong region", replaceAuth("us-east-1", "eu-west-1"), CodeAuthorizationHeaderMalformed},
		{"wrong service", replaceAuth("/s3/", "/sts/"), CodeAuthorizationHeaderMalformed},
		{"wrong date in scope", replaceAuth("/20130524/", "/20130525/"), CodeAuthorizationHeaderMalformed},
		{"wrong terminator", replaceAuth("aws4_request", "aws4"), CodeAuthorizationHeaderMalformed},
		{"host not signed", replaceAuth(";host;", ";"), CodeAuthorizationHeaderMalformed},
		{"header listed twice", replaceAuth("host;", "host;host;"), CodeAuthorizationHeaderMalformed},
		{"header in upper case", replaceAuth("host;", "host;Range;"), CodeAuthorizationHeaderMalformed},
		{"header name with line break", replaceAuth("host;", "host;a\nb;"), CodeAuthorizationHeaderMalformed},
		{"empty header name", replaceAuth("host;", "host;;"), CodeAuthorizationHeaderMalformed},
		{"absent header listed", replaceAuth("host;", "host;range;"), CodeSignatureDoesNotMatch},
		{"too many headers", replaceAuth("host;", "host;"+strings.Repeat("a;", 200)), CodeAuthorizationHeaderMalformed},
		{"x-amz-date unlisted", replaceAuth(";x-amz-date", ""), CodeAccessDenied},
		{"token unlisted", replaceAuth(";x-fencing-token", ""), CodeAccessDenied},
		{"content type unlisted", replaceAuth("content-type;", ""), CodeSignatureDoesNotMatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := goodPut(t)
			_, err := exampleVerifier().Verify(r)
			noError(t, err)
			tt.edit(r)
			r.Body = untouchable{t} // reading would invite it with 100 Continue
			_, err = exampleVerifier().Verify(r)
			if tt.code == "" {
				if !errors.Is(err, ErrAnonymous) {
					t.Fatalf("want ErrAnonymous, got %v", err)
				}
				return
			}
			wantCode(t, err, tt.code)
			e, _ := errors.AsType[*Error](err)
			if e.Status() < 400 || e.Message == "" || strings.Contains(err.Error(), exampleSecret) {
				t.Fatalf("%d %v", e.Status(), err)
			}
			if (e.Region == "us-east-1") != (tt.name == "wrong region") {
				t.Fatalf("Region %q", e.Region)
			}
		})
	}
}

// untouchable is a body that must not be read.
type untouchable struct{ t *testing.T }

func (u untouchable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func (u untouchable) Close() error { return nil }

// A source that knows a key without a secret must not open the door to everybody.
func TestEmptySecret(t *testing.T) {
	t.Parallel()
	v := NewVerifier(Options{Now: func() time.Time { return exampleTime }, Credentials: StaticCredentials{exampleKey: ""}})
	_, err := v.Verify(goodPut(t))
	wantCode(t, err, CodeInvalidAccessKeyID)
}

func TestSkew(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		offset time.Duration
		code   Code
	}{
		{15 * time.Minute, ""},
		{-15 * time.Minute, ""},
		{15*time.Minute + time.Second, CodeRequestTimeTooSkewed},
		{-15*time.Minute - time.Second, CodeRequestTimeTooSkewed},
	} {
		_, err := verifierAt(exampleTime.Add(tt.offset)).Verify(goodPut(t))
		wantCode(t, err, tt.code)
	}
}

func goodPresigned(tb testing.TB, expires string) *http.Request {
	tb.Helper()
	sign := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	r := newRequest(tb, "PUT", putTarget+"&X-Fencing-Token=34&X-Amz-Expires="+expires, "")
	r.Header.Set("X-Fencing-Scope", "s3://bucket/")
	url, header, err := sign.PresignHTTP(context.Background(), exampleCredentials, r, unsignedPayload, "s3", "us-east-1", exampleTime)
	noError(tb, err)
	sent, err := http.NewRequest(http.MethodPut, url, strings.NewReader("hello"))
	noError(tb, err)
	sent.Header = header
	return overWire(tb, sent)
}

func TestPresignedRefusals(t *testing.T) {
	t.Parallel()
	replace := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			if !strings.Contains(r.RequestURI, old) {
				panic(r.RequestURI + " lacks " + old)
			}
			r.RequestURI = strings.Replace(r.RequestURI, old, new, 1)
		}
	}
	for _, tt := range []struct {
		name string
		edit func(*http.Request)
		code Code
	}{
		{"other method", func(r *http.Request) { r.Method = "GET" }, CodeSignatureDoesNotMatch},
		{"other key", replace("/key?", "/key2?"), CodeSignatureDoesNotMatch},
		{"other host", func(r *http.Request) { r.Host = "evil" }, CodeSignatureDoesNotMatch},
		{"token changed", replace("X-Fencing-Token=34", "X-Fencing-Token=35"), CodeSignatureDoesNotMatch},
		{"token added", replace("X-Fencing-Token=34", "X-Fencing-Token=34&X-Fencing-Token=35"), CodeSignatureDoesNotMatch},
		{"query added", func(r *http.Request) { r.RequestURI += "&acl" }, CodeSignatureDoesNotMatch},
		{"scope changed", func(r *http.Request) { r.Header.Set("X-Fencing-Scope", "s3://b/") }, CodeSignatureDoesNotMatch},
		{"header unsigned", func(r *http.Request) { r.Header.Set("X-Amz-Acl", "private") }, CodeAccessDenied},
		{"longer", replace("Expires=600", "Expires=601"), CodeSignatureDoesNotMatch},
		{"too long", replace("Expires=600", "Expires=604801"), CodeAuthorizationQueryError},
		{"zero", replace("Expires=600", "Expires=0"), CodeAuthorizationQueryError},
		{"negative", replace("Expires=600", "Expires=-1"), CodeAuthorizationQueryError},
		{"huge", replace("Expires=600", "Expires=99999999999999999999"), CodeAuthorizationQueryError},
		{"no expiry", replace("X-Amz-Expires=600", "y=1"), CodeAuthorizationQueryError},
		{"expiry twice", replace("X-Amz-Expires=600", "X-Amz-Expires=600&X-Amz-Expires=600"), CodeAuthorizationQueryError},
		{"no signature", replace("X-Amz-Signature=", "x="), CodeAuthorizationQueryError},
		{"no algorithm", replace("X-Amz-Algorithm=", "x="), CodeAuthorizationQueryError},
		{"other algorithm", replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), CodeAuthorizationQueryError},
		{"SigV4A", replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), CodeNotImplemented},
		{"unknown key", replace(exampleKey, "AKIAOTHER"), CodeInvalidAccessKeyID},
		{"wrong region", replace("us-east-1", "eu-west-1"), CodeAuthorizationQueryError},
		{"wrong service", replace("%2Fs3%2F", "%2Fsts%2F"), CodeAuthorizationQueryError},
		{"wrong date in scope", replace("%2F20130524%2F", "%2F20130525%2F"), CodeAuthorizationQueryError},
		{"date nonsense", replace("20130524T000000Z", "soon"), CodeAuthorizationQueryError},
		{"host unlisted", replace("X-Amz-SignedHeaders=host%3B", "X-Amz-SignedHeaders="), CodeAuthorizationQueryError},
		{"session token added", func(r *http.Request) { r.RequestURI += "&X-Amz-Security-Token=t" }, CodeInvalidToken},
		{"session token header", func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "t") }, CodeInvalidRequest},
		{"version 2 too", func(r *http.Request) { r.RequestURI += "&AWSAccessKeyId=a" }, CodeInvalidArgument},
		{"payload added", func(r *http.Request) { r.RequestURI += "&X-Amz-Content-Sha256=" + emptySHA256 }, CodeSignatureDoesNotMatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := goodPresigned(t, "600")
			_, err := exampleVerifier().Verify(r)
			noError(t, err)
			tt.edit(r)
			_, err = exampleVerifier().Verify(r)
			wantCode(t, err, tt.code)
		})
	}
}

func TestPresignedTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		offset  time.Duration
		message string
	}{
		{0, ""},
		{600 * time.Second, ""},
		{601 * time.Second, "Request has expired"},
		{-15 * time.Minute, ""},
		{-15*time.Minute - time.Second, "Request is not valid yet"},
	} {
		_, err := verifierAt(exampleTime.Add(tt.offset)).Verify(goodPresigned(t, "600"))
		if tt.message == "" {
			noError(t, err)
			continue
		}
		wantCode(t, err, CodeAccessDenied)
		if !strings.Contains(err.Error(), tt.message) {
			t.Fatalf("%v: %v", tt.offset, err)
		}
	}
}

type sourceFunc func(key, token string) (string, error)

func (f sourceFunc) Lookup(_ context.Context, key, token string) (string, error) {
	return f(key, token)
}

func TestSessionTokens(t *testing.T) {
	t.Parallel()
	r := signed(t, "GET", "/bucket/key", emptySHA256, "", func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "sealed") })
	for _, tt := range []struct {
		err  error
		code Code
	}{
		{nil, ""},
		{ErrUnknownKey, CodeInvalidAccessKeyID},
		{fmt.Errorf("sessions: %w", ErrBadSessionToken), CodeInvalidToken},
		{ErrExpiredSession, CodeExpiredToken},
		{errors.New("database away"), CodeServiceUnavailable},
		{context.DeadlineExceeded, CodeServiceUnavailable},
	} {
		v := NewVerifier(Options{Now: func() time.Time { return exampleTime }, Credentials: sourceFunc(func(key, token string) (string, error) {
			if key != exampleKey || token != "sealed" {
				t.Errorf("Lookup(%q, %q)", key, token)
			}
			return exampleSecret, tt.err
		})})
		s, err := v.Verify(overWire(t, r))
		wantCode(t, err, tt.code)
		if tt.err != nil && !errors.Is(err, tt.err) {
			t.Errorf("%v does not wrap %v", err, tt.err)
		}
		if err == nil && (s.SessionToken != "sealed" || s.AccessKey != exampleKey) {
			t.Errorf("%+v", s)
		}
	}
	_, err := exampleVerifier().Verify(overWire(t, r))
	wantCode(t, err, CodeInvalidToken)
}

// A rotated secret must not be served the signing key of the old one.
func TestRotatedSecret(t *testing.T) {
	t.Parallel()
	secret := exampleSecret
	v := NewVerifier(Options{Now: func() time.Time { return exampleTime }, MustSign: []string{"x-fencing-"},
		Credentials: sourceFunc(func(string, string) (string, error) { return secret, nil })})
	_, err := v.Verify(goodPut(t))
	noError(t, err)
	secret = "another"
	_, err = v.Verify(goodPut(t))
	wantCode(t, err, CodeSignatureDoesNotMatch)
}

func TestKeyCacheIsBounded(t *testing.T) {
	t.Parallel()
	var c keyCache
	for i := range 2 * maxKeys {
		id := keyID{secret: fmt.Sprint(i), date: "20130524", region: "us-east-1", service: "s3"}
		if got := c.get(id); *got != *deriveKey(id) || *c.get(id) != *got {
			t.Fatalf("key %d differs", i)
		}
	}
	if len(c.keys) > maxKeys {
		t.Fatalf("%d keys cached", len(c.keys))
	}
}

func TestVerifyBuffered(t *testing.T) {
	t.Parallel()
	// curl 7.88 leaves x-amz-content-sha256 out and signs host and date only.
	unhashed := func(body string) *http.Request {
		r := newRequest(t, "POST", "/-/v1/check", body)
		sign := v4.NewSigner()
		noError(t, sign.SignHTTP(t.Context(), exampleCredentials, r, sha256Hex(body), "s3", "us-east-1", exampleTime))
		return overWire(t, r)
	}
	v := exampleVerifier()
	r := unhashed("hello")
	s, err := v.VerifyBuffered(r, 5)
	noError(t, err)
	b, err := s.Body(r, BodyOptions{})
	noError(t, err)
	got, err := io.ReadAll(b)
	noError(t, err)
	if string(got) != "hello" || b.Length() != 5 {
		t.Fatalf("%q, length %d", got, b.Length())
	}
	_, err = v.VerifyBuffered(unhashed(""), 5)
	noError(t, err)
	_, err = v.Verify(unhashed("hello"))
	wantCode(t, err, CodeInvalidRequest)
	_, err = v.VerifyBuffered(unhashed("hello!"), 5)
	wantCode(t, err, CodeEntityTooLarge)
	long := unhashed("hello!")
	long.ContentLength = -1
	_, err = v.VerifyBuffered(long, 5)
	wantCode(t, err, CodeEntityTooLarge)
	changed := unhashed("hello")
	changed.Body = io.NopCloser(strings.NewReader("jello"))
	_, err = v.VerifyBuffered(changed, 5)
	wantCode(t, err, CodeSignatureDoesNotMatch)
	short := unhashed("hello")
	short.Body = io.NopCloser(io.MultiReader(strings.NewReader("he"), failing{io.ErrUnexpectedEOF}))
	_, err = v.VerifyBuffered(short, 5)
	wantCode(t, err, CodeIncompleteBody)
	with := goodPut(t)
	s, err = v.VerifyBuffered(with, 1)
	noError(t, err)
	if s.Payload != PayloadSHA256 {
		t.Fatal(s.Payload)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Forms of the same request that other signers produce.
func TestAcceptedForms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		edit func(*http.Request)
	}{
		{"absolute form", func(r *http.Request) { r.RequestURI = "http://s3.example.test:9000" + r.RequestURI }},
		{"unescaped on the wire", func(r *http.Request) { r.RequestURI = "/bucket/d%69r/key?uploadId=%75&partNumber=1" }},
		{"parameters in another order", func(r *http.Request) { r.RequestURI = "/bucket/dir/key?&uploadId=u&&partNumber=1&" }},
		{"no spaces after commas", func(r *http.Request) {
			r.Header.Set("Authorization", strings.ReplaceAll(r.Header.Get("Authorization"), ", ", ","))
		}},
		{"unsigned header added", func(r *http.Request) { r.Header.Set("User-Agent", "proxy") }},
		{"spaces in a value", func(r *http.Request) { r.Header.Set("Content-Type", " text/plain ") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := goodPut(t)
			tt.edit(r)
			_, err := exampleVerifier().Verify(r)
			noError(t, err)
		})
	}
}

func TestAbsoluteFormTargets(t *testing.T) {
	t.Parallel()
	for target, want := range map[string][2]string{
		"/":                         {"/", ""},
		"//a/../b?c?d":              {"//a/../b", "c?d"},
		"http://h":                  {"/", ""},
		"HTTPS://h?acl":             {"/", "acl"},
		"http://h:1/a%2Fb?prefix=/": {"/a%2Fb", "prefix=/"},
	} {
		path, query, err := RawTarget(&http.Request{RequestURI: target})
		if err != nil || path != want[0] || query != want[1] {
			t.Errorf("RawTarget(%q) = %q, %q, %v", target, path, query, err)
		}
	}
}

func TestParseQuery(t *testing.T) {
	t.Parallel()
	got, err := ParseQuery("b=2;3&a=1+%2B&&b=2&acl&=x&e==")
	noError(t, err)
	want := []Param{{"b", "2;3"}, {"a", "1 +"}, {"b", "2"}, {"acl", ""}, {"", "x"}, {"e", "="}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%q, want %q", got, want)
	}
}
