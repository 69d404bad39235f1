//go:build unix

package lockrun

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// stopTime is how long this process may take to stop. It does not where its group is
// an orphan (nobody could continue it) and the kernel drops the signal.
const stopTime = time.Second

// stopped is told that the command was stopped.
func (s *supervisor) stopped(by unix.Signal) {
	asks := by == unix.SIGTTIN || by == unix.SIGTTOU
	given := asks && s.terminal.give(s.process.pid)
	s.wants = s.wants || given
	switch {
	case given, s.lost != nil && !asks:
		s.process.signalGroup(unix.SIGCONT)
	case s.lost != nil:
		// It would ask again at once. The grace ends it.
	case asks, s.terminal.given:
		// The terminal told only the command's group, and would have told ours.
		s.suspend(by, 0)
	case s.stopping:
		s.suspend(by, unix.Getpid())
	default:
		s.teller.tell(Event{Kind: Halted})
	}
}

// suspend stops whom to names for kill(2), this process among them, as the command
// was stopped, and goes on when it is continued.
func (s *supervisor) suspend(by unix.Signal, to int) {
	by = stopper(by)
	s.stopping = false
	s.terminal.take()
	s.teller.tell(Event{Kind: Suspending})
	select {
	case <-s.continued:
	default:
	}
	withDefault(by, func() {
		if unix.Kill(to, by) == nil {
			select {
			case <-s.continued:
			case <-time.After(stopTime):
			}
		}
	})
	s.resume()
	if s.lost == nil {
		s.teller.tell(Event{Kind: Resumed})
	}
}

// resume continues the command, if the lock is still held: this process stood still.
func (s *supervisor) resume() {
	if s.lost == nil {
		if err := s.check(); err != nil {
			s.end(err)
			return
		}
	}
	if s.wants {
		s.terminal.give(s.process.pid)
	}
	s.process.signalGroup(unix.SIGCONT)
}

// check says why the lock is not held any more.
func (s *supervisor) check() error {
	ctx, cancel := context.WithTimeout(s.Held, checkTime)
	defer cancel()
	// Before the question: a lease that ran out while this process stood still needs
	// no service to tell.
	if s.Held.Err() != nil {
		return context.Cause(s.Held)
	}
	err := s.Check(ctx)
	if s.Held.Err() != nil {
		return context.Cause(s.Held)
	}
	return err
}
