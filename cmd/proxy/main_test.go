package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/objectstore"
	"github.com/s3fence/s3fence/internal/testserver"
)

// binary is the program under test, built as releases are.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run()) // every worker would build the program, and none needs it
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "s3fence-cmd-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "s3fence")
		build := exec.Command("go", "build", "-ldflags", "-X main.version=v0.0.0-test", "-o", binary, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// result is how a run of the program ended.
type result struct {
	code     int
	out, err string
}

// call runs the program to its end, in a folder of its own and with nothing of
// this environment but what is named.
func call(t *testing.T, dir string, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"HOME=" + dir, "PATH=/usr/bin:/bin", "AWS_EC2_METADATA_DISABLED=true"}, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %v: %v", binary, args, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// closedPort is an address on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	port, err := testserver.FreePort()
	require.NoError(t, err)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// dev starts `s3fence dev` in a folder and waits until it serves.
func dev(t *testing.T, dir, listen string) *testserver.Process {
	t.Helper()
	p, err := testserver.Launch(testserver.Spec{
		Name: "s3fence dev", Path: binary, Args: []string{"dev", "--listen", listen},
		Env: []string{"HOME=" + dir, "PATH=/usr/bin:/bin"}, Dir: dir, Log: filepath.Join(dir, "log"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Kill()) })
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + listen + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}, 60*time.Second, 20*time.Millisecond, "dev does not serve: %s", p.Log())
	return p
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		args     []string
		env      []string
		code     int
		out, err string // patterns
	}{
		{"bare", nil, nil, 0, `Available Commands:[\s\S]+ dev `, `^$`},
		{"help", []string{"lock", "acquire", "--help"}, nil, 0, `Examples:[\s\S]+--wait`, `^$`},
		{"version", []string{"version"}, nil, 0, `^s3fence v0\.0\.0-test go`, `^$`},
		{"version as JSON", []string{"version", "--json"}, nil, 0, `"version": "v0\.0\.0-test"`, `^$`},
		{"completion", []string{"completion", "bash"}, nil, 0, `__start_s3fence`, `^$`},
		{"unknown command", []string{"srve"}, nil, 2, `^$`, `^s3fence: s3fence has no command "srve"; did you mean serve\?`},
		{"unknown command below", []string{"lock", "renwe"}, nil, 2, `^$`, `did you mean renew\?`},
		{"unknown flag", []string{"lock", "acquire", "s3://a/", "--tll", "3s"}, nil, 2, `^$`, `unknown flag: --tll; see s3fence lock acquire --help`},
		{"no argument", []string{"lock", "acquire"}, nil, 2, `^$`, `takes other arguments: s3fence lock acquire SCOPE`},
		{"no endpoint", []string{"lock", "acquire", "s3://data/"}, nil, 2, `^$`, `no proxy is named: set S3FENCE_ENDPOINT`},
		{"no credentials", []string{"lock", "list"}, []string{"S3FENCE_ENDPOINT=http://127.0.0.1:1"}, 1, `^$`, `no credentials: set AWS_ACCESS_KEY_ID`},
		{"no token", []string{"lock", "renew", "s3://data/"}, nil, 2, `^$`, `no token is named`},
		{"no reason", []string{"lock", "take", "s3://data/"}, nil, 2, `^$`, `needs --reason`},
		{"no such since", []string{"events", "--since", "soon"}, nil, 2, `^$`, `--since "soon" is neither a duration`},
		{"too many events", []string{"events", "--limit", "1001"}, nil, 2, `^$`, `--limit is 1001; it may be from 1 to 1000`},
		{"no events to show", []string{"events", "--limit", "0"}, nil, 2, `^$`, `--limit is 0`},
		{"nobody to follow", []string{"events", "--follow"}, []string{"S3FENCE_ENDPOINT=http://127.0.0.1:1", "AWS_ACCESS_KEY_ID=k", "AWS_SECRET_ACCESS_KEY=s"}, 5, `^$`, `^s3fence: service unreachable: [^\n]+\n$`},
		{"bad pause", []string{"version"}, []string{"S3FENCE_PAUSE=BeforeCommit=stop"}, 1, `^$`, `S3FENCE_PAUSE`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := call(t, t.TempDir(), tc.env, tc.args...)
			assert.Equal(t, tc.code, r.code)
			assert.Regexp(t, tc.out, r.out)
			assert.Regexp(t, tc.err, r.err)
		})
	}
}

