package guards

import "time"

// Clock is the time by which a lease is judged.
type Clock struct {
	// Now is the wall clock with Go's monotonic reading, as time.Now.
	Now func() time.Time
	// Awake is the time since some fixed moment on a clock that also runs while
	// the machine sleeps.
	Awake func() time.Duration
}

// instant is one moment on all clocks.
type instant struct {
	now   time.Time
	wall  int64 // of now, in nanoseconds
	awake time.Duration
}

func (c *Clock) instant() instant {
	now := c.Now()
	return instant{now, now.UnixNano(), c.Awake()}
}

// quickly is the time since an instant by the clocks that are read without a
// system call: the larger of monotonic and wall.
func (c *Clock) quickly(since instant) time.Duration {
	now := c.Now()
	return max(now.Sub(since.now), time.Duration(now.UnixNano()-since.wall))
}

// fully is the time since an instant by all clocks.
func (c *Clock) fully(since instant) time.Duration {
	return max(c.quickly(since), c.Awake()-since.awake)
}

// SystemClock is the machine's.
func SystemClock() Clock { return Clock{Now: time.Now, Awake: awake} }
