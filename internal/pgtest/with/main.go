// Command with runs another command and lends it a PostgreSQL server for as
// long as it runs:
//
//	with go test ./...
//
// The command finds the server's DSN in S3FENCE_TEST_POSTGRES, so that all test
// processes below it share one. Where that is set already, no server is started.
// The exit status is the command's own, 128+n where signal n ended it.
//
// The command runs in a process group of its own. What of that group is left
// when the command ends, or five seconds after this program was told to end, is
// killed; it is told to end, too, when its parent dies: no test binary outlives an interrupted run.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/s3fence/s3fence/internal/pgtest"
)

func init() {
	// Told to end also when whoever started this is killed. The request belongs
	// to the thread that makes it: keep it for main.
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0)
}

// grace is how long a command may go on after it was told to end.
const grace = 5 * time.Second

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: with COMMAND [ARGUMENT]...")
		os.Exit(2)
	}
	status, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "with:", err)
	}
	os.Exit(status)
}

func run(command []string) (status int, err error) {
	told := make(chan os.Signal, 4)
	signal.Notify(told, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	env := os.Environ()
	if os.Getenv(pgtest.Environment) == "" {
		server, err := pgtest.Open(pgtest.Options{})
		if err != nil {
			return 1, err
		}
		defer func() {
			if closing := server.Close(); closing != nil {
				status, err = max(status, 1), errors.Join(err, closing)
			}
		}()
		env = append(env, pgtest.Environment+"="+server.DSN("postgres"))
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdin, os.Stdout, os.Stderr, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return 127, err
	}
	group := -cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var last <-chan time.Time
	for {
		select {
		case sig := <-told:
			_ = syscall.Kill(group, sig.(syscall.Signal))
			if last == nil {
				last = time.After(grace)
			}
		case <-last:
			_ = syscall.Kill(group, syscall.SIGKILL)
		case err := <-ended:
			_ = syscall.Kill(group, syscall.SIGKILL)
			return exitStatus(err)
		}
	}
}

// exitStatus is what a shell would say of a command that ended with err.
func exitStatus(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}
