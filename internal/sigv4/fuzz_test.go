package sigv4

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/s3fence/s3fence/internal/corpus"
)

// FuzzVerify signs a request of arbitrary parts, demands that it verifies, changes
// one signed thing in an arbitrary way and demands that it does not. Arbitrary
// text in place of the authentication must never be accepted nor panic.
func FuzzVerify(f *testing.F) {
	f.Add("PUT", "bucket/key", "partNumber", "1", "ann", uint8(0), "x")
	f.Add("GET", "b//ä/../ +%", "prefix", "a b+c&d=é", "  two  spaces ", uint8(1), "%2F")
	f.Add("DELETE", "", "", "", "", uint8(2), ";")
	f.Add("POST", "b/k", "X-Amz-Meta", "~", "a,b", uint8(3), "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request,SignedHeaders=host,Signature=0")
	f.Add("HEAD", "b/%41%2f", "acl", "", "\t", uint8(4), "\n")
	sign := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	v := exampleVerifier()
	f.Fuzz(func(t *testing.T, method, path, name, value, owner string, what uint8, change string) {
		if !slices.Contains([]string{"GET", "PUT", "POST", "DELETE", "HEAD"}, method) ||
			strings.HasPrefix(strings.ToLower(name), "x-amz-") || strings.ContainsFunc(owner, func(r rune) bool { return r < ' ' || r > '~' }) ||
			slices.Contains([]string{"AWSAccessKeyId", "Signature", "Expires", ""}, name) {
			return
		}
		r, err := http.NewRequest(method, "http://s3.example.test/", nil)
		noError(t, err)
		r.URL.Path, r.URL.RawPath = "/"+path, EncodePath("/"+path)
		r.URL.RawQuery = EncodeQuery(name) + "=" + EncodeQuery(value)
		r.Header.Set("X-Amz-Meta-Owner", owner)
		r.Header.Set("X-Amz-Content-Sha256", emptySHA256)
		noError(t, sign.SignHTTP(t.Context(), exampleCredentials, r, emptySHA256, "s3", "us-east-1", exampleTime))
		// The signer has rewritten the query; the wire shows what it signed.
		r.RequestURI = EncodePath("/"+path) + "?" + r.URL.RawQuery
		s, err := v.Verify(r)
		noError(t, err)
		if got := s.SignedQuery(name); len(got) != 1 || got[0] != value {
			t.Fatalf("SignedQuery(%q) = %q, want %q", name, got, value)
		}
		if got, err := DecodePath(s.RawPath); err != nil || got != "/"+path {
			t.Fatalf("DecodePath = %q, %v, want %q", got, err, "/"+path)
		}

		before := *r
		r.Header = r.Header.Clone()
		switch what % 7 {
		case 0:
			r.RequestURI = "/" + change + "?" + r.URL.RawQuery
		case 1:
			r.RequestURI = EncodePath("/"+path) + "?" + change
		case 2:
			r.RequestURI += "&" + change
		case 3:
			r.Header.Set("Authorization", change)
		case 4:
			r.Header.Set("X-Amz-Meta-Owner", change)
		case 5:
			r.Host = change
		case 6:
			r.RequestURI = change
		}
		s, err = v.Verify(r)
		if err == nil && !sameMeaning(&before, r, s) {
			t.Fatalf("accepted what was not signed: %q %q, owner %q", r.RequestURI, r.Host, r.Header["X-Amz-Meta-Owner"])
		}
	})
}

// sameMeaning reports whether an accepted request says what the signed one said.
func sameMeaning(signed, got *http.Request, s *Signed) bool {
	wantPath, wantQuery, _ := RawTarget(signed)
	want, _ := DecodePath(wantPath)
	path, err := DecodePath(s.RawPath)
	a, _ := ParseQuery(wantQuery)
	b := slices.Clone(s.Params)
	order := func(p, q Param) int { return strings.Compare(p.Name+"\x00"+p.Value, q.Name+"\x00"+q.Value) }
	slices.SortFunc(a, order)
	slices.SortFunc(b, order)
	collapse := func(s string) string {
		return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " ")
	}
	trim := func(s string) string { return collapse(strings.Trim(s, " \t")) }
	return err == nil && path == want && slices.Equal(a, b) && signed.Host == got.Host &&
		trim(signed.Header.Get("X-Amz-Meta-Owner")) == trim(got.Header.Get("X-Amz-Meta-Owner"))
}

// FuzzPresigned feeds arbitrary queries: nothing but the one signed is accepted.
func FuzzPresigned(f *testing.F) {
	_, good, _ := strings.Cut(presignedHead, "?")
	good, _, _ = strings.Cut(good, " ")
	f.Add(good)
	f.Add(strings.Replace(good, "86400", "86401", 1))
	f.Add(good + "&x")
	f.Add("AWSAccessKeyId=a&Signature=b&Expires=c")
	f.Add("X-Amz-Signature=&X-Amz-Signature=%")
	want, err := ParseQuery(good)
	noError(f, err)
	order := func(p, q Param) int { return strings.Compare(p.Name+p.Value, q.Name+q.Value) }
	slices.SortFunc(want, order)
	v := exampleVerifier()
	f.Fuzz(func(t *testing.T, query string) {
		r := &http.Request{Method: http.MethodGet, RequestURI: "/test.txt?" + query, Host: "examplebucket.s3.amazonaws.com", Header: http.Header{}}
		s, err := v.Verify(r)
		if err != nil {
			return
		}
		got := slices.Clone(s.Params)
		slices.SortFunc(got, order)
		if !slices.Equal(got, want) {
			t.Fatalf("accepted %q", query)
		}
	})
}

