package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/pgtest"
)

// untilTouched is a shell's wait for a file in its folder.
const untilTouched = `echo started; while ! [ -e go ]; do sleep 0.02; done`

// s3cmd is how its name is typed under a lock. It starts quickly; the aws CLI does not.
const s3cmd = `s3cmd --host=${S3FENCE_ENDPOINT#*://} --host-bucket=${S3FENCE_ENDPOINT#*://} --region=$AWS_REGION --no-ssl`

// mcPath is where scripts/mc.sh has mc.
func mcPath(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "../scripts/mc.sh").Output()
	require.NoError(t, err, "scripts/mc.sh builds mc")
	return filepath.Dir(strings.TrimSpace(string(out)))
}

// Programs that know nothing of fences write, list and read under a lock as they are,
// and are refused once it is somebody else's (F4): each is tried with the command that
// people type.
func TestLockRunPrograms(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Guards: []Guard{{Prefix: "jobs/*/"}}})
	path := mcPath(t) + ":" + os.Getenv("PATH")
	for _, tc := range []struct {
		name                 string
		put, list, get, dele string
	}{
		{"aws", `aws s3 cp FILE s3://PLACE/KEY`, `aws s3 ls s3://PLACE/`, `aws s3 cp s3://PLACE/KEY -`, `aws s3 rm s3://PLACE/KEY`},
		{"aws-sync", `rm -rf tree; mkdir tree; cp FILE tree/KEY; aws s3 sync --delete tree s3://PLACE/`, s3cmd + ` ls s3://PLACE/`, s3cmd + ` get s3://PLACE/KEY -`, `rm tree/KEY; aws s3 sync --delete tree s3://PLACE/`},
		{"rclone", `rclone copyto FILE s3fence:PLACE/KEY`, `rclone lsf s3fence:PLACE/`, `rclone cat s3fence:PLACE/KEY`, `rclone deletefile s3fence:PLACE/KEY`},
		{"mc", `mc cp FILE s3fence/PLACE/KEY`, `mc ls s3fence/PLACE/`, `mc cat s3fence/PLACE/KEY`, `mc rm s3fence/PLACE/KEY`},
		{"s3cmd", s3cmd + ` put FILE s3://PLACE/KEY`, s3cmd + ` ls s3://PLACE/`, s3cmd + ` get s3://PLACE/KEY -`, s3cmd + ` del s3://PLACE/KEY`},
		{"boto3", `python3 -c 'import boto3; boto3.client("s3").upload_file("FILE", *"PLACE/KEY".split("/", 1))'`,
			`python3 -c 'import boto3; b, p = "PLACE/".split("/", 1); print([o["Key"] for o in boto3.client("s3").list_objects_v2(Bucket=b, Prefix=p)["Contents"]])'`,
			`python3 -c 'import boto3; print(boto3.client("s3").get_object(Bucket="PLACE".split("/")[0], Key="PLACE/KEY".split("/", 1)[1])["Body"].read().decode())'`,
			`python3 -c 'import boto3; boto3.client("s3").delete_object(Bucket="PLACE".split("/")[0], Key="PLACE/KEY".split("/", 1)[1])'`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			prefix := "jobs/" + tc.name + "/"
			as := func(command, file, key string) string {
				return strings.NewReplacer("PLACE", c.Bucket+"/jobs/"+tc.name, "FILE", file, "KEY", key).Replace(command)
			}
			script := strings.Join([]string{
				"set -e; echo first >f1; echo second >f2; echo late >f3",
				as(tc.put, "f1", "gone"), as(tc.dele, "", "gone"),
				as(tc.put, "f2", "stays"),
				"echo LIST; " + as(tc.list, "", ""), "echo GET; " + as(tc.get, "", "stays"),
				untilTouched, "set +e",
				as(tc.put, "f3", "stays"), "echo PUT $?",
				as(tc.put, "f3", "late"),
				as(tc.dele, "", "stays"),
			}, "\n")
			env := map[string]string{"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "RCLONE_RETRIES": "1", "RCLONE_LOW_LEVEL_RETRIES": "1"}
			r := c.Proxies[0].Begin(t, env, "lock", "run", "--ttl", "10m", c.Scope(prefix), "--", "sh", "-c", script)
			r.Await(r.Out, "started")
			_, rest, _ := strings.Cut(r.Out.String(), "LIST\n")
			list, got, _ := strings.Cut(rest, "GET\n")
			assert.Contains(t, list, "stays")
			assert.NotContains(t, list, "gone")
			assert.Contains(t, got, "second\n")

			c.Proxies[1].Take(t, c.Scope(prefix), "next")
			r.Touch("go")
			assert.Equal(t, 76, r.Wait())
			assert.Regexp(t, `PUT [1-9]`, r.Out.String(), "the program failed")
			// Some ask for the object's head first, whose answer has no room for more.
			assert.Regexp(t, `StaleFencingToken|is stale: |412`, r.Out.String()+r.Errs.String(), "and said why")
			assert.Equal(t, "second\n", c.Proxies[1].Get(t, prefix+"stays"))
			c.Proxies[1].WantAbsent(t, prefix+"late")
		})
	}
}

