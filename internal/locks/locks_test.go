package locks_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
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

func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	w.guard("s3://open/", func(g *fence.Guard) { g.Tokens = fence.None })
	w.guard("s3://foreign/", func(g *fence.Guard) { g.Issuer = fence.External })
	w.guard("s3://coming/", func(g *fence.Guard) { g.State = fence.Pending })
	at := func(s string) locks.Request { r := w.ask("ann"); r.Scope = scope(t, s); return r }
	with := func(f func(*locks.Request)) locks.Request { r := w.ask("ann"); f(&r); return r }
	for _, tc := range []struct {
		name string
		ask  locks.Request
		want error
		says string
	}{
		{"no scope", with(func(r *locks.Request) { r.Scope = fence.Scope{} }), locks.ErrInvalid, "no scope"},
		{"no guard", at("s3://data/typo/"), locks.ErrNoSuchGuard, "s3fence guard add s3://data/typo/"},
		{"inside a scope", at("s3://data/jobs/nightly/"), locks.ErrScopeOverlap, "inside the scope s3://data/jobs/"},
		{"inside a template's scope", at("s3://data/tenants/a/b/"), locks.ErrScopeOverlap, "s3://data/tenants/a/"},
		{"above a scope", at("s3://data/"), locks.ErrScopeOverlap, "is not a scope itself"},
		{"above a template's", at("s3://data/tenants/"), locks.ErrScopeOverlap, "s3://data/tenants/*/"},
		{"tokens none", at("s3://open/"), locks.ErrNoLocks, "tokens: none"},
		{"external", at("s3://foreign/"), locks.ErrNoLocks, "external issuer"},
		{"pending", at("s3://coming/"), locks.ErrNotActive, "pending"},
		{"short ttl", with(func(r *locks.Request) { r.TTL = time.Millisecond }), locks.ErrInvalid, "ttl"},
		{"long ttl", with(func(r *locks.Request) { r.TTL = 25 * time.Hour }), locks.ErrInvalid, "ttl"},
		{"long wait", with(func(r *locks.Request) { r.Wait = time.Minute }), locks.ErrInvalid, "wait"},
		{"negative wait", with(func(r *locks.Request) { r.Wait = -1 }), locks.ErrInvalid, "wait"},
		{"long owner", with(func(r *locks.Request) { r.Owner = strings.Repeat("x", 257) }), locks.ErrInvalid, "owner"},
		{"unprintable owner", with(func(r *locks.Request) { r.Owner = "a\nb" }), locks.ErrInvalid, "U+000A"},
		{"no holder", with(func(r *locks.Request) { r.Holder = "" }), locks.ErrInvalid, "holder"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := w.locks.Acquire(t.Context(), tc.ask)
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestLifeOfALock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, locks.Options{})
		ann := w.acquire(w.ask("ann"))
		sc := ann.Scope
		assert.Equal(t, fence.Token(1), ann.Mark.Token)
		assert.Equal(t, locks.DefaultTTL, ann.Left)
		assert.True(t, ann.Settled)

		var held *locks.HeldError
		_, err := w.locks.Acquire(t.Context(), w.ask("bob"))
		require.ErrorAs(t, err, &held)
		assert.Equal(t, "ann@host", held.By.Owner)
		_, err = w.locks.Acquire(t.Context(), w.ask("ann"))
		require.ErrorIs(t, err, locks.ErrHeld, "asking again is a grant like any other")

		_, err = w.locks.Renew(t.Context(), sc, 1, "bob", 0)
		require.ErrorIs(t, err, locks.ErrOtherHolder)
		require.ErrorIs(t, w.locks.Release(t.Context(), sc, 1, "bob"), locks.ErrOtherHolder)
		_, err = w.locks.Renew(t.Context(), sc, 2, "ann", 0)
		require.ErrorIs(t, err, locks.ErrNeverGranted)

		time.Sleep(20 * time.Second)
		renewed, err := w.locks.Renew(t.Context(), sc, 1, "ann", time.Minute)
		require.NoError(t, err)
		assert.Equal(t, time.Minute, renewed.Left)

		require.NoError(t, w.locks.Release(t.Context(), sc, 1, "ann"))
		require.NoError(t, w.locks.Release(t.Context(), sc, 1, "ann"), "again is fine")
		_, err = w.locks.Renew(t.Context(), sc, 1, "ann", 0)
		require.ErrorIs(t, err, locks.ErrLost)

		bob := w.acquire(w.ask("bob"))
		assert.Equal(t, fence.Token(2), bob.Mark.Token, "F1: the release kept the mark")
		var lost *locks.LostError
		_, err = w.locks.Renew(t.Context(), sc, 1, "ann", 0)
		require.ErrorAs(t, err, &lost)
		assert.Equal(t, fence.Token(2), lost.Highest)
		require.ErrorIs(t, w.locks.Release(t.Context(), sc, 1, "ann"), locks.ErrLost)
		assert.Equal(t, []events.Kind{events.Granted, events.Renewed, events.Released, events.RenewLost, events.Granted, events.RenewLost}, w.kinds())
	})
}

