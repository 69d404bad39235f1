//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	region = "us-east-1"
	// unsigned spares client and server the hash of the body: TLS or a
	// checksum is what carries integrity in S3, and neither is measured here.
	unsigned = "UNSIGNED-PAYLOAD"
	// opWait bounds one request, the largest ones on a busy disk included.
	opWait = 60 * time.Second
)

// endpoint is one way to reach a bucket.
type endpoint struct {
	// addr is host:port, plain HTTP.
	addr   string
	creds  aws.Credentials
	bucket string
	// prefix begins every key.
	prefix string
	// token is sent as X-Fencing-Token where not empty.
	token string
}

// shot is a request ready to be sent: nothing of it is computed in a round.
type shot struct {
	method string
	// head is the request line with all headers and the empty line.
	head []byte
	// body is shared by all shots of a case.
	body []byte
	// status is the only one that is no error.
	status int
}

var signer = v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })

// sign makes a shot. query is encoded and sorted already; payload is the
// value of x-amz-content-sha256.
func (e *endpoint) sign(ctx context.Context, method, path, query, payload string, body []byte, at time.Time) (shot, error) {
	r := &http.Request{
		Method: method, Host: e.addr, Header: http.Header{}, ContentLength: int64(len(body)),
		URL: &url.URL{Scheme: "http", Host: e.addr, Path: path, RawQuery: query},
	}
	r.Header.Set("X-Amz-Content-Sha256", payload)
	if e.token != "" {
		r.Header.Set("X-Fencing-Token", e.token)
	}
	if err := signer.SignHTTP(ctx, e.creds, r, payload, "s3", region, at); err != nil {
		return shot{}, fmt.Errorf("sign %s %s: %w", method, path, err)
	}
	var head strings.Builder
	head.WriteString(method + " " + r.URL.RequestURI() + " HTTP/1.1\r\nHost: " + e.addr + "\r\n")
	if method == http.MethodPut || method == http.MethodPost {
		head.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n")
	}
	if err := r.Header.Write(&head); err != nil {
		return shot{}, fmt.Errorf("sign %s %s: %w", method, path, err)
	}
	head.WriteString("\r\n")
	return shot{method: method, head: []byte(head.String()), body: body, status: http.StatusOK}, nil
}

// object signs a request for one key below the endpoint's prefix.
func (e *endpoint) object(ctx context.Context, method, key string, body []byte, at time.Time) (shot, error) {
	return e.sign(ctx, method, "/"+e.bucket+"/"+e.prefix+key, "", unsigned, body, at)
}

// wire is the kept-alive connection of one caller. It is net/http's own reader
// and parser over a plain connection: a Transport hands each request through
// two more goroutines, which would cost as much as the rest of this client.
type wire struct {
	addr string
	// from is the address to connect from; nil for any.
	from   net.Addr
	conn   net.Conn
	reader *bufio.Reader
	buffer []byte
	// keep takes bodies of answers where it is not nil; else they are dropped.
	keep *bytes.Buffer
}

func newWire(addr string) *wire {
	// A body larger than the reader's buffer is read past it, into buffer.
	return &wire{addr: addr, reader: bufio.NewReaderSize(nil, 16<<10), buffer: make([]byte, 256<<10)}
}

// send sends a shot, reads the whole answer and returns the length of its body.
func (w *wire) send(ctx context.Context, s *shot) (int64, error) {
	n, err := w.exchange(ctx, s)
	if err != nil {
		w.close()
		line, _, _ := strings.Cut(string(s.head), "\r\n")
		return n, fmt.Errorf("%s at %s: %w", line, w.addr, err)
	}
	return n, nil
}

func (w *wire) exchange(ctx context.Context, s *shot) (int64, error) {
	if w.conn == nil {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second, LocalAddr: w.from}).DialContext(ctx, "tcp", w.addr)
		if err != nil {
			return 0, err
		}
		w.conn = conn
		w.reader.Reset(conn)
	}
	if err := w.conn.SetDeadline(time.Now().Add(opWait)); err != nil {
		return 0, err
	}
	parts := net.Buffers{s.head}
	if len(s.body) > 0 {
		parts = append(parts, s.body)
	}
	if _, err := parts.WriteTo(w.conn); err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(w.reader, &http.Request{Method: s.method})
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != s.status {
		text, err := io.ReadAll(io.LimitReader(answer.Body, 2<<10))
		if err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("status %d: %s", answer.StatusCode, text)
	}
	to := io.Discard
	if w.keep != nil {
		w.keep.Reset()
		to = w.keep
	}
	// Without its ReadFrom, Discard takes the buffer that it is given.
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, answer.Body, w.buffer)
	if err != nil {
		return n, err
	}
	if answer.Close {
		w.close()
	}
	return n, nil
}

func (w *wire) close() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}
