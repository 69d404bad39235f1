package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Examples runs the examples that people copy, from a copy of their folder, so
// that nothing is left in the checkout and nothing outside of it is needed.
type Examples struct {
	proxy *Proxy
	dir   string
}

// Examples copies the folder examples for clients of this proxy.
func (p *Proxy) Examples(t testing.TB) *Examples {
	t.Helper()
	e := &Examples{proxy: p, dir: t.TempDir()}
	if err := os.CopyFS(e.dir, os.DirFS(filepath.Join("..", "examples"))); err != nil {
		t.Fatal(err)
	}
	return e
}

// Env is the environment that README.md of the examples asks for: s3fence in
// PATH, and the block that dev prints.
func (e *Examples) Env(t testing.TB) map[string]string {
	t.Helper()
	env := e.proxy.clientEnv()
	delete(env, "S3FENCE_ENDPOINT")
	env["PATH"] = filepath.Dir(Binary(t, Plain)) + string(os.PathListSeparator) + os.Getenv("PATH")
	env["PYTHONDONTWRITEBYTECODE"] = "1"
	return env
}

// Run runs a command in a folder of the examples.
func (e *Examples) Run(t testing.TB, folder, name string, args ...string) Output {
	t.Helper()
	return e.RunWith(t, nil, folder, name, args...)
}

// RunWith is Run with more environment. A name with a slash is a file of the
// folder; s3fence is the program under test.
func (e *Examples) RunWith(t testing.TB, env map[string]string, folder, name string, args ...string) Output {
	t.Helper()
	all := e.Env(t)
	maps.Copy(all, env)
	dir := filepath.Join(e.dir, folder)
	switch {
	case name == "s3fence":
		name = Binary(t, Plain)
	case filepath.Base(name) != name && !filepath.IsAbs(name):
		name = filepath.Join(dir, name)
	}
	return command(t, dir, environment(t.TempDir(), all), "", name, args...)
}

// exampleProgram builds a Go program of the examples, with the race detector,
// whose packages this test was built of.
func exampleProgram(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(name))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", path, "./examples/"+name)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return path
}

// Fenced takes a lock and returns the lines that give a shell its fenced
// credentials.
func (e *Examples) Fenced(t testing.TB, scope string) string {
	t.Helper()
	return e.Run(t, ".", "s3fence", "lock", "acquire", scope, "--env", "--owner", "frozen@host").Must(t)
}

// RunFenced is Run in a shell that evaluated what Fenced returned.
func (e *Examples) RunFenced(t testing.TB, exports, folder, name string, args ...string) Output {
	t.Helper()
	return e.Run(t, folder, "sh", append([]string{"-c", exports + "\n" + `exec "$@"`, "sh", name}, args...)...)
}

// Interactive is a running command that waits for its input.
type Interactive struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer
	cancel context.CancelFunc
}

// StartFenced starts a command as RunFenced does, with exports or without, and
// returns once it has written a line.
func (e *Examples) StartFenced(t testing.TB, exports, folder, name string, args ...string) *Interactive {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandWait)
	t.Cleanup(cancel)
	i := &Interactive{cmd: exec.CommandContext(ctx, "sh", append([]string{"-c", exports + "\n" + `exec "$@"`, "sh", name}, args...)...), cancel: cancel}
	i.cmd.Dir, i.cmd.Env = filepath.Join(e.dir, folder), environment(t.TempDir(), e.Env(t))
	i.cmd.Stderr, i.cmd.WaitDelay = &i.stderr, 5*time.Second
	stdout, err := i.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if i.stdin, err = i.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		cancel()
		_ = i.cmd.Wait()
		t.Fatalf("%s %v: %v, without a line; it said\n%s", name, args, err, clip(i.stderr.String()))
	}
	return i
}

// End gives the command its input, waits for its end and returns its exit code and
// standard error.
func (i *Interactive) End(t testing.TB, input string) (code int, said string) {
	t.Helper()
	defer i.cancel()
	if _, err := io.WriteString(i.stdin, input); err != nil {
		t.Fatal(err)
	}
	if err := i.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := i.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return i.cmd.ProcessState.ExitCode(), i.stderr.String()
}
