package sigv4

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/minio/minio-go/v7/pkg/signer"
)

// streamed is an upload in three signed chunks of 64 KiB, 64 KiB and 10 bytes,
// with a crc32c trailer where asked for, split from its bytes so that they can be
// changed before withBody joins them again.
func streamed(tb testing.TB, trailer bool) (*http.Request, string) {
	tb.Helper()
	body := pattern(2*65536 + 10)
	r := newRequest(tb, "PUT", "/bucket/key", body)
	if trailer {
		r.Trailer = http.Header{CRC32C.Header(): {checksumOf(CRC32C, body)}}
	}
	r = signer.StreamingSignV4(r, exampleKey, exampleSecret, "", "us-east-1", int64(len(body)), exampleTime, stdHash{sha256.New()})
	return split(tb, r)
}

// unsignedStreamed is the same body as STREAMING-UNSIGNED-PAYLOAD-TRAILER.
func unsignedStreamed(tb testing.TB) (*http.Request, string) {
	tb.Helper()
	body := pattern(2*65536 + 10)
	r := signed(tb, "PUT", "/bucket/key", unsignedChunksTrailer, "", func(r *http.Request) {
		r.Header.Set("X-Amz-Trailer", CRC32C.Header())
		r.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(len(body)))
	})
	text := "10000\r\n" + body[:65536] + "\r\n10000\r\n" + body[65536:2*65536] + "\r\na\r\n" + body[2*65536:] +
		"\r\n0\r\n" + CRC32C.Header() + ":" + checksumOf(CRC32C, body) + "\r\n\r\n"
	return r, text
}

func split(tb testing.TB, r *http.Request) (*http.Request, string) {
	tb.Helper()
	r = overWire(tb, r)
	text, err := io.ReadAll(r.Body)
	noError(tb, err)
	return r, string(text)
}

func withBody(r *http.Request, body string) *http.Request {
	r.Body = io.NopCloser(strings.NewReader(body))
	r.ContentLength = int64(len(body))
	return r
}

