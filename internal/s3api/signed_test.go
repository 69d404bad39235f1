package s3api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// call is one signed request to the server under test, as bare as can be.
type call struct {
	method, target string
	header         map[string]string
	body           string
	key, carried   string
	// unsigned headers are added after signing.
	unsigned map[string]string
	presign  bool
}

// answer is what came of it.
type answer struct {
	status int
	header http.Header
	body   string
}

func (b *bench) sign(t testing.TB, c call) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), c.method, b.url, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	path, query, _ := strings.Cut(c.target, "?")
	r.URL.Opaque = "//" + r.URL.Host + path
	r.URL.RawQuery = query
	if c.body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	key := c.key
	if key == "" {
		key = testKey
	}
	if c.carried != "" && c.key == "" {
		key = carriedKey
	}
	creds := aws.Credentials{AccessKeyID: key, SecretAccessKey: testSecret, SessionToken: c.carried}
	signer := v4.NewSigner(func(o *v4.SignerOptions) {
		o.DisableURIPathEscaping, o.DisableHeaderHoisting = true, true
	})
	if c.presign {
		q := r.URL.Query()
		q.Set("X-Amz-Expires", "60")
		r.URL.RawQuery = q.Encode()
		signed, headers, err := signer.PresignHTTP(context.Background(), creds, r, "UNSIGNED-PAYLOAD", "s3", "us-east-1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		_, r.URL.RawQuery, _ = strings.Cut(signed, "?")
		for k, v := range headers {
			r.Header[k] = v
		}
	} else {
		sum := sha256.Sum256([]byte(c.body))
		r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
		if err := signer.SignHTTP(context.Background(), creds, r, hex.EncodeToString(sum[:]), "s3", "us-east-1", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	for k, v := range c.unsigned {
		r.Header.Set(k, v)
	}
	return r
}

func (b *bench) call(t testing.TB, c call) answer {
	t.Helper()
	return b.send(t, b.sign(t, c))
}

func (b *bench) send(t testing.TB, r *http.Request) answer {
	t.Helper()
	tr := b.transport
	if tr == nil {
		tr = &http.Transport{DisableCompression: true}
		defer tr.CloseIdleConnections()
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// code is the S3 error code of an answer.
func (a answer) code() string {
	_, rest, _ := strings.Cut(a.body, "<Code>")
	code, _, _ := strings.Cut(rest, "</Code>")
	return code
}

// raw sends the head of a signed request with Expect: 100-continue, and no
// body, and returns what the server says first.
func (b *bench) raw(t *testing.T, c call) string {
	t.Helper()
	r := b.sign(t, c)
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n", c.method, c.target, r.URL.Host, len(c.body))
	if err := r.Header.Write(&head); err != nil {
		t.Fatal(err)
	}
	head.WriteString("\r\n")
	if _, err := conn.Write(head.Bytes()); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(line, " 100 ") {
		if _, err := io.WriteString(conn, c.body); err != nil {
			t.Fatal(err)
		}
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		final, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		line += final
	}
	return line
}

func escaped(s string) string { return url.QueryEscape(s) }
