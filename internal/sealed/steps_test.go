//go:build !pausepoints && !race

package sealed

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/postgres"
	"github.com/s3fence/s3fence/internal/state"
)

// The tests of the files steps_* play two proxies on one PostgreSQL, whose
// transactions are the product's own. One of them, A, is stopped behind each of its
// statements; the other, B, does all it has to do, or as much as it can until it waits
// for a lock of A's; then A goes on. Whatever the order of their statements, answers and
// rows must be those of A before B, or of B before A.

// envSteps set to "all" makes the tests play every pair of actions of a test. Otherwise
// they play those that have a place in common.
const envSteps = "S3FENCE_TEST_STEPS"

// stepped is a laboratory of two such proxies.
type stepped struct {
	*pgtest.Stage
	two   []*proxy
	ready []*scene
}

func newStepped(t *testing.T) *stepped {
	t.Helper()
	dsn := pgtest.DSN(t)
	_, _, err := postgres.Migrate(t.Context(), dsn)
	require.NoError(t, err)
	w := &stepped{}
	var through [2]string
	w.Stage, through[0], through[1] = pgtest.OpenStage(t, dsn)
	w.Normal = relative
	var handles []state.State
	for _, dsn := range through {
		db, err := postgres.Open(t.Context(), dsn, postgres.Options{Connections: 4})
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		handles = append(handles, db)
	}
	w.two = newProxies(t, handles, openStore(t), Options{LongestUpload: time.Nanosecond}, anyScope)
	w.two[0].guard("s3://external/*/", func(g *fence.Guard) { g.Issuer = fence.External })
	return w
}

// scene is a scope as every pair of actions finds it: its mark raised, the lock held
// by "k", the object a there and n not. Beside it is one with an external issuer.
type scene struct {
	number          int64
	scope, external fence.Scope
	mark            fence.Token // of scope; that of external is externalMark
	a               state.Object
	upload          guarded.UploadRef
	part            guarded.PartInfo
	// line: somebody waits for the lock; collected: the collector is at work.
	line, collected bool
}

const externalMark = 33

func (sc *scene) ref(name string) object.Ref { return inScope(sc.scope, name) }
func (sc *scene) ext(name string) object.Ref { return inScope(sc.external, name) }

func inScope(s fence.Scope, name string) object.Ref {
	return object.Ref{Bucket: s.Bucket(), Key: s.Prefix() + name}
}

func (sc *scene) slot() state.Slot {
	return state.Slot{Job: fmt.Sprintf("job-%d", sc.number), Name: "slot"}
}

// far is a token above all that were drawn before this scene's turn came.
func (sc *scene) far() fence.Token { return fence.Token(1<<30 + 1000*sc.number) }

var sceneNumbers atomic.Int64

// scenesAtOnce is how many scenes one transaction makes.
const scenesAtOnce = 50

// scene takes one that is ready, or makes many.
func (w *stepped) scene(t *testing.T) *scene {
	t.Helper()
	if len(w.ready) == 0 {
		w.build(t)
	}
	sc := w.ready[0]
	w.ready = w.ready[1:]
	return sc
}

func (w *stepped) build(t *testing.T) {
	t.Helper()
	tx := &state.Tx{}
	for range scenesAtOnce {
		sc := &scene{number: sceneNumbers.Add(1)}
		var err error
		sc.scope, err = fence.ParseScope(fmt.Sprintf("s3://data/%d/", sc.number))
		require.NoError(t, err)
		sc.external, err = fence.ParseScope(fmt.Sprintf("s3://external/%d/", sc.number))
		require.NoError(t, err)
		tx.Scopes = append(tx.Scopes, state.ScopeLock{Scope: sc.scope, Mode: state.Exclusive}, state.ScopeLock{Scope: sc.external, Mode: state.Exclusive})
		tx.Keys = append(tx.Keys, sc.ref("a"), sc.ext("a"))
		w.ready = append(w.ready, sc)
	}
	names := w.two[0].names
	tx.Decide = func(v *state.View) (state.Changes, error) {
		first, err := v.Draw()
		if err != nil {
			return state.Changes{}, err
		}
		if err := v.Lift(first + scenesAtOnce); err != nil {
			return state.Changes{}, err
		}
		var c state.Changes
		for i, sc := range w.ready {
			sc.mark = first + fence.Token(i)
			for _, s := range []fence.Scope{sc.scope, sc.external} {
				row := state.NewScope(s, fence.Sealed)
				row.Epoch, row.EpochSince = 2, v.Now
				row.Mark.Token = externalMark
				row.Last = fence.Grant{Holder: "k", At: v.Now}
				if s == sc.scope {
					row.Mark.Token = sc.mark
					row.Last.Owner = "ann@host"
					row.TTL, row.LeaseUntil = time.Hour, v.Now.Add(time.Hour)
				}
				nm := names.fresh(s, 1, state.NewID())
				o := state.Object{
					Info:  object.Info{Ref: inScope(s, "a"), Size: 4, ETag: md5Hex("base"), Modified: v.Now},
					Scope: s, Token: row.Mark.Token, Attempt: nm.Attempt, Physical: nm.Key,
				}
				if s == sc.scope {
					sc.a = o
				}
				c.Scopes, c.PutObjects = append(c.Scopes, row), append(c.PutObjects, o)
			}
		}
		return c, nil
	}
	require.NoError(t, state.Run(t.Context(), w.two[1].st, tx))
}

