package lockrun

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// sh is a command that runs a script.
func sh(script string) []string { return []string{"sh", "-c", script} }

// patient is a script's loop: it writes ready and goes on until a signal ends it.
const patient = "echo ready; while :; do sleep 0.02; done"

func TestExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), mode))
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	for _, tc := range []struct {
		name string
		args []string
		code int
		out  string
		errs string
	}{
		{"true", []string{"true"}, 0, "", ""},
		{"false", []string{"false"}, 1, "", ""},
		{"a code", sh("echo out; echo err >&2; exit 3"), 3, "out\n", "err\n"},
		{"the highest code", sh("exit 255"), 255, "", ""},
		{"killed", sh("kill -KILL $$"), 137, "", ""},
		{"terminated", sh("kill -TERM $$"), 143, "", ""},
		{"interrupted", sh("kill -INT $$"), 130, "", ""},
		{"not found", []string{"no-such-program-here"}, 127, "", "no-such-program-here: command not found\n"},
		{"no such path", []string{"/no/such/program"}, 127, "", "/no/such/program: command not found\n"},
		{"a path through a file", []string{"/etc/passwd/x"}, 127, "", "/etc/passwd/x: command not found\n"},
		{"empty", []string{""}, 127, "", "'': command not found\n"},
		{"not executable", []string{write("plain", "echo no", 0o644)}, 126, "", dir + "/plain cannot be run: permission denied\n"},
		{"a directory", []string{dir}, 126, "", dir + " cannot be run: is a directory\n"},
		{"no interpreter named", []string{write("bare", "echo bare $1", 0o755), "x"}, 0, "bare x\n", ""},
		{"interpreter missing", []string{write("strange", "#!/no/such/interpreter\n", 0o755)}, 127, "",
			dir + "/strange cannot be run: it, or the interpreter that its first line names, is not there\n"},
		{"a process is about to end", []string{"bash", "-c", "sleep 0.02 & exit 5"}, 5, "", ""},
		{"a process is left", sh("sleep 1000 & exit 5"), 5, "", "[left 1]\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			j := begin(t, time.Second, tc.args...)
			assert.Equal(t, tc.code, j.wait())
			assert.Equal(t, tc.out, j.out.String())
			assert.Equal(t, tc.errs, j.errs.String())
		})
	}
}

// A program that is not executable is found before nothing is, as shells have it.
func TestLookInPath(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lockrun-plain"), []byte("echo"), 0o644))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	_, err := Look("lockrun-plain")
	var failed *StartError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, CodeCannotRun, failed.Code)
	path, err := Look("true")
	require.NoError(t, err)
	assert.True(t, filepath.IsAbs(path))
}

// Nothing stands between the command and what it was given.
func TestInherits(t *testing.T) {
	t.Parallel()
	j := prepare(t, time.Second)
	extra, err := os.Create(filepath.Join(j.dir, "extra"))
	require.NoError(t, err)
	defer extra.Close()
	j.cmd = exec.Command(self(t), sh(`cat; echo to three >&3; echo "pid=$$"; cat /proc/self/stat; grep -E 'Sig(Blk|Ign)' /proc/self/status`)...)
	j.cmd.Stdin = strings.NewReader("from stdin\n")
	j.cmd.ExtraFiles = []*os.File{extra}
	j.start()
	require.Equal(t, 0, j.wait())
	assert.Contains(t, j.out.String(), "from stdin\n")
	var pid, parent, group int
	var name string
	var state byte
	_, stat, _ := strings.Cut(j.out.String(), "pid=")
	_, err = fmt.Sscanf(stat, "%d\n%d %s %c %d %d", &pid, new(int), &name, &state, &parent, &group)
	require.NoError(t, err)
	assert.Equal(t, pid, group, "the command leads a group of its own")
	assert.Equal(t, pid, parent)
	assert.Contains(t, j.out.String(), "SigBlk:\t0000000000000000\n")
	assert.Zero(t, ignoredBy(t, j.out.String()), "nothing that this process ignores is inherited")
	text, err := os.ReadFile(extra.Name())
	require.NoError(t, err)
	assert.Equal(t, "to three\n", string(text))
}

// ignoredBy is the set of signals that a process tells it ignores, without 32 and
// 33: those are the C library's own (signal(7)), and whoever started the tests may
// have left them ignored.
func ignoredBy(t *testing.T, status string) uint64 {
	t.Helper()
	_, line, found := strings.Cut(status, "SigIgn:\t")
	require.True(t, found, status)
	hex, _, _ := strings.Cut(line, "\n")
	set, err := strconv.ParseUint(hex, 16, 64)
	require.NoError(t, err)
	return set &^ (1<<31 | 1<<32)
}

