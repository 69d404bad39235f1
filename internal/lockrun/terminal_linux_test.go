package lockrun

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// prompt is what the shell of a session asks with.
const prompt = "OUTER> "

// session is a person at a terminal: an interactive shell, in which "run" is the
// program under test.
type session struct {
	*job
	tty  *os.File
	seen int // of the output, already expected
}

func open(t *testing.T, grace time.Duration) *session {
	t.Helper()
	s := &session{job: prepare(t, grace)}
	require.NoError(t, os.Symlink(self(t), filepath.Join(s.dir, "run")))
	s.cmd = exec.Command("bash", "--norc", "--noprofile", "-i")
	s.cmd.Env = slices.Concat(s.env, []string{"PS1=" + prompt, "TERM=dumb", "INPUTRC=/dev/null", "HISTFILE=", "PATH=" + s.dir + ":" + os.Getenv("PATH"), "HOME=" + s.dir})
	tty, err := pty.StartWithSize(s.cmd, &pty.Winsize{Rows: 24, Cols: 500})
	require.NoError(t, err)
	// Package pty leaves it blocking: closing it would wait for the reader.
	fd, err := unix.FcntlInt(tty.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, tty.Close())
	require.NoError(t, unix.SetNonblock(fd, true))
	s.tty = os.NewFile(uintptr(fd), "terminal")
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := s.tty.Read(b)
			_, _ = s.out.Write(b[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		s.tty.Close()
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		if t.Failed() {
			t.Logf("the terminal showed:\n%s", s.out.String())
		}
	})
	s.expect(regexp.QuoteMeta(prompt))
	return s
}

// sendText types.
func (s *session) sendText(text string) {
	s.t.Helper()
	_, err := s.tty.WriteString(text)
	require.NoError(s.t, err)
}

// control does something with the terminal's descriptor.
func (s *session) control(f func(fd int)) {
	s.t.Helper()
	raw, err := s.tty.SyscallConn()
	require.NoError(s.t, err)
	require.NoError(s.t, raw.Control(func(fd uintptr) { f(int(fd)) }))
}

// enter types a line.
func (s *session) enter(line string) { s.t.Helper(); s.sendText(line + "\n") }

// expect waits until the terminal shows what a pattern matches, after what was
// expected before.
func (s *session) expect(pattern string) string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	var match string
	require.Eventually(s.t, func() bool {
		text := s.out.String()[s.seen:]
		at := re.FindStringIndex(text)
		if at == nil {
			return false
		}
		match = text[at[0]:at[1]]
		s.seen += at[1]
		return true
	}, patience, 2*time.Millisecond, "the terminal does not show %q", pattern)
	return match
}

// wantPrompt waits for the prompt, and proves that the shell has the terminal.
func (s *session) wantPrompt(code string) {
	s.t.Helper()
	s.expect(regexp.QuoteMeta(prompt))
	s.enter("echo code=$?$(stty -a | grep -o ' -*icanon')")
	got := s.expect(`code=\d+ -?icanon`)
	assert.Contains(s.t, got, "code="+code+" ")
	assert.NotContains(s.t, got, "-icanon", "the terminal's modes are as they were")
	s.expect(regexp.QuoteMeta(prompt))
}

const (
	ctrlC = "\x03"
	ctrlZ = "\x1a"
)

// An interactive shell has the terminal, with job control, and gives it back.
func TestShell(t *testing.T) {
	t.Parallel()
	s := open(t, time.Minute)
	s.enter("PS1='INNER> ' run bash --norc --noprofile -i")
	s.expect("\nINNER> ")
	s.enter("sleep 1000 & echo job=$!")
	s.expect(`job=\d+`)
	s.enter("sleep 2000")
	s.expect("sleep 2000")
	s.awaitFront("sleep 2000")
	s.sendText(ctrlZ)
	s.expect(`Stopped +sleep 2000`)
	s.expect("INNER> ")
	s.enter("fg %2")
	s.awaitFront("sleep 2000")
	s.sendText(ctrlC)
	s.expect("INNER> ")
	s.enter("kill %1; wait; exit 7")
	s.expect("exit")
	s.wantPrompt("7")
	s.enter("exit")
	s.wantNone()
}

// awaitFront waits until a command has the terminal.
func (s *session) awaitFront(command string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		front := -1
		s.control(func(fd int) { front = frontOf(fd) })
		line, _ := os.ReadFile(filepath.Join("/proc", itoa(front), "cmdline"))
		return strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")) == command
	}, patience, 2*time.Millisecond, "%q is not in the foreground", command)
}

