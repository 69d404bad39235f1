package locks_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/state"
)

// A ticket keeps the place between calls, through whatever process, for as long as
// was asked for, and says where it is.
func TestTicketKeepsThePlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		other := w.service(locks.Options{})
		hold := w.ask("ann")
		hold.TTL = time.Hour
		l := w.acquire(hold)
		try := func(s *locks.Service, name string, wait, keep time.Duration) *locks.HeldError {
			t.Helper()
			r := w.ticket(name)
			r.Wait, r.Keep = wait, keep
			_, err := s.Acquire(t.Context(), r)
			var held *locks.HeldError
			require.ErrorAs(t, err, &held)
			assert.Equal(t, "ann", held.By.Holder)
			return held
		}
		place := func(h *locks.HeldError) []int { return []int{h.Position, h.Waiting} }
		assert.Equal(t, []int{1, 1}, place(try(w.locks, "bob", time.Second, 10*time.Second)))
		assert.Equal(t, []int{2, 2}, place(try(other, "cid", 0, 10*time.Second)))
		assert.Equal(t, []int{3, 3}, place(try(w.locks, "dan", 0, 10*time.Second)))
		time.Sleep(9 * time.Second)
		assert.Equal(t, []int{1, 3}, place(try(other, "bob", 500*time.Millisecond, 10*time.Second)))
		assert.Equal(t, []string{"bob", "cid", "dan"}, w.line())
		time.Sleep(9 * time.Second) // cid and dan have not come again
		assert.Equal(t, []string{"bob"}, w.line())
		assert.Equal(t, []int{2, 2}, place(try(w.locks, "dan", 0, 10*time.Second)))
		assert.Equal(t, []int{3, 3}, place(try(w.locks, "cid", 0, 10*time.Second)), "who was away for too long begins again")
		assert.Equal(t, []int{0, 2}, place(try(w.locks, "bob", 0, 0)), "the last call keeps no place")
		assert.Equal(t, []string{"dan", "cid"}, w.line())

		// The place is kept for who has it, though the lock is free.
		require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		_, err := w.locks.Acquire(t.Context(), w.ask("eve"))
		require.ErrorIs(t, err, locks.ErrHeld)
		r := w.ticket("dan")
		r.Wait = 0
		lease, err := other.Acquire(t.Context(), r)
		require.NoError(t, err)
		assert.Equal(t, fence.Token(2), lease.Mark.Token)
	})
}

// The answer to a grant is lost: whoever repeats the call with its ticket is given
// that lease, not another, through whatever process; until the lease is over.
func TestTicketFindsItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		other := w.service(locks.Options{})
		r := w.ticket("ann")
		r.TTL = 20 * time.Second
		ctx, cancel := context.WithCancel(t.Context())
		lost := w.service(locks.Options{Witness: witness(func(fence.Mark) error { cancel(); return nil })})
		_, err := lost.Acquire(ctx, r)
		require.ErrorIs(t, err, context.Canceled)
		time.Sleep(5 * time.Second)
		again, err := other.Acquire(t.Context(), r)
		require.NoError(t, err)
		assert.Equal(t, fence.Token(1), again.Mark.Token)
		assert.Equal(t, 15*time.Second, again.Left)
		_, err = other.Renew(t.Context(), r.Scope, 1, "ann", 0)
		require.NoError(t, err)
		assert.Equal(t, fence.Token(1), w.acquire(r).Mark.Token)

		// A ticket is its holder's: another key's means nothing here.
		eve := r
		eve.Holder, eve.Wait, eve.Keep = "eve", 0, 0
		_, err = w.locks.Acquire(t.Context(), eve)
		require.ErrorIs(t, err, locks.ErrHeld)

		// Two hosts that share a ticket by mistake are not one holder.
		twin := r
		twin.Owner, twin.Wait, twin.Keep = "ann@another", 0, 0
		_, err = w.locks.Acquire(t.Context(), twin)
		require.ErrorIs(t, err, locks.ErrHeld)

		// Once the lease is over the ticket asks afresh.
		require.NoError(t, w.locks.Release(t.Context(), r.Scope, 1, "ann"))
		assert.Equal(t, fence.Token(2), w.acquire(r).Mark.Token)
		_, err = w.locks.Take(t.Context(), w.ask("ann"), "a test")
		require.NoError(t, err)
		r.Wait, r.Keep = 0, 0
		_, err = w.locks.Acquire(t.Context(), r)
		require.ErrorIs(t, err, locks.ErrHeld, "the lease that stands was not granted to the ticket")
	})
}

// A proxy of an older version grants without touching the ticket.
func TestTicketOfAnEarlierGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	r := w.ticket("ann")
	r.Wait, r.Keep = 0, 0
	l := w.acquire(r)
	require.NoError(t, state.Run(t.Context(), w.state, &state.Tx{
		Scopes: []state.ScopeLock{{Scope: l.Scope, Mode: state.Exclusive}},
		Decide: func(v *state.View) (state.Changes, error) {
			row := v.Scopes[l.Scope]
			row.Mark.Token, row.LeaseUntil = 7, v.Now.Add(time.Hour)
			return state.Changes{Scopes: []state.Scope{row}}, nil
		},
	}))
	_, err := w.locks.Acquire(t.Context(), r)
	require.ErrorIs(t, err, locks.ErrHeld)
}