// A lease ends by the database's clock, even if nobody else has the lock yet.
func TestExpiry(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		skew time.Duration
		lost bool
	}{
		{"inside", locks.DefaultTTL - time.Microsecond, false},
		{"at the end", locks.DefaultTTL, true},
		{"database clock ten minutes ahead", 10 * time.Minute, true},
		{"database clock ten minutes back", -10 * time.Minute, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, locks.Options{})
				l := w.acquire(w.ask("ann"))
				w.skew.Store(int64(tc.skew))
				next, err := w.locks.Acquire(t.Context(), w.ask("bob"))
				if !tc.lost {
					require.ErrorIs(t, err, locks.ErrHeld)
					_, err = w.locks.Renew(t.Context(), l.Scope, l.Mark.Token, "ann", 0)
					require.NoError(t, err)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, l.Mark.Token+1, next.Mark.Token)
				require.NoError(t, w.locks.Release(t.Context(), next.Scope, next.Mark.Token, "bob"))
				_, err = w.locks.Renew(t.Context(), l.Scope, l.Mark.Token, "ann", 0)
				require.ErrorIs(t, err, locks.ErrLost)
			})
		})
	}
}

func TestExpiredAndNotReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	l := w.acquire(w.ask("ann"))
	w.skew.Store(int64(time.Minute))
	_, err := w.locks.Renew(t.Context(), l.Scope, l.Mark.Token, "ann", 0)
	require.ErrorIs(t, err, locks.ErrLost)
	require.ErrorContains(t, err, "its lease ended")
	_, err = w.locks.Check(t.Context(), l.Scope, l.Mark.Token)
	require.NoError(t, err, "the token is the highest still")
	require.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "ann"))
}

func TestWait(t *testing.T) {
	t.Parallel()
	t.Run("for a release here", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, locks.Options{})
			l := w.acquire(w.ask("ann"))
			time.AfterFunc(5*time.Second, func() { _ = w.locks.Release(context.Background(), l.Scope, l.Mark.Token, "ann") })
			r := w.ask("bob")
			r.Wait = 20 * time.Second
			start := time.Now()
			assert.Equal(t, fence.Token(2), w.acquire(r).Mark.Token)
			assert.Equal(t, 5*time.Second, time.Since(start), "woken, not polled")
		})
	})
	t.Run("for a release elsewhere", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, locks.Options{})
			other := w.service(locks.Options{})
			l := w.acquire(w.ask("ann"))
			time.AfterFunc(5*time.Second, func() { _ = other.Release(context.Background(), l.Scope, l.Mark.Token, "ann") })
			r := w.ask("bob")
			r.Wait = 20 * time.Second
			start := time.Now()
			w.acquire(r)
			assert.LessOrEqual(t, time.Since(start), 5*time.Second+250*time.Millisecond)
		})
	})
	t.Run("for the end of a lease", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, locks.Options{})
			w.acquire(w.ask("ann"))
			r := w.ask("bob")
			r.Wait = 40 * time.Second
			start := time.Now()
			w.acquire(r)
			assert.InDelta(t, locks.DefaultTTL, time.Since(start), float64(5*time.Millisecond))
		})
	})
	t.Run("in vain", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, locks.Options{})
			w.acquire(w.ask("ann"))
			var wg sync.WaitGroup
			start := time.Now()
			for i := range 5 {
				wg.Go(func() {
					r := w.ask(fmt.Sprint("w", i))
					r.Wait = 3 * time.Second
					_, err := w.locks.Acquire(t.Context(), r)
					assert.ErrorIs(t, err, locks.ErrHeld)
				})
			}
			synctest.Wait()
			page, _, err := w.locks.List(t.Context(), "s3://data/", "", 10)
			require.NoError(t, err)
			assert.Equal(t, 5, page[0].Line)
			wg.Wait()
			assert.Equal(t, 3*time.Second, time.Since(start))
		})
	})
	t.Run("until the caller goes", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, locks.Options{})
			w.acquire(w.ask("ann"))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r := w.ask("bob")
			r.Wait = 20 * time.Second
			_, err := w.locks.Acquire(ctx, r)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	})
	t.Run("who came first goes first", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, locks.Options{})
			w.acquire(w.ask("ann"))
			var mu sync.Mutex
			var order []int
			var wg sync.WaitGroup
			for i := range 5 {
				wg.Go(func() {
					r := w.ask("w")
					r.Wait = locks.MaxWait
					l, err := w.locks.Acquire(t.Context(), r)
					if assert.NoError(t, err) {
						mu.Lock()
						order = append(order, i)
						mu.Unlock()
						assert.NoError(t, w.locks.Release(t.Context(), l.Scope, l.Mark.Token, "w"))
					}
				})
				synctest.Wait()
			}
			wg.Wait()
			assert.Equal(t, []int{0, 1, 2, 3, 4}, order)
		})
	})
}

