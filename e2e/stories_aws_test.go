package e2e

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tree makes a folder with about 200 files: small, empty, nested, oddly named,
// and one that is sent in parts.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, body []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, body, 0o600))
	}
	for i := range 196 {
		write(fmt.Sprintf("d%d/e%d/file %03d", i%4, i%7, i), []byte(strings.Repeat(fmt.Sprint(i), i)))
	}
	write("empty", nil)
	write("ünïcode/日本", []byte("names"))
	write("plus+percent%20&=", []byte("names"))
	big := make([]byte, 9<<20+123)
	_, err := rand.Read(big)
	require.NoError(t, err)
	write("big", big)
	return dir
}

// files reads a folder.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = hexMD5(string(body))
		return err
	}))
	return all
}

func TestAWSCLI(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Guards: []Guard{{Prefix: "jobs/"}, {Prefix: "free/", Tokens: "none"}}})
	p := c.Proxies[0]
	local := tree(t)

	c.Run(t, "buckets", func(t *testing.T) {
		bucket := strings.ToLower("test-" + rand.Text())
		p.AWS("s3", "mb", "s3://"+bucket).Must(t)
		assert.Contains(t, p.AWS("s3", "ls").Must(t), bucket)
		p.AWS("s3", "cp", filepath.Join(local, "big"), "s3://"+bucket+"/big").Must(t)
		p.AWS("s3", "rb", "s3://"+bucket).WantErr(t, 1, "BucketNotEmpty")
		p.AWS("s3", "rm", "s3://"+bucket+"/big").Must(t)
		p.AWS("s3", "rb", "s3://"+bucket).Must(t)
		p.AWS("s3", "rb", "s3://"+c.Bucket).WantErr(t, 1, "BucketGuarded")
	})

	for _, prefix := range []string{"open/", "free/"} {
		c.Run(t, "sync up, down and with --delete: "+prefix, func(t *testing.T) {
			remote := c.Scope(prefix + "tree")
			p.AWS("s3", "sync", "--no-progress", local, remote).Must(t)
			assert.Empty(t, p.AWS("s3", "sync", "--no-progress", local, remote).Must(t), "nothing to do the second time")
			back := t.TempDir()
			p.AWS("s3", "sync", "--no-progress", remote, back).Must(t)
			assert.Equal(t, files(t, local), files(t, back))

			require.NoError(t, os.RemoveAll(filepath.Join(back, "d0")))
			require.NoError(t, os.WriteFile(filepath.Join(back, "added"), []byte("added"), 0o600))
			p.AWS("s3", "sync", "--no-progress", "--delete", back, remote).Must(t)
			again := t.TempDir()
			p.AWS("s3", "sync", "--no-progress", remote, again).Must(t)
			assert.Equal(t, files(t, back), files(t, again))
			p.AWS("s3", "rm", "--recursive", "--only-show-errors", remote).Must(t)
			assert.Empty(t, keysBelow(t, p, c.Bucket, prefix))
		})
	}

	c.Run(t, "fenced by metadata", func(t *testing.T) {
		token := c.Take("jobs/", "the aws CLI")
		meta := "fencing-token=" + strconv.FormatInt(token, 10)
		remote := c.Scope("jobs/tree")
		p.AWS("s3", "cp", "--recursive", "--no-progress", "--metadata", meta, local, remote).Must(t)
		back := t.TempDir()
		p.AWS("s3", "sync", "--no-progress", remote, back).Must(t)
		assert.Equal(t, files(t, local), files(t, back))
		p.AWS("s3", "cp", filepath.Join(local, "big"), c.Scope("jobs/refused")).WantErr(t, 1, "MissingFencingToken")
		p.AWS("s3", "rm", c.Scope("jobs/tree/empty")).WantErr(t, 1, "MissingFencingToken")
		assert.NotContains(t, p.AWS("s3api", "head-object", "--bucket", c.Bucket, "--key", "jobs/tree/big").Must(t), "fencing")

		next := c.Take("jobs/", "next@host")
		for _, file := range []string{"empty", "big"} {
			late := p.AWS("s3", "cp", "--no-progress", "--metadata", meta, filepath.Join(local, file), c.Scope("jobs/late"))
			late.WantErr(t, 1, "StaleFencingToken", strconv.FormatInt(next, 10), "next@host")
		}
		p.WantAbsent(t, "jobs/late")
	})

	c.Run(t, "presigned GET", func(t *testing.T) {
		token := c.Take("jobs/", "presign")
		p.PutToken(t, "jobs/linked", "linked", token).Want(t, 200)
		p.Put(t, "linked", "plain").Want(t, 200)
		for key, body := range map[string]string{"jobs/linked": "linked", "linked": "plain"} {
			link := p.AWS("s3", "presign", c.Scope(key)).Must(t)
			resp, err := http.Get(link)
			require.NoError(t, err)
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, 200, resp.StatusCode, "%s", got)
			assert.Equal(t, body, string(got))
		}
	})
}
