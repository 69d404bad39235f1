package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	// callTime bounds a call beyond what it waits for; guardTime one that adds or
	// removes a guard, which may copy objects.
	callTime  = 30 * time.Second
	guardTime = 10 * time.Minute
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 16 << 20
)

// Client talks to one s3fence. Safe for concurrent use.
type Client struct {
	base        string
	region      string
	credentials aws.Credentials
	http        *http.Client
	signer      *v4.Signer
	now         func() time.Time
}

// Option is a setting of [New].
type Option func(*Client)

// WithRegion sets the region that requests are signed for; us-east-1 otherwise.
func WithRegion(region string) Option { return func(c *Client) { c.region = region } }

// WithSessionToken adds the token of temporary credentials.
func WithSessionToken(t string) Option { return func(c *Client) { c.credentials.SessionToken = t } }

// WithHTTPClient sends requests through h, which must not follow redirects: a
// signature is for one host.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithClock makes now the time that requests are signed with.
func WithClock(now func() time.Time) Option { return func(c *Client) { c.now = now } }

// shown is what a message says of an endpoint that cannot be used. What may be a
// password, or a signature of a URL, is left out, and where these stand is not left to
// a parser that may just have failed.
func shown(endpoint string) string {
	endpoint, _, _ = strings.Cut(endpoint, "?")
	if at := strings.LastIndexByte(endpoint, '@'); at >= 0 {
		scheme, _, found := strings.Cut(endpoint[:at], "://")
		if !found {
			return "…" + endpoint[at:]
		}
		return scheme + "://…" + endpoint[at:]
	}
	return endpoint
}

// New makes a client of the service at endpoint, such as
// http://127.0.0.1:9000. It does not connect.
func New(endpoint, accessKey, secretKey string, opts ...Option) (*Client, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%w: the endpoint %q is not a URL like http://127.0.0.1:9000", ErrInvalid, shown(endpoint))
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%w: the endpoint %q must have no path, query or user", ErrInvalid, shown(endpoint))
	}
	if accessKey == "" || secretKey == "" {
		return nil, fmt.Errorf("%w: an access key and a secret key are needed", ErrInvalid)
	}
	c := &Client{
		base:        u.Scheme + "://" + u.Host + "/-/v1/",
		region:      "us-east-1",
		credentials: aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey},
		http:        &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		signer:      v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }),
		now:         time.Now,
	}
	for _, o := range opts {
		o(c)
	}
	return c, nil
}

// Endpoint is the service's, such as http://127.0.0.1:9000: S3 is served there
// too.
func (c *Client) Endpoint() string { return strings.TrimSuffix(c.base, "/-/v1/") }

// Region is what requests are signed for.
func (c *Client) Region() string { return c.region }

// call sends one request and decodes the answer into out.
func (c *Client) call(ctx context.Context, within time.Duration, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w: %s: reading the answer: %w", ErrUnreachable, c.base, err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return c.failure(resp.StatusCode, answer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%w: %s does not answer as s3fence does: %w", ErrUnreachable, c.base, err)
	}
	return nil
}

// send sends one request. The caller closes the answer's body.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key := keyOf(ctx); key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", hash)
	if err := c.signer.SignHTTP(ctx, c.credentials, req, hash, "s3", c.region, c.now()); err != nil {
		return nil, fmt.Errorf("%w: signing: %w", ErrInvalid, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, c.base, notAsked(err))
	}
	return resp, nil
}

// failure makes an error of an answer. What is not of the service's form comes
// from something else at that address.
func (c *Client) failure(status int, answer []byte) error {
	var e struct {
		Code      string
		Message   string
		RequestID string `json:"request_id"`
		Holder    json.RawMessage
		Highest   int64
		Position  int
		Waiting   int
		DelayMS   int64 `json:"delay_ms"`
	}
	if err := json.Unmarshal(answer, &e); err != nil || e.Code == "" {
		err := fmt.Errorf("%w: %s does not answer as s3fence does: HTTP %d", ErrUnreachable, c.base, status)
		if status < http.StatusInternalServerError {
			return &unaskedError{err} // a balancer that lost an answer says 502 or 504
		}
		return err
	}
	out := &Error{Status: status, Code: e.Code, Message: e.Message, RequestID: e.RequestID, Highest: e.Highest}
	switch e.Code {
	case "LockHeld":
		out.Position, out.Waiting, out.Delay = e.Position, e.Waiting, time.Duration(e.DelayMS)*time.Millisecond
		var h holderJSON
		if json.Unmarshal(e.Holder, &h) == nil {
			out.Holder = h.holder()
		}
	case "AlreadyClaimed":
		var by claimJSON
		if json.Unmarshal(answer, &by) == nil {
			claim := by.claim()
			out.Claim = &claim
		}
	}
	return out
}
