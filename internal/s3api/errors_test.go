package s3api

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

func TestGuardedBucketSettings(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	for _, tc := range []struct {
		method, target, code string
		status               int
	}{
		{"GET", "/data?versioning", "", 200},
		{"GET", "/data?object-lock", "ObjectLockConfigurationNotFoundError", 404},
		{"GET", "/data?location", "", 200},
		{"PUT", "/data?versioning", "NotImplemented", 501},
		{"PUT", "/data?lifecycle", "NotImplemented", 501},
		{"DELETE", "/data?lifecycle", "NotImplemented", 501},
		{"PUT", "/data?replication", "NotImplemented", 501},
		{"PUT", "/data?policy", "NotImplemented", 501},
		{"GET", "/data?versions", "", 200},
		{"DELETE", "/data", codeBucketGuarded, 409},
		{"POST", "/data/jobs/a/k?restore", "NotImplemented", 501},
		{"POST", "/data", "NotImplemented", 501},
		{"GET", "/data?frobnicate", "NotImplemented", 501},
		{"PATCH", "/data/k", "NotImplemented", 501},
		{"OPTIONS", "/data/k", "NotImplemented", 501},
	} {
		got := b.call(t, call{method: tc.method, target: tc.target})
		if got.status != tc.status || got.code() != tc.code {
			t.Errorf("%s %s: %d %s, want %d %s", tc.method, tc.target, got.status, got.code(), tc.status, tc.code)
		}
	}
}

// Each kind of failure has one status (F7), and says nothing of secrets.
func TestGoldenErrors(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	var out strings.Builder
	show := func(name string, a answer) {
		text := strings.ReplaceAll(a.body, a.header.Get("X-Amz-Request-Id"), "REQUEST")
		text = strings.ReplaceAll(text, a.header.Get("X-Amz-Id-2"), "HOST")
		fmt.Fprintf(&out, "# %s\n%d", name, a.status)
		for _, h := range []string{"X-Fencing-Scope", "X-Fencing-Highest", "Retry-After", "Content-Range", "X-Minio-Error-Code", "X-Minio-Error-Desc"} {
			if v := a.header.Get(h); v != "" {
				fmt.Fprintf(&out, " %s=%s", h, v)
			}
		}
		fmt.Fprintf(&out, "\n%s\n\n", text)
	}
	put := func(target, token string) call {
		c := call{method: "PUT", target: target, body: "x"}
		if token != "" {
			c.header = map[string]string{"X-Fencing-Token": token}
		}
		return c
	}
	show("stale", b.call(t, put("/data/jobs/a/k", "33")))
	show("missing", b.call(t, put("/data/jobs/a/k", "")))
	show("never granted", b.call(t, put("/data/jobs/a/k", "35")))
	show("no guard", b.call(t, put("/data/other/k", "35")))
	show("not a token", b.call(t, put("/data/jobs/a/k", "-1")))
	show("bad name", b.call(t, put("/data/jobs//k", "")))
	show("in place", b.call(t, put("/data/here/k", "")))
	show("removing", b.call(t, put("/data/leaving/k", "")))
	show("unknown operation", b.call(t, call{method: "GET", target: "/data/k?frobnicate=<1>"}))
	show("no such key", b.call(t, call{method: "GET", target: "/data/jobs/a/<none>&"}))
	show("delete bucket", b.call(t, call{method: "DELETE", target: "/data"}))
	for _, tc := range []struct {
		name string
		err  error
	}{
		{"state unavailable", fmt.Errorf("writing: %w", state.ErrUnavailable)},
		{"state's disk full", fmt.Errorf("writing: %w: %w", state.ErrUnavailable, state.ErrDiskFull)},
		{"no connection to the state", fmt.Errorf("writing: %w: %w", state.ErrUnavailable, state.ErrNoConnection)},
		{"lease over for want of room", fmt.Errorf("%w: %w", guards.ErrLeaseOver, state.ErrDiskFull)},
		{"outcome unknown on a full disk", fmt.Errorf("writing: %w: %w", state.ErrUnknown, state.ErrDiskFull)},
		{"store full", fmt.Errorf("%w: storing: %w", guarded.ErrStore, &upstream.Error{Status: http.StatusInsufficientStorage, Code: "XMinioStorageFull", Outcome: upstream.Refused})},
		{"store's quota", fmt.Errorf("%w: storing: %w", guarded.ErrStore, &upstream.Error{Status: http.StatusForbidden, Code: "QuotaExceeded", Outcome: upstream.Refused})},
		{"state busy", fmt.Errorf("writing: %w", state.ErrBusy)},
		{"outcome unknown", fmt.Errorf("writing: %w", state.ErrUnknown)},
		{"conflict", object.ErrConflict},
		{"something else", errors.New("secret of ours")},
	} {
		b.fake.mu.Lock()
		b.fake.fail = tc.err
		b.fake.mu.Unlock()
		show(tc.name, b.call(t, put("/data/jobs/a/k", "34")))
	}
	b.fake.mu.Lock()
	b.fake.fail = nil
	b.fake.mu.Unlock()
	b.call(t, put("/data/jobs/a/k", "34"))
	show("range", b.call(t, call{method: "GET", target: "/data/jobs/a/k", header: map[string]string{"Range": "bytes=7-"}}))
	show("stale HEAD", b.call(t, call{method: "HEAD", target: "/data/jobs/a/k", header: map[string]string{"X-Fencing-Token": "33"}}))
	show("HEAD without a token of an absent key", b.call(t, call{method: "HEAD", target: "/data/jobs/a/none"}))
	if strings.Contains(out.String(), testSecret) || strings.Contains(out.String(), "secret of ours") {
		t.Error("an error tells a secret")
	}
	golden(t, "errors.txt", out.String())
}

