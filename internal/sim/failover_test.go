//go:build !race

package sim

import (
	"testing"
	"time"
)

// TestFailover: a failover that loses only what nobody was told of is harmless, and is
// among the faults of every schedule (commits lost and late, sessions that end). One
// that loses acknowledged commits breaks F1 and F6, whatever a proxy does: only a
// witness outside of the database could tell. This holds that the checks see it, so
// that they would see any other way to come to the same.
func TestFailover(t *testing.T) {
	t.Parallel()
	found := map[Check]int{}
	const seeds = 60
	for seed := uint64(1); seed <= seeds; seed++ {
		p := NewPlan(seed)
		p.Faults, p.Rates = nil, nil
		r := Run(t, p.WithFailover(150, 200*time.Millisecond), Options{})
		for _, c := range []Check{checkMarks, checkHistory, checkGrants} {
			if r.Failed(c) {
				found[c]++
			}
		}
	}
	t.Logf("of %d failovers: %v", seeds, found)
	for _, c := range []Check{checkMarks, checkHistory, checkGrants} {
		if found[c] == 0 {
			t.Errorf("%d failovers lost acknowledged commits, and %s found none", seeds, c)
		}
	}
}
