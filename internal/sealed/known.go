package sealed

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/state"
)

// knownScopes bounds the memory of scopes; one takes about 350 bytes.
const knownScopes = 100_000

// recall remembers what committed transactions and reads showed of scopes.
// It serves two purposes and no third: "stale" is true for ever in its
// generation, so it may be remembered; and the epoch for new names may be old,
// since the commit compares it. "Admitted" is never answered from it.
type recall struct {
	scopes *lru.Cache[fence.Scope, remembered]
}

// remembered is a row with the database's time of when it was read, and with the same
// moment by this process's clock: together they tell the database's time of later
// ones, well enough for people.
type remembered struct {
	state.Scope
	now  time.Time
	read time.Time
}

func newRecall() *recall {
	c, err := lru.New[fence.Scope, remembered](knownScopes)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &recall{c}
}

// learn takes over rows that are known to be committed, with the database's time
// of when they were read, a moment ago. It never goes back.
func (m *recall) learn(now time.Time, rows ...state.Scope) {
	read := time.Now()
	for _, row := range rows {
		old, ok := m.scopes.Peek(row.Scope)
		if ok && (row.Mark.Below(old.Mark) || row.Mark == old.Mark && row.Epoch < old.Epoch) {
			continue
		}
		m.scopes.Add(row.Scope, remembered{row, now, read})
	}
}

func (m *recall) get(s fence.Scope) (state.Scope, bool) {
	l, ok := m.scopes.Get(s)
	return l.Scope, ok
}

// KnownStale answers, without asking anyone, whether an operation's token is
// known to be below the mark (F3). Nil means that it is not known.
func (s *Store) KnownStale(op *guarded.Op) *fence.Refusal {
	if op.Request.Token == 0 || op.Guard.Tokens == fence.None {
		return nil
	}
	row, ok := s.known.scopes.Get(op.Scope)
	if !ok {
		return nil
	}
	if g := op.Request.Generation; g != row.Mark.Current() && (g != 0 || row.Mark.Current() != fence.FirstGeneration) {
		return nil
	}
	if op.Request.Token >= row.Mark.Token {
		return nil
	}
	r := fence.Refuse(fence.Stale, op.Scope, op.Guard, row.Mark, op.Request)
	r.Last = row.Last
	if !row.now.IsZero() {
		// While the machine is suspended this clock may stand still: then it is longer
		// ago than it says.
		r.Now = row.now.Add(time.Since(row.read))
	}
	return r
}
