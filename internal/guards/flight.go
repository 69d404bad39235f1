package guards

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/s3fence/s3fence/internal/fence"
)

// Flight is a mutation outside every guard, from before it is sent until its
// outcome is known and answered. Its methods may be called concurrently.
type Flight struct {
	list   *List
	shard  *shard
	bucket string
	key    string
	more   []string
	whole  bool
	ctx    context.Context
	cancel context.CancelCauseFunc

	// bound is set once a guard covers the flight: the last lease whose list did
	// not. It is all that the flight has left, whatever is renewed since.
	bound atomic.Pointer[held]
	// The shard's lock guards the rest.
	timer      *time.Timer
	prev, next *Flight
	ended      bool
}

// Begin registers a mutation of keys of one bucket, at least one. The caller
// has found them unguarded. [ErrLeaseOver]: refuse it. [ErrGuarded]: nothing
// has begun; look the keys up again. The flight's context ends with ctx. End it.
func (l *List) Begin(ctx context.Context, bucket, key string, more ...string) (*Flight, error) {
	return l.begin(ctx, &Flight{bucket: bucket, key: key, more: more})
}

// BeginBucket registers a mutation that concerns a bucket as a whole: any guard
// in the bucket covers it.
func (l *List) BeginBucket(ctx context.Context, bucket string) (*Flight, error) {
	return l.begin(ctx, &Flight{bucket: bucket, whole: true})
}

func (l *List) begin(ctx context.Context, f *Flight) (*Flight, error) {
	f.list = l
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	f.shard = l.flights.add(f)
	// Looked up after the registration: a list that is put into force from here
	// on finds the flight.
	guards, err := l.Current()
	if err == nil && f.coveredBy(guards) {
		err = ErrGuarded
	}
	if err != nil {
		f.End()
		return nil, err
	}
	return f, nil
}

func (f *Flight) coveredBy(guards *fence.Guards) bool {
	if !guards.Guarded(f.bucket) {
		return false
	}
	covered := func(key string) bool {
		_, _, ok := guards.Find(f.bucket, key)
		return ok
	}
	return f.whole || covered(f.key) || slices.ContainsFunc(f.more, covered)
}

// Context ends with the context the flight began with, when the flight is cut
// off because a guard covers its key ([ErrCut] is the cause), and at End. Send
// the upstream request under it.
func (f *Flight) Context() context.Context { return f.ctx }

// StillValid must be nil immediately before the request is sent to the store
// and again, after the store answered, before success is answered to the
// client. Otherwise nothing may be sent, or the client is told 503: the write
// may stand in the store but is not acknowledged.
func (f *Flight) StillValid() error {
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	// This order: whoever sees a renewed lease sees the bound set before it.
	h := f.list.current.Load()
	if b := f.bound.Load(); b != nil {
		h = b
	}
	if !f.list.valid(h) {
		return f.list.over()
	}
	return nil
}

// cut ends a flight that a guard covers and that took too long.
func (f *Flight) cut() { f.cancel(ErrCut) }

// End says that the request is over: answered, or never to be answered with
// success. Calling it again does nothing.
func (f *Flight) End() {
	if f.shard.remove(f) && f.bound.Load() != nil && f.list.blocking.Add(-1) == 0 {
		select {
		case f.list.kick <- struct{}{}:
		default:
		}
	}
	f.cancel(context.Canceled)
}

// flights holds the running ones in shards, because every mutation passes here.
type flights struct{ shards [64]shard }

type shard struct {
	sync.Mutex
	first *Flight
	_     [112]byte // a cache line pair of its own
}

func (fs *flights) add(f *Flight) *shard {
	s := &fs.shards[rand.Uint32()%uint32(len(fs.shards))]
	f.shard = s
	s.Lock()
	defer s.Unlock()
	f.next = s.first
	if s.first != nil {
		s.first.prev = f
	}
	s.first = f
	return s
}

// remove reports whether the flight was there.
func (s *shard) remove(f *Flight) bool {
	s.Lock()
	defer s.Unlock()
	if f.ended {
		return false
	}
	f.ended = true
	if f.timer != nil {
		f.timer.Stop()
	}
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		s.first = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	}
	f.prev, f.next = nil, nil
	return true
}

// each visits every flight with its shard locked.
func (fs *flights) each(visit func(*Flight)) {
	for i := range fs.shards {
		s := &fs.shards[i]
		s.Lock()
		for f := s.first; f != nil; f = f.next {
			visit(f)
		}
		s.Unlock()
	}
}
