package guards_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

func newAdmin(s *memory.Store, a guards.Adopter) *guards.Admin {
	return guards.NewAdmin(s, a, lease, guards.AdminOptions{})
}

func TestAddRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	s := memory.New()
	a := newAdmin(s, newShop(s))
	_, err := a.Add(t.Context(), guard(t, "s3://data/tenants/*/"))
	require.NoError(t, err)
	with := func(p string, change func(*fence.Guard)) fence.Guard {
		g := guard(t, p)
		change(&g)
		return g
	}
	for _, tc := range []struct {
		name  string
		guard fence.Guard
		want  error
		says  string
	}{
		{"no pattern", fence.Guard{}, guards.ErrInvalid, "no pattern"},
		{"in place", with("s3://b-b/", func(g *fence.Guard) { g.Writes = fence.InPlace }), guards.ErrNotBuilt, "use writes: sealed"},
		{"unknown writes", with("s3://b-b/", func(g *fence.Guard) { g.Writes = "x" }), guards.ErrInvalid, "writes"},
		{"unknown tokens", with("s3://b-b/", func(g *fence.Guard) { g.Tokens = "x" }), guards.ErrInvalid, "tokens"},
		{"unknown issuer", with("s3://b-b/", func(g *fence.Guard) { g.Issuer = "x" }), guards.ErrInvalid, "issuer"},
		{"negative jump", with("s3://b-b/", func(g *fence.Guard) { g.MaxJump = -1 }), guards.ErrInvalid, "max_jump"},
		{"negative delay", with("s3://b-b/", func(g *fence.Guard) { g.LockDelay = -1 }), guards.ErrInvalid, "lock_delay"},
		{"endless delay", with("s3://b-b/", func(g *fence.Guard) { g.LockDelay = time.Hour + 1 }), guards.ErrInvalid, "from 0s to 1h0m0s"},
		{"delay without locks", with("s3://b-b/", func(g *fence.Guard) { g.LockDelay, g.Tokens = 1, fence.None }), guards.ErrInvalid, "no locks are granted there"},
		{"delay of other issuers", with("s3://b-b/", func(g *fence.Guard) { g.LockDelay, g.Issuer = 1, fence.External }), guards.ErrInvalid, "issuer external"},
		{"parent", guard(t, "s3://data/"), guards.ErrOverlap, "s3://data/tenants/*/"},
		{"child", guard(t, "s3://data/tenants/a/b/"), guards.ErrOverlap, "s3://data/tenants/*/"},
		{"one of the template", guard(t, "s3://data/tenants/a/"), guards.ErrOverlap, "s3://data/tenants/*/"},
		{"crossing template", guard(t, "s3://data/*/x/"), guards.ErrOverlap, "s3://data/*/x/"},
		{"another rule", with("s3://data/tenants/*/", func(g *fence.Guard) { g.Tokens = fence.None }), guards.ErrDiffers, "tokens=none"},
		{"another jump", with("s3://data/tenants/*/", func(g *fence.Guard) { g.MaxJump = 5 }), guards.ErrDiffers, "max_jump=5"},
		{"another delay", with("s3://data/tenants/*/", func(g *fence.Guard) { g.LockDelay = 15 * time.Second }), guards.ErrDiffers, "lock_delay=15s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := a.Add(t.Context(), tc.guard)
			require.ErrorIs(t, err, tc.want)
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestAddSetListRemove(t *testing.T) {
	t.Parallel()
	s := memory.New()
	a := newAdmin(s, newShop(s))
	g, err := a.Add(t.Context(), guard(t, "s3://data/jobs/"))
	require.NoError(t, err)
	assert.Equal(t, fence.Active, g.State)
	assert.NotZero(t, g.ID)
	assert.Equal(t, "writes=sealed tokens=required issuer=s3fence", g.Rule())

	again, err := a.Add(t.Context(), guard(t, "s3://data/jobs/"))
	require.NoError(t, err)
	assert.Equal(t, g, again, "the same rule again does nothing")

	optional, external, jump, zero := fence.Optional, fence.External, int64(7), int64(0)
	_, err = a.Set(t.Context(), g.Pattern, guards.Change{Issuer: &external})
	require.ErrorIs(t, err, guards.ErrFixed)
	inPlace := fence.InPlace
	_, err = a.Set(t.Context(), g.Pattern, guards.Change{Writes: &inPlace})
	require.ErrorIs(t, err, guards.ErrFixed)
	_, err = a.Set(t.Context(), g.Pattern, guards.Change{MaxJump: &zero})
	require.ErrorIs(t, err, guards.ErrInvalid)
	_, err = a.Set(t.Context(), pattern(t, "s3://data/x/"), guards.Change{})
	require.ErrorIs(t, err, guards.ErrNoSuchGuard)
	delay := 15 * time.Second
	set, err := a.Set(t.Context(), g.Pattern, guards.Change{Tokens: &optional, MaxJump: &jump, LockDelay: &delay})
	require.NoError(t, err)
	assert.Equal(t, g.ID, set.ID)

	list, err := a.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, fence.Optional, list[0].Tokens)
	assert.Equal(t, int64(7), list[0].MaxJump)
	assert.Equal(t, delay, list[0].LockDelay)
	assert.Equal(t, "writes=sealed tokens=optional issuer=s3fence lock_delay=15s", list[0].Rule())
	none := fence.None
	_, err = a.Set(t.Context(), g.Pattern, guards.Change{Tokens: &none})
	require.ErrorIs(t, err, guards.ErrInvalid, "the delay would do nothing")
	off := time.Duration(0)
	set, err = a.Set(t.Context(), g.Pattern, guards.Change{LockDelay: &off})
	require.NoError(t, err)
	assert.Zero(t, set.LockDelay)

	require.NoError(t, a.Remove(t.Context(), g.Pattern))
	require.ErrorIs(t, a.Remove(t.Context(), g.Pattern), guards.ErrNoSuchGuard)
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	s := memory.New()
	a := newAdmin(s, newShop(s))
	require.NoError(t, a.Ensure(t.Context(), []fence.Guard{guard(t, "s3://data/a/"), guard(t, "s3://data/b/")}))
	require.NoError(t, a.Ensure(t.Context(), []fence.Guard{guard(t, "s3://data/b/")}))
	other := guard(t, "s3://data/b/")
	other.Tokens = fence.None
	err := a.Ensure(t.Context(), []fence.Guard{guard(t, "s3://data/c/"), other})
	require.ErrorIs(t, err, guards.ErrDiffers)
	require.ErrorContains(t, err, "tokens=none")
	require.ErrorContains(t, err, "tokens=required")
	list, err := a.List(t.Context())
	require.NoError(t, err)
	assert.Len(t, list, 2, "nothing was added next to the contradiction")
}

func TestAddAdoptsWhatExists(t *testing.T) {
	t.Parallel()
	s := memory.New()
	sh := newShop(s)
	sh.put("data", "jobs/a", "1")
	sh.put("data", "jobs/b", "2")
	sh.put("data", "other", "3")
	_, err := newAdmin(s, sh).Add(t.Context(), guard(t, "s3://data/jobs/"))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"jobs/a": "1", "jobs/b": "2"}, sealed(t, s, "data"))
}

