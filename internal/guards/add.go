package guards

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
)

// Add puts a guard into force and returns it when it judges every write of
// every proxy and the objects that were there are its own. Defaults: sealed,
// required, s3fence, 2^32. Id, state and time of g are ignored.
//
// Adding the same rule again is fine at any time: it does nothing where the
// guard is active, takes over what a dead process left pending, and brings back
// what is being removed. If ctx ends on the way the guard stays pending, which
// refuses writes; add it again or remove it. It takes up to a lease where a
// proxy does not answer, and the time to copy what exists.
func (a *Admin) Add(ctx context.Context, g fence.Guard) (fence.Guard, error) {
	g, err := complete(g)
	if err != nil {
		return fence.Guard{}, err
	}
	leave, err := a.enter(ctx)
	if err != nil {
		return fence.Guard{}, err
	}
	defer leave()
	for {
		done, err := a.add(ctx, g)
		if !lost(err) {
			return done, err
		}
		// Another process has the work now. Taking it back at once would have two
		// of them starting over for ever.
		switch done, err := a.watch(ctx, g); {
		case err != nil:
			return fence.Guard{}, err
		case done.State == fence.Active:
			return done, nil
		}
	}
}

// watch waits for another process to finish adding a guard. It returns the
// guard if that is active, or the zero guard when it is time to try again.
func (a *Admin) watch(ctx context.Context, want fence.Guard) (fence.Guard, error) {
	since := time.Now()
	for {
		_, g, err := a.find(ctx, want.Pattern)
		switch {
		case errors.Is(err, ErrNoSuchGuard):
			return fence.Guard{}, fmt.Errorf("%w: %s was removed, or withdrawn by another proxy that was adding it; see why before adding it again", ErrChanging, want.Pattern)
		case err != nil:
			return fence.Guard{}, err
		case !g.SameRule(want):
			return fence.Guard{}, &DiffersError{want, g}
		case g.State == fence.Active:
			a.hurry(ctx)
			return g, nil
		case g.State == fence.Removing, time.Since(since) > a.patience:
			return fence.Guard{}, nil
		}
		select {
		case <-ctx.Done():
			return fence.Guard{}, fmt.Errorf("%w: another proxy is adding %s: %w", ErrChanging, want.Pattern, context.Cause(ctx))
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// add makes one attempt. ErrChanging: another process has taken it over.
func (a *Admin) add(ctx context.Context, want fence.Guard) (fence.Guard, error) {
	if _, err := a.highest(ctx, want); err != nil {
		return fence.Guard{}, err
	}
	g, err := a.pend(ctx, want)
	if err != nil || g.State == fence.Active {
		return g, err
	}
	pause.At(pause.GuardPending)
	a.progress(g, "pending; waiting until every proxy has taken notice")
	version, now, err := a.find(ctx, g.Pattern)
	if err != nil {
		return fence.Guard{}, err
	}
	if now.State != g.State || !now.Created.Equal(g.Created) {
		return fence.Guard{}, fmt.Errorf("%w: %s", ErrChanging, g.Pattern)
	}
	if err := a.bind(ctx, version); err != nil {
		return fence.Guard{}, err
	}
	if err := a.adopt(ctx, g); err != nil {
		return fence.Guard{}, err
	}
	pause.At(pause.GuardActivate)
	g, err = a.activate(ctx, g)
	if err != nil {
		return fence.Guard{}, err
	}
	a.tell(ctx, events.GuardAdded, g, g.Rule())
	a.hurry(ctx)
	return g, nil
}

// pend commits the guard as pending, or takes over a pending one. An active or
// removing one of the same rule comes back active.
func (a *Admin) pend(ctx context.Context, want fence.Guard) (fence.Guard, error) {
	var got fence.Guard
	put := func(g fence.Guard) (state.Changes, error) {
		got = g
		return state.Changes{PutGuards: []*fence.Guard{&got}}, nil
	}
	var known []fence.GuardID
	for {
		err := state.Run(ctx, a.state, &state.Tx{GuardList: true, Guards: known, GuardMode: state.Exclusive, Decide: func(v *state.View) (state.Changes, error) {
			i := indexOf(v.GuardList, want.Pattern)
			if i < 0 {
				for _, h := range v.GuardList {
					if h.Pattern.Overlaps(want.Pattern) {
						return state.Changes{}, &OverlapError{want.Pattern, h.Pattern}
					}
				}
				want.ID, want.State, want.Created = 0, fence.Pending, stamp(v.Now, time.Time{})
				return put(want)
			}
			g := v.GuardList[i]
			if !g.SameRule(want) {
				return state.Changes{}, &DiffersError{want, g}
			}
			if g.State == fence.Active {
				got = g
				return state.Changes{}, nil
			}
			if _, locked := v.Guards[g.ID]; !locked {
				return state.Changes{}, needsLock(g.ID)
			}
			if g.State == fence.Removing {
				g.State = fence.Active
			}
			g.Created = stamp(v.Now, g.Created)
			return put(g)
		}})
		var need needsLock
		if errors.As(err, &need) {
			known = []fence.GuardID{fence.GuardID(need)}
			continue
		}
		if err != nil {
			return fence.Guard{}, fmt.Errorf("adding guard %s: %w", want.Pattern, err)
		}
		return got, nil
	}
}

// needsLock begins a transaction again with a guard locked that it found.
type needsLock fence.GuardID

func (n needsLock) Error() string { return fmt.Sprintf("guard %d must be locked", n) }

// adopt takes existing objects in. If that fails the guard is withdrawn: until
// now the plain keys are the truth, and nothing but copies is lost.
func (a *Admin) adopt(ctx context.Context, g fence.Guard) error {
	// Rows that an earlier attempt left behind may be of objects that were
	// deleted since. The plain keys say what exists.
	if err := a.clear(ctx, g); err != nil {
		return err
	}
	a.progress(g, "taking existing objects in")
	_, err := a.adopter.Adopt(ctx, g, func(n int) { a.progress(g, fmt.Sprintf("%d objects taken in", n)) })
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("taking in the objects under %s (the guard stays pending; add it again to go on): %w", g.Pattern, err)
	}
	switch werr := a.withdraw(ctx, g); {
	case lost(werr):
		return werr
	case werr != nil:
		return fmt.Errorf("%w: %w; withdrawing guard %s failed too, so it stays pending and refuses writes (s3fence guard remove %s): %w", ErrNotTaken, err, g.Pattern, g.Pattern, werr)
	}
	return fmt.Errorf("%w: guard %s was not added: %w", ErrNotTaken, g.Pattern, err)
}

// activate lets the guard judge. With tokens of our own the counter is first
// lifted above every mark under the pattern, so that each grant is above it (F2).
// The marks cannot move meanwhile: nothing is admitted or granted under a guard
// that is pending.
func (a *Admin) activate(ctx context.Context, g fence.Guard) (fence.Guard, error) {
	highest, err := a.highest(ctx, g)
	if err != nil {
		return fence.Guard{}, err
	}
	g, err = a.change(ctx, g, func(v *state.View, row fence.Guard) (fence.Guard, error) {
		if highest > 0 {
			if err := v.Lift(highest); err != nil {
				return row, fmt.Errorf("lifting the counter above the mark %d: %w", highest, err)
			}
		}
		row.State = fence.Active
		return row, nil
	})
	if err != nil {
		return fence.Guard{}, fmt.Errorf("activating the guard: %w", err)
	}
	return g, nil
}

// highest is the highest mark of a scope under a guard whose tokens are our
// own, and zero under others. A mark from which the counter could not go on, or
// that would use up half of what all scopes have of it, is a [MarkError].
func (a *Admin) highest(ctx context.Context, g fence.Guard) (fence.Token, error) {
	if g.Issuer != fence.Own {
		return 0, nil
	}
	d, err := a.state.Deployment(ctx)
	if err != nil {
		return 0, fmt.Errorf("reading the deployment: %w", err)
	}
	prefix := "s3://" + g.Pattern.Bucket() + "/" + g.Pattern.Literal()
	var highest fence.Token
	for after := ""; ; {
		page, _, err := a.state.ListScopes(ctx, prefix, after, pageSize)
		if err != nil {
			return 0, fmt.Errorf("reading the marks under %s: %w", g.Pattern, err)
		}
		for _, row := range page {
			if !g.Pattern.Governs(row.Scope) {
				continue
			}
			const low = 1<<fence.CounterBits - 1
			m := row.Mark.Token
			its := int64(m >> fence.CounterBits)
			if m > fence.MaxGranted || its > d.Incarnation || its == d.Incarnation && m&low > low/2 {
				return 0, &MarkError{row.Scope, row.Mark, d.Incarnation}
			}
			highest = max(highest, m)
		}
		if len(page) < pageSize {
			return highest, nil
		}
		after = page[len(page)-1].Scope.String()
	}
}
