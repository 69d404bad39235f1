package boottime_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/s3fence/s3fence/internal/boottime"
)

// The time since an instant is what the clock shows that shows the most.
func TestSince(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                 string
		now, awake           int // seconds that the clocks show to have passed
		since, withoutAsking int
	}{
		{"all agree", 5, 5, 5, 5},
		{"suspended", 5, 3600, 3600, 5},
		{"the wall clock set forward", 3600, 5, 3600, 3600},
		{"the wall clock set back", -3600, 5, 5, -3600},
		{"everything stands", 0, 0, 0, 0},
	} {
		now, awake := time.Unix(1_000_000, 0), time.Hour
		c := boottime.Clock{Now: func() time.Time { return now }, Awake: func() time.Duration { return awake }}
		then := c.Instant()
		assert.Equal(t, now, then.Now)
		now, awake = now.Add(seconds(tc.now)), awake+seconds(tc.awake)
		assert.Equal(t, seconds(tc.since), c.Since(then), tc.name)
		assert.Equal(t, seconds(tc.withoutAsking), c.Quickly(then), tc.name)
	}
	// Go's monotonic reading counts where the wall clock was set back.
	reading := time.Now()
	c := boottime.Clock{Now: func() time.Time { return reading }, Awake: func() time.Duration { return 0 }}
	then := c.Instant()
	reading = reading.Add(time.Second)
	assert.Equal(t, time.Second, c.Since(then))
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

func TestSystem(t *testing.T) {
	t.Parallel()
	c := boottime.System()
	then := c.Instant()
	deadline := time.Now().Add(20 * time.Millisecond)
	for time.Now().Before(deadline) {
		// Read first: whatever passes in between only makes the other larger.
		quickly := c.Quickly(then)
		assert.GreaterOrEqual(t, c.Since(then), quickly)
	}
	assert.GreaterOrEqual(t, c.Since(then), 20*time.Millisecond)
	assert.Less(t, c.Since(then), time.Minute)
	before := c.Awake()
	time.Sleep(10 * time.Millisecond)
	assert.GreaterOrEqual(t, c.Awake()-before, 10*time.Millisecond, "it runs while nobody looks")
}
