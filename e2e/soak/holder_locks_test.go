//go:build soak

package soak

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// take gets a token by force: the one that a lost answer may have granted is not
// known to anybody.
func (h *holder) take(ctx context.Context) {
	a := h.w.api(ctx, h.w.any(), http.MethodPost, "locks/take", map[string]any{"scope": h.scope(), "owner": "soak", "ttl": "60s", "reason": "a soak"})
	switch {
	case a.status == http.StatusOK:
		h.token = a.token()
	case a.maybe(), a.status == http.StatusServiceUnavailable:
	default:
		h.w.fault("%s: take is answered %v", h.prefix, a)
	}
}

// handOver takes the lock at some proxy and writes under the old token at each: not
// one of these may take effect. (F3, F4)
func (h *holder) handOver(ctx context.Context) {
	old := h.token
	if h.take(ctx); h.token == old {
		h.token = 0 // a grant may have been made that was not answered
		return
	}
	if h.token < old {
		h.w.fault("%s: %d is granted after %d (F2)", h.prefix, h.token, old)
	}
	for _, s := range h.w.sites {
		key := h.key()
		a := h.w.send(ctx, s, &call{method: http.MethodPut, path: h.path(key), token: old, body: []byte("late")})
		if a.status != http.StatusServiceUnavailable && a.status != 0 && (a.status != http.StatusPreconditionFailed || a.code() != "StaleFencingToken") {
			h.w.fault("%s%s: a write under %d after %d was granted is answered %v (F4)", h.prefix, key, old, h.token, a)
		}
	}
	h.get(ctx)
}

func (h *holder) renew(ctx context.Context) {
	a := h.w.api(ctx, h.w.any(), http.MethodPost, "locks/renew", map[string]any{"scope": h.scope(), "token": h.token})
	switch {
	case a.status == http.StatusOK, a.maybe(), a.status == http.StatusServiceUnavailable:
	case a.status == http.StatusPreconditionFailed && a.code() == "LockLost": // it ran out
		h.token = 0
	default:
		h.w.fault("%s: renew is answered %v", h.prefix, a)
	}
}

func (h *holder) check(ctx context.Context) {
	a := h.w.api(ctx, h.w.any(), http.MethodPost, "check", map[string]any{"scope": h.scope(), "token": h.token})
	if a.status != http.StatusOK && !a.maybe() && a.status != http.StatusServiceUnavailable {
		h.w.fault("%s: check is answered %v", h.prefix, a)
	}
}

func (h *holder) releaseAndAcquire(ctx context.Context) {
	a := h.w.api(ctx, h.w.any(), http.MethodPost, "locks/release", map[string]any{"scope": h.scope(), "token": h.token})
	if a.status != http.StatusOK {
		if !a.maybe() && a.status != http.StatusServiceUnavailable {
			h.w.fault("%s: release is answered %v", h.prefix, a)
		}
		h.token = 0
		return
	}
	a = h.w.api(ctx, h.w.any(), http.MethodPost, "locks/acquire", map[string]any{"scope": h.scope(), "owner": "soak", "ttl": "60s"})
	switch {
	case a.status == http.StatusOK && a.token() > h.token:
		h.token = a.token()
	case a.maybe(), a.status == http.StatusServiceUnavailable:
		h.token = 0
	default:
		h.w.fault("%s: acquire after a release of %d is answered %v", h.prefix, h.token, a)
	}
}

// breakOff begins an upload and goes away: it never becomes an object.
func (h *holder) breakOff(ctx context.Context) {
	key := h.key()
	body, _ := h.fresh(key, 100+size())
	if err := h.w.breakOff(ctx, h.w.any(), &call{method: http.MethodPut, path: h.path(key), token: h.token, body: body}, len(body)%2 == 0); err != nil {
		h.w.count("broken off at once")
	}
}

// twice sends one request two times under an Idempotency-Key.
func (h *holder) twice(ctx context.Context) {
	key := h.key()
	body, o := h.fresh(key, size()%(60<<10))
	c := &call{method: http.MethodPut, path: h.path(key), token: h.token, body: body, header: map[string]string{"Idempotency-Key": rand.Text()}}
	for range 2 {
		h.wrote(h.w.send(ctx, h.w.any(), c), key, o, http.StatusOK)
	}
}

