package sealed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

const (
	// MaxExport is how many objects a guard may have that is exported: a run holds
	// 0.6 kB of memory for each.
	MaxExport = 1_000_000
	// exporters is how many objects are brought back at the same time.
	exporters = 8
	// exportTries is how often an object is written before the run gives it up.
	exportTries = 3
	// maxNamed bounds the objects that a report names.
	maxNamed = 20
	// DefaultSettleBound is how long after it arrived at the store a change can take
	// effect, at most.
	DefaultSettleBound = 75 * time.Second
)

// ExportOptions say how a run goes.
type ExportOptions struct {
	// Held fails unless the guard's row is still this run's. It is asked of the
	// state's committed present.
	Held func(ctx context.Context) error
	// Delete lets the run remove plain keys of no object.
	Delete bool
}

// export is one run; see [guarded.Mover]. What has to be true of plain keys, and how
// late writes are kept from them, stands in ADR 23.
type export struct {
	*Store
	opts   ExportOptions
	guard  fence.Guard
	client *upstream.Client
	bucket string
	err    error // of finding the bucket

	permits permits

	mu sync.Mutex
	// stands is what this run has seen under the plain keys, by key.
	stands map[string]standing
	// unsettled are the keys that a request of this run may still change.
	unsettled map[string]bool
}

// standing is what was seen under a plain key, and whose it is: the attempt names
// the bytes and all that came with them but the tags, which change by themselves.
type standing struct {
	attempt  uuid.UUID
	tags     []object.Tag
	size     int64
	etag     string
	modified time.Time
	retagged string
	lost     string
}

// Export begins a run over a guard's objects. It does nothing yet.
func (s *Store) Export(g fence.Guard, o ExportOptions) guarded.Mover {
	e := &export{Store: s, opts: o, guard: g, stands: map[string]standing{}, unsettled: map[string]bool{}}
	e.client, e.bucket, e.err = s.buckets.Bucket(g.Pattern.Bucket())
	return e
}

func (e *export) ref(key string) object.Ref {
	return object.Ref{Bucket: e.guard.Pattern.Bucket(), Key: key}
}

// Unsettled is how many plain keys may still change.
func (e *export) Unsettled() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.unsettled)
}

func (e *export) doubt(key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unsettled[key] = true
}

func (e *export) note(key string, st standing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stands[key] = st
}

func (e *export) forget(key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.stands, key)
}

// wanted are the attempts and tags of all objects, by key. Plain keys are compared
// through a map because stores over file systems list in orders of their own.
func (e *export) wanted(ctx context.Context, visit func(*state.Object)) (map[string]standing, error) {
	want := map[string]standing{}
	from := e.guard.Pattern.Literal()
	r := state.Range{Bucket: e.guard.Pattern.Bucket(), From: from, To: successor(from)}
	for {
		rows, err := e.state.ListObjects(ctx, r, listPage)
		if err != nil {
			return nil, fmt.Errorf("listing the sealed objects: %w", err)
		}
		for i := range rows {
			o := &rows[i]
			if _, ok := e.guard.Pattern.Match(o.Bucket, o.Key); !ok {
				continue
			}
			want[o.Key] = standing{attempt: o.Attempt, tags: o.Tags, size: o.Size}
			if len(want) > MaxExport {
				return nil, fmt.Errorf("%w: more than %d under %s", errTooManyToExport, MaxExport, e.guard.Pattern)
			}
			if visit != nil {
				visit(o)
			}
		}
		if len(rows) < listPage {
			return want, nil
		}
		r.From = rows[len(rows)-1].Key + "\x00"
	}
}

var errTooManyToExport = errors.New("too many objects to export at once; delete or copy some of them through the proxy first")

// current reports whether what was seen under a plain key is the object wanted.
func (st standing) current(want standing) bool {
	return st.attempt == want.attempt && sameTags(st.tags, want.tags)
}

func sameTags(a, b []object.Tag) bool {
	if len(a) == 0 && len(b) == 0 {
		return true
	}
	sorted := func(tags []object.Tag) []object.Tag {
		tags = slices.Clone(tags)
		slices.SortFunc(tags, func(x, y object.Tag) int { return strings.Compare(x.Key, y.Key) })
		return tags
	}
	return slices.Equal(sorted(a), sorted(b))
}

// untouched reports whether a listed plain key is as this run saw it. Lists and HEAD
// round times differently.
func (st standing) untouched(entry upstream.Entry) bool {
	apart := entry.LastModified.Sub(st.modified).Abs()
	return entry.Size == st.size && entry.ETag == st.etag && (st.modified.IsZero() || entry.LastModified.IsZero() || apart < time.Second)
}

