package pgtest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/internal/pgtest"
)

// victim makes the test binary itself the process to be killed: it starts
// servers, prints their whereabouts and waits.
const victim = "S3FENCE_PGTEST_VICTIM"

func TestMain(m *testing.M) {
	if os.Getenv(victim) != "" {
		beVictim()
	}
	goleak.VerifyTestMain(m)
}

func beVictim() {
	for _, pause := range []bool{false, true} {
		server, err := pgtest.Open(pgtest.Options{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		// A backend that works without looking up, and one that idles.
		busy, err := pgx.Connect(context.Background(), server.DSN("postgres"))
		if err == nil {
			_, err = pgx.Connect(context.Background(), server.DSN("postgres"))
		}
		if err == nil && pause {
			err = server.Pause()
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		go func() { _, _ = busy.Exec(context.Background(), "SELECT count(*) FROM generate_series(1, 1e12)") }()
		fmt.Println(server.SocketDSN("postgres"))
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
	os.Exit(1)
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestDSNGivesEachTestItsOwnEmptyDatabase(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			conn := connect(t, pgtest.DSN(t))
			_, err := conn.Exec(t.Context(), "CREATE TABLE only_mine (n int)")
			require.NoError(t, err)
			var limit, fsync string
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting('max_connections'), current_setting('fsync')").Scan(&limit, &fsync))
			if os.Getenv(pgtest.Environment) == "" {
				require.Equal(t, "300", limit)
				require.Equal(t, "off", fsync)
			}
		})
	}
}

func TestDSNDropsTheDatabaseEvenWhileConnected(t *testing.T) {
	t.Parallel()
	watcher := connect(t, pgtest.DSN(t))
	var dsn string
	t.Run("user", func(t *testing.T) {
		dsn = pgtest.DSN(t)
		conn, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		require.NoError(t, conn.Ping(t.Context()))
	})
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	var count int
	require.NoError(t, watcher.QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname = $1", config.Database).Scan(&count))
	require.Zero(t, count)
}

func TestServerStopsAndStartsOnItsOldPort(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Durable: true, Settings: map[string]string{"max_connections": "17"}})
	conn := connect(t, server.DSN("postgres"))
	var limit, fsync string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting('max_connections'), current_setting('fsync')").Scan(&limit, &fsync))
	require.Equal(t, "17", limit)
	require.Equal(t, "on", fsync)
	_, err := conn.Exec(t.Context(), "CREATE TABLE kept (n int)")
	require.NoError(t, err)

	for i, stop := range []func() error{
		func() error { return server.Stop(pgtest.Fast) },
		func() error { return server.Stop(pgtest.Immediate) },
		server.Kill,
		func() error { return errors.Join(server.Pause(), server.Kill()) },
	} {
		held := connect(t, server.SocketDSN("postgres"))
		_, err := connect(t, server.DSN("postgres")).Exec(t.Context(), "INSERT INTO kept VALUES ($1)", i)
		require.NoError(t, err)
		require.NoError(t, stop())
		require.Error(t, held.Ping(t.Context()), "a session outlived stop %d", i)
		_, err = pgx.Connect(t.Context(), server.DSN("postgres"))
		require.Error(t, err, "the stopped server accepts connections after stop %d", i)
		require.NoError(t, server.Start())
		var count int
		require.NoError(t, connect(t, server.DSN("postgres")).QueryRow(t.Context(), "SELECT count(*) FROM kept").Scan(&count))
		require.Equal(t, i+1, count)
	}
}

func TestPausedServerAnswersAfterResume(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{})
	conn := connect(t, server.DSN("postgres"))
	require.NoError(t, server.Pause())
	answer := make(chan error, 1)
	go func() { answer <- conn.Ping(context.Background()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := pgx.Connect(ctx, server.DSN("postgres"))
	require.ErrorIs(t, err, context.DeadlineExceeded, "a paused server took a new client")
	select {
	case err := <-answer:
		t.Fatalf("a paused server answered: %v", err)
	default:
	}
	require.NoError(t, server.Resume())
	require.NoError(t, <-answer)
}

func TestStopRefusesAnUnknownMode(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{})
	require.ErrorContains(t, server.Stop("gently"), "gently")
}

func TestStartTellsWhatTheServerSaid(t *testing.T) {
	t.Parallel()
	_, err := pgtest.Open(pgtest.Options{Settings: map[string]string{"no_such_setting": "1"}})
	require.ErrorContains(t, err, `unrecognized configuration parameter "no_such_setting"`)
}

func TestBouncerPoolsTransactions(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Bouncer(t, pgtest.DSN(t)) + "&default_query_exec_mode=exec"
	// More clients than the pool has server connections, all idle in session:
	// possible only where a server connection is held for a transaction alone.
	var backends = map[int]bool{}
	for range 40 {
		conn := connect(t, dsn)
		var pid int
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
		backends[pid] = true
	}
	require.LessOrEqual(t, len(backends), 20)
}

// Nothing may stay behind when the test binary is killed: not the servers, one
// of them frozen, not busy backends, not the files.
func TestKilledTestProcessLeavesNothing(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), victim+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var folders []string
	for lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() != "ready"; {
		config, err := pgx.ParseConfig(lines.Text())
		require.NoError(t, err)
		folders = append(folders, config.Host)
	}
	require.Len(t, folders, 2)
	for _, folder := range folders {
		require.NotEmpty(t, processes(folder))
	}
	// The whole process group: the watcher must have one of its own.
	require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	_, _ = io.Copy(io.Discard, stdout)
	require.Error(t, cmd.Wait())
	for _, folder := range folders {
		require.Eventually(t, func() bool { return len(processes(folder)) == 0 }, time.Minute, 20*time.Millisecond,
			"processes outlive the test process")
		require.Eventually(t, func() bool { _, err := os.Stat(folder); return errors.Is(err, os.ErrNotExist) }, time.Minute, 20*time.Millisecond,
			"files outlive the test process")
	}
}

// processes lists those that have folder in their command line or work in it.
func processes(folder string) []string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, entry := range entries {
		line, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if err != nil {
			continue
		}
		cwd, _ := os.Readlink("/proc/" + entry.Name() + "/cwd")
		if bytes.Contains(line, []byte(folder)) || strings.HasPrefix(cwd, folder) {
			found = append(found, entry.Name()+" "+string(line))
		}
	}
	return found
}
