//go:build !linux

package demo

import "golang.org/x/sys/unix"

// attributes: where the kernel does not end a child with its parent, the child
// ends with its input, which a frozen one does once it goes on.
func attributes() *unix.SysProcAttr {
	return &unix.SysProcAttr{Setpgid: true}
}
