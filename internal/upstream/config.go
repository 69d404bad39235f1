package upstream

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Config says which store a [Client] talks to, and as whom. Endpoint,
// AccessKey and SecretKey are required.
type Config struct {
	// Name stands in every error: the store's name in the configuration.
	Name string

	// Endpoint is http://host[:port] or https://host[:port], without a path.
	Endpoint string

	// Region is part of every signature; "us-east-1" if empty.
	Region string

	// AccessKey and SecretKey are the proxy's own key at the store.
	AccessKey, SecretKey string

	// PathStyle puts the bucket into the path (host/bucket/key) instead of the
	// host name (bucket.host/key).
	PathStyle bool

	// Validity is how long after its signing a mutation may arrive at the
	// store: its X-Amz-Expires. Whole seconds from 1 s to 7 days; 15 s if zero.
	Validity time.Duration

	// Direct says that nothing between here and the store sends a request twice.
	Direct bool

	// CA holds PEM certificates that are trusted instead of the system's.
	CA []byte
}

// Option changes a default of [New].
type Option func(*limits)

type limits struct {
	dial, userTimeout, header, answer, stall, idle time.Duration
	now                                            func() time.Time
	transport                                      Transport
}

// WithDialTimeout bounds the making of a connection, the TLS handshake
// included (default 5 s).
func WithDialTimeout(d time.Duration) Option { return func(l *limits) { l.dial = d } }

// WithUserTimeout sets TCP_USER_TIMEOUT (RFC 5482, tcp(7)) on every socket
// (default 10 s): how long sent bytes may stay unacknowledged before the kernel
// gives the connection up. It is what keeps bytes of a dead process from
// reaching the store much later. Only Linux has it; elsewhere it is ignored.
func WithUserTimeout(d time.Duration) Option { return func(l *limits) { l.userTimeout = d } }

// WithHeaderTimeout bounds the wait from the last byte of a request to the
// headers of its answer (default 2 min: Complete of a large upload is slow).
func WithHeaderTimeout(d time.Duration) Option { return func(l *limits) { l.header = d } }

// WithAnswerTimeout bounds the reading of a mutation's whole answer after its
// headers (default 5 min: stores send white space while they work).
func WithAnswerTimeout(d time.Duration) Option { return func(l *limits) { l.answer = d } }

// WithStallTimeout bounds a single Read of a streamed answer (default 60 s).
// Time in which nobody reads does not count.
func WithStallTimeout(d time.Duration) Option { return func(l *limits) { l.stall = d } }

// WithClock replaces time.Now for signatures.
func WithClock(now func() time.Time) Option { return func(l *limits) { l.now = now } }

// Transport carries requests to a store and their answers back.
type Transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// WithTransport carries requests by other means than connections of net/http: for
// simulations. What net/http bounds is then t's to bound: it must send each request
// once, read the whole body unless it fails, and wrap [ErrNotSent] in its error where
// no byte of the request has left.
func WithTransport(t Transport) Option { return func(l *limits) { l.transport = t } }

// ErrNotSent is what a [Transport] says of a request of which no byte has left.
var ErrNotSent = errors.New("nothing of the request was sent")

// Client talks to one store. It is safe for concurrent use.
type Client struct {
	name      string
	scheme    string
	host      string
	region    string
	pathStyle bool
	expires   time.Duration
	direct    bool
	creds     aws.Credentials
	signer    *v4.Signer
	transport Transport
	limits    limits
}