// The proxy and the database are restarted inside the lease: the command goes on, and
// its writes are taken again afterwards.
func TestLockRunOutlivesRestarts(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	c := NewCluster(t, Options{Proxies: 1, Build: Race, Postgres: server, Guards: []Guard{{Prefix: "jobs/"}}})
	p := c.Proxies[0]
	r := p.Begin(t, nil, "lock", "run", "--ttl", "20s", c.Scope("jobs/"), "--", "sh", "-c",
		untilTouched+`; echo fine >f; until `+s3cmd+` put f s3://`+c.Bucket+`/jobs/x; do sleep 0.1; done`)
	r.Await(r.Out, "started")
	require.NoError(t, server.Stop(pgtest.Immediate))
	p.Kill()
	r.Await(r.Errs, `s3fence: the lock is not renewed: .*; trying again, for \d+s\n`)
	require.NoError(t, server.Start())
	p.Restart()
	r.Await(r.Errs, `s3fence: the lock is renewed again\n`)
	r.Touch("go")
	require.Equal(t, 0, r.Wait())
	assert.Equal(t, "fine\n", p.Get(t, "jobs/x"))
	assert.NotContains(t, p.CLI("lock", "list").Must(t), c.Scope("jobs/"))
}

// Two processes, the older frozen past its lease with everything it had begun: when it
// wakes up it is ended, nothing of it is left, and nothing it wrote was taken (F4).
func TestLockRunFrozen(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Build: Race, Guards: []Guard{{Prefix: "jobs/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	old := a.Begin(t, nil, "lock", "run", "--ttl", "2s", "--owner", "old", c.Scope("jobs/"), "--", "sh", "-c",
		`echo old >f; `+s3cmd+` put f s3://`+c.Bucket+`/jobs/x; echo started; while :; do `+s3cmd+` put f s3://`+c.Bucket+`/jobs/x; done`)
	old.Await(old.Out, "started")
	for _, pid := range old.Processes() {
		require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
	}
	next := b.Begin(t, nil, "lock", "run", "--owner", "next", c.Scope("jobs/"), "--", "sh", "-c",
		`echo next >f; `+s3cmd+` put f s3://`+c.Bucket+`/jobs/x; `+untilTouched)
	// On a slow machine the lease is over before there is anything to wait for.
	next.Await(next.Errs, `waiting for .*: held by old for|is yours under token`)
	next.Await(next.Out, "started")
	for _, pid := range old.Processes() {
		require.NoError(t, unix.Kill(pid, unix.SIGCONT))
	}
	assert.Equal(t, 76, old.Wait())
	assert.Empty(t, old.Processes())
	assert.Regexp(t, `under token \d+ (is|may be) lost: .*\ns3fence: ending sh`, old.Errs.String())
	assert.Equal(t, "next\n", b.Get(t, "jobs/x"))
	next.Touch("go")
	assert.Equal(t, 0, next.Wait())
}

// A person stops a shell's job with Ctrl-Z and goes to lunch; somebody else takes the
// lock; fg ends the job instead of continuing it.
func TestLockRunStoppedByHand(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Guards: []Guard{{Prefix: "jobs/"}}})
	p := c.Proxies[0]
	dir := t.TempDir()
	require.NoError(t, os.Symlink(Binary(t, Plain), filepath.Join(dir, "s3fence")))
	env := p.clientEnv()
	env["PATH"], env["PS1"], env["TERM"], env["INPUTRC"] = dir+":"+os.Getenv("PATH"), "PROMPT> ", "dumb", "/dev/null"
	shell := exec.Command("bash", "--norc", "--noprofile", "-i")
	shell.Dir, shell.Env = dir, environment(dir, env)
	tty, err := pty.StartWithSize(shell, &pty.Winsize{Rows: 24, Cols: 300})
	require.NoError(t, err)
	shown := &Written{}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := tty.Read(b)
			_, _ = shown.Write(b[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = shell.Process.Kill()
		_ = shell.Wait()
		tty.Close()
		if t.Failed() {
			t.Logf("the terminal showed:\n%s", shown)
		}
	})
	r := &Running{t: t}
	enter := func(line string) {
		t.Helper()
		_, err := tty.WriteString(line)
		require.NoError(t, err)
	}
	r.Await(shown, "PROMPT> ")
	enter("s3fence lock run --ttl 30s " + c.Scope("jobs/") + " -- sh -c 'echo tick >ticks; echo wor\"\"king; while :; do echo tick >>ticks; sleep 0.02; done'\n")
	r.Await(shown, "\nworking")
	enter("\x1a")
	r.Await(shown, `s3fence: stopped, with sh; continue within \d+s, or others can have`)
	r.Await(shown, `Stopped .*s3fence lock run`)
	before, err := os.ReadFile(filepath.Join(dir, "ticks"))
	require.NoError(t, err)
	p.Take(t, c.Scope("jobs/"), "bob@desk")
	enter("fg\n")
	r.Await(shown, `is lost: \d+ was granted to bob@desk`)
	r.Await(shown, `s3fence: ending sh, with all of its processes`)
	enter("echo code=$?\n")
	r.Await(shown, "\ncode=76")
	after, err := os.ReadFile(filepath.Join(dir, "ticks"))
	require.NoError(t, err)
	assert.LessOrEqual(t, bytes.Count(after, []byte("tick")), bytes.Count(before, []byte("tick"))+1, "it did not go on")
	// And a shell under a lock is a shell.
	enter("PS1='INNER> ' s3fence lock run --force --reason test " + c.Scope("jobs/") + " -- bash --norc --noprofile -i\n")
	r.Await(shown, "\nINNER> ")
	enter("sleep 1000\n")
	time.Sleep(100 * time.Millisecond)
	enter("\x1a")
	r.Await(shown, `Stopped +sleep 1000`)
	enter("echo token=$S3FENCE_TOKEN; kill -KILL %1; disown %1\n")
	r.Await(shown, `token=\d+`)
	enter("exit\n")
	r.Await(shown, `is free`)
}

