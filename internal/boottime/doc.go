// Package boottime measures how long ago something was, over times in which the
// process or the machine stood still. Leases are judged by it.
//
// It reads three clocks: Go's monotonic one, the wall clock, and one that runs
// while the machine sleeps, where the system has one (CLOCK_BOOTTIME on Linux).
// An [Instant] is one moment on all of them, and the time since is whatever
// shows the most: a wall clock that is set back cannot make it shorter; one
// that is set forward makes it longer, which ends a lease early and harms
// nothing.
//
// It wakes nobody: timers of Go stand still in suspend. Who must notice looks
// again and again.
package boottime
