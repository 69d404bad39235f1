package config

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checker collects what is wrong with values that could be read.
type checker struct {
	*Config
	problems Errors
}

func (c *checker) fail(key, remedy, format string, args ...any) {
	c.problems = append(c.problems, c.Problem(key, fmt.Sprintf(format, args...), remedy))
}

func (c *Config) check() Errors {
	k := &checker{Config: c}
	k.listeners()
	k.state()
	k.upstreams()
	k.buckets()
	k.credentials()
	k.sessions()
	k.guards()
	if l := c.Limits; l.SpoolTotalBytes < l.SpoolBytes {
		k.fail("limits.spool_total_bytes", "make it at least spool_bytes", "%d is less than spool_bytes, %d: a body of that size would never fit", l.SpoolTotalBytes, l.SpoolBytes)
	}
	if c.UpstreamValidity%time.Second != 0 {
		k.fail("upstream_validity", "write 15s", "%v is not in whole seconds", c.UpstreamValidity)
	}
	return k.problems
}

func (c *checker) listeners() {
	c.address("listen", c.Listen)
	if c.AdminListen != "off" {
		c.address("admin_listen", c.AdminListen)
		if c.AdminListen == c.Listen && !strings.HasSuffix(c.Listen, ":0") {
			c.fail("admin_listen", "give it another port, or off", "it is the same as listen")
		}
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		c.fail("tls", "set the other one too, or neither", "only one of cert_file and key_file is set")
	}
	c.region("region", c.Region)
	if d := c.Domain; d != "" && (strings.ContainsAny(d, "/:* \t") || strings.Trim(d, ".") != d) {
		c.fail("domain", "write a host name alone, such as s3.example.com", "%q is not a host name", d)
	}
}

func (c *checker) address(key, a string) {
	_, port, err := net.SplitHostPort(a)
	if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil && port != "" || n == 0 && port == "" {
		c.fail(key, "write HOST:PORT or :PORT, such as 127.0.0.1:9000", "%q is not an address to listen on", a)
	}
}

func (c *checker) region(key, r string) {
	if r == "" || strings.ContainsAny(r, "/ \t\r\n") {
		c.fail(key, "write a name such as us-east-1", "%q is not a region", r)
	}
}

func (c *checker) state() {
	const remedy = "write postgres://USER@HOST/DATABASE or sqlite:PATH"
	switch s := c.State; {
	case s == "":
		c.fail("state", remedy, "it is missing: there is no place for locks and marks")
	case s.Postgres():
		if _, err := url.Parse(string(s)); err != nil {
			// The parser's own message would print the password.
			c.fail("state", "percent-encode special characters of the password", "this is not a URL")
		}
	case !strings.HasPrefix(string(s), "sqlite:"):
		c.fail("state", remedy, "this is neither a PostgreSQL URL nor sqlite:PATH")
	case s.SQLite() == "":
		c.fail("state", remedy, "sqlite: has no path")
	}
}

func (c *checker) upstreams() {
	if len(c.Upstreams) == 0 {
		c.fail("upstreams", "name one with endpoint, access_key and secret_key", "it is missing: there is no store to keep objects in")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		u, key := c.Upstreams[name], "upstreams."+name
		if !plainName(name) {
			c.fail(key, "use letters, digits, _ and -", "%q cannot be the name of an upstream", name)
		}
		if u.Endpoint == "" {
			c.fail(key+".endpoint", "write http://HOST:PORT or https://HOST", "it is missing")
		} else if e, err := url.Parse(u.Endpoint); err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Hostname() == "" || strings.Trim(e.Path, "/") != "" || e.RawQuery != "" || e.Fragment != "" || e.User != nil {
			c.fail(key+".endpoint", "write http://HOST:PORT or https://HOST, without path, query or user", "this is not the address of a store")
		}
		c.needed(key+".access_key", u.AccessKey, "set it to the key that the proxy has at the store")
		c.needed(key+".secret_key", string(u.SecretKey), "set it, or secret_key_file")
		c.region(key+".region", u.Region)
		if u.CAFile != "" && strings.HasPrefix(u.Endpoint, "http://") {
			c.fail(key+".ca_file", "remove it, or write the endpoint with https://", "the endpoint does not use TLS")
		}
	}
}

