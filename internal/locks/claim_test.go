package locks_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/postgres"
	"github.com/s3fence/s3fence/internal/state"
)

func claimBy(name, slot string) locks.ClaimRequest {
	return locks.ClaimRequest{Job: "nightly", Slot: slot, Holder: name, Owner: name + "@host"}
}

func TestClaim(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	first, err := w.locks.Claim(t.Context(), claimBy("ann", "2026-05-01T04:00:00+02:00"))
	require.NoError(t, err)
	assert.Equal(t, "2026-05-01T02:00:00Z", first.Name, "in UTC, so that all schedulers mean one slot")
	assert.Equal(t, "ann@host", first.Owner)
	for _, slot := range []string{"2026-05-01T02:00:00Z", "2026-04-30T22:00:00.000-04:00", "2026-05-01t02:00z"} {
		for _, name := range []string{"bob", "ann"} {
			_, err = w.service(locks.Options{}).Claim(t.Context(), claimBy(name, slot))
			var claimed *locks.ClaimedError
			require.ErrorAs(t, err, &claimed)
			assert.Equal(t, first, claimed.By)
			assert.ErrorContains(t, err, "ann@host (ann)")
		}
	}
	other := claimBy("bob", "2026-05-01T02:00:00Z")
	other.Job = "hourly"
	_, err = w.locks.Claim(t.Context(), other)
	require.NoError(t, err, "another job's slot")

	for _, slot := range []string{"2026-04-30T02:00:00Z", "2026-05-02T02:00:00Z"} {
		_, err = w.locks.Claim(t.Context(), claimBy("bob", slot))
		require.NoError(t, err)
	}
	page, more, err := w.locks.Claims(t.Context(), "nightly", "", 2)
	require.NoError(t, err)
	assert.True(t, more)
	assert.Equal(t, []string{"2026-05-02T02:00:00Z", "2026-05-01T02:00:00Z"}, []string{page[0].Name, page[1].Name}, "the latest first")
	page, more, err = w.locks.Claims(t.Context(), "nightly", page[1].Name, 2)
	require.NoError(t, err)
	assert.False(t, more)
	assert.Len(t, page, 1)
}

func TestClaimsThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	for _, tc := range []struct{ job, slot, owner, says string }{
		{"", "s", "", "job is missing"},
		{"j", "", "", "slot is missing"},
		{strings.Repeat("j", locks.MaxJob+1), "s", "", "job has 129 bytes"},
		{"j", strings.Repeat("s", locks.MaxSlot+1), "", "slot has 129 bytes"},
		{"j\n", "s", "", "job"},
		{"j", "a\x00b", "", "cannot be printed"},
		{"j", "\xff", "", "UTF-8"},
		{"j", " s", "", "space"},
		{"j", "s", strings.Repeat("o", locks.MaxOwner+1), "owner"},
	} {
		_, err := w.locks.Claim(t.Context(), locks.ClaimRequest{Job: tc.job, Slot: tc.slot, Owner: tc.owner, Holder: "ann"})
		require.ErrorIs(t, err, locks.ErrInvalid, "%q %q", tc.job, tc.slot)
		assert.ErrorContains(t, err, tc.says)
	}
}

// What is forgotten is never free again by itself where the slot names a time, be
// it past, present or to come.
func TestClaimsAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	const day = 24 * time.Hour
	now := time.Now().UTC()
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	slots := []string{at(-390 * day), at(0), at(300 * day), now.Format(time.DateOnly), now.Format("2006-01-02 15:04")}
	for _, slot := range append(slots, "build-1") {
		_, err := w.locks.Claim(t.Context(), claimBy("ann", slot))
		require.NoError(t, err, slot)
	}
	_, err := w.locks.Claim(t.Context(), claimBy("ann", at(-401*day)))
	require.ErrorIs(t, err, locks.ErrSlotTooOld)
	require.ErrorContains(t, err, "another name")
	for range 160 { // 800 days, with maintenance all along
		w.skew.Add(int64(5 * day))
		require.NoError(t, w.state.Maintain(t.Context(), time.Hour))
		for _, slot := range slots {
			_, err := w.locks.Claim(t.Context(), claimBy("bob", slot))
			require.Error(t, err, "%s was claimed a second time %v later", slot, time.Duration(w.skew.Load()))
		}
	}
	rest, err := w.state.ListClaims(t.Context(), "nightly", "", 100)
	require.NoError(t, err)
	require.Empty(t, rest, "everything was dropped in the end")
	_, err = w.locks.Claim(t.Context(), claimBy("bob", "build-1"))
	require.NoError(t, err, "a label that names no time is free again, as the documentation says")
}

