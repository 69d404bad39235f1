package pgtest

import (
	"testing"
	"time"
)

// Stage is where two parties A and B act on one database, each through a stepper of its
// own. It is for one goroutine.
type Stage struct {
	A, B  *Stepper
	Watch *Watch
	// Normal puts an outcome into the form that is compared; nil: as it is.
	Normal func(Outcome) Outcome
	// Interleavings counts those that were played; in Waited of them B waited for a lock
	// of A's, in the others it ended before A went on.
	Interleavings, Waited int
}

// OpenStage sets one up on the database that dsn names, and returns the DSNs for the two
// parties. Both are left alone by each other's search for sessions that stand still.
func OpenStage(t testing.TB, dsn string) (s *Stage, a, b string) {
	t.Helper()
	s = &Stage{Watch: OpenWatch(t, dsn)}
	s.A, a = Step(t, dsn)
	s.B, b = Step(t, dsn)
	for _, p := range []*Stepper{s.A, s.B} {
		p.Never("pg_terminate_backend")
	}
	return s, a, b
}

// Play is one try of two actions on a scene of its own. A and B do something and say
// how it was answered, End puts into words what is there when both have ended. The
// words must not depend on when it was played.
type Play struct {
	A, B func() string
	// Between is called where B has ended while A stands still; nil: nothing.
	Between func()
	End     func() string
}

// Outcome is how a Play ended.
type Outcome struct{ A, B, Rows string }

func (o Outcome) String() string { return "A: " + o.A + "\nB: " + o.B + "\n" + o.Rows }

// Pair plays A up to each of its statements, then B as far as it gets, then the rest of
// A. Each outcome must be that of A before B or that of B before A. An action that was
// answered notNow, which says that nothing happened, may also never have been.
// scene makes a new one for each.
func (s *Stage) Pair(t *testing.T, notNow string, scene func() Play) {
	t.Helper()
	alone := func(a, b bool) Outcome {
		p, o := scene(), Outcome{}
		if a {
			o.A = p.A()
		}
		if b {
			o.B = p.B()
		}
		o.Rows = p.End()
		return s.normal(o)
	}
	first := alone(true, true)
	p := scene()
	second := Outcome{B: p.B()}
	second.A = p.A()
	second.Rows = p.End()
	second = s.normal(second)
	for n := 0; ; n++ {
		o, passed, stopped := s.interleave(t, scene(), n)
		if !stopped {
			return
		}
		ok := o == first || o == second
		if !ok && o.A == notNow {
			only := alone(false, true)
			ok = o.B == only.B && o.Rows == only.Rows
		}
		if !ok && o.B == notNow {
			only := alone(true, false)
			ok = o.A == only.A && o.Rows == only.Rows
		}
		if !ok {
			behind := "its beginning"
			if n > 0 {
				behind = passed[n-1]
			}
			t.Errorf("with B behind statement %d of A (%s) the outcome is like neither order:\n%s\nA before B:\n%s\nB before A:\n%s", n, behind, o, first, second)
		}
	}
}

func (s *Stage) interleave(t *testing.T, p Play, n int) (o Outcome, passed []string, stopped bool) {
	t.Helper()
	done := make(chan struct{})
	passed, stopped = s.A.Stop(t, n, func() { o.A = p.A() }, func(*Statement) {
		go func() {
			defer close(done)
			o.B = p.B()
		}()
		s.Interleavings++
		if s.Watch.EndOrBlock(t, done, s.B.PIDs) {
			s.Waited++
		} else if p.Between != nil {
			p.Between()
		}
	})
	if !stopped {
		return o, passed, false
	}
	select {
	case <-done:
	case <-time.After(stepWait):
		t.Fatalf("pgtest: B does not end after A, which was stopped behind %q", passed)
	}
	o.Rows = p.End()
	return s.normal(o), passed, true
}

func (s *Stage) normal(o Outcome) Outcome {
	if s.Normal == nil {
		return o
	}
	return s.Normal(o)
}
