package locks

import (
	"slices"
	"sync"

	"github.com/s3fence/s3fence/internal/fence"
)

// lines are those who wait in this process, by scope. The first in a line is
// the one that tries; so a released lock costs one attempt, not one of each
// waiter, and goes to who asked first here.
type lines struct {
	mu sync.Mutex
	of map[fence.Scope][]*waiter
}

// waiter has one place in a line. wake has room for one signal: to be first, or
// that a lease ended here.
type waiter struct{ wake chan struct{} }

func (w *waiter) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// join takes the last place.
func (l *lines) join(s fence.Scope) (*waiter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.of[s]) >= MaxLine {
		return nil, ErrCrowded
	}
	w := &waiter{make(chan struct{}, 1)}
	l.of[s] = append(l.of[s], w)
	return w, nil
}

// leave gives the place up and wakes whoever is first then.
func (l *lines) leave(s fence.Scope, w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.of[s]
	if i := slices.Index(line, w); i >= 0 {
		line = slices.Delete(line, i, i+1)
	}
	if len(line) == 0 {
		delete(l.of, s)
		return
	}
	l.of[s] = line
	line[0].signal()
}

// first reports whether it is w's turn.
func (l *lines) first(s fence.Scope, w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[s][0] == w
}

// ended wakes the first in line because a lease ended.
func (l *lines) ended(s fence.Scope) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if line := l.of[s]; len(line) > 0 {
		line[0].signal()
	}
}

// length is how many wait.
func (l *lines) length(s fence.Scope) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.of[s])
}