func (c *checker) needed(key, v, remedy string) {
	if v == "" {
		c.fail(key, remedy, "it is missing")
	}
}

func (c *checker) buckets() {
	if len(c.Buckets) == 0 && len(c.Upstreams) > 1 {
		c.fail("buckets", "name each bucket with its upstream, such as buckets: {data: {upstream: "+slices.Sorted(maps.Keys(c.Upstreams))[0]+"}}", "it is missing: with %d upstreams nobody knows where a bucket lies", len(c.Upstreams))
	}
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Buckets)) {
		b, key := c.Buckets[name], "buckets."+name
		if !bucketName(name) {
			c.fail(key, "use 3 to 63 lower case letters, digits, dots and hyphens", "%q cannot be the name of a bucket", name)
		}
		u, ok := c.Upstreams[b.Upstream]
		switch {
		case b.Upstream == "":
			c.fail(key+".upstream", "it may be "+oneOf(c.Upstreams), "it is missing")
			continue
		case !ok:
			c.fail(key+".upstream", "it may be "+oneOf(c.Upstreams), "there is no upstream %q", b.Upstream)
			continue
		}
		if bad := storeBucket(b.Bucket, u.PathStyle); bad != "" {
			c.fail(key+".bucket", "write the name that the bucket has at the store", "%q %s", b.Bucket, bad)
			continue
		}
		// Two upstreams may be one store under two names.
		store := hostOf(u.Endpoint) + "/" + b.Bucket
		if other, ok := seen[store]; ok {
			c.fail(key, "keep one of them", "%s is the same bucket %q of the store as %s: a guard on one name would not see writes through the other", name, b.Bucket, other)
			continue
		}
		seen[store] = name
	}
}

// storeBucket says why a name cannot be that of a bucket at a store, "" where it
// can. Stores have old buckets with capitals and underscores; as a host name, two
// that differ in capitals alone are one.
func storeBucket(name string, pathStyle bool) string {
	switch {
	case len(name) < 3 || len(name) > 63 || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	}):
		return "cannot be the name of a bucket: 3 to 63 letters, digits, dots, hyphens"
	case !pathStyle && strings.ToLower(name) != name:
		return "has capitals, which a host name does not tell apart; use path_style: true for it"
	}
	return ""
}

// hostOf is host and port of an endpoint, in one way of writing. One store may
// still have several host names: that cannot be known here.
func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), port)
}

func oneOf[V any](m map[string]V) string { return strings.Join(slices.Sorted(maps.Keys(m)), ", ") }

func (c *checker) credentials() {
	if len(c.Credentials) == 0 {
		c.fail("credentials", "add one with access_key, secret_key, rights and buckets", "it is missing: no client could sign in")
	}
	seen := map[string]int{}
	for i := range c.Credentials {
		cr, key := &c.Credentials[i], fmt.Sprintf("credentials[%d]", i)
		c.needed(key+".access_key", cr.AccessKey, "choose a name for this client")
		c.needed(key+".secret_key", string(cr.SecretKey), "set it, or secret_key_file")
		if strings.ContainsAny(cr.AccessKey, "/, \t=") {
			c.fail(key+".access_key", "choose another", "%q has a character that signatures cannot carry (slash, comma, equals, space)", cr.AccessKey)
		}
		if j, ok := seen[cr.AccessKey]; ok && cr.AccessKey != "" {
			c.fail(key+".access_key", "give each its own", "credentials[%d] has the same", j)
		}
		seen[cr.AccessKey] = i
		if len(cr.Rights) > 0 || len(cr.Buckets) > 0 || len(cr.Grants) == 0 {
			c.grant(key, Grant{cr.Rights, cr.Buckets})
		}
		for j, g := range cr.Grants {
			c.grant(fmt.Sprintf("%s.grants[%d]", key, j), g)
		}
	}
}

