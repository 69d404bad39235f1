package testserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the waits of this package.
const (
	// killWait bounds the wait for killed processes to be gone.
	killWait = 20 * time.Second
	// poll is the pause between two looks at a process's state.
	poll = 5 * time.Millisecond
	// logTail is how much of a server's log goes into an error, in bytes.
	logTail = 4 << 10
)

// Spec says which program to run, and how.
type Spec struct {
	// Name of the server in messages.
	Name string
	// Path of the program.
	Path string
	// Args of the program, without its own name.
	Args []string
	// Env is the whole environment: nothing is inherited.
	Env []string
	// Dir is the working directory. It lies in a folder made by [Folder], no
	// other server works in it, and every process of this server stays in it:
	// that is how they are found.
	Dir string
	// Log takes standard output and error, appended.
	Log string
	// Credential to run with; nil is this process's own.
	Credential *syscall.Credential
}

// Process is one running server with all its child processes. Its methods are
// safe for concurrent use.
type Process struct {
	spec Spec
	pid  int

	mu     sync.Mutex
	exited bool
	status unix.WaitStatus
}

// Launch starts the program and returns once it was executed. It does not wait
// for the server to be ready.
func Launch(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("testserver: log of %s: %w", spec.Name, err)
	}
	defer log.Close() //nolint:errcheck // the server holds its own copy
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Dir, cmd.Env = spec.Dir, spec.Env
	cmd.Stdout, cmd.Stderr = log, log
	// A process group of its own, so that a Ctrl-C meant for the test does not
	// stop the server in the middle of it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: spec.Credential}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("testserver: start %s: %w", spec.Name, err)
	}
	p := &Process{spec: spec, pid: cmd.Process.Pid}
	// From here on wait4 is called by alive alone.
	if err := cmd.Process.Release(); err != nil {
		return nil, fmt.Errorf("testserver: start %s: %w", spec.Name, err)
	}
	return p, nil
}

// Alive reports whether the main process still runs; a stopped one does.
func (p *Process) Alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive()
}

func (p *Process) alive() bool {
	for !p.exited {
		pid, err := unix.Wait4(p.pid, &p.status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err == nil && pid == 0:
			return true
		}
		p.exited = true
	}
	return false
}

// Signal sends sig to the main process. It is no error when that one has ended.
func (p *Process) Signal(sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Under the lock nobody reaps: the number still names this process.
	if !p.alive() {
		return nil
	}
	if err := unix.Kill(p.pid, sig); err != nil {
		return fmt.Errorf("testserver: send %v to %s: %w", sig, p.spec.Name, err)
	}
	return nil
}

// WaitExit waits until no process of the server is left, for at most limit.
func (p *Process) WaitExit(limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(poll) {
		alive := p.Alive()
		rest, err := working(p.spec.Dir)
		if err != nil {
			return err
		}
		if !alive && len(rest) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("testserver: %s still runs after %v (processes %v)", p.spec.Name, limit, rest)
		}
	}
}

// Kill sends SIGKILL to every process of the server, stopped ones too, and
// returns when none is left.
func (p *Process) Kill() error {
	for deadline := time.Now().Add(killWait); ; time.Sleep(poll) {
		if err := p.Signal(unix.SIGKILL); err != nil {
			return err
		}
		rest, err := signalAll(p.spec.Dir, unix.SIGKILL)
		if err != nil {
			return err
		}
		if !p.Alive() && len(rest) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("testserver: %s survives SIGKILL for %v (processes %v)", p.spec.Name, killWait, rest)
		}
	}
}

// Pause stops every process of the server (SIGSTOP) and returns when each of
// them stands still. Sockets stay open and the kernel goes on to accept
// connections and bytes, as for a frozen machine.
func (p *Process) Pause() error {
	// The main process first: once it stands, no new ones come.
	if err := p.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	for deadline := time.Now().Add(killWait); ; time.Sleep(poll) {
		all, err := signalAll(p.spec.Dir, unix.SIGSTOP)
		if err != nil {
			return err
		}
		running := 0
		for _, pid := range all {
			if s := state(pid); s != 'T' && s != 'Z' && s != 0 {
				running++
			}
		}
		if running == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("testserver: %d processes of %s do not stop within %v", running, p.spec.Name, killWait)
		}
	}
}

// Resume continues every process of the server (SIGCONT).
func (p *Process) Resume() error {
	if _, err := signalAll(p.spec.Dir, unix.SIGCONT); err != nil {
		return err
	}
	return p.Signal(unix.SIGCONT)
}

// Log returns the end of what the server wrote to standard output and error,
// for messages.
func (p *Process) Log() string { return Tail(p.spec.Log) }

// Tail returns the last 4 KiB of a file, for messages.
func Tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-logTail):]))
}

// Pids lists the server's processes, the main one among them.
func (p *Process) Pids() ([]int, error) { return working(p.spec.Dir) }

// signalAll sends sig to every process that works in dir and returns them.
func signalAll(dir string, sig unix.Signal) ([]int, error) {
	pids, err := working(dir)
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return nil, fmt.Errorf("testserver: send %v to process %d: %w", sig, pid, err)
		}
	}
	return pids, nil
}

// working lists the processes whose working directory is dir. Processes that
// have ended but were not waited for have none and are left out.
func working(dir string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("testserver: list processes: %w", err)
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// An error is a process that has ended, or a stranger's.
		if cwd, err := os.Readlink(filepath.Join("/proc", entry.Name(), "cwd")); err == nil && cwd == dir {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// state returns the process state letter of /proc/PID/stat (see proc(5)), or 0
// for a process that is gone.
func state(pid int) byte {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name before it stands in parentheses and may hold any character.
	_, after, found := strings.Cut(string(text[max(0, strings.LastIndexByte(string(text), ')')):]), " ")
	if !found || after == "" {
		return 0
	}
	return after[0]
}
