package lockapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/client"
	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// signedGet is a signed call of GET events.
func (w *world) signedGet(name, query string) (int, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+"/-/v1/events"+query, http.NoBody)
	require.NoError(w.t, err)
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
	req.Header.Set("X-Amz-Content-Sha256", empty)
	require.NoError(w.t, v4.NewSigner().SignHTTP(w.t.Context(), aws.Credentials{AccessKeyID: name, SecretAccessKey: name + "-secret"}, req, empty, "s3", "us-east-1", time.Now()))
	resp, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	return resp.StatusCode, string(body)
}

// settled waits until n events are recorded.
func (w *world) settled(n int) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		page, err := w.state.ListEvents(w.t.Context(), state.EventQuery{Limit: 1000})
		return err == nil && len(page.Events) >= n
	}, 10*time.Second, 5*time.Millisecond)
}

// What happened can be read with the words of the interface, the caller of each
// call included.
func TestEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root, ann := w.as("root"), w.as("ann")
	_, err := root.AddGuard(t.Context(), client.Guard{Pattern: "s3://data/jobs/"})
	require.NoError(t, err)
	old, err := ann.Acquire(t.Context(), client.Acquisition{Scope: "s3://data/jobs/", Owner: "ann@host"})
	require.NoError(t, err)
	_, err = root.Take(t.Context(), "s3://data/jobs/", "root@host", 0, "ann hangs")
	require.NoError(t, err)
	_, err = ann.Renew(t.Context(), "s3://data/jobs/", old.Token, 0)
	require.ErrorIs(t, err, client.ErrLost)
	scope, err := fence.ParseScope("s3://data/jobs/")
	require.NoError(t, err)
	w.told.Observe(t.Context(), events.Event{Kind: events.Refused, Scope: scope, Bucket: "data", Key: "jobs/a", Token: 1, Highest: 2, Owner: "root@host",
		AccessKey: "ann", Operation: "PutObject", Access: events.Writes, Code: events.CodeStale, After: 1500 * time.Millisecond})
	w.settled(5)

	status, body := w.signedGet("root", "")
	require.Equal(t, 200, status, body)
	var answer struct {
		Events []map[string]any
		Next   int64
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	require.Len(t, answer.Events, 5)
	assert.Equal(t, float64(answer.Next), answer.Events[4]["id"])
	pick := func(e map[string]any, names ...string) (out []any) {
		for _, n := range names {
			out = append(out, e[n])
		}
		return out
	}
	e := answer.Events
	assert.Equal(t, []any{"guard_added", "s3://data/jobs/", "root", "127.0.0.1", nil}, pick(e[0], "kind", "guard", "access_key", "remote", "scope"))
	assert.Contains(t, e[0]["reason"], "tokens=required")
	assert.NotEmpty(t, e[0]["request_id"])
	assert.Equal(t, []any{"grant", "s3://data/jobs/", "ann", "ann@host", 1.0, nil}, pick(e[1], "kind", "scope", "holder", "owner", "token", "previous"))
	assert.Equal(t, []any{"takeover", "root", "root@host", 2.0, 1.0, "ann@host (ann)", "ann hangs"}, pick(e[2], "kind", "holder", "owner", "token", "highest", "previous", "reason"))
	assert.Equal(t, []any{"renew_lost", "ann", 1.0, 2.0}, pick(e[3], "kind", "access_key", "token", "highest"))
	assert.Equal(t, []any{"refused", "data", "jobs/a", "PutObject", "write", "StaleFencingToken", 1500.0, 1.0},
		pick(e[4], "kind", "bucket", "key", "operation", "access", "code", "after_ms", "count"))
	_, err = time.Parse(time.RFC3339Nano, e[4]["time"].(string))
	require.NoError(t, err)

	for query, want := range map[string][]int{
		"?limit=2":                 {4, 5},
		"?after=0&limit=2":         {1, 2},
		"?after=2":                 {3, 4, 5},
		"?kind=grant,takeover":     {2, 3},
		"?kind=grant&kind=refused": {2, 5},
		"?prefix=" + url.QueryEscape("s3://data/jo"):                  {1, 2, 3, 4, 5},
		"?prefix=" + url.QueryEscape("s3://data/jobs/a"):              {5},
		"?prefix=" + url.QueryEscape("s3://other/"):                   {},
		"?since=" + url.QueryEscape("2001-01-01T00:00:00+02:00"):      {1, 2, 3, 4, 5},
		"?since=2999-01-01T00:00:00Z":                                 {},
		"?after=5&wait=1ms":                                           {},
		"?after=0&prefix=" + url.QueryEscape("s3://") + "&kind=grant": {2},
	} {
		status, body = w.signedGet("root", query)
		require.Equal(t, 200, status, body)
		answer.Events = nil
		require.NoError(t, json.Unmarshal([]byte(body), &answer))
		got := []int{}
		for _, e := range answer.Events {
			got = append(got, int(e["id"].(float64)))
		}
		assert.Equal(t, want, got, query)
	}
}

