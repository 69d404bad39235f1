package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// patience is how long a client waits for an answer.
const patience = 20 * time.Second

// errRefused: nothing listened, so nothing happened.
var errRefused = errors.New("sim: connection refused")

// outgoing is a request before it is signed.
type outgoing struct {
	name   string
	method string
	path   string // escaped
	query  url.Values
	header http.Header
	body   []byte
	creds  aws.Credentials
	// once: it must not reach the service twice, since it does not name itself.
	once bool
}

// reply is what the client heard.
type reply struct {
	status int
	header http.Header
	body   []byte
	err    error
	// twice: it was delivered to somebody else, too, whose answer nobody hears.
	twice bool
}

// wait is how long a client waits for the answer.
func (r *outgoing) wait() time.Duration { return patience }

var signer = v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })

// sign makes the request as a server sees it.
func (r *outgoing) sign(ctx context.Context) *http.Request {
	u := &url.URL{Scheme: "http", Host: "s3fence", RawQuery: r.query.Encode()}
	u.Path, _ = url.PathUnescape(r.path)
	u.RawPath = r.path
	hr := (&http.Request{Method: r.method, URL: u, Host: u.Host, Header: r.header.Clone(), ContentLength: int64(len(r.body)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if hr.Header == nil {
		hr.Header = http.Header{}
	}
	sum := sha256.Sum256(r.body)
	payload := hex.EncodeToString(sum[:])
	hr.Header.Set("X-Amz-Content-Sha256", payload)
	if err := signer.SignHTTP(ctx, r.creds, hr, payload, "s3", region, time.Now()); err != nil {
		panic(err) // nothing of it comes from outside
	}
	if len(r.body) > 0 {
		hr.Header.Set("Content-Length", strconv.Itoa(len(r.body)))
	}
	hr.RequestURI = u.RequestURI()
	hr.URL = &url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}
	hr.RemoteAddr = "192.0.2.1:1"
	return hr
}

// send sends a request to a proxy once and waits for its answer.
func (c *client) send(m *machine, r *outgoing) reply {
	w := c.c.w
	if err := w.step(c.actor, fmt.Sprintf("sends %s to p%d", r.name, m.n)); err != nil {
		return reply{err: errRefused}
	}
	ctx, hangUp := context.WithCancel(context.Background())
	signed := r.sign(ctx)
	answer := make(chan reply, 1)
	w.wg.Go(func() { c.carry(m, r, signed, answer) })
	twice := !r.once && w.chance(TwiceRequest, r.name)
	if twice {
		other := c.c.machines[(m.n+r.hash())%len(c.c.machines)]
		again := signed.Clone(context.Background())
		w.wg.Go(func() {
			time.Sleep(w.within(10*time.Second, "twice "+r.name))
			c.carry(other, r, again, make(chan reply, 1))
		})
	}
	timer := time.NewTimer(r.wait())
	defer timer.Stop()
	var got reply
	select {
	case got = <-answer:
	case <-timer.C:
		got = reply{err: errReset}
	}
	w.wg.Go(func() {
		_ = w.step(c.c.net, "hangs up "+r.name)
		hangUp()
	})
	if err := w.step(c.actor, "hears of "+r.name); err != nil {
		return reply{err: errReset}
	}
	got.twice = twice
	return got
}

// hash is a number that the request's name decides.
func (r *outgoing) hash() int { return int(draw(0, r.name, 0) % 97) }

// carry is the network between clients and proxies, and the server's goroutine.
func (c *client) carry(m *machine, r *outgoing, hr *http.Request, answer chan<- reply) {
	w := c.c.w
	if w.chance(SlowRequest, r.name) {
		time.Sleep(w.within(25*time.Second, "slow "+r.name))
	}
	_ = w.step(c.c.net, "brings "+r.name)
	if w.chance(LostRequest, r.name) {
		answer <- reply{err: errReset}
		return
	}
	w.mu.Lock()
	p := m.proxy
	var handler http.Handler
	if p != nil {
		handler = p.handler
	}
	w.mu.Unlock()
	if handler == nil {
		answer <- reply{err: errRefused}
		return
	}
	if w.step(p.actor, "serves "+r.name) != nil {
		answer <- reply{err: errReset}
		return
	}
	got := serve(handler, hr, &clientBody{c: c, r: r, rest: r.body})
	if w.step(p.actor, fmt.Sprintf("answers %s with %d", r.name, got.status)) != nil {
		got = reply{err: errReset}
	}
	if w.chance(SlowAnswer, r.name) {
		time.Sleep(w.within(25*time.Second, "slow "+r.name))
	}
	if w.chance(LostAnswer, r.name) {
		got = reply{err: errReset}
	}
	answer <- got
}

// serve has a request answered in this goroutine.
func serve(h http.Handler, hr *http.Request, body io.ReadCloser) (got reply) {
	a := &answerWriter{header: http.Header{}}
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler { //nolint:errorlint // net/http knows this very value alone
				panic(p)
			}
			got = reply{err: errReset}
		}
	}()
	hr.Body = body
	h.ServeHTTP(a, hr)
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return reply{status: a.status, header: a.header, body: a.body.Bytes()}
}

// answerWriter keeps an answer.
type answerWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answerWriter) Header() http.Header { return a.header }

func (a *answerWriter) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
	}
}

func (a *answerWriter) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.body.Write(b)
}

// clientBody is a body as the proxy reads it: a large one comes in two halves, and
// its client may stop in between.
type clientBody struct {
	c    *client
	r    *outgoing
	rest []byte
	half bool
}

const largeBody = 1 << 20

func (b *clientBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	if whole := len(b.r.body); whole > largeBody && !b.half {
		left := len(b.rest) - whole/2
		if left <= 0 {
			b.half = true
			if err := b.c.c.w.step(b.c.actor, "goes on with "+b.r.name); err != nil {
				return 0, errReset
			}
		} else if len(p) > left {
			p = p[:left]
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (*clientBody) Close() error { return nil }
