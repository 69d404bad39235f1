package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// minimal has what cannot be left out, in three lines.
const minimal = `state: sqlite:s.db
upstreams: {main: {endpoint: "http://h:1", access_key: a, secret_key: b}}
credentials: [{access_key: a, secret_key: b, rights: [read], buckets: ["*"]}]
`

const whole = `
listen: 127.0.0.1:9000
state: postgres://ann:hunter2@db/fence?sslpassword=swordfish
upstreams:
  main:
    endpoint: http://127.0.0.1:9090
    access_key: proxy
    secret_key: upstream-secret
  other:
    endpoint: https://s3.example.com
    region: eu-west-1
    access_key: proxy
    secret_key: other-secret
    path_style: false
    path: direct
buckets:
  data: {upstream: main}
  my.logs: {upstream: other, bucket: logs-2026}
credentials:
  - access_key: ann
    secret_key: client-secret
    rights: [read, write]
    buckets: [data, my.logs/jobs/]
    grants:
      - {rights: [lock], buckets: ["*"]}
  - access_key: backup
    secret_key: backup-secret
    rights: [read]
    buckets: ["*"]
    unfenced: allow
guards:
  - {pattern: s3://data/jobs/*/, lock_delay: 15s}
  - {pattern: s3://my.logs/ext/, issuer: external, tokens: optional, max_jump: 10}
guard_lease: 5s
collect_after: 1d12h
limits:
  concurrent_requests: 10_000
log: {format: json}
`

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "s3fence.yaml")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func TestLoad(t *testing.T) {
	t.Parallel()
	c, err := Load(write(t, whole), nil)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:9000", c.Listen)
	assert.Equal(t, "127.0.0.1:9001", c.AdminListen)
	assert.Equal(t, Upstream{Endpoint: "http://127.0.0.1:9090", Region: "us-east-1", AccessKey: "proxy", SecretKey: "upstream-secret", PathStyle: true, Path: "balanced"}, c.Upstreams["main"])
	assert.False(t, c.Upstreams["other"].PathStyle)
	assert.Equal(t, map[string]Bucket{"data": {"main", "data"}, "my.logs": {"other", "logs-2026"}}, c.Buckets)
	assert.Equal(t, []Grant{{[]string{"read", "write"}, []string{"data", "my.logs/jobs/"}}, {[]string{"lock"}, []string{"*"}}}, c.Credentials[0].AllGrants())
	assert.Equal(t, "deny", c.Credentials[0].Unfenced)
	assert.Equal(t, "allow", c.Credentials[1].Unfenced)
	assert.Equal(t, []Guard{
		{"s3://data/jobs/*/", "sealed", "required", "s3fence", 1 << 32, 15 * time.Second},
		{"s3://my.logs/ext/", "sealed", "optional", "external", 10, 0},
	}, c.Guards)
	assert.Equal(t, 5*time.Second, c.GuardLease)
	assert.Equal(t, 36*time.Hour, c.CollectAfter)
	assert.Equal(t, 24*time.Hour, c.LongestUpload)
	assert.Equal(t, int64(10000), c.Limits.ConcurrentRequests)
	assert.Equal(t, Log{"info", "json"}, c.Log)
}

func TestEnvironmentWins(t *testing.T) {
	t.Parallel()
	file := write(t, whole)
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(file), "key"), []byte("from-a-file\n"), 0o600))
	c, err := Load(file, []string{
		"S3FENCE_STATE=sqlite:/var/lib/s3fence.db",
		"S3FENCE_UPSTREAMS__MAIN__SECRET_KEY_FILE=" + filepath.Join(filepath.Dir(file), "key"),
		"S3FENCE_BUCKETS__MY_LOGS__BUCKET=logs-2027",
		"S3FENCE_CREDENTIALS__0__SECRET_KEY=changed",
		"S3FENCE_CREDENTIALS__1__RIGHTS=read, admin",
		"S3FENCE_CREDENTIALS__2__ACCESS_KEY=third",
		"S3FENCE_CREDENTIALS__2__SECRET_KEY=third-secret",
		"S3FENCE_CREDENTIALS__2__RIGHTS__0=read",
		"S3FENCE_CREDENTIALS__2__BUCKETS__0=*",
		"S3FENCE_LIMITS__SPOOL_BYTES=1048576",
		"S3FENCE_DOMAIN=",                        // empty: absent
		"S3FENCE_ENDPOINT=http://127.0.0.1:9000", // the client's
		"S3FENCE_PORT_9000_TCP=tcp://10.0.0.1:9000", "S3FENCE_SERVICE_HOST=10.0.0.1",
		"HOME=/root",
	})
	require.NoError(t, err)
	assert.Equal(t, "/var/lib/s3fence.db", c.State.SQLite())
	assert.Equal(t, "from-a-file", c.Upstreams["main"].SecretKey.Reveal())
	assert.Equal(t, Bucket{"other", "logs-2027"}, c.Buckets["my.logs"])
	assert.Equal(t, "changed", c.Credentials[0].SecretKey.Reveal())
	assert.Equal(t, []string{"read", "admin"}, c.Credentials[1].Rights)
	assert.Equal(t, "third", c.Credentials[2].AccessKey)
	assert.Equal(t, int64(1<<20), c.Limits.SpoolBytes)
	assert.Equal(t, "$S3FENCE_CREDENTIALS__0__SECRET_KEY", c.origin("credentials[0].secret_key").String())
}

