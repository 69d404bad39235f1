package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/s3fence/s3fence/internal/storetest"
)

// watched is a store behind something that remembers what it was sent.
type watched struct {
	*storetest.Server
	mu   sync.Mutex
	seen []string
}

func watchStore(t *testing.T, store *storetest.Server) *watched {
	t.Helper()
	target, err := url.Parse(store.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{}
	transport := &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{Transport: transport, ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		// The host is signed, so it stays.
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, r.In.Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.seen = append(w.seen, r.Method+" "+r.URL.Path)
		w.mu.Unlock()
		proxy.ServeHTTP(out, r)
	}))
	t.Cleanup(server.Close)
	w.Server = &storetest.Server{Endpoint: server.URL, AccessKey: store.AccessKey, SecretKey: store.SecretKey}
	return w
}

// forget empties the memory; about returns what it holds of a name.
func (w *watched) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = nil
}

func (w *watched) about(name string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.seen), func(s string) bool { return !strings.Contains(s, name) })
}

// claimed is what a forger says of himself; what is empty is as it should be.
type claimed struct {
	key, secret, session string
	at                   time.Duration
	region, service      string
	// expires presigns.
	expires string
	// chunked is the body in signed chunks, and with a trailer.
	chunked, trailer bool
	// header is signed too.
	header map[string]string
	// payload stands for the hash of the body.
	payload string
}

// forge makes a request, signs it as claimed and edits it after that.
func (p *Proxy) forge(t *testing.T, method, target, body string, c claimed, edit func(*http.Request)) *http.Request {
	t.Helper()
	if c.key == "" {
		c.key = p.cluster.AccessKey
	}
	if c.secret == "" {
		c.secret = p.cluster.SecretKey
	}
	if c.region == "" {
		c.region = "us-east-1"
	}
	if c.service == "" {
		c.service = "s3"
	}
	r, err := http.NewRequestWithContext(t.Context(), method, p.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	at := time.Now().Add(c.at)
	sum := sha256.Sum256([]byte(body))
	digest := hex.EncodeToString(sum[:])
	if c.payload != "" {
		digest = c.payload
	}
	creds := aws.Credentials{AccessKeyID: c.key, SecretAccessKey: c.secret, SessionToken: c.session}
	sign := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping, o.DisableHeaderHoisting = true, true })
	switch {
	case c.chunked || c.trailer:
		if c.trailer {
			r.Trailer = http.Header{"x-amz-checksum-crc32c": {crc32c(body)}}
		}
		r = signer.StreamingSignV4(r, c.key, c.secret, c.session, c.region, int64(len(body)), at.UTC(), stdHash{sha256.New()})
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		setBody(r, string(text))
	case c.expires != "":
		q := r.URL.Query()
		q.Set("X-Amz-Expires", c.expires)
		r.URL.RawQuery = q.Encode()
		signed, _, err := sign.PresignHTTP(t.Context(), creds, r, "UNSIGNED-PAYLOAD", c.service, c.region, at)
		if err != nil {
			t.Fatal(err)
		}
		if r.URL, err = url.Parse(signed); err != nil {
			t.Fatal(err)
		}
	default:
		r.Header.Set("X-Amz-Content-Sha256", digest)
		if err := sign.SignHTTP(t.Context(), creds, r, digest, c.service, c.region, at); err != nil {
			t.Fatal(err)
		}
	}
	if edit != nil {
		edit(r)
	}
	return r
}

type stdHash struct{ hash.Hash }

func (stdHash) Close() {}

func setBody(r *http.Request, body string) {
	r.Body, r.GetBody, r.ContentLength = io.NopCloser(strings.NewReader(body)), nil, int64(len(body))
}

func bodyOf(r *http.Request) string {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	setBody(r, string(text))
	return string(text)
}

// Edits of signed requests.

func auth(old, changed string) func(*http.Request) {
	return func(r *http.Request) {
		have := r.Header.Get("Authorization")
		if !strings.Contains(have, old) {
			panic(have + " lacks " + old)
		}
		r.Header.Set("Authorization", strings.Replace(have, old, changed, 1))
	}
}