// Two calls with one ticket: the later one has the place. The earlier one, whose
// client has gone and was not noticed, is granted nothing, and its end takes nothing
// away.
func TestLaterCallOfATicketHasThePlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		other := w.service(locks.Options{})
		l := w.acquire(w.ask("ann"))
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan locks.Lease, 1)
		go func() {
			_, err := w.locks.Acquire(ctx, w.ticket("bob"))
			first <- err
		}()
		synctest.Wait()
		go func() {
			l, err := other.Acquire(t.Context(), w.ticket("bob"))
			assert.NoError(t, err)
			second <- l
		}()
		synctest.Wait()
		third := make(chan error, 1)
		go func() {
			_, err := w.locks.Acquire(context.Background(), w.ticket("cid"))
			third <- err
		}()
		synctest.Wait()
		assert.Equal(t, []string{"bob", "cid"}, w.line())
		cancel()
		require.ErrorIs(t, <-first, context.Canceled)
		assert.Equal(t, []string{"bob", "cid"}, w.line())
		require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		got := <-second
		assert.Equal(t, fence.Token(2), got.Mark.Token)
		require.NoError(t, other.Release(t.Context(), got.Scope, got.Mark.Token, "bob"))
		require.NoError(t, <-third)
	})
}

// Nor is it granted anything at the end of its wait, if the lock is free by then.
func TestEarlierCallOfATicketEndsInVain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		l := w.acquire(w.ask("ann"))
		got := make(chan error, 1)
		go func() {
			r := w.ticket("bob")
			r.Wait = 5 * time.Second
			_, err := w.locks.Acquire(context.Background(), r)
			got <- err
		}()
		synctest.Wait()
		// A call that has come since, to a process that is slow to notice its turn.
		id := state.PlaceID{Scope: l.Scope, Holder: "bob", Ticket: "bob"}
		_, err := w.state.KeepPlace(t.Context(), state.Place{PlaceID: id, Visit: uuid.New()}, time.Minute)
		require.NoError(t, err)
		require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
		require.ErrorIs(t, <-got, locks.ErrHeld)
		assert.Equal(t, fence.Token(1), w.mark())
		assert.Equal(t, []string{"bob"}, w.line())
	})
}

// What happens between a call's first look and the taking of its place is not
// missed: a release, or a grant to another call of its ticket.
func TestBetweenLookAndPlace(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(w *world, other *locks.Service){
		"a release": func(*world, *locks.Service) {},
		"the ticket is granted the lock elsewhere": func(w *world, other *locks.Service) {
			r := w.ticket("bob")
			r.Wait = 0
			l, err := other.Acquire(w.t.Context(), r)
			require.NoError(w.t, err)
			require.Equal(w.t, fence.Token(2), l.Mark.Token)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var w *world
				var other *locks.Service
				var armed atomic.Bool
				w = newWorld(t, locks.Options{}, memory.WithFaults(func(at memory.Stage) error {
					if at == memory.Writing && armed.CompareAndSwap(true, false) {
						require.NoError(t, w.locks.Release(t.Context(), scope(t, "s3://data/jobs/"), 1, "ann"))
						between(w, other)
						synctest.Wait() // whoever was woken by that has looked
					}
					return nil
				}))
				other = w.service(locks.Options{})
				w.acquire(w.ask("ann"))
				armed.Store(true)
				begun := time.Now()
				assert.Equal(t, fence.Token(2), w.acquire(w.ticket("bob")).Mark.Token)
				assert.Zero(t, time.Since(begun))
				assert.Empty(t, w.line())
			})
		})
	}
}

func TestTicketsAreChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	for name, change := range map[string]func(*locks.Request){
		"too long":      func(r *locks.Request) { r.Ticket = fmt.Sprintf("%065d", 1) },
		"a space":       func(r *locks.Request) { r.Ticket = "a b" },
		"a letter":      func(r *locks.Request) { r.Ticket = "é" },
		"a line break":  func(r *locks.Request) { r.Ticket = "a\n" },
		"kept too long": func(r *locks.Request) { r.Keep = locks.MaxKeep + 1 },
		"kept negative": func(r *locks.Request) { r.Keep = -1 },
	} {
		r := w.ask("ann")
		change(&r)
		_, err := w.locks.Acquire(t.Context(), r)
		require.ErrorIs(t, err, locks.ErrInvalid, name)
	}
	r := w.ask("ann")
	r.Ticket = fmt.Sprintf("%064d", 1)
	w.acquire(r)
}

// counting counts the statements that a line costs.
type counting struct {
	locks.State
	left, counted atomic.Int64
}

func (c *counting) LeavePlace(ctx context.Context, id state.PlaceID, visit uuid.UUID, d time.Duration) error {
	c.left.Add(1)
	return c.State.LeavePlace(ctx, id, visit, d)
}

func (c *counting) CountPlaces(ctx context.Context, s fence.Scope, turn int64, absent time.Duration) (before, all int, err error) {
	c.counted.Add(1)
	return c.State.CountPlaces(ctx, s, turn, absent)
}

// A try that names itself, so that its answer can be found again, costs what any try
// does: while nobody waits, nothing is written and nothing counted.
func TestTryWithATicketCostsATry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	c := &counting{State: w.state}
	s := locks.New(c, &list{state: w.state}, locks.Options{})
	w.acquire(w.ask("ann"))
	r := w.ticket("bob")
	r.Wait, r.Keep = 0, 0
	_, err := s.Acquire(t.Context(), r)
	require.ErrorIs(t, err, locks.ErrHeld)
	assert.Zero(t, c.left.Load())
	assert.Zero(t, c.counted.Load())

	// Its place goes where it had one.
	r.Keep = time.Minute
	_, err = s.Acquire(t.Context(), r)
	require.ErrorIs(t, err, locks.ErrHeld)
	require.Equal(t, []string{"bob"}, w.line())
	r.Keep = 0
	_, err = s.Acquire(t.Context(), r)
	require.ErrorIs(t, err, locks.ErrHeld)
	require.Empty(t, w.line())
}
