package lockrun

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// withDefault runs f while a signal has its default action. Package os/signal has no
// way back to it for signals that stop a process: what was once asked for stays with
// the runtime, which then ignores it.
func withDefault(sig unix.Signal, f func()) {
	// As large as struct sigaction is anywhere; all zero is SIG_DFL, without flags.
	var none, before [16]uint64
	if sigaction(sig, &none, &before) != nil {
		return
	}
	f()
	_ = sigaction(sig, &before, &none)
}

func sigaction(sig unix.Signal, set, old *[16]uint64) error {
	const setSize = 8 // of sigset_t, as the kernel checks it
	_, _, failed := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), setSize, 0, 0)
	if failed != 0 {
		return failed
	}
	return nil
}

// stopper is the signal that stops us as the command was stopped.
func stopper(by unix.Signal) unix.Signal {
	if by == unix.SIGSTOP {
		// One that the kernel drops where nobody could continue us.
		return unix.SIGTSTP
	}
	return by
}
