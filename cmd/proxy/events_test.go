package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
)

// noon is a day on which all of the golden events happen.
var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func goldenEvents() []client.Event {
	const jobs = "s3://demo/jobs/"
	stale := client.Event{Kind: "refused", Scope: jobs, Bucket: "demo", Key: "jobs/report", Token: 1, Highest: 2, Holder: "bobs-key", Owner: "bob",
		AccessKey: "s3fence-dev", Remote: "127.0.0.1", Operation: "PutObject", Access: "write", Code: "StaleFencingToken", AfterMS: 3200, Count: 1,
		Reason: "token 1 of s3://demo/jobs/ is stale: 2 was granted to bob 3 s ago. Stop writing; take the lock again."}
	change := func(f func(*client.Event)) client.Event {
		e := stale
		f(&e)
		return e
	}
	list := []client.Event{
		{Kind: "guard_added", Bucket: "demo", Guard: "s3://demo/*/", Reason: "writes=sealed tokens=required issuer=s3fence", AccessKey: "ops"},
		{Kind: "grant", Scope: jobs, Token: 1, Holder: "anns-key", Owner: "ann@host", AccessKey: "anns-key"},
		{Kind: "grant", Scope: jobs, Token: 2, Highest: 1, Holder: "bobs-key", Owner: "bob", Previous: "ann@host (anns-key)"},
		{Kind: "takeover", Scope: jobs, Token: 3, Highest: 2, Holder: "ops", Owner: "ops@host", Previous: "bob (bobs-key)", Reason: "bob hangs"},
		{Kind: "renew_lost", Scope: jobs, Token: 1, Highest: 2, AccessKey: "anns-key", Remote: "192.0.2.7"},
		{Kind: "renew_lost", Scope: jobs, Token: 2, Highest: 2, AccessKey: "anns-key", Count: 40, SpanMS: 9000},
		{Kind: "release", Scope: jobs, Token: 2, Highest: 2, Holder: "bobs-key", Owner: "bob", AccessKey: "bobs-key"},
		{Kind: "raise", Scope: jobs, Token: 2, Highest: 4, AccessKey: "ops", Reason: "runaway job"},
		{Kind: "reset", Scope: jobs, Token: 2, AccessKey: "ops", Reason: "new lock service"},
		stale,
		change(func(e *client.Event) { e.Count, e.SpanMS, e.AfterMS, e.Remote = 482, 9800, 125_000, "192.0.2.7" }),
		change(func(e *client.Event) { e.Operation, e.Access = "GetObject", "read" }),
		change(func(e *client.Event) { e.Operation, e.Access, e.Owner, e.AfterMS = "UploadPart", "stage", "", 250 }),
		change(func(e *client.Event) { e.Key, e.Token = "jobs/\x1b[2Ja\xff", 0 }),
		change(func(e *client.Event) {
			e.Suppressed, e.Count, e.SpanMS, e.Key, e.Operation, e.Token = true, 9000, 10_000, "", "", 0
		}),
		change(func(e *client.Event) {
			e.Suppressed, e.Count, e.SpanMS, e.Key, e.Operation, e.Token, e.Access = true, 2, 100, "", "", 1, "read"
			e.Scope, e.Bucket, e.Highest, e.Owner, e.AccessKey, e.AfterMS = "", "", 0, "", "", 0
		}),
		change(func(e *client.Event) { e.Code, e.Token = "MissingFencingToken", 0 }),
		{Kind: "refused", Bucket: "demo", Key: "free/a", Code: "InvalidFencingToken", Token: 9, AccessKey: "anns-key", Operation: "PutObject", Count: 1,
			Reason: "no guard covers s3://demo/free/a; s3fence guard add s3://demo/free/ (or send the request without a token)"},
		{Kind: "alarm", Scope: jobs, Bucket: "demo", Key: "jobs/lost", Operation: "GetObject", AccessKey: "anns-key", Reason: "the object's bytes are gone", Count: 3, SpanMS: 20},
		{Kind: "dropped", Count: 37, Reason: "not recorded: the state could not take them in time from a-host"},
		{Kind: "of_a_later_version", Scope: jobs, Token: 5, AccessKey: "ops", Reason: "new"},
	}
	for i := range list {
		list[i].ID, list[i].Time = int64(i+1), noon.Add(time.Duration(i)*time.Second)
		list[i].Count = max(list[i].Count, 1)
	}
	return list
}

