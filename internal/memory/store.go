package memory

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// Store is a state in memory, safe for concurrent use. It implements
// [state.State].
type Store struct {
	clock  func() time.Time
	faults func(context.Context, Stage) error
	locks  lockTable

	mu         sync.Mutex
	closed     bool
	deployment state.Deployment
	counter    int64
	version    int64 // of the guard list
	lastGuard  fence.GuardID
	guards     map[fence.GuardID]fence.Guard
	scopes     map[fence.Scope]state.Scope
	objects    map[object.Ref]*state.Object
	attempts   map[uuid.UUID]object.Ref // of the objects: no two share one
	uploads    map[string]*uploadRow
	parts      map[string]map[partName]state.UploadPart // by upload
	made       map[uuid.UUID][]object.Part              // of the objects, by attempt
	claims     map[state.Slot]*state.Claim
	retries    map[state.RetryID]dated[[]byte]
	garbage    map[garbageName]time.Time
	outcomes   map[uuid.UUID]dated[state.Outcome]
	proxies    map[uuid.UUID]state.Proxy
	lines      map[fence.Scope][]state.Place // by turn
	lastTurn   int64
	events     []dated[state.Event] // by id
	lastEvent  int64
	late       []*sent
}

var _ state.State = (*Store)(nil)

// dated is a record with the time it was written.
type dated[T any] struct {
	value T
	at    time.Time
}

type uploadRow struct {
	state.Upload
	changed time.Time
}

type partName struct {
	number int
	etag   string
}

type garbageName struct{ bucket, physical string }

// Option changes how a Store behaves.
type Option func(*Store)

// WithClock makes now the database's clock; it is called by any number of
// goroutines at once.
func WithClock(now func() time.Time) Option { return func(s *Store) { s.clock = now } }

// WithIncarnation sets the incarnation that the state claims; 0 otherwise.
func WithIncarnation(n int64) Option { return func(s *Store) { s.deployment.Incarnation = n } }

// WithFaults asks hook at each stage; see [Stage] for what its errors do. It is
// called by any number of goroutines at once, and may block to delay a stage.
func WithFaults(hook func(Stage) error) Option {
	return WithHook(func(_ context.Context, at Stage) error { return hook(at) })
}

// WithHook is WithFaults for a hook that is told the context of the call, to know
// whose it is.
func WithHook(hook func(context.Context, Stage) error) Option {
	return func(s *Store) { s.faults = hook }
}

// New makes an empty state.
func New(opts ...Option) *Store {
	s := &Store{
		clock:  time.Now,
		faults: func(context.Context, Stage) error { return nil },
		locks:  lockTable{locks: map[lockName]*lock{}},

		deployment: state.Deployment{ID: uuid.New()},
		version:    1,
		guards:     map[fence.GuardID]fence.Guard{},
		scopes:     map[fence.Scope]state.Scope{},
		objects:    map[object.Ref]*state.Object{},
		attempts:   map[uuid.UUID]object.Ref{},
		uploads:    map[string]*uploadRow{},
		parts:      map[string]map[partName]state.UploadPart{},
		made:       map[uuid.UUID][]object.Part{},
		claims:     map[state.Slot]*state.Claim{},
		retries:    map[state.RetryID]dated[[]byte]{},
		garbage:    map[garbageName]time.Time{},
		outcomes:   map[uuid.UUID]dated[state.Outcome]{},
		proxies:    map[uuid.UUID]state.Proxy{},
		lines:      map[fence.Scope][]state.Place{},
	}
	for _, o := range opts {
		o(s)
	}
	return s
}

// now is the database's clock, as precise as the databases keep times.
func (s *Store) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

// enter asks for a fault and, if there is none, locks the records. The caller
// unlocks s.mu after a nil error.
func (s *Store) enter(ctx context.Context, at Stage) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", state.ErrUnavailable, err)
	}
	if err := s.faults(ctx, at); err != nil {
		return fmt.Errorf("%w: %w", state.ErrUnavailable, err)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return fmt.Errorf("%w: it is closed", state.ErrUnavailable)
	}
	return nil
}

// Deployment identifies the state.
func (s *Store) Deployment(ctx context.Context) (state.Deployment, error) {
	if err := s.enter(ctx, Reading); err != nil {
		return state.Deployment{}, err
	}
	defer s.mu.Unlock()
	return s.deployment, nil
}

// Check finds the schema fitting: there is none.
func (s *Store) Check(ctx context.Context) error {
	if err := s.enter(ctx, Reading); err != nil {
		return err
	}
	s.mu.Unlock()
	return nil
}

// Close makes every later call fail with state.ErrUnavailable.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
