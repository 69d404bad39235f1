//go:build unix

package lockrun

import "golang.org/x/sys/unix"

// terminal is the controlling terminal, if there is one.
type terminal struct {
	// fd is -1 where there is none.
	fd int
	// own is the process group of this process.
	own int
	// given: the command has it.
	given bool
	modes
}

func openTerminal() *terminal {
	t := &terminal{fd: -1, own: unix.Getpgrp()}
	if fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err == nil {
		t.fd = fd
	}
	return t
}

func (t *terminal) close() {
	if t.fd >= 0 {
		_ = unix.Close(t.fd)
	}
}

// front is the process group in the foreground, -1 where there is none.
func (t *terminal) front() int { return frontOf(t.fd) }

// frontOf is the foreground group of a descriptor of the controlling terminal, -1 of
// any other.
func frontOf(fd int) int {
	if fd < 0 {
		return -1
	}
	pgid, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	if err != nil {
		return -1
	}
	return pgid
}

// whole reports whether this process has the terminal and shares it with no other
// member of a pipeline: the command may have it at once.
func (t *terminal) whole() bool {
	return t.front() == t.own && frontOf(unix.Stdin) == t.own && frontOf(unix.Stdout) == t.own
}

// give puts the command's group into the foreground, if ours is there.
func (t *terminal) give(pgid int) bool {
	switch t.front() {
	case pgid:
		t.given = true
	case t.own:
		t.given = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, pgid) == nil
	default:
		return false
	}
	return t.given
}

// take puts our group back into the foreground, if the command had it.
func (t *terminal) take() {
	if t.given {
		t.given = false
		// It fails when the terminal hung up.
		_ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, t.own)
	}
}
