package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/testserver"
)

// What a client is told where a disk is full: what is full, and what to do.
const (
	stateFull = "The state has no room left on its disk, so nothing was done. Free space there, then send it again."
	storeFull = "The object store has no room left; nothing was done. Free space there, then send it again."
	spoolFull = "The proxy has no room left in its spool_dir for a body that it must keep. Free space there, or send the body's length and checksum in headers."
)

// disk opens a small disk, or skips the test on a machine where nobody may mount.
func disk(t *testing.T, size int64) *testserver.Disk {
	t.Helper()
	d, err := testserver.OpenDisk(size, nil)
	if errors.Is(err, testserver.ErrNoDisk) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// writeWhileFull has several clients write for a while, through a disk that is full,
// and counts their answers by message. Each is 200 or 503 and nothing else (F7).
func writeWhileFull(t *testing.T, l *ledger, p *Proxy, round string, token int64) map[string]int {
	t.Helper()
	told := map[string]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			for i := range 15 {
				body := fmt.Sprintf("full %s %d-%d", round, n, i) + strings.Repeat("x", n%2*(80<<10))
				a := l.put(context.Background(), p, fmt.Sprintf("full-%d-%d", n, i%5), body, token)
				switch a.Status {
				case 503:
					assert.Equal(t, "ServiceUnavailable", a.Failure().Code)
					assert.NotEmpty(t, a.Header.Get("Retry-After"))
				default:
					assert.Equal(t, 200, a.Status, "%s", a)
				}
				mu.Lock()
				told[a.Failure().Message]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return told
}

// A full disk of dev, on which state and store lie, and of a state in SQLite beside
// another store: writes are refused in words that name what is full, reads go on, and
// once there is room again everything does, without a restart. What was refused does
// not come to light by a recovery either. (F6, F7, F9)
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T, *testserver.Disk) *Cluster{
		"dev": func(t *testing.T, d *testserver.Disk) *Cluster {
			return NewDev(t, Options{Build: Race, Disk: d, Arguments: []string{"--dir", d.Inside("data")}})
		},
		"sqlite": func(t *testing.T, d *testserver.Disk) *Cluster {
			return NewCluster(t, Options{Build: Race, State: SQLite, Disk: d, Guards: []Guard{{Prefix: "*/"}}, Config: faultsConfig})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := disk(t, 24<<20)
			c := start(t, d)
			p := c.Proxies[0]
			l := newLedger(c, "jobs/")
			token, _ := l.take(t, p, "ann")
			for n := range 20 {
				l.put(t.Context(), p, fmt.Sprint(n), fmt.Sprint("before ", n), token).Want(t, 200)
			}
			for _, restarted := range []bool{false, true} {
				require.NoError(t, d.Fill(0))
				told := writeWhileFull(t, l, p, fmt.Sprint(restarted), token)
				t.Logf("answers while the disk is full: %v", told)
				refused := told[stateFull]
				if name == "dev" {
					refused += told[storeFull]
					assert.Positive(t, told[storeFull])
				}
				assert.Positive(t, refused)
				for message, n := range told {
					if message != "" && message != stateFull && message != storeFull {
						t.Errorf("%d times %q", n, message)
					}
				}
				// What was acknowledged is read, fenced and not.
				for n := range 20 {
					assert.Equal(t, fmt.Sprint("before ", n), l.see(t, p, fmt.Sprint(n), int64(n%2)*token))
				}
				// A takeover is granted, or says why not; it never leaves one in doubt.
				a := p.API(t, "POST", "/-/v1/locks/take", map[string]any{"scope": c.Scope("jobs/"), "owner": "bob", "ttl": "60s", "reason": "a test"})
				if a.Status == 200 {
					token = a.Token(t)
					l.note(token)
				} else {
					assert.Equal(t, 503, a.Status, "%s", a)
					assert.Contains(t, a.Body, "the disk of the state database is full: free space there")
				}
				if restarted {
					p.Kill()
				}
				require.NoError(t, d.Free())
				if restarted {
					p.Restart()
				}
				begun := time.Now()
				recovered(t, func() int {
					return l.put(t.Context(), p, "after", fmt.Sprint("after ", time.Since(begun)), token).Status
				})
				t.Logf("the first write after %v", time.Since(begun))
				l.judge(t, p)
			}
		})
	}
}

// A body that has to be kept until it is known whole finds no room: the client is told
// what to do, nothing is written, and everything else goes on. (F7)
func TestSpoolFull(t *testing.T) {
	t.Parallel()
	d := disk(t, 4<<20)
	c := NewCluster(t, Options{Build: Race, Disk: d, Config: map[string]any{"limits": map[string]any{"spool_dir": d.Inside("")}}})
	p := c.Proxies[0]
	plain := c.NewBucket()
	put := func(key string) Answer {
		// Of unknown length outside of guards: the store must be told one.
		return p.Send(t, Request{Method: "PUT", Bucket: plain, Key: key, Body: strings.Repeat("x", 1<<20), Chunked: true})
	}
	put("before").Want(t, 200)
	require.NoError(t, d.Fill(64<<10))
	f := put("full").WantCode(t, 503, "ServiceUnavailable")
	assert.Equal(t, spoolFull, f.Message)
	p.Send(t, Request{Method: "GET", Bucket: plain, Key: "full"}).WantCode(t, 404, "NoSuchKey")
	p.Send(t, Request{Method: "PUT", Bucket: plain, Key: "known", Body: strings.Repeat("x", 1<<20)}).Want(t, 200)
	assert.Len(t, p.Send(t, Request{Method: "GET", Bucket: plain, Key: "before"}).Want(t, 200).Body, 1<<20)
	require.NoError(t, d.Free())
	put("after").Want(t, 200)
	p.Send(t, Request{Method: "GET", Bucket: plain, Key: "full"}).WantCode(t, 404, "NoSuchKey")
}
