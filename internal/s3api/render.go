package s3api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// ids makes request ids: unique in this process by a counter, and among
// processes by where the counter starts.
type ids struct {
	counter *atomic.Uint64
	host    []string
}

func newIDs() ids {
	var seed [24]byte
	_, _ = rand.Read(seed[:]) // never fails, by its contract
	i := ids{counter: new(atomic.Uint64), host: []string{base64.StdEncoding.EncodeToString(seed[8:])}}
	i.counter.Store(binary.LittleEndian.Uint64(seed[:8]))
	return i
}

func (i ids) next() string {
	const digits = "0123456789ABCDEF"
	n := i.counter.Add(1)
	var out [16]byte
	for j := len(out) - 1; j >= 0; j-- {
		out[j] = digits[n&15]
		n >>= 4
	}
	return string(out[:])
}

// render writes an answer that is no success: the one place where errors become
// bytes.
func (rq *request) render(e *apiError) {
	rq.record.Code = e.code
	if !e.scope.IsZero() {
		rq.record.Scope = e.scope
		rq.record.Token, rq.record.Highest = e.token, e.highest
	}
	if rq.wrote {
		// Half an answer is out; only the connection can still say that it failed.
		panic(http.ErrAbortHandler)
	}
	if rq.r.Context().Err() != nil {
		// The client is gone: nobody reads this. What is told below is for the
		// record, which must not show a failure of ours.
		rq.record.Status, rq.record.Code = statusUnanswered, codeUnanswered
		rq.tell(e)
		panic(http.ErrAbortHandler)
	}
	h := rq.w.Header()
	for name, v := range e.header {
		h[name] = v
	}
	if !e.scope.IsZero() {
		setScope(h, e.scope)
		if e.highest != 0 {
			h.Set(headerHighest, e.highest.String())
		}
	}
	if e.retry {
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	if e.status >= 500 && e.cause != nil {
		level := slog.LevelError
		if e.status == http.StatusServiceUnavailable || e.status == http.StatusNotImplemented {
			level = slog.LevelWarn
		}
		rq.s.log.LogAttrs(rq.ctx, level, "request failed", slog.String("request_id", rq.record.RequestID), slog.String("operation", rq.record.Operation),
			slog.Int("status", e.status), slog.String("code", e.code), slog.Any("error", e.cause))
	}
	rq.tell(e)
	if e.status == http.StatusNotModified {
		rq.status(e.status)
		return
	}
	if rq.r.Method == http.MethodHead {
		// The answer has no room for the document. Clients of MinIO's making (mc,
		// minio-go, restic) read these, and would otherwise make a message up from the
		// status: a stale token was told as a precondition that the caller had set.
		h.Set(headerMinioCode, e.code)
		h.Set(headerMinioMessage, headerText(e.message))
	}
	x := newXML()
	defer x.free()
	x.open("Error")
	x.text("Code", e.code)
	x.text("Message", e.message)
	if rq.bucket != "" {
		x.text("BucketName", rq.bucket)
	}
	if rq.key != "" {
		x.text("Key", rq.key)
	}
	x.text("Resource", resource(rq.bucket, rq.key))
	if !e.scope.IsZero() {
		x.text("Scope", e.scope.String())
		if e.token != 0 {
			x.text("FencingToken", e.token.String())
		}
		if e.highest != 0 {
			x.text("HighestToken", e.highest.String())
		}
	}
	for i := 0; i+1 < len(e.fields); i += 2 {
		x.text(e.fields[i], e.fields[i+1])
	}
	x.text("RequestId", rq.record.RequestID)
	x.text("HostId", rq.s.ids.host[0])
	x.close("Error")
	rq.writeXML(e.status, x)
}

// headerText is a message as a header can carry it: what is not printable ASCII is
// escaped.
func headerText(s string) string {
	quoted := strconv.QuoteToASCII(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// tell hands a refusal of the fence, or a broken invariant, to the observer.
func (rq *request) tell(e *apiError) { rq.tellOf(e, rq.key) }

// tellOf is tell for one key of several.
func (rq *request) tellOf(e *apiError, key string) {
	kind := events.Refused
	switch {
	case errors.Is(e.cause, guarded.ErrLostBytes), errors.Is(e.cause, state.ErrMarkFalls):
		kind = events.Alarm
	case e.code != codeStale && e.code != codeMissing && e.code != codeInvalidToken:
		return
	}
	ev := events.Event{
		Kind: kind, Scope: e.scope, Bucket: rq.bucket, Key: key, Token: e.token, Highest: e.highest,
		AccessKey: rq.record.AccessKey, Remote: hostOf(rq.r.RemoteAddr),
		Operation: rq.record.Operation, RequestID: rq.record.RequestID, Code: e.code, Reason: e.message,
	}
	if rq.op != nil {
		ev.Access = rq.op.access()
	}
	if r, ok := errors.AsType[*fence.Refusal](e.cause); ok && r.Verdict == fence.Stale {
		ev.Holder, ev.Owner, ev.After = r.Last.Holder, r.Last.Owner, r.Since()
	}
	rq.s.observer.Observe(context.WithoutCancel(rq.ctx), ev)
}

// hostOf is the address of a client without the port, which differs each time.
func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// status sends the header. Nothing may be added to it afterwards.
func (rq *request) status(code int) {
	pause.At(pause.BeforeAnswer)
	rq.wrote = true
	rq.record.Status = code
	rq.w.WriteHeader(code)
}

// setScope names a scope in a header, where a header can hold its name: scopes of
// templates are named by keys, and clients refuse a whole answer for one control
// character, be it a success.
func setScope(h http.Header, s fence.Scope) {
	if name := s.String(); !strings.ContainsFunc(name, notInValue) {
		h.Set(headerScope, name)
	}
}

// fencedHeaders tells the holder which mark its request met: its own token, unless
// the answer is that of an earlier try and somebody else was granted the lock since.
func (rq *request) fencedHeaders() {
	t := rq.side.Request.Token
	if !rq.fenced || t == 0 {
		return
	}
	if passed := rq.s.judge.KnownStale(&rq.side); passed != nil {
		t = passed.Mark.Token
	}
	h := rq.w.Header()
	setScope(h, rq.side.Scope)
	h.Set(headerHighest, t.String())
	rq.record.Highest = t
}

// noContent answers 204.
func (rq *request) noContent() error {
	rq.fencedHeaders()
	rq.status(http.StatusNoContent)
	return nil
}

// empty answers 200 without a body.
func (rq *request) empty() error {
	rq.fencedHeaders()
	rq.w.Header().Set("Content-Length", "0")
	rq.status(http.StatusOK)
	return nil
}

// writeXML sends a whole document. Its error is of the connection and has
// nobody left to hear it.
func (rq *request) writeXML(status int, x *xmlWriter) {
	h := rq.w.Header()
	h["Content-Type"] = contentXML
	h["Content-Length"] = []string{strconv.Itoa(x.buf.Len())}
	rq.status(status)
	if rq.r.Method == http.MethodHead {
		return
	}
	n, _ := rq.w.Write(x.buf.Bytes())
	rq.record.BytesOut += int64(n)
}

// document answers 200 with XML.
func (rq *request) document(x *xmlWriter) error {
	rq.fencedHeaders()
	rq.writeXML(http.StatusOK, x)
	return nil
}

var contentXML = []string{"application/xml"}

// finish records the request, whatever became of it. A panic that is no
// deliberate abort is answered 500 where that is still possible.
func (rq *request) finish(p any) {
	if err, ok := p.(error); p != nil && (!ok || !errors.Is(err, http.ErrAbortHandler)) {
		rq.s.log.Error("panic", "request_id", rq.record.RequestID, "operation", rq.record.Operation, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		rq.record.Code = "InternalError"
		if !rq.wrote && rq.r.Context().Err() == nil {
			rq.render(internal(nil))
			p = nil
		} else {
			p = http.ErrAbortHandler
		}
	}
	rq.record.BytesIn = rq.in.Load()
	rq.record.Duration = time.Since(rq.start)
	rq.record.Remote = rq.r.RemoteAddr
	if rq.s.answered != nil {
		rq.s.answered(context.WithoutCancel(rq.ctx), &rq.record)
	}
	if p != nil {
		panic(p)
	}
}

const namespace = `http://s3.amazonaws.com/doc/2006-03-01/`

// xmlWriter builds a document in a pooled buffer. encoding/xml writes the same
// by reflection, several times slower, and refuses bytes that keys may have.
type xmlWriter struct{ buf bytes.Buffer }

var xmlPool = sync.Pool{New: func() any { return new(xmlWriter) }}

const maxPooledXML = 1 << 20

func newXML() *xmlWriter {
	x := xmlPool.Get().(*xmlWriter)
	x.buf.Reset()
	x.buf.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	return x
}

// free gives the buffer back; it must not be used afterwards.
func (x *xmlWriter) free() {
	if x.buf.Cap() <= maxPooledXML {
		xmlPool.Put(x)
	}
}

func (x *xmlWriter) root(name string) {
	x.buf.WriteString("<" + name + ` xmlns="` + namespace + `">`)
}

func (x *xmlWriter) open(name string) {
	x.buf.WriteByte('<')
	x.buf.WriteString(name)
	x.buf.WriteByte('>')
}

func (x *xmlWriter) close(name string) {
	x.buf.WriteString("</")
	x.buf.WriteString(name)
	x.buf.WriteByte('>')
}

func (x *xmlWriter) text(name, value string) {
	x.open(name)
	x.escape(value)
	x.close(name)
}

// some writes an element unless its value is empty.
func (x *xmlWriter) some(name, value string) {
	if value != "" {
		x.text(name, value)
	}
}

func (x *xmlWriter) number(name string, n int64) {
	x.open(name)
	x.buf.Write(strconv.AppendInt(x.buf.AvailableBuffer(), n, 10))
	x.close(name)
}

func (x *xmlWriter) flag(name string, b bool) { x.text(name, strconv.FormatBool(b)) }

// when writes a time as S3 does, in milliseconds.
func (x *xmlWriter) when(name string, t time.Time) {
	x.open(name)
	x.buf.Write(t.UTC().AppendFormat(x.buf.AvailableBuffer(), "2006-01-02T15:04:05.000Z"))
	x.close(name)
}

func (x *xmlWriter) etag(etag string) {
	x.buf.WriteString("<ETag>&#34;")
	x.escape(etag)
	x.buf.WriteString("&#34;</ETag>")
}

// escape writes text that any parser of XML 1.0 reads. What that version cannot
// hold (most control characters, U+FFFE, U+FFFF) becomes U+FFFD: the text is a
// message, or the echo of a key that the client knows.
func (x *xmlWriter) escape(s string) { x.write(s, false) }

// escapeName writes a name that the client learns here. What XML 1.0 cannot hold
// is written as a reference all the same, as S3 writes it: parsers refuse the
// document, where any other character would make it the name of another object.
// Who has such keys asks for encoding-type=url.
func (x *xmlWriter) escapeName(s string) { x.write(s, true) }

func (x *xmlWriter) write(s string, exact bool) {
	last := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '&' && c != '<' && c != '>' && c != '"' && c != 0x7f {
			i++
			continue
		}
		r, width := utf8.DecodeRuneInString(s[i:])
		var ref string
		switch {
		case c == '&':
			ref = "&amp;"
		case c == '<':
			ref = "&lt;"
		case c == '>':
			ref = "&gt;"
		case c == '"':
			ref = "&#34;"
		case r == utf8.RuneError && width == 1, upstream.Unreadable(r) && !exact:
			ref = "\uFFFD"
		case c < utf8.RuneSelf, upstream.Unreadable(r):
			ref = "&#x" + strconv.FormatUint(uint64(r), 16) + ";"
		default:
			i += width
			continue
		}
		x.buf.WriteString(s[last:i])
		x.buf.WriteString(ref)
		i += width
		last = i
	}
	x.buf.WriteString(s[last:])
}