// What is wrong with the configuration or with what it names is a clear line and
// an exit code.
func TestServeRefuses(t *testing.T) {
	t.Parallel()
	store, err := objectstore.Open(t.Context(), t.TempDir(), objectstore.Options{AccessKey: "proxy", SecretKey: "upstream-secret"})
	require.NoError(t, err)
	require.NoError(t, store.CreateBucket(t.Context(), "demo"))
	server := httptest.NewServer(store.Handler())
	t.Cleanup(func() {
		server.Close()
		require.NoError(t, store.Close())
	})
	listen := server.Listener.Addr().String()
	nobody := closedPort(t)
	for _, tc := range []struct {
		name    string
		replace []string // pairs
		migrate bool
		code    int
		err     string
		lines   int
	}{
		{"unknown key", []string{"listen: 127.0.0.1:0", "lisen: 127.0.0.1:0"}, true, 1, `^s3fence: s3fence\.yaml:1: lisen: there is no such key; did you mean listen\?`, 1},
		{"unmigrated", nil, false, 1, `^s3fence: state sqlite:state\.db: .*s3fence migrate`, 1},
		{"unreachable store", []string{"endpoint: http://" + listen, "endpoint: http://" + nobody}, true, 5, `^s3fence: upstream main: store cannot be reached: http://` + regexp.QuoteMeta(nobody), 1},
		{"wrong credentials", []string{"secret_key: upstream-secret", "secret_key: wrong"}, true, 1, `^s3fence: upstream main: store refuses the credentials: .*check secret_key`, 1},
		{"no such bucket", []string{"bucket: demo", "bucket: absent"}, true, 1, `^s3fence: upstream main: no such bucket at the store: absent`, 1},
		{"port taken", []string{"listen: 127.0.0.1:0", "listen: " + listen}, true, 1, `^s3fence: cannot listen on ` + regexp.QuoteMeta(listen) + `: the port is taken`, 1},
		{"unreachable database", []string{"sqlite:state.db", "postgres://ann:hunter2@" + nobody + "/x"}, false, 5, `^s3fence: state postgres://ann:xxxxx@`, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			text := strings.NewReplacer(tc.replace...).Replace(`listen: 127.0.0.1:0
admin_listen: off
state: sqlite:state.db
upstreams:
  main:
    endpoint: http://` + listen + `
    access_key: proxy
    secret_key: upstream-secret
buckets:
  data: {bucket: demo}
credentials:
  - {access_key: ann, secret_key: ann-secret, rights: [read], buckets: [data]}
`)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "s3fence.yaml"), []byte(text), 0o600))
			if tc.migrate {
				r := call(t, dir, nil, "migrate")
				require.Equal(t, 0, r.code, r.err)
			}
			r := call(t, dir, nil, "serve")
			assert.Equal(t, tc.code, r.code, r.err)
			assert.Empty(t, r.out)
			assert.Regexp(t, tc.err, r.err)
			assert.Equal(t, tc.lines, strings.Count(r.err, "\n"), r.err)
			assert.NotContains(t, r.err, "hunter2")
		})
	}
}

func TestConfigCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := []string{
		"S3FENCE_STATE=sqlite:s.db", "S3FENCE_UPSTREAMS__MAIN__ENDPOINT=http://127.0.0.1:1",
		"S3FENCE_UPSTREAMS__MAIN__ACCESS_KEY=a", "S3FENCE_UPSTREAMS__MAIN__SECRET_KEY=not-to-be-seen",
		"S3FENCE_CREDENTIALS__0__ACCESS_KEY=a", "S3FENCE_CREDENTIALS__0__SECRET_KEY=not-to-be-seen",
		"S3FENCE_CREDENTIALS__0__RIGHTS=read", "S3FENCE_CREDENTIALS__0__BUCKETS=*",
	}
	r := call(t, dir, env, "config", "check")
	assert.Equal(t, 0, r.code, r.err)
	r = call(t, dir, env, "config", "print")
	assert.Equal(t, 0, r.code, r.err)
	assert.Regexp(t, `(?m)^state: sqlite:s\.db +# \$S3FENCE_STATE$`, r.out)
	assert.Regexp(t, `(?m)^guard_lease: 10s +# default$`, r.out)
	assert.NotContains(t, r.out, "not-to-be-seen")
	r = call(t, dir, env, "config", "print", "--json")
	var entries []struct{ Key, Value, Origin string }
	require.NoError(t, json.Unmarshal([]byte(r.out), &entries))
	assert.NotContains(t, r.out, "not-to-be-seen")
	r = call(t, dir, append(env, "S3FENCE_GUARDS__0__PATTERN=s3://data/a*/"), "config", "check")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.err, "guards[0].pattern")
	r = call(t, dir, nil, "serve")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.err, "there is no s3fence.yaml here")
	assert.Contains(t, r.err, "s3fence: state: it is missing")
}

