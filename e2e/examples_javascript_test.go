package e2e

import (
	"bufio"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The AWS SDK for JavaScript comes from npm alone. Where node finds it beside the
// example (npm install in examples/javascript) the example runs; its requests as
// they were recorded are sent everywhere.
func TestExampleJavaScript(t *testing.T) {
	t.Parallel()
	needs(t, "node")
	p, examples := clientExamples(t)
	examples.Run(t, "javascript", "node", "--check", "append.mjs").Must(t)
	if found := examples.Run(t, "javascript", "node", "--input-type=module", "-e", `await import("@aws-sdk/client-s3")`); found.Code != 0 {
		require.Contains(t, found.Stderr, "ERR_MODULE_NOT_FOUND")
		t.Skip("node does not find @aws-sdk/client-s3: npm install in examples/javascript; TestExampleJavaScriptRecorded sends its recorded requests")
	}
	appends(t, p, examples, "javascript", "node", "append.mjs")
}

func TestExampleJavaScriptRecorded(t *testing.T) {
	t.Parallel()
	p := NewDev(t, Options{}).Proxies[0]
	token := p.Acquire(t, "s3://demo/jobs/", "frozen@host")
	sdk := recorded{dir: "aws-sdk-js-3.958.0"}
	p.API(t, "POST", "/-/v1/credentials", map[string]any{"scope": "s3://demo/jobs/", "token": token}).Want(t, 200).JSON(t, &sdk)

	sdk.send(t, p, "get.http").WantCode(t, 404, "NoSuchKey")
	sdk.send(t, p, "put.http").Want(t, 200)
	assert.Equal(t, "a line\n", sdk.send(t, p, "get.http").Want(t, 200).Body)

	p.PutToken(t, "jobs/report", "next", p.Take(t, "s3://demo/jobs/", "next@host")).Want(t, 200)
	for _, name := range []string{"get.http", "put.http"} {
		stale := sdk.send(t, p, name).WantCode(t, 412, "StaleFencingToken")
		assert.Contains(t, stale.Message, "next@host")
	}
	assert.Equal(t, "next", p.Get(t, "jobs/report"))
}

// recorded is a folder of testdata/recorded, and the credentials to send its
// requests with.
type recorded struct {
	dir                                        string
	AccessKeyID, SecretAccessKey, SessionToken string
	// path is another bucket and key than the recorded ones, where set.
	path string
}

// send sends a request as it was recorded: with the client's own path, headers,
// signed headers and body; with host, date, session token, invocation and signature
// of now.
func (r recorded) send(t *testing.T, p *Proxy, name string) Answer {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", "recorded", r.dir, name))
	require.NoError(t, err)
	defer file.Close()
	was, err := http.ReadRequest(bufio.NewReader(file))
	require.NoError(t, err)
	body, err := io.ReadAll(was.Body)
	require.NoError(t, err)

	now := time.Now().UTC()
	h := was.Header
	require.NotEmpty(t, h.Get("X-Amz-Security-Token"))
	h.Set("X-Amz-Security-Token", r.SessionToken)
	if r.SessionToken == "" {
		h.Del("X-Amz-Security-Token")
	}
	if r.path != "" {
		was.URL.Path, was.URL.RawPath = r.path, escape(r.path)
	}
	h.Set("X-Amz-Date", now.Format("20060102T150405Z"))
	// A write with the id of one that was answered is its repetition.
	h.Set("Amz-Sdk-Invocation-Id", rand.Text())

	_, signed, found := strings.Cut(h.Get("Authorization"), "SignedHeaders=")
	require.True(t, found)
	signed, _, _ = strings.Cut(signed, ",")
	canonical := []string{was.Method, was.URL.EscapedPath(), was.URL.RawQuery}
	if r.SessionToken == "" {
		signed = strings.Replace(signed, "x-amz-security-token;", "", 1)
	}
	for header := range strings.SplitSeq(signed, ";") {
		value := h.Get(header)
		switch header {
		case "host":
			value = p.Addr()
		case "content-length":
			value = fmt.Sprint(was.ContentLength)
		}
		require.NotEmpty(t, value, header)
		canonical = append(canonical, header+":"+value)
	}
	canonical = append(canonical, "", signed, h.Get("X-Amz-Content-Sha256"))
	scope := []string{now.Format("20060102"), "us-east-1", "s3", "aws4_request"}
	key := []byte("AWS4" + r.SecretAccessKey)
	for _, part := range scope {
		key = mac(key, part)
	}
	digest := sha256.Sum256([]byte(strings.Join(canonical, "\n")))
	signature := mac(key, strings.Join([]string{"AWS4-HMAC-SHA256", h.Get("X-Amz-Date"), strings.Join(scope, "/"), hex.EncodeToString(digest[:])}, "\n"))
	h.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", r.AccessKeyID, strings.Join(scope, "/"), signed, signature))

	req, err := http.NewRequestWithContext(t.Context(), was.Method, p.URL, strings.NewReader(string(body)))
	require.NoError(t, err)
	scheme, _, _ := strings.Cut(p.URL, ":")
	req.URL = &url.URL{Scheme: scheme, Host: p.Addr(), Path: was.URL.Path, RawPath: was.URL.RawPath, RawQuery: was.URL.RawQuery}
	h.Del("Connection")
	req.Header = h
	answer, err := p.do(req)
	require.NoError(t, err)
	return answer
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
