package guards

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// State is the part of the state that an [Admin] uses.
type State interface {
	state.Transactor
	Deployment(ctx context.Context) (state.Deployment, error)
	ListObjects(ctx context.Context, r state.Range, limit int) ([]state.Object, error)
	ListUploads(ctx context.Context, r state.Range, afterID string, limit int) ([]state.Upload, error)
	ListScopes(ctx context.Context, prefix, after string, limit int) ([]state.Scope, time.Time, error)
	Proxies(ctx context.Context) ([]state.Proxy, time.Time, error)
}

// Adopter takes existing objects under a guard. Package sealed has one.
type Adopter interface {
	// Adopt makes every plain object under a pending guard an object of the guard
	// and leaves the plain keys as they are; it refuses more than it can do at
	// once, with an error that says how many it can. progress is told how many are
	// done.
	//
	// Each of its transactions locks the guard (shared) and goes on only if the
	// row is still pending with g.Created: that time is the mark of this attempt,
	// and another attempt that took over has a later one. Adopting a key again
	// must be harmless.
	Adopt(ctx context.Context, g fence.Guard, progress func(n int)) (adopted int, err error)
	// Plain names a key of the store itself under a guard that clients cannot see
	// because of it, if there is one.
	Plain(ctx context.Context, g fence.Guard) (object.Ref, bool, error)
}

// AdminOptions are the settings of an [Admin] that have defaults.
type AdminOptions struct {
	// Refresh makes this process's own List ask at once, so that a deployment of
	// one proxy need not wait for a renewal. nil: it is waited for like others.
	Refresh func(ctx context.Context) error
	// Observer is told of changes; events.Discard where nil.
	Observer events.Observer
	// Progress is told of each step of a long change. It must not block.
	Progress func(fence.Guard, string)
	// Mover makes a run of an export over a guard's objects, for as long as held is
	// nil; with remove it deletes plain keys of no object. nil: nothing is exported.
	Mover func(g fence.Guard, held func(context.Context) error, remove bool) guarded.Mover
	// Patience is how long an Add waits for another process that took its work
	// over, before it takes it back; 5 min where zero.
	Patience time.Duration
}

// Admin changes the guard list. Safe for concurrent use; one process makes one
// change at a time.
type Admin struct {
	state    State
	adopter  Adopter
	lease    time.Duration
	refresh  func(context.Context) error
	observer events.Observer
	progress func(fence.Guard, string)
	patience time.Duration
	changing chan struct{}
	mover    func(fence.Guard, func(context.Context) error, bool) guarded.Mover
	// draining ends with drain.
	draining context.Context
	drain    context.CancelFunc
}

// NewAdmin makes an Admin. lease is that of every proxy's List.
func NewAdmin(s State, a Adopter, lease time.Duration, o AdminOptions) *Admin {
	if o.Refresh == nil {
		o.Refresh = func(context.Context) error { return nil }
	}
	if o.Observer == nil {
		o.Observer = events.Discard
	}
	if o.Progress == nil {
		o.Progress = func(fence.Guard, string) {}
	}
	if o.Patience == 0 {
		o.Patience = 5 * time.Minute
	}
	draining, drain := context.WithCancel(context.Background())
	return &Admin{
		mover: o.Mover, draining: draining, drain: drain,
		state: s, adopter: a, lease: lease, refresh: o.Refresh, observer: o.Observer, progress: o.Progress,
		patience: o.Patience, changing: make(chan struct{}, 1),
	}
}

// enter waits for the turn of a change in this process.
func (a *Admin) enter(ctx context.Context) (leave func(), err error) {
	select {
	case a.changing <- struct{}{}:
		return func() { <-a.changing }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: another change of the guard list is running in this proxy: %w", ErrChanging, ctx.Err())
	}
}

// List is the guard list as it is committed now, ordered by pattern.
func (a *Admin) List(ctx context.Context) ([]fence.Guard, error) {
	_, list, err := a.read(ctx)
	slices.SortFunc(list, func(g, h fence.Guard) int { return strings.Compare(g.Pattern.String(), h.Pattern.String()) })
	return list, err
}

