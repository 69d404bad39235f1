package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asWith makes the test binary the command under test.
const asWith = "S3FENCE_AS_WITH"

func TestMain(m *testing.M) {
	if os.Getenv(asWith) != "" {
		main()
	}
	os.Exit(m.Run())
}

func with(t *testing.T, dsn, script string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "sh", "-c", script)
	cmd.Env = append(os.Environ(), asWith+"=1", "S3FENCE_TEST_POSTGRES="+dsn)
	return cmd
}

func TestLendsAServerAndPassesTheStatusOn(t *testing.T) {
	t.Parallel()
	out, err := with(t, "", `echo "$S3FENCE_TEST_POSTGRES"; exit 7`).Output()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 7, exit.ExitCode())
	require.Regexp(t, `^postgres://s3fence@127\.0\.0\.1:\d+/postgres`, string(out))
}

func TestKeepsTheServerThatIsGiven(t *testing.T) {
	t.Parallel()
	out, err := with(t, "postgres://elsewhere/", `echo "$S3FENCE_TEST_POSTGRES"`).Output()
	require.NoError(t, err)
	require.Equal(t, "postgres://elsewhere/\n", string(out))
}

func TestEndsWithItsParent(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	// The shell in between is killed once the command runs.
	shell := exec.CommandContext(t.Context(), "sh", "-c", `"$0" sh -c 'echo $$; sleep 1000; :'; :`, self)
	shell.Env = append(os.Environ(), asWith+"=1", "S3FENCE_TEST_POSTGRES=postgres://elsewhere/")
	stdout, err := shell.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, shell.Start())
	_, err = bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, shell.Process.Kill())
	// The pipe ends when the last of them has.
	_, _ = io.Copy(io.Discard, stdout)
	require.Error(t, shell.Wait())
}

func TestEndsWhatTheCommandLeftBehind(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		told   bool
		want   int
	}{
		"after it ended":          {`sleep 1000 >/dev/null 2>&1 & echo $!`, false, 0},
		"after an interruption":   {`sleep 1000 >/dev/null 2>&1 & echo $!; wait`, true, 128 + 15},
		"that will not be told":   {`trap '' TERM; sleep 1000 >/dev/null 2>&1 & echo $!; wait`, true, 128 + 9},
		"after a killed command":  {`sleep 1000 >/dev/null 2>&1 & echo $!; kill -9 $$`, false, 128 + 9},
		"after a failing command": {`sleep 1000 >/dev/null 2>&1 & echo $!; false`, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := with(t, "postgres://elsewhere/", c.script)
			stdout, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			line, err := bufio.NewReader(stdout).ReadString('\n')
			require.NoError(t, err)
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			require.NoError(t, err)
			if c.told {
				require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			}
			_, _ = io.Copy(io.Discard, stdout)
			_ = cmd.Wait()
			require.Equal(t, c.want, cmd.ProcessState.ExitCode())
			require.Eventually(t, func() bool {
				stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
				return err != nil || strings.Contains(string(stat), ") Z ")
			}, time.Minute, 10*time.Millisecond)
		})
	}
}