// Pass is of [guarded.Mover].
func (e *export) Pass(ctx context.Context, progress func(done, of int)) (guarded.Pass, error) {
	var p guarded.Pass
	if e.err != nil {
		return p, e.err
	}
	todo, err := e.wanted(ctx, nil)
	if err != nil {
		return p, err
	}
	p.Objects = len(todo)
	for _, w := range todo {
		p.Bytes += w.size
	}
	var extra []string
	err = e.plainKeys(ctx, e.client, e.bucket, e.guard, func(entry upstream.Entry, _ fence.Scope) (bool, error) {
		want, isObject := todo[entry.Key]
		st, seen := e.stands[entry.Key]
		switch {
		case !isObject:
			extra = append(extra, entry.Key)
		case seen && st.current(want) && st.untouched(entry):
			delete(todo, entry.Key)
		}
		return true, nil
	})
	if err != nil {
		return p, err
	}
	// First what is no object: on a store over a file system a file may stand where
	// an object needs a directory.
	if !e.opts.Delete {
		p.Leftover, extra = len(extra), nil
	}
	w := &work{of: len(extra) + len(todo), progress: progress}
	if err := w.each(ctx, extra, e.remove); err != nil {
		return p, err
	}
	p.Deleted = int(w.changed.Swap(0))
	keys := make([]string, 0, len(todo))
	for key := range todo {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if err := w.each(ctx, keys, e.bring); err != nil {
		return p, err
	}
	p.Copied = int(w.changed.Load())
	e.report(&p)
	return p, w.err()
}

// report names in what plain objects differ from those of the scope.
func (e *export) report(p *guarded.Pass) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, st := range e.stands {
		if st.retagged != "" {
			p.Retagged = append(p.Retagged, guarded.Difference{Key: key, What: st.retagged})
		}
		if st.lost != "" {
			p.Lost = append(p.Lost, guarded.Difference{Key: key, What: st.lost})
		}
	}
	byKey := func(a, b guarded.Difference) int { return strings.Compare(a.Key, b.Key) }
	slices.SortFunc(p.Retagged, byKey)
	slices.SortFunc(p.Lost, byKey)
}

// work is the keys of a pass, several at a time. A failure of one key leaves the
// others to be done, unless it is the run's.
type work struct {
	of       int
	progress func(done, of int)
	done     atomic.Int64
	changed  atomic.Int64
	mu       sync.Mutex
	failed   int
	first    []error
}

func (w *work) each(ctx context.Context, keys []string, do func(ctx context.Context, key string) (changed bool, err error)) error {
	group, each := errgroup.WithContext(ctx)
	group.SetLimit(exporters)
	for _, key := range keys {
		if each.Err() != nil {
			break
		}
		group.Go(func() error {
			changed, err := do(each, key)
			switch {
			case errors.Is(err, errNotHeld) || each.Err() != nil || stateGone(err):
				return err
			case err != nil:
				w.fail(fmt.Errorf("%s: %w", key, err))
			case changed:
				w.changed.Add(1)
			}
			w.progress(int(w.done.Add(1)), w.of)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

func (w *work) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed++; len(w.first) < maxNamed {
		w.first = append(w.first, err)
	}
}

func (w *work) err() error {
	if w.failed == 0 {
		return nil
	}
	return &guarded.PassError{Failed: w.failed, First: w.first}
}

// row reads the object as it is committed now; nil where there is none.
func (e *export) row(ctx context.Context, key string) (*state.Object, error) {
	ref := e.ref(key)
	v, err := e.reads.read(ctx, state.Query{Objects: []object.Ref{ref}})
	if err != nil {
		return nil, err
	}
	return v.Objects[ref], nil
}

// remove deletes a plain key of no object.
func (e *export) remove(ctx context.Context, key string) (changed bool, err error) {
	for range exportTries {
		o, err := e.row(ctx, key)
		if err != nil || o != nil {
			return changed, err // the pass after this one brings it
		}
		e.forget(key)
		err = e.mutate(ctx, key, func(c *upstream.Client) error { return c.DeleteObject(ctx, e.bucket, key) })
		if err != nil && upstream.OutcomeOf(err) == upstream.Refused {
			return changed, storeError("deleting the plain key of no object", err)
		}
		if errors.Is(err, errNotHeld) {
			return changed, err
		}
		changed = true
		_, herr := e.client.HeadObject(ctx, e.bucket, key, nil)
		switch {
		case upstream.NotFound(herr):
			return changed, nil
		case herr != nil:
			return changed, storeError("looking whether the plain key is deleted", herr)
		}
		if err == nil {
			e.doubt(key) // it said so and did not, or not yet
		}
	}
	return changed, fmt.Errorf("%w: it was deleted %d times and is still there", guarded.ErrStore, exportTries)
}

// bring makes a plain key what its object is. One that is written meanwhile is left
// for the pass after this one: what is compared is what was copied.
func (e *export) bring(ctx context.Context, key string) (changed bool, err error) {
	o, err := e.row(ctx, key)
	if err != nil || o == nil {
		return false, err
	}
	st, why, err := e.look(ctx, o, false)
	for try := 0; err == nil; try++ {
		if why == "" {
			e.note(key, st)
			return changed, nil
		}
		if try == exportTries {
			return changed, fmt.Errorf("%w: it was written %d times and %s", guarded.ErrStore, exportTries, why)
		}
		e.forget(key)
		pause.At(pause.ExportCopy)
		failed := e.copyBack(ctx, o)
		changed = true
		if errors.Is(failed, errReplaced) {
			return changed, nil
		}
		if final(failed) {
			return changed, failed
		}
		st, why, err = e.look(ctx, o, true)
		switch {
		case err != nil || why == "":
		case failed == nil:
			e.doubt(key) // the store said so and did not, or not yet
		case try == exportTries-1:
			return changed, failed
		}
	}
	return changed, err
}

// final reports whether a failure to write is one that trying again does not change.
// A refusal for its age may be of a permit that waited too long.
func final(err error) bool {
	f, answered := errors.AsType[*upstream.Error](err)
	refused := answered && f.Outcome == upstream.Refused && f.Status != http.StatusForbidden
	return refused || errors.Is(err, errNotHeld) || errors.Is(err, guarded.ErrLostBytes) || stateGone(err)
}

// stateGone reports whether the state could not be asked, which guarded.ErrStore says
// of the store too.
func stateGone(err error) bool {
	return errors.Is(err, state.ErrUnavailable) && !errors.Is(err, guarded.ErrStore)
}
