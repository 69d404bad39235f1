package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The examples of clients, each with the real program (javascript: see
// examples_javascript_test.go). Each is run under its lock, and then once more as a
// holder that has lost it.

// clientExamples starts dev and copies the examples.
func clientExamples(t *testing.T) (*Proxy, *Examples) {
	t.Helper()
	p := NewDev(t, Options{}).Proxies[0]
	return p, p.Examples(t)
}

// appends runs an example that adds its input to a report: twice under the lock,
// and then with a lock that is taken from it after it has read.
func appends(t *testing.T, p *Proxy, examples *Examples, folder string, command ...string) {
	t.Helper()
	under := append([]string{"lock", "run", "--wait", "1m", "s3://demo/jobs/", "--"}, command...)
	for _, line := range []string{"one\n", "two\n"} {
		code, said := examples.StartFenced(t, "", folder, "s3fence", under...).End(t, line)
		require.Zero(t, code, said)
	}
	require.Equal(t, "one\ntwo\n", p.Get(t, "jobs/report"))

	frozen := examples.StartFenced(t, examples.Fenced(t, "s3://demo/jobs/"), folder, command[0], command[1:]...)
	next := p.Take(t, "s3://demo/jobs/", "next@host")
	p.PutToken(t, "jobs/report", "one\ntwo\nnext\n", next).Want(t, 200)
	code, said := frozen.End(t, "late\n")
	assert.Equal(t, 1, code, said)
	assert.Contains(t, said, "nothing was written: ")
	assert.Contains(t, said, "StaleFencingToken")
	assert.Contains(t, said, "next@host")
	assert.Equal(t, "one\ntwo\nnext\n", p.Get(t, "jobs/report"))
}

func TestExamplePython(t *testing.T) {
	t.Parallel()
	p, examples := clientExamples(t)
	appends(t, p, examples, "python", "python3", "append.py")
}

// The Go example holds the lock by itself.
func TestExampleGo(t *testing.T) {
	t.Parallel()
	p, examples := clientExamples(t)
	program := exampleProgram(t, "go/append")
	for _, line := range []string{"one\n", "two\n"} {
		code, said := examples.StartFenced(t, "", "go", program).End(t, line)
		require.Zero(t, code, said)
	}
	require.Equal(t, "one\ntwo\n", p.Get(t, "jobs/report"))

	frozen := examples.StartFenced(t, "", "go", program)
	next := p.Take(t, "s3://demo/jobs/", "next@host")
	p.PutToken(t, "jobs/report", "one\ntwo\nnext\n", next).Want(t, 200)
	code, said := frozen.End(t, "late\n")
	assert.Equal(t, 1, code, said)
	assert.Contains(t, said, "next@host")
	assert.Equal(t, "one\ntwo\nnext\n", p.Get(t, "jobs/report"))
}

func TestExampleShell(t *testing.T) {
	t.Parallel()
	p, examples := clientExamples(t)
	said := examples.Run(t, "shell", "./upload.sh").Must(t)
	assert.Contains(t, said, "uploaded under token 1")
	assert.Contains(t, p.Get(t, "jobs/disk"), "Filesystem")

	exports := examples.Fenced(t, "s3://demo/jobs/")
	p.PutToken(t, "jobs/disk", "next", p.Take(t, "s3://demo/jobs/", "next@host")).Want(t, 200)
	late := examples.RunFenced(t, exports, "shell", "./upload.sh")
	late.WantErr(t, 1, "StaleFencingToken", "next@host")
	assert.Equal(t, "next", p.Get(t, "jobs/disk"))
}

func TestExampleCurl(t *testing.T) {
	t.Parallel()
	p, examples := clientExamples(t)
	for _, token := range []string{"1", "2"} { // the second time it is free again
		assert.Contains(t, examples.Run(t, "curl", "./upload.sh").Must(t), "uploaded under token "+token)
	}
	assert.Contains(t, p.Get(t, "jobs/disk"), "Filesystem")
	p.Acquire(t, "s3://demo/jobs/", "next@host")
	examples.Run(t, "curl", "./upload.sh").WantErr(t, 1, "LockHeld", "next@host")
}

func TestExampleS3cmd(t *testing.T) {
	t.Parallel()
	needs(t, "s3cmd")
	p, examples := clientExamples(t)
	file := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(file, []byte("from s3cmd"), 0o600))
	examples.Run(t, "s3cmd", "./upload.sh", file).Must(t)
	assert.Equal(t, "from s3cmd", p.Get(t, "jobs/disk"))

	exports := examples.Fenced(t, "s3://demo/jobs/")
	p.PutToken(t, "jobs/disk", "next", p.Take(t, "s3://demo/jobs/", "next@host")).Want(t, 200)
	late := examples.RunFenced(t, exports, "s3cmd", "./upload.sh", file)
	assert.NotZero(t, late.Code)
	assert.Contains(t, late.Stdout+late.Stderr, "StaleFencingToken")
	assert.Equal(t, "next", p.Get(t, "jobs/disk"))
}