// F2, F4: a hundred contenders over several scopes through two processes: never
// two holders, and every token larger than all that the same scope had before.
func TestContention(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	services := []*locks.Service{w.locks, w.service(locks.Options{})}
	scopes := []string{"s3://data/jobs/", "s3://data/tenants/a/", "s3://data/tenants/b/", "s3://data/tenants/c/"}
	inside := make([]atomic.Int32, len(scopes))
	last := make([]fence.Token, len(scopes)) // written by the holder alone: the race detector watches
	var all sync.Map
	var grants atomic.Int32
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			n := i % len(scopes)
			s := services[i/len(scopes)%2]
			holder := fmt.Sprint("k", i)
			for range 3 {
				l, err := s.Acquire(t.Context(), locks.Request{Scope: scope(t, scopes[n]), Holder: holder, Wait: locks.MaxWait})
				if !assert.NoError(t, err) {
					return
				}
				assert.Equal(t, int32(1), inside[n].Add(1), "two holders of %s", scopes[n])
				assert.Greater(t, l.Mark.Token, last[n])
				last[n] = l.Mark.Token
				if _, dup := all.LoadOrStore(l.Mark.Token, scopes[n]); dup {
					t.Errorf("token %d was granted twice", l.Mark.Token)
				}
				grants.Add(1)
				inside[n].Add(-1)
				assert.NoError(t, s.Release(t.Context(), l.Scope, l.Mark.Token, holder))
			}
		})
	}
	wg.Wait()
	assert.Equal(t, int32(300), grants.Load())
}

func TestTake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	l := w.acquire(w.ask("ann"))
	_, err := w.locks.Take(t.Context(), w.ask("ops"), "")
	require.ErrorIs(t, err, locks.ErrInvalid)
	_, err = w.locks.Take(t.Context(), w.ask("ops"), strings.Repeat("x", 1025))
	require.ErrorIs(t, err, locks.ErrInvalid)
	taken, err := w.locks.Take(t.Context(), w.ask("ops"), "ann is on holiday")
	require.NoError(t, err)
	assert.Greater(t, taken.Mark.Token, l.Mark.Token)
	_, err = w.locks.Renew(t.Context(), l.Scope, l.Mark.Token, "ann", 0)
	require.ErrorIs(t, err, locks.ErrLost)
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.events[1]
	assert.Equal(t, events.Takeover, e.Kind)
	assert.Equal(t, "ann@host (ann)", e.Previous)
	assert.Equal(t, "ann is on holiday", e.Reason)
}

