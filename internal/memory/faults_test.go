package memory_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

var errFault = errors.New("planted")

// script fails each stage once with what stands for it.
func script(faults map[memory.Stage]error) func(memory.Stage) error {
	return func(s memory.Stage) error {
		err := faults[s]
		delete(faults, s)
		return err
	}
}

func testScope(t *testing.T) fence.Scope {
	sc, err := fence.ParseScope("s3://data/jobs/")
	require.NoError(t, err)
	return sc
}

// raise is a transaction that raises the mark to tok.
func raise(sc fence.Scope, tok fence.Token) *state.Tx {
	return &state.Tx{
		ID: state.NewID(), Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}},
		Decide: func(v *state.View) (state.Changes, error) {
			row := v.Scope(sc, fence.Sealed)
			row.Mark.Token = tok
			return state.Changes{Scopes: []state.Scope{row}}, nil
		},
	}
}

func markOf(t *testing.T, s *memory.Store, sc fence.Scope) fence.Token {
	v, err := s.Read(t.Context(), state.Query{Scopes: []fence.Scope{sc}})
	require.NoError(t, err)
	return v.Scopes[sc].Mark.Token
}

// F7: what Run says of a lost answer is what happened.
func TestFaults(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		stage  memory.Stage
		raw    error // of Transact
		run    error // of state.Run
		effect fence.Token
	}{
		{"unreachable", memory.Beginning, state.ErrUnavailable, state.ErrUnavailable, 0},
		{"unreachable with locks held", memory.Deciding, state.ErrUnavailable, state.ErrUnavailable, 0},
		{"answer lost before the effect", memory.Committing, state.ErrUnknown, state.ErrUnavailable, 0},
		{"answer lost after the effect", memory.Committed, state.ErrUnknown, nil, 7},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sc := testScope(t)
			s := memory.New(memory.WithFaults(script(map[memory.Stage]error{c.stage: errFault})))
			err := s.Transact(t.Context(), raise(sc, 7))
			require.ErrorIs(t, err, c.raw)
			require.ErrorIs(t, err, errFault)
			require.Equal(t, c.effect, markOf(t, s, sc))

			s = memory.New(memory.WithFaults(script(map[memory.Stage]error{c.stage: errFault})))
			require.ErrorIs(t, state.Run(t.Context(), s, raise(sc, 7)), c.run)
			require.Equal(t, c.effect, markOf(t, s, sc))
			require.NoError(t, state.Run(t.Context(), s, raise(sc, 8)), "no lock is left behind")
		})
	}
}

func TestLateCommit(t *testing.T) {
	t.Parallel()
	for _, resolved := range []bool{true, false} {
		t.Run(fmt.Sprintf("resolved=%v", resolved), func(t *testing.T) {
			t.Parallel()
			sc := testScope(t)
			s := memory.New(memory.WithFaults(script(map[memory.Stage]error{memory.Committing: memory.ErrLate})))
			tx := raise(sc, 7)
			require.ErrorIs(t, s.Transact(t.Context(), tx), state.ErrUnknown)
			want, delivered := state.Committed, 1
			if resolved {
				want, delivered = state.Aborted, 0
				got, err := s.Resolve(t.Context(), tx.ID)
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
			next := raise(sc, 9)
			next.Wait = time.Millisecond
			require.ErrorIs(t, s.Transact(t.Context(), next), state.ErrBusy, "it holds its locks until it arrives")
			require.Equal(t, delivered, s.Deliver())
			got, err := s.Resolve(t.Context(), tx.ID)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.NoError(t, s.Transact(t.Context(), next))
			require.Zero(t, s.Deliver())
		})
	}
}

func TestResolveUnreachable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New(memory.WithFaults(func(st memory.Stage) error {
			if st == memory.Committed || st == memory.Resolving {
				return errFault
			}
			return nil
		}))
		begun := time.Now()
		require.ErrorIs(t, state.Run(t.Context(), s, raise(testScope(t), 7)), state.ErrUnknown)
		require.LessOrEqual(t, time.Since(begun), state.ResolveWait+time.Second, "the wait for a verdict is bounded")
	})
}