// FuzzChunks has two halves. Any body in any chunking of any reader comes out
// as it went in, signed or not. And arbitrary bytes in place of the encoded body
// never panic, and never end in io.EOF unless they decode to what was promised.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("hello"), uint16(2), []byte("5\r\nhello\r\n0\r\n\r\n"))
	f.Add([]byte(""), uint16(1), []byte("0\r\n\r\n"))
	f.Add(bytes.Repeat([]byte("a"), 300), uint16(64), []byte("5;chunk-signature=0\r\n"))
	f.Add([]byte("x"), uint16(7), []byte("1\r\nx\r\n0\r\nx-amz-checksum-crc32:jc8d6w==\r\n\r\n"))
	f.Add([]byte("x"), uint16(7), []byte("1\r\nx\r\n0\r\nx-amz-checksum-crc32:jNx2sw==\n\r\n\r\n"))
	for _, m := range corpus.Seeds(f) {
		if bytes.Contains(m.Raw, []byte("STREAMING-")) {
			f.Add([]byte("x"), uint16(7), m.Body())
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, size uint16, junk []byte) {
		if len(body) > 200_000 || size == 0 {
			return
		}
		v := exampleVerifier()
		if len(body) > 0 {
			r, err := http.NewRequest(http.MethodPut, "http://s3.example.test/bucket/key", bytes.NewReader(body))
			noError(t, err)
			r.Trailer = http.Header{CRC32.Header(): {checksumOf(CRC32, string(body))}}
			r = signer.StreamingSignV4(r, exampleKey, exampleSecret, "", "us-east-1", int64(len(body)), exampleTime, stdHash{sha256.New()})
			r.Body = io.NopCloser(&pieces{r.Body, int(size)})
			got, _, err := readBody(v, r, BodyOptions{})
			noError(t, err)
			if !bytes.Equal(got, body) {
				t.Fatal("signed chunks do not round-trip")
			}
			r.Body = io.NopCloser(bytes.NewReader(junk))
			if got, _, err := readBody(v, r, BodyOptions{}); err == nil && !bytes.Equal(got, body) {
				t.Fatalf("signed chunks decoded to %q", got)
			}
		}

		var encoded bytes.Buffer
		for piece := range slices.Chunk(body, int(size)) {
			encoded.WriteString(hexInt(len(piece)) + "\r\n")
			encoded.Write(piece)
			encoded.WriteString("\r\n")
		}
		sum := checksumOf(CRC32, string(body))
		encoded.WriteString("0\r\n" + CRC32.Header() + ":" + sum + "\r\n\r\n")
		r := signed(t, "PUT", "/bucket/key", unsignedChunksTrailer, "", func(r *http.Request) { r.Header.Set("X-Amz-Trailer", CRC32.Header()) })
		r.ContentLength = -1
		r.Body = io.NopCloser(&pieces{&encoded, int(size)})
		got, b, err := readBody(v, r, BodyOptions{})
		noError(t, err)
		if !bytes.Equal(got, body) || b.Length() != -1 {
			t.Fatal("unsigned chunks do not round-trip")
		}
		count := &counter{Reader: bytes.NewReader(junk)}
		r.Body = io.NopCloser(count)
		got, b, err = readBody(v, r, BodyOptions{})
		if len(got) > len(junk) || count.n > len(junk) {
			t.Fatal("more came out than went in")
		}
		if err != nil {
			return
		}
		if c, _ := b.Client(); c.String() != checksumOf(CRC32, string(got)) || count.n != len(junk) {
			t.Fatalf("accepted %q", junk)
		}
	})
}

// pieces reads at most n bytes at a time.
type pieces struct {
	src io.Reader
	n   int
}

func (p *pieces) Read(b []byte) (int, error) { return p.src.Read(b[:min(p.n, len(b))]) }

// counter counts what was read of it.
type counter struct {
	io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// FuzzParseQuery holds the parser against net/url where that knows better than to
// drop or refuse what we keep, and encodes back what it decoded.
func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{"", "a=b", "a=b&a=c", "a;b=c", "%41=%2b+", "%", "%zz", "&&=&=x", "a=b=c", strings.Repeat("a&", 1001)} {
		f.Add(s)
	}
	for _, m := range corpus.Seeds(f) {
		_, query := m.Target()
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		params, err := ParseQuery(raw)
		theirs, theirErr := url.ParseQuery(strings.ReplaceAll(raw, ";", "%3B"))
		if err != nil {
			wantCode(t, err, CodeInvalidURI)
			if theirErr == nil && strings.Count(raw, "&") < maxParams {
				t.Fatalf("refused %q: %v", raw, err)
			}
			return
		}
		if theirErr != nil {
			t.Fatalf("accepted %q, net/url says %v", raw, theirErr)
		}
		n := 0
		seen := map[string]int{}
		pieces := make([]string, 0, len(params))
		for _, p := range params {
			values := theirs[p.Name]
			if i := seen[p.Name]; i >= len(values) || values[i] != p.Value {
				t.Fatalf("%q: parameter %q is %q, net/url has %q", raw, p.Name, p.Value, values)
			}
			seen[p.Name]++
			n++
			pieces = append(pieces, EncodeQuery(p.Name)+"="+EncodeQuery(p.Value))
		}
		for _, values := range theirs {
			n -= len(values)
		}
		if n != 0 {
			t.Fatalf("%q: %d parameters more than net/url", raw, n)
		}
		again, err := ParseQuery(strings.Join(pieces, "&"))
		noError(t, err)
		if !slices.Equal(again, params) {
			t.Fatalf("%q does not survive encoding", raw)
		}
	})
}
