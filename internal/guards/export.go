package guards

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
)

const (
	// openPasses bounds the passes while writers go on, closedPasses those while
	// they wait.
	openPasses, closedPasses = 8, 8
	// few is what a pass may change and the next one be the last.
	few = 16
	// reopenTime bounds the undoing of a close.
	reopenTime = 15 * time.Second
)

// ErrNotExported says that objects could not be written back, for the reason that it comes
// with. The guard is active as before, unless it says otherwise.
var ErrNotExported = errors.New("the objects were not exported")

// ExportOptions say how far an export goes.
type ExportOptions struct {
	// Remove takes the guard out of force at the end and deletes the plain keys of
	// no object. Without it the objects are written back and the guard stays: what
	// that shows can be looked at, and the next run has less to do.
	Remove bool
	// AcceptLoss goes on where the store does not keep all attributes of an object.
	AcceptLoss bool
	// Progress, where not nil, is told of each step; it must not block long.
	Progress func(ExportProgress)
}

// ExportProgress is where an export stands.
type ExportProgress struct {
	// Step is "checking", "copying", "settling", "closed" (writers wait) or "tidying".
	Step string `json:"step"`
	// Done of Of keys are looked at in this pass.
	Done int `json:"done"`
	Of   int `json:"of"`
}

// Pass is what was found and done, Copied and Deleted over all passes.
type Pass = guarded.Pass

// Difference is how one plain object is not what it was in its scope.
type Difference = guarded.Difference

// Exported is what an export did.
type Exported struct {
	Pattern fence.Pattern
	Pass
	// Removed says that the guard is gone and the plain keys are what counts.
	Removed bool
	// Late is how many plain keys were changed while writers waited, Closed for how
	// long they did.
	Late   int
	Closed time.Duration
}

// words is the result as one line for people.
func (e *Exported) words() string {
	s := fmt.Sprintf("%d objects, %d bytes; %d copied, %d plain keys deleted", e.Objects, e.Bytes, e.Copied, e.Deleted)
	if e.Removed {
		s += fmt.Sprintf("; writers waited %v", e.Closed.Round(time.Millisecond))
	}
	return s
}

// exporting is an export under way: the guard's row as this run left it.
type exporting struct {
	*Admin
	o     ExportOptions
	mover guarded.Mover
	out   Exported

	mu    sync.Mutex
	guard fence.Guard
}

