package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"time"
)

// Response is a 2xx answer. Of a mutation it is whole and in memory; of a read
// Body streams and must be closed.
type Response struct {
	Status        int
	Header        http.Header
	Body          io.ReadCloser
	ContentLength int64 // -1 if the store did not say
}

// Do sends r once: it is never sent a second time and never redirected. Any
// answer but 2xx is an [*Error], as is any failure to get one; its Outcome says
// what may have happened. A mutation's nil error means Took.
//
// Reads alone may be sent again by net/http, on a fresh connection, when the
// store closes a kept one under them.
func (c *Client) Do(ctx context.Context, r *Request) (*Response, error) {
	e := &Error{Upstream: c.name, Request: r.Method + " " + r.Bucket + "/" + r.Key}

	ctx, cancel := context.WithCancelCause(ctx)
	var s sending
	hr, err := c.build(httptrace.WithClientTrace(ctx, s.trace()), r)
	if err != nil {
		cancel(nil)
		e.Outcome, e.Err = NotSent, err
		return nil, e
	}
	held, _ := hr.Body.(*heldBody)

	resp, err := c.transport.RoundTrip(hr) //nolint:bodyclose // answerBody closes it: in whole here, at the end of the reading of a read
	if err != nil {
		defer cancel(nil)
		if _, own := c.transport.(*http.Transport); own && !s.mayHaveLeft() || errors.Is(err, ErrNotSent) {
			e.Outcome = NotSent
		}
		e.Err = err
		if held != nil && held.failed.Load() != nil {
			e.Err = fmt.Errorf("reading the body: %w", *held.failed.Load())
		}
		return nil, e
	}
	e.Status, e.Header = resp.StatusCode, resp.Header

	body := &answerBody{body: resp.Body, cancel: cancel, stall: c.limits.stall}
	if resp.StatusCode/100 != 2 {
		content, cut := body.whole(c.limits.answer, maxErrorBody)
		return nil, e.failure(r.Method, content, cut)
	}
	if !r.Mutation {
		if r.Method != http.MethodHead && body.body != http.NoBody && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 {
			_ = body.Close() // its error has nothing to add
			e.Err = ErrUnframed
			return nil, e
		}
		return &Response{Status: resp.StatusCode, Header: resp.Header, Body: body, ContentLength: resp.ContentLength}, nil
	}

	content, cut := body.whole(c.limits.answer, maxAnswerBody)
	if cut != nil {
		e.Err = fmt.Errorf("%w: %w", ErrCut, cut)
		return nil, e
	}
	if held != nil && !held.delivered.Load() {
		e.Err = ErrEarly
		if f := held.failed.Load(); f != nil {
			e.Err = fmt.Errorf("reading the body: %w", *f)
		}
		return nil, e
	}
	framed := resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0
	if found := e.embedded(content, framed); found != nil {
		return nil, found
	}
	return &Response{
		Status:        resp.StatusCode,
		Header:        resp.Header,
		Body:          io.NopCloser(bytes.NewReader(content)),
		ContentLength: int64(len(content)),
	}, nil
}

var errStalled = errors.New("the store stopped sending its answer")

// answerBody bounds each Read of an answer, and frees its request at Close.
type answerBody struct {
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	stall  time.Duration
	timer  *time.Timer
}

func (b *answerBody) Read(p []byte) (int, error) {
	if b.body == http.NoBody {
		return 0, io.EOF
	}
	if b.timer == nil {
		b.timer = time.AfterFunc(b.stall, b.expire)
	} else {
		b.timer.Reset(b.stall)
	}
	n, err := b.body.Read(p)
	b.timer.Stop()
	return n, err
}

func (b *answerBody) expire() { b.cancel(errStalled) }

func (b *answerBody) Close() error {
	if b.timer != nil {
		b.timer.Stop()
	}
	err := b.body.Close()
	b.cancel(nil)
	return err
}

// whole reads all and closes. The error says that there is more than most, or
// that the end did not come within the time.
func (b *answerBody) whole(within time.Duration, most int64) ([]byte, error) {
	defer func() { _ = b.Close() }() // what was read, or given up, has nothing to tell
	if b.body == http.NoBody {
		return nil, nil
	}
	total := time.AfterFunc(within, b.expire)
	defer total.Stop()
	content, err := io.ReadAll(io.LimitReader(b, most+1))
	if err == nil && int64(len(content)) > most {
		content, err = content[:most], fmt.Errorf("longer than %d bytes", most)
	}
	return content, err
}
