package locks_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// list reads the guards from the state at each Refresh.
type list struct {
	state *memory.Store
	now   atomic.Pointer[fence.Guards]
}

func (l *list) Current() (*fence.Guards, error) {
	if gs := l.now.Load(); gs != nil {
		return gs, nil
	}
	return nil, errors.New("no list yet")
}

func (l *list) Refresh(ctx context.Context) error {
	return l.state.Transact(ctx, &state.Tx{ID: state.NewID(), GuardList: true, Decide: func(v *state.View) (state.Changes, error) {
		gs, err := fence.NewGuards(v.GuardVersion, v.GuardList)
		l.now.Store(gs)
		return state.Changes{}, err
	}})
}

// world is a service with what stands around it.
type world struct {
	t     testing.TB
	state *memory.Store
	locks *locks.Service
	skew  atomic.Int64 // of the database's clock

	mu     sync.Mutex
	events []events.Event
}

func newWorld(t testing.TB, o locks.Options, opts ...memory.Option) *world {
	w := &world{t: t}
	clock := memory.WithClock(func() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) })
	w.state = memory.New(append([]memory.Option{clock}, opts...)...)
	o.Observer = events.Func(func(_ context.Context, e events.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	})
	w.locks = w.service(o)
	w.guard("s3://data/jobs/", func(*fence.Guard) {})
	w.guard("s3://data/tenants/*/", func(*fence.Guard) {})
	return w
}

// service is another process on the same state.
func (w *world) service(o locks.Options) *locks.Service {
	return locks.New(w.state, &list{state: w.state}, o)
}

func (w *world) guard(p string, change func(*fence.Guard)) {
	w.t.Helper()
	pattern, err := fence.ParsePattern(p)
	require.NoError(w.t, err)
	g := fence.Guard{Pattern: pattern, Writes: fence.Sealed, Tokens: fence.Required, Issuer: fence.Own,
		MaxJump: fence.DefaultMaxJump, State: fence.Active, Created: time.Now()}
	change(&g)
	require.NoError(w.t, state.Run(w.t.Context(), w.state, &state.Tx{GuardList: true, Decide: func(*state.View) (state.Changes, error) {
		return state.Changes{PutGuards: []*fence.Guard{&g}}, nil
	}}))
}

func (w *world) kinds() []events.Kind {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ks []events.Kind
	for _, e := range w.events {
		ks = append(ks, e.Kind)
	}
	return ks
}

func scope(t testing.TB, s string) fence.Scope {
	sc, err := fence.ParseScope(s)
	require.NoError(t, err)
	return sc
}

func (w *world) ask(name string) locks.Request {
	return locks.Request{Scope: scope(w.t, "s3://data/jobs/"), Holder: name, Owner: name + "@host"}
}

func (w *world) acquire(r locks.Request) locks.Lease {
	w.t.Helper()
	l, err := w.locks.Acquire(w.t.Context(), r)
	require.NoError(w.t, err)
	return l
}

type witness func(fence.Mark) error

func (f witness) Stand(_ context.Context, _ fence.Scope, m fence.Mark) error { return f(m) }

// alter changes a guard in the state.
func (w *world) alter(p string, change func(*fence.Guard)) {
	w.t.Helper()
	require.NoError(w.t, state.Run(w.t.Context(), w.state, &state.Tx{GuardList: true, Decide: func(v *state.View) (state.Changes, error) {
		for _, g := range v.GuardList {
			if g.Pattern.String() == p {
				change(&g)
				return state.Changes{PutGuards: []*fence.Guard{&g}}, nil
			}
		}
		return state.Changes{}, errors.New("no such guard")
	}}))
}

// named is a request of ann's under an Idempotency-Key.
func named(key any, parts ...string) *idempotency.Request {
	n := idempotency.New("ann", fmt.Sprint(key), "POST", "/-/v1/locks/acquire")
	for i := 0; i+1 < len(parts); i += 2 {
		n.Part(parts[i], parts[i+1])
	}
	return n
}
