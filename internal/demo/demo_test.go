package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// told is what a demo prints, for reading while it does.
type told struct {
	lines chan string
	rest  []byte
	all   bytes.Buffer
}

func (t *told) Write(b []byte) (int, error) {
	t.all.Write(b)
	t.rest = append(t.rest, b...)
	for {
		i := bytes.IndexByte(t.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		t.lines <- string(t.rest[:i])
		t.rest = t.rest[i+1:]
	}
}

func newTold() *told { return &told{lines: make(chan string, 1024)} }

// await waits for a line.
func (t *told) await(tb testing.TB, pattern string) []string {
	tb.Helper()
	p := regexp.MustCompile(pattern)
	late := time.After(time.Minute)
	for {
		select {
		case line := <-t.lines:
			if found := p.FindStringSubmatch(line); found != nil {
				return found
			}
		case <-late:
			tb.Fatalf("no line matches %s:\n%s", pattern, t.all.String())
		}
	}
}

func options(out *told, ttl time.Duration) Options {
	return Options{Program: os.Args[0], Arguments: []string{workerArgument}, Out: out, TTL: ttl, Redis: NoRedis}
}

// played plays acts with real workers; change may make them other acts.
func played(t *testing.T, ttl time.Duration, change func([]act)) (plays []*play, err error) {
	t.Helper()
	d := newDirector(options(newTold(), ttl), func(err error) { t.Error(err) })
	folder := t.TempDir()
	defer d.stage.close()
	defer func() { assert.NoError(t, d.end()) }()
	acts, _, err := d.scene(t.Context(), folder)
	require.NoError(t, err)
	require.NoError(t, d.hire(folder))
	change(acts)
	for _, a := range acts {
		p, err := d.perform(t.Context(), a)
		if err != nil {
			return plays, err
		}
		plays = append(plays, p)
		if err := a.check(p.judge()); err != nil {
			return plays, err
		}
	}
	return plays, nil
}

// The story happens, and is what the store and the answers say.
func TestPlay(t *testing.T) {
	t.Parallel()
	plays, err := played(t, UsualTTL, func([]act) {})
	require.NoError(t, err)
	first, second := plays[0], plays[1]

	v := first.judge()
	assert.Equal(t, []string{annAdds}, v.final)
	assert.Equal(t, []string{bobAdds}, v.gone)
	assert.Equal(t, []string{"bob"}, v.by)
	assert.Empty(t, v.refusals)

	v = second.judge()
	assert.Equal(t, []string{bobAdds, annAdds}, v.final)
	assert.False(t, v.corrupt())
	require.Len(t, v.refusals, 1)
	assert.Equal(t, "ann", v.refusals[0].who)
	assert.Contains(t, v.refusals[0].Text, "token 1 of s3://demo/backups/ is stale: 2 was granted to bob")

	for _, p := range plays {
		// ann is frozen for longer than the lease, and does nothing meanwhile.
		var frozen, thawed, bobHas, leaseEnds time.Duration
		for _, e := range p.events {
			switch {
			case e.who == "ann" && e.Step == held && leaseEnds == 0:
				leaseEnds = e.at + e.Left
			case e.Step == stopped:
				frozen = e.at
			case e.Step == continued:
				thawed = e.at
			case e.who == "bob" && e.Step == held:
				bobHas = e.at
			case e.who == "ann" && frozen != 0 && thawed == 0:
				t.Errorf("ann %s at %v, and is frozen since %v", e.Step, e.at, frozen)
			}
		}
		assert.Less(t, frozen, leaseEnds)
		assert.Greater(t, thawed, leaseEnds)
		// By ann's clock the lease ends no later than for the lock; her report was
		// some time on its way.
		assert.Greater(t, bobHas, leaseEnds-UsualTTL/4)
	}
}

// An act that ends otherwise than it should is told as that: the demo cannot say
// corrupt, or refused, when it was not.
func TestUnexpectedEnds(t *testing.T) {
	t.Parallel()
	t.Run("no harm without the fence", func(t *testing.T) {
		t.Parallel()
		_, err := played(t, UsualTTL, func(acts []act) {
			acts[0].place, acts[0].object = acts[1].place, acts[1].object
		})
		require.ErrorIs(t, err, ErrUnexpected)
		require.ErrorContains(t, err, "should have done harm")
	})
	t.Run("harm behind the fence", func(t *testing.T) {
		t.Parallel()
		_, err := played(t, UsualTTL, func(acts []act) {
			acts[1].place, acts[1].object = acts[0].place, acts[0].object
			acts[1].object.Key = "other/index"
		})
		require.ErrorIs(t, err, ErrUnexpected)
		require.ErrorContains(t, err, "behind the fence tuesday is gone")
	})
	t.Run("a lease that was over before ann could be frozen", func(t *testing.T) {
		t.Parallel()
		_, err := played(t, UsualTTL, func(acts []act) { acts[0].place.TTL = time.Millisecond })
		require.ErrorIs(t, err, ErrUnexpected)
		require.ErrorContains(t, err, "try --ttl")
	})
}

func TestCheck(t *testing.T) {
	t.Parallel()
	both, refusal := []string{bobAdds, annAdds}, []event{{who: "ann"}}
	for _, tc := range []struct {
		name   string
		fenced bool
		v      verdict
		says   string // "" where this is how the act should end
	}{
		{"lost without the fence", false, verdict{final: []string{annAdds}, gone: []string{bobAdds}}, ""},
		{"nothing lost without the fence", false, verdict{final: both}, "should have done harm"},
		{"refused", true, verdict{final: both, refusals: refusal}, ""},
		{"lost behind the fence", true, verdict{final: []string{annAdds}, gone: []string{bobAdds}, refusals: refusal}, "bug of s3fence"},
		{"not refused", true, verdict{final: both}, "was 0 times"},
		{"refused again", true, verdict{final: both, refusals: append(slices.Clone(refusal), refusal...)}, "was 2 times"},
		{"ann's line missing", true, verdict{final: []string{bobAdds}, refusals: refusal}, "what both have added"},
	} {
		err := act{fenced: tc.fenced}.check(tc.v)
		if tc.says == "" {
			require.NoError(t, err, tc.name)
			continue
		}
		require.ErrorIs(t, err, ErrUnexpected, tc.name)
		require.ErrorContains(t, err, tc.says, tc.name)
	}
}

// What a refusal is, is the fence's code and no other failure; what is lost is
// what was acknowledged.
func TestJudge(t *testing.T) {
	t.Parallel()
	wrote := func(who string, s step, status int, code string, lines ...string) event {
		return event{who: who, report: report{Step: s, Status: status, Code: code, Lines: lines}}
	}
	p := &play{
		events: []event{
			wrote("bob", written, 200, "", "tuesday"),
			wrote("ann", refused, 503, "ServiceUnavailable", "monday"),
			wrote("ann", refused, 412, "PreconditionFailed", "monday"),
			wrote("ann", refused, 412, stale, "monday"),
			wrote("bob", refused, 412, stale, "friday"),
		},
		views: []view{{lines: nil}, {lines: []string{"tuesday"}}},
	}
	v := p.judge()
	assert.False(t, v.corrupt(), "what was refused is not missed")
	require.Len(t, v.refusals, 1)
	p.views = append(p.views, view{lines: []string{"monday"}})
	v = p.judge()
	assert.Equal(t, []string{"tuesday"}, v.gone)
}

// A worker that ends by itself, frozen or not, ends the demo with its last words.
func TestWorkerEnds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, when, who string
	}{
		{"ann, frozen", `SIGSTOP`, "ann"},
		{"bob, waiting", `wants the lock`, "bob"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			out := newTold()
			folder := t.TempDir()
			d := newDirector(options(out, UsualTTL), func(error) {})
			defer d.stage.close()
			defer func() { assert.NoError(t, d.end()) }()
			acts, _, err := d.scene(t.Context(), folder)
			require.NoError(t, err)
			require.NoError(t, d.hire(folder))
			ended := make(chan error, 1)
			go func() {
				_, err := d.perform(t.Context(), acts[1])
				ended <- err
			}()
			out.await(t, tc.when)
			require.NoError(t, d.workers[tc.who].signal(unix.SIGKILL))
			require.ErrorContains(t, <-ended, tc.who+" (process ")
		})
	}
}

