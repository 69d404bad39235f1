package e2e

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/testserver"
)

// Output is what a command said and how it ended.
type Output struct {
	Command        string
	Stdout, Stderr string
	// Code is the exit code; -1 when a signal ended it.
	Code int
}

// Must fails the test unless the command ended with exit code 0, and returns
// its standard output without the last line's end.
func (o Output) Must(t testing.TB) string {
	t.Helper()
	return o.Want(t, 0)
}

// Want fails the test unless the command ended with this exit code, and returns
// its standard output without the last line's end.
func (o Output) Want(t testing.TB, code int) string {
	t.Helper()
	if o.Code != code {
		t.Fatalf("%s: exit code %d, want %d\nstdout:\n%s\nstderr:\n%s", o.Command, o.Code, code, clip(o.Stdout), clip(o.Stderr))
	}
	return strings.TrimRight(o.Stdout, "\n")
}

// WantErr fails the test unless the command ended with this exit code and said
// all of these on standard error.
func (o Output) WantErr(t testing.TB, code int, said ...string) {
	t.Helper()
	o.Want(t, code)
	for _, s := range said {
		if !strings.Contains(o.Stderr, s) {
			t.Fatalf("%s: standard error lacks %q:\n%s", o.Command, s, clip(o.Stderr))
		}
	}
}

func clip(s string) string {
	if len(s) > 8<<10 {
		return s[:4<<10] + "\n…\n" + s[len(s)-4<<10:]
	}
	return s
}

// command runs a program to its end, bounded.
func command(t testing.TB, dir string, env []string, stdin, name string, args ...string) Output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The whole group: scripts behind shims start the real program.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	out := Output{Command: filepath.Base(name) + " " + strings.Join(args, " "), Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", out.Command, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s: did not end within %v\nstdout:\n%s\nstderr:\n%s", out.Command, commandWait, clip(out.Stdout), clip(out.Stderr))
	}
	return out
}

// local runs s3fence in the proxy's folder, with its environment.
func (p *Proxy) local(args ...string) Output {
	p.t.Helper()
	// Not armed: a command must not stop at the proxy's pause points.
	env := maps.Clone(p.Env)
	delete(env, "S3FENCE_PAUSE")
	delete(env, "S3FENCE_PAUSE_DIR")
	path := Binary(p.t, p.cluster.options.Build)
	if d := p.cluster.options.Disk; d != nil {
		s := d.Enter(testserver.Spec{Path: path, Args: args, Dir: p.folder})
		path, args = s.Path, s.Args
	}
	return command(p.t, p.folder, environment(p.folder, env), "", path, args...)
}

// clientEnv points every AWS client, and s3fence, at the proxy.
func (p *Proxy) clientEnv() map[string]string {
	env := map[string]string{
		"AWS_ACCESS_KEY_ID": p.cluster.AccessKey, "AWS_SECRET_ACCESS_KEY": p.cluster.SecretKey,
		"AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": p.URL,
		"S3FENCE_ENDPOINT": p.URL,
		// Nothing is to be sent again behind the test's back, and no pager.
		"AWS_MAX_ATTEMPTS": "1", "AWS_PAGER": "",
	}
	if p.cluster.cert != nil {
		env["AWS_CA_BUNDLE"] = p.cluster.cert.certFile
		env["SSL_CERT_FILE"] = p.cluster.cert.certFile
	}
	return env
}

// CLI runs s3fence as a client of the proxy, in a folder without configuration.
func (p *Proxy) CLI(args ...string) Output {
	p.t.Helper()
	return p.CLIWith(nil, args...)
}

// CLIWith is CLI with more environment; what is "" there is not set.
func (p *Proxy) CLIWith(env map[string]string, args ...string) Output {
	p.t.Helper()
	home := p.t.TempDir()
	all := p.clientEnv()
	maps.Copy(all, env)
	maps.DeleteFunc(all, func(_, v string) bool { return v == "" })
	return command(p.t, home, environment(home, all), "", Binary(p.t, Plain), args...)
}

