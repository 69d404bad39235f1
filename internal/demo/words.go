package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// order is what the director sends to a worker, one JSON value a line: a job, or
// the word to go on with one.
type order struct {
	// Go ends the wait of a job with Hold. The other fields are empty then.
	Go bool
	// Name is the worker's, Line what it adds to the object.
	Name, Line string
	// Lock is the way to the lock, Object to the object.
	Lock   lockPlace
	Object object
	// Work is how long the job takes between reading and writing.
	Work time.Duration
	// Hold makes the job wait for Go between its look at the lock and its write.
	Hold bool
}

// step is what happened to a worker.
type step string

// Steps that a worker reports.
const (
	waits    step = "waits"    // the lock is held; Text says by whom where that is known
	held     step = "held"     // the lock was granted: Token, Left
	read     step = "read"     // the object was read: Lines
	checked  step = "checked"  // the lock is still its own: Left
	lapsed   step = "lapsed"   // the lock was lost before the write; the job is over
	written  step = "written"  // the write was answered with success: Lines, Status
	refused  step = "refused"  // the write was refused: Lines, Status, Code, Text; the job is over
	released step = "released" // the lock was given back; the job is over
	lost     step = "lost"     // there was nothing to give back any more; the job is over
	failed   step = "failed"   // something else went wrong: Text; the job is over
)

// Steps that the director sees itself.
const (
	ordered   step = "ordered"
	stopped   step = "stopped"
	continued step = "continued"
	ended     step = "ended" // the process is gone: Text
)

// report is what a worker sends to the director, one JSON value a line.
type report struct {
	Step   step
	Text   string        `json:",omitempty"`
	Code   string        `json:",omitempty"`
	Lines  []string      `json:",omitempty"`
	Status int           `json:",omitempty"`
	Token  int64         `json:",omitempty"`
	Left   time.Duration `json:",omitempty"` // of the lease, by the worker's clock
}

// event is a report, or what the director saw, with its place in the act.
type event struct {
	// at is counted from the beginning of the act.
	at  time.Duration
	who string
	report
}

// lineList writes lines in one line, for people.
func lineList(lines []string) string {
	if len(lines) == 0 {
		return "empty"
	}
	return strings.Join(lines, ", ")
}

// missing are the lines of want that are not in have.
func missing(want, have []string) []string {
	var out []string
	for _, line := range want {
		if !slices.Contains(have, line) {
			out = append(out, line)
		}
	}
	return out
}

// seconds writes a duration as people read it beside others: 1.4s.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