// awaitState waits until a process of the session is in one of the states of ps(1).
func (s *session) awaitState(command string, states string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		for _, pid := range s.processes() {
			line, _ := os.ReadFile(filepath.Join("/proc", itoa(pid), "cmdline"))
			if strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")) == command {
				st, ok := statOf(pid)
				return ok && strings.IndexByte(states, st.state) >= 0
			}
		}
		return false
	}, patience, 2*time.Millisecond, "%q is not in state %s", command, states)
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	s := open(t, time.Minute)
	s.enter("run sleep 1000")
	s.awaitFront("sleep 1000")
	s.sendText(ctrlC)
	s.wantPrompt("130")
	// A script does not go on with its next line, though the terminal told the
	// command alone.
	s.enter("bash -c 'run sleep 1001; echo went on'")
	s.awaitFront("sleep 1001")
	s.sendText(ctrlC)
	s.wantPrompt("130")
	s.enter("for i in 1 2; do run sleep 1002; echo went on; done")
	s.awaitFront("sleep 1002")
	s.sendText(ctrlC)
	s.wantPrompt("130")
	assert.NotRegexp(t, `(?m)^went on`, s.out.String())
	// The same where the command never had the terminal.
	s.enter("bash -c 'run sleep 1003 | cat; echo went on'")
	s.awaitState("sleep 1003", "S")
	s.sendText(ctrlC)
	s.wantPrompt("130")
	assert.NotRegexp(t, `(?m)^went on`, s.out.String())
	// One that handles it is taken at its word.
	s.enter(`run sh -c 'trap "exit 5" INT; echo waiting; while :; do sleep 0.02; done'`)
	s.expect(`\nwaiting`)
	s.sendText(ctrlC)
	s.wantPrompt("5")
}

func TestStop(t *testing.T) {
	t.Parallel()
	s := open(t, time.Minute)
	s.enter("run sleep 1000")
	s.awaitFront("sleep 1000")
	s.sendText(ctrlZ)
	s.expect(`\[suspending\]`)
	s.expect(`Stopped +run sleep 1000`)
	s.expect(regexp.QuoteMeta(prompt))
	s.awaitState("sleep 1000", "T")
	s.enter("fg")
	s.expect(`\[resumed\]`)
	s.awaitFront("sleep 1000")
	s.awaitState("sleep 1000", "S")
	// In the background it goes on without the terminal.
	s.sendText(ctrlZ)
	s.expect(`Stopped +run sleep 1000`)
	s.enter("bg")
	s.expect(`\[resumed\]`)
	s.awaitState("sleep 1000", "S")
	s.enter("fg")
	s.expect("run sleep 1000")
	s.enter("")
	s.sendText(ctrlC)
	s.wantPrompt("130")
}

// A script around it stops, too: the terminal would have told it.
func TestStopInScript(t *testing.T) {
	t.Parallel()
	s := open(t, time.Minute)
	s.enter("bash -c 'run sleep 1000; echo went on'")
	s.awaitFront("sleep 1000")
	s.sendText(ctrlZ)
	s.expect(`Stopped +bash -c`)
	s.enter("fg")
	s.expect(`\[resumed\]`)
	s.awaitFront("sleep 1000")
	s.sendText(ctrlC)
	s.wantPrompt("130")
}

// Who is stopped and sent into the background while the command has the terminal does
// not take it from the shell in the end.
func TestStoppedByOthers(t *testing.T) {
	t.Parallel()
	s := open(t, time.Minute)
	s.enter(`run sh -c 'while ! [ -e "$LOCKRUN_TEST_DIR/go" ]; do sleep 0.02; done'`)
	s.awaitFront(`sh -c while ! [ -e "$LOCKRUN_TEST_DIR/go" ]; do sleep 0.02; done`)
	for _, pid := range s.processes() {
		if exe, _ := os.Readlink(filepath.Join("/proc", itoa(pid), "exe")); exe == self(t) {
			require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
		}
	}
	s.expect(`Stopped`)
	s.expect(regexp.QuoteMeta(prompt))
	s.enter("bg")
	s.expect(`run sh .*&`)
	s.expect(regexp.QuoteMeta(prompt))
	s.file("go")
	require.Eventually(t, func() bool { return len(s.processes()) == 1 }, patience, 5*time.Millisecond, "the shell is left")
	s.control(func(fd int) { assert.Equal(t, s.cmd.Process.Pid, frontOf(fd)) })
	s.enter("wait; echo over")
	s.expect(`\nover`)
	s.wantPrompt("0")
}

// Where the command does not have the terminal, Ctrl-Z stops both all the same, and
// whoever else is in the pipeline.
func TestStopInPipeline(t *testing.T) {
	t.Parallel()
	s := open(t, time.Minute)
	s.enter("run sleep 1000 | cat")
	s.awaitState("sleep 1000", "S")
	s.sendText(ctrlZ)
	s.expect(`Stopped +run sleep 1000 \| cat`)
	s.awaitState("sleep 1000", "T")
	s.enter("fg")
	s.expect(`\[resumed\]`)
	s.awaitState("sleep 1000", "S")
	s.sendText(ctrlC)
	s.wantPrompt("130")
}