const golden = `12:00:00  GUARD     s3://demo/*/                           added  by ops: writes=sealed tokens=required issuer=s3fence
12:00:01  GRANTED   s3://demo/jobs/                        token 1 to ann@host
12:00:02  GRANTED   s3://demo/jobs/                        token 2 to bob; the lease of ann@host (anns-key) had run out
12:00:03  TAKEN     s3://demo/jobs/                        token 3 to ops@host, by force from bob (bobs-key): bob hangs
12:00:04  LOST      s3://demo/jobs/                        token 1 < 2, not renewed  by anns-key from 192.0.2.7
12:00:05  LOST      s3://demo/jobs/                        token 2, not renewed: its lease had ended  by anns-key, 40 times in 9.0 s
12:00:06  RELEASED  s3://demo/jobs/                        token 2 by bob
12:00:07  RAISED    s3://demo/jobs/                        mark from 2 to 4  by ops: runaway job
12:00:08  RESET     s3://demo/jobs/                        a new generation  by ops: new lock service
12:00:09  REFUSED   PutObject s3://demo/jobs/report        token 1 < 2 (bob)  by s3fence-dev, 3.2 s after bob got the lock
12:00:10  REFUSED   PutObject s3://demo/jobs/report        token 1 < 2 (bob)  by s3fence-dev from 192.0.2.7, 482 times in 9.8 s, the last 2 min after bob got the lock
12:00:11  REFUSED   GetObject s3://demo/jobs/report        token 1 < 2 (bob)  by s3fence-dev, 3.2 s after bob got the lock
12:00:12  REFUSED   UploadPart s3://demo/jobs/report       token 1 < 2  by s3fence-dev, 250 ms after the mark was raised
12:00:13  REFUSED   PutObject s3://demo/jobs/\x1b[2Ja\xff  tokens below 2 (bob)  by s3fence-dev, 3.2 s after bob got the lock
12:00:14  REFUSED   9000 writes in s3://demo/jobs/         tokens below 2 (bob)  by s3fence-dev, in 10.0 s, the last 3.2 s after bob got the lock
12:00:15  REFUSED   2 reads in several scopes              stale tokens, in 100 ms
12:00:16  REFUSED   PutObject s3://demo/jobs/report        no token  by s3fence-dev
12:00:17  REFUSED   PutObject s3://demo/free/a             no guard covers s3://demo/free/a  by anns-key
12:00:18  ALARM     GetObject s3://demo/jobs/lost          by anns-key, 3 times in 20 ms: the object's bytes are gone
12:00:19  DROPPED   37 events were                         not recorded: the state could not take them in time from a-host
12:00:20  OF A LATER VERSION  s3://demo/jobs/                        token 5  by ops: new
`

func TestEventLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newEventPrinter(&out, false)
	p.now, p.zone = func() time.Time { return noon.Add(time.Hour) }, time.UTC
	list := goldenEvents()
	list[0], list[1] = list[1], list[0] // shown in the order of time
	require.NoError(t, p.print(list))
	assert.Equal(t, golden, out.String())
	assert.Equal(t, "9484 writes were refused: they would have corrupted data; refused under stale tokens as well: 3 reads, 1 step of uploads that nobody could see yet; 37 events were not recorded, so there may have been more", p.tally.String())

	// Of another day: with the day, and so for the rest of the run.
	out.Reset()
	p.now = func() time.Time { return noon.AddDate(0, 0, 1) }
	require.NoError(t, p.print(goldenEvents()[9:10]))
	assert.True(t, strings.HasPrefix(out.String(), "2026-03-04 12:00:09  REFUSED   PutObject"), out.String())

	out.Reset()
	p = newEventPrinter(&out, true)
	require.NoError(t, p.print(goldenEvents()))
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	require.Len(t, lines, 21, "one object a line")
	for i, l := range lines {
		var e client.Event
		require.NoError(t, json.Unmarshal([]byte(l), &e))
		if i != 13 { // its key is no text
			assert.Equal(t, goldenEvents()[i], e)
		}
	}
}