// read reads the list under its lock, so that what was committed before is in it.
func (a *Admin) read(ctx context.Context) (version int64, list []fence.Guard, err error) {
	err = state.Run(ctx, a.state, &state.Tx{GuardList: true, Decide: func(v *state.View) (state.Changes, error) {
		version, list = v.GuardVersion, slices.Clone(v.GuardList)
		return state.Changes{}, nil
	}})
	if err != nil {
		return 0, nil, fmt.Errorf("reading the guard list: %w", err)
	}
	return version, list, nil
}

// find reads one guard of the list.
func (a *Admin) find(ctx context.Context, p fence.Pattern) (version int64, g fence.Guard, err error) {
	version, list, err := a.read(ctx)
	if err != nil {
		return 0, fence.Guard{}, err
	}
	if i := indexOf(list, p); i >= 0 {
		return version, list[i], nil
	}
	return version, fence.Guard{}, &NoSuchGuardError{p}
}

func indexOf(list []fence.Guard, p fence.Pattern) int {
	return slices.IndexFunc(list, func(g fence.Guard) bool { return g.Pattern.String() == p.String() })
}

// change rewrites a guard that nobody else has touched since it was read: id,
// state and Created still are what was. next returns what the row becomes.
func (a *Admin) change(ctx context.Context, was fence.Guard, next func(*state.View, fence.Guard) (fence.Guard, error)) (fence.Guard, error) {
	var now fence.Guard
	err := state.Run(ctx, a.state, &state.Tx{
		GuardList: true, Guards: []fence.GuardID{was.ID}, GuardMode: state.Exclusive,
		Decide: func(v *state.View) (state.Changes, error) {
			row, err := same(v, was)
			if err != nil {
				return state.Changes{}, err
			}
			if now, err = next(v, row); err != nil {
				return state.Changes{}, err
			}
			put := now
			return state.Changes{PutGuards: []*fence.Guard{&put}}, nil
		},
	})
	return now, err
}

// same finds a guard that is unchanged since it was read.
func same(v *state.View, was fence.Guard) (fence.Guard, error) {
	row, ok := v.Guards[was.ID]
	if !ok || row.State != was.State || !row.Created.Equal(was.Created) {
		return fence.Guard{}, fmt.Errorf("%w: %s is not as it was a moment ago", ErrChanging, was.Pattern)
	}
	return row, nil
}

// stamp is a time for Created that no earlier attempt has. Milliseconds, which
// every database keeps exactly.
func stamp(now, earlier time.Time) time.Time {
	t := now.UTC().Truncate(time.Millisecond)
	if !t.After(earlier) {
		t = earlier.UTC().Truncate(time.Millisecond).Add(time.Millisecond)
	}
	return t
}

// Change is what Set changes; nil fields stay.
type Change struct {
	Tokens    *fence.Tokens
	MaxJump   *int64
	LockDelay *time.Duration
	// Writes and Issuer are here to be refused with their reason.
	Writes *fence.Writes
	Issuer *fence.Issuer
}

// Set changes the settings of an active guard that may change while it judges:
// tokens, max_jump and lock_delay. It returns once the change is committed; writes are
// judged by it from that moment in every proxy, since they read the guard's row
// in the transaction that commits them.
func (a *Admin) Set(ctx context.Context, p fence.Pattern, c Change) (fence.Guard, error) {
	leave, err := a.enter(ctx)
	if err != nil {
		return fence.Guard{}, err
	}
	defer leave()
	_, was, err := a.find(ctx, p)
	if err != nil {
		return fence.Guard{}, err
	}
	switch {
	case was.State != fence.Active:
		return fence.Guard{}, fmt.Errorf("%w: %s is %s", ErrChanging, p, was.State)
	case c.Writes != nil && *c.Writes != was.Writes:
		return fence.Guard{}, fmt.Errorf("%w: the way to write of %s is %s, and its objects are kept that way", ErrFixed, p, was.Writes)
	case c.Issuer != nil && *c.Issuer != was.Issuer:
		return fence.Guard{}, fmt.Errorf("%w: tokens of %s come from issuer %s, and two issuers' numbers cannot be compared", ErrFixed, p, was.Issuer)
	}
	now := was
	if c.Tokens != nil {
		now.Tokens = *c.Tokens
	}
	if c.MaxJump != nil {
		now.MaxJump = *c.MaxJump
	}
	if c.LockDelay != nil {
		now.LockDelay = *c.LockDelay
	}
	if err := check(now); err != nil {
		return fence.Guard{}, err
	}
	if now.SameRule(was) {
		return was, nil
	}
	now, err = a.change(ctx, was, func(*state.View, fence.Guard) (fence.Guard, error) { return now, nil })
	if err != nil {
		return fence.Guard{}, fmt.Errorf("changing guard %s: %w", p, err)
	}
	a.tell(ctx, events.GuardChanged, now, now.Rule())
	a.hurry(ctx)
	return now, nil
}

