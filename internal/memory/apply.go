package memory

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// verify refuses what the schemas of the databases refuse.
func (s *Store) verify(c *state.Changes) error {
	for _, row := range c.Scopes {
		old, ok := s.scopes[row.Scope]
		switch {
		case ok && row.Mark.Below(old.Mark):
			return fmt.Errorf("%w: %s from %v to %v", state.ErrMarkFalls, row.Scope, old.Mark, row.Mark)
		case ok && (row.Epoch < old.Epoch || row.Horizon < old.Horizon):
			return fmt.Errorf("%w, nor an epoch or horizon: %s", state.ErrMarkFalls, row.Scope)
		case row.Mark.Generation < fence.FirstGeneration || row.Mark.Token < 0 || row.Horizon < 1 || row.Horizon > row.Epoch:
			return fmt.Errorf("%w: the row of %s is not possible: mark %v, epoch %d, horizon %d", state.ErrUnavailable, row.Scope, row.Mark, row.Epoch, row.Horizon)
		}
	}
	changed := map[object.Ref]bool{}
	for _, ref := range c.DropObjects {
		changed[ref] = true
	}
	for _, o := range c.PutObjects {
		changed[o.Ref] = true
	}
	attempts := map[uuid.UUID]bool{}
	for _, o := range c.PutObjects {
		if ref, ok := s.attempts[o.Attempt]; ok && !changed[ref] || attempts[o.Attempt] {
			return fmt.Errorf("%w: attempt %s of %s belongs to another object", state.ErrUnavailable, o.Attempt, o.Ref)
		}
		attempts[o.Attempt] = true
	}
	for _, p := range c.PutParts {
		if _, ok := s.made[p.Attempt]; ok {
			return fmt.Errorf("%w: the parts of attempt %s are recorded already", state.ErrUnavailable, p.Attempt)
		}
	}
	for _, cl := range c.Claims {
		if old := s.claims[cl.Slot]; old != nil {
			return fmt.Errorf("%w: slot %s of job %s is claimed already", state.ErrUnavailable, cl.Name, cl.Job)
		}
	}
	for _, r := range c.Retries {
		if _, ok := s.retries[r.ID]; ok {
			return fmt.Errorf("%w: another attempt of retry %x committed", state.ErrUnavailable, r.ID)
		}
	}
	patterns := map[string]bool{}
	for id, g := range s.guards {
		replaced := slices.ContainsFunc(c.PutGuards, func(p *fence.Guard) bool { return p.ID == id })
		if !replaced && !slices.Contains(c.DropGuards, id) {
			patterns[g.Pattern.String()] = true
		}
	}
	for _, g := range c.PutGuards {
		if _, ok := s.guards[g.ID]; g.ID != 0 && !ok {
			return fmt.Errorf("%w: there is no guard %d to replace", state.ErrUnavailable, g.ID)
		}
		if patterns[g.Pattern.String()] {
			return fmt.Errorf("%w: another guard has the pattern %s", state.ErrUnavailable, g.Pattern)
		}
		patterns[g.Pattern.String()] = true
	}
	return nil
}

// apply makes verified changes.
func (s *Store) apply(c *state.Changes) {
	for _, row := range c.Scopes {
		row.EpochSince, row.LeaseUntil, row.Last.At = stamp(row.EpochSince), stamp(row.LeaseUntil), stamp(row.Last.At)
		s.scopes[row.Scope] = row
	}
	for _, attempt := range c.Displaced(&state.View{Objects: s.objects}) {
		delete(s.made, attempt)
	}
	for _, p := range c.PutParts {
		s.made[p.Attempt] = slices.Clone(p.Parts)
	}
	for _, ref := range c.DropObjects {
		s.dropObject(ref)
	}
	for _, o := range c.PutObjects {
		s.dropObject(o.Ref)
	}
	for _, o := range c.PutObjects {
		o := copyObject(o)
		o.Modified = stamp(o.Modified)
		s.objects[o.Ref], s.attempts[o.Attempt] = &o, o.Ref
	}
	for _, id := range c.DropUploads {
		delete(s.uploads, id)
		delete(s.parts, id)
	}
	for _, id := range c.Ended() {
		delete(s.parts, id)
	}
	for _, u := range c.PutUploads {
		u := copyUpload(u)
		u.Initiated = stamp(u.Initiated)
		s.uploads[u.ID] = &uploadRow{u, s.now()}
	}
	for _, cl := range c.Claims {
		cl.At, cl.KeepUntil = stamp(cl.At), stamp(cl.KeepUntil)
		s.claims[cl.Slot] = &cl
	}
	for _, r := range c.Retries {
		s.retries[r.ID] = dated[[]byte]{slices.Clone(r.Result), s.now()}
	}
	for _, id := range c.DropGuards {
		delete(s.guards, id)
	}
	for _, g := range c.PutGuards {
		if g.ID == 0 {
			s.lastGuard++
			g.ID = s.lastGuard
		}
		row := *g
		row.Created = stamp(row.Created)
		s.guards[g.ID] = row
	}
	if len(c.PutGuards)+len(c.DropGuards) > 0 {
		s.version++
	}
	for _, id := range c.DropPlaces {
		s.dropPlaces(id.Scope, func(p *state.Place) bool { return p.PlaceID == id })
	}
	for _, e := range c.Events {
		s.lastEvent++
		e.ID, e.Time = s.lastEvent, stamp(e.Time)
		e.After, e.Span = e.After.Truncate(time.Microsecond), e.Span.Truncate(time.Microsecond)
		s.events = append(s.events, dated[state.Event]{e, s.now()})
	}
	for _, g := range c.DropGarbage {
		delete(s.garbage, garbageName{g.Bucket, g.Physical})
	}
	for _, g := range c.AddGarbage {
		name := garbageName{g.Bucket, g.Physical}
		if _, ok := s.garbage[name]; !ok {
			s.garbage[name] = stamp(g.Found)
		}
	}
}

func (s *Store) dropObject(ref object.Ref) {
	if old := s.objects[ref]; old != nil {
		delete(s.attempts, old.Attempt)
		delete(s.objects, ref)
	}
}

// stamp is a time as the databases keep it: microseconds, UTC.
func stamp(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

func copyAttributes(a object.Attributes) object.Attributes {
	a.Headers, a.Meta, a.Checksums = maps.Clone(a.Headers), maps.Clone(a.Meta), maps.Clone(a.Checksums)
	a.Tags = slices.Clone(a.Tags)
	return a
}

func copyObject(o state.Object) state.Object {
	o.Attributes = copyAttributes(o.Attributes)
	return o
}

func copyUpload(u state.Upload) state.Upload {
	u.Attributes = copyAttributes(u.Attributes)
	return u
}
