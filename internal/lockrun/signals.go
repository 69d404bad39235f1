//go:build unix

package lockrun

import (
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that are the command's while it runs.
var forwarded = []os.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGWINCH, unix.SIGTSTP,
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
}

// ignored are those of them that this process was started with as ignored, by nohup
// or by a shell without job control for what it runs in the background. They stay
// so, and the command inherits it. Looked at before anybody asks to be notified.
var ignored = func() []os.Signal {
	var list []os.Signal
	for _, sig := range forwarded {
		if signal.Ignored(sig) {
			list = append(list, sig)
		}
	}
	return list
}()

// pending is how many signals may wait while the lock is being checked.
const pending = 64

func (s *supervisor) catch() {
	s.signals, s.continued = make(chan os.Signal, pending), make(chan os.Signal, 1)
	signal.Notify(s.signals, forwarded...)
	signal.Notify(s.continued, unix.SIGCONT)
	if len(ignored) > 0 {
		signal.Ignore(ignored...)
	}
}

func (s *supervisor) uncatch() {
	signal.Stop(s.signals)
	signal.Stop(s.continued)
	signal.Reset(unix.SIGTTOU)
}

// passOn gives the command a signal that came to this process.
func (s *supervisor) passOn(sig unix.Signal) {
	switch sig {
	case unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM:
		s.process.signal(sig)
	case unix.SIGTSTP:
		if s.lost == nil {
			s.stopping = true
			s.process.signalGroup(sig)
		}
	default:
		s.interrupted = s.interrupted || sig == unix.SIGINT
		s.terminated = s.terminated || sig == unix.SIGTERM
		s.process.signalGroup(sig)
	}
}

// passing is what [Exit.Pass] sends SIGINT to: nobody, this process, or its group.
type passing int

const (
	passNobody passing = iota
	passSelf
	passGroup
)

// passing says who is to learn that the command was interrupted.
func (s *supervisor) passing(given bool) passing {
	switch {
	case given:
		// The terminal told the command alone, which had it.
		return passGroup
	case s.interrupted && s.terminal.front() == s.terminal.own:
		return passSelf
	}
	return passNobody
}

// Interrupted is how a command ends that did not begin, because a signal came first.
func Interrupted(by unix.Signal) Exit {
	exit := Exit{Code: CodeSignal + int(by)}
	t := openTerminal()
	defer t.close()
	if by == unix.SIGINT && t.fd >= 0 && t.front() == t.own {
		exit.pass = passSelf
	}
	return exit
}

// Pass ends this process by SIGINT where the command was ended by the terminal's,
// so that the shell that started it stops as well. Otherwise, and where it must
// not, it returns.
func (e Exit) Pass() {
	if e.pass == passNobody || signal.Ignored(unix.SIGINT) {
		return
	}
	signal.Reset(unix.SIGINT)
	to := 0
	if e.pass == passSelf {
		to = unix.Getpid()
	}
	if unix.Kill(to, unix.SIGINT) == nil {
		// It comes by whatever thread is free.
		time.Sleep(time.Second)
	}
}
