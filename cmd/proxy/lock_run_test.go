package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/testserver"
)

// patience bounds the waits of these tests.
const patience = 30 * time.Second

// playground is a dev server with people around it.
type playground struct {
	t      *testing.T
	dir    string
	listen string
	server *testserver.Process
	env    []string
}

func newPlayground(t *testing.T) *playground {
	t.Helper()
	dir, err := testserver.Folder("dev")
	require.NoError(t, err)
	p := &playground{t: t, dir: dir, listen: closedPort(t)}
	p.server = dev(t, dir, p.listen)
	p.env = []string{"AWS_ACCESS_KEY_ID=s3fence-dev", "AWS_SECRET_ACCESS_KEY=s3fence-dev-secret", "AWS_REGION=us-east-1", "AWS_ENDPOINT_URL_S3=http://" + p.listen}
	return p
}

// cli runs s3fence to its end.
func (p *playground) cli(args ...string) result {
	p.t.Helper()
	return call(p.t, p.t.TempDir(), p.env, args...)
}

// text grows while a program writes.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *text) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *text) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// running is an s3fence that runs. All of its processes have a mark in their
// environment.
type running struct {
	t         *testing.T
	cmd       *exec.Cmd
	mark, dir string
	out, errs text
	done      chan struct{}
}

// start runs s3fence; nothing waits for it but await.
func (p *playground) start(env []string, args ...string) *running {
	p.t.Helper()
	r := p.prepare(env, args...)
	r.run()
	return r
}

func (p *playground) prepare(env []string, args ...string) *running {
	p.t.Helper()
	r := &running{t: p.t, mark: "TEST_MARK=" + rand.Text(), dir: p.t.TempDir(), done: make(chan struct{})}
	r.cmd = exec.Command(binary, args...)
	r.cmd.Dir = r.dir
	r.cmd.Env = slices.Concat([]string{"HOME=" + r.dir, "PATH=/usr/bin:/bin", "AWS_EC2_METADATA_DISABLED=true", r.mark}, p.env, env)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errs
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	r.cmd.WaitDelay = time.Second
	return r
}

func (r *running) run() {
	r.t.Helper()
	require.NoError(r.t, r.cmd.Start())
	go func() {
		_ = r.cmd.Wait()
		close(r.done)
	}()
	r.t.Cleanup(func() {
		for _, pid := range r.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-r.done
		if r.t.Failed() {
			r.t.Logf("s3fence %s wrote %q and %q", r.cmd.Args[1:], r.out.String(), r.errs.String())
		}
	})
}

// processes are all that run with the mark.
func (r *running) processes() []int {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	var found []int
	for _, path := range all {
		// A zombie has no environment.
		if env, err := os.ReadFile(path); err == nil && bytes.Contains(env, []byte(r.mark)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			found = append(found, pid)
		}
	}
	return found
}

// await waits for the end and returns the exit code.
func (r *running) await() int {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatal("s3fence does not end")
	}
	return r.cmd.ProcessState.ExitCode()
}

// says waits until s3fence, or its command, has written what a pattern matches.
func (r *running) says(o *text, pattern string) string {
	r.t.Helper()
	re := regexp.MustCompile(pattern)
	var found string
	require.Eventually(r.t, func() bool {
		found = re.FindString(o.String())
		return found != ""
	}, patience, 5*time.Millisecond, "%s is not written", pattern)
	return found
}

func (r *running) signal(sig syscall.Signal) {
	r.t.Helper()
	require.NoError(r.t, r.cmd.Process.Signal(sig))
}

// touch makes a file that the command waits for.
func (r *running) touch(name string) {
	r.t.Helper()
	require.NoError(r.t, os.WriteFile(filepath.Join(r.dir, name), nil, 0o600))
}

// untilTouched is a shell's wait for a file in its folder.
const untilTouched = `echo started; while ! [ -e go ]; do sleep 0.02; done`

func TestLockRunUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, []byte("echo"), 0o600))
	nobody := []string{"S3FENCE_ENDPOINT=http://" + closedPort(t), "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}
	for _, tc := range []struct {
		name string
		args []string
		env  []string
		code int
		err  string
	}{
		{"no dashes", []string{"s3://a/", "true"}, nil, 2, "needs -- before the command"},
		{"no scope", []string{"--", "true"}, nil, 2, "takes one scope before the --"},
		{"two scopes", []string{"s3://a/", "s3://b/", "--", "true"}, nil, 2, "takes one scope before the --"},
		{"no command", []string{"s3://a/", "--"}, nil, 2, "no command stands behind the --"},
		{"negative wait", []string{"--wait", "-1s", "s3://a/", "--", "true"}, nil, 2, "--wait -1s is negative"},
		{"negative grace", []string{"--grace", "-1s", "s3://a/", "--", "true"}, nil, 2, "--grace -1s is negative"},
		{"force without a reason", []string{"--force", "s3://a/", "--", "true"}, nil, 2, "needs --reason"},
		{"force that waits", []string{"--force", "--reason", "x", "--wait", "1s", "s3://a/", "--", "true"}, nil, 2, "--force does not wait"},
		{"reason without force", []string{"--reason", "x", "s3://a/", "--", "true"}, nil, 2, "--reason belongs to --force"},
		{"claim without slot", []string{"--claim", "job", "s3://a/", "--", "true"}, nil, 2, "belong together"},
		{"slot without claim", []string{"--slot", "5m", "s3://a/", "--", "true"}, nil, 2, "belong together"},
		{"a slot that is none", []string{"--claim", "job", "--slot", "15min", "s3://a/", "--", "true"}, nil, 2, "looks like a length"},
		{"code out of range", []string{"-E", "256", "s3://a/", "--", "true"}, nil, 2, "-E 256 is no exit code"},
		{"no endpoint", []string{"s3://a/", "--", "true"}, nil, 2, "no proxy is named"},
		// The command is looked up first: nobody listens there.
		{"not found", []string{"s3://a/", "--", "no-such-program"}, nobody, 127, "^s3fence: no-such-program: command not found\n$"},
		{"not executable", []string{"s3://a/", "--", plain}, nobody, 126, "plain cannot be run: permission denied"},
		{"unreachable", []string{"--wait", "0", "s3://a/", "--", "true"}, nobody, 69, "connection refused"},
		{"help", []string{"--help"}, nil, 0, "^$"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := call(t, t.TempDir(), tc.env, append([]string{"lock", "run"}, tc.args...)...)
			assert.Equal(t, tc.code, r.code, r.err)
			assert.Regexp(t, tc.err, r.err)
		})
	}
}

