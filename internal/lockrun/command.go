package lockrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Exit codes of shells for commands that cannot be run.
const (
	// CodeCannotRun: it was found and cannot be run.
	CodeCannotRun = 126
	// CodeNotFound: it was not found.
	CodeNotFound = 127
	// CodeSignal is added to the number of the signal that ended a command.
	CodeSignal = 128
)

// Command is a program to run while a lock is held.
type Command struct {
	// Path is what [Look] found, Args the arguments with the program's name first,
	// Env the whole environment.
	Path string
	Args []string
	Env  []string
	// Begin, where not nil, is called when signals are the command's and it has not
	// begun: whoever caught them before ceases to, and an error keeps it from being run.
	Begin func() error
	// Held ends when the lock is lost or may be.
	Held context.Context
	// Check asks whether the lock is still held, after this process was stopped and
	// before the command is continued. An error says that it is not, and why; when
	// nobody can say it is nil: Held ends in time. It is bounded by its context.
	Check func(context.Context) error
	// Grace is the time between SIGTERM and SIGKILL once the lock is lost.
	Grace time.Duration
	// Tell is told what happens, for messages, by a goroutine of its own, one event after
	// the other. It may block: it is waited for a little only.
	Tell func(Event)
}

// EventKind is what happens to a command.
type EventKind int

const (
	// Suspending says that the command was stopped, and this process is about to stop.
	Suspending EventKind = iota + 1
	// Resumed says that both go on; the lock is still held.
	Resumed
	// Halted says that somebody stopped the command alone; this process goes on.
	Halted
	// Ending says that the lock is lost, and the command was told to end.
	Ending
	// Killing says that the grace is over.
	Killing
)

// Event is something that happens to a command.
type Event struct {
	Kind EventKind
	// Err says why, with Ending.
	Err error
}

// Exit is how a command ended.
type Exit struct {
	// Code is its exit code; 128 and the number of the signal where one ended it.
	Code int
	// Lost says why it was ended, and is nil where it ended by itself.
	Lost error
	// Left is how many processes of its group run on.
	Left int

	pass passing
}

// StartError says why a command could not be run.
type StartError struct {
	Name string
	// Code is 126 or 127.
	Code int
	Err  error
}

func (e *StartError) Error() string {
	if errors.Is(e.Err, exec.ErrNotFound) {
		return fmt.Sprintf("%s: command not found", e.Name)
	}
	return fmt.Sprintf("%s cannot be run: %v", e.Name, e.Err)
}

// Unwrap is what the system said.
func (e *StartError) Unwrap() error { return e.Err }

// Look finds the program that a name stands for, as a shell does. It fails with a
// [StartError].
func Look(name string) (path string, err error) {
	if name == "" {
		return "", &StartError{Name: "''", Code: CodeNotFound, Err: exec.ErrNotFound}
	}
	path, err = exec.LookPath(name)
	// Who has the working directory in PATH wants it searched.
	if err == nil || errors.Is(err, exec.ErrDot) {
		if !interpretable(path) {
			return "", &StartError{Name: name, Code: CodeNotFound, Err: errInterpreter}
		}
		return path, nil
	}
	if e, ok := errors.AsType[*exec.Error](err); ok {
		err = e.Err
	}
	if errors.Is(err, exec.ErrNotFound) && found(name) {
		err = fs.ErrPermission
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", &StartError{Name: name, Code: CodeNotFound, Err: exec.ErrNotFound}
	}
	return "", &StartError{Name: name, Code: CodeCannotRun, Err: reason(err)}
}

// errInterpreter is what is missing where a file that was found is not found.
var errInterpreter = errors.New("it, or the interpreter that its first line names, is not there")

// interpretable reports whether the interpreter is there that a script names in its
// first line. What cannot be read is tried.
func interpretable(path string) bool {
	// A pipe would keep us waiting.
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return true
	}
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close() //nolint:errcheck // it was only read
	// As much as the kernel looks at.
	line := make([]byte, 256)
	n, _ := io.ReadFull(f, line)
	first, _, _ := strings.Cut(string(line[:n]), "\n")
	named, is := strings.CutPrefix(first, "#!")
	words := strings.Fields(named)
	if !is || len(words) == 0 {
		return true
	}
	_, err = os.Stat(words[0])
	return !errors.Is(err, fs.ErrNotExist)
}

// found reports whether a file of that name stands in PATH, though it cannot be run.
func found(name string) bool {
	if strings.Contains(name, "/") {
		return false
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && !info.IsDir() {
			return true
		}
	}
	return false
}

// reason is an error without the names that stand around it already.
func reason(err error) error {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return err
}
