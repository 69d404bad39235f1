package e2e

import (
	"bytes"
	"crypto/rand"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Running is s3fence as a client, running: lock run above all. All of its processes
// have a mark in their environment.
type Running struct {
	t         testing.TB
	cmd       *exec.Cmd
	mark      string
	done      chan struct{}
	Dir       string
	Out, Errs *Written
}

// Written is what a program has written so far.
type Written struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *Written) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *Written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// Begin starts s3fence as a client of the proxy, in a folder and a session of its own.
func (p *Proxy) Begin(t testing.TB, env map[string]string, args ...string) *Running {
	t.Helper()
	name, mark := "S3FENCE_TEST_MARK", rand.Text()
	r := &Running{t: t, mark: name + "=" + mark, done: make(chan struct{}), Dir: t.TempDir(), Out: &Written{}, Errs: &Written{}}
	all := p.clientEnv()
	maps.Copy(all, env)
	all[name] = mark
	r.cmd = exec.Command(Binary(t, p.cluster.options.Build), args...)
	r.cmd.Dir, r.cmd.Env = r.Dir, environment(r.Dir, all)
	r.cmd.Stdout, r.cmd.Stderr = r.Out, r.Errs
	r.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	r.cmd.WaitDelay = 5 * time.Second
	require.NoError(t, r.cmd.Start())
	go func() {
		_ = r.cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		for _, pid := range r.Processes() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		<-r.done
		if t.Failed() {
			t.Logf("s3fence %s\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), clip(r.Out.String()), clip(r.Errs.String()))
		}
	})
	return r
}

// Processes are all that run with the mark, zombies left out.
func (r *Running) Processes() []int {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	var found []int
	for _, path := range all {
		if env, err := os.ReadFile(path); err == nil && bytes.Contains(env, []byte(r.mark)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			found = append(found, pid)
		}
	}
	return found
}

// Wait waits for the end and returns the exit code.
func (r *Running) Wait() int {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(commandWait):
		r.t.Fatalf("s3fence did not end within %v", commandWait)
	}
	return r.cmd.ProcessState.ExitCode()
}

// Await waits until something is written that a pattern matches.
func (r *Running) Await(w *Written, pattern string) string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	var found string
	require.Eventually(r.t, func() bool {
		found = re.FindString(w.String())
		return found != ""
	}, callWait, 5*time.Millisecond, "%s is not written", pattern)
	return found
}

// Signal sends a signal to s3fence alone.
func (r *Running) Signal(sig unix.Signal) {
	r.t.Helper()
	require.NoError(r.t, r.cmd.Process.Signal(sig))
}

// Touch makes a file in the folder.
func (r *Running) Touch(name string) {
	r.t.Helper()
	require.NoError(r.t, os.WriteFile(filepath.Join(r.Dir, name), nil, 0o600))
}
