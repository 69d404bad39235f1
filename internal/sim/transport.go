package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/upstream"
)

// Times of the network. patience is how long the product waits for the store's
// answer at most; it is net/http's bound in the product.
const (
	storePatience = 2 * time.Minute
	// dialTime is how long it takes to find out that somebody cannot be reached.
	dialTime = 2 * time.Second
)

var (
	errReset       = errors.New("sim: connection reset")
	errUnreachable = errors.New("sim: no route")
)

// transport carries one proxy's requests to the store.
type transport struct {
	p     *proxy
	store *store
}

func (*transport) CloseIdleConnections() {}

// RoundTrip is the proxy's end of a request.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	w, p := t.store.w, t.p
	if r.Body != nil {
		defer r.Body.Close()
	}
	a := &asked{method: r.Method, key: strings.TrimPrefix(r.URL.Path, "/"), query: r.URL.Query(), header: r.Header}
	a.label = p.name + " " + t.store.name(a)
	if err := w.step(p.actor, "sends "+a.label); err != nil {
		return nil, fmt.Errorf("%w: %w", upstream.ErrNotSent, err)
	}
	if p.cutFrom(&p.noStore) {
		rest(r.Context(), dialTime)
		return nil, fmt.Errorf("%w: %w", upstream.ErrNotSent, errUnreachable)
	}
	if r.Body != nil {
		var err error
		if a.body, err = io.ReadAll(r.Body); err != nil {
			return nil, err // what left of it is no request
		}
	}
	answer := make(chan told, 1)
	w.wg.Go(func() { t.carry(a, answer) })
	timer := time.NewTimer(storePatience)
	defer timer.Stop()
	var got told
	select {
	case got = <-answer:
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	case <-timer.C:
		return nil, errReset
	}
	if a.mutates() && w.chance(FreezeUpload, a.label) {
		w.freeze(p.actor, w.within(40*time.Second, "frozen "+a.label))
	}
	if err := w.step(p.actor, "hears of "+a.label); err != nil {
		return nil, err
	}
	if p.c.bend.deaf && a.method == http.MethodPut && (got.err != nil || got.status/100 == 5) {
		got = answered(http.Header{"Etag": {`"` + etagOf(a.body) + `"`}}, nil)
	}
	if got.err != nil {
		return nil, got.err
	}
	resp := &http.Response{StatusCode: got.status, Header: got.header, Request: r, ContentLength: int64(len(got.body)), Body: io.NopCloser(bytes.NewReader(got.body))}
	if n, err := strconv.ParseInt(got.header.Get("Content-Length"), 10, 64); err == nil {
		resp.ContentLength = n
	}
	if len(got.body) > 1 && w.chance(StoreCut, a.label) {
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(got.body[:len(got.body)/2]), broken{}))
	}
	return resp, nil
}

// broken is the rest of a body that broke off.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// rest waits for a time, or for ctx to end.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// carry is the network, and the store: a request that has left goes on whatever
// becomes of the proxy.
func (t *transport) carry(a *asked, answer chan<- told) {
	s, w, p := t.store, t.store.w, t.p
	// Keys that clients name are as the store keeps them; the product promises something
	// of its own only.
	own := a.mutates() && (strings.Contains(a.key, "/.s3fence/") || a.query.Has("delete"))
	if w.chance(StoreSlow, a.label) {
		time.Sleep(w.within(20*time.Second, "slow "+a.label))
	}
	if own && w.chance(StoreSkew, a.label) {
		a.node = 1
	}
	if w.chance(StoreLost, a.label) || p.cutFrom(&p.noStore) {
		time.Sleep(w.within(dialTime, "lost "+a.label))
		answer <- told{err: errReset}
		return
	}
	_ = w.step(s.actor(), "takes "+a.label)
	if own && w.chance(StoreTwice, a.label) {
		w.wg.Go(func() {
			time.Sleep(w.within(10*time.Second, "twice "+a.label))
			_ = w.step(s.actor(), "takes again "+a.label)
			s.do(a, false)
		})
	}
	var got told
	switch {
	case w.chance(StoreBusy, a.label):
		got = failed(http.StatusServiceUnavailable, "SlowDown")
	case a.mutates() && w.chance(StoreLate, a.label):
		got = failed(http.StatusInternalServerError, "InternalError")
		w.wg.Go(func() {
			time.Sleep(w.within(30*time.Second, "late "+a.label))
			_ = w.step(s.actor(), "does late "+a.label)
			s.do(a, false)
		})
	default:
		got = s.do(a, own && w.chance(StoreLies, a.label))
	}
	if w.chance(StoreUnheard, a.label) || p.cutFrom(&p.noStore) {
		got = told{err: errReset}
	}
	answer <- got
}