// A service that nobody reaches is asked again for a while: a proxy may be starting.
func TestLockRunUnreachable(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	env := []string{"S3FENCE_ENDPOINT=http://" + closedPort(t), "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}
	r := call(t, t.TempDir(), env, "lock", "run", "s3://a/", "--", "true")
	assert.Equal(t, 69, r.code)
	assert.Equal(t, 2, strings.Count(r.err, "connection refused"), "said once at first, and in the end: %s", r.err)
	assert.Greater(t, time.Since(begun), 4*time.Second)
}

func TestLockRun(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	t.Run("exit codes and output", func(t *testing.T) {
		for _, tc := range []struct {
			name   string
			script string
			code   int
			out    string
		}{
			{"done", "echo out", 0, "out\n"},
			{"failed", "echo out; exit 3", 3, "out\n"},
			{"the same as ours", "exit 75", 75, ""},
			{"killed", "kill -KILL $$", 137, ""},
			{"terminated", "kill -TERM $$", 143, ""},
		} {
			t.Run(tc.name, func(t *testing.T) {
				r := p.cli("lock", "run", "s3://demo/codes/", "--", "sh", "-c", tc.script)
				assert.Equal(t, tc.code, r.code)
				assert.Equal(t, tc.out, r.out)
				assert.Regexp(t, `^s3fence: s3://demo/codes/ is yours under token \d+\ns3fence: s3://demo/codes/ is free\n$`, r.err)
			})
		}
		r := p.cli("lock", "run", "-q", "s3://demo/codes/", "--", "sh", "-c", "echo out; echo err >&2; exit 4")
		assert.Equal(t, result{4, "out\n", "err\n"}, r, "quiet says nothing where nothing is wrong")
		assert.NotContains(t, p.cli("lock", "list").out, "s3://demo/codes/", "the lock is given back")
	})
	t.Run("no guard", func(t *testing.T) {
		r := p.cli("lock", "run", "s3://nowhere/x/", "--", "true")
		assert.Equal(t, 1, r.code)
		assert.Contains(t, r.err, "s3fence guard add")
		r = p.cli("lock", "run", "s3://demo/codes", "--", "true")
		assert.Equal(t, 2, r.code)
	})
	t.Run("held", func(t *testing.T) {
		const scope = "s3://demo/held/"
		require.Equal(t, 0, p.cli("lock", "acquire", scope, "--owner", "ann@desk", "--ttl", "10m").code)
		r := p.cli("lock", "run", "--wait", "0", scope, "--", "true")
		assert.Equal(t, 75, r.code)
		assert.Regexp(t, `^s3fence: s3://demo/held/ is held by ann@desk .*\n$`, r.err)
		assert.Equal(t, 0, p.cli("lock", "run", "--wait", "0", "-E", "0", scope, "--", "false").code)
		begun := time.Now()
		r = p.cli("lock", "run", "--wait", "1500ms", "-q", scope, "--", "true")
		assert.Equal(t, 75, r.code)
		assert.Greater(t, time.Since(begun), 1400*time.Millisecond)
		assert.Regexp(t, `^s3fence: s3://demo/held/ is held by ann@desk .*\n$`, r.err, "quiet, but wrong")
		assert.Equal(t, result{}, p.cli("lock", "run", "--wait", "0", "-q", "-E", "0", scope, "--", "false"), "cron mails every word, and nothing is wrong")
	})
}

// Who waits is told who has the lock and runs once it is free; until then signals are
// its own.
func TestLockRunWaits(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	const scope = "s3://demo/jobs/"
	first := p.start(nil, "lock", "run", "--owner", "ann@desk", scope, "--", "sh", "-c", untilTouched)
	first.says(&first.out, "started")
	second := p.start(nil, "lock", "run", "--owner", "bob@desk", scope, "--", "echo", "second")
	second.says(&second.errs, `s3fence: waiting for s3://demo/jobs/: held by ann@desk for \d+s more; you are next\n`)
	third := p.start(nil, "lock", "run", "--owner", "eve@desk", scope, "--", "echo", "third")
	third.says(&third.errs, `you are 2nd of 2\n`)
	third.signal(syscall.SIGTERM)
	assert.Equal(t, 143, third.await())
	fourth := p.start(nil, "lock", "run", scope, "--", "echo", "fourth")
	fourth.says(&fourth.errs, `waiting for`)
	fourth.signal(syscall.SIGINT)
	assert.Equal(t, 130, fourth.await())
	assert.Empty(t, second.out.String())
	first.touch("go")
	assert.Equal(t, 0, first.await())
	assert.Equal(t, 0, second.await())
	assert.Equal(t, "second\n", second.out.String())
	assert.Empty(t, third.out.String()+fourth.out.String())
}

// One at a time: what each reads and writes in between is not lost.
func TestLockRunExcludes(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	count := filepath.Join(t.TempDir(), "count")
	require.NoError(t, os.WriteFile(count, []byte("0"), 0o600))
	const runs = 12
	var all []*running
	for range runs {
		all = append(all, p.start([]string{"COUNT=" + count}, "lock", "run", "-q", "s3://demo/count/", "--",
			"sh", "-c", `n=$(cat "$COUNT"); sleep 0.03; echo $((n+1)) >"$COUNT"`))
	}
	for _, r := range all {
		assert.Equal(t, 0, r.await())
	}
	got, err := os.ReadFile(count)
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintln(runs), string(got))
}

// fenced reads the credentials that a command was given, and makes a client of them.
func (r *running) fenced() *s3.Client {
	r.t.Helper()
	r.says(&r.out, "started")
	vars := map[string]string{}
	for line := range strings.Lines(r.out.String()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		vars[name] = value
	}
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(vars["AWS_ENDPOINT_URL_S3"]), Region: vars["AWS_REGION"], RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(vars["AWS_ACCESS_KEY_ID"], vars["AWS_SECRET_ACCESS_KEY"], vars["AWS_SESSION_TOKEN"]),
	})
}

func put(ctx context.Context, c *s3.Client, key, body string) error {
	_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("demo"), Key: aws.String(key), Body: strings.NewReader(body)})
	return err
}

func wantStale(t *testing.T, err error) {
	t.Helper()
	var refused smithy.APIError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "StaleFencingToken", refused.ErrorCode())
}

