package sealed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

const (
	// exportPrefix is where a run asks the store what it does, under names of its
	// own that are deleted again.
	exportPrefix = fence.Reserved + "export/"
	// grain is how coarse a store's Date is, twice.
	grain = 2 * time.Second
	// minValidity leaves time to send in, after a Date's coarseness.
	minValidity = 3 * time.Second
	// probeSlack is how much longer than its validity a request may be seen to be
	// taken before the run gives up.
	probeSlack = 30 * time.Second
)

var (
	errNotHeld   = errors.New("the guard is not this run's any more")
	errTakesLate = errors.New("the store takes requests after they expired")
)

// permits are the right to change plain keys. Each is a moment of the store's clock
// that was read before the state was seen to have the guard still as this run's; what
// is sent under it is signed with that moment, never with now. So whoever takes the
// guard over has only to wait, by the store's clock and from after its own commit on,
// for one validity: a run that was frozen anywhere behind its look at the state is
// refused by the store, however late it wakes.
type permits struct {
	mu     sync.Mutex
	client *upstream.Client
	asked  time.Time
}

// permit is the store's client under a permit that is fresh enough to be sent with.
// That age is a matter of use, not of safety.
func (e *export) permit(ctx context.Context) (*upstream.Client, error) {
	p := &e.permits
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil && time.Since(p.asked) < e.client.Validity()/4 {
		return p.client, nil
	}
	asked := time.Now()
	date, err := e.client.Date(ctx, e.bucket)
	if err != nil {
		return nil, storeError("asking the store for its time", err)
	}
	if err := e.opts.Held(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotHeld, err)
	}
	pause.At(pause.ExportPermit)
	p.client, p.asked = e.client.At(date), asked
	return p.client, nil
}

func (p *permits) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client = nil
}

// mutate changes a plain key under a permit, and keeps account of what may still
// happen to it. Through a path that may send a request twice an answer settles
// nothing.
func (e *export) mutate(ctx context.Context, key string, send func(*upstream.Client) error) error {
	c, err := e.permit(ctx)
	if err != nil {
		return err
	}
	err = send(c)
	switch upstream.OutcomeOf(err) {
	case upstream.NotSent:
		return err
	case upstream.Took, upstream.Refused:
		if !e.client.Direct() {
			e.doubt(key)
		}
	default:
		e.doubt(key)
	}
	if f, ok := errors.AsType[*upstream.Error](err); ok && f.Status == http.StatusForbidden {
		e.permits.drop() // perhaps it was sent too late
	}
	return err
}

// Check is of [guarded.Mover].
func (e *export) Check(ctx context.Context) error {
	if e.err != nil {
		return e.err
	}
	if err := e.holdable(ctx); err != nil {
		return err
	}
	if !e.opts.Delete {
		return nil
	}
	return e.refusesLate(ctx)
}

// refusesLate makes sure of the one thing that the store must do: refuse what was
// signed too long ago.
func (e *export) refusesLate(ctx context.Context) error {
	if v := e.client.Validity(); v < minValidity {
		return fmt.Errorf("upstream_validity is %v, which is too short to export in; set it to %v or more", v, minValidity)
	}
	date, err := e.client.Date(ctx, e.bucket)
	if err != nil {
		return storeError("asking the store for its time", err)
	}
	dead, err := e.expired(ctx, date.Add(-e.client.Validity()-time.Minute))
	switch {
	case err != nil:
		return err
	case !dead:
		return fmt.Errorf("%w, so that a late one could overwrite what is written after the guard is gone; copy the objects out through the proxy instead", errTakesLate)
	}
	return e.alive(ctx)
}

// expired asks whether the store refuses a change that was signed at a time. The
// change is a copy of nothing.
func (e *export) expired(ctx context.Context, at time.Time) (bool, error) {
	key := exportPrefix + "probe"
	_, err := e.client.At(at).CopyObject(ctx, upstream.Source{Bucket: e.bucket, Key: key + "/" + state.NewID().String()}, e.bucket, key, nil)
	f, ok := errors.AsType[*upstream.Error](err)
	switch {
	case upstream.HasCode(err, "NoSuchKey"):
		return false, nil
	case ok && f.Outcome == upstream.Refused && (f.Status == http.StatusForbidden || f.Status == http.StatusBadRequest):
		return true, nil
	case err == nil:
		return false, fmt.Errorf("%w: it copied an object that does not exist", guarded.ErrStore)
	}
	return false, storeError("asking whether the store refuses late requests", err)
}

