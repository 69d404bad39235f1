package s3api

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sigv4"
)

// A body that is compared gives its last byte only when all were right; one of
// which nothing is known passes.
func TestHeldBody(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789"), 10_000)
	sum := func(a sigv4.Algorithm, b []byte) []byte {
		h := a.New()
		h.Write(b)
		return h.Sum(nil)
	}
	b64 := base64.StdEncoding.EncodeToString
	etag := hex.EncodeToString(sum(sigv4.MD5, content))
	of := func(a sigv4.Algorithm, kind string) object.Info {
		info := object.Info{Size: int64(len(content)), ETag: "other-2"}
		info.Checksums, info.ChecksumType = map[string]string{string(a): b64(sum(a, content))}, kind
		return info
	}
	large := object.Info{Size: maxHashed + 1, ETag: etag}
	for name, tt := range map[string]struct {
		info     object.Info
		compared bool
	}{
		"MD5": {object.Info{Size: int64(len(content)), ETag: etag}, true}, "crc32": {of(sigv4.CRC32, "FULL_OBJECT"), true},
		"crc32c": {of(sigv4.CRC32C, "FULL_OBJECT"), true}, "crc64nvme": {of(sigv4.CRC64NVME, "FULL_OBJECT"), true},
		"sha1": {of(sigv4.SHA1, "FULL_OBJECT"), true}, "sha256": {of(sigv4.SHA256, "FULL_OBJECT"), true},
		"a checksum of checksums": {of(sigv4.SHA256, "COMPOSITE"), false}, "an ETag of parts": {object.Info{Size: int64(len(content)), ETag: etag + "-2"}, false},
		"a large one with an MD5": {large, false}, "an empty one": {object.Info{ETag: etag}, false},
		"an ETag of a store that encrypts": {object.Info{Size: int64(len(content)), ETag: etag, Opaque: true}, false},
	} {
		for _, at := range []int{-1, 0, len(content) / 2, len(content) - 1} {
			for how, reader := range map[string]func(io.Reader) io.Reader{"": func(r io.Reader) io.Reader { return r }, "half": iotest.HalfReader, "with EOF": iotest.DataErrReader} {
				damaged := bytes.Clone(content)
				if at >= 0 {
					damaged[at] ^= 1
				}
				src := io.NopCloser(reader(bytes.NewReader(damaged)))
				body := held(src, &tt.info)
				if _, is := body.(*heldBody); is != tt.compared {
					t.Fatalf("%s: compared is %v", name, is)
				}
				got, err := io.ReadAll(body)
				switch {
				case tt.compared && at >= 0:
					if !errors.Is(err, guarded.ErrDamaged) || len(got) >= len(content) {
						t.Errorf("%s, byte %d %s: %d bytes and %v", name, at, how, len(got), err)
					}
				case err != nil || !bytes.Equal(got, damaged):
					t.Errorf("%s, byte %d %s: %d bytes and %v", name, at, how, len(got), err)
				}
			}
		}
	}
}

// What the store says it has is compared with what was sent, where its ETag can
// be: one of an encrypted object, or of another kind, says nothing.
func TestStoredBytesAreCompared(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	c := b.sdk(t, testKey, "", func(o *s3.Options) { o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired })
	content := strings.Repeat("x", 100_000)
	for etag, told := range map[string]string{
		`"e0123456789012345678901234567890"`: "OutcomeUnknown", `"E0123456789012345678901234567890"`: "OutcomeUnknown",
		`"e0123456789012345678901234567890-1"`: "", `"opaque"`: "", "": "",
	} {
		for _, encrypted := range []bool{false, true} {
			s.set(func(w http.ResponseWriter, r *http.Request) bool {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("ETag", etag)
				if encrypted {
					w.Header().Set("X-Amz-Server-Side-Encryption", "aws:kms")
				}
				return true
			})
			_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String("k"), Body: body(content)})
			if told == "" || encrypted {
				if err != nil {
					t.Errorf("%s, encrypted %v: %v", etag, encrypted, err)
				}
				continue
			}
			wantCode(t, err, told)
		}
	}
}

// A store that refuses bytes as damaged which were right here was given others.
func TestRefusedDigestIsNotTheClients(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil)
	c := b.sdk(t, testKey, "")
	for _, code := range []string{"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"} {
		s.set(func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>no</Message></Error>")
			return true
		})
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("data"), Key: aws.String("k"), Body: body("bytes")})
		wantCode(t, err, "ServiceUnavailable")
		if r := s.last("PUT"); r.Header.Get("Content-Md5") == "" {
			t.Error("a small body went without an MD5")
		}
	}
}
