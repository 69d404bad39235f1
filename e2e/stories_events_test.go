package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/pgtest"
)

// events reads the whole event log of a bucket through a proxy.
func (p *Proxy) events(t testing.TB) []client.Event {
	t.Helper()
	c, err := client.New(p.URL, p.cluster.AccessKey, p.cluster.SecretKey)
	require.NoError(t, err)
	var all []client.Event
	for q := (client.EventQuery{Limit: 1000, Prefix: p.cluster.Scope("")}); ; {
		list, next, err := c.Events(t.Context(), q)
		require.NoError(t, err)
		all = append(all, list...)
		if next == q.After {
			return all
		}
		q.After = next
	}
}

// refusedWrites is how many writes the log says would have corrupted data.
func refusedWrites(list []client.Event) (n int64) {
	for i := range list {
		if list[i].WouldCorrupt() {
			n += list[i].Count
		}
	}
	return n
}

// eventually waits until the log says something.
func (p *Proxy) eventually(t testing.TB, says func([]client.Event) bool) {
	t.Helper()
	require.Eventually(t, func() bool { return says(p.events(t)) }, readyWait, 50*time.Millisecond)
}

// follower is "s3fence events --follow --json" as a process.
type follower struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err string // files
	ended    chan error
}

func (p *Proxy) follow(t *testing.T, args ...string) *follower {
	t.Helper()
	home := t.TempDir()
	f := &follower{t: t, out: filepath.Join(home, "out"), err: filepath.Join(home, "err"), ended: make(chan error, 1)}
	f.cmd = exec.Command(Binary(t, Plain), append([]string{"events", "--follow", "--json"}, args...)...)
	f.cmd.Dir, f.cmd.Env = home, environment(home, p.clientEnv())
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := os.Create(f.out)
	require.NoError(t, err)
	defer stdout.Close()
	stderr, err := os.Create(f.err)
	require.NoError(t, err)
	defer stderr.Close()
	f.cmd.Stdout, f.cmd.Stderr = stdout, stderr
	require.NoError(t, f.cmd.Start())
	go func() { f.ended <- f.cmd.Wait() }()
	t.Cleanup(func() { _ = f.cmd.Process.Kill() })
	return f
}

// interrupt is Ctrl-C; it returns how the process ended.
func (f *follower) interrupt() error {
	f.t.Helper()
	require.NoError(f.t, f.cmd.Process.Signal(os.Interrupt))
	select {
	case err := <-f.ended:
		return err
	case <-time.After(stopWait):
		f.t.Fatal("the follower does not end")
		return nil
	}
}

func (f *follower) said() string {
	text, err := os.ReadFile(f.err)
	require.NoError(f.t, err)
	return string(text)
}

// shown are the events that it has printed so far.
func (f *follower) shown() (list []client.Event) {
	text, err := os.ReadFile(f.out)
	require.NoError(f.t, err)
	for line := range strings.Lines(string(text)) {
		if strings.HasSuffix(line, "\n") { // the last one may be on its way
			var e client.Event
			require.NoError(f.t, json.Unmarshal([]byte(line), &e), line)
			list = append(list, e)
		}
	}
	return list
}

