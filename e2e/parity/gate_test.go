package parity

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/s3fence/s3fence/client"
)

// gate stands between a suite and a server where something has to be done that a
// suite does not do by itself; doc.go says what, and what becomes of a request.
type gate struct {
	// target is where requests go.
	target *url.URL
	// tokens is the setting of the guards that buckets get; empty: they get none.
	tokens string
	// accessKey and secretKey are the suite's.
	accessKey, secretKey string
	api                  *client.Client
	// owner reaches the store past the proxy.
	owner     *minio.Client
	transport *http.Transport
	signer    *v4.Signer
	fault     func(format string, args ...any)

	mu sync.Mutex
	// held has the token of each guarded bucket, 0 where there are none.
	held map[string]int64

	addr string
}

// open starts a gate, over TLS where secure says so, which ends with the test.
func (d *deployment) open(t *testing.T, target string, api *client.Client, tokens string, secure bool) *gate {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	owner, err := minio.New(strings.TrimPrefix(d.store.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(d.store.AccessKey, d.store.SecretKey, ""), Region: "us-east-1", MaxRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{
		target: u, tokens: tokens, accessKey: d.accessKey, secretKey: d.secretKey, api: api, owner: owner,
		transport: &http.Transport{
			DisableCompression: true, TLSClientConfig: d.cert.client, MaxIdleConnsPerHost: 64,
			ExpectContinueTimeout: time.Minute,
		},
		signer: v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }),
		fault:  t.Errorf, held: map[string]int64{},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = listener.Addr().String()
	if secure {
		listener = tls.NewListener(listener, d.cert.server)
	}
	server := &http.Server{Handler: g, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
		g.transport.CloseIdleConnections()
	})
	return g
}

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		g.tunnel(w)
		return
	}
	path, query, _ := strings.Cut(r.RequestURI, "?")
	if scheme, rest, absolute := strings.Cut(path, "://"); absolute && scheme == "http" {
		_, path, _ = strings.Cut(rest, "/")
		path = "/" + path
	}
	bucket, key := name(r.Host, path)
	whole := bucket != "" && key == "" && !selects(query)
	if g.tokens != "" && whole && r.Method == http.MethodDelete && g.guarded(bucket) {
		if !g.unguard(r.Context(), bucket) {
			g.forward(w, r, path, query, bucket, nil)
			return
		}
		g.forward(w, r, path, query, bucket, func(status int) {
			if status/100 != 2 {
				g.guard(r.Context(), bucket)
			}
		})
		return
	}
	if g.tokens != "" && whole && r.Method == http.MethodPut {
		g.forward(w, r, path, query, bucket, func(status int) {
			if status/100 == 2 {
				g.guard(r.Context(), bucket)
			}
		})
		return
	}
	g.forward(w, r, path, query, bucket, nil)
}

// name is the bucket and the key that a request names, the key as it is on the wire.
func name(host, path string) (bucket, key string) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	path = strings.TrimPrefix(path, "/")
	if bucket, virtual := strings.CutSuffix(host, "."+domain); virtual {
		return bucket, path
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key
}

// selects reports whether a query names a part of a bucket, other than x-id, by
// which SDKs name the operation.
func selects(query string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		if pair != "" && !strings.HasPrefix(pair, "x-id=") && !strings.HasPrefix(strings.ToLower(pair), "x-amz-") {
			return true
		}
	}
	return false
}

// tunnel serves CONNECT: bytes go to the target as they are.
func (g *gate) tunnel(w http.ResponseWriter) {
	there, err := net.Dial("tcp", g.target.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	here, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		there.Close()
		return
	}
	defer here.Close()
	defer there.Close()
	if _, err := io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() { _, _ = io.Copy(there, buffered); there.Close() }()
	_, _ = io.Copy(here, there)
}

// forward sends a request on and relays the answer; then is called between the two.
func (g *gate) forward(w http.ResponseWriter, r *http.Request, path, query, bucket string, then func(status int)) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL = &url.URL{Scheme: g.target.Scheme, Host: g.target.Host, Opaque: path, RawQuery: query}
	if strings.HasPrefix(path, "//") {
		// Opaque would take it for a host.
		out.URL.Opaque, out.URL.RawPath = "", path
		out.URL.Path, _ = url.PathUnescape(path)
	}
	out.Header.Del("Connection")
	out.Header.Del("Proxy-Connection")
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil
	}
	if r.ContentLength == 0 && len(r.TransferEncoding) == 0 {
		out.Body = http.NoBody
	}
	if token := g.token(bucket); token != 0 {
		g.stamp(out, path, token)
	}
	resp, err := g.transport.RoundTrip(out)
	if err != nil {
		http.Error(w, "parity gate: "+err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	if then != nil {
		then(resp.StatusCode)
	}
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	_, err = io.Copy(w, resp.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

func (g *gate) guarded(bucket string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.held[bucket]
	return ok
}

func (g *gate) token(bucket string) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held[bucket]
}

// guard makes the whole bucket one scope and takes its lock where it has tokens.
func (g *gate) guard(ctx context.Context, bucket string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyWait)
	defer cancel()
	scope := "s3://" + bucket + "/"
	if _, err := g.api.AddGuard(ctx, client.Guard{Pattern: scope, Tokens: g.tokens}); err != nil {
		g.fault("gate: guard %s: %v", scope, err)
		return
	}
	var token int64
	if g.tokens == "required" {
		lease, err := g.api.Take(ctx, scope, "parity", time.Hour, "the suite's token")
		if err != nil {
			g.fault("gate: lock %s: %v", scope, err)
			return
		}
		token = lease.Token
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held[bucket] = token
}

// unguard takes the guard away, and the bytes that it left to the collector. It
// reports false where objects stand under it.
func (g *gate) unguard(ctx context.Context, bucket string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyWait)
	defer cancel()
	if err := g.api.RemoveGuard(ctx, "s3://"+bucket+"/"); err != nil {
		return false
	}
	g.mu.Lock()
	delete(g.held, bucket)
	g.mu.Unlock()
	for object := range g.owner.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: ".s3fence/", Recursive: true}) {
		err := object.Err
		if err == nil {
			err = g.owner.RemoveObject(ctx, bucket, object.Key, minio.RemoveObjectOptions{})
		}
		if err != nil {
			g.fault("gate: empty %s: %v", bucket, err)
			break
		}
	}
	return true
}

