//go:build bench

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// userHz is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on every
// architecture that Go runs Linux on.
const userHz = 100

// statTimes takes utime+stime out of the text of /proc/PID/stat (proc(5)).
func statTimes(text string) (time.Duration, error) {
	// The second field, the name in parentheses, may hold any character.
	_, after, ok := strings.Cut(text[max(0, strings.LastIndexByte(text, ')')):], ") ")
	fields := strings.Fields(after)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("not a line of /proc/PID/stat: %q", text)
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("not a line of /proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHz, nil
}

// processTime is the processor time that a process has used.
func processTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return statTimes(string(text))
}

// serverTimes adds up the processor times of all processes that work below the
// folder that servers share, by kind of server: their folders are KIND-NUMBER.
// A process that ends takes its time with it; servers keep theirs over a round.
func serverTimes(root string) (map[string]time.Duration, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	total := map[string]time.Duration{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// An error is a process that has just ended, or a stranger's.
		folder, err := os.Readlink(filepath.Join("/proc", entry.Name(), "cwd"))
		if err != nil {
			continue
		}
		below, ok := strings.CutPrefix(folder, root+"/")
		if !ok {
			continue
		}
		kind, _, _ := strings.Cut(below, "-")
		if used, err := processTime(pid); err == nil {
			total[kind] += used
		}
	}
	return total, nil
}

// machineTime takes the processor time that the whole machine has spent, on
// whatever it was, out of the text of /proc/stat (proc(5)): all of the first
// line but idle, iowait and the guests' times, which user has already.
func machineTime(text string) (time.Duration, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("not /proc/stat: %q", line)
	}
	var ticks int64
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("not /proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHz, nil
}

// machine is machineTime now.
func machine() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return machineTime(string(text))
}

// ownTime is the processor time that this process, the client, has used.
func ownTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// statusBytes takes a size such as VmRSS out of the text of /proc/PID/status.
func statusBytes(text, name string) (int64, error) {
	_, after, ok := strings.Cut("\n"+text, "\n"+name+":")
	fields := strings.Fields(after)
	if !ok || len(fields) < 2 || fields[1] != "kB" {
		return 0, fmt.Errorf("no %s in /proc/PID/status", name)
	}
	n, err := strconv.ParseInt(fields[0], 10, 64)
	return n << 10, err
}

// residentMemory is a process's resident memory, now and at its highest since
// the last resetPeak, in bytes.
func residentMemory(pid int) (now, peak int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	if now, err = statusBytes(string(text), "VmRSS"); err != nil {
		return 0, 0, err
	}
	peak, err = statusBytes(string(text), "VmHWM")
	return now, peak, err
}

// resetPeak makes a process's highest resident memory its present one: 5 is
// that command of /proc/PID/clear_refs (proc(5)).
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// isTmpfs reports whether a folder's files are kept in memory.
func isTmpfs(folder string) (bool, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(folder, &fs); err != nil {
		return false, err
	}
	const tmpfsMagic, ramfsMagic = 0x01021994, 0x858458f6 // statfs(2)
	return fs.Type == tmpfsMagic || fs.Type == ramfsMagic, nil
}
