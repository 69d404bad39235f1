//go:build pausepoints && linux

package pause

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pollEvery = 10 * time.Millisecond
	waitMost  = 10 * time.Minute
)

// action is one "point=action" of the environment.
type action struct {
	point Point
	do    string // stop, kill or wait
	dir   string // "" if none was given
	lazy  bool   // only passings while the .arm file exists count
	nth   uint64 // fires at this passing, from 1

	mu     sync.Mutex
	passed uint64 // counted passings
	fired  bool   // for ever, unless lazy
}

// parse understands the value of [EnvActions].
func parse(spec, dir string) (map[Point][]*action, error) {
	plan := make(map[Point][]*action)
	if spec == "" {
		return plan, nil
	}
	if dir != "" {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("%s=%q is not a directory; make it before the process starts", EnvDir, dir)
		}
	}
	for item := range strings.SplitSeq(spec, ",") {
		a, err := parseAction(item, dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", EnvActions, item, err)
		}
		plan[a.point] = append(plan[a.point], a)
	}
	return plan, nil
}

func parseAction(item, dir string) (*action, error) {
	name, what, ok := strings.Cut(item, "=")
	if !ok {
		return nil, errors.New("want point=action")
	}
	if !slices.Contains(Points(), Point(name)) {
		return nil, fmt.Errorf("no such point; the points are %v", Points())
	}
	a := &action{point: Point(name), dir: dir, nth: 1}
	what, n, counted := strings.Cut(what, "@")
	if counted {
		v, err := strconv.ParseUint(n, 10, 64)
		if err != nil || v == 0 {
			return nil, fmt.Errorf("@%s: want a count from 1", n)
		}
		a.nth = v
	}
	a.do, a.lazy = strings.CutSuffix(what, "?")
	if !slices.Contains([]string{"stop", "kill", "wait"}, a.do) {
		return nil, fmt.Errorf("no such action %q; want stop, kill or wait, then ? and @n if needed", a.do)
	}
	if dir == "" && (a.lazy || a.do == "wait") {
		return nil, fmt.Errorf("%s needs a directory in %s", what, EnvDir)
	}
	return a, nil
}

func (a *action) file(suffix string) string {
	return filepath.Join(a.dir, string(a.point)+suffix)
}

// pass counts one passing and fires if it is the one.
func (a *action) pass() {
	if a.due() {
		a.fire()
	}
}

func (a *action) due() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fired {
		return false
	}
	if a.lazy {
		if _, err := os.Stat(a.file(".arm")); err != nil {
			return false
		}
	}
	a.passed++
	if a.passed < a.nth {
		return false
	}
	if a.lazy {
		a.passed = 0
		// Removing decides: another process or another action may share the file.
		return os.Remove(a.file(".arm")) == nil
	}
	a.fired = true
	return true
}

func (a *action) fire() {
	if a.dir != "" {
		if err := os.WriteFile(a.file(".hit"), nil, 0o600); err != nil {
			panic(fmt.Errorf("pause at %s: %w", a.point, err))
		}
	}
	switch a.do {
	case "stop":
		signalSelf(unix.SIGSTOP)
	case "kill":
		signalSelf(unix.SIGKILL)
	case "wait":
		a.wait()
	}
}

func (a *action) wait() {
	// Real time on purpose: the other side of the files is another process.
	for begun := time.Now(); ; time.Sleep(pollEvery) {
		_, err := os.Stat(a.file(".go"))
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Since(begun) > waitMost {
			fmt.Fprintf(os.Stderr, "pause at %s: gave up waiting for %s: %v\n", a.point, a.file(".go"), err)
			signalSelf(unix.SIGKILL)
		}
	}
	for _, suffix := range []string{".go", ".hit"} {
		if err := os.Remove(a.file(suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			panic(fmt.Errorf("pause at %s: %w", a.point, err))
		}
	}
}

// signalSelf sends sig to the calling thread, which takes it before it returns
// to Go code. kill(2) would let the kernel choose a thread, and the caller run
// on for a moment.
func signalSelf(sig unix.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Tgkill(os.Getpid(), unix.Gettid(), sig); err != nil {
		panic(fmt.Errorf("pause: signal %v to myself: %w", sig, err))
	}
}