func TestChunkRefusals(t *testing.T) {
	t.Parallel()
	const signedHead = 5 + 17 + 64 + 2   // "10000;chunk-signature=" 64 CRLF
	const chunk = signedHead + 65536 + 2 // and its data, CRLF
	replace := func(old, new string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				panic("lacks " + old)
			}
			return strings.Replace(s, old, new, 1)
		}
	}
	flip := func(at int) func(string) string {
		return func(s string) string {
			b := []byte(s)
			b[(at+len(b))%len(b)] ^= 1
			return string(b)
		}
	}
	last := func(s string) int { return strings.LastIndex(s, "\r\n0;") + 2 }
	for _, tt := range []struct {
		name string
		make string // signed, trailer, unsigned
		edit func(string) string
		code Code
	}{
		{"data changed in the first chunk", "signed", flip(signedHead + 9), CodeSignatureDoesNotMatch},
		{"data changed in the last chunk", "signed", func(s string) string { return flip(last(s) - 4)(s) }, CodeSignatureDoesNotMatch},
		{"data changed before a trailer", "trailer", flip(signedHead + 9), CodeSignatureDoesNotMatch},
		{"data changed, unsigned", "unsigned", flip(20), CodeBadDigest},
		{"chunk signature changed", "signed", replace("chunk-signature=", "chunk-signature=0"), CodeSignatureDoesNotMatch},
		{"chunk signature emptied", "signed", func(s string) string { return s[:22] + s[22+64:] }, CodeSignatureDoesNotMatch},
		{"last signature changed", "signed", func(s string) string { return flip(last(s) + 30)(s) }, CodeSignatureDoesNotMatch},
		{"chunks swapped", "signed", func(s string) string { return s[chunk:2*chunk] + s[:chunk] + s[2*chunk:] }, CodeSignatureDoesNotMatch},
		{"chunk repeated", "signed", func(s string) string { return s[:chunk] + s }, CodeSignatureDoesNotMatch},
		{"chunk dropped", "signed", func(s string) string { return s[chunk:] }, CodeSignatureDoesNotMatch},
		{"chunks swapped, unsigned", "unsigned", func(s string) string {
			const n = 7 + 65536 + 2
			return s[n:2*n] + s[:n] + s[2*n:]
		}, CodeBadDigest},
		{"cut in a header", "signed", func(s string) string { return s[:chunk+10] }, CodeIncompleteBody},
		{"cut in data", "signed", func(s string) string { return s[:chunk+signedHead+100] }, CodeIncompleteBody},
		{"cut after data", "signed", func(s string) string { return s[:chunk-2] }, CodeIncompleteBody},
		{"cut between chunks", "signed", func(s string) string { return s[:chunk] }, CodeIncompleteBody},
		{"final chunk missing", "signed", func(s string) string { return s[:last(s)] }, CodeIncompleteBody},
		{"final CRLF missing", "signed", func(s string) string { return s[:len(s)-2] }, CodeIncompleteBody},
		{"final LF missing", "signed", func(s string) string { return s[:len(s)-1] }, CodeIncompleteBody},
		{"bytes after the end", "signed", func(s string) string { return s + "x" }, CodeInvalidRequest},
		{"chunk after the end", "signed", func(s string) string { return s + s }, CodeInvalidRequest},
		{"empty", "signed", func(string) string { return "" }, CodeIncompleteBody},
		{"no trailer in a signed body", "signed", func(s string) string { return s[:len(s)-2] + CRC32C.Header() + ":AAAAAA==\r\n\r\n" }, CodeInvalidRequest},

		{"data without CRLF", "signed", func(s string) string { return s[:chunk-2] + "xx" + s[chunk:] }, CodeInvalidRequest},
		{"header without CR", "signed", replace("\r\n", "\n"), CodeInvalidRequest},
		{"size not hexadecimal", "signed", replace("10000;", "1000g;"), CodeInvalidRequest},
		{"size negative", "signed", replace("10000;", "-10000;"), CodeInvalidRequest},
		{"size with prefix", "signed", replace("10000;", "0x10000;"), CodeInvalidRequest},
		{"size empty", "signed", replace("10000;", ";"), CodeInvalidRequest},
		{"size with space", "signed", replace("10000;", "10000 ;"), CodeInvalidRequest},
		{"size beyond 64 bits", "signed", replace("10000;", "1ffffffffffffffff;"), CodeInvalidRequest},
		{"size beyond 63 bits", "signed", replace("10000;", "ffffffffffffffff;"), CodeInvalidRequest},
		{"size beyond a PUT", "signed", replace("10000;", "200000000;"), CodeInvalidRequest},
		{"size beyond the promise", "signed", replace("10000;", "100000;"), CodeIncompleteBody},
		{"header endless", "signed", func(s string) string { return strings.Repeat("0", 10_000) + s }, CodeInvalidRequest},
		{"header long", "signed", func(s string) string { return strings.Repeat("0", 100) + s }, CodeInvalidRequest},
		{"signature missing", "signed", func(s string) string { return "10000\r\n" + s[signedHead:] }, CodeInvalidRequest},
		{"signature where none belongs", "unsigned", replace("10000\r\n", "10000;chunk-signature="+emptySHA256+"\r\n"), CodeInvalidRequest},
		{"extension", "unsigned", replace("10000\r\n", "10000;a=b\r\n"), CodeInvalidRequest},
		{"ended early", "unsigned", replace("a\r\n", "0\r\n"), CodeIncompleteBody},

		{"trailer signature changed", "trailer", func(s string) string { return flip(-6)(s) }, CodeSignatureDoesNotMatch},
		{"trailer signature missing", "trailer", func(s string) string { return s[:strings.Index(s, trailerSigName)] }, CodeMalformedTrailer},
		{"trailer signature where none belongs", "unsigned", func(s string) string { return s[:len(s)-2] + trailerSigName + ":x\r\n\r\n" }, CodeMalformedTrailer},
		{"trailer checksum changed, signed", "trailer", replace(CRC32C.Header()+":", CRC32C.Header()+":A"), CodeSignatureDoesNotMatch},
		{"trailer checksum wrong", "unsigned", func(s string) string {
			return s[:strings.LastIndex(s, ":")] + ":" + checksumOf(CRC32C, "other") + "\r\n\r\n"
		}, CodeBadDigest},
		{"trailer checksum of wrong size", "unsigned", replace(CRC32C.Header()+":", CRC32C.Header()+":AAAA"), CodeInvalidRequest},
		{"trailer checksum no base64", "unsigned", replace(CRC32C.Header()+":", CRC32C.Header()+":%"), CodeInvalidRequest},
		{"trailer of another name", "unsigned", replace("checksum-crc32c:", "checksum-crc32:"), CodeMalformedTrailer},
		{"trailer of another name, signed", "trailer", replace("checksum-crc32c:", "checksum-crc32:"), CodeMalformedTrailer},
		{"trailer missing", "unsigned", func(s string) string { return s[:strings.Index(s, CRC32C.Header())] + "\r\n" }, CodeMalformedTrailer},
		{"trailer cut off with its chunk", "unsigned", func(s string) string { return s[:strings.Index(s, CRC32C.Header())] }, CodeIncompleteBody},
		{"trailer cut", "unsigned", func(s string) string { return s[:len(s)-6] }, CodeIncompleteBody},
		{"trailer without its end", "unsigned", func(s string) string { return s[:len(s)-2] }, CodeIncompleteBody},
		{"trailer repeated", "unsigned", func(s string) string { return s[:len(s)-2] + s[strings.Index(s, CRC32C.Header()):] }, CodeMalformedTrailer},
		{"trailer without colon", "unsigned", func(s string) string { return s[:len(s)-2] + "nonsense\r\n\r\n" }, CodeMalformedTrailer},
		{"trailer undeclared", "unsigned", func(s string) string { return s[:len(s)-2] + "x-amz-meta-a:b\r\n\r\n" }, CodeMalformedTrailer},
		{"trailer endless", "unsigned", func(s string) string { return s + strings.Repeat("\r\n", 10_000) }, CodeMalformedTrailer},
		{"trailer behind its signature", "trailer", func(s string) string {
			i := strings.Index(s, CRC32C.Header())
			line, rest, _ := strings.Cut(s[i:], "\n\r\n")
			return s[:i] + rest[:len(rest)-2] + line + "\n\r\n"
		}, CodeMalformedTrailer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			build := func() (*http.Request, string) {
				if tt.make == "unsigned" {
					return unsignedStreamed(t)
				}
				return streamed(t, tt.make == "trailer")
			}
			r, text := build()
			_, _, err := readBody(exampleVerifier(), withBody(r, text), BodyOptions{})
			noError(t, err)
			edited := tt.edit(text)
			if edited == text {
				t.Fatal("the row changes nothing")
			}
			for _, wrap := range []func(io.Reader) io.Reader{
				func(r io.Reader) io.Reader { return r },
				iotest.HalfReader,
				iotest.DataErrReader,
			} {
				r = withBody(r, edited)
				r.ContentLength = -1
				r.Body = io.NopCloser(wrap(r.Body))
				data, b, err := readBody(exampleVerifier(), r, BodyOptions{MD5: true})
				wantCode(t, err, tt.code)
				if b != nil && (b.Verified() || b.MD5() != nil) {
					t.Fatal("a refused body looks verified")
				}
				if len(data) >= 2*65536+10 {
					t.Fatal("all bytes of a refused body were handed out")
				}
			}
		})
	}
}