// AWS runs the aws CLI.
func (p *Proxy) AWS(args ...string) Output {
	p.t.Helper()
	return p.AWSWith(nil, args...)
}

// AWSWith is AWS with more environment; what is "" there is not set.
func (p *Proxy) AWSWith(env map[string]string, args ...string) Output {
	p.t.Helper()
	if _, err := exec.LookPath("aws"); err != nil {
		p.t.Fatalf("%v: install the aws CLI (Debian package awscli)", err)
	}
	home := p.t.TempDir()
	// Without it the aws CLI 1 presigns in the old way in us-east-1.
	config := filepath.Join(home, "aws-config")
	if err := os.WriteFile(config, []byte("[default]\ns3 =\n  signature_version = s3v4\n  addressing_style = path\n"), 0o600); err != nil {
		p.t.Fatal(err)
	}
	all := p.clientEnv()
	all["AWS_CONFIG_FILE"] = config
	maps.Copy(all, env)
	maps.DeleteFunc(all, func(_, v string) bool { return v == "" })
	// The option, since older versions do not know the variable.
	return command(p.t, home, environment(home, all), "", "aws", append([]string{"--endpoint-url", p.URL}, args...)...)
}

// Python runs a script of testdata with boto3. Its arguments are in sys.argv;
// the module e2e, beside it, makes clients.
func (p *Proxy) Python(script string, args ...string) Output {
	p.t.Helper()
	return p.PythonWith(nil, script, args...)
}

// PythonWith is Python with more environment; what is "" there is not set.
func (p *Proxy) PythonWith(more map[string]string, script string, args ...string) Output {
	p.t.Helper()
	dir, err := filepath.Abs("testdata")
	if err != nil {
		p.t.Fatal(err)
	}
	home := p.t.TempDir()
	env := p.clientEnv()
	env["PYTHONDONTWRITEBYTECODE"] = "1"
	maps.Copy(env, more)
	maps.DeleteFunc(env, func(_, v string) bool { return v == "" })
	out := command(p.t, home, environment(home, env), "", "python3", append([]string{filepath.Join(dir, script)}, args...)...)
	if strings.Contains(out.Stderr, "No module named 'boto3'") {
		p.t.Fatalf("python3 cannot import boto3: install it for that Python (Debian package python3-boto3)\n%s", out.Stderr)
	}
	return out
}

// Acquire takes the lock of a scope in the cluster's bucket through proxy 0 and
// returns the token.
func (c *Cluster) Acquire(prefix, owner string) int64 {
	c.t.Helper()
	return c.Proxies[0].Acquire(c.t, c.Scope(prefix), owner)
}

// Acquire takes the lock of a scope for a minute and returns the token.
func (p *Proxy) Acquire(t testing.TB, scope, owner string) int64 {
	t.Helper()
	answer := p.API(t, "POST", "/-/v1/locks/acquire", map[string]any{"scope": scope, "owner": owner, "ttl": "60s"})
	if answer.Status != 200 {
		t.Fatalf("acquire %s: %s", scope, answer)
	}
	return answer.Token(t)
}

// Take takes the lock of a scope by force and returns the token.
func (p *Proxy) Take(t testing.TB, scope, owner string) int64 {
	t.Helper()
	answer := p.API(t, "POST", "/-/v1/locks/take", map[string]any{"scope": scope, "owner": owner, "ttl": "60s", "reason": "a test"})
	if answer.Status != 200 {
		t.Fatalf("take %s: %s", scope, answer)
	}
	return answer.Token(t)
}

// Take takes the lock of a scope in the cluster's bucket by force.
func (c *Cluster) Take(prefix, owner string) int64 {
	c.t.Helper()
	return c.Proxies[0].Take(c.t, c.Scope(prefix), owner)
}
