package sqlite_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/sqlite"
	"github.com/s3fence/s3fence/internal/state"
)

func benchStore(b *testing.B) (*sqlite.Store, fence.Scope) {
	path := filepath.Join(b.TempDir(), "state.db")
	require.NoError(b, sqlite.Migrate(b.Context(), path))
	s := open(b, path, sqlite.Options{})
	sc, err := fence.ParseScope("s3://data/jobs/")
	require.NoError(b, err)
	tx := &state.Tx{Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}}, Decide: func(v *state.View) (state.Changes, error) {
		row := v.Scope(sc, fence.Sealed)
		row.Mark.Token = 34
		return state.Changes{Scopes: []state.Scope{row}}, nil
	}}
	require.NoError(b, state.Run(b.Context(), s, tx))
	return s, sc
}

// BenchmarkCommit is durable commits with 1 and 16 object writes each; one
// iteration is one object.
func BenchmarkCommit(b *testing.B) {
	for _, ops := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("ops=%d", ops), func(b *testing.B) {
			s, sc := benchStore(b)
			n := 0
			for b.Loop() {
				if n++; n%ops != 0 {
					continue
				}
				tx := &state.Tx{Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Shared}}}
				var c state.Changes
				for i := range ops {
					o := state.Object{
						Info:  object.Info{Ref: object.Ref{Bucket: "data", Key: fmt.Sprintf("jobs/%d", (n+i)%5000)}, Size: 4096, ETag: "d41d8cd98f00b204e9800998ecf8427e"},
						Scope: sc, Token: 34, Attempt: state.NewID(),
					}
					o.Physical = ".s3fence/o/1/" + o.Attempt.String()
					o.Headers = map[string]string{"Content-Type": "application/octet-stream"}
					tx.Keys, c.PutObjects = append(tx.Keys, o.Ref), append(c.PutObjects, o)
				}
				tx.Decide = func(v *state.View) (state.Changes, error) {
					for i := range c.PutObjects {
						c.PutObjects[i].Modified = v.Now
					}
					return c, nil
				}
				if err := state.Run(b.Context(), s, tx); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}

// BenchmarkRead is point reads of one object, as a GET makes them.
func BenchmarkRead(b *testing.B) {
	s, sc := benchStore(b)
	o := state.Object{Info: object.Info{Ref: object.Ref{Bucket: "data", Key: "jobs/k"}}, Scope: sc, Attempt: state.NewID()}
	tx := &state.Tx{Keys: []object.Ref{o.Ref}, Decide: func(*state.View) (state.Changes, error) {
		return state.Changes{PutObjects: []state.Object{o}}, nil
	}}
	require.NoError(b, state.Run(b.Context(), s, tx))
	var bad atomic.Bool
	for _, q := range []struct {
		name  string
		query state.Query
	}{
		{"object", state.Query{Objects: []object.Ref{o.Ref}}},
		{"object+scope", state.Query{Objects: []object.Ref{o.Ref}, Scopes: []fence.Scope{sc}}},
	} {
		b.Run(q.name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if v, err := s.Read(b.Context(), q.query); err != nil || len(v.Objects) != 1 {
						bad.Store(true)
					}
				}
			})
			require.False(b, bad.Load())
		})
	}
}
