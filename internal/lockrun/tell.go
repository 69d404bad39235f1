//go:build unix

package lockrun

import "time"

const (
	// tellTime is how long the supervisor waits until something was told.
	tellTime = 200 * time.Millisecond
	// maxUntold bounds what waits to be told; what comes beyond is not told.
	maxUntold = 16
)

// telling is an event on its way to [Command.Tell]; told is closed behind it.
type telling struct {
	Event
	told chan struct{}
}

// teller tells events one after the other. Tell writes to a terminal that may stand
// still (Ctrl-S), or to a pipe that nobody reads, and whoever waits for that cannot end
// a command.
type teller chan telling

func newTeller(f func(Event)) teller {
	t := make(teller, maxUntold)
	go func() {
		for e := range t {
			f(e.Event)
			close(e.told)
		}
	}()
	return t
}

// tell tells an event; it returns when that was told, or after tellTime.
func (t teller) tell(e Event) {
	told := make(chan struct{})
	select {
	case t <- telling{e, told}:
	default:
		return
	}
	late := time.NewTimer(tellTime)
	defer late.Stop()
	select {
	case <-told:
	case <-late.C:
	}
}
