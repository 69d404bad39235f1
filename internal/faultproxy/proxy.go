package faultproxy

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/s3fence/s3fence/internal/testserver"
)

// Direction is one of the two ways that bytes go.
type Direction int

// The two directions.
const (
	// Requests go from the client to the target.
	Requests Direction = iota
	// Answers go from the target to the client.
	Answers
)

// Limits of the proxy.
const (
	// holdLimit bounds the bytes kept for one direction of one connection.
	holdLimit = 64 << 20
	// dialWait bounds the dialling of the target.
	dialWait = 10 * time.Second
	// quiet is how long a target whose answer is swallowed must be silent
	// before its connection is reset.
	quiet = 20 * time.Millisecond
	// listenTries is how many ports are tried.
	listenTries = 10
)

// Proxy forwards TCP connections to one target. All methods are safe for
// concurrent use.
type Proxy struct {
	target, addr string
	running      sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	closed  bool
	// listener is nil while the proxy refuses.
	listener net.Listener
	links    map[*link]struct{}
	hold     [2]rule
	delay    [2]time.Duration
	drop     dropRule
	flip     [2]flipRule
}

// rule says that in a direction only the first bytes of each connection pass.
type rule struct {
	on    bool
	after int64
}

// dropRule says how many answers are still to be swallowed, and after which
// bytes of a request.
type dropRule struct {
	left   int
	marker string
	// round numbers the calls of DropAnswer: a marker seen in an earlier round
	// does not count.
	round int
}

// flipRule says which bytes are still to be changed; an empty marker, none.
type flipRule struct {
	marker string
	// round numbers the calls of Flip, as in dropRule.
	round int
}

// Listen starts a proxy on a port of 127.0.0.1 in front of target, a host and
// port. It forwards everything until told otherwise.
func Listen(target string) (*Proxy, error) {
	p := &Proxy{target: target, links: map[*link]struct{}{}}
	p.changed = sync.NewCond(&p.mu)
	var err error
	for range listenTries {
		// A port that the kernel gives to nobody else while the proxy refuses.
		var port int
		if port, err = testserver.FreePort(); err != nil {
			break
		}
		p.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		p.mu.Lock()
		err = p.listen()
		p.mu.Unlock()
		if err == nil {
			return p, nil
		}
	}
	return nil, err
}

// listen is called with the lock held.
func (p *Proxy) listen() error {
	l, err := net.Listen("tcp4", p.addr)
	if err != nil {
		return fmt.Errorf("faultproxy: %w", err)
	}
	p.listener = l
	p.running.Go(func() { p.accept(l) })
	return nil
}

func (p *Proxy) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	dialer := net.Dialer{Timeout: dialWait}
	target, err := dialer.Dial("tcp", p.target)
	if err != nil {
		reset(client)
		return
	}
	l := newLink(p, client, target.(*net.TCPConn))
	p.mu.Lock()
	if p.closed || p.listener == nil {
		// Accepted before the refusal, dialled after it.
		p.mu.Unlock()
		l.reset()
		return
	}
	for d, s := range l.streams {
		s.budget = p.hold[d].after
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	l.run()
	p.mu.Lock()
	delete(p.links, l)
	p.changed.Broadcast()
	p.mu.Unlock()
}

// Addr returns the host and port that the proxy listens on. It stays the same.
func (p *Proxy) Addr() string { return p.addr }

// Pass ends every fault: held bytes are delivered, delays and swallowing end,
// connections are accepted again.
func (p *Proxy) Pass() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold, p.delay = [2]rule{}, [2]time.Duration{}
	p.drop = dropRule{round: p.drop.round}
	for d := range p.flip {
		p.flip[d].marker = ""
	}
	p.changed.Broadcast()
	if p.listener != nil || p.closed {
		return nil
	}
	return p.listen()
}

