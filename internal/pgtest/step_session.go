package pgtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// session is one connection.
type session struct {
	s              *Stepper
	client, server net.Conn
	to             *bufio.Writer // to the server

	mu   sync.Mutex
	news sync.Cond
	pid  int32
	mute bool // answers are swallowed
	over bool
	// sent and done count the statements of this flush that were passed and answered;
	// failed is set by an error, after which the server skips up to Sync.
	sent, done int
	failed     bool
	simple     bool // what is under way is a simple query: answered at its end
	inTx       bool
}

func (n *session) cut() {
	_ = n.client.Close()
	_ = n.server.Close()
}

// The codes that a client may send in place of a protocol version.
const (
	cancelCode = 80877102
	sslCode    = 80877103
	gssCode    = 80877104
)

func (s *Stepper) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", s.server, createWait)
	if err != nil {
		_ = client.Close()
		return
	}
	n := &session{s: s, client: client, server: server, to: bufio.NewWriterSize(server, 16<<10)}
	n.news.L = &n.mu
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		n.cut()
		return
	}
	s.sessions[n] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.sessions, n)
		s.mu.Unlock()
	}()
	defer n.cut()
	for {
		var head [8]byte
		if _, err := io.ReadFull(client, head[:]); err != nil {
			return
		}
		rest := make([]byte, max(8, binary.BigEndian.Uint32(head[:4]))-8)
		if _, err := io.ReadFull(client, rest); err != nil {
			return
		}
		code := binary.BigEndian.Uint32(head[4:])
		if code == sslCode || code == gssCode {
			if _, err := client.Write([]byte{'N'}); err != nil {
				return
			}
			continue
		}
		if _, err := server.Write(append(head[:], rest...)); err != nil {
			return
		}
		if code == cancelCode {
			_, _ = io.Copy(client, server)
			return
		}
		break
	}
	s.all.Go(n.answers)
	n.requests()
}

// message reads one message whole, with its head.
func message(from io.Reader) ([]byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size < 4 || size > 1<<30 {
		return nil, fmt.Errorf("pgtest: a message of %d bytes", size)
	}
	m := make([]byte, 1+size)
	copy(m, head)
	_, err := io.ReadFull(from, m[5:])
	return m, err
}

// answers carries what the server says, and takes note of it.
func (n *session) answers() {
	defer func() {
		n.mu.Lock()
		n.over = true
		n.news.Broadcast()
		n.mu.Unlock()
		_ = n.client.Close()
	}()
	from, to := bufio.NewReaderSize(n.server, 16<<10), bufio.NewWriterSize(n.client, 16<<10)
	for {
		m, err := message(from)
		if err != nil {
			return
		}
		n.mu.Lock()
		switch m[0] {
		case 'K':
			n.pid = int32(binary.BigEndian.Uint32(m[5:])) //nolint:gosec // a process id
		case 'C', 'I', 's':
			if !n.simple {
				n.done++
			}
		case 'E':
			n.failed = true
		case 'Z':
			n.sent, n.done, n.failed, n.simple, n.inTx = 0, 0, false, false, m[5] != 'I'
		}
		mute := n.mute
		n.news.Broadcast()
		n.mu.Unlock()
		if mute {
			continue
		}
		// A client that has gone does not keep its statement from the server: errors
		// here are not looked at.
		_, _ = to.Write(m)
		if from.Buffered() == 0 {
			_ = to.Flush()
		}
	}
}

// requests carries what the client says and stops at each statement.
func (n *session) requests() {
	named, bound := map[string]string{}, map[string]string{}
	implicit, open := false, false // of this flush: a statement outside of a transaction; a transaction is open
	fresh := true
	from := bufio.NewReaderSize(n.client, 16<<10)
	for {
		m, err := message(from)
		if err != nil {
			return
		}
		body := m[5:]
		if fresh {
			n.mu.Lock()
			implicit, open, fresh = false, n.inTx, false
			n.mu.Unlock()
		}
		sql := ""
		switch m[0] {
		case 'P':
			name, rest := text(body)
			named[name], _ = text(rest)
		case 'B':
			portal, rest := text(body)
			name, _ := text(rest)
			bound[portal] = named[name]
		case 'E':
			portal, _ := text(body)
			sql = bound[portal]
			switch {
			case strings.HasPrefix(sql, "BEGIN"):
				open = true
			case strings.HasPrefix(sql, "COMMIT"), strings.HasPrefix(sql, "ROLLBACK"):
				open = false
			case !open:
				implicit = true
			}
		case 'Q':
			sql, _ = text(body)
			fresh = true
		case 'S':
			if implicit {
				sql = SyncStep
			}
			fresh = true
		}
		if !n.step(m, sql) || from.Buffered() == 0 && n.to.Flush() != nil {
			return
		}
	}
}

func text(b []byte) (s string, rest []byte) {
	before, after, _ := bytes.Cut(b, []byte{0})
	return string(before), after
}

// flush asks the server for the answers so far.
var flush = []byte{'H', 0, 0, 0, 4}

// step sends one message, and holds it if it is a statement and statements are held.
func (n *session) step(m []byte, sql string) (goesOn bool) {
	s := n.s
	s.mu.Lock()
	flowing := s.flowing
	for _, text := range s.never {
		if strings.Contains(sql, text) {
			s.mu.Unlock()
			return n.starve()
		}
	}
	s.mu.Unlock()
	n.mu.Lock()
	held := sql != "" && !n.failed
	n.mu.Unlock()
	select {
	case <-flowing:
		held = false
	default:
	}
	if !held {
		return n.send(m, sql) == nil
	}
	n.mu.Lock()
	st := &Statement{SQL: strings.TrimSpace(sql), PID: n.pid, session: n, decided: make(chan func(), 1), answered: make(chan struct{})}
	n.mu.Unlock()
	defer close(st.answered)
	if !s.hold(st, flowing) {
		st.Pass()
	}
	select {
	case decided := <-st.decided:
		decided()
	case <-flowing:
		select {
		case decided := <-st.decided: // before all were let go
			decided()
		default:
		}
	}
	if m[0] == 'E' {
		m = append(m, flush...)
	}
	if n.send(m, sql) != nil || n.to.Flush() != nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.done < n.sent && !n.failed && !n.over {
		n.news.Wait()
	}
	if n.mute {
		n.cut()
	}
	return true
}

// hold gives the statement to whoever asks for those that are held, unless all flow by
// now.
func (s *Stepper) hold(st *Statement, flowing chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-flowing:
		return false
	default:
		s.held <- st // a session holds one at a time, and there are fewer than fit
		return true
	}
}

// starve keeps a statement back until its client gives up.
func (n *session) starve() bool {
	_, _ = io.Copy(io.Discard, n.client)
	return false
}

// send counts a message and passes it on.
func (n *session) send(m []byte, sql string) error {
	n.mu.Lock()
	switch {
	case m[0] == 'Q', m[0] == 'S' && sql != "":
		// Both are answered by what ends them, which sets the counts to zero.
		n.sent, n.simple = n.sent+1, true
	case m[0] == 'E':
		n.sent++
	}
	n.mu.Unlock()
	_, err := n.to.Write(m)
	return err
}
