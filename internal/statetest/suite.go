package statetest

import (
	"testing"
	"time"

	"github.com/s3fence/s3fence/internal/state"
)

// Subject is a fresh, empty state under test.
type Subject struct {
	// State is closed by whoever made it, through the test's clean-up.
	State state.State
	// Second opens another handle on the same state, as a second proxy would;
	// the caller's clean-up closes it. Nil where a state cannot be shared.
	Second func(testing.TB) state.State
	// Advance moves the database's clock forward, or everything that is stored
	// into the past. Nil where neither can be done.
	Advance func(testing.TB, time.Duration)
	// OneWriter says that the driver has one lock for everything: a transaction
	// waits for every other one, and Try misses nothing.
	OneWriter bool
}

// Run runs every suite. Each calls fresh for a state of its own; the tests of
// one suite share it, and run in parallel.
func Run(t *testing.T, fresh func(testing.TB) Subject) {
	suites := []struct {
		name string
		test func(*testing.T, Subject)
	}{
		{"records", testRecords},
		{"parts", testParts},
		{"marks", testMarks},
		{"counter", testCounter},
		{"locks", testLocks},
		{"decisions", testDecisions},
		{"outcomes", testOutcomes},
		{"claims", testClaims},
		{"requests", testRequests},
		{"lists", testLists},
		{"guards", testGuards},
		{"places", testPlaces},
		{"upkeep", testUpkeep},
		{"events", testEvents},
		{"events followed", testEventsFollowed},
		{"property", testProperty},
	}
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.test(t, fresh(t))
		})
	}
}

// handles are the state's handles, two where there can be two.
func (s Subject) handles(t testing.TB) []state.State {
	if s.Second == nil {
		return []state.State{s.State}
	}
	return []state.State{s.State, s.Second(t)}
}
