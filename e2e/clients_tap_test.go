package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Tap stands between one client and a proxy and reads what the client asks for
// without changing a byte of it. It cannot look into TLS.
type Tap struct {
	// URL is what the client takes for the proxy's.
	URL string

	mu   sync.Mutex
	seen []Tapped
}

// Tapped is one request that came by, without its body.
type Tapped struct {
	Method, URI string
	Header      http.Header
}

// Changes reports whether a request asks for a change.
func (r Tapped) Changes() bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// Tap puts a tap before a proxy that serves http.
func (p *Proxy) Tap(t *testing.T) *Tap {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tap := &Tap{URL: "http://" + listener.Addr().String()}
	var all sync.WaitGroup
	open := map[net.Conn]struct{}{}
	t.Cleanup(func() {
		_ = listener.Close()
		tap.mu.Lock()
		for conn := range open {
			_ = conn.Close()
		}
		tap.mu.Unlock()
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			target, err := net.DialTimeout("tcp", p.addr, 10*time.Second)
			if err != nil {
				_ = conn.Close()
				continue
			}
			tap.mu.Lock()
			open[conn], open[target] = struct{}{}, struct{}{}
			tap.mu.Unlock()
			all.Go(func() {
				tap.forward(conn, target)
				tap.mu.Lock()
				delete(open, conn)
				delete(open, target)
				tap.mu.Unlock()
			})
		}
	})
	return tap
}

// forward carries one connection until both directions have ended.
func (tap *Tap) forward(client, target net.Conn) {
	seen := &feed{data: make(chan []byte), wanted: make(chan struct{})}
	var all sync.WaitGroup
	all.Go(func() {
		tap.read(seen)
		// What cannot be read as requests still has to go on.
		_, _ = io.Copy(io.Discard, seen)
	})
	all.Go(func() {
		_, _ = io.Copy(target, io.TeeReader(client, seen))
		close(seen.data)
		_ = target.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(client, target)
	_ = client.Close()
	all.Wait()
	_ = target.Close()
}

func (tap *Tap) read(from io.Reader) {
	in := bufio.NewReader(from)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				tap.note(Tapped{Method: "?", URI: err.Error()})
			}
			return
		}
		tap.note(Tapped{Method: r.Method, URI: r.RequestURI, Header: r.Header})
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
	}
}

func (tap *Tap) note(r Tapped) {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	tap.seen = append(tap.seen, r)
}

// feed is a pipe whose Write returns when the reader has done with what was
// written and asks for more: a request is noted before the proxy sees its end.
type feed struct {
	data   chan []byte
	wanted chan struct{}
	begun  bool
	rest   []byte
}

// Write is for one goroutine, Read for another one.
func (f *feed) Write(p []byte) (int, error) {
	if !f.begun {
		f.begun = true
		<-f.wanted
	}
	f.data <- bytes.Clone(p)
	<-f.wanted
	return len(p), nil
}

func (f *feed) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		select {
		case f.wanted <- struct{}{}:
			f.rest = <-f.data
		case <-f.data: // closed: nobody waits for us any more
		}
		if len(f.rest) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// Take returns the requests since the last Take. The client must have ended, or
// have had its answers.
func (tap *Tap) Take() []Tapped {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	seen := tap.seen
	tap.seen = nil
	return seen
}