// What was ignored before, by nohup or a shell, stays so for the command.
func TestIgnoredStaysIgnored(t *testing.T) {
	t.Parallel()
	j := prepare(t, time.Second)
	j.cmd = exec.Command("sh", append([]string{"-c", `trap "" INT HUP; exec "$0" "$@"`, self(t)}, sh("grep SigIgn /proc/self/status; "+patient)...)...)
	j.start()
	j.awaitOut("ready")
	assert.Equal(t, uint64(1<<(unix.SIGHUP-1)|1<<(unix.SIGINT-1)), ignoredBy(t, j.out.String()))
	j.signal(unix.SIGINT)
	j.signal(unix.SIGHUP)
	j.signal(unix.SIGUSR1)
	require.Equal(t, 128+int(unix.SIGUSR1), j.wait())
}

func TestSignalsArePassedOn(t *testing.T) {
	t.Parallel()
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGWINCH} {
		name := strings.TrimPrefix(unix.SignalName(sig), "SIG")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := begin(t, time.Second, "bash", "-c", "trap 'echo got "+name+"; exit 9' "+name+"; "+patient)
			j.awaitOut("ready")
			j.signal(sig)
			require.Equal(t, 9, j.wait(), j.errs.String())
			assert.Contains(t, j.out.String(), "got "+name)
			// One that the command does not handle ends it as it would alone.
			if sig != unix.SIGWINCH {
				j = begin(t, time.Second, sh(patient)...)
				j.awaitOut("ready")
				j.signal(sig)
				assert.Equal(t, 128+int(sig), j.wait())
			}
		})
	}
}

// SIGTERM is the whole group's, SIGUSR1 is the command's alone: it would end whoever
// does not know it.
func TestWhoseSignals(t *testing.T) {
	t.Parallel()
	script := `trap 'echo usr1' USR1; trap 'echo term' TERM; sh -c 'echo ready; exec sleep 1000' & child=$!
while kill -0 $child 2>/dev/null; do wait $child; done; exit 4`
	j := begin(t, time.Second, "bash", "-c", script)
	j.awaitOut("ready")
	j.signal(unix.SIGUSR1)
	j.awaitOut("usr1\n")
	// A process shows no environment, and so is not found, while it becomes sleep.
	require.Eventually(t, func() bool { return len(j.processes()) == 3 }, patience, 5*time.Millisecond, "the child goes on")
	j.signal(unix.SIGTERM)
	require.Equal(t, 4, j.wait())
	assert.Contains(t, j.out.String(), "term\n")
	j.wantNone()
}

// Whatever a command does, nothing of its group is left once the lock is lost.
func TestLost(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		script string
		grace  time.Duration
		says   string
		code   int
	}{
		{"it obeys", patient, time.Minute, "[ending]\n[lost: the lock was taken; 143]\n", 143},
		{"it tidies up", "trap 'exit 7' TERM; exec 2>/dev/null; " + patient, time.Minute, "[ending]\n[lost: the lock was taken; 7]\n", 7},
		{"it does not listen", "trap '' TERM; " + patient, 300 * time.Millisecond, "[ending]\n[killing]\n[lost: the lock was taken; 137]\n", 137},
		{"no grace", "trap '' TERM; " + patient, 0, "[ending]\n[lost: the lock was taken; 137]\n", 137},
		{"children obey", "sleep 1000 & sleep 1000 | sleep 1000 & " + patient, time.Minute, "[ending]\n[lost: the lock was taken; 143]\n", 143},
		{"a child does not listen, its parent does", "(trap '' TERM; " + patient + ") & while :; do sleep 0.02; done", 300 * time.Millisecond,
			"[ending]\n[killing]\n[lost: the lock was taken; 143]\n", 143},
		{"it is stopped", "echo ready; kill -STOP $$; sleep 1000", time.Minute, "[halted]\n[ending]\n[lost: the lock was taken; 143]\n", 143},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			j := begin(t, tc.grace, sh(tc.script)...)
			j.awaitOut("ready")
			if strings.HasPrefix(tc.says, "[halted]") {
				j.awaitErr("[halted]")
			}
			j.file("lost")
			assert.Equal(t, lostCode, j.wait())
			assert.Equal(t, tc.says, j.errs.String())
			assert.Empty(t, j.processes())
		})
	}
}

// A group that ends within the grace is not waited for any longer.
func TestLostIsQuick(t *testing.T) {
	t.Parallel()
	j := begin(t, time.Minute, sh("(sleep 0.1; trap 'exit' TERM; while :; do sleep 0.02; done) & "+patient)...)
	j.awaitOut("ready")
	begun := time.Now()
	j.file("lost")
	assert.Equal(t, lostCode, j.wait())
	assert.Less(t, time.Since(begun), 15*time.Second)
}

