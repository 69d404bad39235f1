package lockrun

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// lostCode is what the program of these tests exits with once the lock is lost.
const lostCode = 76

// TestMain is also the program under test: this package's Run with a lock that is
// lost when a file appears.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOCKRUN_TEST_DIR"); dir != "" {
		os.Exit(program(dir, os.Args[1:]))
	}
	os.Exit(m.Run())
}

func program(dir string, args []string) int {
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
	path, err := Look(args[0])
	held, lose := context.WithCancelCause(context.Background())
	go func() {
		for !there("lost") {
			time.Sleep(2 * time.Millisecond)
		}
		lose(errors.New("the lock was taken"))
	}()
	grace, _ := time.ParseDuration(os.Getenv("LOCKRUN_TEST_GRACE"))
	names := map[EventKind]string{Suspending: "suspending", Resumed: "resumed", Halted: "halted", Ending: "ending", Killing: "killing"}
	var exit Exit
	if err == nil {
		exit, err = Run(&Command{
			Path: path, Args: args, Env: os.Environ(), Held: held, Grace: grace,
			Check: func(context.Context) error {
				if there("deny") {
					return errors.New("denied")
				}
				return nil
			},
			Tell: func(e Event) { fmt.Fprintf(os.Stderr, "[%s]\n", names[e.Kind]) },
		})
	}
	if failed, ok := errors.AsType[*StartError](err); ok {
		fmt.Fprintln(os.Stderr, failed)
		return failed.Code
	}
	if exit.Left > 0 {
		fmt.Fprintf(os.Stderr, "[left %d]\n", exit.Left)
	}
	if exit.Lost != nil {
		fmt.Fprintf(os.Stderr, "[lost: %v; %d]\n", exit.Lost, exit.Code)
		return lostCode
	}
	exit.Pass()
	return exit.Code
}

// job is the program under test, running a command. All of its processes can be
// found by a variable of their environment.
type job struct {
	t      *testing.T
	id     string
	dir    string
	env    []string
	cmd    *exec.Cmd
	out    output
	errs   output
	waited chan struct{}
}

// output grows while a program writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// prepare makes a job that is not started.
func prepare(t *testing.T, grace time.Duration) *job {
	t.Helper()
	j := &job{t: t, id: "LOCKRUN_TEST_ID=" + rand.Text(), dir: t.TempDir(), waited: make(chan struct{})}
	j.env = append(os.Environ(), j.id, "LOCKRUN_TEST_DIR="+j.dir, "LOCKRUN_TEST_GRACE="+grace.String())
	t.Cleanup(func() {
		for _, pid := range j.processes() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	return j
}

// begin starts a command under the program, in a session of its own: without a
// terminal.
func begin(t *testing.T, grace time.Duration, args ...string) *job {
	t.Helper()
	j := prepare(t, grace)
	j.cmd = exec.Command(self(t), args...)
	j.start()
	return j
}

func (j *job) start() {
	j.t.Helper()
	if j.cmd.Env == nil {
		j.cmd.Env = j.env
	}
	j.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	j.cmd.Stdout, j.cmd.Stderr = &j.out, &j.errs
	// Processes that are left hold the pipes open.
	j.cmd.WaitDelay = 200 * time.Millisecond
	require.NoError(j.t, j.cmd.Start())
	go func() {
		_ = j.cmd.Wait()
		close(j.waited)
	}()
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	return path
}

// wait waits for the program's end and returns its exit code, 128+n for signals.
func (j *job) wait() int {
	j.t.Helper()
	select {
	case <-j.waited:
	case <-time.After(patience):
		j.t.Fatalf("it did not end; it wrote %q and %q", j.out.String(), j.errs.String())
	}
	if s := j.cmd.ProcessState.Sys().(interface{ Signaled() bool }); s.Signaled() {
		return -1
	}
	return j.cmd.ProcessState.ExitCode()
}

// awaitOut and awaitErr wait until the command, or the program, has written something.
func (j *job) awaitOut(text string) { j.t.Helper(); await(j.t, &j.out, text) }
func (j *job) awaitErr(text string) { j.t.Helper(); await(j.t, &j.errs, text) }

func await(t *testing.T, o *output, text string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("written: %q", o)
		}
	}()
	require.Eventually(t, func() bool { return strings.Contains(o.String(), text) }, patience, 2*time.Millisecond, "%q was not written", text)
}

func (j *job) signal(sig unix.Signal) {
	j.t.Helper()
	require.NoError(j.t, unix.Kill(j.cmd.Process.Pid, sig))
}

// file makes the program lose its lock, or fail its check.
func (j *job) file(name string) {
	j.t.Helper()
	require.NoError(j.t, os.WriteFile(filepath.Join(j.dir, name), nil, 0o600))
}

// processes are all that run with the job's environment, zombies left out.
func (j *job) processes() []int {
	entries, err := os.ReadDir("/proc")
	require.NoError(j.t, err)
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if st, ok := statOf(pid); ok && st.state != 'Z' && bytes.Contains(env, []byte(j.id)) {
			found = append(found, pid)
		}
	}
	return found
}

// wantNone fails the test unless every process is gone.
func (j *job) wantNone() {
	j.t.Helper()
	require.Eventually(j.t, func() bool { return len(j.processes()) == 0 }, patience, 5*time.Millisecond, "processes are left")
}

// number reads a number that the command wrote after a word.
func (j *job) number(word string) int {
	j.t.Helper()
	j.awaitOut(word + "=")
	var n int
	require.Eventually(j.t, func() bool {
		_, after, _ := strings.Cut(j.out.String(), word+"=")
		line, _, whole := strings.Cut(after, "\n")
		var err error
		n, err = strconv.Atoi(line)
		return whole && err == nil
	}, patience, 2*time.Millisecond)
	return n
}

func itoa(n int) string { return strconv.Itoa(n) }