// Ensure adds the guards that a configuration asks for and that are absent. One
// that exists with another rule is a [DiffersError]; nothing is changed then, nor
// removed ever.
func (a *Admin) Ensure(ctx context.Context, want []fence.Guard) error {
	_, have, err := a.read(ctx)
	if err != nil {
		return err
	}
	for i, g := range want {
		if g, err = complete(g); err != nil {
			return fmt.Errorf("guard %d of the configuration: %w", i+1, err)
		}
		if at := indexOf(have, g.Pattern); at >= 0 && !have[at].SameRule(g) {
			return fmt.Errorf("guard %d of the configuration: %w", i+1, &DiffersError{g, have[at]})
		}
	}
	for i, g := range want {
		if _, err := a.Add(ctx, g); err != nil {
			return fmt.Errorf("guard %d of the configuration: %w", i+1, err)
		}
	}
	return nil
}

// hurry lets this process's own list know at once. A failure costs time only.
func (a *Admin) hurry(ctx context.Context) { _ = a.refresh(ctx) }

func (a *Admin) tell(ctx context.Context, k events.Kind, g fence.Guard, reason string) {
	a.observer.Observe(ctx, events.Event{Kind: k, Bucket: g.Pattern.Bucket(), Guard: g.Pattern.String(), Reason: reason})
}

// complete fills in defaults and checks the rule.
func complete(g fence.Guard) (fence.Guard, error) {
	if g.Writes == "" {
		g.Writes = fence.Sealed
	}
	if g.Tokens == "" {
		g.Tokens = fence.Required
	}
	if g.Issuer == "" {
		g.Issuer = fence.Own
	}
	if g.MaxJump == 0 {
		g.MaxJump = fence.DefaultMaxJump
	}
	return g, check(g)
}

func check(g fence.Guard) error {
	switch {
	case g.Pattern.Bucket() == "":
		return fmt.Errorf("%w: it has no pattern", ErrInvalid)
	case g.Writes == fence.InPlace:
		return fmt.Errorf("%w: guard %s: writing in place; use writes: sealed", ErrNotBuilt, g.Pattern)
	case g.Writes != fence.Sealed:
		return fmt.Errorf("%w %s: writes is %q; it may be sealed", ErrInvalid, g.Pattern, g.Writes)
	case g.Tokens != fence.Required && g.Tokens != fence.Optional && g.Tokens != fence.None:
		return fmt.Errorf("%w %s: tokens is %q; it may be required, optional or none", ErrInvalid, g.Pattern, g.Tokens)
	case g.Issuer != fence.Own && g.Issuer != fence.External:
		return fmt.Errorf("%w %s: issuer is %q; it may be s3fence or external", ErrInvalid, g.Pattern, g.Issuer)
	case g.MaxJump < 1:
		return fmt.Errorf("%w %s: max_jump is %d; it must be at least 1", ErrInvalid, g.Pattern, g.MaxJump)
	case g.LockDelay < 0 || g.LockDelay > fence.MaxLockDelay:
		return fmt.Errorf("%w %s: lock_delay is %v; it may be from 0s to %v", ErrInvalid, g.Pattern, g.LockDelay, fence.MaxLockDelay)
	case g.LockDelay != 0 && (g.Issuer != fence.Own || g.Tokens == fence.None):
		return fmt.Errorf("%w %s: lock_delay is %v, and no locks are granted there (issuer %s, tokens %s); leave it at 0s", ErrInvalid, g.Pattern, g.LockDelay, g.Issuer, g.Tokens)
	}
	return nil
}

// lost reports whether a change failed because somebody else made another.
func lost(err error) bool { return errors.Is(err, ErrChanging) }
