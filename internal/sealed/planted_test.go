package sealed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// Each test of this file defends a rule that could be broken without any test of
// the package noticing, as package mutants showed.

// A write that waits for its scope is judged by the mark that it finds when it has
// the lock, whatever it or its proxy saw before.
func TestWriteThatWaitsIsJudgedByTheNewMark(t *testing.T) { // F4
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, st, g, stop := desk(t, func(g *fence.Guard) { g.Tokens = fence.Required })
		defer c.wg.Wait()
		defer stop()
		sc := parseScope(t, "s3://data/jobs/")
		raise := func(to fence.Token, meanwhile func()) *state.Tx {
			return &state.Tx{Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}}, Decide: func(v *state.View) (state.Changes, error) {
				meanwhile()
				row := v.Scope(sc, fence.Sealed)
				row.Mark.Token = to
				return state.Changes{Scopes: []state.Scope{row}}, nil
			}}
		}
		require.NoError(t, state.Run(t.Context(), st, raise(33, func() {})))
		held, release := make(chan struct{}), make(chan struct{})
		raised := make(chan error, 1)
		go func() {
			raised <- state.Run(context.Background(), st, raise(34, func() { close(held); <-release }))
		}()
		<-held
		late := write(g, sc, "jobs/a")
		late.request.Token = 33
		done := make(chan error, 1)
		go func() { done <- c.do(late) }()
		synctest.Wait() // it waits for the scope
		close(release)
		require.NoError(t, <-raised)
		refusal(t, <-done, fence.Stale)
	})
}

// Of writers whose conditions held when each of them had sent its bytes, and that then
// wait for their scope together, one wins.
func TestConditionalWritersThatMeet(t *testing.T) { // F10
	t.Parallel()
	l := newLab(t)
	l.guard("s3://data/cas/", func(g *fence.Guard) { g.Tokens = fence.None })
	op := l.op("s3://data/cas/", 0)
	first, err := l.put(op, "cas/k", "first")
	require.NoError(t, err)
	for _, cond := range []object.Conditions{{IfMatch: first.ETag}, {IfNoneMatch: "*"}} {
		key := map[bool]string{true: "cas/k", false: "cas/new"}[cond.IfMatch != ""]
		release := hold(t, l.st, &state.Tx{Scopes: []state.ScopeLock{{Scope: op.Scope, Mode: state.Exclusive}}})
		const writers = 8
		done := make(chan error, writers)
		for w := range writers {
			go func() {
				_, err := l.put(op, key, fmt.Sprint(w), func(p *guarded.Put) { p.Conditions = cond })
				done <- err
			}()
		}
		require.Eventually(t, func() bool {
			l.commits.mu.Lock()
			defer l.commits.mu.Unlock()
			return len(l.commits.waiting[op.Scope]) == writers-1 // one of them is being tried
		}, 30*time.Second, time.Millisecond)
		release()
		won := 0
		for range writers {
			if err := <-done; err == nil {
				won++
			} else {
				assert.ErrorIs(t, err, object.ErrPreconditionFailed)
			}
		}
		assert.Equal(t, 1, won, "%+v", cond)
	}
}

// A proxy whose list is old commits nothing by it: the guard's row decides.
func TestGuardIsReadInTheCommit(t *testing.T) { // F9
	t.Parallel()
	l := newLab(t)
	g := l.guard(jobs, func(g *fence.Guard) { g.Tokens = fence.Optional })
	op := l.op(jobs, 0)
	_, err := l.put(op, "jobs/a", "x")
	require.NoError(t, err)
	change := func(ch state.Changes) {
		require.NoError(t, state.Run(t.Context(), l.st, &state.Tx{GuardList: true, Guards: []fence.GuardID{g.ID}, GuardMode: state.Exclusive,
			Decide: func(*state.View) (state.Changes, error) { return ch, nil }}))
	}
	now := *g
	now.Tokens = fence.Required
	change(state.Changes{PutGuards: []*fence.Guard{&now}})
	_, err = l.put(op, "jobs/a", "y")
	refusal(t, err, fence.Missing)
	change(state.Changes{DropGuards: []fence.GuardID{g.ID}})
	_, err = l.put(op, "jobs/a", "z")
	require.ErrorIs(t, err, guarded.ErrGuardGone)
	v, err := l.st.Read(t.Context(), state.Query{Objects: []object.Ref{{Bucket: "data", Key: "jobs/a"}}})
	require.NoError(t, err)
	assert.EqualValues(t, 1, v.Objects[object.Ref{Bucket: "data", Key: "jobs/a"}].Size)
}