// Hold lets the next after bytes pass in a direction of each connection, those
// that stand now and those to come, and keeps everything behind them until
// Release. The end of a connection is kept back likewise.
func (p *Proxy) Hold(d Direction, after int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold[d] = rule{on: true, after: after}
	for l := range p.links {
		l.streams[d].budget = after
	}
}

// Release ends a Hold and returns when what had been held was handed to the
// kernel of the receiving side, or the receiver turned out to be gone, or ctx
// has ended.
func (p *Proxy) Release(ctx context.Context, d Direction) error {
	p.mu.Lock()
	p.hold[d] = rule{}
	p.changed.Broadcast()
	p.mu.Unlock()
	return p.await(ctx, "held bytes to be delivered", func() bool { return p.waiting(d) == 0 })
}

// AwaitHeld waits until at least n bytes of a direction are held, over all
// connections.
func (p *Proxy) AwaitHeld(ctx context.Context, d Direction, n int64) error {
	return p.await(ctx, strconv.FormatInt(n, 10)+" bytes to be held", func() bool { return p.held(d) >= n })
}

// held counts what a Hold keeps back in a direction. It is called with the lock
// held.
func (p *Proxy) held(d Direction) int64 {
	var n int64
	for l := range p.links {
		if s := l.streams[d]; p.hold[d].on {
			n += max(0, s.queued-s.writing-s.budget)
		}
	}
	return n
}

// waiting counts what is not yet delivered in a direction. It is called with
// the lock held.
func (p *Proxy) waiting(d Direction) int64 {
	var n int64
	for l := range p.links {
		n += l.streams[d].queued
	}
	return n
}

// AwaitIdle waits until no connection stands: their clients have gone and all
// that they sent was delivered.
func (p *Proxy) AwaitIdle(ctx context.Context) error {
	return p.await(ctx, "connections to end", func() bool { return len(p.links) == 0 })
}

func (p *Proxy) await(ctx context.Context, what string, done func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.changed.Broadcast()
	})
	defer stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !done() {
		if ctx.Err() != nil {
			return fmt.Errorf("faultproxy: waiting for %s: %w", what, ctx.Err())
		}
		p.changed.Wait()
	}
	return nil
}

// Delay delivers every piece of a direction this much later than it came.
// Order is kept.
func (p *Proxy) Delay(d Direction, by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay[d] = by
}

// DropAnswer swallows the next n answers: the request goes through, what the
// target then says does not, and the connection is reset on both sides once the
// target has been silent for 20 ms. An HTTP interim answer (100 Continue) passes
// and does not count.
//
// With a marker only answers to requests that contain it count, requests sent
// after this call; it must be no longer than 1 KiB. The marker's bytes are
// looked for as they travel: it may lie anywhere, also across two packets.
func (p *Proxy) DropAnswer(n int, marker string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop = dropRule{left: n, marker: marker, round: p.drop.round + 1}
}

// Flip changes the lowest bit of the last byte of marker where it next passes in
// a direction, once, as a network does whose checksums did not notice. The bytes
// are looked for as in [Proxy.DropAnswer]. An empty marker ends it.
func (p *Proxy) Flip(d Direction, marker string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flip[d] = flipRule{marker: marker, round: p.flip[d].round + 1}
}

// Flipped reports whether the last [Proxy.Flip] of a direction has met its marker.
func (p *Proxy) Flipped(d Direction) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flip[d].round > 0 && p.flip[d].marker == ""
}

// Refuse refuses new connections as a machine without the service does
// (ECONNREFUSED) until Pass. Connections that stand go on.
func (p *Proxy) Refuse() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return nil
	}
	err := p.listener.Close()
	p.listener = nil
	if err != nil {
		return fmt.Errorf("faultproxy: %w", err)
	}
	return nil
}

// Cut resets every connection that stands, on both sides; what is held is lost.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut = true
		l.reset()
	}
	p.changed.Broadcast()
}

// Connections counts those that stand.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Close resets all connections, ends the proxy and waits for its goroutines.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.Refuse()
	p.Cut()
	p.running.Wait()
	return err
}
