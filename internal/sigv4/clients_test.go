package sigv4

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"
)

// store is a server that keeps what verified, by decoded path.
type store struct {
	verifier *Verifier
	mu       sync.Mutex
	kept     map[string]kept
}

type kept struct {
	data    []byte
	length  int64
	form    PayloadForm
	client  Checksum
	isKnown bool
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, b, err := readBody(s.verifier, r, BodyOptions{MD5: true})
	if err != nil {
		status := http.StatusForbidden
		if e, ok := errors.AsType[*Error](err); ok {
			status = e.Status()
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message><![CDATA[%v]]></Message></Error>", CodeOf(err), err)
		return
	}
	raw, _, _ := RawTarget(r)
	path, _ := DecodePath(raw)
	k := kept{data: data, length: b.Length()}
	k.client, k.isKnown = b.Client()
	sg, _ := s.verifier.Verify(r)
	k.form = sg.Payload
	s.mu.Lock()
	s.kept[r.Method+" "+path] = k
	s.mu.Unlock()
	w.Header().Set("ETag", `"`+hex.EncodeToString(b.MD5())+`"`)
}

func (s *store) get(t *testing.T, name string) kept {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.kept[name]
	if !ok {
		t.Fatalf("%q never arrived", name)
	}
	return k
}

// servers starts the store over http and over TLS, where SDKs send other forms.
func servers(t *testing.T, run func(t *testing.T, s *store, server *httptest.Server)) {
	for _, scheme := range []string{"http", "https", "h2"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			s := &store{kept: map[string]kept{}, verifier: verifierAt(time.Time{})}
			s.verifier.now = time.Now
			server := httptest.NewUnstartedServer(s)
			server.EnableHTTP2 = scheme == "h2"
			if scheme == "http" {
				server.Start()
			} else {
				server.StartTLS()
			}
			t.Cleanup(server.Close)
			run(t, s, server)
		})
	}
}

func awsClient(server *httptest.Server, edit ...func(*s3.Options)) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint:               aws.String(server.URL),
		Region:                     "us-east-1",
		UsePathStyle:               true,
		Credentials:                credentials.NewStaticCredentialsProvider(exampleKey, exampleSecret, ""),
		HTTPClient:                 server.Client(),
		RetryMaxAttempts:           1,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported, // what LoadDefaultConfig sets
	}, edit...)
}

// unseekable hides everything but Read.
type unseekable struct{ io.Reader }

func TestAWSClient(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, s *store, server *httptest.Server) {
		algorithms := []types.ChecksumAlgorithm{"", types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c,
			types.ChecksumAlgorithmCrc64nvme, types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmSha256}
		for _, size := range append([]int{0}, sizes...) {
			for _, a := range algorithms {
				for _, stream := range []bool{false, true} {
					if stream && server.TLS == nil {
						continue // the SDK refuses unseekable bodies over http
					}
					body := pattern(size)
					key := fmt.Sprintf("dir//sp ace+/%d-%s-%v~€", size, a, stream)
					in := &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: &key, ChecksumAlgorithm: a, Body: strings.NewReader(body),
						Metadata: map[string]string{"fencing-token": "34"}}
					if stream {
						in.Body = unseekable{in.Body}
						in.ContentLength = aws.Int64(int64(size))
					}
					_, err := awsClient(server).PutObject(t.Context(), in)
					noError(t, err)
					k := s.get(t, "PUT /bucket/"+key)
					if string(k.data) != body {
						t.Fatalf("%s: body differs", key)
					}
					want := Algorithm(a)
					if want == "" {
						want = CRC32
					}
					if !k.isKnown || k.client.Algorithm != want || k.client.String() != checksumOf(want, body) {
						t.Fatalf("%s: checksum %s %s", key, k.client.Algorithm, k.client)
					}
					if k.length != int64(size) && !stream {
						t.Fatalf("%s: length %d", key, k.length)
					}
				}
			}
		}
	})
}

func TestAWSClientUnknownLength(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, s *store, server *httptest.Server) {
		if server.TLS == nil {
			return // refused by the SDK before it is sent
		}
		body := pattern(100_000)
		_, err := awsClient(server).PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("key"), Body: unseekable{strings.NewReader(body)}})
		noError(t, err)
		k := s.get(t, "PUT /bucket/key")
		if string(k.data) != body || k.length != -1 || k.form != PayloadUnsignedChunksTrailer || !k.client.Trailer {
			t.Fatalf("%d bytes, length %d, %s", len(k.data), k.length, k.form)
		}
	})
}

func TestAWSClientUnsignedPayload(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, s *store, server *httptest.Server) {
		body := pattern(70_000)
		_, err := awsClient(server, func(o *s3.Options) {
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
		}).PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("key"), Body: strings.NewReader(body)})
		noError(t, err)
		if k := s.get(t, "PUT /bucket/key"); string(k.data) != body || k.form != PayloadUnsigned || k.isKnown {
			t.Fatalf("%d bytes, %s", len(k.data), k.form)
		}
	})
}

