package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/state"
)

// The transactions on scopes, objects, uploads, claims and lines are stepped against each
// other in package sealed, by the services that run them. Here are the others: those of
// the guard list, of the event log, of upkeep and of verdicts.

// step is an action on a scene.
type step struct {
	name string
	do   func(ctx context.Context, db *DB, sc *stepScene, who string) string
}

// stepScene is a guard, a transaction whose verdict nobody knows, and two proxies.
type stepScene struct {
	guard   fence.Guard
	version int64 // of the guard list
	scope   fence.Scope
	lost    uuid.UUID
	proxies map[string]uuid.UUID
	after   int64 // the last event before
}

func said(err error) string {
	for _, known := range []error{state.ErrUnavailable, state.ErrBusy, state.ErrUnknown, errNotAsItWas} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

// errNotAsItWas is what a change of a guard fails with that somebody has changed meanwhile.
var errNotAsItWas = errors.New("the guard is not as it was")

// changeGuard is a transaction that changes a guard as package guards does: under the
// list's lock and its own.
func changeGuard(sc *stepScene, from fence.GuardState, change func(g *fence.Guard) state.Changes) *state.Tx {
	return &state.Tx{
		ID: state.NewID(), GuardList: true, Guards: []fence.GuardID{sc.guard.ID}, GuardMode: state.Exclusive,
		Decide: func(v *state.View) (state.Changes, error) {
			g, ok := v.Guards[sc.guard.ID]
			if !ok || g.State != from {
				return state.Changes{}, errNotAsItWas
			}
			return change(&g), nil
		},
	}
}

func setState(to fence.GuardState) func(g *fence.Guard) state.Changes {
	return func(g *fence.Guard) state.Changes {
		g.State = to
		return state.Changes{PutGuards: []*fence.Guard{g}}
	}
}

// underGuard is a transaction that writes if the guard is in a state: a commit under an
// active one, the adoption of an object under a pending one.
func underGuard(sc *stepScene, in fence.GuardState) *state.Tx {
	tx, _ := putOne(sc.scope, "a", nil)
	put := tx.Decide
	tx.Guards = []fence.GuardID{sc.guard.ID}
	tx.Decide = func(v *state.View) (state.Changes, error) {
		if g, ok := v.Guards[sc.guard.ID]; !ok || g.State != in {
			return state.Changes{}, errNotAsItWas
		}
		return put(v)
	}
	return tx
}

var stepScenes atomic.Int64

func newStepScene(t *testing.T, db *DB, guardState fence.GuardState) *stepScene {
	t.Helper()
	n := stepScenes.Add(1)
	p, err := fence.ParsePattern(fmt.Sprintf("s3://guarded/%d/", n))
	require.NoError(t, err)
	sc := &stepScene{
		guard: fence.Guard{Pattern: p, Writes: fence.Sealed, Tokens: fence.Required, Issuer: fence.Own, MaxJump: 1, State: guardState},
		scope: testScope(t, fmt.Sprintf("s3://guarded/%d/", n)), lost: state.NewID(),
		proxies: map[string]uuid.UUID{"A": uuid.New(), "B": uuid.New()},
	}
	require.NoError(t, state.Run(t.Context(), db, &state.Tx{GuardList: true, Decide: func(v *state.View) (state.Changes, error) {
		// The scenes before are over; a list of hundreds would be read again and again.
		c := state.Changes{PutGuards: []*fence.Guard{&sc.guard}}
		for _, g := range v.GuardList {
			c.DropGuards = append(c.DropGuards, g.ID)
		}
		sc.version = v.GuardVersion + 1
		return c, nil
	}}))
	page, err := db.ListEvents(t.Context(), state.EventQuery{Latest: true, Limit: 1})
	require.NoError(t, err)
	sc.after = page.Next
	return sc
}

// text puts what the steps write into words.
func (sc *stepScene) text(t *testing.T, db *DB) string {
	t.Helper()
	version, list, err := db.RenewGuards(t.Context(), uuid.New(), 0, -1)
	require.NoError(t, err)
	text := fmt.Sprintf("list %d later:", version-sc.version)
	for _, g := range list {
		text += " " + string(g.State)
	}
	text += fmt.Sprintf(", object %v", exists(t, db, object.Ref{Bucket: "guarded", Key: sc.scope.Prefix() + "a"}))
	page, err := db.ListEvents(t.Context(), state.EventQuery{After: sc.after, Limit: 10})
	require.NoError(t, err)
	for _, e := range page.Events {
		text += ", event of " + e.Reason
	}
	return text
}

// everyStep plays all pairs of steps, on scenes whose guard is in a state.
func everyStep(t *testing.T, guardState fence.GuardState, steps []step) {
	dsn := migrated(t)
	stage, a, b := pgtest.OpenStage(t, dsn)
	stage.Normal = seenWhereItCounts
	first, second, direct := open(t, a, 2), open(t, b, 2), open(t, dsn, 2)
	for _, x := range steps {
		for _, y := range steps {
			t.Run(x.name+"/"+y.name, func(t *testing.T) {
				ctx := context.Background()
				stage.Pair(t, "", func() pgtest.Play {
					sc := newStepScene(t, direct, guardState)
					return pgtest.Play{
						A:   func() string { return x.do(ctx, first, sc, "A") },
						B:   func() string { return y.do(ctx, second, sc, "B") },
						End: func() string { return sc.text(t, direct) },
					}
				})
			})
		}
	}
	t.Logf("%d steps, %d interleavings; in %d of them B waited for A", len(steps), stage.Interleavings, stage.Waited)
	require.NotZero(t, stage.Waited, "nobody ever waited: the locks are not there, or are not seen")
	require.Less(t, stage.Waited, stage.Interleavings)
}

func running(name string, tx func(sc *stepScene) *state.Tx) step {
	return step{name, func(ctx context.Context, db *DB, sc *stepScene, _ string) string {
		return said(state.Run(ctx, db, tx(sc)))
	}}
}

// renewing renews a lease and says what its list shows.
var renewing = step{"renew", func(ctx context.Context, db *DB, sc *stepScene, who string) string {
	version, list, err := db.RenewGuards(ctx, sc.proxies[who], sc.version, -1)
	text := fmt.Sprintf("%s, list %d later:", said(err), version-sc.version)
	for _, g := range list {
		text += " " + string(g.State)
	}
	return text
}}

var seen = regexp.MustCompile(`, the other is (not )?seen`)

// seenWhereItCounts forgets whether a proxy was seen that has the list as it is: nobody
// need wait for it.
func seenWhereItCounts(o pgtest.Outcome) pgtest.Outcome {
	if strings.Contains(o.A, "list 1 later") {
		o.B = seen.ReplaceAllString(o.B, "")
	}
	if strings.Contains(o.B, "list 1 later") {
		o.A = seen.ReplaceAllString(o.A, "")
	}
	return o
}

// looking is what whoever changed the list does next: it must see each proxy that was
// given the list as it was before (F9).
func looking(then func(sc *stepScene) *state.Tx) func(ctx context.Context, db *DB, sc *stepScene, who string) string {
	return func(ctx context.Context, db *DB, sc *stepScene, who string) string {
		if err := state.Run(ctx, db, then(sc)); err != nil {
			return said(err)
		}
		other := sc.proxies[map[string]string{"A": "B", "B": "A"}[who]]
		list, _, err := db.Proxies(ctx)
		for _, p := range list {
			if p.ID == other {
				return said(err) + ", the other is seen"
			}
		}
		return said(err) + ", the other is not seen"
	}
}

// TestStepsOfGuards: what is committed under a guard, taken in under it and known of it
// does not depend on how the statements fall (F9).
func TestStepsOfGuards(t *testing.T) {
	t.Parallel()
	t.Run("active", func(t *testing.T) {
		t.Parallel()
		everyStep(t, fence.Active, []step{
			running("commit under it", func(sc *stepScene) *state.Tx { return underGuard(sc, fence.Active) }),
			{"begin to remove", looking(func(sc *stepScene) *state.Tx { return changeGuard(sc, fence.Active, setState(fence.Removing)) })},
			running("drop", func(sc *stepScene) *state.Tx {
				return changeGuard(sc, fence.Active, func(g *fence.Guard) state.Changes { return state.Changes{DropGuards: []fence.GuardID{g.ID}} })
			}),
			renewing,
		})
	})
	t.Run("pending", func(t *testing.T) {
		t.Parallel()
		everyStep(t, fence.Pending, []step{
			running("take an object in", func(sc *stepScene) *state.Tx { return underGuard(sc, fence.Pending) }),
			{"activate", looking(func(sc *stepScene) *state.Tx { return changeGuard(sc, fence.Pending, setState(fence.Active)) })},
			running("withdraw", func(sc *stepScene) *state.Tx {
				return changeGuard(sc, fence.Pending, func(g *fence.Guard) state.Changes { return state.Changes{DropGuards: []fence.GuardID{g.ID}} })
			}),
			running("add another", func(sc *stepScene) *state.Tx {
				return &state.Tx{ID: state.NewID(), GuardList: true, Decide: func(*state.View) (state.Changes, error) {
					g := sc.guard
					g.ID, g.State = 0, fence.Pending
					p, err := fence.ParsePattern("s3://guarded/other/")
					g.Pattern = p
					return state.Changes{PutGuards: []*fence.Guard{&g}}, err
				}}
			}),
			renewing,
		})
	})
}

// TestStepsOfEventsAndVerdicts: rows of the event log become visible in the order of their
// ids; a verdict is one for everybody, and is what became of the rows (F7).
func TestStepsOfEventsAndVerdicts(t *testing.T) {
	t.Parallel()
	everyStep(t, fence.Active, []step{
		{"add events", func(ctx context.Context, db *DB, sc *stepScene, who string) string {
			return said(state.Run(ctx, db, &state.Tx{EventLog: true, Decide: func(v *state.View) (state.Changes, error) {
				e := state.Event{Event: events.Event{Time: v.Now, Kind: events.Granted, Reason: who}, Count: 1}
				return state.Changes{Events: []state.Event{e, e}}, nil
			}}))
		}},
		{"read events", func(ctx context.Context, db *DB, sc *stepScene, _ string) string {
			page, err := db.ListEvents(ctx, state.EventQuery{After: sc.after, Limit: 10})
			text := said(err)
			for _, e := range page.Events {
				text += " " + e.Reason
			}
			return text
		}},
		{"write", func(ctx context.Context, db *DB, sc *stepScene, who string) string {
			// Without Run, which would ask for the verdict by itself. Both parties have the
			// one id, as a transaction and its late double would.
			tx, _ := putOne(sc.scope, "a", nil)
			tx.ID = sc.lost
			return said(db.Transact(ctx, tx))
		}},
		{"ask for the verdict", func(ctx context.Context, db *DB, sc *stepScene, _ string) string {
			verdict, err := db.Resolve(ctx, sc.lost)
			return fmt.Sprint(verdict, said(err))
		}},
		{"maintain", func(ctx context.Context, db *DB, _ *stepScene, _ string) string {
			return said(errors.Join(db.Maintain(ctx, 24*time.Hour), db.MaintainEvents(ctx, 24*time.Hour)))
		}},
	})
}