func TestEnvironmentAlone(t *testing.T) {
	t.Parallel()
	c, err := Load("", []string{
		"S3FENCE_STATE=sqlite:s.db",
		"S3FENCE_UPSTREAMS__MAIN__ENDPOINT=http://127.0.0.1:9090", "S3FENCE_UPSTREAMS__MAIN__ACCESS_KEY=a", "S3FENCE_UPSTREAMS__MAIN__SECRET_KEY=b",
		"S3FENCE_CREDENTIALS__0__ACCESS_KEY=a", "S3FENCE_CREDENTIALS__0__SECRET_KEY=b", "S3FENCE_CREDENTIALS__0__RIGHTS=read", "S3FENCE_CREDENTIALS__0__BUCKETS=*",
	})
	require.NoError(t, err)
	assert.Len(t, c.Upstreams, 1)
}

func TestLaterVariableWins(t *testing.T) {
	t.Parallel()
	c, err := Load(write(t, whole), []string{"S3FENCE_LISTEN=:9", "S3FENCE_LISTEN=:8"})
	require.NoError(t, err)
	assert.Equal(t, ":8", c.Listen)
}

// Relative names of files in the file are relative to the file.
func TestSecretFilesBesideTheFile(t *testing.T) {
	t.Parallel()
	file := write(t, strings.Replace(whole, "secret_key: client-secret", "secret_key_file: ann.key", 1))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(file), "ann.key"), []byte("in-a-file\r\n"), 0o600))
	c, err := Load(file, nil)
	require.NoError(t, err)
	assert.Equal(t, "in-a-file", c.Credentials[0].SecretKey.Reveal())
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		env        []string
		want       []string // each is a whole line, without the directory
	}{
		{"unknown key", minimal + "lisen: :9000\n", nil, []string{"s3fence.yaml:4: lisen: there is no such key; did you mean listen?"}},
		{"unknown key deep down", strings.Replace(minimal, "secret_key: b}}", "secret_key: b,\n  pathstyle: true}}", 1), nil,
			[]string{"s3fence.yaml:3: upstreams.main.pathstyle: there is no such key; did you mean path_style?"}},
		{"unknown variable", minimal, []string{"S3FENCE_GUARD_LAESE=3s"}, []string{"$S3FENCE_GUARD_LAESE: guard_laese: there is no such key; did you mean guard_lease?"}},
		{"nothing like it", minimal + "xylophone: 1\n", nil, []string{"s3fence.yaml:4: xylophone: there is no such key; the keys here are listen, "}},
		{"in place", minimal + "guards:\n  - pattern: s3://data/\n    writes: in-place\n", nil,
			[]string{"s3fence.yaml:6: guards[0].writes: in-place is not available in this version; use sealed"}},
		{"a delay of locks that nobody grants", minimal + "guards:\n  - pattern: s3://data/\n    tokens: none\n    lock_delay: 15s\n", nil,
			[]string{"s3fence.yaml:7: guards[0].lock_delay: no locks are granted under this guard; leave it out"}},
		{"a delay without end", minimal + "guards:\n  - pattern: s3://data/\n    lock_delay: 2h\n", nil,
			[]string{"s3fence.yaml:6: guards[0].lock_delay: 2h is too long; it may be from 0s to 1h"}},
		{"two stores, and no buckets", strings.Replace(minimal, "}}", "}, b: {endpoint: \"http://i:1\", access_key: a, secret_key: b}}", 1), nil, []string{
			"s3fence.yaml: buckets: it is missing: with 2 upstreams nobody knows where a bucket lies; name each bucket with its upstream, such as buckets: {data: {upstream: b}}"}},
		{"all together", "listen: nonsense\nstate: mysql://x\nguard_lease: 1h\nlog: {level: loud}\n", nil, []string{
			"s3fence.yaml: upstreams: it is missing: there is no store to keep objects in; name one with endpoint, access_key and secret_key",
			"s3fence.yaml: credentials: it is missing: no client could sign in; add one with access_key, secret_key, rights and buckets",
			`s3fence.yaml:1: listen: "nonsense" is not an address to listen on; write HOST:PORT or :PORT, such as 127.0.0.1:9000`,
			"s3fence.yaml:2: state: this is neither a PostgreSQL URL nor sqlite:PATH; write postgres://USER@HOST/DATABASE or sqlite:PATH",
			"s3fence.yaml:3: guard_lease: 1h is too long; it may be from 1s to 5m",
			`s3fence.yaml:4: log.level: "loud" is not possible here; it may be debug, info, warn, error`}},
		{"duplicate", minimal + "state: sqlite:t.db\n", nil, []string{"s3fence.yaml:4: state: the key stands in line 1 already; remove one of them"}},
		{"wrong kinds", minimal + "log: loud\nbuckets: [a]\ndomain: {a: b}\nguards: {a: b}\nlisten: [1]\n", nil, []string{
			"s3fence.yaml:4: log: a mapping of keys to values is wanted here; its keys are level, format",
			"s3fence.yaml:5: buckets: a mapping of names to settings is wanted here; write buckets: {NAME: {…}}",
			"s3fence.yaml:6: domain: a single value is wanted here; write domain: value",
			"s3fence.yaml:7: guards: a list is wanted here; write guards: [a, b]",
			"s3fence.yaml:8: listen: a single value is wanted here; write listen: value"}},
		{"one store bucket under two names", minimal + "buckets:\n  data: {}\n  copy: {bucket: data}\n", nil,
			[]string{`s3fence.yaml:5: buckets.data: data is the same bucket "data" of the store as copy: a guard on one name would not see writes through the other; keep one of them`}},
		{"no such upstream", minimal + "buckets: {data: {upstream: mian}}\n", nil, []string{`s3fence.yaml:4: buckets.data.upstream: there is no upstream "mian"; it may be main`}},
		{"rights and places", strings.Replace(minimal, `rights: [read], buckets: ["*"]`, `rights: [raed], buckets: ["s3://data/", "data/jobs"]`, 1), nil, []string{
			`s3fence.yaml:3: credentials[0].rights[0]: there is no right "raed"; the rights are read, write, lock, admin`,
			`s3fence.yaml:3: credentials[0].buckets[0]: "s3://data/" is not a bucket or a prefix of one; write it without s3://`,
			`s3fence.yaml:3: credentials[0].buckets[1]: the prefix "data/jobs" does not end in a slash and would cover its neighbours too; write data/jobs/`}},
		{"same access key", minimal + "", []string{"S3FENCE_CREDENTIALS__1__ACCESS_KEY=a", "S3FENCE_CREDENTIALS__1__SECRET_KEY=c", "S3FENCE_CREDENTIALS__1__RIGHTS=read", "S3FENCE_CREDENTIALS__1__BUCKETS=*"},
			[]string{"$S3FENCE_CREDENTIALS__1__ACCESS_KEY: credentials[1].access_key: credentials[0] has the same; give each its own"}},
		{"gap in a list", minimal, []string{"S3FENCE_GUARDS__1__PATTERN=s3://data/"}, []string{"$S3FENCE_GUARDS__1__PATTERN: guards.1: the list has no element 0; number elements from 0 without gaps"}},
		{"two forms of a secret", strings.Replace(minimal, "secret_key: b}}", "secret_key: b, secret_key_file: f}}", 1), nil,
			[]string{"s3fence.yaml:2: upstreams.main.secret_key: secret_key and secret_key_file are both set; keep one"}},
		{"pattern", minimal + "guards: [{pattern: data/jobs}]\n", nil,
			[]string{`s3fence.yaml:4: guards[0].pattern: "data/jobs" is not a pattern of scopes; write s3://BUCKET/PREFIX/, with a slash at the end; * stands for one whole directory name`}},
		{"half of tls", minimal + "tls: {cert_file: c.pem}\n", nil, []string{"s3fence.yaml:4: tls: only one of cert_file and key_file is set; set the other one too, or neither"}},
		{"validity", minimal, []string{"S3FENCE_UPSTREAM_VALIDITY=1500ms"}, []string{"$S3FENCE_UPSTREAM_VALIDITY: upstream_validity: 1.5s is not in whole seconds; write 15s"}},
		{"no YAML", "listen: :9000\nlog:\n  level: a: b\n", nil, []string{"s3fence.yaml:3: this is not YAML: mapping values are not allowed in this context; mind"}},
		{"aliases", "state: &a sqlite:s\ndomain: *a\n", nil, []string{"s3fence.yaml:1: state: anchors and aliases are not taken; write the value out", "s3fence.yaml:2: domain: anchors"}},
		{"a list as the file", "- a\n", nil, []string{"s3fence.yaml:1: the file must be a mapping of keys to values; write it like this: listen: :9000"}},
		{"two documents", minimal + "---\nstate: x\n", nil, []string{"s3fence.yaml:4: the file has a second document; keep one, without --- lines"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			file := write(t, tc.text)
			_, err := Load(file, tc.env)
			var all Errors
			require.ErrorAs(t, err, &all)
			got := strings.ReplaceAll(err.Error(), filepath.Dir(file)+"/", "")
			for _, w := range tc.want {
				assert.Contains(t, "\n"+got, "\n"+w)
			}
			if tc.name != "aliases" { // the rest of its complaints follows from the first
				assert.Len(t, all, len(tc.want), got)
			}
		})
	}
}

