package guards

import (
	"context"
	"errors"
	"fmt"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// pageSize bounds what is read of the state, and locked in it, at once.
const pageSize = 500

// Remove takes a guard out of force. [ErrHoldsObjects] while anything under it
// would be lost or come back to life; nothing is changed then. The marks of its
// scopes stay (F1), its open uploads end. A pending guard is withdrawn: its
// objects are the plain ones still.
func (a *Admin) Remove(ctx context.Context, p fence.Pattern) error {
	leave, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	_, g, err := a.find(ctx, p)
	if err != nil {
		return err
	}
	if g.State == fence.Pending {
		err = a.takeAndWithdraw(ctx, g)
	} else {
		err = a.remove(ctx, g)
	}
	if err != nil {
		return fmt.Errorf("removing guard %s: %w", p, err)
	}
	a.tell(ctx, events.GuardRemoved, g, g.Rule())
	a.hurry(ctx)
	return nil
}

func (a *Admin) remove(ctx context.Context, g fence.Guard) error {
	// Looked at before anything is changed, because writes are refused from the
	// change on; and again after it, when nothing can be written any more.
	if err := a.empty(ctx, g); err != nil {
		return a.restore(ctx, g, err)
	}
	g, err := a.change(ctx, g, func(v *state.View, row fence.Guard) (fence.Guard, error) {
		row.State = fence.Removing
		row.Created = stamp(v.Now, row.Created)
		return row, nil
	})
	if err != nil {
		return err
	}
	version, _, err := a.find(ctx, g.Pattern)
	if err != nil {
		return err
	}
	if err := a.bind(ctx, version); err != nil {
		return fmt.Errorf("%w (the guard stays removing and refuses writes; remove it again, or add it to bring it back)", err)
	}
	if err := a.empty(ctx, g); err != nil {
		return a.restore(ctx, g, err)
	}
	if err := a.dropUploads(ctx, g); err != nil {
		return err
	}
	return a.drop(ctx, g)
}

// restore makes a guard active again that cannot be removed because of what it
// holds, and returns why.
func (a *Admin) restore(ctx context.Context, g fence.Guard, why error) error {
	if g.State != fence.Removing || !errors.Is(why, ErrHoldsObjects) {
		return why
	}
	_, err := a.change(ctx, g, func(_ *state.View, row fence.Guard) (fence.Guard, error) {
		row.State = fence.Active
		return row, nil
	})
	if err != nil && !lost(err) {
		return fmt.Errorf("%w; and the guard could not be made active again (s3fence guard add does it): %w", why, err)
	}
	a.hurry(ctx)
	return why
}

// empty fails unless nothing stands under the guard, sealed or plain.
func (a *Admin) empty(ctx context.Context, g fence.Guard) error {
	err := a.objects(ctx, g.Pattern, func(page []object.Ref) error {
		return &HoldsObjectsError{Guard: g, Object: page[0]}
	})
	if err != nil {
		return err
	}
	ref, found, err := a.adopter.Plain(ctx, g)
	switch {
	case err != nil:
		return fmt.Errorf("looking for plain keys of the store under the guard: %w", err)
	case found:
		return &HoldsObjectsError{Guard: g, Object: ref, Plain: true}
	}
	return nil
}

// span is the range of keys that the pattern's lie in.
func span(p fence.Pattern) state.Range {
	from := p.Literal()
	return state.Range{Bucket: p.Bucket(), From: from, To: after(from)}
}

// after is the first key above all that begin with a prefix; empty where there
// is none.
func after(prefix string) string {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			return prefix[:i] + string([]byte{prefix[i] + 1})
		}
	}
	return ""
}

// objects visits the sealed objects under a pattern, page by page; a page is
// never empty.
func (a *Admin) objects(ctx context.Context, p fence.Pattern, visit func(page []object.Ref) error) error {
	for r := span(p); ; {
		rows, err := a.state.ListObjects(ctx, r, pageSize)
		if err != nil {
			return fmt.Errorf("listing the sealed objects under %s: %w", p, err)
		}
		var page []object.Ref
		for _, o := range rows {
			if _, ok := p.Match(o.Bucket, o.Key); ok {
				page = append(page, o.Ref)
			}
		}
		if len(page) > 0 {
			if err := visit(page); err != nil {
				return err
			}
		}
		if len(rows) < pageSize {
			return nil
		}
		r.From = rows[len(rows)-1].Key + "\x00"
	}
}

