package sealed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// counted is a Transactor that says how many transactions run at the same time.
type counted struct {
	state.Transactor
	running, most atomic.Int64
	takes         time.Duration
}

func (c *counted) Transact(ctx context.Context, tx *state.Tx) error {
	if len(tx.Scopes) > 0 && tx.Scopes[0].Mode == state.Exclusive {
		n := c.running.Add(1)
		defer c.running.Add(-1)
		for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
		}
	}
	if c.takes > 0 {
		time.Sleep(c.takes)
	}
	return c.Transactor.Transact(ctx, tx)
}

// hold takes a lock and keeps it until the returned function is called.
func hold(t *testing.T, st state.Transactor, tx *state.Tx) (release func()) {
	t.Helper()
	held, free, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	tx.ID = uuid.New()
	tx.Decide = func(*state.View) (state.Changes, error) {
		close(held)
		<-free
		return state.Changes{}, errors.New("never mind")
	}
	go func() {
		defer close(done)
		_ = st.Transact(context.Background(), tx)
	}()
	<-held
	return sync.OnceFunc(func() { close(free); <-done })
}

func parseScope(t *testing.T, s string) fence.Scope {
	t.Helper()
	sc, err := fence.ParseScope(s)
	require.NoError(t, err)
	return sc
}

// desk is a committer on a state in memory with one guard over every scope of
// the bucket data.
func desk(t *testing.T, set ...func(*fence.Guard)) (*committer, *counted, *fence.Guard, context.CancelFunc) {
	t.Helper()
	st := &counted{Transactor: memory.New()}
	p, err := fence.ParsePattern("s3://data/*/")
	require.NoError(t, err)
	g := &fence.Guard{Pattern: p, Writes: fence.Sealed, Tokens: fence.None, Issuer: fence.Own, MaxJump: 1 << 40, State: fence.Active}
	for _, f := range set {
		f(g)
	}
	require.NoError(t, state.Run(t.Context(), st, &state.Tx{GuardList: true, Decide: func(*state.View) (state.Changes, error) {
		return state.Changes{PutGuards: []*fence.Guard{g}}, nil
	}}))
	run, stop := context.WithCancel(context.Background())
	return newCommitter(run, st, newRecall(), nil), st, g, stop
}

func write(g *fence.Guard, sc fence.Scope, key string) *operation {
	return &operation{guard: g, scope: sc, key: object.Ref{Bucket: sc.Bucket(), Key: key}, request: fence.Request{Access: fence.Write},
		apply: func(*state.View, *state.Scope, *state.Changes) error { return nil }}
}

// A scope that somebody holds delays its own writers, and each of them for a
// bounded time, not for a lock's wait for each one in the queue.
func TestReviewHeldScopeIsWaitedForOnce(t *testing.T) { // F7
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, st, g, stop := desk(t)
		defer stop()
		sc := parseScope(t, "s3://data/held/")
		require.NoError(t, c.do(write(g, sc, "held/first")))
		release := hold(t, st, &state.Tx{Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}}})
		defer release()
		var ops []*operation
		for i := range 300 {
			ops = append(ops, write(g, sc, fmt.Sprintf("held/%d", i)))
		}
		start := time.Now()
		c.doAll(ops)
		assert.Less(t, time.Since(start), 30*time.Second)
		for _, o := range ops {
			require.ErrorIs(t, o.err, state.ErrBusy)
		}
		release()
		stop()
		c.wg.Wait()
	})
}

// One key that somebody holds fails its own writer and nobody else's.
func TestReviewHeldKeyFailsItselfOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, st, g, stop := desk(t)
		defer stop()
		sc := parseScope(t, "s3://data/jobs/")
		require.NoError(t, c.do(write(g, sc, "jobs/first")))
		release := hold(t, st, &state.Tx{Keys: []object.Ref{{Bucket: "data", Key: "jobs/0"}}})
		defer release()
		var ops []*operation
		for i := range 100 {
			ops = append(ops, write(g, sc, fmt.Sprintf("jobs/%d", i)))
		}
		start := time.Now()
		c.doAll(ops)
		assert.Less(t, time.Since(start), 10*time.Second)
		for i, o := range ops {
			if i == 0 {
				require.ErrorIs(t, o.err, state.ErrBusy)
			} else {
				require.NoError(t, o.err, i)
			}
		}
		release()
		stop()
		c.wg.Wait()
	})
}

// A scope that was held once must not keep its waiter's place for as long as
// it is busy: others that are held would be refused for want of one.
func TestReviewWaitersLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, st, g, stop := desk(t)
		defer stop()
		st.takes = time.Millisecond
		var wg sync.WaitGroup
		var over atomic.Bool
		var releases []func()
		for i := range maxWaiting {
			sc := parseScope(t, fmt.Sprintf("s3://data/hot%d/", i))
			require.NoError(t, c.do(write(g, sc, fmt.Sprintf("hot%d/first", i))))
			releases = append(releases, hold(t, st, &state.Tx{Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}}}))
			for w := range 32 {
				wg.Go(func() {
					time.Sleep(time.Duration(w) * 100 * time.Microsecond)
					for !over.Load() {
						if err := c.do(write(g, sc, fmt.Sprintf("hot%d/%d", i, w))); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
		}
		cold := parseScope(t, "s3://data/cold/")
		require.NoError(t, c.do(write(g, cold, "cold/first")))
		time.Sleep(time.Second)
		for _, r := range releases {
			r()
		}
		time.Sleep(time.Second)
		release := hold(t, st, &state.Tx{Scopes: []state.ScopeLock{{Scope: cold, Mode: state.Exclusive}}})
		go func() { time.Sleep(lockWait / 2); release() }()
		assert.NoError(t, c.do(write(g, cold, "cold/a")))
		over.Store(true)
		wg.Wait()
		stop()
		c.wg.Wait()
	})
}

// Many writers that need the exclusive lock at once, as at the first use of a
// scope or of a new external token, take one connection of the state, not one
// each.
func TestReviewRaisersOfOneScopeQueue(t *testing.T) {
	t.Parallel()
	for _, external := range []bool{false, true} {
		t.Run(fmt.Sprint(external), func(t *testing.T) {
			t.Parallel()
			c, st, g, stop := desk(t, func(g *fence.Guard) {
				if external {
					g.Tokens, g.Issuer = fence.Required, fence.External
				}
			})
			defer stop()
			sc := parseScope(t, "s3://data/new/")
			release := hold(t, st, &state.Tx{Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Shared}}})
			st.most.Store(0)
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() {
					op := write(g, sc, fmt.Sprintf("new/%d", i))
					if external {
						op.request = fence.Request{Access: fence.Write, Token: 7, Named: true, MayRaise: true}
						op.exclusive = true
					}
					assert.NoError(t, c.do(op))
				})
			}
			time.AfterFunc(200*time.Millisecond, release)
			wg.Wait()
			assert.LessOrEqual(t, st.most.Load(), int64(1))
			stop()
			c.wg.Wait()
		})
	}
}

// After Close nothing begins, and Close waits for raises too.
func TestReviewNothingBeginsAfterClose(t *testing.T) {
	t.Parallel()
	c, _, g, stop := desk(t)
	stop()
	c.wg.Wait()
	op := write(g, parseScope(t, "s3://data/late/"), "late/a")
	op.exclusive = true
	require.ErrorIs(t, c.do(op), state.ErrUnavailable)
}
