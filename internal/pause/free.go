//go:build !pausepoints

package pause

import (
	"fmt"
	"os"
)

// Armed reports whether this build can pause.
const Armed = false

// At marks that the program passes point p. In this build it is nothing.
func At(p Point) {}

// Check returns an error if the environment asks for pauses, which this build
// cannot give. A program calls it once, at its start.
func Check() error {
	if v := os.Getenv(EnvActions); v != "" {
		return fmt.Errorf("%s=%q: this binary has no pause points; build it with -tags pausepoints or unset the variable", EnvActions, v)
	}
	return nil
}
