package sealed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

const (
	// readers is how many shared reads one proxy has under way.
	readers = 2
	// maxShared bounds the requests that share a read.
	maxShared = 64
	// readTimeout bounds a shared read.
	readTimeout = 10 * time.Second
)

// reader joins reads of requests that wait at the same moment into one query. A
// shared read starts after each of its requests arrived, so each sees every
// write that was acknowledged before it came (F5, F6).
type reader struct {
	state state.Transactor
	known *recall
	turn  func(string) // nil but in simulations
	mu    sync.Mutex
	queue []*readWait
	wake  chan struct{}
	stop  context.Context
	wg    sync.WaitGroup
}

type readWait struct {
	query state.Query
	view  *state.View
	err   error
	done  chan struct{}
}

func newReader(stop context.Context, st state.Transactor, known *recall, turn func(string)) *reader {
	r := &reader{state: st, known: known, turn: turn, stop: stop, wake: make(chan struct{}, readers)}
	for range readers {
		r.wg.Go(r.run)
	}
	return r
}

// read answers a query from one moment after the call began. The view is shared
// with others and must not be changed.
func (r *reader) read(ctx context.Context, q state.Query) (*state.View, error) {
	if r.turn != nil {
		r.turn(fmt.Sprintf("a read of %v %v", q.Scopes, q.Objects))
	}
	w := &readWait{query: q, done: make(chan struct{})}
	r.mu.Lock()
	if r.stop.Err() != nil {
		r.mu.Unlock()
		return nil, errStopping
	}
	r.queue = append(r.queue, w)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	select {
	case <-w.done:
		return w.view, w.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", state.ErrUnavailable, context.Cause(ctx))
	}
}

