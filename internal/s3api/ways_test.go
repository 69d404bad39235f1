package s3api

import (
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/objectstore"
	"github.com/s3fence/s3fence/internal/sealed"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// overWays runs a test over the way to write in memory, which is the rule and
// no more, and over the real one.
func overWays(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Parallel()
	t.Run("fake", func(t *testing.T) {
		t.Parallel()
		test(t, newGuarded(t))
	})
	t.Run("sealed", func(t *testing.T) {
		t.Parallel()
		test(t, newSealed(t))
	})
}

// newEmbedded is the embedded store. The one in memory of [newStore] loses a key
// where a list starts after a name that is not there, as merged lists do.
func newEmbedded(t *testing.T, buckets ...string) *upstream.Client {
	t.Helper()
	back, err := objectstore.Open(t.Context(), t.TempDir(), objectstore.Options{AccessKey: storeKey, SecretKey: testSecret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := back.Close(); err != nil {
			t.Error(err)
		}
	})
	srv := httptest.NewServer(back.Handler())
	t.Cleanup(srv.Close)
	return newUpstream(t, srv.URL, buckets...)
}

// newSealed is newGuarded over package sealed and the reference state.
func newSealed(t *testing.T, change ...func(*Options)) *bench {
	t.Helper()
	st := memory.New()
	transact := func(tx *state.Tx) {
		t.Helper()
		if err := state.Run(t.Context(), st, tx); err != nil {
			t.Fatal(err)
		}
	}
	for pattern, tokens := range map[string]fence.Tokens{"s3://data/jobs/*/": fence.Required, "s3://data/free/": fence.Optional, "s3://data/cas/": fence.None} {
		g := guard(t, 0, pattern, func(g *fence.Guard) { g.Tokens = tokens })
		transact(&state.Tx{GuardList: true, Decide: func(*state.View) (state.Changes, error) {
			return state.Changes{PutGuards: []*fence.Guard{&g}}, nil
		}})
	}
	raise := func(scope string, token fence.Token) {
		sc, err := fence.ParseScope(scope)
		if err != nil {
			t.Fatal(err)
		}
		transact(&state.Tx{Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}}, Decide: func(v *state.View) (state.Changes, error) {
			row := v.Scope(sc, fence.Sealed)
			row.Mark = fence.Mark{Generation: fence.FirstGeneration, Token: token}
			return state.Changes{Scopes: []state.Scope{row}}, v.Lift(token)
		}})
	}
	raise("s3://data/jobs/a/", 34)
	raise("s3://data/jobs/b/", 40)
	store := newEmbedded(t, "data", "plain")
	b := newBench(t, store, nil, func(o *Options) {
		for _, f := range change {
			f(o)
		}
		list := guards.NewList(st, uuid.New(), testLease, guards.ListOptions{})
		if err := list.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		way, err := sealed.New(t.Context(), st, o.Buckets, sealed.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(way.Close)
		o.Guards, o.Writers = list, map[fence.Writes]guarded.Writer{fence.Sealed: way}
		o.Reader, o.Lister, o.Judge = way, way, way
	})
	b.raise = raise
	return b
}
