//go:build unix && !linux

package lockrun

import "golang.org/x/sys/unix"

func withDefault(_ unix.Signal, f func()) { f() }

// stopper is the one signal that stops us here, whatever the Go runtime made of the
// others.
func stopper(unix.Signal) unix.Signal { return unix.SIGSTOP }