// New checks the configuration and returns a client. It sends nothing; see
// [Client.Ping]. Close must be called at the end.
func New(cfg Config, opts ...Option) (*Client, error) {
	l := limits{
		dial:        5 * time.Second,
		userTimeout: 10 * time.Second,
		header:      2 * time.Minute,
		answer:      5 * time.Minute,
		stall:       time.Minute,
		// Below the keep-alive of every store we know: a request on a
		// connection that the store is closing is a request lost.
		idle: 20 * time.Second,
		now:  time.Now,
	}
	for _, o := range opts {
		o(&l)
	}
	fail := func(format string, args ...any) (*Client, error) {
		return nil, fmt.Errorf("upstream %s: "+format, append([]any{cfg.Name}, args...)...)
	}

	u, err := url.Parse(cfg.Endpoint)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "":
		return fail("endpoint %q: want http://host[:port] or https://host[:port]", cfg.Endpoint)
	case (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil:
		return fail("endpoint %q: want no user, path or query, only host and port", u.Redacted())
	case cfg.AccessKey == "" || cfg.SecretKey == "":
		return fail("access_key and secret_key must both be set")
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if strings.ContainsAny(cfg.Region, "/ \t\r\n") {
		return fail("region %q: want a name such as us-east-1", cfg.Region)
	}
	if cfg.Validity == 0 {
		cfg.Validity = 15 * time.Second
	}
	// S3 API, "Authenticating Requests: Using Query Parameters": 1 to 604800 seconds.
	if cfg.Validity < time.Second || cfg.Validity > 7*24*time.Hour || cfg.Validity%time.Second != 0 {
		return fail("validity %v: want whole seconds from 1s to 168h", cfg.Validity)
	}
	tlsConfig, err := clientTLS(cfg.CA)
	if err != nil {
		return fail("%w", err)
	}

	if l.transport == nil {
		l.transport = newTransport(tlsConfig, l)
	}
	return &Client{
		name:      cfg.Name,
		scheme:    u.Scheme,
		host:      u.Host,
		region:    cfg.Region,
		pathStyle: cfg.PathStyle,
		expires:   cfg.Validity,
		direct:    cfg.Direct,
		creds:     aws.Credentials{AccessKeyID: cfg.AccessKey, SecretAccessKey: cfg.SecretKey},
		signer: v4.NewSigner(func(o *v4.SignerOptions) {
			o.DisableURIPathEscaping = true // S3 paths are escaped once, by us
			o.DisableHeaderHoisting = true  // a hoisted header is a query parameter, which stores ignore
		}),
		transport: l.transport,
		limits:    l,
	}, nil
}

// Name returns the name of the store in the configuration.
func (c *Client) Name() string { return c.name }

// Validity returns how long after its signing a mutation may arrive.
func (c *Client) Validity() time.Duration { return c.expires }

// Direct reports whether a mutation that was answered is over: nothing on the way
// keeps a second copy of it.
func (c *Client) Direct() bool { return c.direct }

// At is the client with its clock stopped: what it sends is signed with that time,
// so that the store refuses its mutations from at + Validity on, however late they
// are sent. It shares connections with c and needs no Close.
func (c *Client) At(at time.Time) *Client {
	d := *c
	d.limits.now = func() time.Time { return at }
	return &d
}

// Close closes idle connections. Requests under way go on.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

func clientTLS(ca []byte) (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(64),
		// One record of up to 16 KiB instead of many small ones at first.
		DynamicRecordSizingDisabled: true,
	}
	if len(bytes.TrimSpace(ca)) > 0 {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(ca) {
			return nil, errors.New("the CA holds no PEM certificate")
		}
	}
	return cfg, nil
}

func newTransport(tlsConfig *tls.Config, l limits) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	d := dialer{limits: l, tls: tlsConfig}
	return &http.Transport{
		Proxy:                 nil, // an environment variable must not put a replaying proxy between us and the store
		Protocols:             protocols,
		DialContext:           d.plain,
		DialTLSContext:        d.secure,
		DisableCompression:    true, // bytes go through as the store sends them
		MaxIdleConns:          0,
		MaxIdleConnsPerHost:   512,
		IdleConnTimeout:       l.idle,
		ResponseHeaderTimeout: l.header,
		WriteBufferSize:       20 << 10, // headers and body of a small request in one write, one TLS record
		ReadBufferSize:        8 << 10,
	}
}
