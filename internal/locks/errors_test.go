package locks_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/locks"
)

// Times are said as the data plane says them, and no finer than people count.
func TestMessagesSayTimesAlike(t *testing.T) {
	t.Parallel()
	sc, err := fence.ParseScope("s3://data/jobs/")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	bob := func(ago time.Duration) fence.Grant {
		return fence.Grant{Holder: "backup", Owner: "bob", At: now.Add(-ago)}
	}
	for want, err := range map[string]error{
		"2 was granted to bob (backup) just now. Stop": &locks.LostError{Scope: sc, Token: 1, Highest: 2, Last: bob(300 * time.Millisecond), Now: now},
		"2 was granted to bob (backup) 5 min ago. S":   &locks.LostError{Scope: sc, Token: 1, Highest: 2, Last: bob(5 * time.Minute), Now: now},
		"its lease ended 7 s ago. Stop":                &locks.LostError{Scope: sc, Token: 2, Highest: 2, Ended: now.Add(-7123 * time.Millisecond), Now: now},
		"for another 30s unless renewed":               &locks.HeldError{Scope: sc, By: locks.Holding{Holder: "backup", Left: 29975 * time.Millisecond}},
		"for another 1h unless renewed":                &locks.HeldError{Scope: sc, By: locks.Holding{Holder: "backup", Left: time.Hour - 13*time.Millisecond}},
		"for another 1s unless renewed":                &locks.HeldError{Scope: sc, By: locks.Holding{Holder: "backup", Left: 3 * time.Millisecond}},
		"granted to nobody for another 4s":             &locks.HeldError{Scope: sc, By: locks.Holding{Holder: "backup"}, Delay: 3682 * time.Millisecond},
	} {
		assert.Contains(t, err.Error(), want)
	}
}
