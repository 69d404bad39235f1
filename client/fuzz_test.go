package client

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answering is a transport that answers everything alike.
type answering struct {
	status int
	body   string
}

func (a *answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: a.status, Status: http.StatusText(a.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(a.body)), Request: r, ContentLength: int64(len(a.body))}, nil
}

// FuzzAnswer reads arbitrary answers to each kind of call. Success is said of 200 and
// 201 alone, never without what was asked for; every failure is one of the kinds that
// callers tell apart; and what may have happened is never told as something that did
// not.
func FuzzAnswer(f *testing.F) {
	for status, body := range map[int]string{
		200: `{"scope":"s3://data/jobs/","token":34,"owner":"ann@host","ttl":"30s","expires_in_ms":30000,"expires_at":"2026-01-02T15:04:05Z","settled":true}`,
		201: `{"job":"nightly","slot":"2026-01-02","holder":"ann","owner":"a","claimed_at":"2026-01-02T15:04:05Z"}`,
		409: `{"code":"LockHeld","message":"m","request_id":"r","holder":{"access_key":"ann","token":3,"expires_in_ms":5},"position":1,"waiting":2,"delay_ms":9}`,
		410: `{"code":"LockLost","highest":35}`, 412: `{"code":"StaleFencingToken","highest":35}`,
		503: `{"code":"Unavailable"}`, 500: `{"code":"OutcomeUnknown"}`, 502: `<html>bad gateway</html>`, 404: `{"code":"NoSuchGuard","message":"m"}`, 403: ``,
	} {
		f.Add(status, body)
	}
	f.Add(200, `{"scopes":[{"scope":"s3://data/jobs/","mark":5,"holder":null,"waiters":[{"owner":"x"}]}],"next":"s3://data/jobs/"}`)
	f.Add(200, `{"events":[{"id":1,"kind":"grant","time":"2026-01-02T15:04:05Z","count":1}],"next":1}`)
	f.Add(409, `{"code":"AlreadyClaimed","job":"nightly","slot":"1","holder":"bob"}`)
	f.Add(200, `{"token":9223372036854775808}`)
	f.Add(200, `null`)
	kinds := []error{
		ErrHeld, ErrClaimed, ErrKeyReused, ErrLost, ErrStale, ErrNoSuchGuard, ErrDenied, ErrInvalid, ErrConflict, ErrUnavailable, ErrUnknownOutcome, ErrUnreachable,
	}
	a := &answering{}
	c, err := New("http://service.test", "ann", "secret", WithHTTPClient(&http.Client{Transport: a, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 {
			return
		}
		a.status, a.body = status, body
		ctx := t.Context()
		judge := func(what string, err error) {
			t.Helper()
			if err == nil {
				if status != http.StatusOK && status != http.StatusCreated {
					t.Fatalf("%s: done after %d", what, status)
				}
				return
			}
			n := 0
			for _, kind := range kinds {
				if errors.Is(err, kind) {
					n++
				}
			}
			if n != 1 || err.Error() == "" {
				t.Fatalf("%s: %d kinds: %v", what, n, err)
			}
			e, answered := errors.AsType[*Error](err)
			switch {
			case answered && (e.Code == "" || e.Status != status):
				t.Fatalf("%s: %+v after %d", what, e, status)
			case !answered && (status == http.StatusOK || status == http.StatusCreated || status >= 500) && !isLostAnswer(err):
				t.Fatalf("%s: what may have happened is told as if it did not, after %d: %v", what, status, err)
			}
		}
		l, err := c.Renew(ctx, "s3://data/jobs/", 34, time.Second)
		judge("Renew", err)
		if err == nil && (l.Token < 1 || l.Generation < 1) {
			t.Fatalf("a lease of %+v", l)
		}
		judge("Release", c.Release(ctx, "s3://data/jobs/", 34))
		_, err = c.Check(ctx, "s3://data/jobs/", 34)
		judge("Check", err)
		_, err = c.Raise(ctx, "s3://data/jobs/", 0, "r")
		judge("Raise", err)
		_, _, err = c.List(ctx, "", "", 10)
		judge("List", err)
		_, _, err = c.Claims(ctx, "nightly", "", 10)
		judge("Claims", err)
		_, err = c.Guards(ctx)
		judge("Guards", err)
	})
}