// No way of printing a configuration shows a secret.
func TestSecretsStayHidden(t *testing.T) {
	t.Parallel()
	c, err := Load(write(t, whole), nil)
	require.NoError(t, err)
	var printed strings.Builder
	require.NoError(t, c.Redacted(&printed))
	asJSON, err := json.Marshal(c)
	require.NoError(t, err)
	for name, text := range map[string]string{
		"Redacted": printed.String(), "%v": fmt.Sprintf("%v", c), "%+v": fmt.Sprintf("%+v", *c), "%#v": fmt.Sprintf("%#v", *c),
		"json": string(asJSON), "entries": fmt.Sprint(c.Entries()),
	} {
		for _, secret := range []string{"hunter2", "swordfish", "upstream-secret", "other-secret", "client-secret", "backup-secret"} {
			assert.NotContains(t, text, secret, name)
		}
	}
	assert.Regexp(t, `(?m)^listen: 127\.0\.0\.1:9000 +# .*s3fence\.yaml:2$`, printed.String())
	assert.Regexp(t, `(?m)^admin_listen: 127\.0\.0\.1:9001 +# default$`, printed.String())
	assert.Regexp(t, `(?m)^collect_after: 36h +# .*s3fence\.yaml:\d+$`, printed.String())
	assert.Regexp(t, `(?m)^upstreams\.main\.secret_key: \(hidden\) +# .*s3fence\.yaml:8$`, printed.String())
	assert.Regexp(t, `(?m)^credentials\[0\]\.rights: \[read, write\] +# `, printed.String())
}

