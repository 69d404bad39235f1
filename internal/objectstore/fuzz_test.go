package objectstore_test

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/corpus"
	"github.com/s3fence/s3fence/internal/objectstore"
)

// FuzzHandler sends whatever reads as an HTTP request, well signed, to the embedded
// store. It never panics nor answers 500, each failure has a code of S3, and an object
// that it says it stored reads back as the bytes that were sent.
func FuzzHandler(f *testing.F) {
	for _, m := range corpus.Seeds(f) {
		f.Add(m.Raw)
	}
	f.Add([]byte("PUT /bucket/a//../b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"))
	f.Add([]byte("PUT /bucket/k HTTP/1.1\r\nHost: x\r\nX-Amz-Copy-Source: /bucket/%zz\r\n\r\n"))
	f.Add([]byte("GET /bucket/k?partNumber=0 HTTP/1.1\r\nHost: x\r\nRange: bytes=5-1\r\n\r\n"))
	f.Add([]byte("POST /bucket/k?uploadId=x HTTP/1.1\r\nHost: x\r\nContent-Length: 27\r\n\r\n<CompleteMultipartUpload/>\r\n"))
	store, err := objectstore.Open(f.Context(), f.TempDir(), objectstore.Options{AccessKey: accessKey, SecretKey: secretKey})
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, store.Close()) })
	require.NoError(f, store.CreateBucket(f.Context(), bucket))
	handler := store.Handler()
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	send := func(t *testing.T, r *http.Request) *httptest.ResponseRecorder {
		t.Helper()
		if err := signer.SignHTTP(t.Context(), aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}, r, "UNSIGNED-PAYLOAD", "s3", "us-east-1", time.Now()); err != nil {
			return nil
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r.WithContext(t.Context()))
		return w
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil || len(raw) > 128<<10 {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		// Whatever bucket it names, it is the one that there is.
		_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		q := r.URL.Query()
		for name := range q {
			if strings.HasPrefix(name, "X-Amz-") {
				q.Del(name)
			}
		}
		r.Host, r.RequestURI = "store.test", ""
		r.URL = &url.URL{Scheme: "http", Host: r.Host, Path: "/" + bucket + "/" + key, RawQuery: q.Encode()}
		if r.ContentLength < 0 {
			r.ContentLength = int64(len(body))
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		for _, name := range []string{"Authorization", "X-Amz-Security-Token", "X-Amz-Trailer", "X-Amz-Decoded-Content-Length", "Content-Encoding"} {
			r.Header.Del(name)
		}
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		if key == "" && r.Method == http.MethodDelete {
			return
		}
		w := send(t, r)
		if w == nil {
			return
		}
		if w.Code == http.StatusInternalServerError {
			t.Fatalf("%s %s: %s", r.Method, r.URL, w.Body)
		}
		if w.Code >= 400 && r.Method != http.MethodHead && w.Code != http.StatusNotModified {
			var e struct {
				XMLName xml.Name `xml:"Error"`
				Code    string
			}
			if err := xml.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code == "" {
				t.Fatalf("%s %s: %d without a code: %q", r.Method, r.URL, w.Code, w.Body)
			}
		}
		if r.Method != http.MethodPut || w.Code != http.StatusOK || key == "" || len(q) > 0 || r.Header.Get("X-Amz-Copy-Source") != "" {
			return
		}
		back, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://store.test/", nil)
		require.NoError(t, err)
		back.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		back.URL = &url.URL{Scheme: "http", Host: "store.test", Path: r.URL.Path}
		if got := send(t, back); got == nil || got.Code != http.StatusOK || !bytes.Equal(got.Body.Bytes(), body) {
			t.Fatalf("%q was stored as %q", body, got.Body)
		}
	})
}
