//go:build !unix

package lockrun

import (
	"errors"
	"syscall"
)

type passing struct{}

// Run needs process groups, signals and terminals as Unix has them.
func Run(c *Command) (Exit, error) {
	return Exit{}, &StartError{Name: c.Args[0], Code: CodeCannotRun, Err: errors.New("running commands under a lock needs a Unix: process groups, signals")}
}

// Pass returns.
func (Exit) Pass() {}

// Interrupted is how a command ends that did not begin, because a signal came first.
func Interrupted(by syscall.Signal) Exit { return Exit{Code: CodeSignal + int(by)} }