// Five schedulers, two proxies, a hundred slots, each scheduler in an order of its own:
// a hundred runs.
func TestHundredSlots(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Proxies: 2, Guards: []Guard{{Prefix: "jobs/*/"}}})
	const schedulers, slots = 5, 100
	var mu sync.Mutex
	runs := map[int]int{}
	var all sync.WaitGroup
	for n := range schedulers {
		p := c.Proxies[n%2]
		cl, err := client.New(p.URL, c.AccessKey, c.SecretKey)
		require.NoError(t, err)
		all.Go(func() {
			for _, slot := range rand.Perm(slots) {
				// A few scopes, so that they meet, and not all wait for one.
				held, err := cl.Hold(t.Context(), c.Scope(fmt.Sprintf("jobs/%d/", slot%7)), client.WithWait(2*time.Minute), client.WithOwner(fmt.Sprint("scheduler ", n)))
				if !assert.NoError(t, err) {
					return
				}
				if _, err := cl.Claim(held.Context(), "hourly", fmt.Sprint("slot-", slot), ""); err == nil {
					mu.Lock()
					runs[slot]++
					mu.Unlock()
				} else {
					assert.ErrorIs(t, err, client.ErrClaimed)
				}
				assert.NoError(t, held.Release(t.Context()))
			}
		})
	}
	all.Wait()
	assert.Len(t, runs, slots)
	for slot, n := range runs {
		assert.Equal(t, 1, n, "slot %d", slot)
	}
}