// The story of the README: a lock, a write, a takeover, a stale write refused
// (F4); then kill -9 and a restart, and object and mark are still there (F1, F6).
func TestDev(t *testing.T) {
	t.Parallel()
	dir, err := testserver.Folder("dev")
	require.NoError(t, err)
	listen := closedPort(t)
	p := dev(t, dir, listen)
	// The last line of the block: it comes after the log says "serving".
	require.Eventually(t, func() bool { return strings.Contains(p.Log(), "The last one is refused") }, 10*time.Second, 10*time.Millisecond)
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	require.NoError(t, err)
	for _, s := range []string{"export AWS_ACCESS_KEY_ID=s3fence-dev AWS_SECRET_ACCESS_KEY=s3fence-dev-secret", "AWS_ENDPOINT_URL_S3=http://" + listen, "lock acquire s3://demo/jobs/"} {
		assert.Contains(t, string(log), s)
	}
	env := []string{"AWS_ACCESS_KEY_ID=s3fence-dev", "AWS_SECRET_ACCESS_KEY=s3fence-dev-secret", "AWS_REGION=us-east-1", "AWS_ENDPOINT_URL_S3=http://" + listen}
	const scope = "s3://demo/jobs/"

	// Guard and lock from the command line.
	r := call(t, dir, env, "lock", "acquire", scope, "--ttl", "10m", "--owner", "ann")
	require.Equal(t, 0, r.code, r.err)
	assert.Equal(t, "1\n", r.out, "the token alone")
	assert.Contains(t, r.err, "under token 1 for 10m")
	r = call(t, dir, env, "lock", "acquire", scope)
	assert.Equal(t, 3, r.code)
	assert.Contains(t, r.err, "ann")
	r = call(t, dir, env, "lock", "acquire", scope, "--wait", "1s")
	assert.Equal(t, 3, r.code, "wait over")

	store := s3.New(s3.Options{
		BaseEndpoint: aws.String("http://" + listen), Region: "us-east-1", UsePathStyle: true, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("s3fence-dev", "s3fence-dev-secret", ""),
	})
	put := func(body, token string) error {
		_, err := store.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String("demo"), Key: aws.String("jobs/report"), Body: strings.NewReader(body), Metadata: map[string]string{"fencing-token": token},
		})
		return err
	}
	require.NoError(t, put("first", "1"))
	r = call(t, dir, env, "lock", "take", scope, "--reason", "test", "--owner", "bob", "--json", "--ttl", "10m")
	require.Equal(t, 0, r.code, r.err)
	var lease leaseOut
	require.NoError(t, json.Unmarshal([]byte(r.out), &lease))
	assert.Equal(t, int64(2), lease.Token)
	require.NoError(t, put("second", "2"))
	var refused smithy.APIError
	require.ErrorAs(t, put("late", "1"), &refused)
	assert.Equal(t, "StaleFencingToken", refused.ErrorCode())
	for _, args := range [][]string{{"lock", "renew", scope, "--token", "1"}, {"lock", "release", scope, "--token", "1"}} {
		r = call(t, dir, env, args...)
		assert.Equal(t, 4, r.code, "%v: %s", args, r.err)
	}
	r = call(t, dir, append(env, "S3FENCE_TOKEN=2"), "lock", "renew", scope, "--ttl", "1h")
	assert.Equal(t, 0, r.code, r.err)

	require.NoError(t, p.Kill())
	r = call(t, dir, env, "lock", "list")
	assert.Equal(t, 5, r.code)
	dev(t, dir, listen)

	out, err := store.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("demo"), Key: aws.String("jobs/report")})
	require.NoError(t, err)
	text, err := io.ReadAll(out.Body)
	require.NoError(t, err)
	require.NoError(t, out.Body.Close())
	assert.Equal(t, "second", string(text))
	require.ErrorAs(t, put("late", "1"), &refused)
	assert.Equal(t, "StaleFencingToken", refused.ErrorCode())

	r = call(t, dir, env, "lock", "list")
	assert.Regexp(t, `(?m)^s3://demo/jobs/ +2 +bob +s3fence-dev `, r.out)
	r = call(t, dir, env, "scope", "raise", scope, "--reason", "test")
	require.Equal(t, 0, r.code, r.err)
	assert.Equal(t, "3\n", r.out)
	r = call(t, dir, env, "scope", "list", "--json")
	var scopes []scopeOut
	require.NoError(t, json.Unmarshal([]byte(r.out), &scopes))
	require.Len(t, scopes, 1)
	assert.Equal(t, int64(3), scopes[0].Mark)
	assert.Nil(t, scopes[0].Holder, "a raise ends the lease below it")
	r = call(t, dir, env, "scope", "show", scope)
	assert.Regexp(t, `(?m)^mark +3$`, r.out)
	r = call(t, dir, env, "scope", "show", "s3://demo/never/")
	assert.Equal(t, 1, r.code)

	// Guards.
	r = call(t, dir, env, "guard", "add", "s3://demo/jobs/")
	assert.Equal(t, 1, r.code)
	assert.Contains(t, r.err, "overlap")
	r = call(t, dir, env, "guard", "add", "s3://demo/conf/", "--writes", "in-place")
	assert.Equal(t, 1, r.code)
	r = call(t, dir, env, "guard", "set", "s3://demo/*/", "--tokens", "optional")
	assert.Equal(t, 0, r.code, r.err)
	r = call(t, dir, env, "guard", "list")
	assert.Regexp(t, `(?m)^s3://demo/\*/ +active +sealed +optional +s3fence `, r.out)
	r = call(t, dir, env, "guard", "remove", "s3://demo/*/")
	assert.Equal(t, 1, r.code, "it holds an object")
	_, err = store.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("demo"), Key: aws.String("jobs/report")})
	require.NoError(t, err, "tokens are optional now")
	r = call(t, dir, env, "guard", "remove", "s3://demo/*/")
	assert.Equal(t, 0, r.code, r.err)

	r = call(t, dir, []string{"AWS_ACCESS_KEY_ID=s3fence-dev", "AWS_SECRET_ACCESS_KEY=wrong", "S3FENCE_ENDPOINT=http://" + listen}, "guard", "list")
	assert.Equal(t, 1, r.code)
	assert.Regexp(t, `(?i)signature`, r.err)
}
