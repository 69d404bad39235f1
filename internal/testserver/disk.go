package testserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// diskWait bounds the wait for a disk to be there.
const diskWait = 20 * time.Second

// ErrNoDisk is returned where this machine lets nobody mount: neither root nor a
// user namespace may. What needs a disk that is full cannot be tested there.
var ErrNoDisk = errors.New("testserver: no file system can be mounted here: allow user namespaces, or run as root with CAP_SYS_ADMIN")

// keep mounts a file system of $1 bytes in a mount namespace of its own and stays
// for as long as that is needed: the file system goes with it.
const keep = `mount -t tmpfs -o size="$1",mode=0700 disk "$2" && echo ready && exec sleep 1000000`

// Disk is a small file system in memory, to be filled up. Nothing of it can be left
// behind: it is mounted for one process alone, which ends with the test process as
// servers do. Servers enter that one's namespace; others reach it through its root.
type Disk struct {
	cred    *syscall.Credential
	folder  string
	process *Process
}

// OpenDisk makes a disk of so many bytes. It belongs to whom cred names, nil for the
// user of this process, and nobody else can create files on it.
func OpenDisk(size int64, cred *syscall.Credential) (*Disk, error) {
	folder, err := Folder("disk")
	if err != nil {
		return nil, err
	}
	d := &Disk{cred: cred, folder: folder}
	mount := filepath.Join(folder, "mount")
	if err := os.Mkdir(mount, 0o700); err != nil {
		return nil, fmt.Errorf("testserver: %w", err)
	}
	owner := os.Geteuid()
	if cred != nil {
		owner = int(cred.Uid)
	}
	for _, path := range []string{folder, mount} {
		if err := os.Chown(path, owner, -1); err != nil {
			return nil, fmt.Errorf("testserver: %w", err)
		}
	}
	d.process, err = Launch(Spec{
		Name: "disk", Path: "/usr/bin/unshare",
		Args: []string{"--user", "--map-root-user", "--mount", "/bin/sh", "-c", keep, "s3fence-test-disk", strconv.FormatInt(size, 10), mount},
		Env:  []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin"}, Dir: folder, Log: filepath.Join(folder, "log"), Credential: cred,
	})
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(diskWait); !strings.HasPrefix(d.process.Log(), "ready"); time.Sleep(poll) {
		if !d.process.Alive() {
			return nil, errors.Join(fmt.Errorf("%w: %s", ErrNoDisk, d.process.Log()), d.Close())
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("testserver: no disk within %v: %s", diskWait, d.process.Log()), d.Close())
		}
	}
	return d, nil
}

// Outside is a name on the disk, for processes that do not work in it. SQLite is none
// of them: it follows every link of a path by its text.
func (d *Disk) Outside(name string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", d.process.pid), d.Inside(name))
}

// Inside is the same name for a server that [Disk.Enter] starts.
func (d *Disk) Inside(name string) string { return filepath.Join(d.folder, "mount", name) }

// Enter makes a server one that sees the disk.
func (d *Disk) Enter(spec Spec) Spec {
	enter := []string{"--target", strconv.Itoa(d.process.pid), "--mount", "--wd=" + spec.Dir}
	if os.Geteuid() != 0 {
		enter = append(enter, "--user", "--preserve-credentials") // which lets it enter the mounts
	}
	spec.Args = append(append(enter, spec.Path), spec.Args...)
	spec.Path = "/usr/bin/nsenter"
	return spec
}

// Fill takes all but so many bytes of what is free, until Free.
func (d *Disk) Fill(but int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(d.Outside(""), &s); err != nil {
		return fmt.Errorf("testserver: disk: %w", err)
	}
	n := int64(s.Bavail)*s.Bsize - but
	if n <= 0 {
		return nil
	}
	// Opened by its owner: to others the disk has no room for a new file.
	cmd := exec.Command("/bin/sh", "-c", `exec head -c "$1" /dev/zero >>"$2"`, "fill", strconv.FormatInt(n, 10), d.Outside("ballast"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.cred}
	if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "No space") {
		return fmt.Errorf("testserver: fill the disk: %w: %s", err, out)
	}
	return nil
}

// Free gives back what Fill took.
func (d *Disk) Free() error {
	if err := os.Remove(d.Outside("ballast")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("testserver: disk: %w", err)
	}
	return nil
}

// Close unmounts the disk. Servers on it must have ended.
func (d *Disk) Close() error {
	return errors.Join(d.process.Kill(), os.RemoveAll(d.folder))
}