// onComplete is a lab whose store, asked to complete an upload, does what act says.
func onComplete(t *testing.T, act func(w http.ResponseWriter, r *http.Request, next http.Handler)) *lab {
	return odd(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && r.URL.Query().Has("uploadId") {
				act(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
}

// upload begins an upload with one part.
func (l *lab) upload(op guarded.Op, key string) *guarded.Complete {
	l.t.Helper()
	ref := object.Ref{Bucket: op.Scope.Bucket(), Key: key}
	id, err := l.CreateUpload(l.t.Context(), &guarded.CreateUpload{Op: op, Ref: ref})
	require.NoError(l.t, err)
	u := guarded.UploadRef{Op: op, Ref: ref, ID: id}
	part, err := l.UploadPart(l.t.Context(), &guarded.Part{UploadRef: u, Number: 1, Body: strings.NewReader("part"), Size: 4})
	require.NoError(l.t, err)
	return &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{part}}
}

// An upload that is aborted between the store's Complete and the commit makes no
// object: from the abort on the collector may take its name.
func TestCompleteOfAnUploadThatEnds(t *testing.T) { // F6, F7
	t.Parallel()
	var l *lab
	var c *guarded.Complete
	var aborted error
	l = onComplete(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(w, r)
		u := c.UploadRef
		aborted = l.Abort(r.Context(), &u)
	})
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	c = l.upload(op, "jobs/a")
	_, err := l.Complete(t.Context(), c)
	require.NoError(t, aborted)
	require.ErrorIs(t, err, object.ErrNoSuchUpload)
	_, err = l.get(op, "jobs/a")
	require.ErrorIs(t, err, object.ErrNoSuchKey)
}

// A store that answers a Complete with 200 and does nothing has no object, and none
// is committed.
func TestStoreThatCompletesNothing(t *testing.T) { // F6, F7
	t.Parallel()
	l := onComplete(t, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		fmt.Fprint(w, `<CompleteMultipartUploadResult><Bucket>data</Bucket><Key>k</Key><ETag>"0123456789abcdef0123456789abcdef-1"</ETag></CompleteMultipartUploadResult>`)
	})
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	_, err := l.Complete(t.Context(), l.upload(op, "jobs/a"))
	require.ErrorIs(t, err, guarded.ErrStore)
	_, err = l.get(op, "jobs/a")
	require.ErrorIs(t, err, object.ErrNoSuchKey)
}

// A raise that did not commit makes nobody stale: what is remembered of it would
// refuse, for as long as this proxy lives, a holder that nobody has replaced.
func TestNothingIsLearntFromWhatDidNotCommit(t *testing.T) { // F7
	t.Parallel()
	var lose atomic.Bool
	l := newLab(t, memory.WithFaults(func(at memory.Stage) error {
		if at == memory.Committing && lose.CompareAndSwap(true, false) {
			return state.ErrUnknown
		}
		return nil
	}))
	l.guard(jobs, func(g *fence.Guard) { g.Issuer = fence.External })
	old, next := l.op(jobs, 33), l.op(jobs, 34)
	_, err := l.put(old, "jobs/a", "33")
	require.NoError(t, err)
	lose.Store(true)
	_, err = l.put(next, "jobs/a", "34")
	require.ErrorIs(t, err, state.ErrDecided)
	assert.Nil(t, l.KnownStale(&old))
	_, err = l.put(old, "jobs/a", "33 again")
	require.NoError(t, err)
}

// A batch of which nobody can tell whether it was committed is not run again: it
// may still be, after whatever its operations were told.
func TestBatchOfUnknownOutcomeIsNotRunAgain(t *testing.T) { // F4, F7
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var late atomic.Bool
		st := memory.New(memory.WithFaults(func(at memory.Stage) error {
			switch {
			case !late.Load():
				return nil
			case at == memory.Committing:
				return memory.ErrLate
			case at == memory.Resolving:
				return errors.New("no route")
			}
			return nil
		}))
		p, err := fence.ParsePattern("s3://data/*/")
		require.NoError(t, err)
		g := &fence.Guard{Pattern: p, Writes: fence.Sealed, Tokens: fence.None, Issuer: fence.Own, MaxJump: 1, State: fence.Active}
		require.NoError(t, state.Run(t.Context(), st, &state.Tx{GuardList: true, Decide: func(*state.View) (state.Changes, error) {
			return state.Changes{PutGuards: []*fence.Guard{g}}, nil
		}}))
		run, stop := context.WithCancel(context.Background())
		c := newCommitter(run, st, newRecall(), nil)
		defer c.wg.Wait()
		defer stop()
		sc := parseScope(t, "s3://data/jobs/")
		require.NoError(t, c.do(write(g, sc, "jobs/first")))
		var batch []*operation
		runs := 0
		for i := range 3 {
			op := write(g, sc, fmt.Sprintf("jobs/%d", i))
			op.done = make(chan struct{})
			op.apply = func(_ *state.View, _ *state.Scope, ch *state.Changes) error {
				runs++
				id := state.NewID()
				ch.PutObjects = append(ch.PutObjects, state.Object{Info: object.Info{Ref: op.key}, Scope: sc, Attempt: id, Physical: id.String()})
				return nil
			}
			batch = append(batch, op)
		}
		late.Store(true)
		c.commit(batch, true)
		late.Store(false)
		require.Equal(t, 1, st.Deliver(), "it took effect after all")
		for _, op := range batch {
			<-op.done
			require.ErrorIs(t, op.err, state.ErrUnknown)
		}
		assert.Equal(t, len(batch), runs)
	})
}

