//go:build pausepoints && linux

package pause

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const envChild = "PAUSE_TEST_CHILD"

// In a child, every line on stdin is a point to pass, and "passed" is the answer.
func TestMain(m *testing.M) {
	if os.Getenv(envChild) == "" {
		os.Exit(m.Run())
	}
	if err := Check(); err != nil {
		fmt.Println("refused:", err)
		os.Exit(3)
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		At(Point(in.Text()))
		fmt.Println("passed", in.Text())
	}
	os.Exit(0)
}

type child struct {
	*testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	dir string
}

func start(t *testing.T, actions string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{T: t, dir: t.TempDir(), cmd: exec.CommandContext(t.Context(), exe)}
	c.cmd.Env = append(os.Environ(), envChild+"=1", EnvActions+"="+actions, EnvDir+"="+c.dir)
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *child) pass(p Point) {
	c.Helper()
	if _, err := fmt.Fprintln(c.in, p); err != nil {
		c.Fatal(err)
	}
}

func (c *child) passed(p Point) {
	c.Helper()
	if line, err := c.out.ReadString('\n'); err != nil || line != "passed "+string(p)+"\n" {
		c.Fatalf("child said %q, %v; want passed %s", line, err, p)
	}
}

func (c *child) touch(name string) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), nil, 0o600); err != nil {
		c.Fatal(err)
	}
}

func (c *child) exists(name string) bool {
	_, err := os.Stat(filepath.Join(c.dir, name))
	return err == nil
}

func (c *child) await(name string, there bool) {
	c.Helper()
	for deadline := time.Now().Add(20 * time.Second); c.exists(name) != there; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.Fatalf("%s: exists is not %v after 20 s", name, there)
		}
	}
}

// stopped returns when the kernel reports the child as stopped, then lets it go on.
func (c *child) stopped() {
	c.Helper()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(c.cmd.Process.Pid, &ws, unix.WUNTRACED, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || !ws.Stopped() {
			c.Fatalf("wait4: %v, status %#x; want stopped", err, ws)
		}
		break
	}
	if err := unix.Kill(c.cmd.Process.Pid, unix.SIGCONT); err != nil {
		c.Fatal(err)
	}
}

