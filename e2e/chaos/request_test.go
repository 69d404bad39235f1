package chaos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// callWait bounds a request of a worker. It is shorter than some faults are.
const callWait = 4 * time.Second

// caller sends signed requests, each once: nothing here repeats what was not
// answered.
type caller struct {
	http                 *http.Client
	accessKey, secretKey string
}

func newCaller(accessKey, secretKey string) *caller {
	return &caller{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}, accessKey, secretKey}
}

// answer is what came back; its status is 0 where nothing did, or broke off.
type answer struct {
	status int
	header http.Header
	body   []byte
	// unsent: no connection was made, so that nobody has heard of the request.
	unsent bool
	err    error
}

type request struct {
	method, path string
	query        url.Values
	header       map[string]string
	body         []byte
}

func (c *caller) send(ctx context.Context, base string, r request) answer {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	u, err := url.Parse(base)
	if err != nil {
		return answer{err: err, unsent: true}
	}
	u.Path, u.RawQuery = r.path, r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(r.body))
	if err != nil {
		return answer{err: err, unsent: true}
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	sum := sha256.Sum256(r.body)
	digest := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", digest)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(ctx, aws.Credentials{AccessKeyID: c.accessKey, SecretAccessKey: c.secretKey}, req, digest, "s3", "us-east-1", time.Now()); err != nil {
		return answer{err: err, unsent: true}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{err: err, unsent: strings.Contains(err.Error(), "dial tcp")}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{err: err}
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: body}
}

// code is the error's name in either API.
func (a answer) code() string {
	var s3 struct{ Code string }
	if xml.Unmarshal(a.body, &s3) == nil {
		return s3.Code
	}
	var api struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(a.body, &api)
	return api.Code
}

// unknown: it may have happened. Whoever heard nothing, or 500, does not know.
func (a answer) unknown() bool {
	return a.status == 0 && !a.unsent || a.status == http.StatusGatewayTimeout || a.status == http.StatusInternalServerError
}

func (a answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("%d %s", a.status, a.code())
}
