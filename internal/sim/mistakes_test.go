package sim

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/boottime"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// bent is a state that is used in a wrong way.
type bent struct {
	state.State
	// before is what a transaction decides on instead of what is read under the locks;
	// nil for what it should.
	before func(ctx context.Context, st state.State, tx *state.Tx) (func(*state.View), error)
	// after changes what it writes.
	after func(*state.View, *state.Changes)
	// told changes what the caller hears.
	told func(error) error
	// resolve, read and acked replace what they are called after.
	resolve func(st state.State, id uuid.UUID) (state.Outcome, error)
	read    func(ctx context.Context, st state.State, q state.Query) (*state.View, error)
	acked   func(acked, known int64) int64
}

func (b *bent) Transact(ctx context.Context, tx *state.Tx) error {
	t := *tx
	change := func(*state.View) {}
	if b.before != nil {
		f, err := b.before(ctx, b.State, tx)
		if err != nil {
			return err
		}
		if f != nil {
			change = f
		}
	}
	t.Decide = func(v *state.View) (state.Changes, error) {
		change(v)
		ch, err := tx.Decide(v)
		if err == nil && b.after != nil {
			b.after(v, &ch)
		}
		return ch, err
	}
	err := b.State.Transact(ctx, &t)
	if b.told != nil {
		err = b.told(err)
	}
	return err
}

func (b *bent) Resolve(ctx context.Context, id uuid.UUID) (state.Outcome, error) {
	if b.resolve != nil {
		return b.resolve(b.State, id)
	}
	return b.State.Resolve(ctx, id)
}

func (b *bent) Read(ctx context.Context, q state.Query) (*state.View, error) {
	if b.read != nil {
		return b.read(ctx, b.State, q)
	}
	return b.State.Read(ctx, q)
}

func (b *bent) RenewGuards(ctx context.Context, proxy uuid.UUID, acked, known int64) (int64, []fence.Guard, error) {
	if b.acked != nil {
		acked = b.acked(acked, known)
	}
	return b.State.RenewGuards(ctx, proxy, acked, known)
}

// early reads what a transaction will decide on before it has the locks.
func early(take func(v, early *state.View)) func(context.Context, state.State, *state.Tx) (func(*state.View), error) {
	return func(ctx context.Context, st state.State, tx *state.Tx) (func(*state.View), error) {
		if len(tx.Keys) == 0 {
			return nil, nil
		}
		q := state.Query{Objects: tx.Keys}
		for _, l := range tx.Scopes {
			q.Scopes = append(q.Scopes, l.Scope)
		}
		before, err := st.Read(ctx, q)
		if err != nil {
			return nil, err
		}
		return func(v *state.View) { take(v, before) }, nil
	}
}

func wrap(b bent) bend {
	return bend{state: func(st state.State) state.State {
		mine := b
		mine.State = st
		return &mine
	}}
}

// TestMutants: what is wrong on purpose is found. Each is a mistake that somebody
// could make; a simulation that passes one proves nothing.
func TestMutants(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]struct {
		bend bend
		// check is what finds it, within so many seeds.
		check []Check
		seeds int
	}{
		"the mark is read before the lock is had (F4)": {wrap(bent{before: early(func(v, early *state.View) {
			for sc, row := range v.Scopes {
				row.Mark = early.Scopes[sc].Mark
				v.Scopes[sc] = row
			}
		})}), []Check{checkHistory}, 200},
		"rows are read before their locks are had (F10)": {wrap(bent{before: early(func(v, early *state.View) {
			v.Objects = early.Objects
		})}), []Check{checkHistory}, 200},
		"a grant does not raise the mark (F2)": {wrap(bent{after: func(v *state.View, ch *state.Changes) {
			for i, row := range ch.Scopes {
				if old, ok := v.Scopes[row.Scope]; ok && row.Last.Holder != "" {
					ch.Scopes[i].Mark = old.Mark
				}
			}
		}}), []Check{checkHistory}, 20},
		"a token is granted twice (F2)": {bend{state: func(st state.State) state.State {
			var last fence.Token
			return &bent{State: st, before: func(context.Context, state.State, *state.Tx) (func(*state.View), error) {
				return func(v *state.View) {
					next := v.Draw
					v.Draw = func() (fence.Token, error) {
						if last != 0 && last%2 == 0 {
							again := last
							last = 0
							return again, nil
						}
						t, err := next()
						last = t
						return t, err
					}
				}, nil
			}}
		}}, []Check{checkGrants}, 20},
		"a lost commit is taken for done (F7)": {wrap(bent{told: func(err error) error {
			if errors.Is(err, state.ErrUnknown) {
				return nil
			}
			return err
		}}), []Check{checkHistory}, 100},
		"a lost commit is taken for undone (F7)": {wrap(bent{resolve: func(state.State, uuid.UUID) (state.Outcome, error) {
			return state.Aborted, nil
		}}), []Check{checkHistory}, 100},
		"requests that name themselves are not remembered (F6)": {wrap(bent{after: func(_ *state.View, ch *state.Changes) {
			ch.Retries = nil
		}}), []Check{checkHistory}, 200},
		"rows are read from a cache (F5)": {bend{state: func(st state.State) state.State {
			cache := map[string]*state.View{}
			return &bent{State: st, read: func(ctx context.Context, st state.State, q state.Query) (*state.View, error) {
				name := nameOfQuery(q)
				if v := cache[name]; v != nil && time.Since(v.Now).Abs() < time.Second && len(q.Objects) > 0 {
					return v, nil
				}
				v, err := st.Read(ctx, q)
				if err == nil {
					cache = maps.Clone(cache)
					cache[name] = v
				}
				return v, err
			}}
		}}, []Check{checkHistory}, 100},
		"names below the horizon are committed (F6)": {wrap(bent{before: func(_ context.Context, _ state.State, tx *state.Tx) (func(*state.View), error) {
			if len(tx.Keys) == 0 || slices.ContainsFunc(tx.Scopes, func(l state.ScopeLock) bool { return l.Mode == state.Exclusive }) {
				return nil, nil
			}
			return func(v *state.View) {
				for sc, row := range v.Scopes {
					row.Horizon = 0
					v.Scopes[sc] = row
				}
			}, nil
		}}), []Check{checkBytes, checkAnswers}, 300},
		"the collector does not look at rows (F6)": {wrap(bent{read: func(ctx context.Context, st state.State, q state.Query) (*state.View, error) {
			v, err := st.Read(ctx, q)
			if err == nil && len(q.Attempts) > 0 {
				clear(v.Referenced)
			}
			return v, err
		}}), []Check{checkBytes, checkAnswers}, 20},
		"a failure of the store is taken for success (F6)": {bend{deaf: true}, []Check{checkBytes, checkAnswers}, 60},
		"leases on the guard list never end, and nobody waits for them (F9)": {bend{clock: &boottime.Clock{
			Now: func() time.Time { return time.Unix(0, 0) }, Awake: func() time.Duration { return 0 },
		}, patience: time.Nanosecond}, []Check{checkHistory}, 300},
		"a new guard is acknowledged before it is known (F6)": {wrap(bent{acked: func(_, known int64) int64 { return known + 10 }}), []Check{checkHistory}, 300},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= uint64(m.seeds); seed++ {
				if r := Run(t, NewPlan(seed), Options{bend: m.bend}); slices.ContainsFunc(m.check, r.Failed) {
					t.Logf("%s: found by seed %d: %.300v", name, seed, r.Findings[0])
					return
				}
			}
			t.Errorf("not found by %d seeds", m.seeds)
		})
	}
}
