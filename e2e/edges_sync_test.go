package e2e

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rclone runs rclone with fenced credentials; remote names are s3fence:BUCKET/KEY.
func (p *Proxy) rclone(f Fenced, args ...string) Output {
	p.t.Helper()
	if _, err := exec.LookPath("rclone"); err != nil {
		p.t.Fatalf("%v: install rclone (Debian package rclone)", err)
	}
	home := p.t.TempDir()
	env := p.clientEnv()
	maps.Copy(env, f.Env())
	maps.Copy(env, map[string]string{
		"RCLONE_CONFIG": filepath.Join(home, "none"), "RCLONE_CONFIG_S3FENCE_TYPE": "s3", "RCLONE_CONFIG_S3FENCE_PROVIDER": "Other",
		"RCLONE_CONFIG_S3FENCE_ENV_AUTH": "true", "RCLONE_CONFIG_S3FENCE_ENDPOINT": p.URL, "RCLONE_CONFIG_S3FENCE_REGION": "us-east-1",
		"RCLONE_CONFIG_S3FENCE_NO_CHECK_BUCKET": "true",
	})
	return command(p.t, home, environment(home, env), "", "rclone", append([]string{"--retries", "1", "--low-level-retries", "1"}, args...)...)
}

// manyFiles makes a tree of small files in folders, as many as make sizes or make
// test want.
func manyFiles(t *testing.T) (dir string, n int) {
	t.Helper()
	dir, n = t.TempDir(), 300
	if allSizes() {
		n = 5000
	}
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("d%02d/e%d/file %04d+ü", i%40, i%3, i))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(strings.Repeat(fmt.Sprint(i), i%9)), 0o600))
	}
	return dir, n
}

// Mirroring a folder into a scope under fenced credentials: everything, nothing the
// second time, then what was changed, added and deleted; and the successor's files
// stay as they are.
func TestEdgesSync(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Guards: []Guard{{Prefix: "aws/"}, {Prefix: "rclone/"}}})
	p := c.Proxies[0]
	for _, tool := range []struct {
		name string
		up   func(f Fenced, from, to string) Output
		down func(f Fenced, from, to string) Output
		// copied and deleted are how lines of its output begin.
		copied, deleted string
	}{
		{
			"aws",
			func(f Fenced, from, to string) Output {
				return p.AWSWith(f.Env(), "s3", "sync", "--no-progress", "--delete", from, "s3://"+to)
			},
			func(f Fenced, from, to string) Output {
				return p.AWSWith(f.Env(), "s3", "sync", "--no-progress", "s3://"+from, to)
			},
			"upload: ", "delete: ",
		},
		{
			"rclone",
			func(f Fenced, from, to string) Output {
				return p.rclone(f, "sync", "-v", "--stats", "0", "--fast-list", from, "s3fence:"+to)
			},
			func(f Fenced, from, to string) Output { return p.rclone(f, "sync", "s3fence:"+from, to) },
			": Copied (", ": Deleted",
		},
	} {
		c.Run(t, tool.name, func(t *testing.T) {
			local, n := manyFiles(t)
			scope := tool.name + "/"
			f := c.Fence(p, scope, c.Take(scope, tool.name))
			remote := c.Bucket + "/" + scope + "tree"
			count := func(out Output, what string) int {
				t.Helper()
				out.Must(t)
				return strings.Count(out.Stdout+out.Stderr, what)
			}
			began := time.Now()
			assert.Equal(t, n, count(tool.up(f, local, remote), tool.copied))
			t.Logf("%d files in %v", n, time.Since(began).Round(time.Millisecond))
			began = time.Now()
			again := tool.up(f, local, remote)
			assert.Zero(t, count(again, tool.copied)+count(again, tool.deleted), "nothing to do the second time")
			t.Logf("none in %v", time.Since(began).Round(time.Millisecond))

			gone := 0
			for d := range 20 {
				folder := filepath.Join(local, fmt.Sprintf("d%02d", d))
				gone += len(files(t, folder))
				require.NoError(t, os.RemoveAll(folder))
			}
			require.NoError(t, os.WriteFile(filepath.Join(local, "added"), []byte("added"), 0o600))
			changed := filepath.Join(local, "d20/e2/file 0020+ü")
			require.NoError(t, os.WriteFile(changed, []byte("changed, and longer than before"), 0o600))
			next := tool.up(f, local, remote)
			assert.Equal(t, 2, count(next, tool.copied))
			assert.Equal(t, gone, count(next, tool.deleted))
			back := t.TempDir()
			tool.down(f, remote, back).Must(t)
			assert.Equal(t, files(t, local), files(t, back))
			assert.Len(t, keysBelow(t, p, c.Bucket, scope), n-gone+1)

			// Whoever lost the lock in between deletes nothing any more.
			c.Take(scope, "next@host")
			require.NoError(t, os.RemoveAll(filepath.Join(local, "d30")))
			late := tool.up(f, local, remote)
			assert.NotZero(t, late.Code, "%s%s", late.Stdout, late.Stderr)
			assert.Len(t, keysBelow(t, p, c.Bucket, scope), n-gone+1)
		})
	}
}
