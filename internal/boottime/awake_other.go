//go:build !linux

package boottime

import "time"

var started = time.Now()

// awake has only the monotonic clock here; whether that runs in suspend depends
// on the system, and the wall clock covers where it does not.
func awake() time.Duration { return time.Since(started) }
