package sealed

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

const (
	// MaxAdopt is how many existing objects a guard may take in when it is added.
	MaxAdopt = 10_000
	// adopters is how many objects are copied at the same time.
	adopters = 8
)

// ErrTooMany says that there are more objects under the pattern than can be
// taken in.
var ErrTooMany = errors.New("too many existing objects to take in")

// errAdopted ends a transaction that finds nothing left to do.
var errAdopted = errors.New("sealed: adopted already")

// Adopt takes the existing objects under a pending guard in: each is copied
// within the store to a physical key and committed as a row. The plain object
// stays where it is, hidden, until the guard is removed. Nothing may write under
// the guard meanwhile, which its pending state ensures. It can be called again
// after it was interrupted; objects that were taken in are not copied again.
func (s *Store) Adopt(ctx context.Context, g fence.Guard, progress func(done int)) (int, error) {
	client, bucket, err := s.buckets.Bucket(g.Pattern.Bucket())
	if err != nil {
		return 0, err
	}
	var refs []object.Ref
	err = s.plainKeys(ctx, client, bucket, g, func(e upstream.Entry, _ fence.Scope) (bool, error) {
		if err := fence.CheckKey(e.Key); err != nil {
			return false, fmt.Errorf("an existing object cannot be taken in; move or delete it first: %w", err)
		}
		refs = append(refs, object.Ref{Bucket: g.Pattern.Bucket(), Key: e.Key})
		if len(refs) > MaxAdopt {
			return false, fmt.Errorf("%w: more than %d under %s; move them away and copy them in through the proxy", ErrTooMany, MaxAdopt, g.Pattern)
		}
		return true, nil
	})
	if err != nil {
		return 0, err
	}
	var done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(adopters)
	for _, ref := range refs {
		group.Go(func() error {
			if err := s.adoptOne(ctx, client, bucket, g, ref); err != nil {
				return fmt.Errorf("taking %s in: %w", ref, err)
			}
			if n := int(done.Add(1)); progress != nil {
				progress(n)
			}
			return nil
		})
	}
	err = group.Wait()
	return int(done.Load()), err
}

func (s *Store) adoptOne(ctx context.Context, client *upstream.Client, bucket string, g fence.Guard, ref object.Ref) error {
	scope, ok := g.Pattern.Match(ref.Bucket, ref.Key)
	if !ok {
		return nil
	}
	v, err := s.reads.read(ctx, state.Query{Scopes: []fence.Scope{scope}, Objects: []object.Ref{ref}})
	if err != nil {
		return err
	}
	if v.Objects[ref] != nil {
		return nil
	}
	head, err := client.HeadObject(ctx, bucket, ref.Key, withChecksums)
	if upstream.NotFound(err) {
		return nil // deleted by somebody who may
	}
	if err != nil {
		return storeError("looking at it", err)
	}
	src := &found{client: client, plain: true, info: plainInfo(ref, head), at: upstream.Source{Bucket: bucket, Key: ref.Key, IfMatch: head.ETag}}
	if src.info.Tags, err = plainTags(ctx, client, src.at); err != nil {
		return err
	}
	if _, exists := v.Scopes[scope]; !exists {
		if err := s.makeRow(ctx, scope); err != nil {
			return err
		}
	}
	op := guarded.Op{Guard: &g, Scope: scope}
	nm := s.names.fresh(scope, v.Scope(scope, fence.Sealed).Epoch, state.NewID())
	if _, err := s.copyBytes(ctx, client, bucket, src, nm, physicalHeader(&op, ref, &src.info.Attributes, nil, nm)); err != nil {
		return err
	}
	err = state.Run(ctx, s.state, &state.Tx{
		Guards: []fence.GuardID{g.ID},
		Scopes: []state.ScopeLock{{Scope: scope, Mode: state.Shared}},
		Keys:   []object.Ref{ref},
		Wait:   lockWait,
		Decide: func(v *state.View) (state.Changes, error) {
			now, ok := v.Guards[g.ID]
			if !ok || now.State != fence.Pending || !now.Created.Equal(g.Created) {
				// Removed, or taken over by another attempt to add it.
				return state.Changes{}, fmt.Errorf("%w: %s is not being added any more", guarded.ErrGuardGone, g.Pattern)
			}
			if v.Objects[ref] != nil {
				return state.Changes{}, errAdopted
			}
			if nm.Epoch < v.Scopes[scope].Horizon {
				return state.Changes{}, fmt.Errorf("%w: %w", state.ErrBusy, errOldName)
			}
			var ch state.Changes
			info := src.info
			if info.Modified.IsZero() {
				info.Modified = v.Now
			}
			ch.PutObjects = []state.Object{{Info: info, Scope: scope, Attempt: nm.Attempt, Physical: nm.Key}}
			return ch, nil
		},
	})
	if errors.Is(err, errAdopted) {
		return nil
	}
	return err
}

// Plain finds a plain key under a guard, which would come back to light if the
// guard were removed.
func (s *Store) Plain(ctx context.Context, g fence.Guard) (ref object.Ref, ok bool, err error) {
	client, bucket, err := s.buckets.Bucket(g.Pattern.Bucket())
	if err != nil {
		return object.Ref{}, false, err
	}
	err = s.plainKeys(ctx, client, bucket, g, func(e upstream.Entry, _ fence.Scope) (bool, error) {
		ref, ok = object.Ref{Bucket: g.Pattern.Bucket(), Key: e.Key}, true
		return false, nil
	})
	return ref, ok, err
}

// plainKeys calls visit with each plain key that lies in a scope of the guard,
// in order, until it says no.
func (s *Store) plainKeys(ctx context.Context, client *upstream.Client, bucket string, g fence.Guard, visit func(upstream.Entry, fence.Scope) (bool, error)) error {
	q := upstream.ListQuery{Prefix: g.Pattern.Literal(), MaxKeys: listPage}
	for {
		page, err := client.ListObjects(ctx, bucket, q)
		if upstream.HasCode(err, "NoSuchBucket") {
			return fmt.Errorf("%w: %s; create it first", upstream.ErrNoSuchBucket, bucket)
		}
		if err != nil {
			return storeError("listing existing objects", err)
		}
		for _, e := range page.Entries {
			scope, ok := g.Pattern.Match(g.Pattern.Bucket(), e.Key)
			if !ok {
				continue
			}
			if goOn, err := visit(e, scope); err != nil || !goOn {
				return err
			}
		}
		n := len(page.Entries)
		switch {
		case page.Next == "":
			return nil
		case n > 0 && fence.IsReserved(page.Entries[n-1].Key):
			// Go on behind our own objects, which may be many.
			q.StartAfter, q.Continuation = below(successor(fence.Reserved)), ""
		default:
			q.Continuation = page.Next
		}
	}
}
