//go:build race

package sim

// The race detector makes a run ten times slower, and its order is the same.
const (
	seedsHere = 6
	twiceHere = 3
)
