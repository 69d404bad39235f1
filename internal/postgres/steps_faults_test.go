package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/state"
)

// faultStage is a driver whose statements are held, and one beside it.
type faultStage struct {
	stepper     *pgtest.Stepper
	held, whole *DB
	admin       *pgx.Conn
}

func newFaultStage(t *testing.T) *faultStage {
	t.Helper()
	dsn := migrated(t)
	s := &faultStage{admin: connect(t, dsn), whole: open(t, dsn, 4)}
	var through string
	s.stepper, through = pgtest.Step(t, dsn)
	s.held = open(t, through, 4)
	return s
}

// hurt is a transaction of the kinds that a fault is tried on, with how its effect is
// seen. Each is one of a scope of its own.
type hurt struct {
	name string
	make func(sc fence.Scope) *state.Tx
	took func(v *state.View, sc fence.Scope) bool
}

func hurts() []hurt {
	at := func(sc fence.Scope) object.Ref { return object.Ref{Bucket: sc.Bucket(), Key: sc.Prefix() + "a"} }
	return []hurt{
		{"a write",
			func(sc fence.Scope) *state.Tx { tx, _ := putOne(sc, "a", nil); return tx },
			func(v *state.View, sc fence.Scope) bool { return v.Objects[at(sc)] != nil }},
		{"a grant",
			func(sc fence.Scope) *state.Tx {
				tx := raise(sc, 0)
				tx.Decide = func(v *state.View) (state.Changes, error) {
					row := v.Scope(sc, fence.Sealed)
					var err error
					row.Mark.Token, err = v.Draw()
					return state.Changes{Scopes: []state.Scope{row}}, err
				}
				return tx
			},
			func(v *state.View, sc fence.Scope) bool { return v.Scopes[sc].Mark.Token > 0 }},
	}
}

// eachStep does something to each kind of transaction behind each of its statements. run
// is how the transaction is run; fault is called with the statement that is held then.
// Whatever it does, an answer must be true (F7) and no lock may stay behind.
func eachStep(t *testing.T, run func(s *faultStage, tx *state.Tx) error, fault func(s *faultStage, tx *state.Tx, next *pgtest.Statement)) {
	t.Helper()
	for _, h := range hurts() {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			s := newFaultStage(t)
			took := 0
			n := 0
			for ; ; n++ {
				sc := testScope(t, fmt.Sprintf("s3://data/%d/", n))
				tx := h.make(sc)
				var err error
				id := tx.ID
				next := ""
				_, stopped := s.stepper.Stop(t, n, func() { err = run(s, tx) }, func(st *pgtest.Statement) {
					next = st.SQL
					fault(s, tx, st)
				})
				if !stopped {
					break
				}
				require.NotErrorIs(t, err, state.ErrUnknown, "before %q: the verdict can be had", next)
				// Whoever comes next has the scope and its keys, and sees one truth.
				after, ref := putOne(sc, "a", nil)
				after.Scopes = exclusive(sc)
				var view state.View
				after.Decide = func(v *state.View) (state.Changes, error) {
					view = *v
					return state.Changes{}, nil
				}
				require.NoError(t, s.whole.Transact(t.Context(), after), "before %q", next)
				effect := h.took(&view, sc)
				require.Equal(t, effect, err == nil, "before %q: answered %v, and %s", next, err, ref)
				verdict, rerr := s.whole.Resolve(t.Context(), id)
				require.NoError(t, rerr)
				require.Equal(t, effect, verdict == state.Committed, "before %q: the verdict", next)
				if effect {
					took++
				}
			}
			require.Greater(t, n, 6, "hardly any statements were seen")
			t.Logf("%d statements; it took effect in %d", n, took)
		})
	}
}

func runHeld(s *faultStage, tx *state.Tx) error { return state.Run(context.Background(), s.held, tx) }

// TestConnectionCutAtEachStep: the connection ends before a statement is sent (F7).
func TestConnectionCutAtEachStep(t *testing.T) {
	t.Parallel()
	eachStep(t, runHeld, func(_ *faultStage, _ *state.Tx, next *pgtest.Statement) { next.Cut() })
}

// TestAnswerLostAtEachStep: a statement is executed, COMMIT among them, and nobody is
// told (F7).
func TestAnswerLostAtEachStep(t *testing.T) {
	t.Parallel()
	eachStep(t, runHeld, func(_ *faultStage, _ *state.Tx, next *pgtest.Statement) {
		next.LoseAnswer()
		<-next.Answered()
	})
}

