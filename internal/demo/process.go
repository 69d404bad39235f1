package demo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// endTime bounds the wait for a killed process. The kernel needs milliseconds.
	endTime = 5 * time.Second
	// keepSaid is how many of the last lines of a process's standard error are kept.
	keepSaid = 5
	// lookEvery is how often a process is looked after besides when the kernel
	// says that a child has changed.
	lookEvery = 50 * time.Millisecond
	// maxLine bounds a line of a process, in bytes.
	maxLine = 64 << 10
)

// change is what the kernel reported of a process.
type change struct {
	step step
	// text is how it ended.
	text string
}

// process is a child process. It has a process group of its own, so that a
// Ctrl-C in the terminal reaches the director alone, which then ends it.
type process struct {
	name string
	pid  int
	in   *os.File
	// output is closed when all was read, gone when the process was waited for.
	output, gone chan struct{}

	mu     sync.Mutex
	reaped bool
	said   []string
}

// launch starts a program in a folder. line is called with each line of its
// standard output, changed when it stops and when it ends, each from a
// goroutine of its own.
func launch(name, program string, args []string, folder string, line func(string), changed func(change)) (*process, error) {
	var files []*os.File
	closeAll := func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	for range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll()
			return nil, fmt.Errorf("starting %s: %w", name, err)
		}
		files = append(files, r, w)
	}
	theirs := []*os.File{files[0], files[3], files[5]}
	in, out, errs := files[1], files[2], files[4]
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	started, err := os.StartProcess(program, append([]string{program}, args...), &os.ProcAttr{Dir: folder, Files: theirs, Sys: attributes()})
	if err != nil {
		signal.Stop(children)
		closeAll()
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	for _, f := range theirs {
		_ = f.Close()
	}
	p := &process{name: name, pid: started.Pid, in: in, output: make(chan struct{}), gone: make(chan struct{})}
	// From here on it is look that waits for it.
	_ = started.Release()
	var reading sync.WaitGroup
	reading.Go(func() { eachLine(out, line) })
	reading.Go(func() { eachLine(errs, p.hear) })
	go func() {
		reading.Wait()
		close(p.output)
	}()
	go p.watch(children, changed)
	return p, nil
}

func eachLine(f *os.File, do func(string)) {
	defer f.Close() //nolint:errcheck // it was only read
	s := bufio.NewScanner(f)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		do(s.Text())
	}
	// Whatever else comes must not block the process that writes it.
	_, _ = io.Copy(io.Discard, f)
}

func (p *process) hear(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, line)
	p.said = p.said[max(0, len(p.said)-keepSaid):]
}

// watch looks after the process until it ends, and tells what the kernel reports.
// children says when to look.
func (p *process) watch(children chan os.Signal, changed func(change)) {
	defer signal.Stop(children)
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		for {
			seen := p.look()
			if seen.step == "" {
				break
			}
			if seen.step == ended {
				close(p.gone)
				_ = p.in.Close()
				changed(seen)
				return
			}
			changed(seen)
		}
		select {
		case <-children:
		case <-look.C:
		}
	}
}

// look asks the kernel for the next change; none where its step is empty.
func (p *process) look() change {
	var status unix.WaitStatus
	// Under the lock, lest a signal reach a process that has taken the number over.
	p.mu.Lock()
	pid, err := unix.Wait4(p.pid, &status, unix.WNOHANG|unix.WUNTRACED, nil)
	p.reaped = err != nil && !errors.Is(err, unix.EINTR) || pid == p.pid && (status.Exited() || status.Signaled())
	reaped := p.reaped
	p.mu.Unlock()
	switch {
	case reaped:
		// What it said last belongs to the message.
		select {
		case <-p.output:
		case <-time.After(endTime):
		}
		return change{ended, p.lastWords(status, err)}
	case pid != p.pid:
		return change{}
	case status.Stopped():
		return change{step: stopped}
	}
	return change{}
}

func (p *process) lastWords(status unix.WaitStatus, err error) string {
	how := fmt.Sprintf("exit code %d", status.ExitStatus())
	switch {
	case err != nil:
		how = err.Error()
	case status.Signaled():
		how = unix.SignalName(status.Signal())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.said) > 0 {
		how += "; its last words: " + strings.Join(p.said, " / ")
	}
	return how
}

// errGone says that a process has ended.
var errGone = errors.New("the process has ended")

// signal sends a signal; errGone where the process was waited for.
func (p *process) signal(s unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return errGone
	}
	return unix.Kill(p.pid, s)
}

// end kills the process, frozen or not, and waits until it is gone.
func (p *process) end() error {
	// SIGKILL ends a stopped process by itself; SIGCONT is for whatever does not
	// know that.
	_ = p.signal(unix.SIGKILL)
	_ = p.signal(unix.SIGCONT)
	select {
	case <-p.gone:
		return nil
	case <-time.After(endTime):
		return fmt.Errorf("%s (process %d) was killed and does not end", p.name, p.pid)
	}
}
