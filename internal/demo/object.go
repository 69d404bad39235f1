package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	// requestTime bounds a request to the store or to the proxy.
	requestTime = 20 * time.Second
	// maxBody bounds what is read of an answer, in bytes.
	maxBody = 64 << 10
)

// object is one object of lines, and the way to it.
type object struct {
	Endpoint, Region     string
	AccessKey, SecretKey string
	Bucket, Key          string
}

// String is the object's address.
func (o object) String() string { return "s3://" + o.Bucket + "/" + o.Key }

// answer is how a write ended.
type answer struct {
	// Status is the HTTP status; Code and Message are empty below 300.
	Status        int
	Code, Message string
}

// get reads the lines; none where there is no object.
func (o object) get(ctx context.Context) ([]string, error) {
	a, body, err := o.send(ctx, http.MethodGet, o.Key, nil, 0)
	if err != nil {
		return nil, err
	}
	if a.Status == http.StatusNotFound && a.Code == "NoSuchKey" {
		return nil, nil
	}
	if a.Status != http.StatusOK {
		return nil, fmt.Errorf("reading %v: %d %s: %s", o, a.Status, a.Code, a.Message)
	}
	return strings.Fields(string(body)), nil
}

// put writes the lines, under a fencing token unless that is 0. What the server
// says is no error.
func (o object) put(ctx context.Context, lines []string, token int64) (answer, error) {
	a, _, err := o.send(ctx, http.MethodPut, o.Key, []byte(strings.Join(lines, "\n")+"\n"), token)
	return a, err
}

// makeBucket makes the object's bucket.
func (o object) makeBucket(ctx context.Context) error {
	a, _, err := o.send(ctx, http.MethodPut, "", nil, 0)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("making the bucket %s: %d %s: %s", o.Bucket, a.Status, a.Code, a.Message)
	}
	return err
}

// send sends one request, once.
func (o object) send(ctx context.Context, method, key string, body []byte, token int64) (answer, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, o.Endpoint+"/"+o.Bucket+"/"+key, bytes.NewReader(body))
	if err != nil {
		return answer{}, nil, err
	}
	if token != 0 {
		r.Header.Set("X-Fencing-Token", strconv.FormatInt(token, 10))
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	r.Header.Set("X-Amz-Content-Sha256", hash)
	signer := v4.NewSigner(func(s *v4.SignerOptions) { s.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(ctx, aws.Credentials{AccessKeyID: o.AccessKey, SecretAccessKey: o.SecretKey}, r, hash, "s3", o.Region, time.Now()); err != nil {
		return answer{}, nil, fmt.Errorf("signing: %w", err)
	}
	// A connection for each request: what was kept while its process was frozen
	// would fail for a reason that is no part of the story.
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return answer{}, nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return answer{}, nil, fmt.Errorf("%s %v: reading the answer: %w", method, o, err)
	}
	a := answer{Status: resp.StatusCode}
	if a.Status >= http.StatusMultipleChoices {
		var e struct{ Code, Message string }
		if err := xml.Unmarshal(got, &e); err != nil {
			return answer{}, nil, fmt.Errorf("%s %v: status %d with a body that is no S3 error: %w", method, o, a.Status, err)
		}
		a.Code, a.Message = e.Code, e.Message
	}
	return a, got, nil
}
