package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kind is what an operation does.
type Kind string

// The kinds.
const (
	Grant  Kind = "grant"
	Put    Kind = "put"
	Delete Kind = "delete"
	Get    Kind = "get"
	List   Kind = "list"
)

// Result is how an operation was answered.
type Result string

// The results.
const (
	OK     Result = "ok"
	Stale  Result = "stale"  // 412: the token is below the mark
	Failed Result = "failed" // 412: the condition is false
	Absent Result = "absent" // 404: there is no such object
	// Unknown: no answer, or 504. It may have happened, or may still.
	Unknown Result = "unknown"
)

// Op is one operation with its answer.
type Op struct {
	// Client is who asked, one operation at a time; Through the proxy that was
	// asked last, for the reader.
	Client  string `json:"client"`
	Through string `json:"through,omitempty"`

	Scope string `json:"scope"`
	Kind  Kind   `json:"kind"`
	// Key is empty for grants and lists.
	Key string `json:"key,omitempty"`
	// Token is that of the request, 0 for a grant of ours and for an unfenced
	// read.
	Token int64 `json:"token,omitempty"`
	// Value is what a put writes. No two puts of a history write the same.
	Value string `json:"value,omitempty"`
	// Create is If-None-Match: *, Match is If-Match with the ETag of a value.
	Create bool   `json:"create,omitempty"`
	Match  string `json:"match,omitempty"`

	Result Result `json:"result"`
	// Granted is the token of a grant that was answered OK.
	Granted int64 `json:"granted,omitempty"`
	// Got is what a get that was answered OK showed; Shown what a list did, values
	// by key.
	Got   string            `json:"got,omitempty"`
	Shown map[string]string `json:"shown,omitempty"`

	// Call and Return are measured from the beginning of the history, in
	// nanoseconds. What Return says of an Unknown operation is when its client
	// gave up.
	Call   time.Duration `json:"call"`
	Return time.Duration `json:"return"`
}

// String says what was asked and what was told, in a line.
func (o Op) String() string {
	var b strings.Builder
	b.WriteString(string(o.Kind))
	for _, part := range []struct {
		show bool
		text string
	}{
		{o.Key != "", " " + o.Key},
		{o.Value != "", "=" + o.Value},
		{o.Create, " if absent"},
		{o.Match != "", " if it is " + o.Match},
		{o.Token != 0, fmt.Sprintf(" under %d", o.Token)},
		{true, " → " + string(o.Result)},
		{o.Granted != 0, fmt.Sprintf(" token %d", o.Granted)},
		{o.Got != "", " " + o.Got},
	} {
		if part.show {
			b.WriteString(part.text)
		}
	}
	if o.Kind == List && o.Result == OK {
		b.WriteString(" {")
		for i, k := range slices.Sorted(maps.Keys(o.Shown)) {
			if i > 0 {
				b.WriteString(" ")
			}
			b.WriteString(k + "=" + o.Shown[k])
		}
		b.WriteString("}")
	}
	return b.String()
}

// Recorder gathers operations. It is safe for concurrent use.
type Recorder struct {
	mu    sync.Mutex
	ops   []Op
	begun time.Time
	clock func() time.Time
}

// NewRecorder begins a history. Times are read from clock, which must be monotonic
// and common to all clients; time.Now where nil.
func NewRecorder(clock func() time.Time) *Recorder {
	if clock == nil {
		clock = time.Now
	}
	return &Recorder{clock: clock, begun: clock()}
}

// Now is a moment of the history, for [Op.Call].
func (r *Recorder) Now() time.Duration { return r.clock().Sub(r.begun) }

// Add records an operation that has just returned, or was given up.
func (r *Recorder) Add(o Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o.Return = r.Now()
	r.ops = append(r.ops, o)
}

// Ops returns what was recorded, by call. The slice is the caller's own.
func (r *Recorder) Ops() []Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sorted(r.ops)
}

func sorted(ops []Op) []Op {
	ops = slices.Clone(ops)
	slices.SortStableFunc(ops, func(a, b Op) int {
		if a.Call != b.Call {
			return int(a.Call - b.Call)
		}
		return strings.Compare(a.Client, b.Client)
	})
	return ops
}

// Write writes operations as JSON, one a line.
func Write(w io.Writer, ops []Op) error {
	enc := json.NewEncoder(w)
	for i := range ops {
		if err := enc.Encode(&ops[i]); err != nil {
			return fmt.Errorf("writing operation %d of a history: %w", i+1, err)
		}
	}
	return nil
}

// Read reads what [Write] wrote.
func Read(r io.Reader) ([]Op, error) {
	var ops []Op
	dec := json.NewDecoder(r)
	for {
		var o Op
		err := dec.Decode(&o)
		switch {
		case errors.Is(err, io.EOF):
			return ops, nil
		case err != nil:
			return nil, fmt.Errorf("operation %d of a history: %w", len(ops)+1, err)
		}
		ops = append(ops, o)
	}
}