func TestChunkFormsAccepted(t *testing.T) {
	t.Parallel()
	r, text := unsignedStreamed(t)
	i := strings.Index(text, CRC32C.Header())
	line := strings.TrimRight(text[i:], "\r\n")
	for name, end := range map[string]string{
		"AWS":        line + "\r\n\r\n",
		"minio-go":   line + "\n\r\n\r\n",
		"line feeds": line + "\n\n",
		"spaces":     strings.Replace(line, ":", ": ", 1) + "\r\n\r\n",
		"title case": "X-Amz-Checksum-Crc32c" + line[strings.Index(line, ":"):] + "\r\n\r\n",
	} {
		_, _, err := readBody(exampleVerifier(), withBody(r, text[:i]+end), BodyOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, text = streamed(t, true)
	for name, edit := range map[string][2]string{
		"SDK for Java":   {"\n\r\nx-amz-trailer", "\r\nx-amz-trailer"},
		"upper-case hex": {"\r\na;", "\r\nA;"},
		"leading zeros":  {"\r\na;", "\r\n0000a;"},
	} {
		_, _, err := readBody(exampleVerifier(), withBody(r, strings.Replace(text, edit[0], edit[1], 1)), BodyOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPayloadHeaders(t *testing.T) {
	t.Parallel()
	md5Of := func(s string) string { return checksumOf(MD5, s) }
	for _, tt := range []struct {
		name    string
		payload string
		headers map[string]string
		body    string
		code    Code
	}{
		{"hash of the body", sha256Hex("hello"), nil, "hello", ""},
		{"hash of another body", sha256Hex("hello!"), nil, "hello", CodeContentSHA256Mismatch},
		{"hash of nothing", emptySHA256, nil, "hello", CodeContentSHA256Mismatch},
		{"nothing hashed", emptySHA256, nil, "", ""},
		{"unsigned", unsignedPayload, nil, "hello", ""},
		{"MD5", unsignedPayload, map[string]string{"Content-MD5": md5Of("hello")}, "hello", ""},
		{"MD5 wrong", unsignedPayload, map[string]string{"Content-MD5": md5Of("jello")}, "hello", CodeBadDigest},
		{"MD5 short", unsignedPayload, map[string]string{"Content-MD5": "AAAA"}, "hello", CodeInvalidDigest},
		{"MD5 in hex", unsignedPayload, map[string]string{"Content-MD5": "5d41402abc4b2a76b9719d911017c592"}, "hello", CodeInvalidDigest},
		{"MD5 empty", unsignedPayload, map[string]string{"Content-MD5": ""}, "hello", CodeInvalidDigest},
		{"checksum wrong size", unsignedPayload, map[string]string{"X-Amz-Checksum-Crc32": md5Of("")}, "hello", CodeInvalidRequest},
		{"checksum no base64", unsignedPayload, map[string]string{"X-Amz-Checksum-Crc32": "!"}, "hello", CodeInvalidRequest},
		{"checksum unknown", unsignedPayload, map[string]string{"X-Amz-Checksum-Xxhash1": "AAAA"}, "hello", CodeNotImplemented},
		{"checksum of several kinds", unsignedPayload, map[string]string{"X-Amz-Checksum-Crc32": checksumOf(CRC32, "hello"), "X-Amz-Checksum-Crc32c": checksumOf(CRC32C, "hello")}, "hello", CodeInvalidRequest},
		{"checksum modes are none", unsignedPayload, map[string]string{"X-Amz-Checksum-Mode": "ENABLED", "X-Amz-Checksum-Type": "FULL_OBJECT", "X-Amz-Checksum-Algorithm": "CRC32"}, "hello", ""},
		{"announced and given", unsignedPayload, map[string]string{"X-Amz-Sdk-Checksum-Algorithm": "crc32", "X-Amz-Checksum-Crc32": checksumOf(CRC32, "hello")}, "hello", ""},
		{"announced, other given", unsignedPayload, map[string]string{"X-Amz-Sdk-Checksum-Algorithm": "SHA1", "X-Amz-Checksum-Crc32": checksumOf(CRC32, "hello")}, "hello", CodeInvalidRequest},
		{"announced, none given", unsignedPayload, map[string]string{"X-Amz-Sdk-Checksum-Algorithm": "CRC32"}, "hello", CodeInvalidRequest},
		{"announced, MD5 given", unsignedPayload, map[string]string{"X-Amz-Sdk-Checksum-Algorithm": "CRC32", "Content-MD5": md5Of("hello")}, "hello", ""},
		{"trailer without chunks", unsignedPayload, map[string]string{"X-Amz-Trailer": "x-amz-checksum-crc32"}, "hello", CodeInvalidRequest},
		{"trailer without trailers", signedChunks, map[string]string{"X-Amz-Trailer": "x-amz-checksum-crc32", "X-Amz-Decoded-Content-Length": "5"}, "hello", CodeInvalidRequest},
		{"trailer unknown", unsignedChunksTrailer, map[string]string{"X-Amz-Trailer": "x-amz-meta-a"}, "0\r\n\r\n", CodeNotImplemented},
		{"trailers", unsignedChunksTrailer, map[string]string{"X-Amz-Trailer": "x-amz-checksum-crc32,x-amz-checksum-sha1"}, "0\r\n\r\n", CodeInvalidRequest},
		{"trailer and header", unsignedChunksTrailer, map[string]string{"X-Amz-Trailer": "x-amz-checksum-crc32", "X-Amz-Checksum-Crc32": "AAAAAA=="}, "0\r\n\r\n", CodeInvalidRequest},
		{"no trailer", unsignedChunksTrailer, nil, "5\r\nhello\r\n0\r\n\r\n", ""},
		{"no length, signed chunks", signedChunks, nil, "0", CodeMissingContentLength},
		{"length nonsense", unsignedChunksTrailer, map[string]string{"X-Amz-Decoded-Content-Length": "five"}, "5\r\nhello\r\n0\r\n\r\n", CodeInvalidArgument},
		{"length negative", unsignedChunksTrailer, map[string]string{"X-Amz-Decoded-Content-Length": "-1"}, "5\r\nhello\r\n0\r\n\r\n", CodeInvalidArgument},
		{"length beyond the transfer", unsignedChunksTrailer, map[string]string{"X-Amz-Decoded-Content-Length": "500"}, "5\r\nhello\r\n0\r\n\r\n", CodeIncompleteBody},
		{"length too large", unsignedChunksTrailer, map[string]string{"X-Amz-Decoded-Content-Length": "6"}, "5\r\nhello\r\n0\r\n\r\n", CodeIncompleteBody},
		{"length too small", unsignedChunksTrailer, map[string]string{"X-Amz-Decoded-Content-Length": "4"}, "5\r\nhello\r\n0\r\n\r\n", CodeIncompleteBody},
		{"length too small by a chunk", unsignedChunksTrailer, map[string]string{"X-Amz-Decoded-Content-Length": "5"}, "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", CodeIncompleteBody},
		{"length right", unsignedChunksTrailer, map[string]string{"X-Amz-Decoded-Content-Length": "5"}, "5\r\nhello\r\n0\r\n\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := overWire(t, signed(t, "PUT", "/bucket/key", tt.payload, tt.body, func(r *http.Request) {
				for k, v := range tt.headers {
					r.Header.Set(k, v)
				}
			}))
			got, _, err := readBody(exampleVerifier(), r, BodyOptions{})
			wantCode(t, err, tt.code)
			if err == nil && strings.Contains(tt.body, "hello") && string(got) != "hello" {
				t.Fatalf("body %q", got)
			}
		})
	}
}

func TestChecksumHeaders(t *testing.T) {
	t.Parallel()
	for _, a := range []Algorithm{CRC32, CRC32C, CRC64NVME, SHA1, SHA256, SHA512, MD5} {
		for _, good := range []bool{true, false} {
			value := checksumOf(a, "hello")
			if !good {
				value = checksumOf(a, "jello")
			}
			r := overWire(t, signed(t, "PUT", "/bucket/key", sha256Hex("hello"), "hello", func(r *http.Request) { r.Header.Set(a.Header(), value) }))
			got, b, err := readBody(exampleVerifier(), r, BodyOptions{Compute: []Algorithm{CRC64NVME}})
			if !good {
				wantCode(t, err, CodeBadDigest)
				continue
			}
			noError(t, err)
			checkBody(t, got, b, "hello", a)
			if sum := base64.StdEncoding.EncodeToString(b.Sum(CRC64NVME)); sum != checksumOf(CRC64NVME, "hello") {
				t.Errorf("computed %s", sum)
			}
		}
	}
}

// CompleteMultipartUpload carries the checksum of the object, not of its XML.
func TestObjectChecksum(t *testing.T) {
	t.Parallel()
	r := overWire(t, signed(t, "POST", "/bucket/key?uploadId=u", unsignedPayload, "<xml/>", func(r *http.Request) {
		r.Header.Set("X-Amz-Checksum-Crc32", checksumOf(CRC32, "the object"))
	}))
	_, b, err := readBody(exampleVerifier(), r, BodyOptions{ObjectChecksum: true})
	noError(t, err)
	if _, ok := b.Client(); ok {
		t.Fatal("the object's checksum was taken for the body's")
	}
}

// A body that is copied under a Content-Length must not be complete before it is
// verified: whoever forwards it would have stored it by then (F7).
func TestLastByteIsHeldBack(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{sha256Hex("jello"), unsignedChunksTrailer} {
		body := "hello"
		if payload == unsignedChunksTrailer {
			body = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:" + checksumOf(CRC32, "jello") + "\r\n\r\n"
		}
		r := overWire(t, signed(t, "PUT", "/bucket/key", payload, body, func(r *http.Request) {
			if payload == unsignedChunksTrailer {
				r.Header.Set("X-Amz-Decoded-Content-Length", "5")
				r.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
			}
		}))
		s, err := exampleVerifier().Verify(r)
		noError(t, err)
		b, err := s.Body(r, BodyOptions{})
		noError(t, err)
		var got bytes.Buffer
		_, err = io.Copy(&got, iotest.OneByteReader(b))
		if err == nil || got.String() != "hell" {
			t.Errorf("%s: %q came out, %v", payload, got.String(), err)
		}
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		code Code
	}{
		{io.ErrUnexpectedEOF, CodeIncompleteBody},
		{os.ErrDeadlineExceeded, CodeRequestTimeout},
		{&http.MaxBytesError{Limit: 3}, CodeEntityTooLarge},
		{errors.New("reset"), CodeIncompleteBody},
	} {
		for _, unsigned := range []bool{true, false} {
			var r *http.Request
			var text string
			if unsigned {
				r = overWire(t, signed(t, "PUT", "/bucket/key", unsignedPayload, "hello", nil))
				text = "hel"
			} else {
				r, text = streamed(t, true)
				text = text[:1000]
			}
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader(text), failing{tt.err}))
			_, _, err := readBody(exampleVerifier(), r, BodyOptions{})
			wantCode(t, err, tt.code)
		}
	}
	// The transfer breaks off where the chunks are already complete.
	r, text := streamed(t, false)
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(text), failing{io.ErrUnexpectedEOF}))
	_, _, err := readBody(exampleVerifier(), r, BodyOptions{})
	wantCode(t, err, CodeIncompleteBody)

	r = goodPut(t)
	s, err := exampleVerifier().Verify(r)
	noError(t, err)
	b, err := s.Body(r, BodyOptions{})
	noError(t, err)
	noError(t, b.Close())
	if _, err := b.Read(make([]byte, 1)); CodeOf(err) != CodeIncompleteBody {
		t.Fatalf("read after Close: %v", err)
	}
	r = goodPut(t)
	r.Body = io.NopCloser(stalled{})
	_, _, err = readBody(exampleVerifier(), r, BodyOptions{Compute: []Algorithm{"XXHASH1"}})
	wantCode(t, err, CodeNotImplemented)
}

// stalled returns neither bytes nor an error.
type stalled struct{}

func (stalled) Read([]byte) (int, error) { return 0, nil }

// A source that never ends where it should must not hang the reader.
func TestEndIsConfirmedWithinBounds(t *testing.T) {
	t.Parallel()
	r := goodPut(t)
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("hello"), stalled{}))
	_, _, err := readBody(exampleVerifier(), r, BodyOptions{})
	wantCode(t, err, CodeIncompleteBody)
	if !errors.Is(err, io.ErrNoProgress) {
		t.Fatal(err)
	}
	r = goodPut(t)
	r.Body = io.NopCloser(strings.NewReader("hello and more"))
	_, _, err = readBody(exampleVerifier(), r, BodyOptions{})
	wantCode(t, err, CodeIncompleteBody)
}

func TestContentEncoding(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   []string
		want string
	}{
		{nil, ""},
		{[]string{"aws-chunked"}, ""},
		{[]string{"gzip"}, "gzip"},
		{[]string{"aws-chunked,gzip"}, "gzip"},
		{[]string{"gzip, AWS-Chunked", "br"}, "gzip,br"},
	} {
		if got := ContentEncoding(http.Header{"Content-Encoding": tt.in}); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
}
