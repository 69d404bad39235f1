package sigv4

import (
	"encoding/hex"
	"strings"
	"testing"
)

// The examples of the Amazon S3 API Reference, "Authenticating Requests (AWS
// Signature Version 4)": header, query, chunked and chunked with trailer.

const scopeText = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"

const (
	getObjectHead = `GET /test.txt HTTP/1.1
Host: examplebucket.s3.amazonaws.com
Authorization: ` + scopeText + `SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41
Range: bytes=0-9
x-amz-content-sha256: ` + emptySHA256 + `
x-amz-date: 20130524T000000Z`

	putObjectHead = `PUT /test%24file.text HTTP/1.1
Host: examplebucket.s3.amazonaws.com
Date: Fri, 24 May 2013 00:00:00 GMT
Authorization: ` + scopeText + `SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd
x-amz-date: 20130524T000000Z
x-amz-storage-class: REDUCED_REDUNDANCY
x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072
Content-Length: 21`

	lifecycleHead = `GET /?lifecycle HTTP/1.1
Host: examplebucket.s3.amazonaws.com
Authorization: ` + scopeText + `SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543
x-amz-date: 20130524T000000Z
x-amz-content-sha256: ` + emptySHA256

	listHead = `GET /?max-keys=2&prefix=J HTTP/1.1
Host: examplebucket.s3.amazonaws.com
Authorization: ` + scopeText + `SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7
x-amz-date: 20130524T000000Z
x-amz-content-sha256: ` + emptySHA256

	presignedHead = `GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1
Host: examplebucket.s3.amazonaws.com`

	chunkedHead = `PUT /examplebucket/chunkObject.txt HTTP/1.1
Host: s3.amazonaws.com
x-amz-date: 20130524T000000Z
x-amz-storage-class: REDUCED_REDUNDANCY
Authorization: ` + scopeText + `SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9
x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD
Content-Encoding: aws-chunked
x-amz-decoded-content-length: 66560
Content-Length: 66824`

	// The example of the documentation has no content-length among its signed
	// headers, so its transfer is free.
	trailerHead = `PUT /examplebucket/chunkObject.txt HTTP/1.1
Host: s3.amazonaws.com
x-amz-date: 20130524T000000Z
x-amz-storage-class: REDUCED_REDUNDANCY
Authorization: ` + scopeText + `SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer,Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e
x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER
Content-Encoding: aws-chunked
x-amz-decoded-content-length: 66560
x-amz-trailer: x-amz-checksum-crc32c
Transfer-Encoding: chunked`
)

var (
	first64K = strings.Repeat("a", 65536)
	last1K   = strings.Repeat("a", 1024)

	chunkedBody = "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" + first64K + "\r\n" +
		"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + last1K + "\r\n" +
		"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"

	trailerBody = "10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n" + first64K + "\r\n" +
		"400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n" + last1K + "\r\n" +
		"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" +
		"x-amz-checksum-crc32c:sOO8/Q==\n\r\n" +
		"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
)

// transferChunked wraps a body in the chunked transfer coding of HTTP.
func transferChunked(body string) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(len(body), 5000)
		b.WriteString(hexInt(n) + "\r\n" + body[:n] + "\r\n")
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

func hexInt(n int) string {
	s := strings.TrimLeft(hex.EncodeToString([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), "0")
	if s == "" {
		return "0"
	}
	return s
}

func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, head, body, want string
	}{
		{"GET object", getObjectHead, "", ""},
		{"PUT object", putObjectHead, "Welcome to Amazon S3.", "Welcome to Amazon S3."},
		{"GET lifecycle", lifecycleHead, "", ""},
		{"list", listHead, "", ""},
		{"presigned", presignedHead, "", ""},
		{"chunked", chunkedHead, chunkedBody, first64K + last1K},
		{"chunked with trailer", trailerHead, transferChunked(trailerBody), first64K + last1K},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, b, err := readBody(exampleVerifier(), wire(t, tt.head, tt.body), BodyOptions{MD5: true})
			noError(t, err)
			if string(got) != tt.want {
				t.Fatalf("body of %d bytes, want %d", len(got), len(tt.want))
			}
			if len(b.MD5()) != 16 {
				t.Fatalf("MD5 %x", b.MD5())
			}
		})
	}
}

func TestChecksumVectors(t *testing.T) {
	t.Parallel()
	for a, want := range map[Algorithm]string{
		CRC32:     "cbf43926",
		CRC32C:    "e3069283",
		CRC64NVME: "ae8b14860a799888",
		SHA1:      "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
		SHA256:    "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
		MD5:       "25f9e794323b453885f5181f1b624d0b",
	} {
		h := a.New()
		h.Write([]byte("123456789"))
		if got := hex.EncodeToString(h.Sum(nil)); got != want {
			t.Errorf("%s(123456789) = %s, want %s", a, got, want)
		}
		if h.Size() != a.Size() {
			t.Errorf("%s: Size %d, hash has %d", a, a.Size(), h.Size())
		}
	}
	// The digests of nothing, as xxHash publishes them.
	for a, want := range map[Algorithm]string{
		XXHASH64: "ef46db3751d8e999", XXHASH3: "2d06800538d394c2", XXHASH128: "99aa06d3014798d86001c324468d497f",
	} {
		if got := hex.EncodeToString(a.New().Sum(nil)); got != want || len(got) != 2*a.Size() {
			t.Errorf("%s() = %s, want %s", a, got, want)
		}
	}
	if SHA512.New().Size() != SHA512.Size() || Algorithm("XXHASH1").New() != nil {
		t.Error("SHA512 or an unknown algorithm has the wrong size")
	}
}
