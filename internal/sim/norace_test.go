//go:build !race

package sim

const (
	// seedsHere is how many seeds TestSeeds runs where nobody says; scripts/test.sh does.
	seedsHere = 40
	// twiceHere is how many are run twice.
	twiceHere = 50
)