func TestExampleRclone(t *testing.T) {
	t.Parallel()
	needs(t, "rclone")
	p, examples := clientExamples(t)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("a", "a")
	write("sub/b", "b")
	write("big", strings.Repeat("in parts ", 1<<20)) // 9 MiB: more than --s3-chunk-size
	examples.Run(t, "rclone", "./mirror.sh", dir).Must(t)
	assert.Equal(t, "b", p.Get(t, "mirror/sub/b"))
	assert.Len(t, p.Get(t, "mirror/big"), 9<<20)
	require.NoError(t, os.Remove(filepath.Join(dir, "a")))
	examples.Run(t, "rclone", "./mirror.sh", dir).Must(t)
	p.WantAbsent(t, "mirror/a")

	exports := examples.Fenced(t, "s3://demo/mirror/")
	p.PutToken(t, "mirror/a", "next", p.Take(t, "s3://demo/mirror/", "next@host")).Want(t, 200)
	late := examples.RunFenced(t, exports, "rclone", "rclone", "sync", "--retries", "1", dir, "s3fence:demo/mirror")
	assert.NotZero(t, late.Code)
	assert.Contains(t, late.Stderr, "StaleFencingToken")
	assert.Equal(t, "next", p.Get(t, "mirror/a"), "the late mirror would have removed it")
}

func TestExampleRestic(t *testing.T) {
	t.Parallel()
	needs(t, "restic")
	p, examples := clientExamples(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("kept"), 0o600))
	examples.Run(t, "restic", "./backup.sh", dir).Must(t)
	env := map[string]string{"RESTIC_REPOSITORY": "s3:" + p.URL + "/demo/restic", "RESTIC_PASSWORD": "secret"}
	restic := func(args ...string) Output { return examples.RunWith(t, env, "restic", "restic", args...) }
	assert.Equal(t, "kept", restic("--no-lock", "dump", "latest", filepath.Join(dir, "file")).Must(t))
	before := restic("--no-lock", "list", "snapshots").Must(t)
	require.Len(t, strings.Fields(before), 1)

	exports := examples.Fenced(t, "s3://demo/restic/")
	p.Take(t, "s3://demo/restic/", "next@host")
	late := examples.RunFenced(t, exports, "restic", "./backup.sh", dir)
	assert.NotZero(t, late.Code)
	assert.Contains(t, late.Stdout+late.Stderr, "is stale")
	assert.Equal(t, before, restic("--no-lock", "list", "snapshots").Must(t))
}

// Two applies, the older of which is refused with its state in its hands.
func TestExampleTerraform(t *testing.T) {
	t.Parallel()
	program := terraform(t)
	p, examples := clientExamples(t)
	env := map[string]string{"TERRAFORM": program, "CHECKPOINT_DISABLE": "1"}
	assert.Contains(t, examples.RunWith(t, env, "terraform", "./apply.sh").Must(t), `release = "1"`)
	assert.Contains(t, examples.RunWith(t, env, "terraform", "./apply.sh", "-var", "release=2").Must(t), `release = "2"`)

	// An apply that stands still until a file is there.
	stand := filepath.Join(t.TempDir(), "go")
	require.NoError(t, os.WriteFile(filepath.Join(examples.dir, "terraform", "stand.tf"), []byte(`
resource "terraform_data" "stand" {
  provisioner "local-exec" {
    command = "touch `+stand+`.reached; for i in $(seq 3000); do [ -e `+stand+` ] && exit; sleep 0.02; done; exit 1"
  }
}
`), 0o600))
	exports := examples.Fenced(t, "s3://demo/tfstate/") + "\nexport CHECKPOINT_DISABLE=1 TERRAFORM='" + program + "'"
	ended := make(chan Output, 1)
	go func() { ended <- examples.RunFenced(t, exports, "terraform", "./apply.sh", "-var", "release=3") }()
	await(t, readyWait, "an apply that stands still", func() bool { _, err := os.Stat(stand + ".reached"); return err == nil })
	next := p.Take(t, "s3://demo/tfstate/", "next@host")
	state := p.Get(t, "tfstate/terraform.tfstate")
	p.PutToken(t, "tfstate/terraform.tfstate", state, next).Want(t, 200)
	require.NoError(t, os.WriteFile(stand, nil, 0o600))
	late := <-ended
	assert.Equal(t, 1, late.Code)
	assert.Contains(t, late.Stderr, "StaleFencingToken")
	assert.Equal(t, state, p.Get(t, "tfstate/terraform.tfstate"))
}

// needs fails the test where a program is missing that scripts/prerequisites.sh
// installs.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%v: install it (Debian package %s)", err, program)
	}
}

// terraform is a Terraform or OpenTofu to test with.
func terraform(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../scripts/terraform.sh")
	cmd.WaitDelay = 5 * time.Second
	path, err := cmd.Output()
	require.NoError(t, err)
	program := strings.TrimSpace(string(path))
	version, err := exec.CommandContext(t.Context(), program, "version").Output()
	require.NoError(t, err)
	t.Logf("with %s", strings.SplitN(string(version), "\n", 2)[0])
	return program
}