// alive makes sure that a refusal was for the age.
func (e *export) alive(ctx context.Context) error {
	date, err := e.client.Date(ctx, e.bucket)
	if err != nil {
		return storeError("asking the store for its time", err)
	}
	dead, err := e.expired(ctx, date)
	if err == nil && dead {
		err = fmt.Errorf("%w: it refuses what is signed with the time that it tells; is something between with another clock, or may the proxy's key not copy?", guarded.ErrStore)
	}
	return err
}

// Settle is of [guarded.Mover].
func (e *export) Settle(ctx context.Context, everyone bool, progress func(done, of int)) (guarded.Pass, error) {
	if e.err != nil {
		return guarded.Pass{}, e.err
	}
	e.mu.Lock()
	doubted := make([]string, 0, len(e.unsettled))
	for key := range e.unsettled {
		doubted = append(doubted, key)
	}
	e.mu.Unlock()
	if err := e.expire(ctx); err != nil {
		return guarded.Pass{}, err
	}
	// Each key is asked for after the store has begun to refuse, so that what waits
	// for that key has a bound to be done in (measured on stalled stores: asking for
	// another key left 9 of 12 late writes to come).
	e.mu.Lock()
	if everyone {
		clear(e.stands)
	}
	for _, key := range doubted {
		delete(e.stands, key)
		delete(e.unsettled, key)
	}
	e.mu.Unlock()
	for _, key := range doubted {
		if _, err := e.client.HeadObject(ctx, e.bucket, key, nil); err != nil && !upstream.NotFound(err) {
			return guarded.Pass{}, storeError("looking at a plain key", err)
		}
	}
	p, err := e.Pass(ctx, progress)
	if err != nil {
		return p, err
	}
	return p, wait(ctx, e.Store.opts.SettleBound)
}

// expire returns when the store refuses what was signed before the call.
func (e *export) expire(ctx context.Context) error {
	date, err := e.client.Date(ctx, e.bucket)
	if err != nil {
		return storeError("asking the store for its time", err)
	}
	for since := time.Now(); ; {
		dead, err := e.expired(ctx, date)
		if err != nil {
			return err
		}
		if dead {
			break
		}
		if time.Since(since) > e.client.Validity()+probeSlack {
			return fmt.Errorf("%w: one signed %v ago was still taken", errTakesLate, time.Since(since).Round(time.Second))
		}
		if err := wait(ctx, min(time.Second, e.client.Validity()/4)); err != nil {
			return err
		}
	}
	if err := e.alive(ctx); err != nil {
		return err
	}
	return wait(ctx, grain)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// Tidy is of [guarded.Mover].
func (e *export) Tidy(ctx context.Context) (int, error) {
	from := e.guard.Pattern.Literal()
	return e.tidy(ctx, state.Range{Bucket: e.guard.Pattern.Bucket(), From: from, To: successor(from)}, func(ref object.Ref) bool {
		_, ok := e.guard.Pattern.Match(ref.Bucket, ref.Key)
		return ok
	})
}

// tidy drops rows that no guard governs: nobody resolves them, and they would hold
// their bytes for ever. The list is locked, so that a guard which is added meanwhile
// has the rows for its own.
func (s *Store) tidy(ctx context.Context, r state.Range, choose func(object.Ref) bool) (dropped int, err error) {
	for {
		rows, err := s.state.ListObjects(ctx, r, collectPage)
		if err != nil {
			return dropped, fmt.Errorf("listing rows without a guard: %w", err)
		}
		var keys []object.Ref
		for i := range rows {
			if choose(rows[i].Ref) {
				keys = append(keys, rows[i].Ref)
			}
		}
		if len(keys) > 0 {
			n := 0
			err := state.Run(ctx, s.state, &state.Tx{GuardList: true, Keys: keys, Decide: func(v *state.View) (state.Changes, error) {
				n = 0
				guards, err := fence.NewGuards(v.GuardVersion, v.GuardList)
				if err != nil {
					return state.Changes{}, err
				}
				var ch state.Changes
				for _, ref := range keys {
					if _, _, governed := guards.Find(ref.Bucket, ref.Key); !governed && v.Objects[ref] != nil {
						ch.DropObjects = append(ch.DropObjects, ref)
						n++
					}
				}
				return ch, nil
			}})
			if err != nil {
				return dropped, fmt.Errorf("dropping rows without a guard: %w", err)
			}
			dropped += n
		}
		if len(rows) < collectPage {
			return dropped, nil
		}
		r.From = rows[len(rows)-1].Key + "\x00"
	}
}
