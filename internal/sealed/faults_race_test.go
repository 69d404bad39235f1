//go:build race && !pausepoints

package sealed

// raceDetector says whether this build has the race detector, which makes
// everything many times slower.
const raceDetector = true