// gated is a Transactor whose reads have their answer and wait before they give it.
type gated struct {
	state.Transactor
	read, gate chan struct{}
}

func (g *gated) Read(ctx context.Context, q state.Query) (*state.View, error) {
	v, err := g.Transactor.Read(ctx, q)
	g.read <- struct{}{}
	<-g.gate
	return v, err
}

// A request is not answered by a read that began before it came, even if it comes
// while that read is under way.
func TestReadBeginsAfterItsRequestCame(t *testing.T) { // F5, F6
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		sc := parseScope(t, "s3://data/jobs/")
		raise := func(to fence.Token) {
			require.NoError(t, state.Run(t.Context(), st, &state.Tx{Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}},
				Decide: func(v *state.View) (state.Changes, error) {
					row := v.Scope(sc, fence.Sealed)
					row.Mark.Token = to
					return state.Changes{Scopes: []state.Scope{row}}, nil
				}}))
		}
		raise(33)
		run, stop := context.WithCancel(context.Background())
		g := &gated{st, make(chan struct{}, readers+1), make(chan struct{})}
		r := newReader(run, g, newRecall(), nil)
		defer r.wg.Wait()
		defer stop()
		ask := func() <-chan fence.Token {
			seen := make(chan fence.Token, 1)
			go func() {
				v, err := r.read(context.Background(), state.Query{Scopes: []fence.Scope{sc}})
				if assert.NoError(t, err) {
					seen <- v.Scopes[sc].Mark.Token
				}
				close(seen)
			}()
			synctest.Wait()
			return seen
		}
		var early []<-chan fence.Token
		for range readers {
			early = append(early, ask())
			<-g.read
		}
		raise(34)
		late := ask()
		close(g.gate)
		assert.Equal(t, fence.Token(34), <-late)
		for _, e := range early {
			assert.Equal(t, fence.Token(33), <-e)
		}
	})
}

// Bytes that the store has lost are an alarm, not an object that never was.
func TestBytesThatAreLost(t *testing.T) { // F6, F7
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	_, err := l.put(op, "jobs/a", "x")
	require.NoError(t, err)
	require.NoError(t, l.client.DeleteObject(t.Context(), "data", l.physical()[0]))
	_, err = l.get(op, "jobs/a")
	require.ErrorIs(t, err, guarded.ErrLostBytes)
}

// Whoever names another generation than the one that is remembered is not known to
// be stale: the scope may have been reset since, and its numbers have begun anew.
func TestKnownStaleOfAnotherGeneration(t *testing.T) { // F7, F8
	t.Parallel()
	l := newLab(t)
	l.guard(jobs, func(g *fence.Guard) { g.Issuer = fence.External })
	op := l.op(jobs, 5)
	row := state.NewScope(op.Scope, fence.Sealed)
	row.Mark.Token = 34
	l.known.learn(time.Now(), row)
	require.NotNil(t, l.KnownStale(&op))
	op.Request.Generation = 2
	assert.Nil(t, l.KnownStale(&op))
}

// Nothing is taken in for an attempt to add a guard that another one has taken over:
// what it copied may have been written since.
func TestAdoptForAnAttemptThatIsOver(t *testing.T) { // F6
	t.Parallel()
	l := newLab(t)
	require.NoError(t, l.plain("jobs/a"))
	g := l.guard(jobs, func(g *fence.Guard) { g.State, g.Created = fence.Pending, l.clock.Now().Truncate(time.Millisecond) })
	over := *g
	over.Created = g.Created.Add(-time.Millisecond)
	_, err := l.Adopt(t.Context(), over, nil)
	require.ErrorIs(t, err, guarded.ErrGuardGone)
	n, err := l.Adopt(t.Context(), *g, nil)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
}
