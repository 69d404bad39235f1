package upstream

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// call sends r, decodes the XML answer into out and returns its headers. The
// root element must be the one that out's XMLName demands, if it has one.
func (c *Client) call(ctx context.Context, r *Request, out any) (http.Header, error) {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	body := &answerBody{body: resp.Body, cancel: func(error) {}, stall: c.limits.stall}
	if own, ok := resp.Body.(*answerBody); ok {
		body = own
	}
	content, err := body.whole(c.limits.answer, maxAnswerBody)
	if err == nil {
		err = xml.Unmarshal(content, out)
	}
	if err != nil {
		return nil, c.strange(r, resp, err)
	}
	return resp.Header, nil
}

// strange is a 2xx answer that does not say what it has to.
func (c *Client) strange(r *Request, resp *Response, why error) error {
	return &Error{
		Upstream: c.name, Request: r.Method + " " + r.Bucket + "/" + r.Key,
		Status: resp.Status, Header: resp.Header, RequestID: resp.Header.Get("X-Amz-Request-Id"),
		Err: fmt.Errorf("%w: %w", ErrCut, why),
	}
}

var errNoETag = errors.New("no ETag")

// unquote takes the quotes off an ETag: typed calls take and give ETags bare.
func unquote(etag string) string {
	return strings.Trim(strings.TrimSpace(etag), `"`)
}

func quote(etag string) string { return `"` + unquote(etag) + `"` }

// with returns a copy of h with the non-empty values of pairs set.
func with(h http.Header, pairs ...string) http.Header {
	out := h.Clone()
	if out == nil {
		out = make(http.Header, len(pairs)/2)
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out.Set(pairs[i], pairs[i+1])
		}
	}
	return out
}
