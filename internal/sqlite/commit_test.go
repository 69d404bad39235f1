package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

var errLost = errors.New("planted: disk I/O error")

func raiseTo(sc fence.Scope, tok fence.Token) *state.Tx {
	return &state.Tx{
		ID: state.NewID(), Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}},
		Decide: func(v *state.View) (state.Changes, error) {
			row := v.Scope(sc, fence.Sealed)
			row.Mark.Token = tok
			return state.Changes{Scopes: []state.Scope{row}}, nil
		},
	}
}

// realBusy is an SQLITE_BUSY as SQLite itself says it.
func realBusy(t *testing.T) error {
	path := filepath.Join(t.TempDir(), "busy.db")
	a, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer func() { _ = a.Close() }()
	b, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer func() { _ = b.Close() }()
	a.SetMaxOpenConns(1)
	_, err = a.Exec("BEGIN EXCLUSIVE")
	require.NoError(t, err)
	_, err = b.Exec("BEGIN IMMEDIATE")
	require.Error(t, err)
	require.True(t, isBusy(err))
	return err
}

// F7: whatever becomes of a COMMIT, the verdict and the rows agree, and the
// next transaction goes on.
func TestCommitThatFails(t *testing.T) {
	t.Parallel()
	busy := realBusy(t)
	cases := []struct {
		name   string
		commit func(func() error) error
		raw    error // of Transact
		run    error // of state.Run
		mark   fence.Token
	}{
		{"it took effect and the answer is lost", func(commit func() error) error { return errors.Join(commit(), errLost) },
			state.ErrUnknown, nil, 7},
		{"it took no effect and the answer is lost", func(func() error) error { return errLost },
			state.ErrUnknown, state.ErrUnavailable, 0},
		{"busy: it is still open", func(func() error) error { return busy },
			state.ErrUnavailable, state.ErrUnavailable, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "state.db")
			require.NoError(t, Migrate(t.Context(), path))
			s, err := Open(t.Context(), path, Options{})
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			honest := s.sendCommit
			for i, run := range []func(*state.Tx) error{
				func(tx *state.Tx) error { return s.Transact(t.Context(), tx) },
				func(tx *state.Tx) error { return state.Run(t.Context(), s, tx) },
			} {
				sc, err := fence.ParseScope("s3://data/" + string(rune('a'+i)) + "/")
				require.NoError(t, err)
				tx := raiseTo(sc, 7)
				s.sendCommit = func(commit func() error) error {
					s.sendCommit = honest
					return c.commit(commit)
				}
				want := []error{c.raw, c.run}[i]
				if want == nil {
					require.NoError(t, run(tx))
				} else {
					require.ErrorIs(t, run(tx), want)
				}
				verdict, err := s.Resolve(t.Context(), tx.ID)
				require.NoError(t, err)
				require.Equal(t, c.mark == 7, verdict == state.Committed)
				v, err := s.Read(t.Context(), state.Query{Scopes: []fence.Scope{sc}})
				require.NoError(t, err)
				require.Equal(t, c.mark, v.Scopes[sc].Mark.Token)
				require.NoError(t, s.Transact(t.Context(), raiseTo(sc, 8)))
			}
		})
	}
}

// What is closed answers at once and waits for what is under way.
func TestClosed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	require.NoError(t, Migrate(t.Context(), path))
	s, err := Open(t.Context(), path, Options{Readers: 1})
	require.NoError(t, err)
	sc, err := fence.ParseScope("s3://data/jobs/")
	require.NoError(t, err)
	tx := raiseTo(sc, 7)
	decide, entered := tx.Decide, make(chan struct{})
	let := make(chan struct{})
	tx.Decide = func(v *state.View) (state.Changes, error) {
		close(entered)
		<-let
		return decide(v)
	}
	done, closed := make(chan error, 1), make(chan error, 1)
	go func() { done <- s.Transact(context.Background(), tx) }()
	<-entered
	go func() { closed <- s.Close() }()
	<-s.closing
	require.ErrorIs(t, s.Transact(t.Context(), raiseTo(sc, 8)), state.ErrUnavailable)
	close(let)
	require.NoError(t, <-done, "what was under way is finished")
	require.NoError(t, <-closed)
	_, err = s.Read(t.Context(), state.Query{Scopes: []fence.Scope{sc}})
	require.ErrorIs(t, err, state.ErrUnavailable)
	_, err = s.Resolve(t.Context(), tx.ID)
	require.ErrorIs(t, err, state.ErrUnavailable)
	require.NoError(t, s.Close(), "closing again is fine")
}

// Another process that holds the file's lock makes a transaction wait as long
// as it said, and no longer; reads go on.
func TestAnotherProcessWrites(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	require.NoError(t, Migrate(t.Context(), path))
	s, err := Open(t.Context(), path, Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	other, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	other.SetMaxOpenConns(1)
	_, err = other.Exec("BEGIN IMMEDIATE")
	require.NoError(t, err)

	sc, err := fence.ParseScope("s3://data/jobs/")
	require.NoError(t, err)
	tx := raiseTo(sc, 7)
	tx.Wait = 60 * time.Millisecond
	begun := time.Now()
	require.ErrorIs(t, s.Transact(t.Context(), tx), state.ErrBusy)
	require.GreaterOrEqual(t, time.Since(begun), tx.Wait)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	tx.Wait = time.Minute
	require.ErrorIs(t, s.Transact(ctx, tx), state.ErrUnavailable)
	_, err = s.Read(t.Context(), state.Query{Scopes: []fence.Scope{sc}})
	require.NoError(t, err)

	_, err = other.Exec("ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, s.Transact(t.Context(), tx))
}
