package sealed

import (
	"context"
	"strconv"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
)

// Delete removes rows, item by item; the bytes are the collector's business.
func (s *Store) Delete(_ context.Context, d *guarded.Delete) []error {
	errs := make([]error, len(d.Items))
	ops := make([]*operation, len(d.Items))
	for i, item := range d.Items {
		o := s.operation(&d.Op, fence.Write, item.Ref)
		o.retry = itemID(&d.Op, &item)
		// Remembered also where nothing stood: what was put since must survive a
		// repetition.
		o.answer = func() result { return result{} }
		o.replay = func(*result) {}
		o.apply = func(v *state.View, _ *state.Scope, ch *state.Changes) error {
			old := v.Objects[item.Ref]
			if err := item.CheckWrite(infoOf(old)); err != nil {
				return err
			}
			if old != nil {
				ch.DropObjects = append(ch.DropObjects, item.Ref)
			}
			return nil
		}
		ops[i] = o
	}
	// A token that raises the mark goes first and alone.
	if len(ops) > 0 && ops[0].exclusive {
		errs[0] = s.commits.do(ops[0])
		for _, o := range ops[1:] {
			o.exclusive = false
		}
		s.commits.doAll(ops[1:])
	} else {
		s.commits.doAll(ops)
	}
	for i, o := range ops {
		errs[i] = o.err
	}
	pause.At(pause.AfterCommit)
	return errs
}

// itemID names one item of a delete over the request's retries; nil where the
// request has neither an id nor a name.
func itemID(op *guarded.Op, item *guarded.DeleteItem) *state.RetryID {
	if op.Named == nil {
		return retryID(op, "DeleteObject", item.Ref, item.IfMatch)
	}
	size := int64(-1)
	if item.IfSize != nil {
		size = *item.IfSize
	}
	id := op.Named.Item("DeleteObject", item.Bucket, item.Key, item.IfMatch, item.IfLastModified.UTC().String(), strconv.FormatInt(size, 10))
	return &id
}

// Admit judges a write that changes nothing; see [guarded.Writer].
func (s *Store) Admit(_ context.Context, op *guarded.Op, ref object.Ref) error {
	o := s.operation(op, fence.Write, ref)
	o.answer = func() result { return result{} }
	o.replay = func(*result) {}
	o.apply = func(v *state.View, _ *state.Scope, _ *state.Changes) error {
		if v.Objects[ref] == nil {
			return object.ErrNoSuchKey
		}
		return nil
	}
	return s.commits.do(o)
}

// SetTags replaces the tags of an object in its row.
func (s *Store) SetTags(_ context.Context, t *guarded.Tagging) error {
	o := s.operation(&t.Op, fence.Write, t.Ref)
	o.answer = func() result { return result{} }
	o.replay = func(*result) {}
	o.apply = func(v *state.View, _ *state.Scope, ch *state.Changes) error {
		old := v.Objects[t.Ref]
		if old == nil {
			return object.ErrNoSuchKey
		}
		row := *old
		row.Tags = t.Tags
		ch.PutObjects = append(ch.PutObjects, row)
		return nil
	}
	if err := s.commits.do(o); err != nil {
		return err
	}
	pause.At(pause.AfterCommit)
	return nil
}
