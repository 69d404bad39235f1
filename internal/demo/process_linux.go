package demo

import "golang.org/x/sys/unix"

// attributes: the kernel ends the child with its parent, frozen or not, also when
// that is killed.
func attributes() *unix.SysProcAttr {
	return &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
}
