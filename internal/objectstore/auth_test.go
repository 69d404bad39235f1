package objectstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"
)

func unescape(t testing.TB, s string) string {
	t.Helper()
	out, err := url.PathUnescape(s)
	require.NoError(t, err)
	return out
}

func second[T any](_ T, err error) error { return err }

func objects(keys ...string) <-chan minio.ObjectInfo {
	ch := make(chan minio.ObjectInfo, len(keys))
	for _, k := range keys {
		ch <- minio.ObjectInfo{Key: k}
	}
	close(ch)
	return ch
}

var testCredentials = aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}

func signer() *v4.Signer {
	return v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
}

// signedRequest sends a request signed in its headers and returns status and body.
func signedRequest(t testing.TB, w *world, method, path, body string, header http.Header) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for k, v := range header {
		r.Header[k] = v
	}
	sum := sha256.Sum256([]byte(body))
	digest := hex.EncodeToString(sum[:])
	r.Header.Set("X-Amz-Content-Sha256", digest)
	require.NoError(t, signer().SignHTTP(t.Context(), testCredentials, r, digest, "s3", "us-east-1", time.Now()))
	return send(t, r)
}

func send(t testing.TB, r *http.Request) (int, string) {
	t.Helper()
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

// presigned returns a request signed in its query at the given time.
func presigned(t testing.TB, w *world, method, path, body string, header http.Header, at time.Time, expires string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for k, v := range header {
		r.Header[k] = v
	}
	if expires != "" {
		q := r.URL.Query()
		q.Set("X-Amz-Expires", expires)
		r.URL.RawQuery = q.Encode()
	}
	signed, headers, err := signer().PresignHTTP(context.Background(), testCredentials, r, "UNSIGNED-PAYLOAD", "s3", "us-east-1", at)
	require.NoError(t, err)
	out, err := http.NewRequestWithContext(t.Context(), method, signed, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	for k, v := range headers {
		if k != "Host" && k != "Content-Length" {
			out.Header[k] = v
		}
	}
	return out
}

func TestPresignedMutationsExpire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, "src", []byte("source"))
	w.put(t, "victim", []byte("old"))
	id := w.beginUpload(t, "victim")
	part := w.uploadPart(t, "victim", id, 1, []byte("part"))
	complete := `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>` + part + `</ETag></Part></CompleteMultipartUpload>`
	mutations := []struct {
		name, method, path, body string
		header                   http.Header
	}{
		{"put", "PUT", "/bucket/victim", "new", nil},
		{"copy", "PUT", "/bucket/victim", "", http.Header{"X-Amz-Copy-Source": {"bucket/src"}}},
		{"delete", "DELETE", "/bucket/victim", "", nil},
		{"part", "PUT", "/bucket/victim?partNumber=1&uploadId=" + id, "other", nil},
		{"complete", "POST", "/bucket/victim?uploadId=" + id, complete, nil},
		{"abort", "DELETE", "/bucket/victim?uploadId=" + id, "", nil},
		{"batch delete", "POST", "/bucket?delete=", `<Delete><Object><Key>victim</Key></Object></Delete>`, nil},
		{"create bucket", "PUT", "/made-late", "", nil},
	}
	for _, m := range mutations {
		for _, c := range []struct {
			name, expires string
			at            time.Time
			status        int
		}{
			{"expired", "2", time.Now().Add(-5 * time.Second), 403},
			{"in the future", "15", time.Now().Add(20 * time.Minute), 403},
			{"without expiry", "", time.Now(), 400},
		} {
			status, text := send(t, presigned(t, w, m.method, m.path, m.body, m.header, c.at, c.expires))
			require.Equal(t, c.status, status, "%s %s: %s", c.name, m.name, text)
		}
		tampered := presigned(t, w, m.method, m.path, m.body, m.header, time.Now(), "60")
		tampered.Header.Set("X-Amz-Meta-Added", "1")
		status, _ := send(t, tampered)
		require.GreaterOrEqual(t, status, 400, "an unsigned x-amz header on %s", m.name)
	}
	require.Equal(t, []byte("old"), w.get(t, "victim"))
	for _, m := range mutations {
		if m.name == "abort" {
			continue
		}
		status, text := send(t, presigned(t, w, m.method, m.path, m.body, m.header, time.Now(), "15"))
		if m.name == "complete" {
			require.Equal(t, 400, status, "the part was replaced: %s", text)
			continue
		}
		require.Less(t, status, 300, "%s: %s", m.name, text)
	}
}

func TestSignatureIsRequired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, "k", []byte("x"))
	_, err := awsClient(w.url, "wrong-secret").GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
	require.Equal(t, "SignatureDoesNotMatch", codeOf(err))
	for _, method := range []string{"GET", "PUT", "DELETE", "POST", "HEAD", "OPTIONS"} {
		for _, path := range []string{"/", "/bucket", "/bucket/k", "/bucket/k?tagging", "/bucket?delete"} {
			r, err := http.NewRequestWithContext(t.Context(), method, w.url+path, strings.NewReader("x"))
			require.NoError(t, err)
			status, _ := send(t, r)
			require.Equal(t, 403, status, "%s %s", method, path)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, w.url+"/bucket/k", strings.NewReader("forged"))
	require.NoError(t, err)
	sum := sha256.Sum256([]byte("signed"))
	digest := hex.EncodeToString(sum[:])
	r.Header.Set("X-Amz-Content-Sha256", digest)
	require.NoError(t, signer().SignHTTP(t.Context(), testCredentials, r, digest, "s3", "us-east-1", time.Now()))
	status, text := send(t, r)
	require.Equal(t, 400, status)
	require.Contains(t, text, "XAmzContentSHA256Mismatch")
	require.Equal(t, []byte("x"), w.get(t, "k"))
}
