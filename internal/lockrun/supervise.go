//go:build unix

package lockrun

import (
	"context"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the waits of this package.
const (
	// killTime is how long killed processes may take to be gone.
	killTime = 5 * time.Second
	// checkTime bounds the question whether the lock is still held.
	checkTime = 5 * time.Second
	// lookTime is the pause between two looks at a group that is ending.
	lookTime = 20 * time.Millisecond
	// settleTime is how long what the command leaves behind may take to end.
	settleTime = 500 * time.Millisecond
	// hangUpTime is the pause before a shell that has not ended is told again.
	hangUpTime = 300 * time.Millisecond
)

// supervisor runs one command; all of it in the goroutine that called [Run].
type supervisor struct {
	*Command
	process  *process
	terminal *terminal
	teller   teller
	// signals are those that are passed on; continued has SIGCONT alone.
	signals, continued chan os.Signal

	// held is Held.Done until that was noticed, lost why the command is being ended.
	held <-chan struct{}
	lost error
	// wants: the command has or had the terminal, and is given it when it goes on.
	wants bool
	// stopping: SIGTSTP was passed on, interrupted: SIGINT was, terminated: SIGTERM.
	stopping, interrupted, terminated bool
	// exited: the command has ended. killed: the grace is over, given up: so is the
	// time for killed processes to go.
	exited, killed, givenUp bool
	// hungUp is when SIGHUP was sent.
	hungUp time.Time
	// timer ends the grace and what follows it, look paces the looks at the group.
	timer, look *time.Timer
}

// Run runs a command to its end. While it runs, signals to this process are the
// command's. It fails, with a [StartError] or what Begin fails with, only where
// nothing was started.
//
// One Run at a time: signals and the terminal belong to the process.
func Run(c *Command) (Exit, error) {
	s := &supervisor{Command: c, held: c.Held.Done(), terminal: openTerminal(), teller: newTeller(c.Tell), timer: idleTimer(), look: idleTimer()}
	defer close(s.teller)
	defer s.terminal.close()
	s.catch()
	defer s.uncatch()
	if c.Begin != nil {
		if err := c.Begin(); err != nil {
			return Exit{}, err
		}
	}
	s.wants = s.terminal.whole()
	s.terminal.remember()
	var err error
	s.process, err = start(c, s.terminal, s.wants)
	s.terminal.given = s.wants
	// Not before the start: what is ignored is inherited. From here on messages may
	// be written, and the terminal be taken back, from the background.
	signal.Ignore(unix.SIGTTOU)
	if err != nil {
		s.terminal.take()
		return Exit{}, err
	}
	for !s.over() {
		s.step()
	}
	return s.finish(), nil
}

func idleTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// over reports whether there is nothing left to supervise.
func (s *supervisor) over() bool {
	switch {
	case s.givenUp:
		return true
	case s.exited && (s.lost != nil || s.terminated):
		return s.process.living() == 0
	}
	return s.exited
}

// step takes the next thing that happens.
func (s *supervisor) step() {
	select {
	case e := <-s.process.events:
		if e.exited {
			s.exited = true
			if s.terminated && s.lost == nil {
				// The rest of the group was told to end, too, and still works.
				s.look.Reset(lookTime)
				s.timer.Reset(s.Grace)
			}
		} else {
			s.stopped(e.stop)
		}
	case sig := <-s.signals:
		s.passOn(sig.(unix.Signal))
	case <-s.continued:
		s.terminal.given = s.terminal.given && s.process.descends(s.terminal.front())
		s.resume()
	case <-s.held:
		s.end(context.Cause(s.Held))
	case <-s.look.C:
		s.hangUp()
		s.look.Reset(lookTime)
	case <-s.timer.C:
		if s.killed || s.lost == nil {
			s.givenUp = true
			return
		}
		s.teller.tell(Event{Kind: Killing})
		s.kill()
	}
}

// end begins to end the group, because the lock is lost.
func (s *supervisor) end(why error) {
	s.held = nil
	if s.lost != nil {
		return
	}
	s.lost = why
	s.teller.tell(Event{Kind: Ending, Err: why})
	s.process.signalGroup(unix.SIGTERM)
	s.hangUp()
	s.process.signalGroup(unix.SIGCONT)
	s.look.Reset(lookTime)
	if s.Grace > 0 {
		s.timer.Reset(s.Grace)
		return
	}
	s.kill()
}

// hangUp tells a shell with job control to take its jobs along: as soon as it can be
// known for one, which takes it a while to become, and again now and then: bash at its
// prompt may take note of the signal just before it waits for a key, and then waits.
func (s *supervisor) hangUp() {
	if s.wants && time.Since(s.hungUp) > hangUpTime && s.process.isShell() {
		s.hungUp = time.Now()
		s.process.signalGroup(unix.SIGHUP)
	}
}

func (s *supervisor) kill() {
	s.killed = true
	s.process.signalGroup(unix.SIGKILL)
	s.timer.Reset(killTime)
}

// left counts what is left of the group, a moment after the command's end: the rest of
// a pipeline may be about to end as well.
func (s *supervisor) left() int {
	for end := time.Now().Add(settleTime); ; time.Sleep(lookTime / 4) {
		if n := s.process.living(); n == 0 || time.Now().After(end) {
			return n
		}
	}
}

// finish takes the terminal back and says how the command ended.
func (s *supervisor) finish() Exit {
	exit := Exit{Lost: s.lost, Left: s.left(), Code: CodeSignal + int(unix.SIGKILL)}
	given := s.terminal.given
	s.terminal.take()
	var by unix.Signal
	if s.exited {
		status := s.process.reap()
		exit.Code = status.ExitStatus()
		if status.Signaled() {
			by = status.Signal()
			exit.Code = CodeSignal + int(by)
		}
	}
	if s.lost != nil || by != 0 {
		s.terminal.restore()
	}
	if by == unix.SIGINT && s.lost == nil {
		exit.pass = s.passing(given)
	}
	return exit
}
