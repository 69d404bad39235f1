package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/minio/minio-go/v7/pkg/signer"
)

// Independent signers: what they sign for a path, a query and headers of every
// kind must verify after it went over the wire.

var exampleCredentials = aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}

// targets are URLs as clients build them, from harmless to nasty.
var targets = []string{
	"/",
	"/bucket",
	"/bucket/key",
	"/bucket/a%20b",
	"/bucket/a+b",
	"/bucket/a%2Bb",
	"/bucket//double//slash/",
	"/bucket/./dot/../dots",
	"/bucket/%E2%82%AC/%F0%9F%98%80",
	"/bucket/t~i-l_d.e!*'()",
	"/bucket/sem;i,colon:at@eq=am&dollar$",
	"/bucket/percent%25percent",
	"/bucket/question%3Fmark%23hash",
	"/bucket?acl",
	"/bucket?prefix=a%2Fb&delimiter=%2F&list-type=2",
	"/bucket?prefix=a%20b%2Bc%26d%3De",
	"/bucket?uploads=&x-id=CreateMultipartUpload",
	"/bucket?prefix=%E2%82%AC&marker=~",
	"/bucket/key?partNumber=10&uploadId=a.b_c-d~e",
}

// repeated is apart: the specification sorts repeated parameters by value, which
// minio-go does not do.
const repeated = "/bucket/key?partNumber=2&partNumber=10"

func newRequest(tb testing.TB, method, target string, body string) *http.Request {
	tb.Helper()
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, "http://s3.example.test:9000"+target, rd)
	noError(tb, err)
	return r
}

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestAWSHeaderSigner(t *testing.T) {
	t.Parallel()
	sign := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	for _, target := range append([]string{repeated}, targets...) {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			r := newRequest(t, "PUT", target, "hello")
			r.Header.Set("X-Amz-Content-Sha256", sha256Hex("hello"))
			r.Header.Set("X-Amz-Meta-Spaces", "  a   b  c ")
			r.Header.Add("X-Amz-Meta-Repeat", "one")
			r.Header.Add("X-Amz-Meta-Repeat", "two,three")
			r.Header.Set("X-Fencing-Token", "34")
			r.Header.Set("X-Amz-Meta-Empty", "")
			noError(t, sign.SignHTTP(t.Context(), exampleCredentials, r, sha256Hex("hello"), "s3", "us-east-1", exampleTime))
			got, _, err := readBody(exampleVerifier(), overWire(t, r), BodyOptions{})
			noError(t, err)
			if string(got) != "hello" {
				t.Fatalf("body %q", got)
			}
		})
	}
}

func TestAWSPresigner(t *testing.T) {
	t.Parallel()
	sign := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	for _, target := range append([]string{repeated}, targets...) {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			join := "?"
			if strings.Contains(target, "?") {
				join = "&"
			}
			r := newRequest(t, "PUT", target+join+"X-Amz-Expires=600&X-Fencing-Token=34", "")
			r.Header.Set("X-Fencing-Scope", "s3://bucket/")
			url, headers, err := sign.PresignHTTP(t.Context(), exampleCredentials, r, unsignedPayload, "s3", "us-east-1", exampleTime)
			noError(t, err)
			sent, err := http.NewRequest(http.MethodPut, url, strings.NewReader("hello"))
			noError(t, err)
			for k, v := range headers {
				sent.Header[k] = v
			}
			v := verifierAt(exampleTime.Add(9 * time.Minute))
			s, err := v.Verify(overWire(t, sent))
			noError(t, err)
			if got := s.SignedQuery("x-fencing-token"); len(got) != 1 || got[0] != "34" {
				t.Fatalf("SignedQuery: %q", got)
			}
			if s.Kind != KindPresigned || s.Expires != 10*time.Minute {
				t.Fatalf("%+v", s)
			}
		})
	}
}

