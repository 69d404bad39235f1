package guarded

import (
	"context"
	"fmt"
)

// Mover brings the objects of one guard back under their plain keys: one run of an
// export, made by whoever holds the guard's row. A plain key is written in place, so
// what a Mover sends can take effect late; it keeps account of what may. Calls must
// not overlap.
type Mover interface {
	// Check fails where the store cannot be left safely, or cannot hold the keys. It
	// changes nothing that anybody sees.
	Check(ctx context.Context) error
	// Pass makes each plain key what its object is, where this run does not know
	// that it is so already, and deletes the plain keys of no object. It fails with a
	// [PassError] where objects are left behind, after all others. progress, never
	// nil, is told how many of those to look at are done.
	Pass(ctx context.Context, progress func(done, of int)) (Pass, error)
	// Settle returns when nothing that was sent to the plain keys before the call can
	// take effect any more: what this run sent and has no certain answer to; with
	// everyone, what any run sent. It then makes a Pass that trusts nothing.
	Settle(ctx context.Context, everyone bool, progress func(done, of int)) (Pass, error)
	// Unsettled is how many plain keys may still change by what this run sent.
	Unsettled() int
	// Tidy drops the rows under the pattern that no guard governs, and returns how
	// many. Their bytes are the collector's.
	Tidy(ctx context.Context) (int, error)
}

// Pass is what one pass found and did.
type Pass struct {
	// Objects are all of them, Bytes their size.
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Copied were written under their plain key, Deleted plain keys of no object
	// removed. Leftover are those that were left, since this run deletes none.
	Copied   int `json:"copied"`
	Deleted  int `json:"deleted"`
	Leftover int `json:"leftover"`
	// Retagged objects have another ETag under the plain key than in the scope.
	Retagged []Difference `json:"retagged,omitempty"`
	// Lost names what the store does not keep of an object; of the bytes nothing is
	// ever lost.
	Lost []Difference `json:"lost,omitempty"`
}

// Changed is how many plain keys the pass changed.
func (p *Pass) Changed() int { return p.Copied + p.Deleted }

// Difference is one way in which a plain object is not what was in the scope.
type Difference struct {
	Key  string `json:"key"`
	What string `json:"what"`
}

// PassError names objects that could not be brought back.
type PassError struct {
	// Failed is how many, First some of them.
	Failed int
	First  []error
}

func (e *PassError) Error() string {
	text := ""
	for i, err := range e.First {
		if i > 0 {
			text += "; "
		}
		text += err.Error()
	}
	if n := e.Failed - len(e.First); n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	return text
}

// Unwrap are the failures that are named.
func (e *PassError) Unwrap() []error { return e.First }
