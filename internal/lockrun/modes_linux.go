package lockrun

import "golang.org/x/sys/unix"

// modes are a terminal's settings as they were before the command.
type modes struct{ before *unix.Termios }

func (t *terminal) remember() {
	if t.fd < 0 {
		return
	}
	if m, err := unix.IoctlGetTermios(t.fd, unix.TCGETS); err == nil {
		t.before = m
	}
}

// restore undoes what a command that was ended by force left behind, if our group
// is in the foreground. A shell does so for its jobs, but not for one that exits.
func (t *terminal) restore() {
	if t.before != nil && t.front() == t.own {
		_ = unix.IoctlSetTermios(t.fd, unix.TCSETSW, t.before)
	}
}
