package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every client in every form in which it signs, over http and over TLS.
func TestFencedClients(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"http", "https"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			c := NewCluster(t, Options{TLS: transport == "https", Guards: []Guard{{Prefix: "jobs/"}, {Prefix: "round/"}, {Prefix: "other/"}}})
			p := c.Proxies[0]
			c.Run(t, "aws-sdk-go-v2", func(t *testing.T) {
				f := c.Fence(p, "jobs/", c.Take("jobs/", "the Go SDK"))
				goSDKStory(t, c, "jobs/", f.S3)
				linkStory(t, c, f)
				next := c.Take("jobs/", "next@host")
				stale := p.S3(f.S3)
				key := aws.String("jobs/late")
				for _, body := range []io.Reader{strings.NewReader("late"), bytes.NewReader(make([]byte, 3<<20))} {
					_, err := stale.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &c.Bucket, Key: key, Body: body})
					wantAPIError(t, err, "StaleFencingToken")
					require.ErrorContains(t, err, strconv.FormatInt(next, 10)+" was granted to next@host")
				}
				_, err := stale.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &c.Bucket, Key: key})
				wantAPIError(t, err, "StaleFencingToken")
				_, err = stale.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &c.Bucket, Key: key})
				wantAPIError(t, err, "StaleFencingToken")
				batch, err := stale.DeleteObjects(t.Context(), &s3.DeleteObjectsInput{Bucket: &c.Bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: key}}}})
				require.NoError(t, err)
				assert.Equal(t, "StaleFencingToken", *batch.Errors[0].Code)
			})
			c.Run(t, "minio-go", func(t *testing.T) { fencedMinioStory(t, c) })
			c.Run(t, "boto3", func(t *testing.T) {
				env := c.Fence(p, "jobs/", c.Take("jobs/", "boto3")).Env()
				p.PythonWith(env, "fenced.py", c.Bucket, "jobs/boto3/", "other/", "good").Must(t)
				round := c.Fence(p, "round/", c.Take("round/", "boto3")).Env()
				p.PythonWith(round, "roundtrip.py", c.Bucket, "round/", "-", "9").Must(t)
				c.Take("jobs/", "next@host")
				assert.Contains(t, p.PythonWith(env, "fenced.py", c.Bucket, "jobs/boto3/", "other/", "stale").Must(t), "next@host")
			})
			c.Run(t, "aws CLI", func(t *testing.T) { fencedAWSStory(t, c) })
		})
	}
}

// linkStory hands out presigned links of fenced credentials.
func linkStory(t *testing.T, c *Cluster, f Fenced) {
	p := c.Proxies[0]
	presign := s3.NewPresignClient(p.S3(f.S3))
	key := aws.String("jobs/linked")
	put, err := presign.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: &c.Bucket, Key: key})
	require.NoError(t, err)
	get, err := presign.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: &c.Bucket, Key: key})
	require.NoError(t, err)
	for _, use := range []struct{ method, link, body, want string }{{"PUT", put.URL, "linked", ""}, {"GET", get.URL, "", "linked"}} {
		require.Contains(t, use.link, "X-Amz-Security-Token=")
		req, err := http.NewRequestWithContext(t.Context(), use.method, use.link, strings.NewReader(use.body))
		require.NoError(t, err)
		answer, err := p.do(req)
		require.NoError(t, err)
		assert.Equal(t, use.want, answer.Want(t, 200).Body)
	}
}

func fencedMinioStory(t *testing.T, c *Cluster) {
	ctx := t.Context()
	p := c.Proxies[0]
	f := c.Fence(p, "jobs/", c.Take("jobs/", "minio-go"))
	client := p.MinIO(t, f.MinIO)
	put := func(key string, size int) error {
		_, err := client.PutObject(ctx, c.Bucket, key, bytes.NewReader(make([]byte, size)), int64(size), minio.PutObjectOptions{PartSize: 5 << 20})
		return err
	}
	link := func(method string, body string) int {
		t.Helper()
		u, err := client.Presign(ctx, method, c.Bucket, "jobs/m/linked", time.Minute, nil)
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(body))
		require.NoError(t, err)
		answer, err := p.do(req)
		require.NoError(t, err)
		return answer.Status
	}
	sizes := map[string]int{"jobs/m/small": 100, "jobs/m/chunks": 200_000, "jobs/m/parts": 11 << 20}
	for key, size := range sizes {
		require.NoError(t, put(key, size), key)
		info, err := client.StatObject(ctx, c.Bucket, key, minio.StatObjectOptions{})
		require.NoError(t, err)
		assert.Equal(t, int64(size), info.Size)
	}
	assert.Equal(t, 200, link("PUT", "x"))
	assert.Equal(t, 200, link("GET", ""))
	assert.Equal(t, "MissingFencingToken", minio.ToErrorResponse(put("other/m", 10)).Code)
	require.NoError(t, client.RemoveObject(ctx, c.Bucket, "jobs/m/small", minio.RemoveObjectOptions{}))
	var keys int
	objects := make(chan minio.ObjectInfo)
	go func() {
		defer close(objects)
		for o := range client.ListObjects(ctx, c.Bucket, minio.ListObjectsOptions{Prefix: "jobs/m/", Recursive: true}) {
			keys++
			objects <- o
		}
	}()
	for e := range client.RemoveObjects(ctx, c.Bucket, objects, minio.RemoveObjectsOptions{}) {
		t.Error(e)
	}
	assert.Equal(t, 3, keys)
	c.Take("jobs/", "next@host")
	for key, size := range sizes {
		err := put(key, size)
		assert.Equal(t, "StaleFencingToken", minio.ToErrorResponse(err).Code, "%v", err)
		assert.Contains(t, minio.ToErrorResponse(err).Message, "next@host")
	}
	err := client.RemoveObject(ctx, c.Bucket, "jobs/m/small", minio.RemoveObjectOptions{})
	assert.Equal(t, "StaleFencingToken", minio.ToErrorResponse(err).Code)
	assert.Equal(t, 412, link("PUT", "x"))
	assert.Equal(t, 412, link("GET", ""))
}