func query(old, changed string) func(*http.Request) {
	return func(r *http.Request) {
		if !strings.Contains(r.URL.RawQuery, old) {
			panic(r.URL.RawQuery + " lacks " + old)
		}
		r.URL.RawQuery = strings.Replace(r.URL.RawQuery, old, changed, 1)
	}
}

func addQuery(s string) func(*http.Request) {
	return func(r *http.Request) { r.URL.RawQuery = strings.TrimPrefix(r.URL.RawQuery+"&"+s, "&") }
}

func set(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func chunks(edit func([]string) []string) func(*http.Request) {
	return func(r *http.Request) {
		// Each begins with its size and ends before the next one's.
		text := bodyOf(r)
		var parts []string
		for text != "" {
			size, _, _ := strings.Cut(text, ";")
			var n int
			if _, err := fmt.Sscanf(size, "%x", &n); err != nil || n == 0 {
				parts = append(parts, text)
				break
			}
			end := strings.Index(text, "\r\n") + 2 + n + 2
			parts, text = append(parts, text[:end]), text[end:]
		}
		setBody(r, strings.Join(edit(parts), ""))
	}
}

// The kinds of requests that each forgery is tried on.
const (
	putPlain = 1 << iota // an object outside of guards
	putScope             // an object in a scope, under a good token
	getPlain             // an object that is there
	callLock             // the lock service

	puts       = putPlain | putScope
	everything = puts | getPlain | callLock
)

// Each way to come without a good signature, on each kind of request: refused with
// S3's own code; nothing is written, read or locked, and the store is not even asked.
// internal/sigv4 has the same forms at the level of one function, and the ones that
// need a clock of the test's own (skew and expiry to the second).
func TestForgedRequests(t *testing.T) {
	t.Parallel()
	store := watchStore(t, storetest.MinIO(t))
	c := NewCluster(t, Options{MinIO: store.Server, Guards: []Guard{{Prefix: "scope/"}, {Prefix: "lock/"}}, Credentials: []map[string]any{{
		"access_key": "e2e-second", "secret_key": "e2e-second-secret-0123456789", "rights": []string{"read"}, "buckets": []string{"nothing-of-ours"},
	}}})
	elsewhere := NewCluster(t, Options{State: SQLite, Guards: []Guard{{Prefix: "scope/"}}})
	p := c.Proxies[0]
	token := c.Acquire("scope/", "ann")
	ours, another := c.Fence(p, "scope/", token), c.Fence(p, "scope/", token)
	foreign := elsewhere.Fence(elsewhere.Proxies[0], "scope/", elsewhere.Acquire("scope/", "ann"))
	const content = "nobody may read this"
	p.Put(t, "there", content).Want(t, 200)
	now := time.Now().UTC()
	today, yesterday := now.Format("20060102"), now.AddDate(0, 0, -1).Format("20060102")
	long := strings.Repeat("0123456789abcdef", 12<<10) // three chunks
	altered := func(s string) string {
		i := len(s) / 2
		return s[:i] + map[bool]string{true: "B", false: "A"}[s[i] == 'A'] + s[i+1:]
	}
	swap := func(parts []string) []string { parts[0], parts[1] = parts[1], parts[0]; return parts }

	for _, row := range []struct {
		name    string
		claim   claimed
		edit    func(*http.Request)
		status  int
		code    string
		targets int
		// late: it is the body that is false, so a store may be asked for what is
		// then not completed.
		late bool
	}{
		// No signature, or another kind.
		{name: "anonymous", edit: func(r *http.Request) { r.Header.Del("Authorization") }, status: 403, code: "AccessDenied"},
		{name: "basic", edit: set("Authorization", "Basic dTpw"), status: 400, code: "InvalidArgument"},
		{name: "bearer", edit: set("Authorization", "Bearer abc"), status: 400, code: "InvalidArgument"},
		{name: "version 2", edit: set("Authorization", "AWS "+c.AccessKey+":c2ln"), status: 400, code: "InvalidRequest"},
		{name: "version 2 in the query", edit: func(r *http.Request) {
			r.Header.Del("Authorization")
			r.URL.RawQuery = "AWSAccessKeyId=" + c.AccessKey + "&Signature=c2ln&Expires=9999999999"
		}, status: 400, code: "InvalidRequest"},
		{name: "version 4A", edit: auth("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), status: 501, code: "NotImplemented"},
		{name: "version 4A in the query", claim: claimed{expires: "60"}, edit: query("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), status: 501, code: "NotImplemented"},
		{name: "two authorizations", edit: func(r *http.Request) {
			r.Header["Authorization"] = append(r.Header["Authorization"], r.Header["Authorization"]...)
		}, status: 400, code: "InvalidArgument"},
		{name: "header and query", edit: addQuery("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0"), status: 400, code: "InvalidArgument"},
		{name: "presigned and a header", claim: claimed{expires: "60"}, edit: set("Authorization", "AWS4-HMAC-SHA256 Credential=x"), status: 400, code: "InvalidArgument"},

		// Foreign keys.
		{name: "unknown key", claim: claimed{key: "AKIAUNKNOWN"}, status: 403, code: "InvalidAccessKeyId"},
		{name: "unknown key, presigned", claim: claimed{key: "AKIAUNKNOWN", expires: "60"}, status: 403, code: "InvalidAccessKeyId"},
		{name: "the store's key", claim: claimed{key: store.AccessKey, secret: store.SecretKey}, status: 403, code: "InvalidAccessKeyId"},
		{name: "wrong secret", claim: claimed{secret: "wrong"}, status: 403, code: "SignatureDoesNotMatch"},
		{name: "wrong secret, presigned", claim: claimed{secret: "wrong", expires: "60"}, status: 403, code: "SignatureDoesNotMatch"},
		{name: "secret of another key", claim: claimed{secret: "e2e-second-secret-0123456789"}, status: 403, code: "SignatureDoesNotMatch"},
		{name: "key in small letters", claim: claimed{key: strings.ToUpper(c.AccessKey)}, status: 403, code: "InvalidAccessKeyId"},

		// Sessions.
		{name: "no session token", claim: claimed{key: ours.AccessKey, secret: ours.SecretKey}, status: 400, code: "InvalidToken"},
		{name: "session token taken off", claim: claimed{key: ours.AccessKey, secret: ours.SecretKey, session: ours.SessionToken},
			edit: func(r *http.Request) { r.Header.Del("X-Amz-Security-Token") }, status: 400, code: "InvalidToken"},
		{name: "altered session token", claim: claimed{key: ours.AccessKey, secret: ours.SecretKey, session: altered(ours.SessionToken)}, status: 400, code: "InvalidToken"},
		{name: "session token of another session", claim: claimed{key: ours.AccessKey, secret: ours.SecretKey, session: another.SessionToken}, status: 400, code: "InvalidToken"},
		{name: "session token of another session put in", claim: claimed{key: ours.AccessKey, secret: ours.SecretKey, session: ours.SessionToken}, edit: set("X-Amz-Security-Token", another.SessionToken), status: 400, code: "InvalidToken"},
		{name: "secret of another session", claim: claimed{key: ours.AccessKey, secret: another.SecretKey, session: ours.SessionToken}, status: 403, code: "SignatureDoesNotMatch"},
		{name: "session of another deployment", claim: claimed{key: foreign.AccessKey, secret: foreign.SecretKey, session: foreign.SessionToken}, status: 400, code: "InvalidToken"},
		{name: "session of another deployment, presigned", claim: claimed{key: foreign.AccessKey, secret: foreign.SecretKey, session: foreign.SessionToken, expires: "60"}, status: 400, code: "InvalidToken"},
		{name: "session token with a key that has none", claim: claimed{session: ours.SessionToken}, status: 400, code: "InvalidToken"},
		{name: "nonsense as a session token", claim: claimed{key: ours.AccessKey, secret: ours.SecretKey, session: "x"}, status: 400, code: "InvalidToken"},
		{name: "unsigned session token", edit: set("X-Amz-Security-Token", ours.SessionToken), status: 403, code: "AccessDenied"},

		// Time.
		{name: "old", claim: claimed{at: -15*time.Minute - 5*time.Second}, status: 403, code: "RequestTimeTooSkewed"},
		{name: "future", claim: claimed{at: 15*time.Minute + 30*time.Second}, status: 403, code: "RequestTimeTooSkewed"},
		{name: "expired", claim: claimed{at: -time.Minute, expires: "30"}, status: 403, code: "AccessDenied"},
		{name: "not valid yet", claim: claimed{at: 15*time.Minute + 30*time.Second, expires: "3600"}, status: 403, code: "AccessDenied"},
		{name: "expires 0", claim: claimed{expires: "0"}, status: 400, code: "AuthorizationQueryParametersError"},
		{name: "expires negative", claim: claimed{expires: "-1"}, status: 400, code: "AuthorizationQueryParametersError"},
		{name: "expires after more than 7 days", claim: claimed{expires: "604801"}, status: 400, code: "AuthorizationQueryParametersError"},
		{name: "expires never", claim: claimed{expires: "99999999999999999999"}, status: 400, code: "AuthorizationQueryParametersError"},
		{name: "no expiry", claim: claimed{expires: "60"}, edit: query("X-Amz-Expires=60", "a=b"), status: 400, code: "AuthorizationQueryParametersError"},
		{name: "expires later", claim: claimed{expires: "60"}, edit: query("X-Amz-Expires=60", "X-Amz-Expires=61"), status: 403, code: "SignatureDoesNotMatch"},
		{name: "no date", edit: func(r *http.Request) { r.Header.Del("X-Amz-Date") }, status: 403, code: "AccessDenied"},

		// A signature of something else.
		{name: "of another method", edit: func(r *http.Request) {
			r.Method = map[string]string{"GET": "HEAD", "PUT": "DELETE", "POST": "PATCH"}[r.Method]
			if r.Method != http.MethodPatch {
				return
			}
			r.URL.Path = "/-/v1/guards"
		}, status: 403, code: "SignatureDoesNotMatch", targets: puts | callLock},
		{name: "of another path", edit: func(r *http.Request) { r.URL.Path += "x" }, status: 403, code: "SignatureDoesNotMatch", targets: puts | getPlain},
		{name: "of another bucket", edit: func(r *http.Request) { r.URL.Path = strings.Replace(r.URL.Path, c.Bucket, "other-bucket", 1) }, status: 403, code: "SignatureDoesNotMatch", targets: puts | getPlain},
		{name: "of another call", edit: func(r *http.Request) { r.URL.Path = "/-/v1/locks/take" }, status: 403, code: "SignatureDoesNotMatch", targets: callLock},
		{name: "of another host", edit: func(r *http.Request) { r.Host = "evil.example.test" }, status: 403, code: "SignatureDoesNotMatch"},
		{name: "of another query", edit: addQuery("x-id=PutObject"), status: 403, code: "SignatureDoesNotMatch"},
		{name: "of another region", claim: claimed{region: "eu-west-1"}, status: 400, code: "AuthorizationHeaderMalformed"},
		{name: "of another region, edited", claim: claimed{region: "eu-west-1"}, edit: auth("eu-west-1", "us-east-1"), status: 403, code: "SignatureDoesNotMatch"},
		{name: "of another service", claim: claimed{service: "sts"}, status: 400, code: "AuthorizationHeaderMalformed"},
		{name: "of another service, edited", claim: claimed{service: "sts"}, edit: auth("/sts/", "/s3/"), status: 403, code: "SignatureDoesNotMatch"},
		{name: "of another day", edit: auth("/"+today+"/", "/"+yesterday+"/"), status: 400, code: "AuthorizationHeaderMalformed"},
		{name: "of another terminator", edit: auth("aws4_request", "aws4_requests"), status: 400, code: "AuthorizationHeaderMalformed"},
		{name: "of another header value", claim: claimed{header: map[string]string{"X-Amz-Meta-A": "1"}}, edit: set("X-Amz-Meta-A", "2"), status: 403, code: "SignatureDoesNotMatch"},
		{name: "of a body that was replaced", edit: func(r *http.Request) { text := bodyOf(r); setBody(r, text[:len(text)-1]+"!") }, status: 400, code: "XAmzContentSHA256Mismatch", targets: puts | callLock, late: true},
		{name: "of another hash", edit: set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), status: 403, code: "SignatureDoesNotMatch"},
		{name: "cut", edit: func(r *http.Request) {
			h := r.Header.Get("Authorization")
			r.Header.Set("Authorization", h[:len(h)-1])
		}, status: 403, code: "SignatureDoesNotMatch"},
		{name: "empty", edit: func(r *http.Request) {
			h := r.Header.Get("Authorization")
			r.Header.Set("Authorization", h[:strings.Index(h, "Signature=")+len("Signature=")])
		}, status: 400, code: "AuthorizationHeaderMalformed"},

		// What is not signed.
		{name: "unsigned host", edit: auth("host;", ""), status: 400, code: "AuthorizationHeaderMalformed"},
		{name: "unsigned x-amz-meta", edit: set("X-Amz-Meta-Owner", "eve"), status: 403, code: "AccessDenied"},
		{name: "unsigned x-amz-acl", edit: set("X-Amz-Acl", "public-read"), status: 403, code: "AccessDenied"},
		{name: "unsigned x-amz-copy-source", edit: set("X-Amz-Copy-Source", "/"+c.Bucket+"/there"), status: 403, code: "AccessDenied"},
		{name: "unsigned token", edit: set("X-Fencing-Token", fmt.Sprint(token)), status: 400, code: "InvalidFencingToken", targets: puts | getPlain},
		{name: "unsigned scope", edit: set("X-Fencing-Scope", c.Scope("scope/")), status: 400, code: "InvalidFencingToken", targets: puts | getPlain},
		{name: "token in an unsigned query", edit: addQuery("X-Fencing-Token=" + fmt.Sprint(token)), status: 403, code: "SignatureDoesNotMatch", targets: puts | getPlain},
		{name: "scope in an unsigned query", edit: addQuery("X-Fencing-Scope=s3%3A%2F%2Fx%2F"), status: 403, code: "SignatureDoesNotMatch", targets: puts | getPlain},
		{name: "unsigned metadata token", edit: set("X-Amz-Meta-Fencing-Token", fmt.Sprint(token)), status: 403, code: "AccessDenied", targets: puts},

		// Presigned, with additions.
		{name: "presigned, a parameter added", claim: claimed{expires: "60"}, edit: addQuery("acl"), status: 403, code: "SignatureDoesNotMatch"},
		{name: "presigned, a token added", claim: claimed{expires: "60"}, edit: addQuery("X-Fencing-Token=1"), status: 403, code: "SignatureDoesNotMatch"},
		{name: "presigned, a header added", claim: claimed{expires: "60"}, edit: set("X-Amz-Acl", "public-read"), status: 403, code: "AccessDenied"},
		{name: "presigned, metadata added", claim: claimed{expires: "60"}, edit: set("X-Amz-Meta-A", "1"), status: 403, code: "AccessDenied"},
		{name: "presigned, a token header added", claim: claimed{expires: "60"}, edit: set("X-Fencing-Token", "1"), status: 400, code: "InvalidFencingToken", targets: puts | getPlain},
		{name: "presigned, another method", claim: claimed{expires: "60"}, edit: func(r *http.Request) { r.Method = "DELETE" }, status: 403, code: "SignatureDoesNotMatch", targets: puts | getPlain},
		{name: "presigned, another key", claim: claimed{expires: "60"}, edit: func(r *http.Request) { r.URL.Path += "x" }, status: 403, code: "SignatureDoesNotMatch", targets: puts | getPlain},
		{name: "presigned, another host", claim: claimed{expires: "60"}, edit: func(r *http.Request) { r.Host = "evil.example.test" }, status: 403, code: "SignatureDoesNotMatch"},
		{name: "presigned, signature twice", claim: claimed{expires: "60"}, edit: addQuery("X-Amz-Signature=0"), status: 400, code: "AuthorizationQueryParametersError"},
		{name: "presigned change of a lock", claim: claimed{expires: "60"}, status: 400, code: "BadRequest", targets: callLock},

		// Chunks.
		{name: "chunks out of order", claim: claimed{chunked: true}, edit: chunks(swap), status: 403, code: "SignatureDoesNotMatch", targets: puts, late: true},
		{name: "a chunk twice", claim: claimed{chunked: true}, edit: chunks(func(c []string) []string { return slices.Insert(c, 1, c[0]) }), status: 403, code: "SignatureDoesNotMatch", targets: puts, late: true},
		{name: "a chunk missing", claim: claimed{chunked: true}, edit: chunks(func(c []string) []string { return slices.Delete(c, 1, 2) }), status: 400, code: "IncompleteBody", targets: puts, late: true},
		{name: "the last chunk missing", claim: claimed{chunked: true}, edit: chunks(func(c []string) []string { return c[:len(c)-1] }), status: 400, code: "IncompleteBody", targets: puts, late: true},
		{name: "cut in a chunk", claim: claimed{chunked: true}, edit: chunks(func(c []string) []string { return []string{c[0][:len(c[0])/2]} }), status: 400, code: "IncompleteBody", targets: puts, late: true},
		{name: "an end after the first chunk", claim: claimed{chunked: true}, edit: chunks(func(c []string) []string { return []string{c[0], c[len(c)-1]} }), status: 400, code: "IncompleteBody", targets: puts, late: true},
		{name: "chunks of another request", claim: claimed{chunked: true}, edit: func(r *http.Request) {
			other := p.forge(t, "PUT", "/"+c.Bucket+"/elsewhere", long, claimed{chunked: true, at: -time.Second}, nil)
			setBody(r, bodyOf(other))
		}, status: 403, code: "SignatureDoesNotMatch", targets: puts, late: true},
		{name: "an altered chunk", claim: claimed{chunked: true}, edit: chunks(func(c []string) []string {
			c[1] = strings.Replace(c[1], "abcdef", "abcdeF", 1)
			return c
		}), status: 403, code: "SignatureDoesNotMatch", targets: puts, late: true},
		{name: "an altered trailer", claim: claimed{trailer: true}, edit: chunks(func(c []string) []string {
			i := len(c) - 1
			c[i] = strings.Replace(c[i], "crc32c:", "crc32c:A", 1)
			return c
		}), status: 403, code: "SignatureDoesNotMatch", targets: puts, late: true},
		{name: "a chunk missing, of unsaid length", claim: claimed{chunked: true}, edit: func(r *http.Request) {
			chunks(func(c []string) []string { return slices.Delete(c, 1, 2) })(r)
			r.ContentLength = -1
		}, status: 403, code: "SignatureDoesNotMatch", targets: puts, late: true},
		{name: "an end after the first chunk, of unsaid length", claim: claimed{chunked: true}, edit: func(r *http.Request) {
			chunks(func(c []string) []string { return []string{c[0], c[len(c)-1]} })(r)
			r.ContentLength = -1
		}, status: 400, code: "IncompleteBody", targets: puts, late: true},
	} {
		targets := row.targets
		if targets == 0 {
			targets = everything
		}
		for _, kind := range []int{putPlain, putScope, getPlain, callLock} {
			if targets&kind == 0 {
				continue
			}
			key := "forged-" + strings.ToLower(strings.Map(func(r rune) rune {
				if r == ' ' || r == ',' {
					return '-'
				}
				return r
			}, row.name))
			method, target, body := "PUT", "/"+c.Bucket+"/"+key, "written by a forger"
			claim := row.claim
			claim.header = with(claim.header)
			switch kind {
			case putScope:
				key = "scope/" + key
				target = "/" + c.Bucket + "/" + key
				if claim.session == "" && claim.expires == "" && !strings.Contains(row.name, "token") && !strings.Contains(row.name, "scope") {
					claim.header["X-Fencing-Token"] = fmt.Sprint(token)
				}
			case getPlain:
				method, target, body = "GET", "/"+c.Bucket+"/there", ""
			case callLock:
				method, target, body = "POST", "/-/v1/locks/acquire", fmt.Sprintf(`{"scope":%q,"owner":"eve","ttl":"60s"}`, c.Scope("lock/"))
			}
			if claim.chunked || claim.trailer {
				body = long
			}
			store.forget()
			name := fmt.Sprintf("%s: %s %s", row.name, method, target)
			got, err := p.do(p.forge(t, method, target, body, claim, row.edit))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			code := got.Failure().Code
			if kind == callLock {
				code = got.Code()
			}
			if got.Status != row.status || code != row.code {
				t.Errorf("%s: want %d %s; %s", name, row.status, row.code, got)
			}
			if strings.Contains(got.Body, content) {
				t.Errorf("%s: the answer has the object", name)
			}
			about := "there"
			if kind != getPlain {
				about = "forged-"
			}
			if kind == putScope {
				about = ".s3fence/"
			}
			if sent := store.about(about); len(sent) > 0 && !row.late {
				t.Errorf("%s: the store was sent %q", name, sent)
			}
			if kind == putPlain || kind == putScope {
				if got := p.Send(t, Request{Method: "HEAD", Bucket: c.Bucket, Key: key}); got.Status != 404 {
					t.Errorf("%s: it was written: %s", name, got)
				}
			}
		}
	}
	var locks struct {
		Scopes []struct {
			Scope  string
			Holder *struct{ Owner string }
		}
	}
	p.API(t, "GET", "/-/v1/locks?prefix="+url.QueryEscape(c.Scope("lock/")), nil).Want(t, 200).JSON(t, &locks)
	for _, s := range locks.Scopes {
		if s.Holder != nil {
			t.Errorf("a forger has the lock: %+v", s)
		}
	}

	t.Run("just in time", func(t *testing.T) {
		for name, claim := range map[string]claimed{
			"late": {at: -14*time.Minute - 30*time.Second}, "early": {at: 14*time.Minute + 55*time.Second},
			"presigned, early": {at: 14*time.Minute + 55*time.Second, expires: "60"}, "for 7 days": {at: -time.Hour, expires: "604800"},
		} {
			got, err := p.do(p.forge(t, "GET", "/"+c.Bucket+"/there", "", claim, nil))
			if err != nil || got.Status != 200 || got.Body != content {
				t.Errorf("%s: %v; %s", name, err, got)
			}
		}
	})
	t.Run("browser forms", func(t *testing.T) {
		var form bytes.Buffer
		for _, f := range [][2]string{{"key", "forged-form"}, {"policy", "e30="}, {"x-amz-algorithm", "AWS4-HMAC-SHA256"},
			{"x-amz-credential", c.AccessKey + "/" + today + "/us-east-1/s3/aws4_request"}, {"x-amz-signature", strings.Repeat("0", 64)}} {
			fmt.Fprintf(&form, "--b\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", f[0], f[1])
		}
		form.WriteString("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nx\r\n--b--\r\n")
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+"/"+c.Bucket, &form)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		got, err := p.do(r)
		if err != nil {
			t.Fatal(err)
		}
		got.WantCode(t, 501, "NotImplemented")
		p.WantAbsent(t, "forged-form")
	})
	// What S3 itself tells of keys is all that is told: an unknown one is named as
	// such, and of a known one nothing differs but that.
	t.Run("what is told of keys", func(t *testing.T) {
		answers := map[string]bool{}
		for _, key := range []string{c.AccessKey, "e2e-second"} {
			got, err := p.do(p.forge(t, "GET", "/"+c.Bucket+"/there", "", claimed{key: key, secret: "wrong"}, nil))
			if err != nil {
				t.Fatal(err)
			}
			answers[fmt.Sprint(got.Status, got.Failure().Message)] = true
		}
		if len(answers) != 1 {
			t.Errorf("with a wrong secret, known keys are answered in %d ways: %v", len(answers), answers)
		}
	})
}

// crc32c is the value of the header x-amz-checksum-crc32c.
func crc32c(body string) string {
	sum := crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli))
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}
