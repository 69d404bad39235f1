package testserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// watch waits for the end of its standard input, which is the end of the test
// process, and then ends what works below the folder $1. SIGQUIT first: it makes
// a postmaster end its backends and give back its shared memory. Stopped
// processes must run to handle it, hence SIGCONT. SIGKILL after two seconds for
// whatever is left.
const watch = `
trap '' HUP INT TERM QUIT
root=$1
cd / || exit 1
while read -r _; do :; done
working() {
	ls -ld /proc/[0-9]*/cwd 2>/dev/null | while read -r line; do
		case $line in
		*" -> $root"/*)
			pid=${line##* /proc/}
			echo "${pid%%/*}"
			;;
		esac
	done
}
signal_all() {
	pids=$(working)
	[ -n "$pids" ] || return 1
	for s; do kill -s "$s" $pids 2>/dev/null; done
	return 0
}
signal_all CONT QUIT
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	signal_all || break
	sleep 0.1
done
for try in 1 2 3 4 5 6 7 8 9 10; do
	signal_all KILL || break
	sleep 0.1
done
rm -rf -- "$root"
`

// maxRoot bounds the length of the scratch folder's path, in bytes, so that
// the Unix sockets below it stay within the 107 bytes of sockaddr_un.
const maxRoot = 60

// scratch is the folder of this test process, with its watcher.
var scratch struct {
	once sync.Once
	root string
	err  error
	// alive is the watcher's pipe. It is never closed and never written to;
	// the kernel closes it when this process ends. It stands here lest the
	// garbage collector closes it earlier.
	alive *os.File
}

// Folder makes a new folder for one server below this process's scratch
// folder. Its owner is the user that [Unprivileged] names, its mode 0700. The
// folder is removed when the process ends; whoever wants it gone earlier
// removes it.
func Folder(name string) (string, error) {
	scratch.once.Do(func() { scratch.root, scratch.err = openScratch() })
	if scratch.err != nil {
		return "", scratch.err
	}
	folder, err := os.MkdirTemp(scratch.root, name+"-")
	if err != nil {
		return "", fmt.Errorf("testserver: make a server's folder: %w", err)
	}
	if err := Own(folder); err != nil {
		return "", err
	}
	return folder, nil
}

// Own gives path to the user that [Unprivileged] names.
func Own(path string) error {
	cred, err := Unprivileged()
	if err != nil || cred == nil {
		return err
	}
	if err := os.Chown(path, int(cred.Uid), int(cred.Gid)); err != nil {
		return fmt.Errorf("testserver: give %s to the servers' user: %w", path, err)
	}
	return nil
}

// openScratch makes the scratch folder and starts its watcher.
func openScratch() (string, error) {
	parent, err := scratchParent()
	if err != nil {
		return "", err
	}
	root, err := os.MkdirTemp(parent, "s3fence-test-")
	if err != nil {
		return "", fmt.Errorf("testserver: make the scratch folder: %w", err)
	}
	// Servers that run as another user must reach their folders below.
	if err := os.Chmod(root, 0o711); err != nil {
		return "", fmt.Errorf("testserver: open the scratch folder: %w", err)
	}
	if err := startWatcher(root); err != nil {
		return "", errors.Join(err, os.RemoveAll(root))
	}
	return root, nil
}

func startWatcher(root string) error {
	end, alive, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("testserver: watcher's pipe: %w", err)
	}
	defer end.Close() //nolint:errcheck // a copy is with the watcher
	cmd := exec.Command("/bin/sh", "-c", watch, "s3fence-test-watcher", root)
	cmd.Dir = "/"
	cmd.Stdin = end
	// A session of its own: a Ctrl-C at the terminal, or a kill of the test's
	// process group, must not end the one who cleans up after it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("testserver: start the watcher: %w", err), alive.Close())
	}
	scratch.alive = alive
	return nil
}

// scratchParent finds a folder for temporary files that every user can reach
// and whose path is short enough.
func scratchParent() (string, error) {
	tried := []string{os.TempDir(), "/tmp", "/var/tmp"}
	for _, dir := range tried {
		resolved, err := filepath.EvalSymlinks(dir)
		if err != nil || len(resolved) > maxRoot-len("/s3fence-test-4294967295") {
			continue
		}
		if os.Geteuid() != 0 || reachable(resolved) {
			return resolved, nil
		}
	}
	return "", fmt.Errorf("testserver: none of %q can be entered by every user and has a short path: set TMPDIR to a folder that does", tried)
}

// reachable reports whether every user may pass through dir and all above it.
func reachable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
		dir = filepath.Dir(dir)
	}
}