func (r *reader) run() {
	for {
		batch := r.take()
		if batch == nil {
			select {
			case <-r.wake:
				continue
			case <-r.stop.Done():
				if batch = r.take(); batch == nil {
					return
				}
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		view, err := r.state.Read(ctx, join(batch))
		cancel()
		if err == nil {
			for _, row := range view.Scopes {
				r.known.learn(view.Now, row)
			}
		}
		for _, w := range batch {
			w.view, w.err = view, err
			close(w.done)
		}
	}
}

func (r *reader) take() []*readWait {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.queue), maxShared)
	if n == 0 {
		return nil
	}
	batch := r.queue[:n:n]
	r.queue = r.queue[n:]
	if len(r.queue) > 0 {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	return batch
}

func join(batch []*readWait) state.Query {
	if len(batch) == 1 {
		return batch[0].query
	}
	var q state.Query
	guards, scopes := map[fence.GuardID]bool{}, map[fence.Scope]bool{}
	objects, uploads := map[object.Ref]bool{}, map[string]bool{}
	for _, w := range batch {
		q.Guards = addNew(q.Guards, guards, w.query.Guards)
		q.Scopes = addNew(q.Scopes, scopes, w.query.Scopes)
		q.Objects = addNew(q.Objects, objects, w.query.Objects)
		q.Uploads = addNew(q.Uploads, uploads, w.query.Uploads)
		q.Attempts = append(q.Attempts, w.query.Attempts...)
	}
	return q
}

func addNew[T comparable](to []T, seen map[T]bool, from []T) []T {
	for _, x := range from {
		if !seen[x] {
			seen[x] = true
			to = append(to, x)
		}
	}
	return to
}

// resolve finds the row of an object, admits a read that carries a token (F3)
// and raises the mark where its token is the first of a new external holder
// (F5: before it reads).
func (s *Store) resolve(ctx context.Context, op *guarded.Op, ref object.Ref) (*state.Object, error) {
	for range 2 {
		v, row, err := s.look(ctx, op, fence.Read, ref, "")
		if err != nil {
			return nil, err
		}
		if g := v.Guards[op.Guard.ID]; g.State == fence.Pending {
			// Not all rows are there yet, so that none is no answer.
			return nil, fence.Refuse(fence.NotActive, op.Scope, &g, row.Mark, op.Request)
		}
		if op.Request.Token <= row.Mark.Token {
			o := v.Objects[ref]
			if o == nil {
				return nil, object.ErrNoSuchKey
			}
			return o, nil
		}
		raise := s.operation(op, fence.Read, object.Ref{})
		raise.exclusive = true
		if err := s.commits.do(raise); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: the mark of %s moves too fast", state.ErrBusy, op.Scope)
}

// Pending reports whether the objects of a guard are still the plain ones,
// because it is being added.
func (s *Store) Pending(ctx context.Context, g *fence.Guard) (bool, error) {
	v, err := s.reads.read(ctx, state.Query{Guards: []fence.GuardID{g.ID}})
	if err != nil {
		return false, err
	}
	now, ok := v.Guards[g.ID]
	if !ok {
		return false, fmt.Errorf("%w: %s", guarded.ErrGuardGone, g.Pattern)
	}
	return now.State == fence.Pending, nil
}

// Stat describes an object without asking the store.
func (s *Store) Stat(ctx context.Context, op guarded.Op, ref object.Ref) (object.Info, error) {
	o, err := s.resolve(ctx, &op, ref)
	if err != nil {
		return object.Info{}, err
	}
	return o.Info, nil
}

// Locate finds the bytes of an object in the store.
func (s *Store) Locate(ctx context.Context, op guarded.Op, ref object.Ref) (object.Info, guarded.Location, error) {
	o, err := s.resolve(ctx, &op, ref)
	if err != nil {
		return object.Info{}, guarded.Location{}, err
	}
	_, bucket, err := s.buckets.Bucket(ref.Bucket)
	return o.Info, guarded.Location{Bucket: bucket, Key: o.Physical}, err
}

// Get opens an object; see [guarded.Reader].
func (s *Store) Get(ctx context.Context, op guarded.Op, ref object.Ref, choose guarded.Choose) (object.Info, io.ReadCloser, error) {
	client, bucket, err := s.buckets.Bucket(ref.Bucket)
	if err != nil {
		return object.Info{}, nil, err
	}
	var before, partless *state.Object
	for range 4 {
		o, err := s.resolve(ctx, &op, ref)
		if err != nil {
			return object.Info{}, nil, err
		}
		if before != nil && before.Attempt == o.Attempt {
			return object.Info{}, nil, s.lost(ref, o.Physical)
		}
		rng, err := choose(o.Info, func(n int) (object.Part, error) { return s.part(ctx, o, n) })
		if errors.Is(err, guarded.ErrPartsUnknown) && (partless == nil || partless.Attempt != o.Attempt) {
			partless = o // perhaps it was replaced since the row was read
			continue
		}
		if err != nil {
			return o.Info, nil, err
		}
		want, header := o.Size, ""
		if rng != nil {
			want, header = rng.Length, byteRange(rng)
		}
		got, err := client.GetObject(ctx, bucket, o.Physical, header, nil)
		switch {
		case upstream.NotFound(err):
			// Replaced and collected since the row was read, or lost.
			before = o
			continue
		case err != nil:
			return object.Info{}, nil, storeError("reading the object's bytes", err)
		case got.Size != want || rng != nil && got.Status != 206 && want != o.Size:
			got.Body.Close()
			return object.Info{}, nil, fmt.Errorf("%w: reading %s: got %d bytes (status %d) instead of %d", guarded.ErrStore, o.Physical, got.Size, got.Status, want)
		}
		info := o.Info
		info.Opaque = upstream.Encrypted(got.Header)
		return info, got.Body, nil
	}
	return object.Info{}, nil, fmt.Errorf("%w: %s is replaced faster than it can be opened", state.ErrBusy, ref)
}

// lost is the alarm that a row points at bytes which the store does not have.
func (s *Store) lost(ref object.Ref, physical string) error {
	s.log.Error("object lost by the store", "object", ref.String(), "physical", physical)
	return fmt.Errorf("%w: %s (physical key %s)", guarded.ErrLostBytes, ref, physical)
}