// minSessionSecret is in bytes. What people make up is guessed; this is long
// enough that they take a generator.
const minSessionSecret = 32

func (c *checker) sessions() {
	const remedy = "make one with: openssl rand -base64 32"
	if n := len(c.SessionSecret); n > 0 && n < minSessionSecret {
		c.fail("session_secret", remedy, "it has %d characters; at least %d are wanted", n, minSessionSecret)
	}
	for i, s := range c.SessionSecretsAccepted {
		if n := len(s); n < minSessionSecret && s != NoSecret {
			c.fail(fmt.Sprintf("session_secrets_accepted[%d]", i), remedy+"; or write none, for sessions from before there was a secret", "it has %d characters; at least %d are wanted", n, minSessionSecret)
		}
	}
}

var rights = []string{"read", "write", "lock", "admin"}

func (c *checker) grant(key string, g Grant) {
	if len(g.Rights) == 0 {
		c.fail(key+".rights", "write some of [read, write, lock, admin]", "it is missing")
	}
	for i, r := range g.Rights {
		if !slices.Contains(rights, r) {
			c.fail(fmt.Sprintf("%s.rights[%d]", key, i), "the rights are "+strings.Join(rights, ", "), "there is no right %q", r)
		}
	}
	if len(g.Buckets) == 0 {
		c.fail(key+".buckets", `write ["*"] for all, or names of buckets and prefixes such as data and data/jobs/`, "it is missing")
	}
	for i, b := range g.Buckets {
		at := fmt.Sprintf("%s.buckets[%d]", key, i)
		name, prefix, slash := strings.Cut(b, "/")
		switch {
		case b == "*":
		case strings.HasPrefix(b, "s3://"):
			c.fail(at, "write it without s3://", "%q is not a bucket or a prefix of one", b)
		case !bucketName(name):
			c.fail(at, "write a bucket (data), a prefix (data/jobs/) or *", "%q is not a bucket or a prefix of one", b)
		case slash && prefix != "" && !strings.HasSuffix(prefix, "/"):
			c.fail(at, "write "+b+"/", "the prefix %q does not end in a slash and would cover its neighbours too", b)
		case len(c.Buckets) > 0 && !has(c.Buckets, name):
			c.fail(at, "the buckets are "+oneOf(c.Buckets), "there is no bucket %q under buckets", name)
		}
	}
}

func has[V any](m map[string]V, name string) bool { _, ok := m[name]; return ok }

func (c *checker) guards() {
	for i, g := range c.Guards {
		key := fmt.Sprintf("guards[%d]", i)
		rest, ok := strings.CutPrefix(g.Pattern, "s3://")
		bucket, _, slash := strings.Cut(rest, "/")
		switch {
		case g.Pattern == "":
			c.fail(key+".pattern", "write s3://BUCKET/PREFIX/", "it is missing")
		case !ok || !slash || !strings.HasSuffix(g.Pattern, "/"):
			c.fail(key+".pattern", "write s3://BUCKET/PREFIX/, with a slash at the end; * stands for one whole directory name", "%q is not a pattern of scopes", g.Pattern)
		case len(c.Buckets) > 0 && !has(c.Buckets, bucket):
			c.fail(key+".pattern", "the buckets are "+oneOf(c.Buckets), "there is no bucket %q under buckets", bucket)
		}
		if g.Writes == "in-place" {
			c.fail(key+".writes", "use sealed", "in-place is not available in this version")
		}
		if g.MaxJump < 1 {
			c.fail(key+".max_jump", "it must be at least 1", "%d is too small", g.MaxJump)
		}
		if g.LockDelay != 0 && (g.Issuer == "external" || g.Tokens == "none") {
			c.fail(key+".lock_delay", "leave it out", "no locks are granted under this guard")
		}
	}
}

// plainName is what can be written as a part of a variable's name.
func plainName(s string) bool {
	if s == "" || strings.Contains(s, "__") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	})
}

// bucketName follows the rules for general purpose buckets, by length and
// characters alone
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html).
func bucketName(s string) bool {
	return len(s) >= 3 && len(s) <= 63 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-'
	})
}