// A demo that is ended from outside says why, ends its processes and removes its
// folder, frozen worker or not.
func TestEnded(t *testing.T) {
	// Not parallel: the folder for temporary folders is the process's.
	tooLong := errors.New("a test's patience")
	for _, tc := range []struct {
		name string
		when string
		end  func(context.CancelCauseFunc)
		want error
	}{
		{"by the caller, while ann is frozen", `SIGSTOP`, func(cancel context.CancelCauseFunc) { cancel(nil) }, ErrInterrupted},
		{"by its bound", `wants the lock`, func(cancel context.CancelCauseFunc) { cancel(tooLong) }, tooLong},
	} {
		t.Run(tc.name, func(t *testing.T) {
			temporary := t.TempDir()
			t.Setenv("TMPDIR", temporary)
			out := newTold()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			ended := make(chan error, 1)
			go func() { ended <- Run(ctx, options(out, UsualTTL)) }()
			pids := out.await(t, `ann \(pid (\d+)\) and bob \(pid (\d+)\)`)[1:]
			out.await(t, tc.when)
			tc.end(cancel)
			require.ErrorIs(t, <-ended, tc.want)
			left, err := os.ReadDir(temporary)
			require.NoError(t, err)
			assert.Empty(t, left)
			for _, pid := range pids {
				_, err := os.Stat("/proc/" + pid)
				assert.ErrorIs(t, err, os.ErrNotExist, "process %s", pid)
			}
		})
	}
}