func TestRaise(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{}, memory.WithIncarnation(1))
	w.guard("s3://foreign/", func(g *fence.Guard) { g.Issuer = fence.External })
	own, foreign := scope(t, "s3://data/jobs/"), scope(t, "s3://foreign/")
	const first = fence.Token(1<<fence.CounterBits + 1)
	l := w.acquire(w.ask("ann"))
	require.Equal(t, first, l.Mark.Token)

	for _, tc := range []struct {
		name  string
		scope fence.Scope
		to    fence.Token
		want  fence.Token // zero: refused as invalid
	}{
		{"own: from the counter", own, 0, first + 1},
		{"own: not to the mark", own, first + 1, 0},
		{"own: above what an operator brings", own, first + 100, first + 101},
		{"own: beyond 2^53", own, 1 << 53, 0},
		{"own: a later incarnation", own, 2<<fence.CounterBits | 5, 0},
		{"own: the last of the counter", own, 2<<fence.CounterBits - 1, 0},
		{"external: needs a number", foreign, 0, 0},
		{"external: any above", foreign, 1 << 60, 1 << 60},
		{"external: never down", foreign, 5, 0},
		{"negative", own, -1, 0},
	} {
		m, err := w.locks.Raise(t.Context(), tc.scope, tc.to, "ops", "")
		if tc.want == 0 {
			require.ErrorIs(t, err, locks.ErrInvalid, tc.name)
			continue
		}
		require.NoError(t, err, tc.name)
		assert.Equal(t, tc.want, m.Token, tc.name)
	}
	_, err := w.locks.Renew(t.Context(), own, first, "ann", 0)
	require.ErrorIs(t, err, locks.ErrLost, "every lease below is over")
	// F2: the counter is above what was raised.
	assert.Equal(t, first+102, w.acquire(w.ask("bob")).Mark.Token)

	_, err = w.locks.Reset(t.Context(), own, "ops", "why not")
	require.ErrorIs(t, err, locks.ErrInvalid)
	m, err := w.locks.Reset(t.Context(), foreign, "ops", "new lock service")
	require.NoError(t, err)
	assert.Equal(t, fence.Mark{Generation: 2}, m)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	l := w.acquire(w.ask("ann"))
	require.NoError(t, w.locks.Release(t.Context(), l.Scope, 1, "ann"))
	w.acquire(w.ask("bob"))
	for token, want := range map[fence.Token]error{0: locks.ErrInvalid, 1: locks.ErrStale, 2: nil, 3: locks.ErrNeverGranted} {
		_, err := w.locks.Check(t.Context(), l.Scope, token)
		require.ErrorIs(t, err, want, "%d", token)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	for _, s := range []string{"s3://data/tenants/a/", "s3://data/tenants/b/", "s3://data/tenants/c/"} {
		r := w.ask("ann")
		r.Scope = scope(t, s)
		w.acquire(r)
	}
	page, more, err := w.locks.List(t.Context(), "s3://data/tenants/", "", 2)
	require.NoError(t, err)
	assert.True(t, more)
	require.Len(t, page, 2)
	assert.Equal(t, "ann", page[0].Held.Holder)
	page, more, err = w.locks.List(t.Context(), "s3://data/tenants/", page[1].Scope.String(), 2)
	require.NoError(t, err)
	assert.False(t, more)
	assert.Len(t, page, 1)
}

type witness func(fence.Mark) error

func (f witness) Stand(_ context.Context, _ fence.Scope, m fence.Mark) error { return f(m) }

// A grant whose witness does not stand is not answered and not held.
func TestWitness(t *testing.T) {
	t.Parallel()
	boom := errors.New("bucket gone")
	fail := true
	w := newWorld(t, locks.Options{Witness: witness(func(fence.Mark) error {
		if fail {
			return boom
		}
		return nil
	})})
	_, err := w.locks.Acquire(t.Context(), w.ask("ann"))
	require.ErrorIs(t, err, boom)
	require.ErrorIs(t, err, state.ErrUnavailable)
	fail = false
	assert.Equal(t, fence.Token(2), w.acquire(w.ask("bob")).Mark.Token)
}

