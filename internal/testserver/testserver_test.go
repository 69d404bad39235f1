package testserver_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/s3fence/s3fence/internal/testserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// launch runs a shell script as a server and waits until it has said "ready".
func launch(t *testing.T, script string) *testserver.Process {
	t.Helper()
	folder, err := testserver.Folder("sh")
	require.NoError(t, err)
	p, err := testserver.Launch(testserver.Spec{
		Name: "script", Path: "/bin/sh", Args: []string{"-c", script},
		Env: []string{"PATH=/usr/bin:/bin"}, Dir: folder, Log: filepath.Join(folder, "log"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Kill()) })
	require.Eventually(t, func() bool { return p.Log() == "ready" || !p.Alive() }, 20*time.Second, time.Millisecond)
	return p
}

func TestKillEndsChildrenOfOtherSessionsToo(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*testserver.Process) error{
		"running": func(*testserver.Process) error { return nil },
		"frozen":  (*testserver.Process).Pause,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := launch(t, `setsid sleep 1000 & sleep 1000 & echo ready; wait`)
			require.Eventually(t, func() bool { pids, err := p.Pids(); return err == nil && len(pids) == 3 }, 20*time.Second, time.Millisecond)
			require.NoError(t, before(p))
			require.True(t, p.Alive())
			require.NoError(t, p.Kill())
			require.False(t, p.Alive())
			pids, err := p.Pids()
			require.NoError(t, err)
			require.Empty(t, pids)
		})
	}
}

func TestWaitExitSeesOrphans(t *testing.T) {
	t.Parallel()
	p := launch(t, `sleep 1000 & echo ready; exit 3`)
	require.Eventually(t, func() bool { return !p.Alive() }, 20*time.Second, time.Millisecond)
	require.ErrorContains(t, p.WaitExit(20*time.Millisecond), "still runs")
	require.NoError(t, p.Kill())
	require.NoError(t, p.WaitExit(time.Second))
	require.NoError(t, p.Signal(unix.SIGTERM), "a signal to an ended server is no error")
}

func TestPauseStopsAndResumeContinues(t *testing.T) {
	t.Parallel()
	p := launch(t, `trap 'echo told >told' USR1; echo ready; while :; do sleep 0.01; done`)
	pids, err := p.Pids()
	require.NoError(t, err)
	told := func() bool {
		cwd, err := os.Readlink("/proc/" + strconv.Itoa(pids[0]) + "/cwd")
		require.NoError(t, err)
		_, err = os.Stat(filepath.Join(cwd, "told"))
		return err == nil
	}
	require.NoError(t, p.Pause())
	require.NoError(t, p.Signal(unix.SIGUSR1))
	require.Never(t, told, 50*time.Millisecond, 5*time.Millisecond)
	require.NoError(t, p.Resume())
	require.Eventually(t, told, 20*time.Second, time.Millisecond)
}

func TestFolderIsReachableForTheServersUser(t *testing.T) {
	t.Parallel()
	folder, err := testserver.Folder("x")
	require.NoError(t, err)
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(folder, &stat))
	cred, err := testserver.Unprivileged()
	require.NoError(t, err)
	if os.Geteuid() == 0 {
		require.NotNil(t, cred)
		require.Equal(t, cred.Uid, stat.Uid)
		require.NotZero(t, stat.Uid)
	} else {
		require.Nil(t, cred)
	}
	require.LessOrEqual(t, len(folder)+len("/.s.PGSQL.65535"), 107, "no room for a Unix socket")
}

func TestFreePortLiesBelowTheOutgoingOnes(t *testing.T) {
	t.Parallel()
	port, err := testserver.FreePort()
	require.NoError(t, err)
	require.Less(t, port, 32768)
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	require.NoError(t, err)
	require.NoError(t, l.Close())
}
