package e2e

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Request is a request signed by hand.
type Request struct {
	Method string
	Bucket string
	// Key is escaped as S3 clients do; RawPath, where set, is the path as it
	// travels and is signed so, without the bucket's own slash.
	Key, RawPath string
	Query        url.Values
	Header       map[string]string
	// Unsigned headers are added after signing.
	Unsigned map[string]string
	Body     string
	// Chunked sends the body without its length.
	Chunked bool
	// AccessKey and SecretKey are the cluster's where empty.
	AccessKey, SecretKey, SessionToken string
	// Presigned signs in the query; the headers named must then be sent too.
	Presigned bool
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	what   string
}

func (a Answer) String() string {
	return fmt.Sprintf("%s: status %d\n%v\n%s", a.what, a.Status, a.Header, clip(a.Body))
}

// Want fails the test unless the status is this one.
func (a Answer) Want(t testing.TB, status int) Answer {
	t.Helper()
	if a.Status != status {
		t.Fatalf("want status %d; %s", status, a)
	}
	return a
}

// WantCode fails the test unless status and S3 error code are these, and
// returns the error.
func (a Answer) WantCode(t testing.TB, status int, code string) Failure {
	t.Helper()
	f := a.Failure()
	if a.Status != status || f.Code != code {
		t.Fatalf("want %d %s; %s", status, code, a)
	}
	return f
}

// Failure is S3's error document with the elements that the fence adds.
type Failure struct {
	XMLName                                xml.Name `xml:"Error"`
	Code, Message, Resource                string
	Scope, FencingToken, HighestToken, Key string
}

// Failure reads the error document; one that is none is empty.
func (a Answer) Failure() Failure {
	var f Failure
	_ = xml.Unmarshal([]byte(a.Body), &f)
	return f
}

// JSON reads the body of an answer of the JSON API.
func (a Answer) JSON(t testing.TB, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.Body), into); err != nil {
		t.Fatalf("%v; %s", err, a)
	}
}

// Token reads the token of a grant.
func (a Answer) Token(t testing.TB) int64 {
	t.Helper()
	var grant struct {
		Token json.Number `json:"token"`
	}
	a.JSON(t, &grant)
	token, err := grant.Token.Int64()
	if err != nil || token <= 0 {
		t.Fatalf("no token; %s", a)
	}
	return token
}

// Code reads the code of a failure of the JSON API.
func (a Answer) Code() string {
	var f struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal([]byte(a.Body), &f)
	return f.Code
}

// Send sends one request, once, and fails the test if no answer comes.
func (p *Proxy) Send(t testing.TB, r Request) Answer {
	t.Helper()
	answer, err := p.TrySend(t.Context(), r)
	if err != nil {
		t.Fatalf("%s s3://%s/%s: %v", r.Method, r.Bucket, r.Key, err)
	}
	return answer
}

// TrySend sends one request, once.
func (p *Proxy) TrySend(ctx context.Context, r Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	req, err := p.build(ctx, r)
	if err != nil {
		return Answer{}, err
	}
	return p.do(req)
}

// do sends a request that is ready to be sent.
func (p *Proxy) do(req *http.Request) (Answer, error) {
	resp, err := p.http().Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body), what: req.Method + " " + req.URL.String()}, nil
}

// build makes the signed request.
func (p *Proxy) build(ctx context.Context, r Request) (*http.Request, error) {
	raw := r.RawPath
	if raw == "" {
		raw = "/"
		if r.Bucket != "" {
			raw += escape(r.Bucket)
			if r.Key != "" {
				raw += "/" + escape(r.Key)
			}
		}
	}
	path, err := url.PathUnescape(raw)
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(p.URL)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, p.URL, strings.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	if r.Chunked {
		req.ContentLength = -1
	}
	// S3 signs spaces as %20, never as +.
	req.URL = &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path, RawPath: raw, RawQuery: strings.ReplaceAll(r.Query.Encode(), "+", "%20")}
	for name, value := range r.Header {
		req.Header.Set(name, value)
	}
	credentials := aws.Credentials{AccessKeyID: r.AccessKey, SecretAccessKey: r.SecretKey, SessionToken: r.SessionToken}
	if credentials.AccessKeyID == "" {
		credentials.AccessKeyID, credentials.SecretAccessKey = p.cluster.AccessKey, p.cluster.SecretKey
	}
	sum := sha256.Sum256([]byte(r.Body))
	digest := hex.EncodeToString(sum[:])
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if r.Presigned {
		query := req.URL.Query()
		query.Set("X-Amz-Expires", "300")
		req.URL.RawQuery = strings.ReplaceAll(query.Encode(), "+", "%20")
		signed, _, err := signer.PresignHTTP(ctx, credentials, req, "UNSIGNED-PAYLOAD", "s3", "us-east-1", time.Now())
		if err != nil {
			return nil, err
		}
		if req.URL, err = url.Parse(signed); err != nil {
			return nil, err
		}
	} else {
		req.Header.Set("X-Amz-Content-Sha256", digest)
		if err := signer.SignHTTP(ctx, credentials, req, digest, "s3", "us-east-1", time.Now()); err != nil {
			return nil, err
		}
	}
	for name, value := range r.Unsigned {
		req.Header.Set(name, value)
	}
	return req, nil
}