// A claim whose answer was lost is repeated under its Idempotency-Key and answered
// as the first time, through another process too, also years after it was
// maintained away; another one under the key is not.
func TestClaimAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	ask := func(name, slot string, key any) (state.Claim, error) {
		r := claimBy(name, slot)
		r.Retry = idempotency.New(name, fmt.Sprint(key), "claims", r.Job)
		r.Retry.Part("the field slot", slot)
		return w.service(locks.Options{}).Claim(t.Context(), r)
	}
	first, err := ask("ann", "1", "key")
	require.NoError(t, err)
	again, err := ask("ann", "1", "key")
	require.NoError(t, err)
	assert.Equal(t, first, again)
	_, err = ask("ann", "1", "another key")
	require.ErrorIs(t, err, locks.ErrClaimed, "another scheduler with the same credential")
	_, err = ask("bob", "1", "key")
	require.ErrorIs(t, err, locks.ErrClaimed, "the key is the credential's own")
	_, err = ask("ann", "2", "key")
	require.ErrorIs(t, err, idempotency.ErrReused)
	_, err = ask("ann", "2", "key 2")
	require.NoError(t, err, "nothing was claimed under the key of another claim")
}

// F7: a lost answer to COMMIT is found out, or said to be unknown.
func TestLostClaims(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		at   memory.Stage
		want error
	}{
		{"committed", memory.Committed, nil},
		{"not committed", memory.Committing, state.ErrUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var armed atomic.Bool
			w := newWorld(t, locks.Options{}, memory.WithFaults(func(at memory.Stage) error {
				if at == tc.at && armed.CompareAndSwap(true, false) {
					return errors.New("connection reset")
				}
				return nil
			}))
			armed.Store(true)
			_, err := w.locks.Claim(t.Context(), claimBy("ann", "1"))
			require.ErrorIs(t, err, tc.want)
			_, err = w.locks.Claim(t.Context(), claimBy("bob", "1"))
			if tc.want == nil {
				require.ErrorIs(t, err, locks.ErrClaimed)
			} else {
				require.NoError(t, err)
			}
		})
	}
}

// Five schedulers of one job, over two services that share PostgreSQL, run each of
// its 100 slots: 100 runs.
func TestSchedulers(t *testing.T) {
	t.Parallel()
	const schedulers, slots = 5, 100
	dsn := pgtest.DSN(t)
	_, _, err := postgres.Migrate(t.Context(), dsn)
	require.NoError(t, err)
	var services []*locks.Service
	for range 2 {
		db, err := postgres.Open(t.Context(), dsn, postgres.Options{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		services = append(services, locks.New(db, none{}, locks.Options{}))
	}
	var runs, skipped [slots]atomic.Int64
	begin := time.Now().UTC().Truncate(time.Hour)
	var g errgroup.Group
	for i := range schedulers {
		g.Go(func() error {
			for n := range slots {
				slot := begin.Add(time.Duration(n) * time.Minute).In(time.FixedZone("", i*3600))
				r := claimBy("cron", slot.Format(time.RFC3339))
				r.Owner = fmt.Sprint("scheduler ", i)
				if i%2 == 0 {
					r.Retry = idempotency.New("cron", fmt.Sprint(i, n), "claims", r.Job)
				}
				for try := range 2 { // each is sent twice, as after a lost answer
					_, err := services[(i+n+try)%2].Claim(context.Background(), r)
					switch {
					case err == nil && try == 1 && r.Retry == nil:
						return errors.New("claimed a second time without a key")
					case err == nil && try == 0:
						runs[n].Add(1)
					case err != nil && !errors.Is(err, locks.ErrClaimed):
						return err
					case err != nil && try == 0:
						skipped[n].Add(1)
					}
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	for n := range slots {
		require.EqualValues(t, 1, runs[n].Load(), "slot %d", n)
		require.EqualValues(t, schedulers-1, skipped[n].Load())
	}
}

// none is a guard list without guards: claims need none.
type none struct{}

func (none) Current() (*fence.Guards, error) { return fence.NewGuards(1, nil) }
func (none) Refresh(context.Context) error   { return nil }

// Two requests under one key for two scopes hold no lock in common but the key's:
// one is granted, the other takes no effect.
func TestOneKeyForTwoScopes(t *testing.T) {
	t.Parallel()
	for range 20 {
		w := newWorld(t, locks.Options{})
		var granted, reused atomic.Int64
		var g errgroup.Group
		for i := range 6 {
			g.Go(func() error {
				r := w.ask("ann")
				r.Scope = scope(t, fmt.Sprintf("s3://data/tenants/%d/", i))
				r.Retry = named("key", "the field scope", r.Scope.String())
				_, err := w.service(locks.Options{}).Acquire(t.Context(), r)
				switch {
				case err == nil:
					granted.Add(1)
				case errors.Is(err, idempotency.ErrReused):
					reused.Add(1)
				default:
					return err
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		require.EqualValues(t, 1, granted.Load())
		require.EqualValues(t, 5, reused.Load())
	}
}

// A lease that is given to a ticket again is an answer like any other: the key that
// it was asked for with is used then.
func TestKeyOfATicketsLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	r := w.ask("ann")
	r.Ticket = "ticket"
	first := w.acquire(r)
	r.Retry = named("key")
	assert.Equal(t, first.Mark, w.acquire(r).Mark)
	other := w.ask("ann")
	other.Scope = scope(t, "s3://data/tenants/a/")
	other.Retry = named("key", "the field scope", other.Scope.String())
	_, err := w.locks.Acquire(t.Context(), other)
	require.ErrorIs(t, err, idempotency.ErrReused)
}
