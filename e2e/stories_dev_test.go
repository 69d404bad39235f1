package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the README tells, typed as there: dev in an empty folder, two holders, the
// aws CLI. Then kill -9 while clients write, and everything that was
// acknowledged is there, tokens go on upward, what was stale stays stale.
func TestReadmeStory(t *testing.T) {
	t.Parallel()
	c := NewDev(t, Options{})
	p := c.Proxies[0]
	assert.Contains(t, p.Log(), "export AWS_ACCESS_KEY_ID=s3fence-dev", "dev prints a block to paste")
	file := func(body string) string {
		path := filepath.Join(t.TempDir(), "report")
		require.NoError(t, os.WriteFile(path, []byte(body), 0o600))
		return path
	}
	old := p.CLI("lock", "acquire", "s3://demo/jobs/").Must(t)
	p.AWS("s3", "cp", file("old"), "s3://demo/jobs/report", "--metadata", "fencing-token="+old).Must(t)
	assert.Equal(t, "old", p.AWS("s3", "cp", "s3://demo/jobs/report", "-").Must(t))
	next := p.CLI("lock", "take", "s3://demo/jobs/", "--reason", "demo").Must(t)
	assert.Equal(t, []string{"1", "2"}, []string{old, next}, "people see small numbers")
	p.AWS("s3", "cp", file("new"), "s3://demo/jobs/report", "--metadata", "fencing-token="+next).Must(t)
	late := p.AWS("s3", "cp", file("late"), "s3://demo/jobs/report", "--metadata", "fencing-token="+old)
	late.WantErr(t, 1, "StaleFencingToken", "token 1 of s3://demo/jobs/ is stale", "2 was granted to")
	assert.Equal(t, "new", p.AWS("s3", "cp", "s3://demo/jobs/report", "-").Must(t))

	token, err := strconv.ParseInt(next, 10, 64)
	require.NoError(t, err)
	want := map[string]string{"jobs/report": "new"}
	for range 3 {
		acknowledged, doubtful := writeUntilKilled(t, p, token)
		maps.Copy(want, acknowledged)
		for key := range doubtful {
			delete(want, key)
		}
		p.Restart()
		for key, body := range want {
			got := p.Send(t, Request{Method: "GET", Bucket: "demo", Key: key})
			if got.Status != 200 || got.Body != body {
				t.Fatalf("%s was acknowledged with %q: %s", key, body, got)
			}
		}
		p.PutToken(t, "jobs/report", "late", 1).WantCode(t, 412, "StaleFencingToken")
		higher := c.Take("jobs/", "after the kill")
		require.Greater(t, higher, token, "tokens go on upward")
		p.PutToken(t, "jobs/report", "late", token).WantCode(t, 412, "StaleFencingToken")
		token = higher
	}
	p.Stop()
	p.Restart()
	assert.Equal(t, "new", p.Get(t, "jobs/report"))
}

// writeUntilKilled lets eight clients write new and old keys, fenced and plain,
// kills the proxy in the midst of it and returns what was acknowledged last for
// each key, and the keys for which a later write was never answered.
func writeUntilKilled(t *testing.T, p *Proxy, token int64) (acknowledged map[string]string, doubtful map[string]bool) {
	t.Helper()
	var mu sync.Mutex
	acknowledged, doubtful = map[string]string{}, map[string]bool{}
	ctx, cancel := context.WithTimeout(t.Context(), readyWait)
	defer cancel()
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for n := 0; ; n++ {
				key := fmt.Sprintf("jobs/killed/%d/%d/%d", token, w, n)
				if n%3 == 2 {
					key = fmt.Sprintf("jobs/same-%d", w)
				}
				header := tokenHeader(token)
				if w%2 == 1 {
					key, header = strings.ReplaceAll(key, "/", "-"), nil
				}
				body := fmt.Sprintf("%d of %d under %d", n, w, token) + strings.Repeat(".", n*97%9000)
				answer, err := p.TrySend(ctx, Request{Method: "PUT", Bucket: "demo", Key: key, Body: body, Header: header})
				mu.Lock()
				if err != nil {
					// It may have happened or not.
					doubtful[key] = true
					mu.Unlock()
					return
				}
				if answer.Status != 200 {
					t.Errorf("%s", answer)
				}
				acknowledged[key] = body
				mu.Unlock()
			}
		})
	}
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) >= 100 }, readyWait, time.Millisecond)
	p.Kill()
	all.Wait()
	return acknowledged, doubtful
}