// clear drops the rows under a pending guard: copies of plain objects that an
// unfinished adoption made. Their bytes are orphans and the collector's.
func (a *Admin) clear(ctx context.Context, g fence.Guard) error {
	return a.objects(ctx, g.Pattern, func(page []object.Ref) error {
		err := state.Run(ctx, a.state, &state.Tx{
			Guards: []fence.GuardID{g.ID}, GuardMode: state.Exclusive, Keys: page,
			Decide: func(v *state.View) (state.Changes, error) {
				if _, err := same(v, g); err != nil {
					return state.Changes{}, err
				}
				return state.Changes{DropObjects: page}, nil
			},
		})
		if err != nil {
			return fmt.Errorf("clearing what an unfinished adoption left under %s: %w", g.Pattern, err)
		}
		return nil
	})
}

// takeAndWithdraw takes a pending guard from whoever is adding it, whose next
// step fails then, and withdraws it.
func (a *Admin) takeAndWithdraw(ctx context.Context, g fence.Guard) error {
	g, err := a.change(ctx, g, func(v *state.View, row fence.Guard) (fence.Guard, error) {
		row.Created = stamp(v.Now, row.Created)
		return row, nil
	})
	if err != nil {
		return err
	}
	return a.withdraw(ctx, g)
}

// withdraw ends a pending guard. Proxies need not be waited for: the plain keys
// were not written under it, and are what counts again once they notice.
func (a *Admin) withdraw(ctx context.Context, g fence.Guard) error {
	if err := a.clear(ctx, g); err != nil {
		return err
	}
	if err := a.drop(ctx, g); err != nil {
		return err
	}
	a.hurry(ctx)
	return nil
}

// dropUploads ends the open uploads under a guard that nobody can write under.
func (a *Admin) dropUploads(ctx context.Context, g fence.Guard) error {
	r, afterID := span(g.Pattern), ""
	for {
		rows, err := a.state.ListUploads(ctx, r, afterID, pageSize)
		if err != nil {
			return fmt.Errorf("listing the uploads under %s: %w", g.Pattern, err)
		}
		var ids []string
		var keys []object.Ref
		locked := map[object.Ref]bool{}
		for _, u := range rows {
			if _, ok := g.Pattern.Match(u.Bucket, u.Key); ok {
				ids = append(ids, u.ID)
				if !locked[u.Ref] {
					locked[u.Ref] = true
					keys = append(keys, u.Ref)
				}
			}
		}
		if len(ids) > 0 {
			err := state.Run(ctx, a.state, &state.Tx{
				Guards: []fence.GuardID{g.ID}, GuardMode: state.Exclusive, Keys: keys, Uploads: ids,
				Decide: func(v *state.View) (state.Changes, error) {
					if _, err := same(v, g); err != nil {
						return state.Changes{}, err
					}
					return state.Changes{DropUploads: ids}, nil
				},
			})
			if err != nil {
				return fmt.Errorf("ending the uploads under %s: %w", g.Pattern, err)
			}
		}
		if len(rows) < pageSize {
			return nil
		}
		last := rows[len(rows)-1]
		r.From, afterID = last.Key, last.ID
	}
}

// drop deletes the guard's row, if nobody touched it.
func (a *Admin) drop(ctx context.Context, g fence.Guard) error {
	return state.Run(ctx, a.state, &state.Tx{
		GuardList: true, Guards: []fence.GuardID{g.ID}, GuardMode: state.Exclusive,
		Decide: func(v *state.View) (state.Changes, error) {
			if _, err := same(v, g); err != nil {
				return state.Changes{}, err
			}
			return state.Changes{DropGuards: []fence.GuardID{g.ID}}, nil
		},
	})
}
