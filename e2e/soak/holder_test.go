//go:build soak

package soak

import (
	"context"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// keysOfHolder is how many keys a holder works on: what the state keeps must not
// grow for another reason than a leak.
const keysOfHolder = 120

// written is an object as it was written.
type written struct {
	etag string
	// body can be read again; it is left out where the store drops it.
	seq  int64
	size int
	read bool
}

// holder works in one scope under its lock, one thing after another, so that it knows
// at every moment what must stand there.
type holder struct {
	w      *world
	index  int
	prefix string
	token  int64
	seq    int64
	// has is what must be there. Where perhaps has a key too, an answer was lost, or
	// 504: that one may be there instead, nil for nothing.
	has     map[string]*written
	perhaps map[string]*written
}

func newHolder(w *world, i int) *holder {
	return &holder{w: w, index: i, prefix: fmt.Sprintf("jobs/%03d/", i), has: map[string]*written{}, perhaps: map[string]*written{}}
}

func (h *holder) scope() string { return "s3://" + guardedBucket + "/" + h.prefix }

func (h *holder) path(key string) string { return "/" + guardedBucket + "/" + h.prefix + key }

func (h *holder) key() string { return fmt.Sprintf("k%03d", rand.IntN(keysOfHolder)) }

// size is mostly small; one of a hundred is streamed.
func size() int {
	switch n := rand.IntN(1000); {
	case n < 600:
		return rand.IntN(1 << 10)
	case n < 900:
		return rand.IntN(16 << 10)
	case n < 995:
		return rand.IntN(60 << 10)
	default:
		return 1<<20 + rand.IntN(1<<20)
	}
}

// kept is the largest body that the store of a soak gives back.
const kept = 64 << 10

func (h *holder) step(ctx context.Context) {
	if h.token == 0 {
		h.take(ctx)
		return
	}
	steps := []struct {
		weight int
		do     func(context.Context)
	}{
		{300, h.put}, {340, h.get}, {60, h.head}, {25, h.list}, {70, h.remove}, {8, h.removeSome}, {30, h.copy},
		{40, h.putIf}, {1, h.parts}, {30, h.renew}, {30, h.check}, {12, h.handOver}, {8, h.releaseAndAcquire}, {8, h.breakOff}, {12, h.twice},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	n := rand.IntN(total)
	for _, s := range steps {
		if n -= s.weight; n < 0 {
			s.do(ctx)
			return
		}
	}
}

// wrote settles what a write left: nil is a delete.
func (h *holder) wrote(a answer, key string, o *written, want int) {
	switch {
	case a.status == want:
		delete(h.perhaps, key)
		if o == nil {
			delete(h.has, key)
		} else {
			h.has[key] = o
		}
	case a.maybe():
		h.w.count("unknown")
		if _, before := h.perhaps[key]; before {
			// Two lost answers for one key: only one of them can be modelled.
			h.settle(context.Background(), key)
		}
		h.perhaps[key] = o
	case a.status == http.StatusServiceUnavailable:
	default:
		h.w.fault("%s%s: a write is answered %v", h.prefix, key, a)
	}
}

func (h *holder) fresh(key string, size int) ([]byte, *written) {
	h.seq++
	body := text(h.prefix+key, h.seq, size)
	return body, &written{hexMD5(body), h.seq, size, len(body) <= kept}
}

func (h *holder) put(ctx context.Context) {
	key := h.key()
	body, o := h.fresh(key, size())
	a := h.w.send(ctx, h.w.any(), &call{method: http.MethodPut, path: h.path(key), token: h.token, body: body})
	if ctx.Err() == nil || a.status != 0 {
		h.wrote(a, key, o, http.StatusOK)
	} else {
		h.perhaps[key] = o
	}
}

// is reports whether an answer shows this object, or nothing where it is nil.
func (h *holder) is(a answer, key string, o *written, withBody bool) bool {
	if o == nil {
		return a.status == http.StatusNotFound
	}
	if a.status != http.StatusOK || a.etag != o.etag {
		return false
	}
	return !withBody || !o.read || string(a.body) == string(text(h.prefix+key, o.seq, o.size))
}

// judge compares what a read shows with what must be there. (F5, F6, F7)
func (h *holder) judge(a answer, key string, withBody bool) {
	switch a.status {
	case http.StatusOK, http.StatusNotFound:
	case 0, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return
	default:
		h.w.fault("%s%s: a read is answered %v", h.prefix, key, a)
		return
	}
	if h.is(a, key, h.has[key], withBody) {
		return // the other one may still come
	}
	if o, may := h.perhaps[key]; may && h.is(a, key, o, withBody) {
		delete(h.perhaps, key)
		if o == nil {
			delete(h.has, key)
		} else {
			h.has[key] = o
		}
		return
	}
	h.w.fault("%s%s: shows etag %s, status %d, %d bytes; it must be %+v (F6)", h.prefix, key, a.etag, a.status, len(a.body), h.has[key])
}

func (h *holder) get(ctx context.Context) {
	key := h.key()
	if o := h.has[key]; o != nil && !o.read {
		h.head(ctx)
		return
	}
	if o := h.perhaps[key]; o != nil && !o.read {
		return
	}
	h.judge(h.w.send(ctx, h.w.any(), &call{method: http.MethodGet, path: h.path(key), token: h.fencedOrNot()}), key, true)
}

// fencedOrNot lets one read of two carry the token.
func (h *holder) fencedOrNot() int64 {
	if rand.IntN(2) == 0 {
		return 0
	}
	return h.token
}

func (h *holder) head(ctx context.Context) {
	key := h.key()
	h.judge(h.w.send(ctx, h.w.any(), &call{method: http.MethodHead, path: h.path(key), token: h.fencedOrNot()}), key, false)
}

// settle finds out which of two it is, by writing a third.
func (h *holder) settle(ctx context.Context, key string) {
	for range 20 {
		body, o := h.fresh(key, 10)
		a := h.w.send(ctx, h.w.any(), &call{method: http.MethodPut, path: h.path(key), token: h.token, body: body})
		if a.status == http.StatusOK {
			delete(h.perhaps, key)
			h.has[key] = o
			return
		}
	}
	h.w.fault("%s%s: cannot be written 20 times", h.prefix, key)
}

// list compares all names. (F5, F6)
func (h *holder) list(ctx context.Context) {
	if len(h.perhaps) > 0 {
		for key := range h.perhaps {
			h.settle(ctx, key)
			break
		}
		return
	}
	a := h.w.send(ctx, h.w.any(), &call{method: http.MethodGet, path: "/" + guardedBucket, query: url.Values{"list-type": {"2"}, "prefix": {h.prefix}}})
	if a.status != http.StatusOK {
		if a.status != http.StatusServiceUnavailable && a.status != 0 {
			h.w.fault("%s: a list is answered %v", h.prefix, a)
		}
		return
	}
	var page struct {
		Contents []struct {
			Key  string
			ETag string
		}
	}
	if err := xml.Unmarshal(a.body, &page); err != nil {
		h.w.fault("%s: a list is %v", h.prefix, err)
		return
	}
	var got, want []string
	for _, c := range page.Contents {
		got = append(got, strings.TrimPrefix(c.Key, h.prefix)+" "+strings.Trim(c.ETag, `"`))
	}
	for key, o := range h.has {
		want = append(want, key+" "+o.etag)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		h.w.fault("%s: the list shows %d objects, not %d: %s (F6)", h.prefix, len(got), len(want), difference(got, want))
	}
}

func difference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		g, w := "", ""
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			return fmt.Sprintf("%q and not %q", g, w)
		}
	}
	return ""
}

