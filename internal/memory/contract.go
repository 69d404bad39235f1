package memory

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// ErrContract is wrapped where a transaction breaks the contract of package
// state: a bug of its caller. Nothing happened.
var ErrContract = errors.New("the transaction breaks the contract of the state")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrContract}, args...)...)
}

// once reports the first value that seen has already.
type once[K comparable] map[K]bool

func (o once[K]) again(k K) bool {
	had := o[k]
	o[k] = true
	return had
}

func checkTx(tx *state.Tx) error {
	if tx.ID == uuid.Nil {
		return broken("it has no id; use state.Run")
	}
	guards, scopes, keys := once[fence.GuardID]{}, once[fence.Scope]{}, once[object.Ref]{}
	for _, g := range tx.Guards {
		if guards.again(g) {
			return broken("guard %d is locked twice", g)
		}
	}
	for _, s := range tx.Scopes {
		if scopes.again(s.Scope) {
			return broken("scope %s is locked twice", s.Scope)
		}
		if s.Scope.IsZero() || s.Mode != state.Shared && s.Mode != state.Exclusive {
			return broken("scope %q is locked in mode %d", s.Scope, s.Mode)
		}
	}
	for _, k := range tx.Keys {
		if keys.again(k) {
			return broken("key %s is locked twice", k)
		}
	}
	slots, requests := once[state.Slot]{}, once[state.RetryID]{}
	for _, s := range tx.Slots {
		if slots.again(s) {
			return broken("slot %s of job %s is locked twice", s.Name, s.Job)
		}
	}
	for _, r := range tx.Requests {
		if requests.again(r.ID) {
			return broken("request %x is locked twice", r.ID)
		}
	}
	return nil
}

// checkChanges refuses changes to what the transaction has not locked, and
// changes of which two name one row.
func checkChanges(tx *state.Tx, missed map[fence.Scope]bool, c *state.Changes) error {
	modes := map[fence.Scope]state.Mode{}
	for _, l := range tx.Scopes {
		if !missed[l.Scope] {
			modes[l.Scope] = l.Mode
		}
	}
	keys := map[object.Ref]bool{}
	for _, k := range tx.Keys {
		keys[k] = true
	}

	scopes := once[fence.Scope]{}
	for _, s := range c.Scopes {
		if modes[s.Scope] != state.Exclusive {
			return broken("scope %s is written and not locked exclusively", s.Scope)
		}
		if scopes.again(s.Scope) {
			return broken("scope %s is written twice", s.Scope)
		}
	}
	objects := once[object.Ref]{}
	for _, o := range c.PutObjects {
		if !keys[o.Ref] || modes[o.Scope] == 0 {
			return broken("object %s in %s is written and its key or scope not locked", o.Ref, o.Scope)
		}
		if objects.again(o.Ref) {
			return broken("object %s is written twice", o.Ref)
		}
	}
	for _, ref := range c.DropObjects {
		if !keys[ref] || objects.again(ref) {
			return broken("object %s is dropped and its key not locked, or written as well", ref)
		}
	}
	for _, p := range c.PutParts {
		if !slices.ContainsFunc(c.PutObjects, func(o state.Object) bool { return o.Attempt == p.Attempt && o.Parts == len(p.Parts) && o.Parts > 0 }) {
			return broken("parts of attempt %s are put and no object with it and as many parts", p.Attempt)
		}
	}
	uploads := once[string]{}
	for _, u := range c.PutUploads {
		if modes[u.Scope] == 0 {
			return broken("upload %s is written and its scope %s not locked", u.ID, u.Scope)
		}
		if uploads.again(u.ID) {
			return broken("upload %s is written twice", u.ID)
		}
	}
	for _, id := range c.DropUploads {
		if uploads.again(id) {
			return broken("upload %s is dropped twice or written as well", id)
		}
	}
	for _, id := range c.DropPlaces {
		if modes[id.Scope] != state.Exclusive {
			return broken("a place in the line of %s is dropped and the scope not locked exclusively", id.Scope)
		}
	}
	claims := once[state.Slot]{}
	for _, cl := range c.Claims {
		if !slices.Contains(tx.Slots, cl.Slot) || claims.again(cl.Slot) {
			return broken("slot %s of job %s is claimed and not locked, or claimed twice", cl.Name, cl.Job)
		}
	}
	retries := once[state.RetryID]{}
	for _, r := range c.Retries {
		if retries.again(r.ID) {
			return broken("retry %x is written twice", r.ID)
		}
	}
	if len(c.PutGuards)+len(c.DropGuards) > 0 && !tx.GuardList {
		return broken("guards are changed and their list not locked")
	}
	if len(c.Events) > 0 && !tx.EventLog {
		return broken("events are added and their log not locked")
	}
	for i := range c.Events {
		if e := &c.Events[i]; e.Kind == "" || e.Count < 1 || e.Time.IsZero() {
			return broken("event %d has no kind, count or time: %+v", i, *e)
		}
	}
	garbage := once[garbageName]{}
	for _, list := range [][]state.Garbage{c.AddGarbage, c.DropGarbage} {
		for _, g := range list {
			if garbage.again(garbageName{g.Bucket, g.Physical}) {
				return broken("garbage %s of %s is named twice", g.Physical, g.Bucket)
			}
		}
	}
	return nil
}
