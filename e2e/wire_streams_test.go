package e2e

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Bodies that are read from a pipe, by clients that do not know how long they are,
// over http and TLS, unguarded and in a scope. The Go SDK's are in internal/s3api.
func TestWireStreams(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "http", true: "https"}[secure], func(t *testing.T) {
			t.Parallel()
			c := NewCluster(t, Options{TLS: secure, Guards: []Guard{{Prefix: "jobs/"}}})
			p := c.Proxies[0]
			token := strconv.FormatInt(c.Take("jobs/", "pipe"), 10)
			for prefix, token := range map[string]string{"open/": "-", "jobs/": token} {
				p.Python("streams.py", c.Bucket, prefix, token, map[bool]string{false: "0", true: "1"}[secure]).Must(t)

				home := t.TempDir()
				curl := func(key, size, version string, more ...string) Output {
					args := append([]string{"-sS", "--fail-with-body", version, "-T", "-", "--aws-sigv4", "aws:amz:us-east-1:s3",
						"--user", c.AccessKey + ":" + c.SecretKey, "-H", "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD"}, more...)
					if token != "-" {
						args = append(args, "-H", "X-Fencing-Token: "+token)
					}
					if secure {
						args = append(args, "--cacert", c.cert.certFile)
					}
					args = append(args, p.URL+"/"+c.Bucket+"/"+prefix+key)
					return command(t, home, environment(home, nil), "", "sh", append([]string{"-c", "head -c " + size + " /dev/zero | curl \"$@\"", "sh"}, args...)...)
				}
				curl("curl", "300000", "--http1.1").Must(t)
				assert.Equal(t, strings.Repeat("\x00", 300000), p.Get(t, prefix+"curl"))
				curl("curl-2", "300000", "--http2").Must(t) // an h2c upgrade, or ALPN, that is not taken up
				assert.Len(t, p.Get(t, prefix+"curl-2"), 300000)
				curl("empty", "0", "--http1.1").Must(t)
				assert.Empty(t, p.Get(t, prefix+"empty"))
				// HTTP/1.0 cannot say where such a body ends; curl does not even try.
				if out := curl("old", "1000", "--http1.0"); out.Code == 0 {
					t.Errorf("a body without a length in HTTP/1.0 was taken: %v", out)
				}
				p.WantAbsent(t, prefix+"old")
			}
		})
	}
}
