//go:build !race

package sealed

const raceDetector = false