// stamp gives a rightly signed request the token and signs it anew. Any other, and
// one whose chunks are signed, stays as it is, so that no refusal is hidden.
func (g *gate) stamp(r *http.Request, path string, token int64) {
	if r.URL.Query().Get("X-Amz-Signature") != "" {
		g.stampQuery(r, path, token)
		return
	}
	hash := r.Header.Get("X-Amz-Content-Sha256")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	authorization := r.Header.Get("Authorization")
	if err != nil || strings.HasPrefix(hash, "STREAMING-AWS4-") {
		return
	}
	signed, ok := field(authorization, "SignedHeaders=")
	if !ok {
		return
	}
	was, err := g.sign(r, path, strings.Split(signed, ";"), hash, at)
	if err != nil || was.Get("Authorization") == "" || !sameSignature(was.Get("Authorization"), authorization) {
		return
	}
	r.Header.Set("X-Fencing-Token", strconv.FormatInt(token, 10))
	now, err := g.sign(r, path, append(strings.Split(signed, ";"), "x-fencing-token"), hash, at)
	if err != nil {
		g.fault("gate: sign: %v", err)
		return
	}
	r.Header.Set("Authorization", now.Get("Authorization"))
}

// sign signs a copy of r that has the named headers alone, and returns its headers.
func (g *gate) sign(r *http.Request, path string, names []string, hash string, at time.Time) (http.Header, error) {
	bare := &http.Request{
		Method: r.Method, Host: r.Host, Header: http.Header{},
		URL: &url.URL{Scheme: g.target.Scheme, Host: r.Host, Opaque: "//" + r.Host + path, RawQuery: r.URL.RawQuery},
	}
	for _, n := range names {
		switch n {
		case "host":
		case "content-length":
			bare.ContentLength = r.ContentLength
		default:
			bare.Header[http.CanonicalHeaderKey(n)] = r.Header.Values(n)
		}
	}
	err := g.signer.SignHTTP(r.Context(), aws.Credentials{AccessKeyID: g.accessKey, SecretAccessKey: g.secretKey}, bare, hash, "s3", "us-east-1", at)
	return bare.Header, err
}

// stampQuery is stamp for a presigned request.
func (g *gate) stampQuery(r *http.Request, path string, token int64) {
	q := r.URL.Query()
	at, err := time.Parse("20060102T150405Z", q.Get("X-Amz-Date"))
	signature := q.Get("X-Amz-Signature")
	if err != nil {
		return
	}
	names := strings.Split(q.Get("X-Amz-SignedHeaders"), ";")
	for _, n := range []string{"X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Credential", "X-Amz-Algorithm"} {
		q.Del(n)
	}
	presign := func() (*url.URL, error) {
		bare := &http.Request{
			Method: r.Method, Host: r.Host, Header: http.Header{},
			URL: &url.URL{Scheme: g.target.Scheme, Host: r.Host, Opaque: "//" + r.Host + path, RawQuery: q.Encode()},
		}
		for _, n := range names {
			if n == "content-length" {
				bare.ContentLength = r.ContentLength
			} else if n != "host" {
				bare.Header[http.CanonicalHeaderKey(n)] = r.Header.Values(n)
			}
		}
		text, _, err := g.signer.PresignHTTP(r.Context(), aws.Credentials{AccessKeyID: g.accessKey, SecretAccessKey: g.secretKey},
			bare, "UNSIGNED-PAYLOAD", "s3", "us-east-1", at)
		if err != nil {
			return nil, err
		}
		return url.Parse(text)
	}
	was, err := presign()
	if err != nil || was.Query().Get("X-Amz-Signature") != signature {
		return
	}
	q.Set("X-Fencing-Token", strconv.FormatInt(token, 10))
	now, err := presign()
	if err != nil {
		g.fault("gate: presign: %v", err)
		return
	}
	r.URL.RawQuery = now.RawQuery
}

// field is the value of one part of an Authorization header.
func field(authorization, name string) (string, bool) {
	_, rest, ok := strings.Cut(authorization, name)
	value, _, _ := strings.Cut(rest, ",")
	return strings.TrimSpace(value), ok
}

func sameSignature(a, b string) bool {
	x, _ := field(a, "Signature=")
	y, _ := field(b, "Signature=")
	return x != "" && x == y
}
