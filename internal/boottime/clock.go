package boottime

import "time"

// Clock is what time is read from.
type Clock struct {
	// Now is the wall clock with Go's monotonic reading, as time.Now.
	Now func() time.Time
	// Awake is the time since some fixed moment on a clock that also runs while
	// the machine sleeps.
	Awake func() time.Duration
}

// System is the machine's clock.
func System() Clock { return Clock{Now: time.Now, Awake: awake} }

// Instant is one moment on all clocks.
type Instant struct {
	// Now is its time of day, with Go's monotonic reading.
	Now   time.Time
	wall  int64 // of Now, in nanoseconds
	awake time.Duration
}

// Instant is this moment.
func (c *Clock) Instant() Instant {
	now := c.Now()
	return Instant{now, now.UnixNano(), c.Awake()}
}

// Quickly is the time since an instant by the clocks that are read without a
// system call: the larger of monotonic and wall.
func (c *Clock) Quickly(since Instant) time.Duration {
	now := c.Now()
	return max(now.Sub(since.Now), time.Duration(now.UnixNano()-since.wall))
}

// Since is the time since an instant by all clocks.
func (c *Clock) Since(since Instant) time.Duration {
	return max(c.Quickly(since), c.Awake()-since.awake)
}