// A job that runs away: its lock is taken by force, its writes are refused at once,
// and it ends with every process.
func TestLockRunForced(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	const scope = "s3://demo/jobs/"
	old := p.start(nil, "lock", "run", "--ttl", "3s", "--grace", "1s", scope, "--",
		"bash", "-c", `env; exec 2>/dev/null; trap 'echo asked' TERM; (trap '' TERM; while :; do sleep 0.02; done) & `+untilTouched)
	s := old.fenced()
	require.NoError(t, put(t.Context(), s, "jobs/x", "old"))
	next := p.start(nil, "lock", "run", "--force", "--reason", "runs away", "--owner", "bob@desk", scope, "--", "sh", "-c", `env; `+untilTouched)
	n := next.fenced()
	wantStale(t, put(t.Context(), s, "jobs/x", "late"))
	require.NoError(t, put(t.Context(), n, "jobs/x", "new"))
	assert.Equal(t, 76, old.await())
	assert.Regexp(t, `(?m)^s3fence: the lock on s3://demo/jobs/ under token 1 is lost: 2 was granted to bob@desk .*\ns3fence: ending bash, with all of its processes; after 1s they are killed\ns3fence: bash did not end within 1s; killing it$`, old.errs.String())
	assert.Contains(t, old.out.String(), "asked")
	assert.Empty(t, old.processes())
	next.touch("go")
	assert.Equal(t, 0, next.await())
	out, err := n.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("demo"), Key: aws.String("jobs/x")})
	require.NoError(t, err)
	out.Body.Close()
	assert.Equal(t, int64(3), *out.ContentLength)
}

// The machine stands still past the lease, somebody else takes over, it wakes up: the
// command is ended, and what it writes by then is refused.
func TestLockRunFrozen(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	const scope = "s3://demo/jobs/"
	old := p.start(nil, "lock", "run", "--ttl", "2s", scope, "--", "sh", "-c", `env; `+untilTouched)
	s := old.fenced()
	old.signal(syscall.SIGSTOP)
	r := p.cli("lock", "acquire", scope, "--wait", "20s", "--owner", "bob@desk", "--ttl", "1m")
	require.Equal(t, 0, r.code, r.err)
	wantStale(t, put(t.Context(), s, "jobs/x", "late"))
	old.signal(syscall.SIGCONT)
	assert.Equal(t, 76, old.await())
	assert.Regexp(t, `lost`, old.errs.String())
	assert.Empty(t, old.processes())
}

// Within the lease the proxy may go and come back.
func TestLockRunOutlivesARestart(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	r := p.start(nil, "lock", "run", "--ttl", "15s", "s3://demo/jobs/", "--", "sh", "-c", untilTouched)
	r.says(&r.out, "started")
	require.NoError(t, p.server.Kill())
	r.says(&r.errs, `s3fence: the lock is not renewed: .*; trying again, for \d+s\n`)
	p.server = dev(t, p.dir, p.listen)
	r.says(&r.errs, `s3fence: the lock is renewed again\n`)
	r.touch("go")
	assert.Equal(t, 0, r.await())
	assert.Contains(t, r.errs.String(), "is free")
}

// Past the lease nobody knows who has the lock: the command is ended.
func TestLockRunUnanswered(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	r := p.start(nil, "lock", "run", "--ttl", "2s", "s3://demo/jobs/", "--", "sh", "-c", untilTouched)
	r.says(&r.out, "started")
	require.NoError(t, p.server.Kill())
	assert.Equal(t, 76, r.await())
	assert.Regexp(t, `s3fence: the lock on s3://demo/jobs/ under token 1 may be lost: `, r.errs.String())
	assert.Empty(t, r.processes())
}

// A loss that nobody noticed while the command ran is told all the same: not every
// write of it may have been taken.
func TestLockRunLostUnnoticed(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	r := p.start(nil, "lock", "run", "--ttl", "10m", "s3://demo/jobs/", "--", "sh", "-c", untilTouched)
	r.says(&r.out, "started")
	require.Equal(t, 0, p.cli("lock", "take", "s3://demo/jobs/", "--reason", "test", "--owner", "bob@desk").code)
	r.touch("go")
	assert.Equal(t, 76, r.await())
	assert.Regexp(t, `is lost: 2 was granted to bob@desk`, r.errs.String())
}

// A wrapper that is killed takes its command along, and the lock is free after the
// lease.
func TestLockRunKilled(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	r := p.start(nil, "lock", "run", "--ttl", "2s", "s3://demo/jobs/", "--", "sleep", "1000")
	r.says(&r.errs, "is yours")
	require.Eventually(t, func() bool { return len(r.processes()) == 2 }, patience, 5*time.Millisecond)
	r.signal(syscall.SIGKILL)
	r.await()
	require.Eventually(t, func() bool { return len(r.processes()) == 0 }, patience, 5*time.Millisecond)
	assert.Equal(t, 0, p.cli("lock", "run", "--wait", "20s", "s3://demo/jobs/", "--", "true").code)
}