func TestAddWithdrawsWhenAdoptionFails(t *testing.T) {
	t.Parallel()
	s := memory.New()
	sh := newShop(s)
	sh.put("data", "jobs/a", "1")
	sh.fail = errors.New("10,001 objects are more than 10,000")
	a := newAdmin(s, sh)
	_, err := a.Add(t.Context(), guard(t, "s3://data/jobs/"))
	require.ErrorIs(t, err, sh.fail)
	require.ErrorIs(t, err, guards.ErrNotTaken)
	require.ErrorContains(t, err, "was not added")
	list, err := a.List(t.Context())
	require.NoError(t, err)
	assert.Empty(t, list)
	assert.Empty(t, sealed(t, s, "data"), "the copies are not left to come back with the next guard")
}

// A process died within Add: another one takes the work over, and what the
// first had copied but was deleted since does not come back.
func TestAddResumes(t *testing.T) {
	t.Parallel()
	s := memory.New()
	sh := newShop(s)
	sh.put("data", "jobs/a", "1")
	sh.put("data", "jobs/gone", "1")
	ctx, die := context.WithCancel(t.Context())
	dying := *newShop(s)
	dying.plain, dying.fail = sh.plain, errors.New("killed")
	sh.before, dying.before = nil, nil
	first := guards.NewAdmin(s, &dying, lease, guards.AdminOptions{Progress: func(_ fence.Guard, step string) {
		if step == "2 objects taken in" {
			die()
		}
	}})
	_, err := first.Add(ctx, guard(t, "s3://data/jobs/"))
	require.Error(t, err)
	a := newAdmin(s, sh)
	list, err := a.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, fence.Pending, list[0].State)
	require.Len(t, sealed(t, s, "data"), 2)

	other := guard(t, "s3://data/jobs/")
	other.Tokens = fence.None
	_, err = a.Add(t.Context(), other)
	require.ErrorIs(t, err, guards.ErrDiffers)

	sh.drop("data", "jobs/gone")
	g, err := a.Add(t.Context(), guard(t, "s3://data/jobs/"))
	require.NoError(t, err)
	assert.Equal(t, list[0].ID, g.ID)
	assert.Equal(t, map[string]string{"jobs/a": "1"}, sealed(t, s, "data"))
}

