//go:build unix && !linux

package lockrun

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent: only Linux does that.
func dieWithParent(*syscall.SysProcAttr) {}

// watch tells of the command's stops and of its end. It is reaped at once: here is no
// way to wait for both and to leave it.
func (p *process) watch() {
	for {
		_, err := unix.Wait4(p.pid, &p.status, unix.WUNTRACED, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err == nil && p.status.Stopped():
			p.events <- change{stop: p.status.StopSignal()}
		default:
			p.events <- change{exited: true}
			<-p.done
			return
		}
	}
}

// reap returns how the command ended.
func (p *process) reap() unix.WaitStatus {
	p.reaped = true
	close(p.done)
	return p.status
}

// living is 1 while the group has a member.
func (p *process) living() int {
	if unix.Kill(-p.pid, 0) == nil {
		return 1
	}
	return 0
}

func (p *process) descends(pgid int) bool { return pgid == p.pid }

// isShell: whoever has the terminal is told as a shell would have to be.
func (p *process) isShell() bool { return true }
