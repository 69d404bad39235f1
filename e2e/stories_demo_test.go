package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/s3fence/s3fence/internal/testserver"
)

// demo is a running s3fence demo whose output is read line by line.
type demo struct {
	t         *testing.T
	temporary string
	cmd       *exec.Cmd
	out       io.ReadCloser
	lines     *bufio.Scanner
	said      strings.Builder
	errs      strings.Builder
}

// demoEnvironment makes a folder for temporary folders, where a demo works, and
// from where nothing else is found.
func demoEnvironment(t *testing.T, more map[string]string) (temporary string, env []string) {
	t.Helper()
	temporary = serverFolder(t, "demo")
	all := map[string]string{"TMPDIR": temporary}
	for name, value := range more {
		all[name] = value
	}
	return temporary, environment(temporary, all)
}

func startDemo(t *testing.T, args ...string) *demo {
	t.Helper()
	temporary, env := demoEnvironment(t, nil)
	d := &demo{t: t, temporary: temporary, cmd: exec.Command(Binary(t, Plain), append([]string{"demo"}, args...)...)}
	d.cmd.Env, d.cmd.Dir, d.cmd.Stderr = env, t.TempDir(), &d.errs
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var err error
	d.out, err = d.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, d.cmd.Start())
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
	})
	d.lines = bufio.NewScanner(d.out)
	return d
}

// await reads until a line matches.
func (d *demo) await(pattern string) []string {
	d.t.Helper()
	p := regexp.MustCompile(pattern)
	for d.lines.Scan() {
		fmt.Fprintln(&d.said, d.lines.Text())
		if found := p.FindStringSubmatch(d.lines.Text()); found != nil {
			return found
		}
	}
	d.t.Fatalf("no line of the demo matches %s:\n%s\n%s", pattern, d.said.String(), d.errs.String())
	return nil
}

// end waits for the end, bounded, and returns the exit code.
func (d *demo) end() int {
	d.t.Helper()
	late := time.AfterFunc(commandWait, func() { _ = d.cmd.Process.Kill() })
	defer late.Stop()
	_, _ = io.Copy(&d.said, d.out)
	_ = d.cmd.Wait()
	return d.cmd.ProcessState.ExitCode()
}

// nothingIsLeft fails the test unless the demo's processes are gone, and its
// folder unless it had no time to remove it.
func nothingIsLeft(t *testing.T, temporary string, folderToo bool) {
	t.Helper()
	if folderToo {
		left, err := os.ReadDir(temporary)
		require.NoError(t, err)
		assert.Empty(t, left)
	}
	assert.Eventually(t, func() bool { return len(workingIn(t, temporary)) == 0 }, stopWait, 5*time.Millisecond,
		"processes that the demo started still run")
}

// workingIn lists the processes that work in a folder or below it.
func workingIn(t *testing.T, folder string) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(t, err)
	var found []string
	for _, link := range all {
		if at, err := os.Readlink(link); err == nil && strings.HasPrefix(at, folder) {
			found = append(found, filepath.Base(filepath.Dir(link)))
		}
	}
	return found
}

// What every run of the demo must have shown.
var demoShows = []string{
	`(?m)^Act 1: a lock in Redis, writes straight to the store$`,
	`### frozen \(SIGSTOP\) ###[\s\S]+wants the lock[\s\S]+### goes on \(SIGCONT\) ###\n.*writes monday: 200, saved`,
	`In the store now: monday\nCORRUPT: bob's line, tuesday, was answered 200 and is gone`,
	`(?m)^Act 2: a lock of s3fence, writes through s3fence$`,
	`writes monday: 412\s+StaleFencingToken: token 1 of\s+s3://demo/backups/ is stale: 2 was\s+granted to bob`,
	`In the store now: tuesday, monday\nINTACT: `,
	`Act 1: .*: CORRUPT\n +0s +(0.5|1)s[\s\S]+\nann +=+#+=*W=*\n  lease +\[-+\]\nbob +=*\.+=+W=*\n`,
	`Act 2: .*: INTACT\n +0s +(0.5|1)s[\s\S]+\nann +=+#+=*X=* +=+W=*\n`,
	`3  monday, written by ann: tuesday is gone`,
	`(?m)^Next$`,
}

