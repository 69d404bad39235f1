package s3api

import "sync"

// shares are the places for requests that are answered at one time. Nobody waits
// for one, and no credential can have all of them. Requests whose signature is not
// verified yet have none: they are short, since nothing of them is waited for, and
// must not keep others out.
type shares struct {
	most, each int

	mu   sync.Mutex
	all  int
	held map[string]int
}

// enter takes a place for a credential; the error says which bound there is.
func (s *shares) enter(accessKey string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch n := s.held[accessKey]; {
	case n >= s.each:
		return unavailable(codeSlowDown, "Too many requests of this access key are being answered at the moment. Send it again.", nil)
	case s.all >= s.most:
		return unavailable(codeSlowDown, "Too many requests are being answered at the moment. Send it again.", nil)
	default:
		s.all++
		s.held[accessKey] = n + 1
	}
	return nil
}

func (s *shares) leave(accessKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.held[accessKey]--; s.held[accessKey] == 0 {
		delete(s.held, accessKey)
	}
}

// enterShare takes the request's place, once it is known whose it is.
func (rq *request) enterShare() error {
	if err := rq.s.shares.enter(rq.who.AccessKey); err != nil {
		return err
	}
	rq.entered = true
	return nil
}

// leave gives the place back.
func (rq *request) leave() {
	if rq.entered {
		rq.entered = false
		rq.s.shares.leave(rq.who.AccessKey)
	}
}
