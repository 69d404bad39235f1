package upstream

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// HeadBucket returns nil if the bucket is there and ours to use. h may carry
// x-amz-expected-bucket-owner, which stores that know owners answer 403 to where
// it is another's.
func (c *Client) HeadBucket(ctx context.Context, bucket string, h http.Header) error {
	resp, err := c.Do(ctx, &Request{Method: http.MethodHead, Bucket: bucket, Header: h})
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// ErrNoDate says that a store does not tell its time.
var ErrNoDate = errors.New("the answer has no Date")

// Date is the store's own time in whole seconds, rounded down: a moment before its
// answer came. Behind a balancer it may be the balancer's.
func (c *Client) Date(ctx context.Context, bucket string) (time.Time, error) {
	r := &Request{Method: http.MethodHead, Bucket: bucket}
	resp, err := c.Do(ctx, r)
	if err != nil {
		return time.Time{}, err
	}
	resp.Body.Close()
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return time.Time{}, c.strange(r, resp, ErrNoDate)
	}
	return at, nil
}

// CreateBucket makes a bucket and returns its ARN, empty where the store names none.
// A bucket that is ours already is an error with the code BucketAlreadyOwnedByYou, as
// S3 says it outside us-east-1.
func (c *Client) CreateBucket(ctx context.Context, bucket string, tags []Tag, h http.Header) (arn string, err error) {
	r := &Request{Method: http.MethodPut, Bucket: bucket, Mutation: true, Header: h}
	document := struct {
		XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CreateBucketConfiguration"`
		LocationConstraint string   `xml:",omitempty"`
		Tags               *[]Tag   `xml:"Tags>Tag"`
	}{}
	// S3 API, CreateBucket: us-east-1 must not be named, all others must.
	if c.region != "us-east-1" {
		document.LocationConstraint = c.region
	}
	if len(tags) > 0 {
		document.Tags = &tags
	}
	if document.LocationConstraint != "" || document.Tags != nil {
		text, err := xml.Marshal(document)
		if err != nil {
			return "", err
		}
		r.Body, r.ContentLength = strings.NewReader(string(text)), int64(len(text))
	}
	resp, err := c.Do(ctx, r)
	if err != nil {
		return "", err
	}
	return resp.Header.Get("X-Amz-Bucket-Arn"), resp.Body.Close()
}

// The three ways in which a store can be unusable at the start. [Client.Ping]
// wraps them in one line that says what to do.
var (
	ErrUnreachable  = errors.New("store cannot be reached")
	ErrCredentials  = errors.New("store refuses the credentials")
	ErrNoSuchBucket = errors.New("no such bucket at the store")
)

// Ping asks the store for one key of bucket, or for the list of buckets if
// bucket is empty. Its errors are for the operator to read: one line each.
func (c *Client) Ping(ctx context.Context, bucket string) error {
	r := &Request{Method: http.MethodGet, Bucket: bucket}
	if bucket != "" {
		r.Query = []Param{{"list-type", "2"}, {"max-keys", "1"}}
	}
	resp, err := c.Do(ctx, r)
	if err == nil {
		defer resp.Body.Close()
		start, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		if s := string(start); strings.Contains(s, "ListBucketResult") || strings.Contains(s, "ListAllMyBucketsResult") {
			return nil
		}
		return fmt.Errorf("upstream %s: %s://%s answers, but not as an S3 store does; check endpoint", c.name, c.scheme, c.host)
	}

	e, ok := errors.AsType[*Error](err)
	say := func(sentinel error, format string, args ...any) error {
		return fmt.Errorf("upstream %s: %w: %s", c.name, sentinel, fmt.Sprintf(format, args...))
	}
	switch {
	case !ok || e.Status == 0:
		cause := err
		if ok {
			cause = e.Err
		}
		return say(ErrUnreachable, "%s://%s: %v; is it running, and is endpoint right?", c.scheme, c.host, cause)
	case e.Code == "InvalidAccessKeyId":
		return say(ErrCredentials, "access key %s is unknown there; check access_key", c.creds.AccessKeyID)
	case e.Code == "SignatureDoesNotMatch":
		return say(ErrCredentials, "the signature of access key %s does not match; check secret_key", c.creds.AccessKeyID)
	case e.Code == "RequestTimeTooSkewed":
		return say(ErrCredentials, "this machine's clock differs too much from the store's (%s); set the clock", e.Header.Get("Date"))
	case e.Code == "AuthorizationHeaderMalformed" || e.Code == "PermanentRedirect" || e.Status/100 == 3:
		return say(ErrCredentials, "region %s or the endpoint is not the bucket's (%s); check region and endpoint", c.region, e.Message)
	case e.Code == "NoSuchBucket":
		return say(ErrNoSuchBucket, "%s; create it there or check buckets", bucket)
	case e.Code == "AccessDenied" && bucket == "":
		return nil // the key is known there and may not list buckets; it need not
	case e.Status == http.StatusForbidden:
		return say(ErrCredentials, "access key %s may not list bucket %s; allow it there", c.creds.AccessKeyID, bucket)
	case e.Code == "" && e.Status/100 == 4:
		return fmt.Errorf("upstream %s: %s://%s answers %d, but not as an S3 store does; check endpoint", c.name, c.scheme, c.host, e.Status)
	}
	return say(ErrUnreachable, "%v", err)
}
