//go:build !pausepoints

package pause

import (
	"os/exec"
	"strings"
	"testing"
)

func TestAtIsFree(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-gcflags=-m=2", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "can inline At with cost 0 ") {
		t.Errorf("At is not an empty inlinable function:\n%s", out)
	}
	if Armed {
		t.Error("Armed = true in an ordinary build")
	}
}

func TestCheckRefusesPausesThatCannotHappen(t *testing.T) {
	t.Setenv(EnvActions, "")
	if err := Check(); err != nil {
		t.Errorf("nothing asked: %v", err)
	}
	t.Setenv(EnvActions, "BeforeCommit=stop")
	err := Check()
	if err == nil || !strings.Contains(err.Error(), "-tags pausepoints") {
		t.Errorf("Check() = %v, want an error that names the build tag", err)
	}
}
