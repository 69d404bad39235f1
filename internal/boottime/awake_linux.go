package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

var started = time.Now()

// awake reads CLOCK_BOOTTIME (clock_gettime(2)), which Go's own monotonic clock
// on Linux is not: that one stands still during suspend.
func awake() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// A kernel or sandbox without it; the wall clock still runs in suspend.
		return time.Since(started)
	}
	return time.Duration(ts.Nano())
}
