package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
)

// Transact runs tx once; see [state.Transactor]. It fails with [ErrContract]
// where tx or its changes break the contract.
func (s *Store) Transact(ctx context.Context, tx *state.Tx) error {
	if err := checkTx(tx); err != nil {
		return err
	}
	if err := s.enter(ctx, Beginning); err != nil {
		return err
	}
	s.mu.Unlock()

	held, missed, err := s.locks.acquireAll(ctx, tx, func() error { return s.faults(ctx, Waited) })
	if err != nil {
		return err
	}
	late := false
	defer func() {
		if !late {
			s.locks.release(held)
		}
	}()

	if err := s.enter(ctx, Deciding); err != nil {
		return err
	}
	view := s.viewOf(tx, missed)
	s.mu.Unlock()

	changes, err := tx.Decide(view)
	if err != nil {
		return err
	}
	if changes.Empty() {
		return nil
	}
	if err := checkChanges(tx, missed, &changes); err != nil {
		return err
	}
	if !tx.EventLog { // see the same place in package postgres
		pause.At(pause.BeforeCommit)
	}

	// From here on the caller's impatience changes nothing.
	if fault := s.faults(ctx, Committing); errors.Is(fault, ErrLate) {
		late = true
		s.mu.Lock()
		s.late = append(s.late, &sent{tx, changes, held})
		s.mu.Unlock()
		return fmt.Errorf("%w: %w", state.ErrUnknown, fault)
	} else if fault != nil {
		return fmt.Errorf("%w: %w", state.ErrUnknown, fault)
	}
	s.mu.Lock()
	err = s.commit(tx, &changes)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if fault := s.faults(ctx, Committed); fault != nil {
		return fmt.Errorf("%w: %w", state.ErrUnknown, fault)
	}
	return nil
}

// commit applies the changes with the transaction's outcome, or nothing.
func (s *Store) commit(tx *state.Tx, c *state.Changes) error {
	if s.closed {
		return fmt.Errorf("%w: it is closed", state.ErrUnavailable)
	}
	if o, ok := s.outcomes[tx.ID]; ok {
		return fmt.Errorf("%w: transaction %s is decided already: %v", state.ErrUnavailable, tx.ID, o.value)
	}
	if err := s.verify(c); err != nil {
		return err
	}
	s.apply(c)
	s.outcomes[tx.ID] = dated[state.Outcome]{state.Committed, s.now()}
	return nil
}

// viewOf reads what a transaction asked for.
func (s *Store) viewOf(tx *state.Tx, missed map[fence.Scope]bool) *state.View {
	q := state.Query{Guards: tx.Guards, Objects: tx.Keys, Slots: tx.Slots, Uploads: tx.Uploads, Attempts: tx.Attempts, Lines: tx.Lines, Absent: tx.Absent}
	exclusive := false
	for _, l := range tx.Scopes {
		if !missed[l.Scope] {
			q.Scopes = append(q.Scopes, l.Scope)
			exclusive = exclusive || l.Mode == state.Exclusive
		}
	}
	v := s.view(q)
	v.Missed = missed
	if tx.GuardList {
		v.GuardVersion, v.GuardList = s.version, s.guardList()
	}
	for _, id := range slices.Concat(state.RecordsOf(tx.Requests), tx.Retries) {
		if r, ok := s.retries[id]; ok {
			v.Retries[id] = append([]byte{}, r.value...)
		}
	}
	v.Draw = func() (fence.Token, error) {
		if !exclusive {
			return 0, fmt.Errorf("%w: a token was drawn without a scope locked exclusively (F2)", ErrContract)
		}
		return s.draw()
	}
	v.Lift = s.lift
	return v
}

func (s *Store) draw() (fence.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := fence.MakeToken(s.deployment.Incarnation, s.counter+1)
	if err != nil {
		return 0, err
	}
	s.counter++
	return t, nil
}

func (s *Store) lift(t fence.Token) error {
	const low = 1<<fence.CounterBits - 1
	s.mu.Lock()
	defer s.mu.Unlock()
	incarnation, counter := int64(t>>fence.CounterBits), int64(t&low)
	switch {
	case incarnation < s.deployment.Incarnation:
		return nil
	case incarnation > s.deployment.Incarnation || counter == low:
		return fmt.Errorf("token %d is beyond what incarnation %d of the state can ever grant", t, s.deployment.Incarnation)
	}
	s.counter = max(s.counter, counter)
	return nil
}

// Resolve decides a transaction whose answer was lost; see [state.Transactor].
func (s *Store) Resolve(ctx context.Context, id uuid.UUID) (state.Outcome, error) {
	if err := s.enter(ctx, Resolving); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	if o, ok := s.outcomes[id]; ok {
		return o.value, nil
	}
	s.outcomes[id] = dated[state.Outcome]{state.Aborted, s.now()}
	return state.Aborted, nil
}

// Read answers one Query; see [state.Transactor].
func (s *Store) Read(ctx context.Context, q state.Query) (*state.View, error) {
	if err := s.enter(ctx, Reading); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.view(q), nil
}

// view copies what a query asks for, so that nobody can change the records.
func (s *Store) view(q state.Query) *state.View {
	v := &state.View{
		Now:        s.now(),
		Guards:     map[fence.GuardID]fence.Guard{},
		Scopes:     map[fence.Scope]state.Scope{},
		Missed:     map[fence.Scope]bool{},
		Objects:    map[object.Ref]*state.Object{},
		Claims:     map[state.Slot]*state.Claim{},
		Uploads:    map[string]*state.Upload{},
		Retries:    map[state.RetryID][]byte{},
		Referenced: map[uuid.UUID]bool{},
		Heads:      map[fence.Scope]state.Place{},
	}
	s.heads(v, q.Lines, q.Absent)
	for _, id := range q.Guards {
		if g, ok := s.guards[id]; ok {
			v.Guards[id] = g
		}
	}
	for _, sc := range q.Scopes {
		if row, ok := s.scopes[sc]; ok {
			v.Scopes[sc] = row
		}
	}
	for _, ref := range q.Objects {
		if o := s.objects[ref]; o != nil {
			c := copyObject(*o)
			v.Objects[ref] = &c
		}
	}
	for _, slot := range q.Slots {
		if c := s.claims[slot]; c != nil {
			c := *c
			v.Claims[slot] = &c
		}
	}
	for _, id := range q.Uploads {
		if u := s.uploads[id]; u != nil {
			c := copyUpload(u.Upload)
			v.Uploads[id] = &c
		}
	}
	if len(q.Attempts) == 0 {
		return v
	}
	open := map[uuid.UUID]bool{}
	for _, u := range s.uploads {
		if !u.Completed {
			open[u.Attempt] = true
		}
	}
	for _, id := range q.Attempts {
		if _, ok := s.attempts[id]; ok || open[id] {
			v.Referenced[id] = true
		}
	}
	return v
}