// parts uploads 5 MiB and a rest, and completes that or gives it up.
func (h *holder) parts(ctx context.Context) {
	key := h.key()
	s := h.w.any()
	a := h.w.send(ctx, s, &call{method: http.MethodPost, path: h.path(key), query: url.Values{"uploads": {""}}, token: h.token})
	var made struct{ UploadId string } //nolint:staticcheck // the name of the element
	if a.status != http.StatusOK || xml.Unmarshal(a.body, &made) != nil {
		if !a.maybe() && a.status != http.StatusServiceUnavailable {
			h.w.fault("%s%s: creating an upload is answered %v", h.prefix, key, a)
		}
		return
	}
	var doc strings.Builder
	whole := md5.New()
	doc.WriteString("<CompleteMultipartUpload>")
	total := 0
	for n, length := range []int{5 << 20, 1000 + size()} {
		body, o := h.fresh(key, length)
		total += length
		sum := md5.Sum(body)
		whole.Write(sum[:])
		a := h.w.send(ctx, h.w.any(), &call{method: http.MethodPut, path: h.path(key), token: h.token, body: body,
			query: url.Values{"uploadId": {made.UploadId}, "partNumber": {fmt.Sprint(n + 1)}}})
		if a.status != http.StatusOK {
			if !a.maybe() && a.status != http.StatusServiceUnavailable {
				h.w.fault("%s%s: a part is answered %v", h.prefix, key, a)
			}
			return // the collector ends it, or nobody does within the hour
		}
		fmt.Fprintf(&doc, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", n+1, o.etag)
	}
	doc.WriteString("</CompleteMultipartUpload>")
	upload := url.Values{"uploadId": {made.UploadId}}
	if total%3 == 0 {
		a := h.w.send(ctx, h.w.any(), &call{method: http.MethodDelete, path: h.path(key), query: upload, token: h.token})
		if a.status != http.StatusNoContent && !a.maybe() && a.status != http.StatusServiceUnavailable {
			h.w.fault("%s%s: giving an upload up is answered %v", h.prefix, key, a)
		}
		return
	}
	o := &written{etag: fmt.Sprintf("%x-2", whole.Sum(nil)), size: total}
	h.wrote(h.w.send(ctx, h.w.any(), &call{method: http.MethodPost, path: h.path(key), query: upload, token: h.token, body: []byte(doc.String())}), key, o, http.StatusOK)
}

func base64MD5(b []byte) string {
	sum := md5.Sum(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// stranger works outside of every guard, alone on its keys, with the same model.
type stranger struct{ holder }

func newStranger(w *world, i int) *stranger {
	h := newHolder(w, i)
	h.prefix = fmt.Sprintf("plain/%d/", i)
	return &stranger{*h}
}

func (s *stranger) step(ctx context.Context) {
	key := s.key()
	path := "/" + openBucket + "/" + s.prefix + key
	seq := s.seq
	switch seq % 3 {
	case 0:
		body, o := s.fresh(key, size()%kept)
		s.wrote(s.w.send(ctx, s.w.any(), &call{method: http.MethodPut, path: path, body: body}), key, o, http.StatusOK)
	case 1:
		s.seq++
		s.wrote(s.w.send(ctx, s.w.any(), &call{method: http.MethodDelete, path: path}), key, nil, http.StatusNoContent)
	default:
		s.seq++
		s.judge(s.w.send(ctx, s.w.any(), &call{method: http.MethodGet, path: path}), key, true)
	}
}

func (s *stranger) verify(t *testing.T) {
	t.Helper()
	for i := range keysOfHolder {
		key := fmt.Sprintf("k%03d", i)
		for _, at := range s.w.sites {
			a := s.w.send(t.Context(), at, &call{method: http.MethodGet, path: "/" + openBucket + "/" + s.prefix + key})
			if a.status != http.StatusOK && a.status != http.StatusNotFound {
				s.w.fault("%s%s: in the end a read is answered %v", s.prefix, key, a)
			}
			s.judge(a, key, true)
		}
	}
}