func TestMinioHeaderSigner(t *testing.T) {
	t.Parallel()
	for _, target := range targets {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			r := newRequest(t, "PUT", target, "hello")
			r.Header.Set("X-Amz-Content-Sha256", unsignedPayload)
			r.Header.Set("X-Amz-Meta-Spaces", "  a   b  c ")
			r.Header.Set("X-Fencing-Token", "34")
			r = signer.SignV4(*r, exampleKey, exampleSecret, "", "us-east-1")
			s, err := verifierAt(time.Now()).Verify(overWire(t, r))
			noError(t, err)
			if got := s.SignedHeader("x-fencing-TOKEN"); len(got) != 1 || got[0] != "34" {
				t.Fatalf("SignedHeader: %q", got)
			}
			if got := s.SignedHeader("User-Agent"); got != nil {
				t.Fatalf("unsigned header shown as signed: %q", got)
			}
		})
	}
}

func TestMinioPresigner(t *testing.T) {
	t.Parallel()
	for _, target := range targets {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			r := newRequest(t, "GET", target, "")
			r = signer.PreSignV4(*r, exampleKey, exampleSecret, "", "us-east-1", 60)
			_, err := verifierAt(time.Now()).Verify(overWire(t, r))
			noError(t, err)
		})
	}
}

type stdHash struct{ hash.Hash }

func (stdHash) Close() {}

// sizes around the chunk size of both SDKs.
var sizes = []int{1, 2, 1000, 65535, 65536, 65537, 200_000}

func pattern(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + 31*(i>>16))
	}
	return string(b)
}

func checksumOf(a Algorithm, s string) string {
	h := a.New()
	h.Write([]byte(s))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

func TestMinioStreamingSigner(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		for _, trailer := range []Algorithm{"", CRC32, CRC32C, CRC64NVME, SHA1, SHA256} {
			t.Run(fmt.Sprintf("%d %s", size, trailer), func(t *testing.T) {
				t.Parallel()
				body := pattern(size)
				r := newRequest(t, "PUT", "/bucket/key", body)
				if trailer != "" {
					r.Trailer = http.Header{trailer.Header(): {checksumOf(trailer, body)}}
				}
				r = signer.StreamingSignV4(r, exampleKey, exampleSecret, "", "us-east-1", int64(size), exampleTime, stdHash{sha256.New()})
				got, b, err := readBody(exampleVerifier(), overWire(t, r), BodyOptions{})
				noError(t, err)
				checkBody(t, got, b, body, trailer)
			})
		}
	}
}

func TestMinioUnsignedTrailer(t *testing.T) {
	t.Parallel()
	for _, size := range append([]int{0}, sizes...) {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			body := pattern(size)
			r := newRequest(t, "PUT", "/bucket/key", body)
			r.Header.Set("X-Amz-Content-Sha256", unsignedChunksTrailer)
			r.ContentLength = int64(size)
			r = signer.SignV4Trailer(*r, exampleKey, exampleSecret, "", "us-east-1", http.Header{CRC32C.Header(): {checksumOf(CRC32C, body)}})
			got, b, err := readBody(verifierAt(time.Now()), overWire(t, r), BodyOptions{})
			noError(t, err)
			checkBody(t, got, b, body, CRC32C)
		})
	}
}

func checkBody(t *testing.T, got []byte, b *Body, want string, a Algorithm) {
	t.Helper()
	if string(got) != want || b.Count() != int64(len(want)) {
		t.Fatalf("body of %d bytes differs, want %d", len(got), len(want))
	}
	sum, ok := b.Client()
	if ok != (a != "") {
		t.Fatalf("Client: %v %v, want %q", sum, ok, a)
	}
	if ok && (sum.Algorithm != a || sum.String() != checksumOf(a, want) || !bytes.Equal(sum.Value, b.Sum(a))) {
		t.Fatalf("Client: %s %s, Sum %x", sum.Algorithm, sum, b.Sum(a))
	}
}

// signed makes a request signed by the SDK of AWS; edit runs before signing.
func signed(tb testing.TB, method, target, payload, body string, edit func(*http.Request)) *http.Request {
	tb.Helper()
	r := newRequest(tb, method, target, body)
	r.Header.Set("X-Amz-Content-Sha256", payload)
	if edit != nil {
		edit(r)
	}
	sign := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	noError(tb, sign.SignHTTP(context.Background(), exampleCredentials, r, payload, "s3", "us-east-1", exampleTime))
	return r
}
