package client

import "github.com/s3fence/s3fence/internal/boottime"

// WithHoldClock judges a hold by another clock than the machine's.
func WithHoldClock(c boottime.Clock) HoldOption { return func(o *holdOptions) { o.clock = c } }
