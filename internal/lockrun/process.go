//go:build unix

package lockrun

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is a command that was started, the leader of its group.
type process struct {
	pid int
	// events has each stop, and then one exit. The zombie stays until reap: it keeps
	// the number from naming anybody else.
	events chan change
	reaped bool
	done   chan struct{}
	status unix.WaitStatus
}

// change is what became of a process.
type change struct {
	exited bool
	stop   unix.Signal
}

// start starts a command in a group of its own, and in the foreground of the terminal
// where that is wanted.
func start(c *Command, t *terminal, foreground bool) (*process, error) {
	p := &process{events: make(chan change), done: make(chan struct{})}
	started := make(chan error)
	go p.run(c, t.fd, foreground, started)
	switch err := <-started; {
	case errors.Is(err, unix.ENOENT):
		return nil, &StartError{Name: c.Args[0], Code: CodeNotFound, Err: errInterpreter}
	case err != nil:
		return nil, &StartError{Name: c.Args[0], Code: CodeCannotRun, Err: reason(err)}
	}
	return p, nil
}

// run starts the command and waits for it, in a thread that lives as long as it: the
// kernel tells the command of its parent's death when that thread dies.
func (p *process) run(c *Command, tty int, foreground bool, started chan<- error) {
	runtime.LockOSThread()
	attr := &syscall.ProcAttr{Env: c.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	if foreground {
		attr.Sys.Foreground, attr.Sys.Ctty = true, tty
	}
	dieWithParent(attr.Sys)
	pid, _, err := syscall.StartProcess(c.Path, c.Args, attr)
	if errors.Is(err, unix.ENOEXEC) {
		// A script without a first line that names its interpreter: as shells do.
		pid, _, err = syscall.StartProcess("/bin/sh", append([]string{"sh", c.Path}, c.Args[1:]...), attr)
	}
	p.pid = pid
	started <- os.NewSyscallError("exec", err)
	if err == nil {
		p.watch()
	}
	runtime.UnlockOSThread()
}

// signal sends a signal to the command, signalGroup to its whole group. Either may
// have ended; what another user owns is out of reach.
func (p *process) signal(sig unix.Signal) {
	if !p.reaped {
		_ = unix.Kill(p.pid, sig)
	}
}

func (p *process) signalGroup(sig unix.Signal) {
	if !p.reaped {
		_ = unix.Kill(-p.pid, sig)
	}
}
