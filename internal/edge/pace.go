package edge

import (
	"sync"
	"time"
)

// pace is how much longer a client may be waited for. Its zero value waits for
// nobody; see newPace.
type pace struct {
	most time.Duration
	// worth is the time that one byte wins back; zero: any progress wins back all.
	worth time.Duration

	mu     sync.Mutex
	credit time.Duration
}

// newPace is for one direction of one connection, or one body. rate is in bytes a
// second; 0 asks for progress alone.
func newPace(most time.Duration, rate int64) *pace {
	p := &pace{most: most, credit: most}
	if rate > 0 {
		p.worth = max(1, time.Second/time.Duration(rate))
	}
	return p
}

// left is how long the next wait may take.
func (p *pace) left() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.credit
}

// spend accounts for one wait that moved n bytes.
func (p *pace) spend(waited time.Duration, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.worth == 0 && n > 0:
		p.credit = p.most
		return
	case p.worth > 0 && time.Duration(n) > p.most/p.worth:
		p.credit = p.most
		return
	}
	p.credit = min(p.most, p.credit-waited+time.Duration(n)*p.worth)
}
