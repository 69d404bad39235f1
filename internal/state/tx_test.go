package state_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/state"
)

// scripted answers as told, since a database loses an answer only by accident.
type scripted struct {
	transact error
	resolve  []any // error or state.Outcome, one each call; the last repeats
	ids      []uuid.UUID
}

func (s *scripted) Transact(_ context.Context, tx *state.Tx) error {
	s.ids = append(s.ids, tx.ID)
	return s.transact
}

func (s *scripted) Resolve(_ context.Context, id uuid.UUID) (state.Outcome, error) {
	s.ids = append(s.ids, id)
	answer := s.resolve[0]
	if len(s.resolve) > 1 {
		s.resolve = s.resolve[1:]
	}
	if err, ok := answer.(error); ok {
		return 0, err
	}
	return answer.(state.Outcome), nil
}

func (s *scripted) Read(context.Context, state.Query) (*state.View, error) { return nil, nil }

func TestRunDecidesLostAnswers(t *testing.T) { // F7
	t.Parallel()
	lost := fmt.Errorf("%w: connection reset", state.ErrUnknown)
	boom := errors.New("boom")
	for _, tc := range []struct {
		name    string
		s       *scripted
		want    error
		not     error
		resolve bool
	}{
		{"committed at once", &scripted{}, nil, nil, false},
		{"an error of Decide is not resolved", &scripted{transact: boom}, boom, state.ErrUnknown, false},
		{"lost, committed", &scripted{transact: lost, resolve: []any{state.Committed}}, nil, nil, true},
		{"lost, aborted", &scripted{transact: lost, resolve: []any{state.Aborted}}, state.ErrDecided, state.ErrUnknown, true},
		{"lost, found out later", &scripted{transact: lost, resolve: []any{state.ErrBusy, state.ErrUnavailable, state.Committed}}, nil, nil, true},
		{"never found out", &scripted{transact: lost, resolve: []any{state.ErrUnavailable}}, state.ErrUnknown, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				// The client has gone; the verdict is found out all the same.
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				err := state.Run(ctx, tc.s, &state.Tx{})
				if tc.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, tc.want)
				}
				if tc.not != nil {
					require.NotErrorIs(t, err, tc.not)
				}
				assert.Equal(t, tc.resolve, len(tc.s.ids) > 1)
				for _, id := range tc.s.ids {
					assert.Equal(t, tc.s.ids[0], id)
					assert.Equal(t, uuid.Version(7), id.Version())
				}
			})
		})
	}
}
