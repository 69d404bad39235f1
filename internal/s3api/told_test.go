package s3api

import (
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
)

// What a refusal tells of: what was tried and whether it was a write, by whom from
// where, under which token against which, and how long after the loss.
func TestRefusalsAreTold(t *testing.T) {
	t.Parallel()
	const key, batch = "/data/jobs/a/k", `<Delete><Object><Key>jobs/a/1</Key></Object><Object><Key>jobs/a/2</Key></Object></Delete>`
	stale := map[string]string{"X-Fencing-Token": "33"}
	for name, tc := range map[string]struct {
		call
		operation string
		access    events.Access
		key       string
	}{
		"write":           {call{method: "PUT", target: key, body: "x", header: stale}, "PutObject", events.Writes, "jobs/a/k"},
		"delete":          {call{method: "DELETE", target: key, header: stale}, "DeleteObject", events.Writes, "jobs/a/k"},
		"read":            {call{method: "GET", target: key, header: stale}, "GetObject", events.Reads, "jobs/a/k"},
		"head":            {call{method: "HEAD", target: key, header: stale}, "HeadObject", events.Reads, "jobs/a/k"},
		"upload begun":    {call{method: "POST", target: key + "?uploads", header: stale}, "CreateMultipartUpload", events.Stages, "jobs/a/k"},
		"part":            {call{method: "PUT", target: key + "?partNumber=1&uploadId=u", body: "x", header: stale}, "UploadPart", events.Stages, "jobs/a/k"},
		"upload's end":    {call{method: "POST", target: key + "?uploadId=u", body: "<CompleteMultipartUpload/>", header: stale}, "CompleteMultipartUpload", events.Writes, "jobs/a/k"},
		"several at once": {call{method: "POST", target: "/data?delete", body: batch, header: stale}, "DeleteObjects", events.Writes, "jobs/a/1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newGuarded(t)
			b.fake.grant("s3://data/jobs/a/", 34, true)
			now := time.Now()
			b.fake.last, b.fake.now = fence.Grant{Holder: "bobs-key", Owner: "bob", At: now}, now.Add(3*time.Second)
			got := b.call(t, tc.call)
			b.mu.Lock()
			defer b.mu.Unlock()
			if len(b.events) != 1 {
				t.Fatalf("%d %s: %d events", got.status, got.body, len(b.events))
			}
			e := b.events[0]
			want := events.Event{
				Kind: events.Refused, Scope: e.Scope, Bucket: "data", Key: tc.key, Token: 33, Highest: 34, Holder: "bobs-key", Owner: "bob",
				AccessKey: testKey, Remote: "127.0.0.1", Operation: tc.operation, Access: tc.access, RequestID: e.RequestID,
				Code: events.CodeStale, After: 3 * time.Second, Reason: e.Reason,
			}
			if e != want || e.Scope.String() != "s3://data/jobs/a/" || e.RequestID == "" || e.Reason == "" {
				t.Errorf("%+v\nwant %+v", e, want)
			}
			if e.Stale() != (tc.access == events.Writes) {
				t.Errorf("would it have corrupted data? %v", e.Stale())
			}
		})
	}
}
