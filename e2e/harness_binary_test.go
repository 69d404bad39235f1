package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Build is one of the programs that scripts/test.sh builds.
type Build string

const (
	// Plain is what is delivered.
	Plain Build = "s3fence"
	// Race has the race detector: a race ends the program with exit code 66.
	Race Build = "s3fence-race"
	// Armed has the race detector and pause points.
	Armed Build = "s3fence-armed"
)

// arguments of go build.
var buildArguments = map[Build][]string{
	Plain: {"-trimpath"},
	Race:  {"-race"},
	Armed: {"-race", "-tags", "pausepoints"},
}

// builds keeps what was built in this run; TestMain removes the folder.
var builds = struct {
	sync.Mutex
	folder string
	done   map[Build]error
}{done: map[Build]error{}}

// Binary returns the path of a build, building it where S3FENCE_TEST_BIN names
// no folder that has it.
func Binary(t testing.TB, b Build) string {
	t.Helper()
	if dir := os.Getenv("S3FENCE_TEST_BIN"); dir != "" {
		path := filepath.Join(dir, string(b))
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("S3FENCE_TEST_BIN=%s: %v (make e2e builds what it needs)", dir, err)
		}
		return path
	}
	builds.Lock()
	defer builds.Unlock()
	path := filepath.Join(builds.folder, string(b))
	err, built := builds.done[b]
	if !built {
		cmd := exec.Command("go", append(append([]string{"build"}, buildArguments[b]...), "-o", path, "./cmd/proxy")...)
		cmd.Dir = ".."
		if out, failed := cmd.CombinedOutput(); failed != nil {
			err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), failed, out)
		}
		builds.done[b] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestMain(m *testing.M) {
	if os.Getenv(holderPrefix) != "" {
		if err := holder(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "s3fence-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	builds.folder = folder
	// What the caller's shell says of AWS or of the product has no say here.
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "S3FENCE_") && !strings.HasPrefix(name, "S3FENCE_TEST_") && name != "S3FENCE_CACHE" {
			os.Unsetenv(name)
		}
	}
	return m.Run()
}
