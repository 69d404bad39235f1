package faultproxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// link is one connection of a client with its own connection to the target.
// Its fields are guarded by the proxy's lock, but for the sockets.
type link struct {
	proxy          *Proxy
	client, target *net.TCPConn
	streams        [2]*stream
	// cut says that everything of this link is to end at once.
	cut bool
	// round is the round of DropAnswer whose marker was seen on this link, and
	// tail the last bytes of its requests, where a marker may have begun.
	round int
	tail  string
}

// stream is one direction of a link. A reader fills the queue at all times, so
// that bytes are safe from what later becomes of their sender; a writer empties
// it as the rules allow.
type stream struct {
	*link
	way      Direction
	src, dst *net.TCPConn
	queue    []piece
	// queued counts bytes that came and are not yet delivered, writing those
	// of them that are being delivered right now.
	queued, writing int64
	// budget is how many bytes still pass while the direction is held.
	budget int64
	// flipRound is the round of Flip that flipTail, the last bytes that came,
	// belongs to.
	flipRound int
	flipTail  string
	// ended: the sender has closed, or broken: reset. gone: the receiver has.
	ended, broken, gone bool
}

// piece is what one read brought, and when it may go on.
type piece struct {
	data []byte
	due  time.Time
}

func newLink(p *Proxy, client, target *net.TCPConn) *link {
	l := &link{proxy: p, client: client, target: target}
	l.streams[Requests] = &stream{link: l, way: Requests, src: client, dst: target}
	l.streams[Answers] = &stream{link: l, way: Answers, src: target, dst: client}
	return l
}

// run forwards until both directions have ended.
func (l *link) run() {
	var both sync.WaitGroup
	for _, s := range l.streams {
		both.Go(s.read)
		both.Go(s.write)
	}
	both.Wait()
	_ = l.client.Close()
	_ = l.target.Close()
}

// reset ends both connections so that both peers see an error, not an end.
func (l *link) reset() {
	reset(l.client)
	reset(l.target)
}

func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

func (s *stream) read() {
	p := s.proxy
	buf := make([]byte, 32<<10)
	for {
		n, err := s.src.Read(buf)
		data := bytes.Clone(buf[:n])
		p.mu.Lock()
		if s.way == Answers && s.toBeDropped(&data) {
			p.mu.Unlock()
			s.swallow(buf)
			return
		}
		if s.way == Requests {
			s.look(data)
		}
		s.flip(data)
		if len(data) > 0 && !s.gone {
			s.queue = append(s.queue, piece{data, time.Now().Add(p.delay[s.way])})
			s.queued += int64(len(data))
		}
		if err != nil {
			s.ended, s.broken = true, !errors.Is(err, io.EOF)
		}
		p.changed.Broadcast()
		for s.queued >= holdLimit && !s.gone && !s.cut {
			p.changed.Wait()
		}
		done := s.ended || s.cut
		p.mu.Unlock()
		if done {
			return
		}
	}
}

// flip changes what Flip asked to have changed.
func (s *stream) flip(data []byte) {
	rule := &s.proxy.flip[s.way]
	if rule.marker == "" {
		return
	}
	if s.flipRound != rule.round {
		s.flipRound, s.flipTail = rule.round, ""
	}
	seen := s.flipTail + string(data)
	if i := strings.Index(seen, rule.marker); i >= 0 {
		data[i+len(rule.marker)-1-len(s.flipTail)] ^= 1
		rule.marker, s.flipTail = "", ""
		return
	}
	s.flipTail = seen[max(0, len(seen)-len(rule.marker)+1):]
}

// look notes whether the marker of DropAnswer went by.
func (s *stream) look(data []byte) {
	drop := s.proxy.drop
	if drop.left == 0 || s.round == drop.round {
		return
	}
	seen := s.tail + string(data)
	if strings.Contains(seen, drop.marker) {
		s.round, s.tail = drop.round, ""
		return
	}
	s.tail = seen[max(0, len(seen)-len(drop.marker)+1):]
}

// toBeDropped says whether an answer that begins with data is one to swallow,
// and if so, counts it. Data keeps what is still to be forwarded.
func (s *stream) toBeDropped(data *[]byte) bool {
	drop := &s.proxy.drop
	if len(*data) == 0 || drop.left == 0 || drop.marker != "" && s.round != drop.round {
		return false
	}
	if bytes.HasPrefix(*data, []byte("HTTP/1.1 100 ")) && bytes.HasSuffix(*data, []byte("\r\n\r\n")) &&
		bytes.Count(*data, []byte("\r\n\r\n")) == 1 {
		return false
	}
	drop.left--
	return true
}

// swallow reads and forgets an answer, then resets the link.
func (s *stream) swallow(buf []byte) {
	for {
		_ = s.src.SetReadDeadline(time.Now().Add(quiet))
		if _, err := s.src.Read(buf); err != nil {
			break
		}
	}
	s.proxy.mu.Lock()
	defer s.proxy.mu.Unlock()
	s.cut = true
	s.link.reset()
	s.proxy.changed.Broadcast()
}

func (s *stream) write() {
	p := s.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		data, done := s.next()
		if done {
			return
		}
		if data == nil {
			p.changed.Wait()
			continue
		}
		s.writing = int64(len(data))
		p.mu.Unlock()
		_, err := s.dst.Write(data)
		p.mu.Lock()
		s.queued, s.writing = s.queued-s.writing, 0
		if err != nil {
			// The reader goes on and its bytes are forgotten: the other
			// direction may still have something to deliver.
			s.gone, s.queue, s.queued = true, nil, 0
		}
		p.changed.Broadcast()
	}
}

// next takes from the queue what may be written now: nil when nothing may. It
// is called with the lock held, and says done after it passed on the end.
func (s *stream) next() (data []byte, done bool) {
	if s.cut {
		s.queue, s.queued = nil, 0
		return nil, true
	}
	held := s.proxy.hold[s.way].on && s.budget == 0
	if len(s.queue) == 0 {
		if !s.ended || held {
			return nil, false
		}
		s.end()
		return nil, true
	}
	if held {
		return nil, false
	}
	first := &s.queue[0]
	if wait := time.Until(first.due); wait > 0 {
		time.AfterFunc(wait, func() {
			s.proxy.mu.Lock()
			defer s.proxy.mu.Unlock()
			s.proxy.changed.Broadcast()
		})
		return nil, false
	}
	n := len(first.data)
	if s.proxy.hold[s.way].on {
		n = int(min(int64(n), s.budget))
		s.budget -= int64(n)
	}
	data, first.data = first.data[:n], first.data[n:]
	if len(first.data) == 0 {
		s.queue = s.queue[1:]
	}
	return data, false
}

// end passes the sender's end on to the receiver. A client's reset becomes an
// ordinary end: a reset could overtake delivered bytes in the target's kernel
// and destroy them.
func (s *stream) end() {
	if s.broken && s.way == Answers {
		reset(s.dst)
		return
	}
	_ = s.dst.CloseWrite()
}
