package pgtest

import (
	"net"
	"net/url"
	"sync"
	"testing"
)

// Stepper is a relay before a PostgreSQL server that holds statements until the test
// lets them pass, one by one. It reads the protocol: a pipeline of many statements is
// held before each of them, and the answer to one is there before the next one goes
// on. A statement outside of a transaction takes effect at its Sync, which is
// held like a statement of its own.
//
// It passes everything until Hold. All methods are safe for concurrent use.
type Stepper struct {
	server string
	l      net.Listener
	held   chan *Statement
	all    sync.WaitGroup

	mu       sync.Mutex
	flowing  chan struct{} // closed while statements pass by themselves
	sessions map[*session]bool
	never    []string
	closed   bool
}

// SyncStep is what a Statement's SQL reads where it is the end of a statement outside of
// a transaction: its commit.
const SyncStep = "(Sync)"

// Statement is one that is held. Exactly one of Pass, Cut and LoseAnswer is called.
type Statement struct {
	SQL string
	// PID is the server process of the session.
	PID int32

	session  *session
	decided  chan func()
	answered chan struct{}
}

// Step starts a relay before the server that dsn names and returns the DSN of the same
// database through it. It ends with the test.
func Step(t testing.TB, dsn string) (s *Stepper, through string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatalf("pgtest: the stepper's target: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("pgtest: the stepper: %v", err)
	}
	s = &Stepper{server: u.Host, l: l, held: make(chan *Statement, 64), flowing: make(chan struct{}), sessions: map[*session]bool{}}
	close(s.flowing)
	s.all.Go(s.accept)
	t.Cleanup(s.close)
	u.Host = l.Addr().String()
	return s, u.String()
}

// Hold holds every statement from now on.
func (s *Stepper) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.flowing:
		s.flowing = make(chan struct{})
	default:
	}
}

// Flow lets everything pass again, what is held too.
func (s *Stepper) Flow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.flowing:
	default:
		close(s.flowing)
	}
	for {
		select {
		case <-s.held:
		default:
			return
		}
	}
}

// Never keeps statements with this text from the server for good, whether others are
// held or not; they do not appear in Held.
func (s *Stepper) Never(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.never = append(s.never, text)
}

// Held gives statements as they come to be held.
func (s *Stepper) Held() <-chan *Statement { return s.held }

// PIDs are the server processes of the connections that stand.
func (s *Stepper) PIDs() []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	pids := make([]int32, 0, len(s.sessions))
	for n := range s.sessions {
		n.mu.Lock()
		if n.pid != 0 {
			pids = append(pids, n.pid)
		}
		n.mu.Unlock()
	}
	return pids
}

// Pass lets the statement go to the server.
func (st *Statement) Pass() { st.decided <- func() {} }

// Cut ends the connection, to both sides, before the statement is sent.
func (st *Statement) Cut() { st.decided <- st.session.cut }

// LoseAnswer lets the statement pass and swallows its answer and all later ones; then
// the connection is cut. Answered says when the server has answered.
func (st *Statement) LoseAnswer() {
	st.decided <- func() {
		st.session.mu.Lock()
		st.session.mute = true
		st.session.mu.Unlock()
	}
}

// Answered is closed when the server has answered the statement, with an error too, or
// when the connection has ended.
func (st *Statement) Answered() <-chan struct{} { return st.answered }

func (s *Stepper) accept() {
	for {
		client, err := s.l.Accept()
		if err != nil {
			return
		}
		s.all.Go(func() { s.serve(client) })
	}
}

func (s *Stepper) close() {
	_ = s.l.Close()
	s.mu.Lock()
	s.closed = true
	for n := range s.sessions {
		n.cut()
	}
	s.mu.Unlock()
	s.Flow()
	s.all.Wait()
}