// escape encodes a path as S3 clients do: everything but unreserved characters
// and slashes.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// API calls the JSON API.
func (p *Proxy) API(t testing.TB, method, path string, body any) Answer {
	t.Helper()
	answer, err := p.TryAPI(t.Context(), method, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer
}

// TryAPI calls the JSON API.
func (p *Proxy) TryAPI(ctx context.Context, method, path string, body any) (Answer, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return Answer{}, err
		}
	}
	path, query, _ := strings.Cut(path, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return Answer{}, err
	}
	return p.TrySend(ctx, Request{Method: method, RawPath: path, Query: values, Body: string(text), Header: map[string]string{"Content-Type": "application/json"}})
}

// Get reads an object of the cluster's bucket and returns its body.
func (p *Proxy) Get(t testing.TB, key string) string {
	t.Helper()
	return p.Send(t, Request{Method: "GET", Bucket: p.cluster.Bucket, Key: key}).Want(t, 200).Body
}

// WantAbsent fails the test if the object is there.
func (p *Proxy) WantAbsent(t testing.TB, key string) {
	t.Helper()
	p.Send(t, Request{Method: "GET", Bucket: p.cluster.Bucket, Key: key}).WantCode(t, 404, "NoSuchKey")
}

// Put writes an object of the cluster's bucket without a token.
func (p *Proxy) Put(t testing.TB, key, body string) Answer {
	t.Helper()
	return p.Send(t, Request{Method: "PUT", Bucket: p.cluster.Bucket, Key: key, Body: body})
}

// PutToken writes an object of the cluster's bucket with a token in a signed
// header.
func (p *Proxy) PutToken(t testing.TB, key, body string, token int64) Answer {
	t.Helper()
	return p.Send(t, Request{Method: "PUT", Bucket: p.cluster.Bucket, Key: key, Body: body, Header: tokenHeader(token)})
}

func tokenHeader(token int64) map[string]string {
	return map[string]string{"X-Fencing-Token": strconv.FormatInt(token, 10)}
}

// with returns a copy of a header map with more entries.
func with(header map[string]string, pairs ...string) map[string]string {
	header = maps.Clone(header)
	if header == nil {
		header = map[string]string{}
	}
	for pair := range slices.Chunk(pairs, 2) {
		header[pair[0]] = pair[1]
	}
	return header
}

// XML reads an XML body.
func (a Answer) XML(t testing.TB, into any) {
	t.Helper()
	if err := xml.NewDecoder(bytes.NewReader([]byte(a.Body))).Decode(into); err != nil {
		t.Fatalf("%v; %s", err, a)
	}
}

// sendAltered sends a request whose URL was altered after signing.
func (p *Proxy) sendAltered(ctx context.Context, r Request, alter func(*url.URL)) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	req, err := p.build(ctx, r)
	if err != nil {
		return Answer{}, err
	}
	alter(req.URL)
	return p.do(req)
}

// contentMD5 is the value of the header Content-MD5, which some operations want.
func contentMD5(body string) string {
	sum := md5.Sum([]byte(body))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// hexMD5 is the ETag, without quotes, of an object that was sent in one piece.
func hexMD5(body string) string {
	sum := md5.Sum([]byte(body))
	return hex.EncodeToString(sum[:])
}

// quantiles returns the median and the largest.
func quantiles(d []time.Duration) (median, worst time.Duration) {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[len(sorted)/2], sorted[len(sorted)-1]
}
