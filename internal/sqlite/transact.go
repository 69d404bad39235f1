package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	codes "modernc.org/sqlite/lib"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
)

// Transact runs tx once; see [state.Transactor]. Once Decide has begun, ctx
// changes nothing any more.
func (s *Store) Transact(ctx context.Context, tx *state.Tx) error {
	if tx.ID == uuid.Nil {
		return fmt.Errorf("%w: the transaction has no id; use state.Run", state.ErrUnavailable)
	}
	w, err := s.beginWrite(ctx, cmp.Or(tx.Wait, state.DefaultWait))
	if err != nil {
		return err
	}
	defer w.end()

	a := &asked{guards: tx.Guards, objects: tx.Keys, slots: tx.Slots, uploads: tx.Uploads,
		retries: slices.Concat(state.RecordsOf(tx.Requests), tx.Retries), attempts: tx.Attempts, lines: tx.Lines, absent: tx.Absent}
	for _, l := range tx.Scopes {
		a.scopes = append(a.scopes, l.Scope)
	}
	view, err := w.view(a, w.now)
	if err != nil {
		return err
	}
	if tx.GuardList {
		if view.GuardVersion, view.GuardList, err = w.guardList(); err != nil {
			return err
		}
	}
	counter := &counter{session: w.session}
	view.Draw, view.Lift = counter.draw, counter.lift

	changes, err := tx.Decide(view)
	if err != nil {
		return err
	}
	if changes.Empty() && !counter.moved {
		return nil
	}
	if !tx.EventLog { // see the same place in package postgres
		pause.At(pause.BeforeCommit)
	}
	if err := w.verdict(tx.ID, state.Committed); err != nil {
		return err
	}
	if err := counter.write(); err != nil {
		return err
	}
	if err := w.write(view, &changes); err != nil {
		return err
	}
	return w.commit()
}

const (
	// outcomeSQL fails where the id stands there already: an aborted transaction
	// never commits, and none commits twice.
	outcomeSQL = `INSERT INTO outcomes (id, verdict, at) VALUES (?, ?, ?)`
	verdictSQL = `SELECT verdict FROM outcomes WHERE id = ?`
)

func (w *writing) verdict(id uuid.UUID, o state.Outcome) error {
	err := w.run(outcomeSQL, id[:], int64(o), micros(w.now))
	if code(err) == codes.SQLITE_CONSTRAINT {
		return fmt.Errorf("transaction %s is decided already: %w", id, err)
	}
	return err
}

// Resolve decides a transaction whose answer was lost; see [state.Transactor].
// It takes the writer's turn before it looks, so that whatever is under way
// under the id has ended.
func (s *Store) Resolve(ctx context.Context, id uuid.UUID) (state.Outcome, error) {
	w, err := s.beginWrite(ctx, state.DefaultWait)
	if err != nil {
		return 0, err
	}
	defer w.end()
	var o state.Outcome
	err = w.one(verdictSQL, []any{id[:]}, &o)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return o, err
	}
	if err := w.verdict(id, state.Aborted); err != nil {
		return 0, err
	}
	if err := w.commit(); err != nil {
		return 0, fmt.Errorf("%w: the verdict itself was lost: %w", state.ErrUnavailable, err)
	}
	return state.Aborted, nil
}

// counter is the deployment's counter within one transaction (F2): what is not
// committed was not drawn.
type counter struct {
	session            *session
	read, moved        bool
	incarnation, value int64
}

const (
	counterSQL    = `SELECT incarnation, counter FROM deployment`
	setCounterSQL = `UPDATE deployment SET counter = ?`
)

func (n *counter) load() error {
	if n.read {
		return nil
	}
	err := n.session.one(counterSQL, nil, &n.incarnation, &n.value)
	n.read = err == nil
	return failed(err)
}

func (n *counter) draw() (fence.Token, error) {
	if err := n.load(); err != nil {
		return 0, err
	}
	t, err := fence.MakeToken(n.incarnation, n.value+1)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", state.ErrUnavailable, err)
	}
	n.value, n.moved = n.value+1, true
	return t, nil
}

func (n *counter) lift(t fence.Token) error {
	const low = 1<<fence.CounterBits - 1
	if err := n.load(); err != nil {
		return err
	}
	incarnation, value := int64(t>>fence.CounterBits), int64(t&low)
	switch {
	case incarnation > n.incarnation || incarnation == n.incarnation && value == low:
		return fmt.Errorf("token %d is beyond what incarnation %d of the state can ever grant", t, n.incarnation)
	case incarnation == n.incarnation && value > n.value:
		n.value, n.moved = value, true
	}
	return nil
}

func (n *counter) write() error {
	if !n.moved {
		return nil
	}
	return n.session.run(setCounterSQL, n.value)
}