// A waiting takeover holds back the writers that come after it.
func TestExclusiveIsNotStarved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, sc := memory.New(), testScope(t)
		let := make(chan struct{})
		var order []string
		run := func(name string, m state.Mode) {
			go func() {
				tx := raise(sc, 7)
				tx.Scopes[0].Mode = m
				tx.Decide = func(*state.View) (state.Changes, error) {
					order = append(order, name)
					if name == "first" {
						<-let
					}
					return state.Changes{}, nil
				}
				if err := s.Transact(t.Context(), tx); err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		run("first", state.Shared)
		run("takeover", state.Exclusive)
		run("late writer", state.Shared)
		close(let)
		synctest.Wait()
		require.Equal(t, []string{"first", "takeover", "late writer"}, order)
	})
}

func TestContract(t *testing.T) {
	t.Parallel()
	sc := testScope(t)
	ref := object.Ref{Bucket: "data", Key: "jobs/a"}
	o := state.Object{Info: object.Info{Ref: ref}, Scope: sc}
	shared := []state.ScopeLock{{Scope: sc, Mode: state.Shared}}
	cases := []struct {
		name    string
		tx      state.Tx
		changes state.Changes
	}{
		{"a scope twice", state.Tx{Scopes: append(shared, shared...)}, state.Changes{}},
		{"a key twice", state.Tx{Keys: []object.Ref{ref, ref}}, state.Changes{}},
		{"a mode left out", state.Tx{Scopes: []state.ScopeLock{{Scope: sc}}}, state.Changes{}},
		{"a scope row under a shared lock", state.Tx{Scopes: shared}, state.Changes{Scopes: []state.Scope{state.NewScope(sc, fence.Sealed)}}},
		{"an object without its key", state.Tx{Scopes: shared}, state.Changes{PutObjects: []state.Object{o}}},
		{"an object without its scope", state.Tx{Keys: []object.Ref{ref}}, state.Changes{PutObjects: []state.Object{o}}},
		{"a drop without its key", state.Tx{Scopes: shared}, state.Changes{DropObjects: []object.Ref{ref}}},
		{"an upload without its scope", state.Tx{}, state.Changes{PutUploads: []state.Upload{{ID: "u", Scope: sc}}}},
		{"guards without their list", state.Tx{}, state.Changes{DropGuards: []fence.GuardID{1}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.tx.ID = state.NewID()
			c.tx.Decide = func(*state.View) (state.Changes, error) { return c.changes, nil }
			require.ErrorIs(t, memory.New().Transact(t.Context(), &c.tx), memory.ErrContract)
		})
	}
	t.Run("a token drawn under a shared lock (F2)", func(t *testing.T) {
		t.Parallel()
		tx := state.Tx{ID: state.NewID(), Scopes: shared, Decide: func(v *state.View) (state.Changes, error) {
			_, err := v.Draw()
			return state.Changes{}, err
		}}
		require.ErrorIs(t, memory.New().Transact(t.Context(), &tx), memory.ErrContract)
	})
	t.Run("no id", func(t *testing.T) {
		t.Parallel()
		require.ErrorIs(t, memory.New().Transact(t.Context(), &state.Tx{}), memory.ErrContract)
	})
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s := memory.New()
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Transact(t.Context(), raise(testScope(t), 1)), state.ErrUnavailable)
	require.ErrorIs(t, s.Check(t.Context()), state.ErrUnavailable)
}

// TestSnapshot: what was committed since is lost, a late commit too, and nothing of it
// shows through.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	sc := testScope(t)
	late := false
	s := memory.New(memory.WithFaults(func(at memory.Stage) error {
		if late && at == memory.Committing {
			return memory.ErrLate
		}
		return nil
	}))
	require.NoError(t, s.Transact(t.Context(), raise(sc, 1)))
	restore := s.Snapshot()
	require.NoError(t, s.Transact(t.Context(), raise(sc, 2)))
	late = true
	require.ErrorIs(t, s.Transact(t.Context(), raise(sc, 3)), state.ErrUnknown)
	restore()
	late = false
	require.Equal(t, fence.Token(1), markOf(t, s, sc))
	require.Zero(t, s.Deliver())
	require.NoError(t, s.Transact(t.Context(), raise(sc, 2)), "no lock is left behind")
	require.Equal(t, fence.Token(2), markOf(t, s, sc))
}
