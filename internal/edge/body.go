package edge

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// bodies bounds the pace of a request's body, and how long its rest is waited for
// that nobody wanted.
func bodies(next http.Handler, l Limits) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := connOf(r)
		if r.Body == nil || r.Body == http.NoBody {
			conn.lingers.Store(false)
			next.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		// Unless the handler reads the body, net/http does, before it sends the header
		// of an answer, and waits for it; no handler bounds that.
		_ = control.SetReadDeadline(time.Now().Add(l.Linger))
		// A copy: net/http must know the body of its own request again. One that it
		// does not know it reads before it answers, even where its client was not told
		// to send it and waits for the answer.
		body := &pacedBody{ReadCloser: r.Body, control: control, pace: newPace(l.Stall, l.MinRate)}
		bounded := *r
		bounded.Body = body
		conn.lingers.Store(false)
		next.ServeHTTP(w, &bounded)
		if body.ended.Load() {
			return
		}
		// The client may still be sending. The next request of the connection begins
		// with a deadline of its own.
		conn.lingers.Store(true)
		conn.waits()
		_ = control.SetReadDeadline(time.Now().Add(l.Linger))
	})
}

// pacedBody is read by one goroutine at a time, which may outlive the handler where
// a store answered early.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	pace    *pace
	ended   atomic.Bool
}

func (b *pacedBody) Read(p []byte) (int, error) {
	begin := time.Now()
	_ = b.control.SetReadDeadline(begin.Add(b.pace.left()))
	n, err := b.ReadCloser.Read(p)
	b.pace.spend(time.Since(begin), n)
	if errors.Is(err, io.EOF) {
		b.ended.Store(true)
		// From here on net/http reads ahead, to see the client leave; a deadline on
		// that would end the request.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
