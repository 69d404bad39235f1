//go:build soak

package soak

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	region   = "us-east-1"
	unsigned = "UNSIGNED-PAYLOAD"
	// callWait bounds one call, longer than any that the service lets wait.
	callWait = 75 * time.Second
)

// call is one request.
type call struct {
	method, path string
	query        url.Values
	// token is sent where it is not 0.
	token  int64
	header map[string]string
	body   []byte
}

// answer is what came back. Status 0 says that nothing did: err has the reason.
type answer struct {
	status int
	etag   string
	body   []byte
	err    error
}

// code is S3's error code, or that of the JSON API.
func (a answer) code() string {
	var f struct {
		Code string `json:"code"`
	}
	if xml.Unmarshal(a.body, &f) != nil {
		_ = json.Unmarshal(a.body, &f)
	}
	return f.Code
}

func (a answer) String() string {
	return fmt.Sprintf("status %d (%v) %.300s", a.status, a.err, a.body)
}

// maybe says that nobody knows whether it took effect (F7).
func (a answer) maybe() bool { return a.status == 0 || a.status == http.StatusGatewayTimeout }

var signer = v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })

// request makes the signed request.
func (w *world) request(ctx context.Context, s *site, c *call) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, c.method, "http://"+s.addr+c.path, bytes.NewReader(c.body))
	if err != nil {
		return nil, err
	}
	r.URL.RawQuery = strings.ReplaceAll(c.query.Encode(), "+", "%20")
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	if c.token != 0 {
		r.Header.Set("X-Fencing-Token", strconv.FormatInt(c.token, 10))
	}
	payload := unsigned
	if len(c.body) < 8<<10 {
		sum := sha256.Sum256(c.body)
		payload = hex.EncodeToString(sum[:])
	}
	r.Header.Set("X-Amz-Content-Sha256", payload)
	return r, signer.SignHTTP(ctx, w.creds, r, payload, "s3", region, time.Now())
}

// send does one operation. It is counted when it was answered.
func (w *world) send(ctx context.Context, s *site, c *call) answer {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	r, err := w.request(ctx, s, c)
	if err != nil {
		return answer{err: err}
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{err: err}
	}
	w.ops.Add(1)
	w.count(strconv.Itoa(resp.StatusCode))
	return answer{status: resp.StatusCode, etag: strings.Trim(resp.Header.Get("ETag"), `"`), body: body}
}

// api calls the JSON API.
func (w *world) api(ctx context.Context, s *site, method, path string, body map[string]any) answer {
	var text []byte
	if body != nil {
		text, _ = json.Marshal(body) // strings and numbers
	}
	return w.send(ctx, s, &call{method: method, path: "/-/v1/" + path, body: text})
}

// token reads the token of a grant.
func (a answer) token() int64 {
	var grant struct {
		Token int64 `json:"token"`
	}
	_ = json.Unmarshal(a.body, &grant)
	return grant.Token
}

// breakOff sends the head of a PUT with half of its body and hangs up: with an
// orderly end or with a reset.
func (w *world) breakOff(ctx context.Context, s *site, c *call, reset bool) error {
	r, err := w.request(ctx, s, c)
	if err != nil {
		return err
	}
	var head strings.Builder
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", c.method, r.URL.RequestURI(), s.addr, len(c.body))
	if err := r.Header.Write(&head); err != nil {
		return err
	}
	head.WriteString("\r\n")
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write(append([]byte(head.String()), c.body[:len(c.body)/2]...)); err != nil {
		return err
	}
	if reset {
		err = conn.(*net.TCPConn).SetLinger(0)
	}
	conn.Close()
	w.ops.Add(1)
	w.count("broken off")
	return err
}

// text makes a body that is written once: it names its key and number, and fills up
// to the size with what depends on them.
func text(key string, seq int64, size int) []byte {
	head := fmt.Sprintf("%s#%d\n", key, seq)
	b := make([]byte, max(size, len(head)))
	copy(b, head)
	x := uint64(seq)*0x9E3779B97F4A7C15 + uint64(len(key))
	for i := len(head); i < len(b); i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

func hexMD5(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}