func fencedAWSStory(t *testing.T, c *Cluster) {
	p := c.Proxies[0]
	env := c.Fence(p, "jobs/", c.Take("jobs/", "the aws CLI")).Env()
	dir := t.TempDir()
	write := func(name string, body []byte) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), body, 0o600))
	}
	big := make([]byte, 9<<20)
	_, err := rand.Read(big)
	require.NoError(t, err)
	write("big", big)
	write("small", []byte("small"))
	write("empty", nil)
	remote := c.Scope("jobs/cli")
	aws := func(args ...string) Output {
		t.Helper()
		return p.AWSWith(env, args...)
	}
	aws("s3", "sync", "--no-progress", dir, remote).Must(t)
	link := aws("s3", "presign", remote+"/big").Must(t)
	follow := func() int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link, http.NoBody)
		require.NoError(t, err)
		answer, err := p.do(req)
		require.NoError(t, err)
		return answer.Status
	}
	assert.Equal(t, 200, follow())
	require.NoError(t, os.Remove(filepath.Join(dir, "small")))
	// Deletes carry the token too, unlike with metadata.
	aws("s3", "sync", "--no-progress", "--delete", dir, remote).Must(t)
	p.WantAbsent(t, "jobs/cli/small")
	if c.cert == nil { // what TLS plays no part in
		back := t.TempDir()
		aws("s3", "sync", "--no-progress", remote, back).Must(t)
		assert.Equal(t, files(t, dir), files(t, back))
		aws("s3", "cp", filepath.Join(dir, "empty"), c.Scope("other/x")).WantErr(t, 1, "MissingFencingToken", c.Scope("jobs/"))
		aws("s3", "ls", "s3://"+c.Bucket).Must(t)
		aws("s3", "cp", filepath.Join(dir, "empty"), c.Scope("elsewhere")).Must(t)
	}

	next := c.Take("jobs/", "next@host")
	said := []string{"StaleFencingToken", strconv.FormatInt(next, 10) + " was granted to next@host", "Stop writing; take the lock again."}
	aws("s3", "cp", "--no-progress", filepath.Join(dir, "big"), remote+"/late").WantErr(t, 1, said...)
	if c.cert == nil {
		aws("s3", "cp", "--no-progress", filepath.Join(dir, "empty"), remote+"/late").WantErr(t, 1, said...)
		aws("s3", "rm", remote+"/big").WantErr(t, 1, said...)
		aws("s3", "ls", remote+"/").WantErr(t, 255, said...)
	}
	assert.Equal(t, 412, follow())
	p.WantAbsent(t, "jobs/cli/late")
}

