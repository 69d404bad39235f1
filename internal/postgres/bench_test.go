package postgres

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/state"
)

// durable starts a server that flushes its log at each commit.
func durable(b *testing.B) *DB {
	b.Helper()
	server := pgtest.Start(b, pgtest.Options{Durable: true})
	dsn := server.DSN("postgres")
	_, _, err := Migrate(b.Context(), dsn)
	require.NoError(b, err)
	db := open(b, dsn, 0)
	require.NoError(b, db.Maintain(b.Context(), leastKept))
	return db
}

func benchScope(b *testing.B) fence.Scope {
	b.Helper()
	sc, err := fence.ParseScope("s3://bench/hot/")
	require.NoError(b, err)
	return sc
}

func benchObject(sc fence.Scope, key string) state.Object {
	attempt := state.NewID()
	return state.Object{
		Info: object.Info{
			Ref: object.Ref{Bucket: sc.Bucket(), Key: key}, Size: 4096, ETag: "d41d8cd98f00b204e9800998ecf8427e",
			Attributes: object.Attributes{Headers: map[string]string{"Content-Type": "application/octet-stream"}},
		},
		Scope: sc, Token: 1, Attempt: attempt, Physical: ".s3fence/o/1/" + attempt.String(),
	}
}

// commitObjects is what a committer does with a batch: scope and guard shared, keys
// locked and read, rows put.
func commitObjects(ctx context.Context, db *DB, sc fence.Scope, objects []state.Object) error {
	tx := &state.Tx{ID: state.NewID(), Guards: []fence.GuardID{1}, Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Shared}}, Try: true}
	for i := range objects {
		tx.Keys = append(tx.Keys, objects[i].Ref)
	}
	tx.Decide = func(v *state.View) (state.Changes, error) {
		for i := range objects {
			objects[i].Modified = v.Now
		}
		return state.Changes{PutObjects: objects}, nil
	}
	return state.Run(ctx, db, tx)
}

// BenchmarkTransact commits batches into one hot scope over four connections; an
// operation is one object. Keys are overwritten from 10,000 on.
func BenchmarkTransact(b *testing.B) {
	for _, batch := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("keys=%d", batch), func(b *testing.B) {
			db, sc := durable(b), benchScope(b)
			const committers = 4
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for c := range committers {
				wg.Go(func() {
					for n := 0; next.Add(int64(batch)) <= int64(max(b.N, batch)); n++ {
						objects := make([]state.Object, batch)
						for i := range objects {
							objects[i] = benchObject(sc, fmt.Sprintf("hot/%d/%08d", c, (n*batch+i)%2500))
						}
						if err := commitObjects(b.Context(), db, sc, objects); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "objects/s")
		})
	}
}

// BenchmarkRead looks up objects among 10,000, as GETs do: one after the other,
// and from 16 callers at once.
func BenchmarkRead(b *testing.B) {
	db, sc := durable(b), benchScope(b)
	const there = 10_000
	for from := 0; from < there; from += 500 {
		objects := make([]state.Object, 500)
		for i := range objects {
			objects[i] = benchObject(sc, fmt.Sprintf("hot/%08d", from+i))
		}
		require.NoError(b, commitObjects(b.Context(), db, sc, objects))
	}
	query := func(n, refs int) state.Query {
		q := state.Query{}
		for i := range refs {
			q.Objects = append(q.Objects, object.Ref{Bucket: sc.Bucket(), Key: fmt.Sprintf("hot/%08d", (n*7919+i*31)%there)})
		}
		return q
	}
	for _, refs := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("refs=%d", refs), func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				v, err := db.Read(b.Context(), query(n, refs))
				if err != nil || len(v.Objects) != refs {
					b.Fatal(err, len(v.Objects))
				}
			}
		})
	}
	b.Run("refs=1,scopes=1", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			q := query(n, 1)
			q.Scopes = []fence.Scope{sc}
			if _, err := db.Read(b.Context(), q); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("refs=1,callers=16", func(b *testing.B) {
		b.SetParallelism(8) // times the processors
		var n atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := db.Read(b.Context(), query(int(n.Add(1)), 1)); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkGrant draws a token and raises a mark, one after the other, in a scope
// for which so many wait: each grant goes to the first of them, and another one
// comes.
func BenchmarkGrant(b *testing.B) {
	for _, waiting := range []int{0, 1000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			db, sc := durable(b), benchScope(b)
			n := 0
			join := func() {
				n++
				p := state.Place{PlaceID: state.PlaceID{Scope: sc, Holder: "AKIA", Ticket: fmt.Sprint(n)}, Owner: "ann@host"}
				if _, err := db.KeepPlace(b.Context(), p, time.Hour); err != nil {
					b.Fatal(err)
				}
			}
			for range waiting {
				join()
			}
			for b.Loop() {
				err := state.Run(b.Context(), db, &state.Tx{
					Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}},
					Lines:  []fence.Scope{sc}, Absent: 10 * time.Second,
					Decide: func(v *state.View) (state.Changes, error) {
						row := v.Scope(sc, fence.Sealed)
						t, err := v.Draw()
						row.Mark.Token = t
						c := state.Changes{Scopes: []state.Scope{row}}
						if head, there := v.Heads[sc]; there {
							c.DropPlaces = []state.PlaceID{head.PlaceID}
						}
						return c, err
					},
				})
				if err != nil {
					b.Fatal(err)
				}
				if waiting > 0 {
					b.StopTimer()
					join()
					b.StartTimer()
				}
			}
		})
	}
}

// BenchmarkLook is one look at 1,000 scopes, in each of which ten wait: what a
// process does four times a second while that many locks are waited for.
func BenchmarkLook(b *testing.B) {
	db := durable(b)
	q := state.Query{Guards: []fence.GuardID{1}, Absent: 10 * time.Second}
	for i := range 1000 {
		sc, err := fence.ParseScope(fmt.Sprintf("s3://bench/%d/", i))
		require.NoError(b, err)
		q.Scopes = append(q.Scopes, sc)
		for n := range 10 {
			p := state.Place{PlaceID: state.PlaceID{Scope: sc, Holder: "AKIA", Ticket: fmt.Sprint(n)}}
			_, err := db.KeepPlace(b.Context(), p, time.Hour)
			require.NoError(b, err)
		}
	}
	q.Lines = q.Scopes
	for b.Loop() {
		v, err := db.Read(b.Context(), q)
		if err != nil || len(v.Heads) != 1000 {
			b.Fatal(err, len(v.Heads))
		}
	}
}