// The demo in a pipe, with a real Redis: what it says is plain text, nothing is
// left behind, and of the Redis nothing but one key was touched.
func TestDemoWithRedis(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("redis-server")
	require.NoError(t, err, "install Debian's redis-server")
	folder := serverFolder(t, "redis")
	port, err := testserver.FreePort()
	require.NoError(t, err)
	server, err := testserver.Launch(testserver.Spec{
		Name: "redis-server", Path: path, Dir: folder, Log: filepath.Join(folder, "log"),
		Args: []string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", "hunter2"},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Kill()) })
	url := fmt.Sprintf("redis://:hunter2@127.0.0.1:%d/3", port)
	var conn redis.Conn
	require.Eventually(t, func() bool {
		conn, err = redis.DialURL(url)
		return err == nil
	}, readyWait, 5*time.Millisecond, "Redis does not answer")
	defer conn.Close()
	_, err = conn.Do("SET", "somebody's", "value")
	require.NoError(t, err)

	temporary, env := demoEnvironment(t, map[string]string{"REDIS_URL": url})
	o := command(t, t.TempDir(), env, "", Binary(t, Plain), "demo")
	out := o.Must(t)
	for _, p := range demoShows {
		assert.Regexp(t, p, out)
	}
	assert.Regexp(t, fmt.Sprintf(`Redis \d\S+ at 127.0.0.1:%d; the key is deleted at the end.`, port), out)
	assert.NotContains(t, out, "hunter2")
	assert.Regexp(t, `^[ -~\n]*$`, out, "what is piped is plain")
	for line := range strings.Lines(out) {
		assert.LessOrEqual(t, len(line), 81, line)
	}
	assert.Empty(t, o.Stderr)
	nothingIsLeft(t, temporary, true)
	n, err := redis.Int(conn.Do("DBSIZE"))
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	v, err := redis.String(conn.Do("GET", "somebody's"))
	require.NoError(t, err)
	assert.Equal(t, "value", v)
}

// A Redis that REDIS_URL names and that is not there is told; the demo takes the
// next one.
func TestDemoWithoutThatRedis(t *testing.T) {
	t.Parallel()
	temporary, env := demoEnvironment(t, map[string]string{"REDIS_URL": "redis://:hunter2@127.0.0.1:1"})
	out := command(t, t.TempDir(), env, "", Binary(t, Plain), "demo").Must(t)
	for _, p := range demoShows {
		assert.Regexp(t, p, out)
	}
	assert.Contains(t, out, "the Redis of REDIS_URL is not usable")
	assert.NotContains(t, out, "hunter2")
	// Whoever has one on the usual port gets that.
	assert.Regexp(t, `Redis \d\S+(, started for this from \S*redis-server| at 127.0.0.1:6379)`, out)
	nothingIsLeft(t, temporary, true)

	o := command(t, t.TempDir(), env, "", Binary(t, Plain), "demo", "--redis", "redis://:hunter2@127.0.0.1:1")
	o.WantErr(t, 1, "the Redis of --redis is not usable")
	assert.NotContains(t, o.Stderr, "hunter2")
	nothingIsLeft(t, temporary, true)
	command(t, t.TempDir(), env, "", Binary(t, Plain), "demo", "--ttl", "1ms").WantErr(t, 2, "--ttl")
	command(t, t.TempDir(), env, "", Binary(t, Plain), "demo-worker").Want(t, 0)
	command(t, t.TempDir(), env, "{}", Binary(t, Plain), "demo-worker").WantErr(t, 1, "run that")
}

// On a terminal there is colour, and what goes on is drawn while nothing happens.
func TestDemoOnATerminal(t *testing.T) {
	t.Parallel()
	temporary, env := demoEnvironment(t, nil)
	out := command(t, t.TempDir(), env, "", "python3", terminal(t), "100", "", Binary(t, Plain), "demo", "--redis", "none").Must(t)
	nothingIsLeft(t, temporary, true)
	assert.Contains(t, out, "a stand-in inside this process plays it")
	assert.Contains(t, out, "\x1b[1;31mCORRUPT\x1b[0m: bob's line")
	assert.Contains(t, out, "\x1b[1;32mINTACT\x1b[0m: ann's late write")
	assert.Regexp(t, `\r\x1b\[K +\d\.\d\ds  \x1b\[1;34m░░░ frozen for 0\.\ds ░░░\x1b\[0m +\x1b\[33mwaits; the lease ends in 1\.\ds`, out)
	assert.Regexp(t, `ann\x1b\[0m +\x1b\[36m━+\x1b\[0m\x1b\[1;34m░{20,}\x1b\[0m`, out)
	last := out[strings.LastIndex(out, eraseLine)+len(eraseLine):]
	assert.Regexp(t, `^.*\n[\s\S]+What happened, to scale`, last, "the status is gone before the last lines")
	for line := range strings.SplitSeq(out, "\n") {
		for part := range strings.SplitSeq(line, eraseLine) {
			assert.LessOrEqual(t, len([]rune(sequences.ReplaceAllString(strings.TrimRight(part, "\r"), ""))), 100, "%q", part)
		}
	}
}

const eraseLine = "\r\x1b[K"

var sequences = regexp.MustCompile(`\x1b\[[0-9;]*m`)

func terminal(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("testdata/terminal.py")
	require.NoError(t, err)
	return path
}

// However the demo is ended in the midst of the freeze, nothing of it stays.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		signals []unix.Signal
		code    int
		clean   bool
	}{
		{"ctrl-c", []unix.Signal{unix.SIGINT}, 1, true},
		{"ctrl-c twice", []unix.Signal{unix.SIGINT, unix.SIGINT}, 1, true},
		{"SIGTERM", []unix.Signal{unix.SIGTERM}, 1, true},
		{"the terminal is closed", []unix.Signal{unix.SIGHUP}, 1, true},
		{"SIGKILL", []unix.Signal{unix.SIGKILL}, -1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := startDemo(t)
			d.await(`frozen \(SIGSTOP\)`)
			require.GreaterOrEqual(t, len(workingIn(t, d.temporary)), 2, "ann and bob work there")
			for _, s := range tc.signals {
				require.NoError(t, d.cmd.Process.Signal(s))
			}
			assert.Equal(t, tc.code, d.end())
			nothingIsLeft(t, d.temporary, tc.clean)
			if tc.clean {
				assert.Equal(t, "s3fence: interrupted: the demo ended its processes and removed its folder\n", d.errs.String())
			}
		})
	}
	t.Run("ctrl-c in a terminal", func(t *testing.T) {
		t.Parallel()
		temporary, env := demoEnvironment(t, map[string]string{"NO_COLOR": "1", "LC_ALL": "C"})
		o := command(t, t.TempDir(), env, "", "python3", terminal(t), "80", "frozen for", Binary(t, Plain), "demo")
		out := strings.ReplaceAll(o.Want(t, 1), "\r\n", "\n")
		assert.Regexp(t, `(\r\x1b\[K|\n)(\^C)?s3fence: interrupted: [^\n]*$`, out, "the status is gone before the last line")
		assert.Regexp(t, `^[ -~\r\n]*$`, strings.ReplaceAll(out, eraseLine, ""), "NO_COLOR, and a locale that knows ASCII alone")
		nothingIsLeft(t, temporary, true)
	})
	t.Run("nobody reads any more", func(t *testing.T) {
		t.Parallel()
		d := startDemo(t)
		d.await(`s3fence demo`)
		require.NoError(t, d.out.Close())
		assert.Equal(t, 1, d.end())
		assert.Contains(t, d.errs.String(), "nobody reads the output any more")
		nothingIsLeft(t, d.temporary, true)
	})
	t.Run("a worker is killed", func(t *testing.T) {
		t.Parallel()
		d := startDemo(t)
		pid, err := strconv.Atoi(d.await(`ann \(pid (\d+)\)`)[1])
		require.NoError(t, err)
		d.await(`frozen \(SIGSTOP\)`)
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
		assert.Equal(t, 1, d.end())
		assert.Contains(t, d.errs.String(), fmt.Sprintf("ann (process %d) ended, which nobody asked for: SIGKILL", pid))
		assert.NotContains(t, d.said.String(), "CORRUPT")
		nothingIsLeft(t, d.temporary, true)
	})
}
