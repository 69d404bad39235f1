package sigv4

import (
	"crypto/sha256"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
)

func benchmarkVerify(b *testing.B, r *http.Request, at time.Time) {
	v := verifierAt(at)
	if _, err := v.Verify(r); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyHeader(b *testing.B) { benchmarkVerify(b, goodPut(b), exampleTime) }

func BenchmarkVerifyPresigned(b *testing.B) {
	benchmarkVerify(b, goodPresigned(b, "600"), exampleTime)
}

func BenchmarkVerifyHeaderParallel(b *testing.B) {
	v, r := exampleVerifier(), goodPut(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := v.Verify(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBody reads 1 MiB in each form.
func BenchmarkBody(b *testing.B) {
	text := pattern(1 << 20)
	for _, form := range []string{"unsigned", "sha256", "md5", "crc32", "signed-chunks"} {
		b.Run(form, func(b *testing.B) {
			v := exampleVerifier()
			payload, body := unsignedPayload, text
			var o BodyOptions
			edit := func(r *http.Request) {}
			switch form {
			case "sha256":
				payload = sha256Hex(text)
			case "md5":
				o.MD5 = true
			case "crc32":
				edit = func(r *http.Request) { r.Header.Set(CRC32.Header(), checksumOf(CRC32, text)) }
			}
			r := signed(b, "PUT", "/bucket/key", payload, "", edit)
			if form == "signed-chunks" {
				r = newRequest(b, "PUT", "/bucket/key", text)
				r, body = split(b, signer.StreamingSignV4(r, exampleKey, exampleSecret, "", "us-east-1", int64(len(text)), exampleTime, stdHash{sha256.New()}))
			}
			s, err := v.Verify(r)
			noError(b, err)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			buf := make([]byte, 32<<10)
			for b.Loop() {
				rd, err := s.Body(withBody(r, body), o)
				noError(b, err)
				if _, err := io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{rd}, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type onlyWriter struct{ io.Writer }
