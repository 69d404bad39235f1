package upstream

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// PutOptions are what a PUT or a part may carry besides its bytes.
type PutOptions struct {
	Header     http.Header // see [Forwarded]
	ContentMD5 string      // base64, signed; the store refuses other bytes
}

// Stored is the store's answer to bytes that it took.
type Stored struct {
	ETag   string      // without quotes
	Header http.Header // of the answer: checksums, encryption, version
}

// PutObject stores length bytes of body under key. See [Request] for what
// happens to body.
func (c *Client) PutObject(ctx context.Context, bucket, key string, body io.Reader, length int64, o PutOptions) (*Stored, error) {
	return c.store(ctx, &Request{
		Method: http.MethodPut, Bucket: bucket, Key: key, Mutation: true,
		Header: with(o.Header, "Content-Md5", o.ContentMD5), Body: body, ContentLength: length,
	})
}

func (c *Client) store(ctx context.Context, r *Request) (*Stored, error) {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	etag := unquote(resp.Header.Get("Etag"))
	if etag == "" {
		return nil, c.strange(r, resp, errNoETag)
	}
	return &Stored{ETag: etag, Header: resp.Header}, nil
}

// Encrypted reports whether an answer says that the store encrypts the object,
// because it was asked to or always does. Its ETag is then of the store's own kind
// and may look like an MD5 without being one.
func Encrypted(h http.Header) bool {
	return h.Get("X-Amz-Server-Side-Encryption") != "" || h.Get("X-Amz-Server-Side-Encryption-Customer-Algorithm") != ""
}

// Info is what HEAD says of an object.
type Info struct {
	Size         int64
	ETag         string    // without quotes
	LastModified time.Time // zero if the store did not say
	Header       http.Header
}

// HeadObject asks for an object's headers. A missing one is an error that
// [NotFound] knows. A store that names no size gets an error.
func (c *Client) HeadObject(ctx context.Context, bucket, key string, h http.Header) (*Info, error) {
	r := &Request{Method: http.MethodHead, Bucket: bucket, Key: key, Header: h}
	resp, err := c.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	if resp.ContentLength < 0 {
		return nil, c.strange(r, resp, fmt.Errorf("no Content-Length"))
	}
	return info(resp), nil
}

func info(resp *Response) *Info {
	modified, _ := http.ParseTime(resp.Header.Get("Last-Modified"))
	return &Info{Size: resp.ContentLength, ETag: unquote(resp.Header.Get("Etag")), LastModified: modified, Header: resp.Header}
}

// Object is an open object or a range of it. Body must be closed; it fails if
// the store sends less than it announced.
type Object struct {
	Status int // 200 or 206
	Info       // Size is the length of Body
	Body   io.ReadCloser
}

// GetObject opens an object. byteRange is a Range header ("bytes=0-99") or empty;
// h may carry conditions, whose failure is an [*Error] of status 304 or 412.
func (c *Client) GetObject(ctx context.Context, bucket, key, byteRange string, h http.Header) (*Object, error) {
	resp, err := c.Do(ctx, &Request{Method: http.MethodGet, Bucket: bucket, Key: key, Header: with(h, "Range", byteRange)})
	if err != nil {
		return nil, err
	}
	return &Object{Status: resp.Status, Info: *info(resp), Body: resp.Body}, nil
}

// DeleteObject deletes one key. Deleting what is not there succeeds.
func (c *Client) DeleteObject(ctx context.Context, bucket, key string) error {
	_, err := c.Do(ctx, &Request{Method: http.MethodDelete, Bucket: bucket, Key: key, Mutation: true})
	if HasCode(err, "NoSuchKey") {
		return nil
	}
	return err
}

// KeyError is one key that a batch delete did not delete.
type KeyError struct{ Key, Code, Message string }

// DeleteObjects deletes up to 1,000 keys in one request and returns the keys
// that the store says it did not delete; all others it did. Keys must be UTF-8
// without control characters, which XML cannot carry: delete others singly.
func (c *Client) DeleteObjects(ctx context.Context, bucket string, keys []string) ([]KeyError, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	if len(keys) > 1000 {
		return nil, fmt.Errorf("%w: batch delete of %d keys; at most 1000", ErrRequest, len(keys))
	}
	var b bytes.Buffer
	b.WriteString(`<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>`)
	for _, k := range keys {
		if !utf8.ValidString(k) || k == "" || strings.ContainsFunc(k, func(r rune) bool { return r < ' ' || r == 0xFFFE || r == 0xFFFF }) {
			return nil, fmt.Errorf("%w: key %q cannot stand in a batch delete", ErrRequest, k)
		}
		b.WriteString("<Object><Key>")
		xml.EscapeText(&b, []byte(k))
		b.WriteString("</Key></Object>")
	}
	b.WriteString("</Delete>")
	sum := md5.Sum(b.Bytes())

	var out struct {
		XMLName xml.Name `xml:"DeleteResult"`
		Errors  []struct {
			Key     string
			Code    string
			Message string
		} `xml:"Error"`
	}
	_, err := c.call(ctx, &Request{
		Method: http.MethodPost, Bucket: bucket, Query: []Param{{"delete", ""}}, Mutation: true,
		Header: http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}, "Content-Type": {"application/xml"}},
		Body:   bytes.NewReader(b.Bytes()), ContentLength: int64(b.Len()),
	}, &out)
	if err != nil {
		return nil, err
	}
	var failed []KeyError
	for _, e := range out.Errors {
		if e.Code != "NoSuchKey" {
			failed = append(failed, KeyError(e))
		}
	}
	return failed, nil
}

// Source is an object, or with Range a part of one, that is copied from.
type Source struct {
	Bucket, Key string
	IfMatch     string // ETag without quotes that it must have; "" for any
	Range       string // "bytes=first-last", parts only
}

func (s Source) header(h http.Header) http.Header {
	h = with(h, "X-Amz-Copy-Source", escape(s.Bucket+"/"+s.Key), "X-Amz-Copy-Source-Range", s.Range)
	if s.IfMatch != "" {
		h.Set("X-Amz-Copy-Source-If-Match", quote(s.IfMatch))
	}
	return h
}

// copy sends a request whose answer is a document with an ETag, whatever its
// root is called: stores differ, and [Client.Do] has looked for <Error>.
func (c *Client) copy(ctx context.Context, r *Request) (*Stored, error) {
	var out struct{ ETag string }
	h, err := c.call(ctx, r, &out)
	if err != nil {
		return nil, err
	}
	if out.ETag == "" {
		return nil, c.strange(r, &Response{Status: http.StatusOK, Header: h}, errNoETag)
	}
	return &Stored{ETag: unquote(out.ETag), Header: h}, nil
}

// CopyObject copies an object within the store.
func (c *Client) CopyObject(ctx context.Context, src Source, bucket, key string, h http.Header) (*Stored, error) {
	return c.copy(ctx, &Request{Method: http.MethodPut, Bucket: bucket, Key: key, Mutation: true, Header: src.header(h)})
}