// A password that the error of a URL parser would show.
func TestBadStateURLIsNotPrinted(t *testing.T) {
	t.Parallel()
	_, err := Load(write(t, "state: postgres://ann:hunter2%zz@db/x\n"), nil)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "hunter2")
	assert.NotContains(t, State("postgres://ann:hunter2%zz@db/x").String(), "hunter2")
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"10s": 10 * time.Second, "7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "0s": 0, "1h30m": 90 * time.Minute,
		"": -1, "7": -1, "d": -1, "-1s": -1, "-1d": -1, "1d1d": -1, "1h1d": -1, "99999999999d": -1,
	} {
		got, err := parseDuration(text)
		if want < 0 {
			assert.Error(t, err, text)
			continue
		}
		if assert.NoError(t, err, text) {
			assert.Equal(t, want, got, text)
			again, err := parseDuration(writeDuration(got))
			assert.NoError(t, err)
			assert.Equal(t, got, again)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(whole, "S3FENCE_STATE=sqlite:x")
	f.Add("a: &b [*b]", "S3FENCE_GUARDS__0__PATTERN=s3://a/")
	f.Fuzz(func(t *testing.T, text, env string) {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text+env, "_file") || strings.Contains(env, "_FILE") {
			t.Skip("would open files of the machine")
		}
		c, err := Load(file, []string{env})
		if (c == nil) == (err == nil) {
			t.Fatal("neither a configuration nor an error, or both")
		}
		if c != nil {
			c.Entries()
		}
	})
}

func TestLoadState(t *testing.T) {
	t.Parallel()
	s, err := LoadState("", []string{"S3FENCE_STATE=sqlite:s.db"})
	require.NoError(t, err)
	assert.Equal(t, "s.db", s.SQLite())
	s, err = LoadState(write(t, "state: sqlite:s.db\nlisen: x\n"), nil)
	require.NoError(t, err)
	assert.Equal(t, "s.db", s.SQLite())
	_, err = LoadState(write(t, "listen: :9000\n"), nil)
	assert.ErrorContains(t, err, "state: it is missing")
	_, err = LoadState(write(t, "state: a: b\n"), nil)
	assert.ErrorContains(t, err, "not YAML")
}

// TestUnused: a setting that does nothing is read, checked, and named.
func TestUnused(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "s3fence.yaml")
	require.NoError(t, os.WriteFile(file, []byte(minimal+"takeover_wait: 30s\nsession_max_age: 1d\n"), 0o600))
	c, err := Load(file, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"takeover_wait"}, c.Unused())
	assert.Equal(t, 75*time.Second, c.SettleBound)
	c, err = Load(file, []string{"S3FENCE_SETTLE_BOUND=never"})
	require.Error(t, err)
	assert.Nil(t, c)
}