func (c *child) ends() {
	c.Helper()
	c.in.Close()
	if rest, _ := io.ReadAll(c.out); len(rest) != 0 {
		c.Errorf("child said more: %q", rest)
	}
	if err := c.cmd.Wait(); err != nil {
		c.Errorf("child: %v", err)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	c := start(t, "BeforeCommit=stop@2")
	c.pass(BeforeCommit)
	c.passed(BeforeCommit)
	c.pass(AfterCommit)
	c.passed(AfterCommit)
	c.pass(BeforeCommit)
	c.stopped()
	if !c.exists("BeforeCommit.hit") {
		t.Error("no .hit file at a stop")
	}
	c.passed(BeforeCommit)
	c.pass(BeforeCommit)
	c.passed(BeforeCommit)
	c.ends()
}

func TestKill(t *testing.T) {
	t.Parallel()
	c := start(t, "AfterUpload=kill")
	c.pass(BeforeUpload)
	c.passed(BeforeUpload)
	c.pass(AfterUpload)
	if rest, _ := io.ReadAll(c.out); len(rest) != 0 {
		t.Errorf("a killed process went on: %q", rest)
	}
	var exit *exec.ExitError
	if err := c.cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(interface{ Signal() unix.Signal }).Signal() != unix.SIGKILL {
		t.Errorf("child: %v, want killed", err)
	}
	if !c.exists("AfterUpload.hit") {
		t.Error("no .hit file at a kill")
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	c := start(t, "BeforeAnswer=wait")
	c.pass(BeforeAnswer)
	c.await("BeforeAnswer.hit", true)
	c.touch("BeforeAnswer.go")
	c.passed(BeforeAnswer)
	if c.exists("BeforeAnswer.go") || c.exists("BeforeAnswer.hit") {
		t.Error("files are left after a wait")
	}
	c.pass(BeforeAnswer)
	c.passed(BeforeAnswer)
	c.ends()
}

func TestLazy(t *testing.T) {
	t.Parallel()
	c := start(t, "BeforeRaise=wait?,AfterRaise=stop?@2")
	for range 3 {
		c.pass(BeforeRaise)
		c.passed(BeforeRaise)
	}
	for range 2 { // armed again after it fired
		c.touch("BeforeRaise.arm")
		c.pass(BeforeRaise)
		c.await("BeforeRaise.hit", true)
		if c.exists("BeforeRaise.arm") {
			t.Error(".arm is left after firing")
		}
		c.touch("BeforeRaise.go")
		c.passed(BeforeRaise)
		c.pass(BeforeRaise)
		c.passed(BeforeRaise)
	}
	c.pass(AfterRaise) // not armed: must not count
	c.passed(AfterRaise)
	c.touch("AfterRaise.arm")
	c.pass(AfterRaise)
	c.passed(AfterRaise)
	c.pass(AfterRaise)
	c.stopped()
	c.passed(AfterRaise)
	c.ends()
}

func TestLazyFiresOnceAmongMany(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plan, err := parse("CollectDelete=stop?", dir)
	if err != nil {
		t.Fatal(err)
	}
	a := plan[CollectDelete][0]
	if err := os.WriteFile(a.file(".arm"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var fired atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if a.due() {
				fired.Add(1)
			}
		})
	}
	wg.Wait()
	if fired.Load() != 1 {
		t.Errorf("fired %d times, want 1", fired.Load())
	}
}

func TestBadEnvironmentIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, tc := range map[string]struct{ spec, dir, want string }{
		"no action":      {"BeforeCommit", dir, "want point=action"},
		"unknown point":  {"BeforeLunch=stop", dir, "no such point"},
		"unknown action": {"BeforeCommit=sleep", dir, `no such action "sleep"`},
		"count zero":     {"BeforeCommit=stop@0", dir, "count from 1"},
		"count word":     {"BeforeCommit=stop@two", dir, "count from 1"},
		"order":          {"BeforeCommit=stop@2?", dir, "count from 1"},
		"wait needs dir": {"BeforeCommit=wait", "", EnvDir},
		"lazy needs dir": {"BeforeCommit=stop?", "", EnvDir},
		"dir is missing": {"BeforeCommit=stop", dir + "/none", "not a directory"},
		"empty item":     {"BeforeCommit=stop,", dir, "want point=action"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := parse(tc.spec, tc.dir); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("parse(%q) = %v, want %q", tc.spec, err, tc.want)
			}
		})
	}
	c := start(t, "Nowhere=stop")
	if line, _ := c.out.ReadString('\n'); !strings.HasPrefix(line, "refused: ") {
		t.Errorf("child said %q, want refused", line)
	}
	if err := c.cmd.Wait(); err == nil {
		t.Error("child started with an unknown point")
	}
}

func TestHooks(t *testing.T) {
	t.Parallel()
	const p = GuardPending // no other test here passes it
	var first, second atomic.Int64
	t.Run("set", func(t *testing.T) {
		Set(t, p, func() { first.Add(1) })
		Set(t, p, func() {
			if first.Load() == 0 {
				t.Error("the second hook ran before the first")
			}
			second.Add(1)
		})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				At(p)
				Set(t, GuardActivate, func() {})
				At(GuardActivate)
			})
		}
		wg.Wait()
	})
	At(p)
	if first.Load() != 8 || second.Load() != 8 {
		t.Errorf("hooks ran %d and %d times, want 8 each: clean-up must remove them", first.Load(), second.Load())
	}
}

func TestPointsAreDistinct(t *testing.T) {
	t.Parallel()
	seen := make(map[Point]bool)
	for _, p := range Points() {
		if seen[p] || p == "" {
			t.Errorf("%q twice or empty", p)
		}
		seen[p] = true
	}
}
