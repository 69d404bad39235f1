//go:build pausepoints && linux

package pause

import (
	"os"
	"sync"
)

// Armed reports whether this build can pause.
const Armed = true

// Cleaner is the part of *testing.T that [Set] needs. It keeps package testing
// out of armed binaries.
type Cleaner interface {
	Cleanup(func())
}

var hooks struct {
	sync.RWMutex
	at map[Point][]*func()
}

// Set calls hook at every passing of point p until t's clean-up. It may be
// called, and hooks run, from any number of goroutines at once; a hook that
// must act once says so itself. A hook that has begun may still be running
// when the clean-up returns.
func Set(t Cleaner, p Point, hook func()) {
	entry := &hook
	hooks.Lock()
	defer hooks.Unlock()
	if hooks.at == nil {
		hooks.at = make(map[Point][]*func())
	}
	// Slices are replaced, never changed in place: At walks them unlocked.
	hooks.at[p] = append(hooks.at[p][:len(hooks.at[p]):len(hooks.at[p])], entry)
	t.Cleanup(func() {
		hooks.Lock()
		defer hooks.Unlock()
		rest := make([]*func(), 0, len(hooks.at[p]))
		for _, h := range hooks.at[p] {
			if h != entry {
				rest = append(rest, h)
			}
		}
		hooks.at[p] = rest
	})
}

// At marks that the program passes point p: the hooks set on p run first, then
// the actions that the environment asks for. It panics if the environment
// cannot be understood; see [Check].
func At(p Point) {
	hooks.RLock()
	hs := hooks.at[p]
	hooks.RUnlock()
	for _, h := range hs {
		(*h)()
	}

	plan, err := environment()
	if err != nil {
		panic(err)
	}
	for _, a := range plan[p] {
		a.pass()
	}
}

// Check returns an error if the environment asks for something that is not
// known, naming it. A program calls it once, at its start.
func Check() error {
	_, err := environment()
	return err
}

// The environment is read at the first passing and then for good.
var environment = sync.OnceValues(func() (map[Point][]*action, error) {
	return parse(os.Getenv(EnvActions), os.Getenv(EnvDir))
})