// What cannot be meant is refused with what can.
func TestEventQueriesThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for query, says := range map[string]string{
		"?aftr=1":                            `no parameter \"aftr\"; the parameters are after, prefix`,
		"?after=x":                           "after is",
		"?after=-1":                          "after is",
		"?after=":                            "after is",
		"?after=1&after=2":                   "after is given 2 times",
		"?prefix=data/":                      "such as s3://bucket/prefix/",
		"?kind=refusal":                      `no kind \"refusal\"; the kinds are grant, takeover, renew_lost`,
		"?kind=renew":                        "no kind",
		"?kind=grant,":                       "no kind",
		"?since=yesterday":                   "RFC 3339",
		"?limit=0":                           "from 1 to 1000",
		"?limit=1001":                        "from 1 to 1000",
		"?after=1&wait=21s":                  "from 0s to 20s",
		"?after=1&wait=20":                   "wait is",
		"?wait=1s":                           "wait needs after",
		"?after=1&wait=-1s":                  "wait is",
		"?limit=" + strings.Repeat("9", 500): "…",
	} {
		status, body := w.signedGet("root", query)
		assert.Equal(t, 400, status, query)
		assert.Contains(t, body, `"code":"BadRequest"`, query)
		assert.Contains(t, body, says, query)
	}
}

// A caller sees what it has a right on, and its cursor passes what it may not see.
func TestEventsTellNobodyOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	scope := func(s string) fence.Scope {
		sc, err := fence.ParseScope(s)
		require.NoError(t, err)
		return sc
	}
	for _, e := range []events.Event{
		{Kind: events.Granted, Scope: scope("s3://data/jobs/"), Token: 1},
		{Kind: events.Granted, Scope: scope("s3://data/secret/"), Token: 2},
		{Kind: events.Granted, Scope: scope("s3://other/x/"), Token: 3},
		{Kind: events.GuardAdded, Bucket: "data", Guard: "s3://data/jobs/", Token: 4},
		{Kind: events.GuardAdded, Bucket: "other", Guard: "s3://other/*/", Token: 5},
		{Kind: events.Refused, Bucket: "data", Key: "free/a", Code: "InvalidFencingToken", Token: 6},
		{Kind: events.Refused, Bucket: "data", Key: "jobs/", Code: "InvalidFencingToken", Token: 7},
		{Kind: events.Refused, Code: events.CodeStale, Token: 8},
		{Kind: events.Dropped, Token: 9, Reason: "from a-host"},
	} {
		e.Remote = "192.0.2.7"
		w.told.Observe(t.Context(), e)
	}
	w.settled(9)
	for name, want := range map[string][]int64{
		"root": {1, 2, 3, 4, 5, 6, 7, 8, 9},
		"ann":  {1, 7, 9},
		"bob":  {1, 2, 6, 7, 9},
		"eve":  {3, 5, 9},
	} {
		for _, query := range []string{"", "?after=0"} {
			status, body := w.signedGet(name, query)
			require.Equal(t, 200, status, body)
			var answer struct {
				Events []struct {
					Token          int64
					Remote, Reason string
				}
				Next int64
			}
			require.NoError(t, json.Unmarshal([]byte(body), &answer))
			var got []int64
			for _, e := range answer.Events {
				got = append(got, e.Token)
				admin := name == "root" || name == "eve" && e.Token != 9
				assert.Equal(t, admin, e.Remote != "", "addresses are for operators: %s, %d", name, e.Token)
				assert.Equal(t, admin && e.Token == 9, e.Reason != "", "so are names of hosts: %s", name)
			}
			assert.Equal(t, want, got, name)
			assert.Equal(t, int64(9), answer.Next)
		}
	}
	status, body, _ := w.raw("GET", "/-/v1/events", "")
	assert.Equal(t, 403, status, body)
}

// While the state cannot be asked that is said, not that nothing happened (F9).
func TestEventsWhileTheStateIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fault := fmt.Errorf("cut off")
	w.fault.Store(&fault)
	for _, query := range []string{"", "?after=0", "?after=0&wait=20s"} {
		status, body := w.signedGet("root", query)
		assert.Equal(t, 503, status, body)
		assert.Contains(t, body, "ServiceUnavailable")
	}
	w.fault.Store(nil)
}
