package sealed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

const (
	// collectPage is how many names one step of the collector looks at.
	collectPage = 500
	// keepAnswers is how long answers are kept for retries, at the least.
	keepAnswers = 24 * time.Hour
	// uploadsKept is how many longest uploads an open multipart upload may last
	// before the collector ends it.
	uploadsKept = 7
)

// Collect runs the collector until ctx ends: a run at once, then one after each
// pause. Several proxies may run it at the same time; they repeat each other's
// work and do no harm.
func (s *Store) Collect(ctx context.Context) {
	for {
		if err := s.CollectOnce(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("the collector stopped early; it goes on at its next run", "error", err)
		}
		jitter := time.Duration(rand.Int64N(int64(s.opts.CollectEvery)/4 + 1)) //nolint:gosec // not a secret
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.opts.CollectEvery + jitter):
		}
	}
}

// CollectOnce looks at every scope once. It may be stopped at any step.
func (s *Store) CollectOnce(ctx context.Context) error {
	if err := s.state.Maintain(ctx, max(s.opts.CollectAfter, keepAnswers)); err != nil {
		return fmt.Errorf("maintaining the state: %w", err)
	}
	guards, err := s.guards(ctx)
	if err != nil {
		return fmt.Errorf("reading the guards: %w", err)
	}
	buckets := map[string]bool{}
	var failed error
	for after := ""; ; {
		rows, _, err := s.state.ListScopes(ctx, "", after, collectPage)
		if err != nil {
			return fmt.Errorf("listing scopes: %w", err)
		}
		if len(rows) == 0 {
			break
		}
		for _, row := range rows {
			after = row.Scope.String()
			if row.Writes != fence.Sealed {
				continue
			}
			buckets[row.Scope.Bucket()] = true
			if _, governed := guards.ForScope(row.Scope); !governed {
				// The rest of an export that was cut off behind its last step.
				if _, err := s.tidy(ctx, within(row.Scope), func(object.Ref) bool { return true }); err != nil {
					failed = errors.Join(failed, fmt.Errorf("%s: %w", row.Scope, err))
				}
			}
			if err := s.collectScope(ctx, row.Scope); err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", row.Scope, err))
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	for b := range buckets {
		if err := s.sweep(ctx, b); err != nil {
			failed = errors.Join(failed, fmt.Errorf("bucket %s: %w", b, err))
		}
	}
	return failed
}

// guards is the guard list as it is committed now.
func (s *Store) guards(ctx context.Context) (list *fence.Guards, err error) {
	err = state.Run(ctx, s.state, &state.Tx{GuardList: true, Decide: func(v *state.View) (state.Changes, error) {
		var err error
		list, err = fence.NewGuards(v.GuardVersion, v.GuardList)
		return state.Changes{}, err
	}})
	return list, err
}

// within is the range of a scope's keys.
func within(s fence.Scope) state.Range {
	return state.Range{Bucket: s.Bucket(), From: s.Prefix(), To: successor(s.Prefix())}
}

// collectScope raises the horizon of a scope when its time has come, and looks
// for names below it. The order is the safety: the raise commits under the
// exclusive lock first, so no commit can take a name below the horizon any more;
// only then the names are compared with the rows.
func (s *Store) collectScope(ctx context.Context, scope fence.Scope) error {
	client, bucket, err := s.buckets.Bucket(scope.Bucket())
	if err != nil {
		return err
	}
	if err := s.endUploads(ctx, client, bucket, scope); err != nil {
		return err
	}
	horizon, err := s.raiseHorizon(ctx, scope)
	if err != nil {
		return err
	}
	pause.At(pause.CollectHorizon)
	if horizon <= 1 {
		return nil // no name lies below
	}
	prefix := s.names.scopePrefix(scope)
	// Names sort by epoch, so the walk ends at the first one at the horizon.
	for from := prefix; ; {
		page, err := client.ListObjects(ctx, bucket, upstream.ListQuery{Prefix: prefix, StartAfter: from, MaxKeys: collectPage})
		if err != nil {
			return storeError("listing physical objects", err)
		}
		var old []name
		done := page.Next == "" || len(page.Entries) == 0
		for _, e := range page.Entries {
			from = e.Key
			nm, ok := parseName(prefix, e.Key)
			if !ok {
				s.log.Warn("a name among the physical objects is not one of ours; left alone", "key", e.Key)
				continue
			}
			if nm.Epoch >= horizon {
				done = true
				break
			}
			old = append(old, nm)
		}
		if len(old) > 0 {
			pause.At(pause.CollectNote)
		}
		if err := s.note(ctx, scope, old); err != nil {
			return err
		}
		if done {
			break
		}
	}
	return s.dropUploads(ctx, client, bucket, prefix, scope, horizon)
}

// raiseHorizon moves horizon and epoch on when the epoch has lasted as long as
// the longest upload: every name of the epochs before it was begun, and must
// have been committed, longer ago than that.
func (s *Store) raiseHorizon(ctx context.Context, scope fence.Scope) (horizon int64, err error) {
	tx := &state.Tx{Scopes: []state.ScopeLock{{Scope: scope, Mode: state.Exclusive}}, Wait: lockWait}
	var learnt state.Scope
	var now time.Time
	tx.Decide = func(v *state.View) (state.Changes, error) {
		now = v.Now
		row, ok := v.Scopes[scope]
		if !ok {
			return state.Changes{}, nil
		}
		learnt, horizon = row, row.Horizon
		if v.Now.Sub(row.EpochSince) < s.opts.LongestUpload {
			return state.Changes{}, nil
		}
		row.Horizon = row.Epoch
		row.Epoch++
		row.EpochSince = v.Now
		learnt, horizon = row, row.Horizon
		return state.Changes{Scopes: []state.Scope{row}}, nil
	}
	if err := state.Run(ctx, s.state, tx); err != nil {
		return 0, fmt.Errorf("raising the horizon: %w", err)
	}
	if !learnt.Scope.IsZero() {
		s.known.learn(now, learnt)
	}
	return horizon, nil
}

// note writes down the names that nothing refers to. They can never be referred
// to again; when they were first seen so decides when they may be deleted.
func (s *Store) note(ctx context.Context, scope fence.Scope, old []name) error {
	if len(old) == 0 {
		return nil
	}
	ids := make([]uuid.UUID, len(old))
	for i, nm := range old {
		ids[i] = nm.Attempt
	}
	v, err := s.state.Read(ctx, state.Query{Attempts: ids})
	if err != nil {
		return fmt.Errorf("comparing names with rows: %w", err)
	}
	var add []state.Garbage
	for _, nm := range old {
		if !v.Referenced[nm.Attempt] {
			add = append(add, state.Garbage{Bucket: scope.Bucket(), Physical: nm.Key, Found: v.Now})
		}
	}
	if len(add) == 0 {
		return nil
	}
	return state.Run(ctx, s.state, &state.Tx{Decide: func(*state.View) (state.Changes, error) {
		return state.Changes{AddGarbage: add}, nil
	}})
}

// sweep deletes what was noted longer than CollectAfter ago. What is referred to
// after all is kept: that cannot be, and costs one look.
func (s *Store) sweep(ctx context.Context, logical string) error {
	client, bucket, err := s.buckets.Bucket(logical)
	if err != nil {
		return err
	}
	v, err := s.state.Read(ctx, state.Query{})
	if err != nil {
		return err
	}
	var stuck error
	for {
		list, err := s.state.ListGarbage(ctx, logical, v.Now.Add(-s.opts.CollectAfter), collectPage)
		if err != nil || len(list) == 0 {
			return errors.Join(stuck, err)
		}
		ids := make([]uuid.UUID, 0, len(list))
		byID := make(map[uuid.UUID]state.Garbage, len(list))
		for _, g := range list {
			id, ok := attemptOf(g.Physical)
			if !ok {
				return fmt.Errorf("garbage list names %q, which is no physical key", g.Physical)
			}
			ids = append(ids, id)
			byID[id] = g
		}
		again, err := s.state.Read(ctx, state.Query{Attempts: ids})
		if err != nil {
			return err
		}
		var keys []string
		for id, g := range byID {
			if again.Referenced[id] {
				s.log.Error("a physical object below the horizon is referred to; kept", "key", g.Physical)
				continue
			}
			keys = append(keys, g.Physical)
		}
		pause.At(pause.CollectDelete)
		kept := 0
		if len(keys) > 0 {
			failed, err := client.DeleteObjects(ctx, bucket, keys)
			if err != nil {
				return storeError("deleting collected objects", err)
			}
			if kept = len(failed); kept > 0 {
				stuck = fmt.Errorf("%w: deleting %s: %s %s (and %d more)", guarded.ErrStore, failed[0].Key, failed[0].Code, failed[0].Message, len(failed)-1)
			}
		}
		if err := state.Run(ctx, s.state, &state.Tx{Decide: func(*state.View) (state.Changes, error) {
			// What was not deleted, as under a retention, goes too: it must not keep
			// the others, and the next run notes it anew.
			return state.Changes{DropGarbage: list}, nil
		}}); err != nil {
			return err
		}
		s.log.Info("collected physical objects that nothing refers to", "bucket", logical, "objects", len(keys)-kept)
	}
}

// endUploads ends multipart uploads that have been open for too long. Their rows
// go under the exclusive lock, so that no Complete is between its look at the
// row and its commit.
func (s *Store) endUploads(ctx context.Context, client *upstream.Client, bucket string, scope fence.Scope) error {
	return s.eachUpload(ctx, scope, func(up state.Upload) error {
		ended, err := s.endUpload(ctx, scope, up)
		if ended {
			s.abortUpstream(client, bucket, up.Physical, up.Upstream)
		}
		return err
	})
}

func (s *Store) endUpload(ctx context.Context, scope fence.Scope, up state.Upload) (ended bool, err error) {
	err = state.Run(ctx, s.state, &state.Tx{
		Scopes: []state.ScopeLock{{Scope: scope, Mode: state.Exclusive}}, Keys: []object.Ref{up.Ref}, Uploads: []string{up.ID}, Wait: lockWait,
		Decide: func(v *state.View) (state.Changes, error) {
			now := v.Uploads[up.ID]
			ended = now != nil && !now.Completed && v.Now.Sub(now.Initiated) > uploadsKept*s.opts.LongestUpload
			if !ended {
				return state.Changes{}, nil
			}
			return state.Changes{DropUploads: []string{up.ID}}, nil
		},
	})
	return ended, err
}

// dropUploads aborts uploads of the store below the horizon that are of no open upload:
// those of proxies that died between creating one and committing it, and second ones
// where a request to create was delivered twice. An object under the same name needs
// none of them.
func (s *Store) dropUploads(ctx context.Context, client *upstream.Client, bucket, prefix string, scope fence.Scope, horizon int64) error {
	key, id := "", ""
	for {
		page, err := client.ListMultipartUploads(ctx, bucket, prefix, key, id, collectPage)
		if err != nil {
			return storeError("listing the store's uploads", err)
		}
		var old []upstream.Upload
		for _, u := range page.Uploads {
			if nm, ok := parseName(prefix, u.Key); ok && nm.Epoch < horizon {
				old = append(old, u)
			}
		}
		if len(old) > 0 {
			open, err := s.openUploads(ctx, scope)
			if err != nil {
				return err
			}
			for _, u := range old {
				if !open[uploadOf{u.Key, u.ID}] {
					s.abortUpstream(client, bucket, u.Key, u.ID)
				}
			}
		}
		if page.NextKey == "" {
			return nil
		}
		key, id = page.NextKey, page.NextID
	}
}

// uploadOf is an upload of the store.
type uploadOf struct{ physical, upstream string }

// openUploads are those of the store that the open uploads of a scope stand for. What
// is below the horizon when it is asked, and not among them, never will be.
func (s *Store) openUploads(ctx context.Context, scope fence.Scope) (map[uploadOf]bool, error) {
	open := map[uploadOf]bool{}
	err := s.eachUpload(ctx, scope, func(up state.Upload) error {
		open[uploadOf{up.Physical, up.Upstream}] = true
		return nil
	})
	return open, err
}

// eachUpload visits the open uploads of a scope.
func (s *Store) eachUpload(ctx context.Context, scope fence.Scope, visit func(state.Upload) error) error {
	from, id := scope.Prefix(), ""
	for {
		ups, err := s.state.ListUploads(ctx, state.Range{Bucket: scope.Bucket(), From: from, To: successor(scope.Prefix())}, id, collectPage)
		if err != nil {
			return fmt.Errorf("listing uploads: %w", err)
		}
		for _, up := range ups {
			from, id = up.Key, up.ID
			if err := visit(up); err != nil {
				return err
			}
		}
		if len(ups) < collectPage {
			return nil
		}
	}
}