// TestSessionEndedAtEachStep: an operator, or whoever waits for a lock, ends the session.
func TestSessionEndedAtEachStep(t *testing.T) {
	t.Parallel()
	eachStep(t, runHeld, func(s *faultStage, _ *state.Tx, next *pgtest.Statement) {
		var ended bool
		err := s.admin.QueryRow(context.Background(), "SELECT pg_terminate_backend($1, 10000)", next.PID).Scan(&ended)
		if err != nil || !ended {
			panic(fmt.Sprint("the session was not ended: ", err))
		}
	})
}

// TestVerdictAtEachStep: the transaction stands still, somebody asks for its verdict, and
// it goes on, COMMIT too: it is aborted for ever (F7). It is not Run that goes on, which
// would begin to ask as well.
func TestVerdictAtEachStep(t *testing.T) {
	t.Parallel()
	eachStep(t,
		func(s *faultStage, tx *state.Tx) error {
			err := s.held.Transact(context.Background(), tx)
			if errors.Is(err, state.ErrUnknown) {
				// Its session was ended for the verdict's sake while it held its outcome.
				return state.ErrDecided
			}
			return err
		},
		func(s *faultStage, tx *state.Tx, _ *pgtest.Statement) {
			verdict, err := s.whole.Resolve(context.Background(), tx.ID)
			if err != nil || verdict != state.Aborted {
				panic(fmt.Sprintf("verdict %d, %v", verdict, err))
			}
		})
}

// TestTakeoverAtEachStep: it stands still, and the scope is taken over: at once where it
// holds nothing, and within a second where it does. What it does afterwards is refused, or
// was there before (F4, F5).
func TestTakeoverAtEachStep(t *testing.T) {
	t.Parallel()
	var took time.Duration
	s := newFaultStage(t)
	for n := 0; ; n++ {
		sc := testScope(t, fmt.Sprintf("s3://data/%d/", n))
		require.NoError(t, s.whole.Transact(t.Context(), raise(sc, 33)))
		tx, ref := putOne(sc, "a", nil)
		put := tx.Decide
		tx.Decide = func(v *state.View) (state.Changes, error) {
			if v.Scopes[sc].Mark.Token > 33 {
				return state.Changes{}, errStale
			}
			return put(v)
		}
		var err error
		before := false
		_, stopped := s.stepper.Stop(t, n, func() { err = runHeld(s, tx) }, func(*pgtest.Statement) {
			begun := time.Now()
			if rerr := s.whole.Transact(context.Background(), raise(sc, 34)); rerr != nil {
				panic(rerr)
			}
			took = max(took, time.Since(begun))
			before = exists(t, s.whole, ref)
		})
		if !stopped {
			break
		}
		require.False(t, before, "it was there before it was committed")
		require.Error(t, err, "behind statement %d it was acknowledged after the takeover", n)
		require.False(t, exists(t, s.whole, ref), "behind statement %d it took effect after the takeover (F4)", n)
	}
	// A second on an idle machine; a busy one gets two more.
	require.Less(t, took, 3*time.Second)
}

var errStale = errors.New("the token is stale")

// TestVerdictCutAtEachStep: whoever asks for a verdict is cut off himself. Who asks next
// is told the same as everybody (F7).
func TestVerdictCutAtEachStep(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"cut", "answer lost"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s := newFaultStage(t)
			for n := 0; ; n++ {
				id := state.NewID()
				var verdict state.Outcome
				var err error
				_, stopped := s.stepper.Stop(t, n, func() { verdict, err = s.held.Resolve(context.Background(), id) }, func(next *pgtest.Statement) {
					if fault == "cut" {
						next.Cut()
						return
					}
					next.LoseAnswer()
					<-next.Answered()
				})
				if !stopped {
					break
				}
				if err == nil {
					require.Equal(t, state.Aborted, verdict)
				} else {
					require.ErrorIs(t, err, state.ErrUnavailable)
				}
				// The transaction itself comes only now: it is told what stands there.
				tx, ref := putOne(testScope(t, fmt.Sprintf("s3://data/%d/", n)), "a", nil)
				tx.ID = id
				terr := s.whole.Transact(t.Context(), tx)
				final, rerr := s.whole.Resolve(t.Context(), id)
				require.NoError(t, rerr)
				require.Equal(t, final == state.Committed, terr == nil)
				require.Equal(t, final == state.Committed, exists(t, s.whole, ref))
			}
		})
	}
}