func TestEventTally(t *testing.T) {
	t.Parallel()
	stale := func(access string, n int64) client.Event {
		return client.Event{Kind: "refused", Code: "StaleFencingToken", Access: access, Count: n}
	}
	for want, list := range map[string][]client.Event{
		"no events": nil,
		"no write under a stale token was refused among these events":                                              {{Kind: "grant", Count: 1}, {Kind: "refused", Code: "MissingFencingToken", Access: "write", Count: 5}},
		"1 write was refused: it would have corrupted data":                                                        {stale("write", 1)},
		"7 writes were refused: they would have corrupted data":                                                    {stale("write", 3), stale("write", 4)},
		"no write under a stale token was refused among these events; refused under stale tokens as well: 1 read":  {stale("read", 1)},
		"1 write was refused: it would have corrupted data; 1 event was not recorded, so there may have been more": {stale("write", 1), {Kind: "dropped", Count: 1}},
	} {
		var sum tally
		for i := range list {
			sum.add(&list[i])
		}
		assert.Equal(t, want, sum.String())
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"90s": noon.Add(-90 * time.Second), "1h30m": noon.Add(-90 * time.Minute), "7d": noon.AddDate(0, 0, -7), "1d12h": noon.Add(-36 * time.Hour),
		"2026-03-04T11:00:00+01:00": noon.Add(-2 * time.Hour), "0s": noon,
	} {
		got, err := sinceOf(text, noon)
		require.NoError(t, err, text)
		assert.True(t, want.Equal(got), "%s: %v", text, got)
	}
	for _, text := range []string{"", "yesterday", "d", "-1d", "-1h", "1", "1d1", "2026-03-04", "99999999999d"} {
		_, err := sinceOf(text, noon)
		require.Error(t, err, text)
		assert.Equal(t, exitUsage, exitCode(err))
	}
}

// answers is a service that answers from a script, and then ends the command.
type answers struct {
	mu     sync.Mutex
	script []func(w http.ResponseWriter)
	asked  []string
	end    func()
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r.URL.Query().Get("after"))
	if len(a.script) == 0 {
		a.end()
		return
	}
	a.script[0](w)
	a.script = a.script[1:]
}

func page(next int64, ids ...int64) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		list := []client.Event{}
		for _, id := range ids {
			list = append(list, client.Event{ID: id, Kind: "grant", Time: noon, Scope: "s3://demo/jobs/", Token: id, Count: 1})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"events": list, "next": next})
	}
}

func fails(status int, code string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"code":%q,"message":"it says %s"}`, code, code)
	}
}

// followed runs the follower against a script and returns what it wrote.
func followed(t *testing.T, script ...func(http.ResponseWriter)) (out, errs string, asked []string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a := &answers{script: script, end: cancel}
	srv := httptest.NewServer(a)
	defer srv.Close()
	s, err := client.New(srv.URL, "k", "s")
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	c := &cobra.Command{}
	c.SetContext(ctx)
	c.SetOut(&stdout)
	c.SetErr(&stderr)
	p := newEventPrinter(&stdout, true)
	err = follow(c, s, client.EventQuery{}, 7, p)
	a.mu.Lock()
	defer a.mu.Unlock()
	return stdout.String(), stderr.String(), a.asked, err
}

// A proxy that goes away is waited for, which is said once; every event is printed
// once; and Ctrl-C is no failure.
func TestFollow(t *testing.T) {
	t.Parallel()
	out, errs, asked, err := followed(t,
		page(9, 8, 9), fails(503, "ServiceUnavailable"), fails(503, "ServiceUnavailable"), fails(504, "OutcomeUnknown"), page(12), page(14, 13))
	require.NoError(t, err)
	assert.Equal(t, []string{"7", "9", "9", "9", "9", "12", "14"}, asked)
	assert.Equal(t, 3, strings.Count(out, "\n"))
	assert.Equal(t, 1, strings.Count(errs, "trying again"), errs)
	assert.Equal(t, 1, strings.Count(errs, "it answers again"), errs)

	out, errs, asked, err = followed(t, page(9, 8), page(3), page(4, 4))
	require.NoError(t, err)
	assert.Equal(t, []string{"7", "9", "3", "4"}, asked)
	assert.Contains(t, errs, "an older copy of itself")
	assert.Equal(t, 2, strings.Count(out, "\n"))

	// What no time mends ends it.
	_, _, _, err = followed(t, fails(403, "AccessDenied"))
	require.ErrorIs(t, err, client.ErrDenied)

	// A proxy that does not wait, because it is about to end, is not asked without
	// a pause.
	begun := time.Now()
	_, _, asked, err = followed(t, page(7), page(7), page(7))
	require.NoError(t, err)
	assert.Len(t, asked, 4)
	assert.GreaterOrEqual(t, time.Since(begun), 3*lastRetry/10)
}