func TestAWSClientOtherCalls(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, s *store, server *httptest.Server) {
		c := awsClient(server)
		prefix, key := "a b/+€", "key"
		_, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("bucket"), Prefix: &prefix, Delimiter: aws.String("/"), MaxKeys: aws.Int32(7)})
		if err != nil && !strings.Contains(err.Error(), "EOF") {
			t.Fatal(err)
		}
		_, err = c.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: aws.String("bucket"), Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: &key}}}})
		if err != nil && !strings.Contains(err.Error(), "EOF") {
			t.Fatal(err)
		}
		if k := s.get(t, "POST /bucket"); !k.isKnown {
			t.Fatal("batch delete came without a checksum")
		}
		_, err = c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: &key, Range: aws.String("bytes=0-9")})
		noError(t, err)
		_, err = c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("bucket"), Key: &key})
		noError(t, err)
	})
}

func TestAWSClientPresigned(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, s *store, server *httptest.Server) {
		key, body := "presigned €+/key", pattern(5000)
		p := s3.NewPresignClient(awsClient(server))
		for _, in := range []*s3.PutObjectInput{
			{Bucket: aws.String("bucket"), Key: &key},
			{Bucket: aws.String("bucket"), Key: &key, Body: strings.NewReader(body)},
			{Bucket: aws.String("bucket"), Key: &key, Body: strings.NewReader(body), ChecksumAlgorithm: types.ChecksumAlgorithmSha256},
			{Bucket: aws.String("bucket"), Key: &key, Metadata: map[string]string{"fencing-token": "34"}, ContentType: aws.String("text/plain")},
			{Bucket: aws.String("bucket"), Key: &key, ChecksumCRC32: aws.String(checksumOf(CRC32, body))},
		} {
			signed, err := p.PresignPutObject(t.Context(), in)
			noError(t, err)
			send(t, server.Client(), signed, body, http.StatusOK)
			if k := s.get(t, "PUT /bucket/"+key); string(k.data) != body {
				t.Fatal("body differs")
			}
		}
		for _, wrong := range []*s3.PutObjectInput{
			{Bucket: aws.String("bucket"), Key: &key, ChecksumCRC32: aws.String(checksumOf(CRC32, body+"x"))},
			// The SDK signs the checksum of the body it has: here that of nothing.
			{Bucket: aws.String("bucket"), Key: &key, ChecksumAlgorithm: types.ChecksumAlgorithmSha256},
		} {
			signed, err := p.PresignPutObject(t.Context(), wrong)
			noError(t, err)
			send(t, server.Client(), signed, body, http.StatusBadRequest)
		}
		got, err := p.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: &key})
		noError(t, err)
		send(t, server.Client(), got, "", http.StatusOK)
	})
}

func send(t *testing.T, c *http.Client, p *v4.PresignedHTTPRequest, body string, status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), p.Method, p.URL, strings.NewReader(body))
	noError(t, err)
	for name, values := range p.SignedHeader {
		if name != "Host" {
			r.Header[name] = values
		}
	}
	answer, err := c.Do(r)
	noError(t, err)
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != status {
		t.Fatalf("%s %s: %d %s", p.Method, p.URL, answer.StatusCode, text)
	}
}

func TestMinioClient(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, s *store, server *httptest.Server) {
		u, err := url.Parse(server.URL)
		noError(t, err)
		for _, trailing := range []bool{false, true} {
			c, err := minio.New(u.Host, &minio.Options{
				Creds:           miniocreds.NewStaticV4(exampleKey, exampleSecret, ""),
				Secure:          server.TLS != nil,
				Region:          "us-east-1",
				Transport:       &http.Transport{TLSClientConfig: trust(server)},
				TrailingHeaders: trailing,
				MaxRetries:      1,
			})
			noError(t, err)
			for _, size := range append([]int{0}, sizes...) {
				for name, o := range map[string]minio.PutObjectOptions{
					"plain":     {},
					"md5":       {SendContentMd5: true},
					"nostream":  {DisableContentSha256: true},
					"crc32c":    {Checksum: minio.ChecksumCRC32C},
					"crc64nvme": {Checksum: minio.ChecksumCRC64NVME},
					"sha256":    {Checksum: minio.ChecksumSHA256},
				} {
					if !trailing && o.Checksum.IsSet() {
						continue // minio-go needs TrailingHeaders for these
					}
					body := pattern(size)
					key := fmt.Sprintf("%s-%d-%v ü+", name, size, trailing)
					_, err := c.PutObject(t.Context(), "bucket", key, bytes.NewReader([]byte(body)), int64(size), o)
					noError(t, err)
					if k := s.get(t, "PUT /bucket/"+key); string(k.data) != body {
						t.Fatalf("%s: body differs", key)
					}
				}
			}
		}
	})
}

func trust(server *httptest.Server) *tls.Config {
	if server.TLS == nil {
		return nil
	}
	return server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
}