// Messages that nobody reads any more, and signals to the command, end in good order.
func TestLockRunNobodyReads(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	// No lock is left behind by a write to a pipe that is closed.
	script := `exec 2>&1; ( ` + binary + ` lock run s3://demo/jobs/ -- sh -c 'exec 1>&- 2>&-; sleep 0.5; exit 5'; echo code=$? >code ) | head -n 1`
	sh := exec.Command("sh", "-c", script)
	sh.Dir = t.TempDir()
	sh.Env = slices.Concat(p.env, []string{"PATH=/usr/bin:/bin", "HOME=" + sh.Dir})
	out, err := sh.Output()
	require.NoError(t, err)
	assert.Contains(t, string(out), "is yours")
	code, err := os.ReadFile(filepath.Join(sh.Dir, "code"))
	require.NoError(t, err)
	assert.Equal(t, "code=5\n", string(code))
	assert.NotContains(t, p.cli("lock", "list").out, "s3://demo/jobs/")
}

func TestLockBlock(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	const scope = "s3://demo/jobs/"
	for _, tc := range []struct {
		args []string
		err  string
	}{
		{[]string{scope, "--for", "1h"}, "needs --reason"},
		{[]string{scope, "--reason", "x"}, "needs --for"},
		{[]string{scope, "--reason", "x", "--for", "48h"}, "must be from 1s to 24h, the longest lease"},
		{[]string{scope, "--reason", "x", "--for", "10ms"}, "must be from 1s to 24h"},
	} {
		r := p.cli(append([]string{"lock", "block"}, tc.args...)...)
		assert.Equal(t, 2, r.code)
		assert.Contains(t, r.err, tc.err)
	}
	job := p.start(nil, "lock", "run", "--ttl", "1s", scope, "--", "sh", "-c", `env; `+untilTouched)
	s := job.fenced()
	r := p.cli("lock", "block", scope, "--for", "1h", "--reason", "node 7 runs wild\tagain", "--owner", "ops@desk")
	require.Equal(t, 2, r.code, "the service prints reasons")
	r = p.cli("lock", "block", scope, "--for", "1h", "--reason", "node 7 runs wild", "--owner", "ops@desk")
	require.Equal(t, 0, r.code, r.err)
	assert.Equal(t, "2\n", r.out, "the token alone")
	assert.Contains(t, r.err, "s3://demo/jobs/ is blocked for 1h: nobody else gets the lock, and tokens below 2 are refused. End it early: s3fence lock unblock s3://demo/jobs/\n")
	wantStale(t, put(t.Context(), s, "jobs/x", "late"))
	assert.Equal(t, 76, job.await())
	assert.Regexp(t, `2 was granted to a block by ops@desk until \d{4}-\d\d-\d\d \d\d:\d\d UTC \(node 7 runs wild\)`, job.errs.String())

	r = p.cli("lock", "acquire", scope)
	assert.Equal(t, 3, r.code)
	assert.Regexp(t, `is held by a block by ops@desk until .* \(node 7 runs wild\) .*or end the block: s3fence lock unblock s3://demo/jobs/\n$`, r.err)
	r = p.cli("lock", "run", "--wait", "0", scope, "--", "true")
	assert.Equal(t, 75, r.code)
	// A name that is none is not one that nobody blocks.
	for typed, err := range map[string]string{"s3://demo/jobs": "scope", "s3://demo/": "not a scope itself", "s3://nowhere/x/": "no guard covers"} {
		r = p.cli("lock", "unblock", typed)
		assert.NotEqual(t, 0, r.code, typed)
		assert.Contains(t, r.err, err)
	}
	waiter := p.start(nil, "lock", "run", scope, "--", "echo", "ran")
	waiter.says(&waiter.errs, `waiting for s3://demo/jobs/: held by a block by ops@desk until .* for \S+ more; you are next\n`)
	r = p.cli("lock", "unblock", scope)
	assert.Equal(t, 0, r.code)
	assert.Equal(t, "s3://demo/jobs/ is not blocked any more\n", r.err)
	assert.Equal(t, 0, waiter.await())
	assert.Equal(t, "ran\n", waiter.out.String())

	// Unblocking again is fine; a lock that is held for work is left alone.
	r = p.cli("lock", "unblock", scope)
	assert.Equal(t, 0, r.code)
	assert.Equal(t, 0, p.cli("lock", "unblock", "s3://demo/never/").code)
	require.Equal(t, 0, p.cli("lock", "acquire", scope, "--owner", "ann@desk").code)
	r = p.cli("lock", "unblock", scope)
	assert.Equal(t, 1, r.code)
	assert.Regexp(t, `is not blocked: it is held by ann@desk \(s3fence-dev\) under token \d+\n$`, r.err)
}