func TestRemovePending(t *testing.T) {
	t.Parallel()
	s := memory.New()
	sh := newShop(s)
	sh.put("data", "jobs/a", "1")
	ctx, die := context.WithCancel(t.Context())
	sh.before = func(context.Context, fence.Guard) { die() }
	a := newAdmin(s, sh)
	_, err := a.Add(ctx, guard(t, "s3://data/jobs/"))
	require.Error(t, err)
	require.NoError(t, a.Remove(t.Context(), pattern(t, "s3://data/jobs/")))
	list, err := a.List(t.Context())
	require.NoError(t, err)
	assert.Empty(t, list)
}

// Two proxies start with one configuration: one of them does the work, both
// succeed, and neither adopts behind the other's back.
func TestAddFromTwoProxies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		slow, quick := newShop(s), newShop(s)
		slow.put("data", "jobs/a", "1")
		quick.plain = slow.plain
		adopting, goOn := make(chan struct{}), make(chan struct{})
		slow.before = func(context.Context, fence.Guard) { close(adopting); <-goOn }
		type answer struct {
			g   fence.Guard
			err error
		}
		answers := make(chan answer)
		go func() {
			g, err := newAdmin(s, slow).Add(t.Context(), guard(t, "s3://data/jobs/"))
			answers <- answer{g, err}
		}()
		<-adopting
		g, err := newAdmin(s, quick).Add(t.Context(), guard(t, "s3://data/jobs/"))
		require.NoError(t, err)
		// The object is deleted under the active guard; the slow one must not bring
		// it back.
		ref := object.Ref{Bucket: "data", Key: "jobs/a"}
		require.NoError(t, state.Run(t.Context(), s, &state.Tx{Keys: []object.Ref{ref}, Decide: func(*state.View) (state.Changes, error) {
			return state.Changes{DropObjects: []object.Ref{ref}}, nil
		}}))
		close(goOn)
		got := <-answers
		require.NoError(t, got.err)
		assert.Equal(t, g, got.g)
		assert.Empty(t, sealed(t, s, "data"))
	})
}

// Whose work was taken over does not activate what the other is still adopting.
func TestTakenOverDoesNotActivate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		type adder struct {
			shop           *shop
			adopting, goOn chan struct{}
			done           chan error
		}
		start := func() *adder {
			a := &adder{newShop(s), make(chan struct{}), make(chan struct{}), make(chan error, 1)}
			a.shop.before = func(context.Context, fence.Guard) { close(a.adopting); <-a.goOn }
			go func() {
				_, err := newAdmin(s, a.shop).Add(t.Context(), guard(t, "s3://data/jobs/"))
				a.done <- err
			}()
			<-a.adopting
			return a
		}
		first := start()
		second := start()
		close(first.goOn)
		time.Sleep(10 * time.Second)
		list, err := newAdmin(s, first.shop).List(t.Context())
		require.NoError(t, err)
		assert.Equal(t, fence.Pending, list[0].State)
		close(second.goOn)
		require.NoError(t, <-second.done)
		require.NoError(t, <-first.done)
	})
}