func TestAnonymousAndOldSignatures(t *testing.T) {
	t.Parallel()
	b := newGuarded(t)
	do := func(method, target, auth string) answer {
		r, err := http.NewRequestWithContext(t.Context(), method, b.url+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		tr := &http.Transport{}
		defer tr.CloseIdleConnections()
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var buf bytes.Buffer
		if _, err := buf.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		return answer{resp.StatusCode, resp.Header, buf.String()}
	}
	for _, tc := range []struct {
		method, target, auth, code, says string
	}{
		{"GET", "/plain/k", "", "AccessDenied", "Anonymous"},
		{"GET", "/plain/k", "AWS AK:c2ln", "InvalidRequest", "signature_version"},
		{"GET", "/plain/k?AWSAccessKeyId=x&Signature=y&Expires=1", "", "InvalidRequest", "s3v4"},
		{"POST", "/plain", "", "NotImplemented", "presigned PUT"},
		{"OPTIONS", "/plain/k", "", "NotImplemented", "Preflight"},
	} {
		if a := do(tc.method, tc.target, tc.auth); a.code() != tc.code || !strings.Contains(a.body, tc.says) {
			t.Errorf("%s %s: %d %s", tc.method, tc.target, a.status, a.body)
		}
	}
}

func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	b := newGuarded(t, func(o *Options) { o.Limits.Concurrent = 4 })
	want := func(what, key string, status int, code string) {
		t.Helper()
		got := b.call(t, call{method: "GET", target: "/data/open/k", key: key})
		if got.status != status || got.code() != code || (got.header.Get("Retry-After") != "") != (status == 503) {
			t.Errorf("%s: %d %s %v", what, got.status, got.code(), got.header)
		}
	}
	full := func(key string, n int) (leave func()) {
		for range n {
			if err := b.shares.enter(key); err != nil {
				t.Fatal(err)
			}
		}
		return func() {
			for range n {
				b.shares.leave(key)
			}
		}
	}
	// Half of all, for each: nobody keeps the others out.
	leave := full(testKey, 2)
	want("over its share", testKey, 503, codeSlowDown)
	want("another", readerKey, 404, "NoSuchKey")
	leave()
	want("after that", testKey, 404, "NoSuchKey")
	leaves := []func(){full("a", 2), full("b", 2)}
	want("all taken", testKey, 503, codeSlowDown)
	// Who cannot sign has no place, and needs none to be refused.
	if got := b.call(t, call{method: "GET", target: "/data/open/k", key: "AKNOBODY"}); got.status != 403 || got.code() != "InvalidAccessKeyId" {
		t.Errorf("unknown key: %d %s", got.status, got.code())
	}
	for _, leave := range leaves {
		leave()
	}
	want("all left", testKey, 404, "NoSuchKey")
	b.shares.mu.Lock()
	defer b.shares.mu.Unlock()
	if b.shares.all != 0 || len(b.shares.held) != 0 {
		t.Errorf("places are held by nobody: %d, %v", b.shares.all, b.shares.held)
	}
}

// A request that streams nothing does not wait for ever for its store.
func TestDeadline(t *testing.T) {
	t.Parallel()
	var s seen
	b := newBench(t, newStore(t, s.wrap, "data"), nil, func(o *Options) { o.Limits.Deadline = 50 * time.Millisecond })
	s.set(func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
	if got := b.call(t, call{method: "GET", target: "/data?tagging"}); got.status != 503 {
		t.Errorf("a read: %d %s", got.status, got.code())
	}
	if got := b.call(t, call{method: "DELETE", target: "/data/k"}); got.status != 504 || got.code() != codeUnknown {
		t.Errorf("a mutation: %d %s, want 504: it may have happened (F7)", got.status, got.code())
	}
}
