package e2e

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Round trips with boto3: unguarded, under a guard without tokens, and in a scope
// with a token in a header, over http and over TLS. Over TLS boto3 sends other
// forms: unsigned payloads with trailers, in chunks.
func TestBoto3(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Guards: []Guard{{Prefix: "jobs/"}, {Prefix: "other/"}, {Prefix: "free/", Tokens: "none"}}})
	p := c.Proxies[0]
	c.Run(t, "unguarded", func(t *testing.T) { p.Python("roundtrip.py", c.Bucket, "open/", "-", "9").Must(t) })
	c.Run(t, "tokens none", func(t *testing.T) { p.Python("roundtrip.py", c.Bucket, "free/", "-", "9").Must(t) })
	c.Run(t, "token in a header, 100 MiB", func(t *testing.T) {
		token := c.Take("jobs/", "boto3")
		p.Python("roundtrip.py", c.Bucket, "jobs/", strconv.FormatInt(token, 10), "100").Must(t)
	})
	c.Run(t, "batch delete over two scopes", func(t *testing.T) {
		token, other := c.Take("jobs/", "boto3"), c.Take("other/", "boto3")
		p.PutToken(t, "other/theirs", "theirs", other).Want(t, 200)
		p.Put(t, "plain", "plain").Want(t, 200)
		p.Python("batch.py", c.Bucket, "jobs/", strconv.FormatInt(token, 10), "other/").Must(t)
	})
	c.Run(t, "stale", func(t *testing.T) {
		stale := c.Take("jobs/", "frozen@host")
		p.PutToken(t, "jobs/x", "true", stale).Want(t, 200)
		c.Take("jobs/", "next@host")
		said := p.Python("stale.py", c.Bucket, "jobs/x", strconv.FormatInt(stale, 10)).Must(t)
		assert.Contains(t, said, "next@host")
		assert.Equal(t, "true", p.Get(t, "jobs/x"))
	})
}

func TestBoto3OverTLS(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{TLS: true, Guards: []Guard{{Prefix: "jobs/"}}})
	p := c.Proxies[0]
	p.Python("roundtrip.py", c.Bucket, "open/", "-", "9").Must(t)
	p.Python("roundtrip.py", c.Bucket, "jobs/", strconv.FormatInt(c.Take("jobs/", "boto3"), 10), "17").Must(t)
}

func TestBoto3WithDev(t *testing.T) {
	t.Parallel()
	c := NewDev(t, Options{})
	p := c.Proxies[0]
	p.Python("roundtrip.py", c.Bucket, "jobs/", strconv.FormatInt(c.Take("jobs/", "boto3"), 10), "17").Must(t)
	p.Python("roundtrip.py", c.NewBucket(), "open/", "-", "9").Must(t)
}