func TestAddOnARemovedPendingGuardEnds(t *testing.T) {
	t.Parallel()
	s := memory.New()
	sh := newShop(s)
	sh.put("data", "jobs/a", "1")
	sh.before = func(ctx context.Context, g fence.Guard) {
		require.NoError(t, newAdmin(s, newShop(s)).Remove(ctx, g.Pattern))
	}
	_, err := newAdmin(s, sh).Add(t.Context(), guard(t, "s3://data/jobs/"))
	require.ErrorIs(t, err, guards.ErrChanging)
}

func TestRemoveIsRefusedWhileObjectsStand(t *testing.T) {
	t.Parallel()
	s := memory.New()
	sh := newShop(s)
	sh.put("data", "jobs/x/a", "1")
	sh.put("data", "jobs/plain", "1") // in no scope of the template
	a := newAdmin(s, sh)
	_, err := a.Add(t.Context(), guard(t, "s3://data/jobs/*/"))
	require.NoError(t, err)

	var holds *guards.HoldsObjectsError
	err = a.Remove(t.Context(), pattern(t, "s3://data/jobs/*/"))
	require.ErrorAs(t, err, &holds)
	assert.Equal(t, "jobs/x/a", holds.Object.Key)
	assert.False(t, holds.Plain)

	ref := holds.Object
	require.NoError(t, state.Run(t.Context(), s, &state.Tx{Keys: []object.Ref{ref}, Decide: func(*state.View) (state.Changes, error) {
		return state.Changes{DropObjects: []object.Ref{ref}}, nil
	}}))
	err = a.Remove(t.Context(), pattern(t, "s3://data/jobs/*/"))
	require.ErrorAs(t, err, &holds)
	assert.True(t, holds.Plain, "the adopted plain key would come back to life")
	list, err := a.List(t.Context())
	require.NoError(t, err)
	assert.Equal(t, fence.Active, list[0].State)

	sh.drop("data", "jobs/x/a")
	require.NoError(t, a.Remove(t.Context(), pattern(t, "s3://data/jobs/*/")))
}

// hiding shows objects from the second look on: they were committed between it
// and the moment at which the guard stopped taking writes.
type hiding struct {
	*memory.Store
	looks int
}

func (h *hiding) ListObjects(ctx context.Context, r state.Range, limit int) ([]state.Object, error) {
	if h.looks++; h.looks == 1 {
		return nil, nil
	}
	return h.Store.ListObjects(ctx, r, limit)
}

// F6: what was written between the first look and the stop is not lost.
func TestRemoveLooksAgainAfterTheStop(t *testing.T) {
	t.Parallel()
	s := memory.New()
	sh := newShop(s)
	sh.put("data", "jobs/a", "1")
	_, err := newAdmin(s, sh).Add(t.Context(), guard(t, "s3://data/jobs/"))
	require.NoError(t, err)
	sh.drop("data", "jobs/a")
	a := guards.NewAdmin(&hiding{Store: s}, sh, lease, guards.AdminOptions{})
	require.ErrorIs(t, a.Remove(t.Context(), pattern(t, "s3://data/jobs/")), guards.ErrHoldsObjects)
	list, err := a.List(t.Context())
	require.NoError(t, err)
	assert.Equal(t, fence.Active, list[0].State, "it takes writes again")
}

func TestRemoveEndsUploads(t *testing.T) {
	t.Parallel()
	s := memory.New()
	a := newAdmin(s, newShop(s))
	g, err := a.Add(t.Context(), guard(t, "s3://data/jobs/"))
	require.NoError(t, err)
	scope, _ := g.Pattern.Single()
	ref := object.Ref{Bucket: "data", Key: "jobs/big"}
	require.NoError(t, state.Run(t.Context(), s, &state.Tx{
		Scopes: []state.ScopeLock{{Scope: scope, Mode: state.Shared}}, Keys: []object.Ref{ref},
		Decide: func(v *state.View) (state.Changes, error) {
			return state.Changes{PutUploads: []state.Upload{
				{ID: "u1", Ref: ref, Scope: scope, Attempt: uuid.New(), Initiated: v.Now},
				{ID: "u2", Ref: ref, Scope: scope, Attempt: uuid.New(), Initiated: v.Now},
			}}, nil
		},
	}))
	require.NoError(t, a.Remove(t.Context(), g.Pattern))
	left, err := s.ListUploads(t.Context(), state.Range{Bucket: "data"}, "", 10)
	require.NoError(t, err)
	assert.Empty(t, left)
}