func (h *holder) remove(ctx context.Context) {
	key := h.key()
	h.wrote(h.w.send(ctx, h.w.any(), &call{method: http.MethodDelete, path: h.path(key), token: h.token}), key, nil, http.StatusNoContent)
}

func (h *holder) removeSome(ctx context.Context) {
	keys := map[string]bool{}
	for range 5 {
		keys[h.key()] = true
	}
	var doc strings.Builder
	doc.WriteString("<Delete>")
	for key := range keys {
		if _, may := h.perhaps[key]; may {
			return
		}
		doc.WriteString("<Object><Key>" + h.prefix + key + "</Key></Object>")
	}
	doc.WriteString("</Delete>")
	body := []byte(doc.String())
	a := h.w.send(ctx, h.w.any(), &call{
		method: http.MethodPost, path: "/" + guardedBucket, query: url.Values{"delete": {""}}, token: h.token, body: body,
		header: map[string]string{"Content-Md5": base64MD5(body)},
	})
	var result struct {
		Deleted []struct{ Key string }
		Error   []struct{ Key, Code string }
	}
	switch {
	case a.status == http.StatusOK && xml.Unmarshal(a.body, &result) == nil && len(result.Deleted)+len(result.Error) == len(keys):
		for _, d := range result.Deleted {
			delete(h.has, strings.TrimPrefix(d.Key, h.prefix))
		}
		for _, e := range result.Error {
			switch e.Code {
			case "ServiceUnavailable":
			case "OutcomeUnknown":
				h.perhaps[strings.TrimPrefix(e.Key, h.prefix)] = nil
			default:
				h.w.fault("%s: deleting is answered %s", e.Key, e.Code)
			}
		}
	case a.maybe():
		for key := range keys {
			h.perhaps[key] = nil
		}
	case a.status == http.StatusServiceUnavailable:
	default:
		h.w.fault("%s: a batch delete is answered %v", h.prefix, a)
	}
}