// Credentials from the command line, in each form in which programs take them.
func TestFencedCommandLine(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, Options{Guards: []Guard{{Prefix: "jobs/"}, {Prefix: "other/"}}})
	p := c.Proxies[0]
	scope := c.Scope("jobs/")
	home := t.TempDir()
	bin := filepath.Dir(Binary(t, Plain))
	config := filepath.Join(home, "config")
	require.NoError(t, os.WriteFile(config, []byte(`[profile parent]
aws_access_key_id = `+c.AccessKey+`
aws_secret_access_key = `+c.SecretKey+`
region = us-east-1
[profile fenced]
region = us-east-1
credential_process = `+filepath.Join(bin, "s3fence")+` credentials `+scope+` --profile parent
s3 =
  signature_version = s3v4
`), 0o600))
	take := func() string { return strconv.FormatInt(c.Take("jobs/", "cli"), 10) }
	// No credentials in the environment: the profile alone has them.
	process := func(token string) map[string]string {
		return map[string]string{"AWS_CONFIG_FILE": config, "AWS_PROFILE": "fenced", "S3FENCE_TOKEN": token, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
	}
	file := filepath.Join(home, "file")
	require.NoError(t, os.WriteFile(file, []byte("from a file"), 0o600))

	c.Run(t, "credential_process", func(t *testing.T) {
		token := take()
		p.AWSWith(process(token), "s3", "cp", file, scope+"process").Must(t)
		p.PythonWith(process(token), "fenced.py", c.Bucket, "jobs/process/", "other/", "good").Must(t)
		// s3fence itself finds them there, and acts for the parent.
		p.CLIWith(process(token), "lock", "renew", scope, "--token", token).Must(t)
		p.CLIWith(process(token), "credentials", scope, "--token", token, "--profile", "fenced").WantErr(t, 1, "--profile")
		take()
		p.AWSWith(process(token), "s3", "cp", file, scope+"process").WantErr(t, 255, "is stale")
		p.CLIWith(map[string]string{"S3FENCE_TOKEN": token}, "credentials", scope).WantErr(t, 4, "is stale")
	})

	c.Run(t, "export lines", func(t *testing.T) {
		p.CLI("lock", "release", scope, "--token", take()).Must(t)
		sh := func(script string) Output {
			t.Helper()
			return command(t, home, environment(home, with(p.clientEnv(), "PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"),
				"SCOPE", scope, "BUCKET", c.Bucket, "AWS_PROFILE", "no-such-profile", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")), "", "/bin/sh", "-ec", script)
		}
		said := sh(`env=$(AWS_PROFILE= s3fence lock acquire --env --ttl 60s "$SCOPE") && eval "$env"
			test "$S3FENCE_SCOPE" = "$SCOPE"
			aws --endpoint-url "$AWS_ENDPOINT_URL_S3" s3 cp --no-progress file "${SCOPE}exported"
			env=$(s3fence credentials "$S3FENCE_SCOPE" --env) && eval "$env"
			aws --endpoint-url "$AWS_ENDPOINT_URL_S3" s3 cp --no-progress file "${SCOPE}exported"
			aws --endpoint-url "$AWS_ENDPOINT_URL_S3" s3 rm "${SCOPE}exported"
			s3fence lock release "$S3FENCE_SCOPE"
			echo "$S3FENCE_TOKEN"`).Must(t)
		assert.Regexp(t, `(?m)^[0-9]+$`, said)
		// A lock whose credentials cannot be had is not kept: nobody would know of it.
		c.Take("other/", "somebody")
		p.CLI("lock", "acquire", "--env", c.Scope("other/")).WantErr(t, 3, "somebody")
	})

	c.Run(t, "container endpoint", func(t *testing.T) {
		token := take()
		uri, secret := serveCredentials(t, p, scope, token)
		env := map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri, "AWS_CONTAINER_AUTHORIZATION_TOKEN": secret, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
		p.PythonWith(env, "fenced.py", c.Bucket, "jobs/container/", "other/", "good").Must(t)
		p.AWSWith(env, "s3", "cp", file, scope+"container").Must(t)
		client := p.S3(func(o *s3.Options) {
			o.Credentials = aws.NewCredentialsCache(endpointcreds.New(uri, func(o *endpointcreds.Options) { o.AuthorizationToken = secret }))
		})
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &c.Bucket, Key: aws.String("jobs/container"), Body: strings.NewReader("x")})
		require.NoError(t, err)
		_, err = endpointcreds.New(uri, func(o *endpointcreds.Options) { o.AuthorizationToken = "wrong" }).Retrieve(t.Context())
		require.ErrorContains(t, err, "AccessDenied")
		take()
		_, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &c.Bucket, Key: aws.String("jobs/container"), Body: strings.NewReader("x")})
		wantAPIError(t, err, "StaleFencingToken")
		_, err = endpointcreds.New(uri, func(o *endpointcreds.Options) { o.AuthorizationToken, o.Retryer = secret, aws.NopRetryer{} }).Retrieve(t.Context())
		require.ErrorContains(t, err, "StaleFencingToken")
		p.CLI("credentials", scope, "--token", token, "--listen", "127.0.0.1:0").WantErr(t, 4, "is stale")
	})
}

// serveCredentials runs s3fence credentials --listen until the test ends and
// returns what it prints.
func serveCredentials(t *testing.T, p *Proxy, scope, token string) (uri, secret string) {
	t.Helper()
	home := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, Binary(t, Plain), "credentials", scope, "--token", token, "--listen", "127.0.0.1:0")
	cmd.Dir, cmd.Env = home, environment(home, p.clientEnv())
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for _, v := range []struct {
		name string
		into *string
	}{{"AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri}, {"AWS_CONTAINER_AUTHORIZATION_TOKEN", &secret}} {
		require.True(t, lines.Scan())
		value, ok := strings.CutPrefix(lines.Text(), "export "+v.name+"='")
		require.True(t, ok, lines.Text())
		*v.into = strings.TrimSuffix(value, "'")
	}
	t.Cleanup(func() {
		cancel()
		assert.False(t, lines.Scan(), "a third line")
		_ = cmd.Wait()
		assert.Equal(t, 0, cmd.ProcessState.ExitCode(), "an end that was asked for is no failure")
	})
	return uri, secret
}
