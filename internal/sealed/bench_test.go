package sealed

import (
	"fmt"
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
	"github.com/s3fence/s3fence/internal/upstream"
)

// hot makes a Store over a durable PostgreSQL with one granted scope. Its store
// is never asked: these benchmarks are about commits.
func hot(b *testing.B) (*Store, guarded.Op) {
	b.Helper()
	server := pgtest.Start(b, pgtest.Options{Durable: true})
	dsn := server.DSN("postgres")
	_, _, err := postgres.Migrate(b.Context(), dsn)
	require.NoError(b, err)
	db, err := postgres.Open(b.Context(), dsn, postgres.Options{})
	require.NoError(b, err)
	b.Cleanup(func() { _ = db.Close() })
	client, err := upstream.New(upstream.Config{Name: "none", Endpoint: "http://127.0.0.1:1", AccessKey: "k", SecretKey: "s", PathStyle: true})
	require.NoError(b, err)
	s, err := New(b.Context(), db, oneStore{client}, Options{})
	require.NoError(b, err)
	b.Cleanup(s.Close)
	sc, err := fence.ParseScope(jobs)
	require.NoError(b, err)
	p, err := fence.ParsePattern(jobs)
	require.NoError(b, err)
	g := &fence.Guard{Pattern: p, Writes: fence.Sealed, Tokens: fence.Required, Issuer: fence.Own, MaxJump: 1, State: fence.Active}
	require.NoError(b, state.Run(b.Context(), db, &state.Tx{GuardList: true, Decide: func(*state.View) (state.Changes, error) {
		return state.Changes{PutGuards: []*fence.Guard{g}}, nil
	}}))
	return s, guarded.Op{Guard: g, Scope: sc, Request: fence.Request{Token: raise(b, db, sc)}, Caller: "k"}
}

func raise(b *testing.B, db state.Transactor, sc fence.Scope) fence.Token {
	b.Helper()
	var tok fence.Token
	require.NoError(b, state.Run(b.Context(), db, &state.Tx{
		Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}},
		Decide: func(v *state.View) (ch state.Changes, err error) {
			row := v.Scope(sc, fence.Sealed)
			if tok, err = v.Draw(); err != nil {
				return ch, err
			}
			row.Mark.Token, row.EpochSince = tok, v.Now
			ch.Scopes = []state.Scope{row}
			return ch, nil
		},
	}))
	return tok
}

// BenchmarkCommitHotScope commits single objects from 64 callers into one scope,
// each into a key of its own.
func BenchmarkCommitHotScope(b *testing.B) {
	s, op := hot(b)
	var n atomic.Int64
	b.SetParallelism(32) // times GOMAXPROCS
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		id := n.Add(1)
		for i := 0; pb.Next(); i++ {
			nm := s.names.fresh(op.Scope, 1, state.NewID())
			_, err := s.commitObject(&op, "PutObject", object.Conditions{}, object.Info{
				Ref: object.Ref{Bucket: "data", Key: fmt.Sprintf("jobs/%d/%d", id, i%1000)},
			}, stored{name: nm, size: 4096, etag: "d41d8cd98f00b204e9800998ecf8427e"}, nil)
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// BenchmarkKnownStale is the verdict that is given before a body is read.
func BenchmarkKnownStale(b *testing.B) {
	s := &Store{known: newRecall()}
	sc, err := fence.ParseScope(jobs)
	require.NoError(b, err)
	row := state.NewScope(sc, fence.Sealed)
	row.Mark.Token, row.Last = 34, fence.Grant{Owner: "bob", At: time.Now()}
	s.known.learn(time.Now(), row)
	op := &guarded.Op{Guard: &fence.Guard{Tokens: fence.Required, Issuer: fence.Own}, Scope: sc, Request: fence.Request{Token: 33}}
	b.ReportAllocs()
	for b.Loop() {
		if s.KnownStale(op) == nil {
			b.Fatal("not known as stale")
		}
	}
}