// Export writes the objects of an active sealed guard back under their plain keys
// and, where it is asked to, removes the guard. Writers go on until a last pass has
// only to do what they changed; for that the guard is removing, which refuses
// writes, and reads still go by the rows. Whatever fails before the guard is gone
// leaves it active again and nothing lost; where the process dies in the last pass
// the guard stays removing, until anybody exports, adds or removes it.
//
// A run takes the guard's row: one that was under way elsewhere fails with
// [ErrChanging] at its next look, and nothing that it still sends is taken by the
// store once this run has settled (ADR 23). Running it again is fine at any time:
// what stands under a plain key already is found there.
func (a *Admin) Export(ctx context.Context, p fence.Pattern, o ExportOptions) (Exported, error) {
	if a.mover == nil {
		return Exported{}, fmt.Errorf("%w: exporting", ErrNotBuilt)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	heedless := context.AfterFunc(a.draining, func() { cancel(errDraining) })
	defer heedless()
	if o.Progress == nil {
		o.Progress = func(ExportProgress) {}
	}
	e := &exporting{Admin: a, o: o, out: Exported{Pattern: p}}
	_, g, err := a.find(ctx, p)
	if errors.Is(err, ErrNoSuchGuard) && o.Remove {
		return e.finish(ctx, p, err)
	}
	if err != nil {
		return Exported{}, err
	}
	if g.State == fence.Pending {
		return Exported{}, fmt.Errorf("%w: %s is being added; its objects are the plain ones still, so that removing it is all there is to do", ErrChanging, p)
	}
	// The stamp ends every earlier run; a guard that one left removing judges again.
	e.guard, err = a.change(ctx, g, func(v *state.View, row fence.Guard) (fence.Guard, error) {
		row.State, row.Created = fence.Active, stamp(v.Now, row.Created)
		return row, nil
	})
	if err != nil {
		return Exported{}, fmt.Errorf("exporting %s: %w", p, err)
	}
	a.hurry(ctx)
	e.mover = a.mover(e.guard, e.held, o.Remove)
	if err := e.run(ctx); err != nil {
		if errors.Is(context.Cause(ctx), errDraining) {
			err = fmt.Errorf("%w: %w", errDraining, err)
		}
		return Exported{}, failedExport(p, err)
	}
	a.tell(ctx, events.GuardExported, e.guard, e.out.words())
	if o.Remove {
		a.tell(ctx, events.GuardRemoved, e.guard, e.guard.Rule())
	}
	return e.out, nil
}

// failedExport says what a failure is of: the guard, the state, or the objects.
func failedExport(p fence.Pattern, err error) error {
	store := errors.Is(err, guarded.ErrStore) // which wraps state.ErrUnavailable
	for _, own := range []error{ErrChanging, ErrNoSuchGuard, state.ErrUnavailable, state.ErrBusy, state.ErrUnknown, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, own) && (!store || own == ErrChanging) { //nolint:errorlint // one of the list
			return fmt.Errorf("exporting %s: %w", p, err)
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrNotExported, p, err)
}

var errDraining = fmt.Errorf("%w: this proxy is stopping; export again elsewhere", ErrChanging)

// Drain ends the exports under way, which leave their guards active. Others that
// are begun afterwards end at once.
func (a *Admin) Drain() { a.drain() }

// held asks the state whether the guard's row is still as this run left it.
func (e *exporting) held(ctx context.Context) error {
	e.mu.Lock()
	was := e.guard
	e.mu.Unlock()
	v, err := e.state.Read(ctx, state.Query{Guards: []fence.GuardID{was.ID}})
	if err != nil {
		return err
	}
	_, err = same(v, was)
	return err
}

func (e *exporting) become(ctx context.Context, next func(*state.View, *fence.Guard)) error {
	g, err := e.change(ctx, e.guard, func(v *state.View, row fence.Guard) (fence.Guard, error) {
		next(v, &row)
		return row, nil
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.guard = g
	return nil
}

func (e *exporting) step(name string) func(done, of int) {
	e.progress(e.guard, "exporting: "+name)
	e.o.Progress(ExportProgress{Step: name})
	return func(done, of int) { e.o.Progress(ExportProgress{Step: name, Done: done, Of: of}) }
}

func (e *exporting) run(ctx context.Context) error {
	e.step("checking")
	if err := e.mover.Check(ctx); err != nil {
		return err
	}
	if err := e.catchUp(ctx); err != nil || !e.o.Remove {
		return err
	}
	pass, err := e.mover.Settle(ctx, true, e.step("settling"))
	if err != nil {
		return err
	}
	e.keep(pass)
	if err := e.catchUp(ctx); err != nil {
		return err
	}
	return e.close(ctx)
}

// catchUp makes passes while writers go on, until one of them has little to do.
func (e *exporting) catchUp(ctx context.Context) error {
	for range openPasses {
		pass, err := e.mover.Pass(ctx, e.step("copying"))
		if err != nil {
			return err
		}
		e.keep(pass)
		if err := e.acceptable(&pass); err != nil {
			return err
		}
		if pass.Changed() <= max(few, pass.Objects/500) {
			return nil
		}
	}
	return nil // writers are fast; the last pass has more to do
}

// keep makes a pass the result, with what was done before it.
func (e *exporting) keep(pass guarded.Pass) {
	pass.Copied += e.out.Copied
	pass.Deleted += e.out.Deleted
	e.out.Pass = pass
}

func (e *exporting) acceptable(pass *guarded.Pass) error {
	if len(pass.Lost) == 0 || e.o.AcceptLoss || !e.o.Remove {
		return nil
	}
	d := pass.Lost[0]
	return fmt.Errorf("the store does not keep all attributes of %d objects (%s of %s for one); accept that, or change them first", len(pass.Lost), d.What, d.Key)
}

// close makes the last pass, with nobody writing, and removes the guard.
func (e *exporting) close(ctx context.Context) (err error) {
	begun := time.Now()
	err = e.become(ctx, func(v *state.View, g *fence.Guard) {
		g.State, g.Created = fence.Removing, stamp(v.Now, g.Created)
	})
	defer func() {
		if err != nil {
			err = e.reopen(ctx, err)
		}
	}()
	if err != nil {
		return err
	}
	pause.At(pause.ExportClosed)
	e.hurry(ctx)
	if err := e.lastPass(ctx); err != nil {
		return err
	}
	pause.At(pause.ExportDrop)
	if err := e.dropUploads(ctx, e.guard); err != nil {
		return err
	}
	if err := e.drop(ctx, e.guard); err != nil {
		return err
	}
	e.out.Closed, e.out.Removed = time.Since(begun), true
	e.hurry(ctx)
	pause.At(pause.ExportTidy)
	e.step("tidying")
	if _, err := e.mover.Tidy(ctx); err != nil {
		// The collector does it at its next run.
		e.progress(e.guard, fmt.Sprintf("exported and removed; rows are left for the collector: %v", err))
	}
	return nil
}

// lastPass brings what writers changed since the pass before, and then looks at the
// keys until nothing is other than it should be and nothing can become so.
func (e *exporting) lastPass(ctx context.Context) error {
	for range closedPasses {
		pass, err := e.mover.Pass(ctx, e.step("closed"))
		if err != nil {
			return err
		}
		e.keep(pass)
		e.out.Late += pass.Changed()
		if err := e.acceptable(&pass); err != nil {
			return err
		}
		if e.mover.Unsettled() > 0 {
			if pass, err = e.mover.Settle(ctx, false, e.step("closed")); err != nil {
				return err
			}
			e.keep(pass)
			e.out.Late += pass.Changed()
			continue
		}
		if pass.Changed() == 0 {
			return nil
		}
	}
	return errors.New("the plain keys do not stay as they are written: somebody else writes to the store's bucket")
}

// reopen lets writers go on after a last pass that failed.
func (e *exporting) reopen(ctx context.Context, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reopenTime)
	defer cancel()
	if e.guard.State != fence.Removing {
		if errors.Is(why, state.ErrUnknown) {
			why = fmt.Errorf("%w (where the guard is left removing, s3fence guard add %s brings it back)", why, e.guard.Pattern)
		}
		return why
	}
	err := e.become(ctx, func(_ *state.View, g *fence.Guard) { g.State = fence.Active })
	switch {
	case lost(err):
		return why // somebody else has it, or it is gone
	case err != nil:
		return fmt.Errorf("%w; and the guard could not be made active again (s3fence guard add does it): %w", why, err)
	}
	e.hurry(ctx)
	return why
}

// finish drops the rows that an export left when it was cut off behind the removal
// of the guard.
func (e *exporting) finish(ctx context.Context, p fence.Pattern, none error) (Exported, error) {
	dropped, err := e.Admin.mover(fence.Guard{Pattern: p}, e.held, true).Tidy(ctx)
	if err != nil {
		return Exported{}, fmt.Errorf("exporting %s: %w", p, err)
	}
	if dropped == 0 {
		return Exported{}, none
	}
	e.out.Objects, e.out.Removed = dropped, true
	return e.out, nil
}
