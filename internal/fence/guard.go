package fence

import (
	"fmt"
	"strings"
	"time"
)

// GuardID numbers guards; it is never used again.
type GuardID int64

// Writes is the way objects of a guard are written.
type Writes string

// The ways to write. Sealed objects are bytes under names of our own, made
// visible by a commit in the state; in-place objects keep their names.
const (
	Sealed  Writes = "sealed"
	InPlace Writes = "in-place"
)

// Tokens says whether writes under a guard carry a token.
type Tokens string

// Required refuses writes without a token, Optional orders them with the rest
// but binds them by none, None takes neither tokens nor locks.
const (
	Required Tokens = "required"
	Optional Tokens = "optional"
	None     Tokens = "none"
)

// Issuer says who grants the tokens of a guard.
type Issuer string

// Own tokens come from the deployment's counter; External ones are brought by
// the callers from a lock service of theirs.
const (
	Own      Issuer = "s3fence"
	External Issuer = "external"
)

// GuardState is a guard's place in its life.
type GuardState string

// A Pending guard refuses writes while existing objects are taken in, an
// Active one judges, a Removing one refuses writes until it is gone.
const (
	Pending  GuardState = "pending"
	Active   GuardState = "active"
	Removing GuardState = "removing"
)

// DefaultMaxJump is how far one request may raise a mark of an external issuer
// unless the guard says otherwise.
const DefaultMaxJump = 1 << 32

// MaxLockDelay is the longest lock delay of a guard.
const MaxLockDelay = time.Hour

// Guard is the rule that makes keys belong to scopes.
type Guard struct {
	ID      GuardID
	Pattern Pattern
	Writes  Writes
	Tokens  Tokens
	Issuer  Issuer
	// MaxJump bounds how far one request may raise the mark of an external
	// issuer; at least 1. The first token of a fresh scope is not bound by it.
	MaxJump int64
	// LockDelay is how long nobody is granted a lock after a lease on it ran out;
	// up to MaxLockDelay. It orders what a fence cannot reach, see package locks.
	LockDelay time.Duration
	State     GuardState
	Created   time.Time
}

// SameRule reports whether two guards, apart from identity and state, say the
// same.
func (g Guard) SameRule(h Guard) bool {
	return g.Pattern.String() == h.Pattern.String() && g.Writes == h.Writes &&
		g.Tokens == h.Tokens && g.Issuer == h.Issuer && g.MaxJump == h.MaxJump && g.LockDelay == h.LockDelay
}

// Rule is the guard's settings as one line for people.
func (g Guard) Rule() string {
	s := fmt.Sprintf("writes=%s tokens=%s issuer=%s", g.Writes, g.Tokens, g.Issuer)
	if g.Issuer == External {
		s += fmt.Sprintf(" max_jump=%d", g.MaxJump)
	}
	if g.LockDelay != 0 {
		s += fmt.Sprintf(" lock_delay=%v", g.LockDelay)
	}
	return s
}

// Guards is an immutable snapshot of the guard list, safe for concurrent use.
// The nil *Guards has no guards.
type Guards struct {
	version int64
	list    []Guard
	buckets map[string]*segmentNode
}

// segmentNode is one level of a bucket's tree of pattern segments.
type segmentNode struct {
	literal map[string]*segmentNode
	any     *segmentNode
	guard   *Guard
}

// NewGuards indexes a guard list. It refuses one whose guards overlap, because
// then two marks would govern one key.
func NewGuards(version int64, list []Guard) (*Guards, error) {
	gs := &Guards{version: version, list: list, buckets: map[string]*segmentNode{}}
	for i := range list {
		if h, ok := gs.Overlapping(list[i].Pattern); ok {
			return nil, fmt.Errorf("guards %s and %s overlap", h.Pattern, list[i].Pattern)
		}
		gs.insert(&list[i])
	}
	return gs, nil
}

func (gs *Guards) insert(g *Guard) {
	n := gs.buckets[g.Pattern.bucket]
	if n == nil {
		n = &segmentNode{}
		gs.buckets[g.Pattern.bucket] = n
	}
	for _, seg := range g.Pattern.segments {
		var next *segmentNode
		if seg == wildcard {
			if n.any == nil {
				n.any = &segmentNode{}
			}
			next = n.any
		} else {
			if n.literal == nil {
				n.literal = map[string]*segmentNode{}
			}
			if n.literal[seg] == nil {
				n.literal[seg] = &segmentNode{}
			}
			next = n.literal[seg]
		}
		n = next
	}
	n.guard = g
}

// Version numbers the state of the list; it grows with every change.
func (gs *Guards) Version() int64 {
	if gs == nil {
		return 0
	}
	return gs.version
}

// All is the list in the order given. Callers must not change it.
func (gs *Guards) All() []Guard {
	if gs == nil {
		return nil
	}
	return gs.list
}

// Guarded reports whether some guard, in whatever state, covers part of a
// bucket.
func (gs *Guards) Guarded(bucket string) bool {
	return gs != nil && gs.buckets[bucket] != nil
}

// Find returns the guard of a key and the scope that the key lies in.
func (gs *Guards) Find(bucket, key string) (*Guard, Scope, bool) {
	if gs == nil || IsReserved(key) {
		return nil, Scope{}, false
	}
	n := gs.buckets[bucket]
	if n == nil {
		return nil, Scope{}, false
	}
	if g := n.find(key); g != nil {
		if sc, ok := g.Pattern.Match(bucket, key); ok {
			return g, sc, true
		}
	}
	return nil, Scope{}, false
}

func (n *segmentNode) find(key string) *Guard {
	if n.guard != nil {
		return n.guard
	}
	seg, rest, ok := strings.Cut(key, "/")
	if !ok || seg == "" {
		return nil
	}
	if next := n.literal[seg]; next != nil {
		if g := next.find(rest); g != nil {
			return g
		}
	}
	if n.any != nil {
		return n.any.find(rest)
	}
	return nil
}

// ForScope returns the guard that governs a scope.
func (gs *Guards) ForScope(s Scope) (*Guard, bool) {
	g, got, ok := gs.Find(s.bucket, s.prefix)
	if !ok || got != s {
		return nil, false
	}
	return g, true
}

// Overlapping returns a guard of the list whose pattern overlaps p.
func (gs *Guards) Overlapping(p Pattern) (*Guard, bool) {
	if gs == nil {
		return nil, false
	}
	g := gs.buckets[p.bucket].overlapping(p.segments)
	return g, g != nil
}

// overlapping walks every path that the segments can take. Whatever hangs below
// the end of the walk is inside the pattern; a guard met on the way contains it.
func (n *segmentNode) overlapping(segments []string) *Guard {
	if n == nil {
		return nil
	}
	if n.guard != nil {
		return n.guard
	}
	rest := segments
	if len(segments) > 0 {
		rest = segments[1:]
		if segments[0] != wildcard {
			if g := n.literal[segments[0]].overlapping(rest); g != nil {
				return g
			}
			return n.any.overlapping(rest)
		}
	}
	for _, next := range n.literal {
		if g := next.overlapping(rest); g != nil {
			return g
		}
	}
	return n.any.overlapping(rest)
}