// Signals go on to the command while it ends.
func TestSignalsWhileEnding(t *testing.T) {
	t.Parallel()
	j := begin(t, time.Minute, "bash", "-c", "trap 'echo asked' TERM; trap 'echo again; exit 1' INT; "+patient)
	j.awaitOut("ready")
	j.file("lost")
	j.awaitOut("asked")
	j.signal(unix.SIGINT)
	assert.Equal(t, lostCode, j.wait())
	assert.Contains(t, j.out.String(), "again")
}

// Who was frozen asks before anything else, and ends the command when the lock went
// to somebody else meanwhile.
func TestFrozen(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"deny", "lost"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := begin(t, time.Minute, sh(patient)...)
			j.awaitOut("ready")
			j.signal(unix.SIGSTOP)
			j.file(name)
			j.signal(unix.SIGCONT)
			assert.Equal(t, lostCode, j.wait())
			assert.Empty(t, j.processes())
		})
	}
	t.Run("still held", func(t *testing.T) {
		t.Parallel()
		j := begin(t, time.Minute, "bash", "-c", "trap 'echo continued' CONT; trap 'exit 6' USR1; "+patient)
		j.awaitOut("ready")
		j.signal(unix.SIGSTOP)
		j.signal(unix.SIGCONT)
		j.awaitOut("continued")
		j.signal(unix.SIGUSR1)
		assert.Equal(t, 6, j.wait())
	})
}

// A command that somebody stops keeps its lock; this process does not stop.
func TestHalted(t *testing.T) {
	t.Parallel()
	j := begin(t, time.Second, sh("echo pid=$$; exec sleep 1000")...)
	pid := j.number("pid")
	require.NoError(t, unix.Kill(pid, unix.SIGSTOP))
	j.awaitErr("[halted]")
	require.NoError(t, unix.Kill(pid, unix.SIGCONT))
	j.signal(unix.SIGTERM)
	assert.Equal(t, 143, j.wait())
}

// Nobody would renew the lock for a command whose parent is gone.
func TestDiesWithParent(t *testing.T) {
	t.Parallel()
	j := begin(t, time.Second, sh("echo pid=$$; exec sleep 1000")...)
	j.number("pid")
	j.signal(unix.SIGKILL)
	j.wait()
	j.wantNone()
}

// SIGTSTP stops both, as a terminal's Ctrl-Z does for two programs of one group.
// Without a shell above nobody could continue them, and the kernel drops it.
func TestStopFromElsewhere(t *testing.T) {
	t.Parallel()
	// Not sh: dash starts its children by vfork, and one that is stopped before it
	// executes keeps its parent from stopping.
	j := begin(t, time.Second, "bash", "-c", "trap 'exit 3' USR1; "+patient)
	j.awaitOut("ready")
	j.signal(unix.SIGTSTP)
	j.awaitErr("[suspending]\n[resumed]\n")
	j.signal(unix.SIGUSR1)
	assert.Equal(t, 3, j.wait())
}

// A shell that SIGTERM ended may leave what it ran in the middle of its tidying up: the
// lock is kept until that is done, or the grace is over.
func TestTerminatedGroupIsWaitedFor(t *testing.T) {
	t.Parallel()
	const shell = `sh -c 'trap "sleep 1.5; echo tidy; exit" TERM; echo ready; while :; do sleep 0.02; done' & wait`
	j := begin(t, patience, sh(shell)...)
	j.awaitOut("ready")
	j.signal(unix.SIGTERM)
	assert.Equal(t, 143, j.wait())
	assert.Equal(t, "ready\ntidy\n", j.out.String())
	assert.NotContains(t, j.errs.String(), "left")

	const stubborn = `sh -c 'trap "" TERM; echo ready; while :; do sleep 0.02; done' & wait`
	j = begin(t, 100*time.Millisecond, sh(stubborn)...)
	j.awaitOut("ready")
	j.signal(unix.SIGTERM)
	assert.Equal(t, 143, j.wait())
	assert.Contains(t, j.errs.String(), "[left ", "nobody but us asked it to end, and the lock is not lost")
}

// The lock can still be lost meanwhile.
func TestLostWhileWaitedFor(t *testing.T) {
	t.Parallel()
	j := begin(t, 300*time.Millisecond, sh(`sh -c 'trap "echo told" TERM; echo ready; while :; do sleep 0.02; done' & trap "exit 9" TERM; wait`)...)
	j.awaitOut("ready")
	j.file("lost")
	j.signal(unix.SIGTERM)
	j.awaitOut("told")
	j.wait()
	j.wantNone()
	assert.Contains(t, j.errs.String(), "[killing]\n")
}