// The lease is checked before the command is continued: it never takes another step
// when the lock is gone.
func TestStopThenLost(t *testing.T) {
	t.Parallel()
	s := open(t, time.Minute)
	s.enter(`run bash -c 'trap "echo tidy; exit" TERM; exec 2>/dev/null; while :; do echo tick >>"$LOCKRUN_TEST_DIR/ticks"; sleep 0.01; done'`)
	ticks := func() int {
		text, _ := os.ReadFile(filepath.Join(s.dir, "ticks"))
		return strings.Count(string(text), "tick")
	}
	require.Eventually(t, func() bool { return ticks() > 3 }, patience, time.Millisecond)
	s.sendText(ctrlZ)
	s.expect(`Stopped`)
	s.expect(regexp.QuoteMeta(prompt))
	before := ticks()
	s.file("deny")
	s.enter("fg")
	s.expect(`\[ending\]\r\n(tidy\r\n)?\[lost: denied; 0\]`)
	s.wantPrompt("76")
	assert.LessOrEqual(t, ticks(), before+1, "at most what was under way")
	assert.NotContains(t, s.out.String(), "[resumed]")
}

// A command in a pipeline, or in the background, gets the terminal when it asks.
func TestAsksForTheTerminal(t *testing.T) {
	t.Parallel()
	s := open(t, time.Minute)
	s.enter(`run sh -c 'read a; echo got $a' | cat`)
	s.awaitFront("sh -c read a; echo got $a")
	s.enter("first")
	s.expect("got first")
	s.wantPrompt("0")
	s.enter(`echo piped | run sh -c 'read a; read b </dev/tty; echo got $a $b'`)
	s.awaitFront("sh -c read a; read b </dev/tty; echo got $a $b")
	s.enter("second")
	s.expect("got piped second")
	s.wantPrompt("0")
	s.enter(`run sh -c 'read a </dev/tty; echo got $a' &`)
	s.expect(`\[suspending\]`)
	s.awaitState("run sh -c read a </dev/tty; echo got $a", "T")
	// The shell continues only what it knows to have stopped.
	require.Eventually(t, func() bool {
		s.enter("jobs")
		return strings.Contains(s.expect(`\[1\]\+  \w+`), "Stopped")
	}, patience, 10*time.Millisecond)
	s.enter("fg")
	s.awaitFront("sh -c read a </dev/tty; echo got $a")
	s.enter("third")
	s.expect("got third")
	s.wantPrompt("0")
	// Another member of the pipeline has it for as long as the command does not ask.
	s.enter(`run sh -c 'echo data; sleep 0.2' | sh -c 'read d; read a </dev/tty; echo pager got $a'`)
	s.awaitState("sh -c read d; read a </dev/tty; echo pager got $a", "S")
	s.enter("a key")
	s.expect("pager got a key")
	s.wantPrompt("0")
	// Changing the modes asks, too.
	s.enter(`run sh -c 'stty -echo; stty echo; echo changed' | cat`)
	s.expect(`\nchanged`)
	s.wantPrompt("0")
}

// Losing the lock ends an interactive shell, which ignores SIGTERM, with its jobs,
// which have groups of their own; messages pass though the terminal stops writers in
// the background.
func TestShellLost(t *testing.T) {
	t.Parallel()
	for name, jobs := range map[string]string{"at its prompt": "", "as it starts": "none", "in a pipeline": "| cat", "with a job": "sleep 1000", "with a stopped job": "sleep 1001 & sleep 0.1; kill -STOP %1; sleep 1000"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, time.Minute)
			tail := ""
			if strings.HasPrefix(jobs, "|") {
				// It has the terminal because it asked.
				tail = jobs + "; (exit ${PIPESTATUS[0]})"
			}
			s.enter("stty tostop; PS1='INNER> ' run bash --norc --noprofile -i " + tail)
			if jobs != "none" {
				s.expect("\nINNER> ")
			}
			if strings.HasSuffix(jobs, "sleep 1000") {
				s.enter(jobs)
				s.awaitFront("sleep 1000")
			}
			s.file("lost")
			s.expect(`\[ending\]`)
			s.expect(`\[lost: the lock was taken; \d+\]`)
			s.wantPrompt("76")
			s.enter("exit")
			s.wantNone()
		})
	}
}

// What is ended by force leaves the terminal as it was.
func TestModesAreRestored(t *testing.T) {
	t.Parallel()
	s := open(t, 200*time.Millisecond)
	s.enter(`run sh -c 'trap "" TERM; stty raw -echo; echo se''t; exec sleep 1000'`)
	s.expect(`\nset`)
	s.file("lost")
	s.expect(`\[killing\]`)
	s.wantPrompt("76")
}

// A terminal that hangs up takes the command along.
func TestHangup(t *testing.T) {
	t.Parallel()
	s := open(t, time.Minute)
	s.enter("run sleep 1000")
	s.awaitFront("sleep 1000")
	s.tty.Close()
	s.wantNone()
}

// Size changes reach the command, whoever has the terminal.
func TestResize(t *testing.T) {
	t.Parallel()
	for _, tail := range []string{"", " | cat"} {
		s := open(t, time.Minute)
		s.enter(`run bash -c 'trap "stty size </dev/tty; exit" WINCH; echo waiting; while :; do sleep 0.02; done'` + tail)
		s.expect(`\nwaiting`)
		s.control(func(fd int) {
			assert.NoError(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77}))
		})
		s.expect("33 77")
		s.wantPrompt("0")
	}
}