// copy copies one key to another, bytes and all. What is compared is the ETag alone,
// since the text names the source.
func (h *holder) copy(ctx context.Context) {
	from, to := h.key(), h.key()
	o := h.has[from]
	if _, may := h.perhaps[from]; may || o == nil || from == to || strings.Contains(o.etag, "-") {
		return
	}
	a := h.w.send(ctx, h.w.any(), &call{
		method: http.MethodPut, path: h.path(to), token: h.token,
		header: map[string]string{"X-Amz-Copy-Source": h.path(from)},
	})
	h.wrote(a, to, &written{etag: o.etag, size: o.size}, http.StatusOK)
}

// putIf writes under a condition that holds, or one that does not. (F10)
func (h *holder) putIf(ctx context.Context) {
	key := h.key()
	if _, may := h.perhaps[key]; may {
		return
	}
	o := h.has[key]
	header, holds := map[string]string{}, rand.IntN(3) > 0
	switch {
	case o == nil && holds:
		header["If-None-Match"] = "*"
	case o == nil:
		header["If-Match"] = `"00000000000000000000000000000000"`
	case holds:
		header["If-Match"] = `"` + o.etag + `"`
	case rand.IntN(2) == 0:
		header["If-None-Match"] = "*"
	default:
		header["If-Match"] = `"00000000000000000000000000000000"`
	}
	body, next := h.fresh(key, size())
	a := h.w.send(ctx, h.w.any(), &call{method: http.MethodPut, path: h.path(key), token: h.token, body: body, header: header})
	if holds || a.maybe() || a.status == http.StatusServiceUnavailable {
		h.wrote(a, key, next, http.StatusOK)
		return
	}
	if a.status != http.StatusPreconditionFailed && (o != nil || a.status != http.StatusNotFound) {
		h.w.fault("%s%s: a condition that does not hold is answered %v (F10)", h.prefix, key, a)
	}
}

func (h *holder) verify(t *testing.T) {
	t.Helper()
	for i := range keysOfHolder {
		key := fmt.Sprintf("k%03d", i)
		for _, s := range h.w.sites {
			a := h.w.send(t.Context(), s, &call{method: http.MethodHead, path: h.path(key)})
			if a.status != http.StatusOK && a.status != http.StatusNotFound {
				h.w.fault("%s%s: in the end a read is answered %v", h.prefix, key, a)
			}
			h.judge(a, key, false)
			if o := h.has[key]; o != nil && o.read && a.status == http.StatusOK {
				h.judge(h.w.send(t.Context(), s, &call{method: http.MethodGet, path: h.path(key)}), key, true)
			}
		}
	}
}