// Of all tries of one request at most one is granted a lock; and a grant that
// was given back, because its witness did not stand, is not answered later.
func TestRetry(t *testing.T) {
	t.Parallel()
	boom := errors.New("bucket gone")
	fail := true
	w := newWorld(t, locks.Options{Witness: witness(func(fence.Mark) error {
		if fail {
			return boom
		}
		return nil
	})})
	ask := func(id byte) locks.Request {
		r := w.ask("ann")
		r.Retry = &state.RetryID{id}
		r.Wait = time.Millisecond
		return r
	}
	_, err := w.locks.Acquire(t.Context(), ask(1))
	require.ErrorIs(t, err, boom)
	fail = false
	_, err = w.locks.Acquire(t.Context(), ask(1))
	require.ErrorIs(t, err, locks.ErrLost)
	first := w.acquire(ask(2))
	again := w.acquire(ask(2))
	assert.Equal(t, first.Mark, again.Mark)
	_, err = w.locks.Acquire(t.Context(), ask(3))
	require.ErrorIs(t, err, locks.ErrHeld)
	fail = true
	_, err = w.locks.Acquire(t.Context(), ask(2))
	require.ErrorIs(t, err, boom, "what is answered is witnessed")
}

// A lost answer to COMMIT is resolved: the grant is answered if it committed,
// and nothing is granted twice if it did not.
func TestLostCommits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		at   memory.Stage
		want error
	}{
		{"committed", memory.Committed, nil},
		{"not committed", memory.Committing, state.ErrUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var armed atomic.Bool
			w := newWorld(t, locks.Options{}, memory.WithFaults(func(at memory.Stage) error {
				if at == tc.at && armed.CompareAndSwap(true, false) {
					return errors.New("connection reset")
				}
				return nil
			}))
			armed.Store(true)
			l, err := w.locks.Acquire(t.Context(), w.ask("ann"))
			if tc.want == nil {
				require.NoError(t, err)
				_, err = w.locks.Renew(t.Context(), l.Scope, l.Mark.Token, "ann", 0)
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tc.want)
			w.acquire(w.ask("bob"))
		})
	}
}

// A caller that has gone by the time of the grant does not block the next one
// for a whole lease.
func TestCallerGone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	w := newWorld(t, locks.Options{})
	gone := w.service(locks.Options{Witness: witness(func(fence.Mark) error { cancel(); return nil })})
	_, err := gone.Acquire(ctx, w.ask("ann"))
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, fence.Token(2), w.acquire(w.ask("bob")).Mark.Token)
}

// A counter that fell behind the marks grants nothing (F1, F2).
func TestCounterBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, locks.Options{})
	sc := scope(t, "s3://data/jobs/")
	require.NoError(t, state.Run(t.Context(), w.state, &state.Tx{
		Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}},
		Decide: func(v *state.View) (state.Changes, error) {
			row := v.Scope(sc, fence.Sealed)
			row.Mark.Token = 1000
			return state.Changes{Scopes: []state.Scope{row}}, nil
		},
	}))
	_, err := w.locks.Acquire(t.Context(), w.ask("ann"))
	require.ErrorIs(t, err, locks.ErrInvariant)
	assert.Equal(t, []events.Kind{events.Alarm}, w.kinds())
}

// What was looked at without a lock decides nothing: here it changes between the
// look and the transaction.
func TestChangesBetweenLookAndGrant(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		between func(w *world, other *locks.Service)
		want    error
	}{
		{"somebody else is granted the lock", func(w *world, other *locks.Service) {
			_, err := other.Acquire(w.t.Context(), w.ask("bob"))
			require.NoError(w.t, err)
		}, locks.ErrHeld},
		{"the guard is being removed", func(w *world, _ *locks.Service) {
			w.alter("s3://data/jobs/", func(g *fence.Guard) { g.State = fence.Removing })
		}, locks.ErrNotActive},
		{"the guard takes no tokens any more", func(w *world, _ *locks.Service) {
			w.alter("s3://data/jobs/", func(g *fence.Guard) { g.Tokens = fence.None })
		}, locks.ErrNoLocks},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var w *world
			var other *locks.Service
			var looked atomic.Bool
			armed := false
			w = newWorld(t, locks.Options{}, memory.WithFaults(func(at memory.Stage) error {
				if at == memory.Reading && armed {
					looked.Store(true)
				}
				if at == memory.Beginning && looked.CompareAndSwap(true, false) {
					armed = false
					tc.between(w, other)
				}
				return nil
			}))
			other = w.service(locks.Options{})
			armed = true
			_, err := w.locks.Acquire(t.Context(), w.ask("ann"))
			require.ErrorIs(t, err, tc.want)
		})
	}
}

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
