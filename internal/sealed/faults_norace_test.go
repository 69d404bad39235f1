//go:build !race && !pausepoints

package sealed

const raceDetector = false
