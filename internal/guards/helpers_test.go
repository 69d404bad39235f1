package guards_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/boottime"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

const lease = 10 * time.Second

func pattern(t testing.TB, s string) fence.Pattern {
	t.Helper()
	p, err := fence.ParsePattern(s)
	require.NoError(t, err)
	return p
}

func guard(t testing.TB, s string) fence.Guard {
	return fence.Guard{Pattern: pattern(t, s)}
}

// clock stands in for the machine's, so that each of its parts can be set.
type clock struct {
	mu    sync.Mutex
	now   time.Time
	awake time.Duration
}

func newClock() *clock { return &clock{now: time.Unix(1_000_000, 0)} }

func (c *clock) step(wall, awake time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.awake = c.now.Add(wall), c.awake+awake
}

func (c *clock) clock() boottime.Clock {
	return boottime.Clock{
		Now:   func() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now },
		Awake: func() time.Duration { c.mu.Lock(); defer c.mu.Unlock(); return c.awake },
	}
}

// bubbleClock is the fake time of a synctest bubble on every clock.
func bubbleClock() boottime.Clock {
	start := time.Now()
	return boottime.Clock{Now: time.Now, Awake: func() time.Duration { return time.Since(start) }}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newList(r guards.Registry, c boottime.Clock) *guards.List {
	return guards.NewList(r, uuid.New(), lease, guards.ListOptions{Clock: c, Logger: quiet()})
}

// insert puts an active guard straight into the state.
func insert(t testing.TB, s *memory.Store, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		g := fence.Guard{Pattern: pattern(t, p), Writes: fence.Sealed, Tokens: fence.Required, Issuer: fence.Own,
			MaxJump: fence.DefaultMaxJump, State: fence.Active, Created: time.Unix(5, 0)}
		require.NoError(t, state.Run(t.Context(), s, &state.Tx{GuardList: true, Decide: func(*state.View) (state.Changes, error) {
			return state.Changes{PutGuards: []*fence.Guard{&g}}, nil
		}}))
	}
}

// shop is a store of plain keys with an adopter that copies them into the state
// as sealed objects.
type shop struct {
	state *memory.Store

	mu     sync.Mutex
	plain  map[object.Ref]string // ETags
	fail   error
	before func(ctx context.Context, g fence.Guard) // runs first in Adopt
}

func newShop(s *memory.Store) *shop { return &shop{state: s, plain: map[object.Ref]string{}} }

func (s *shop) put(bucket, key, etag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plain[object.Ref{Bucket: bucket, Key: key}] = etag
}

func (s *shop) drop(bucket, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.plain, object.Ref{Bucket: bucket, Key: key})
}

func (s *shop) under(p fence.Pattern) []object.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	var refs []object.Ref
	for ref := range s.plain {
		if _, ok := p.Match(ref.Bucket, ref.Key); ok {
			refs = append(refs, ref)
		}
	}
	slices.SortFunc(refs, func(a, b object.Ref) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return refs
}

var errTakenOver = errors.New("the guard is not pending as it was")

func (s *shop) Adopt(ctx context.Context, g fence.Guard, progress func(int)) (int, error) {
	if s.before != nil {
		s.before(ctx, g)
	}
	n := 0
	for _, ref := range s.under(g.Pattern) {
		if err := s.adopt(ctx, g, ref); err != nil {
			return n, err
		}
		n++
		progress(n)
	}
	return n, s.fail
}

func (s *shop) adopt(ctx context.Context, g fence.Guard, ref object.Ref) error {
	s.mu.Lock()
	etag := s.plain[ref]
	s.mu.Unlock()
	scope, _ := g.Pattern.Match(ref.Bucket, ref.Key)
	return state.Run(ctx, s.state, &state.Tx{
		Guards: []fence.GuardID{g.ID}, Scopes: []state.ScopeLock{{Scope: scope, Mode: state.Shared}}, Keys: []object.Ref{ref},
		Decide: func(v *state.View) (state.Changes, error) {
			if row, ok := v.Guards[g.ID]; !ok || row.State != fence.Pending || !row.Created.Equal(g.Created) {
				return state.Changes{}, errTakenOver
			}
			return state.Changes{PutObjects: []state.Object{{
				Info: object.Info{Ref: ref, ETag: etag, Size: 1, Modified: v.Now}, Scope: scope, Attempt: uuid.New(), Physical: "p/" + ref.Key,
			}}}, nil
		},
	})
}

func (s *shop) Plain(_ context.Context, g fence.Guard) (object.Ref, bool, error) {
	refs := s.under(g.Pattern)
	if len(refs) == 0 {
		return object.Ref{}, false, nil
	}
	return refs[0], true, nil
}

// sealed lists the sealed objects of a bucket as key → ETag.
func sealed(t testing.TB, s *memory.Store, bucket string) map[string]string {
	t.Helper()
	rows, err := s.ListObjects(t.Context(), state.Range{Bucket: bucket}, 100_000)
	require.NoError(t, err)
	out := map[string]string{}
	for _, o := range rows {
		out[o.Key] = o.ETag
	}
	return out
}