// action is something that a proxy does, in one transaction or in several.
type action struct {
	name string
	// at are the places where it reads or writes, everywhere for all of them.
	at string
	// prepare makes the scene ready for it, whether it is A or B.
	prepare func(t *testing.T, p *proxy, sc *scene)
	// under is the mark under which it writes objects; nil where it does not.
	under func(sc *scene) (fence.Scope, fence.Mark)
	// do does it and says how it was answered; who is "A" or "B".
	do func(p *proxy, sc *scene, who string) string
}

const everywhere = "everywhere"

// meets says whether two actions have a place in common.
func (a action) meets(b action) bool {
	return a.at == everywhere || b.at == everywhere ||
		slices.ContainsFunc(strings.Fields(a.at), func(at string) bool { return slices.Contains(strings.Fields(b.at), at) })
}

// play prepares a scene for two actions.
func (w *stepped) play(t *testing.T, a, b action) pgtest.Play {
	t.Helper()
	sc, two := w.scene(t), in(t, w.two)
	for _, c := range []action{a, b} {
		if c.prepare != nil {
			c.prepare(t, two[1], sc)
		}
	}
	var between *state.View // as it was when B had ended before A
	return pgtest.Play{
		A:       func() string { return a.do(two[0], sc, "A") },
		B:       func() string { return b.do(two[1], sc, "B") },
		Between: func() { between = sc.view(t, two[1]) },
		End: func() string {
			end := sc.view(t, two[1])
			sc.invariants(t, a, between, end)
			return sc.text(t, two[1], end)
		},
	}
}

// view reads all that the actions write.
func (sc *scene) view(t *testing.T, p *proxy) *state.View {
	t.Helper()
	q := state.Query{Scopes: []fence.Scope{sc.scope, sc.external}, Slots: []state.Slot{sc.slot()}}
	for _, name := range []string{"a", "n"} {
		q.Objects = append(q.Objects, sc.ref(name), sc.ext(name))
	}
	if sc.upload.ID != "" {
		q.Uploads = []string{sc.upload.ID}
	}
	v, err := p.st.Read(t.Context(), q)
	require.NoError(t, err)
	return v
}

// invariants holds the end, and the moment between when B had ended while A stood still,
// to what must be true of them in any order.
func (sc *scene) invariants(t *testing.T, a action, between, end *state.View) {
	t.Helper()
	views := []*state.View{end}
	if between != nil {
		views = []*state.View{between, end}
	}
	was := map[fence.Scope]fence.Mark{sc.scope: {Generation: 1, Token: sc.mark}, sc.external: {Generation: 1, Token: externalMark}}
	for _, v := range views {
		for s, mark := range was {
			require.False(t, v.Scopes[s].Mark.Below(mark), "a mark fell (F1)")
			was[s] = v.Scopes[s].Mark
		}
	}
	if between == nil || a.under == nil {
		return
	}
	scope, mark := a.under(sc)
	if !mark.Below(between.Scopes[scope].Mark) {
		return
	}
	// B raised the mark and was answered; A, which stood still, has an older token.
	for _, name := range []string{"a", "n"} {
		require.Equal(t, between.Objects[inScope(scope, name)], end.Objects[inScope(scope, name)], "a write under a lower token took effect after the raise (F4, F5)")
	}
}

// steppedLabs is how many laboratories a test of steps_* uses at once.
const steppedLabs = 3

// everyPair plays pairs of some actions in all interleavings: those that meet, or all.
func everyPair(t *testing.T, actions []action) {
	labs := make(chan *stepped, steppedLabs)
	for range steppedLabs {
		labs <- newStepped(t)
	}
	pairs := make([]int, len(actions))
	t.Run("of", func(t *testing.T) {
		for i, a := range actions {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				w := <-labs
				defer func() { labs <- w }()
				for _, b := range actions {
					if a.meets(b) || os.Getenv(envSteps) == "all" {
						t.Run(b.name, func(t *testing.T) { w.Pair(t, notNow, func() pgtest.Play { return w.play(t, a, b) }) })
						pairs[i]++
					}
				}
			})
		}
	})
	played, waited, all := 0, 0, 0
	for range steppedLabs {
		w := <-labs
		played, waited = played+w.Interleavings, waited+w.Waited
	}
	for _, n := range pairs {
		all += n
	}
	t.Logf("%d actions, %d pairs, %d interleavings; in %d of them B waited for A", len(actions), all, played, waited)
	require.NotZero(t, waited, "nobody ever waited: the locks are not there, or are not seen")
	require.Less(t, waited, played)
}
