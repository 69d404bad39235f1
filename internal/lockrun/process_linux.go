package lockrun

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dieWithParent has the kernel end the command when this process dies, SIGKILL
// included: nobody would renew the lock for it any more.
func dieWithParent(sys *syscall.SysProcAttr) { sys.Pdeathsig = unix.SIGTERM }

// watch tells of the command's stops and of its end, and lets it go at reap.
func (p *process) watch() {
	for {
		var info unix.Siginfo
		if err := waitid(p.pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT); err != nil {
			// It is our child until we let it go.
			panic(fmt.Sprintf("lockrun: waiting for process %d: %v", p.pid, err))
		}
		if info.Code != cldStopped {
			break
		}
		// Stops are taken; WNOWAIT would tell them again.
		info = unix.Siginfo{}
		if err := waitid(p.pid, &info, unix.WSTOPPED|unix.WNOHANG); err == nil && info.Code == cldStopped {
			p.events <- change{stop: unix.Signal(statusOf(&info))}
		}
	}
	p.events <- change{exited: true}
	<-p.done
}

// reap lets the ended command go and returns how it ended.
func (p *process) reap() unix.WaitStatus {
	p.reaped = true
	for {
		_, err := unix.Wait4(p.pid, &p.status, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	close(p.done)
	return p.status
}

// cldStopped is CLD_STOPPED of sigaction(2).
const cldStopped = 5

func waitid(pid int, info *unix.Siginfo, options int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, info, options, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// statusOf is si_status, which package unix leaves unnamed: it follows si_pid and
// si_uid, which begin after three ints, aligned as a pointer is.
func statusOf(info *unix.Siginfo) int32 {
	const word = unsafe.Sizeof(uintptr(0))
	const at = (12+word-1)/word*word + 8
	return *(*int32)(unsafe.Add(unsafe.Pointer(info), at))
}

// living counts the members of the command's group that have not ended.
func (p *process) living() int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if st, ok := statOf(pid); ok && st.group == p.pid && st.state != 'Z' && st.state != 'X' {
			n++
		}
	}
	return n
}

// descends reports whether a process group is the command's or that of one of its
// descendants.
func (p *process) descends(pgid int) bool {
	for pid := pgid; pid > 1; {
		if pid == p.pid {
			return true
		}
		st, ok := statOf(pid)
		if !ok {
			return false
		}
		pid = st.parent
	}
	return false
}

// isShell reports whether the command is a shell with job control: those ignore
// SIGTSTP, and mostly SIGTERM, and have their jobs in groups of their own.
func (p *process) isShell() bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		if mask, ok := strings.CutPrefix(line, "SigIgn:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err == nil && bits&(1<<(unix.SIGTSTP-1)) != 0
		}
	}
	return false
}

// stat is what proc(5) says of a process.
type stat struct {
	state         byte
	parent, group int
}

func statOf(pid int) (stat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	// The name before it stands in parentheses and may hold any character.
	var st stat
	_, err = fmt.Sscanf(string(text[bytes.LastIndexByte(text, ')')+1:]), " %c %d %d", &st.state, &st.parent, &st.group)
	return st, err == nil
}