// F2: the counter goes on above every mark under a new guard.
func TestActivationLiftsTheCounter(t *testing.T) {
	t.Parallel()
	mark := func(t *testing.T, s *memory.Store, name string, token fence.Token) {
		scope, err := fence.ParseScope(name)
		require.NoError(t, err)
		require.NoError(t, state.Run(t.Context(), s, &state.Tx{
			Scopes: []state.ScopeLock{{Scope: scope, Mode: state.Exclusive}},
			Decide: func(v *state.View) (state.Changes, error) {
				row := v.Scope(scope, fence.Sealed)
				row.Mark.Token = token
				return state.Changes{Scopes: []state.Scope{row}}, nil
			},
		}))
	}
	for _, tc := range []struct {
		name        string
		incarnation int64
		marks       map[string]fence.Token
		issuer      fence.Issuer
		want        fence.Token // the next drawn; zero: refused
	}{
		{"no marks", 0, nil, fence.Own, 1},
		{"above the highest", 0, map[string]fence.Token{"s3://data/t/a/": 7, "s3://data/t/b/": 900, "s3://data/other/": 5000}, fence.Own, 901},
		{"older incarnation", 2, map[string]fence.Token{"s3://data/t/a/": 7}, fence.Own, 2<<fence.CounterBits | 1},
		{"beyond 2^53", 0, map[string]fence.Token{"s3://data/t/a/": 1 << 53}, fence.Own, 0},
		{"later incarnation", 1, map[string]fence.Token{"s3://data/t/a/": 2<<fence.CounterBits | 1}, fence.Own, 0},
		{"so far that other scopes would run out", 0, map[string]fence.Token{"s3://data/t/a/": 1<<(fence.CounterBits-1) + 1}, fence.Own, 0},
		{"the last of an older incarnation", 1, map[string]fence.Token{"s3://data/t/a/": 1<<fence.CounterBits - 1}, fence.Own, 1<<fence.CounterBits | 1},
		{"the last of the counter", 0, map[string]fence.Token{"s3://data/t/a/": 1<<fence.CounterBits - 1}, fence.Own, 0},
		{"an external issuer does not care", 0, map[string]fence.Token{"s3://data/t/a/": 1 << 60}, fence.External, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := memory.New(memory.WithIncarnation(tc.incarnation))
			for name, token := range tc.marks {
				mark(t, s, name, token)
			}
			g := guard(t, "s3://data/t/*/")
			g.Issuer = tc.issuer
			a := newAdmin(s, newShop(s))
			_, err := a.Add(t.Context(), g)
			if tc.want == 0 {
				require.ErrorIs(t, err, guards.ErrMark)
				list, err := a.List(t.Context())
				require.NoError(t, err)
				assert.Empty(t, list)
				return
			}
			require.NoError(t, err)
			scope, _ := fence.ParseScope("s3://data/x/")
			var drawn fence.Token
			require.NoError(t, state.Run(t.Context(), s, &state.Tx{
				Scopes: []state.ScopeLock{{Scope: scope, Mode: state.Exclusive}},
				Decide: func(v *state.View) (_ state.Changes, err error) { drawn, err = v.Draw(); return },
			}))
			assert.Equal(t, tc.want, drawn)
		})
	}
}

// A proxy that does not answer costs a lease (and what slow clocks may add), and
// no more; one that is long dead costs nothing.
func TestAddWaitsForSilentProxies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		a := newAdmin(s, newShop(s))
		_, _, err := s.RenewGuards(t.Context(), uuid.New(), 0, -1)
		require.NoError(t, err)
		start := time.Now()
		_, err = a.Add(t.Context(), guard(t, "s3://data/jobs/"))
		require.NoError(t, err)
		assert.GreaterOrEqual(t, time.Since(start), lease)
		assert.LessOrEqual(t, time.Since(start), lease+lease/10+2*time.Second)

		time.Sleep(2 * time.Hour)
		start = time.Now()
		_, err = a.Add(t.Context(), guard(t, "s3://data/other/"))
		require.NoError(t, err)
		assert.Less(t, time.Since(start), time.Second)

		_, _, err = s.RenewGuards(t.Context(), uuid.New(), 0, -1)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = a.Add(ctx, guard(t, "s3://data/third/"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
