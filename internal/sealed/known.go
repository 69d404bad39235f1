package sealed

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/state"
)

// knownScopes bounds the memory of scopes; one takes about 300 bytes.
const knownScopes = 100_000

// recall remembers what committed transactions and reads showed of scopes.
// It serves two purposes and no third: "stale" is true for ever in its
// generation, so it may be remembered; and the epoch for new names may be old,
// since the commit compares it. "Admitted" is never answered from it.
type recall struct {
	scopes *lru.Cache[fence.Scope, state.Scope]
}

func newRecall() *recall {
	c, err := lru.New[fence.Scope, state.Scope](knownScopes)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &recall{c}
}

// learn takes over rows that are known to be committed. It never goes back.
func (m *recall) learn(rows ...state.Scope) {
	for _, row := range rows {
		old, ok := m.scopes.Peek(row.Scope)
		if ok && (row.Mark.Below(old.Mark) || row.Mark == old.Mark && row.Epoch < old.Epoch) {
			continue
		}
		m.scopes.Add(row.Scope, row)
	}
}

func (m *recall) get(s fence.Scope) (state.Scope, bool) { return m.scopes.Get(s) }

// KnownStale answers, without asking anyone, whether an operation's token is
// known to be below the mark (F3). Nil means that it is not known.
func (s *Store) KnownStale(op *guarded.Op) *fence.Refusal {
	if op.Request.Token == 0 || op.Guard.Tokens == fence.None {
		return nil
	}
	row, ok := s.known.get(op.Scope)
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
	return r
}
