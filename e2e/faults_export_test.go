package e2e

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// exportPoints are those of an export, in the order in which it passes them; gone says
// that the guard is gone already.
var exportPoints = []struct {
	name string
	gone bool
}{{"ExportPermit", false}, {"ExportCopy", false}, {"ExportClosed", false}, {"ExportDrop", false}, {"ExportTidy", true}}

func exportArmed(action string) string {
	var all []string
	for _, p := range exportPoints {
		all = append(all, p.name+"="+action+"?")
	}
	return strings.Join(all, ",")
}

var exportConfig = map[string]any{"guard_lease": "3s", "upstream_validity": "3s", "settle_bound": "1s"}

// An exporting proxy is killed, or frozen until another one has finished and a client
// has written without a guard, at each step. What was acknowledged last stands.
func TestExporterDiesAtEachStep(t *testing.T) { // F5, F6
	t.Parallel()
	for _, action := range []string{"kill", "stop"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			c := NewCluster(t, Options{Proxies: 2, Pause: exportArmed(action), Config: exportConfig})
			a, b := c.Proxies[0], c.Proxies[1]
			for _, point := range exportPoints {
				prefix := strings.ToLower(point.name) + "/"
				scope := c.Scope(prefix)
				b.Put(t, prefix+"deleted", "before the guard").Want(t, 200)
				b.CLI("guard", "add", scope).Must(t)
				f := c.Fence(b, prefix, b.Acquire(t, scope, "ann"))
				for _, key := range []string{"a", "b", "c"} {
					f.Put(t, b, prefix+key, "in the scope "+key).Want(t, 200)
				}
				b.Send(t, f.sign(Request{Method: "DELETE", Bucket: c.Bucket, Key: prefix + "deleted"})).Want(t, 204)

				a.Arm(point.name)
				first := make(chan Output, 1)
				go func() { first <- a.CLI("export", "--remove-guard", scope) }()
				t.Cleanup(a.Thaw)
				a.AwaitHit(point.name)
				if !point.gone {
					assert.Equal(t, "in the scope a", f.Get(t, b, prefix+"a").Want(t, 200).Body, "%s: reads go on", point.name)
				}
				if action == "kill" {
					a.AwaitExit()
					assert.NotZero(t, (<-first).Code, point.name)
				} else {
					a.Freeze() // it has stopped itself; this waits until it stands
				}
				out := b.CLI("export", "--remove-guard", scope)
				out.Must(t)
				assert.Empty(t, guardsOf(t, b), point.name)
				unguarded(t, b, prefix+"b", "by a client, after the guard")
				if action == "kill" {
					a.Restart()
				} else {
					a.Thaw()
					ended := <-first
					assert.Equal(t, point.gone, ended.Code == 0, "%s: %s", point.name, ended.Stderr)
				}
				store := c.Store.Client(t)
				stored := func(key string) string {
					o, err := store.GetObject(t.Context(), c.Bucket, key, minio.GetObjectOptions{})
					require.NoError(t, err)
					defer o.Close()
					body, err := io.ReadAll(o)
					require.NoError(t, err, key)
					return string(body)
				}
				for key, want := range map[string]string{"a": "in the scope a", "b": "by a client, after the guard", "c": "in the scope c"} {
					assert.Equal(t, want, stored(prefix+key), "%s: %s", point.name, key)
				}
				assert.Equal(t, []string{prefix + "a", prefix + "b", prefix + "c"}, keysBelow(t, b, c.Bucket, prefix), point.name)
				a.Disarm(point.name)
			}
		})
	}
}

// unguarded writes without a token, as soon as the proxy knows that it may.
func unguarded(t *testing.T, p *Proxy, key, body string) {
	t.Helper()
	require.Eventually(t, func() bool { return p.Put(t, key, body).Status == 200 }, time.Minute, 50*time.Millisecond, key)
}