// The label of a block is one that the service takes, whatever was typed.
func TestBlockLabel(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 5, 1, 2, 0, 0, 0, time.UTC)
	assert.Equal(t, "a block by ops@desk until 2026-05-01 02:00 UTC (why)", blockLabel("ops@desk", "why", until))
	for _, reason := range []string{strings.Repeat("x", 300), strings.Repeat("ü", 200), strings.Repeat("€", 200), "a\tb\nc", "a\xffb"} {
		label := blockLabel("ops", reason, until)
		assert.LessOrEqual(t, len(label), 256)
		assert.True(t, strings.HasPrefix(label, "a block by ops until 2026-05-01 02:00 UTC ("))
		assert.True(t, strings.HasSuffix(label, ")"), label)
		assert.Regexp(t, `^[[:print:]ü€…?]+$`, label)
	}
}

// Five schedulers start the same runs of a job, each as a process: every run happens
// once, and who came too late is told so.
func TestLockRunClaims(t *testing.T) {
	t.Parallel()
	p := newPlayground(t)
	ran := filepath.Join(t.TempDir(), "ran")
	const schedulers, slots = 5, 4
	var all []*running
	for slot := range slots {
		for range schedulers {
			all = append(all, p.start([]string{"RAN=" + ran}, "lock", "run", "--claim", "report", "--slot", fmt.Sprintf("2026-11-0%dT02:00:00+01:00", slot+1), "s3://demo/claims/", "--",
				"sh", "-c", fmt.Sprintf(`echo %d >>"$RAN"; sleep 0.05`, slot)))
		}
	}
	codes := map[int]int{}
	for _, r := range all {
		code := r.await()
		codes[code]++
		if code == 75 {
			assert.Regexp(t, `s3fence: slot 2026-11-0\dT01:00:00Z of job report is claimed: `, r.errs.String())
		}
	}
	assert.Equal(t, map[int]int{0: slots, 75: slots * (schedulers - 1)}, codes)
	text, err := os.ReadFile(ran)
	require.NoError(t, err)
	lines := strings.Fields(string(text))
	slices.Sort(lines)
	assert.Equal(t, []string{"0", "1", "2", "3"}, lines)

	// What cannot run claims nothing.
	r := p.cli("lock", "run", "--claim", "report", "--slot", "later", "s3://demo/claims/", "--", "no-such-program")
	assert.Equal(t, 127, r.code)
	script := filepath.Join(t.TempDir(), "script")
	require.NoError(t, os.WriteFile(script, []byte("#!/no/such/interpreter -x\n"), 0o700))
	r = p.cli("lock", "run", "--claim", "report", "--slot", "later", "s3://demo/claims/", "--", script)
	assert.Equal(t, 127, r.code)
	r = p.cli("lock", "run", "--wait", "0", "--claim", "report", "--slot", "later", "s3://nowhere/x/", "--", "true")
	assert.Equal(t, 1, r.code)
	require.Equal(t, 0, p.cli("lock", "acquire", "s3://demo/claims/", "--ttl", "10m").code)
	r = p.cli("lock", "run", "--wait", "0", "--claim", "report", "--slot", "later", "s3://demo/claims/", "--", "true")
	assert.Equal(t, 75, r.code)
	r = p.cli("lock", "run", "--force", "--reason", "test", "--claim", "report", "--slot", "later", "s3://demo/claims/", "--", "sh", "-c", "exit 8")
	assert.Equal(t, 8, r.code, "nobody has the slot so far")
	r = p.cli("lock", "run", "-E", "0", "--claim", "report", "--slot", "later", "s3://demo/claims/", "--", "false")
	assert.Equal(t, 0, r.code, "it is not run again, whatever became of it")
	assert.NotContains(t, p.cli("lock", "list").out, "s3://demo/claims/")
}
