package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/s3fence/s3fence/internal/history"
)

// now is a reading of the clock that all processes of the machine share. It goes on
// while a process is stopped.
func now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

// line is a line of a worker's record: what it is about to do, with an id, and once
// more with the same id when it knows more. Of what was killed in between only the
// first line stands, and its outcome is unknown.
type line struct {
	ID int `json:"id"`
	// Nothing: the answer says that nothing happened, 503 or a refusal.
	Nothing bool `json:"nothing,omitempty"`
	// Odd is an answer that no worker expects.
	Odd string `json:"odd,omitempty"`
	history.Op
}

// recorder appends lines to a file, each in one write: what it wrote survives the
// process. Safe for concurrent use.
type recorder struct {
	begin time.Duration
	mu    sync.Mutex
	next  int
	file  *os.File
}

func newRecorder(path string, begin time.Duration) (*recorder, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return &recorder{begin: begin, file: file}, err
}

func (r *recorder) write(l line) {
	text, err := json.Marshal(l)
	if err == nil {
		_, err = r.file.Write(append(text, '\n'))
	}
	if err != nil {
		panic(err) // a record with holes would accuse the innocent
	}
}

// call records an operation that is about to be sent.
func (r *recorder) call(o history.Op) line {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	o.Call, o.Result = now()-r.begin, history.Unknown
	l := line{ID: r.next, Op: o}
	r.write(l)
	return l
}

// back records its answer.
func (r *recorder) back(l line) {
	l.Return = now() - r.begin
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(l)
}

// gather reads the records of all workers. Operations that were never answered
// return at the end.
func gather(t *testing.T, folder string, end time.Duration) (ops []history.Op, odd map[string]int) {
	t.Helper()
	odd = map[string]int{}
	files, err := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no records in %s: %v", folder, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		last := map[int]line{}
		lines := bytes.Split(text, []byte("\n"))
		// What stands behind the last newline was being written when its writer was
		// killed: the line before it says as much.
		for i, text := range lines[:len(lines)-1] {
			var l line
			if err := json.Unmarshal(text, &l); err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
			last[l.ID] = l
		}
		for id := 1; id <= len(last); id++ {
			l, ok := last[id]
			if !ok {
				t.Fatalf("%s: operation %d is missing", file, id)
			}
			if l.Odd != "" {
				odd[fmt.Sprintf("%s: %s", l.Kind, l.Odd)]++
			}
			reads := l.Kind == history.Get || l.Kind == history.List
			if l.Nothing || reads && l.Result == history.Unknown {
				continue // a read of ours changes nothing
			}
			if l.Return == 0 {
				l.Return = end
			}
			ops = append(ops, l.Op)
		}
	}
	return ops, odd
}