// Two proxies, one log: whoever follows it through one of them sees what happened
// at both, each event once, over a restart of the database and the death of the
// proxy. What was refused as stale is all there, with who and how long after.
func TestEventsAreFollowed(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	c := NewCluster(t, Options{Proxies: 2, Build: Race, Postgres: server, Config: faultsConfig, Guards: []Guard{{Prefix: "s/*/"}}})
	a, b := c.Proxies[0], c.Proxies[1]
	old := c.Acquire("s/jobs/", "ann")
	a.eventually(t, func(list []client.Event) bool { return len(list) >= 2 })
	f := a.follow(t, c.Scope(""))
	var refused int64
	round := func(name string) {
		t.Helper()
		c.Proxies[1].Take(t, c.Scope("s/jobs/"), "bob in "+name)
		for i, p := range []*Proxy{a, b, a} {
			p.PutToken(t, fmt.Sprintf("s/jobs/%s-%d", name, i), "late", old).WantCode(t, 412, "StaleFencingToken")
			refused++
		}
		b.Send(t, Request{Method: "GET", Bucket: c.Bucket, Key: "s/jobs/x", Header: tokenHeader(old)}).WantCode(t, 412, "StaleFencingToken")
		b.eventually(t, func(list []client.Event) bool { return refusedWrites(list) >= refused })
		require.Eventually(t, func() bool { return refusedWrites(f.shown()) >= refused }, readyWait, 20*time.Millisecond, "the follower does not hear of it")
	}
	round("the-beginning")

	require.NoError(t, server.Stop(pgtest.Fast))
	a.PutToken(t, "s/jobs/stopped", "late", old).WantCode(t, 412, "StaleFencingToken") // known without the database
	refused++
	require.Eventually(t, func() bool { return strings.Contains(f.said(), "trying again") }, readyWait, 20*time.Millisecond)
	require.NoError(t, server.Start())
	for _, p := range []*Proxy{a, b} {
		recovered(t, func() int {
			answer, err := p.TryAPI(t.Context(), "GET", "/-/v1/guards", nil)
			if err != nil {
				return 0
			}
			return answer.Status
		})
	}
	round("after-the-database")

	a.Kill()
	c.Proxies[1].Take(t, c.Scope("s/jobs/"), "cid while it is dead")
	a.Restart()
	round("after-the-proxy")

	reads := func(list []client.Event) (n int64) {
		for _, e := range list {
			if e.Kind == client.EventRefused && e.Access == "read" {
				n += e.Count
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return reads(f.shown()) == 3 }, readyWait, 20*time.Millisecond)
	require.NoError(t, f.interrupt(), "Ctrl-C is how it ends")
	assert.Contains(t, f.said(), fmt.Sprintf("%d writes were refused: they would have corrupted data", refused))
	assert.Equal(t, 2, strings.Count(f.said(), "trying again"), "each absence is said once:\n%s", f.said())
	assert.Equal(t, 2, strings.Count(f.said(), "it answers again"))
	all := b.events(t)
	assert.Equal(t, all, f.shown(), "the same events in the same order, none twice")
	assert.Equal(t, refused, refusedWrites(all))
	holders := map[any]string{}
	for _, e := range all {
		if e.Kind == client.EventGranted || e.Kind == client.EventTakeover {
			holders[e.Token] = e.Owner
		}
	}
	for _, e := range all {
		switch {
		case e.Kind == client.EventDropped:
			t.Errorf("a hole: %+v", e)
		case e.WouldCorrupt():
			assert.Equal(t, []any{old, c.AccessKey, c.Scope("s/jobs/"), "PutObject"}, []any{e.Token, e.AccessKey, e.Scope, e.Operation})
			assert.Greater(t, e.Highest, e.Token)
			// A proxy that came back may know of cid's turn and not yet of bob's.
			assert.Equal(t, holders[e.Highest], e.Owner)
			assert.NotEmpty(t, e.Owner)
			assert.Positive(t, e.AfterMS)
			assert.WithinDuration(t, time.Now(), e.Time, 5*time.Minute)
		}
	}
}

// The story of the README as the event log tells it, on the embedded database.
func TestEventsOfDev(t *testing.T) {
	t.Parallel()
	c := NewDev(t, Options{})
	p := c.Proxies[0]
	none := p.CLI("events", "s3://demo/nothing/")
	assert.Empty(t, none.Must(t))
	assert.Equal(t, "no events\n", none.Stderr)
	ann := p.Acquire(t, "s3://demo/jobs/", "ann")
	p.PutToken(t, "jobs/report", "from ann", ann).Want(t, 200)
	bob := p.Take(t, "s3://demo/jobs/", "bob")
	p.PutToken(t, "jobs/report", "from bob", bob).Want(t, 200)
	for range 7 {
		p.PutToken(t, "jobs/report", "late", ann).WantCode(t, 412, "StaleFencingToken")
	}
	p.Send(t, Request{Method: "GET", Bucket: "demo", Key: "jobs/report", Header: tokenHeader(ann)}).WantCode(t, 412, "StaleFencingToken")
	p.eventually(t, func(list []client.Event) bool { return refusedWrites(list) == 7 })

	out := p.CLI("events")
	text := out.Must(t)
	assert.Regexp(t, `(?m)^\d\d:\d\d:\d\d  GRANTED   s3://demo/jobs/ +token 1 to ann$`, text)
	assert.Regexp(t, `(?m)^\d\d:\d\d:\d\d  TAKEN     s3://demo/jobs/ +token 2 to bob, by force from ann \(s3fence-dev\): a test$`, text)
	assert.Regexp(t, `(?m)^\d\d:\d\d:\d\d  REFUSED   PutObject s3://demo/jobs/report +token 1 < 2 \(bob\)  by s3fence-dev, .* after bob got the lock$`, text)
	assert.Equal(t, "7 writes were refused: they would have corrupted data; refused under stale tokens as well: 1 read\n", out.Stderr)
	assert.Equal(t, "no write under a stale token was refused among these events\n", p.CLI("events", "s3://demo/*/").Stderr)
	assert.Len(t, strings.Split(p.CLI("events", "--kind", "grant,takeover", "--since", "1h").Must(t), "\n"), 2)
	p.CLI("events", "--kind", "refusal").WantErr(t, 2, "the kinds are grant, takeover")
	p.CLI("events", "demo/").WantErr(t, 2, "s3://bucket/prefix/")

	// Killed and started again it goes on, and so do the ids.
	before := p.events(t)
	p.Restart()
	p.PutToken(t, "jobs/report", "late", ann).WantCode(t, 412, "StaleFencingToken")
	p.eventually(t, func(list []client.Event) bool { return refusedWrites(list) == 8 })
	after := p.events(t)
	require.Greater(t, len(after), len(before))
	assert.Equal(t, before, after[:len(before)])
	assert.Greater(t, after[len(before)].ID, before[len(before)-1].ID)
}

// While the event log cannot be written nobody waits for it: neither those who are
// refused nor those who lock or write; and what happened meanwhile is in it later.
func TestBlockedEventLogDelaysNobody(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Guards: []Guard{{Prefix: "s/*/"}}})
	p := c.Proxies[0]
	old := c.Acquire("s/jobs/", "ann")
	now := c.Take("s/jobs/", "bob")
	p.PutToken(t, "s/jobs/a", "late", old).WantCode(t, 412, "StaleFencingToken")
	p.eventually(t, func(list []client.Event) bool { return refusedWrites(list) == 1 })

	blocker, err := pgx.Connect(t.Context(), c.DSN)
	require.NoError(t, err)
	defer blocker.Close(t.Context())
	tx, err := blocker.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	const clients, lasting = 8, 1500 * time.Millisecond
	var took []time.Duration
	var mu sync.Mutex
	var all sync.WaitGroup
	begun := time.Now()
	for n := range clients {
		all.Go(func() {
			for i := 0; time.Since(begun) < lasting; i++ {
				begun := time.Now()
				answer := p.PutToken(t, fmt.Sprintf("s/jobs/%d-%d", n, i), "late", old)
				d := time.Since(begun)
				if answer.Status != 412 {
					t.Errorf("%s", answer)
				}
				mu.Lock()
				took = append(took, d)
				mu.Unlock()
				time.Sleep(10 * time.Millisecond) // a client's own work
			}
		})
	}
	all.Wait()
	p.PutToken(t, "s/jobs/a", "now", now).Want(t, 200)
	c.Take("s/jobs/", "cid")
	locked := time.Since(begun)
	require.NoError(t, tx.Rollback(t.Context()))
	median, worst := quantiles(took)
	t.Logf("the log was blocked for %v; a refusal took %v, at most %v", locked, median, worst)
	assert.Less(t, median, 100*time.Millisecond)
	assert.Less(t, worst, 2*time.Second, "somebody waited for the event log")
	// What is summed up still is recorded at the end, at the latest.
	p.Stop()
	p.Restart()
	list := p.events(t)
	assert.Equal(t, int64(len(took))+1, refusedWrites(list))
	assert.Less(t, len(list), len(took)/2, "a flood is summed up")
	assert.Equal(t, "cid", list[lastOf(list, client.EventTakeover)].Owner)
}

func lastOf(list []client.Event, kind string) int {
	at := -1
	for i := range list {
		if list[i].Kind == kind {
			at = i
		}
	}
	return at
}
