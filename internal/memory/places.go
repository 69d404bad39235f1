package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// counts reports whether a place counts at now: it has not lapsed, and the proxy
// where a call waits in it was seen.
func (s *Store) counts(p *state.Place, now time.Time, absent time.Duration) bool {
	if !p.Until.After(now) {
		return false
	}
	return p.Proxy == uuid.Nil || s.proxies[p.Proxy].Seen.After(now.Add(-absent))
}

// head is the first living place of a line.
func (s *Store) head(sc fence.Scope, absent time.Duration) (state.Place, bool) {
	now := s.now()
	line := s.lines[sc]
	i := slices.IndexFunc(line, func(p state.Place) bool { return s.counts(&p, now, absent) })
	if i < 0 {
		return state.Place{}, false
	}
	return line[i], true
}

func (s *Store) heads(v *state.View, scopes []fence.Scope, absent time.Duration) {
	for _, sc := range scopes {
		if p, ok := s.head(sc, absent); ok {
			v.Heads[sc] = p
		}
	}
}

// dropPlaces drops those places of a line that are gone; gone may change the
// others.
func (s *Store) dropPlaces(sc fence.Scope, gone func(*state.Place) bool) {
	line := s.lines[sc]
	kept := line[:0]
	for _, p := range line {
		if !gone(&p) {
			kept = append(kept, p)
		}
	}
	clear(line[len(kept):])
	if len(kept) == 0 {
		delete(s.lines, sc)
		return
	}
	s.lines[sc] = kept
}

// KeepPlace takes or keeps a place; see [state.State].
func (s *Store) KeepPlace(ctx context.Context, p state.Place, d time.Duration) (state.Place, error) {
	if err := s.enter(ctx, Writing); err != nil {
		return state.Place{}, err
	}
	defer s.mu.Unlock()
	now := s.now()
	s.lastTurn++
	p.Turn, p.Since, p.Until = s.lastTurn, now, stamp(now.Add(d))
	s.dropPlaces(p.Scope, func(old *state.Place) bool {
		lives := old.Until.After(now)
		if old.PlaceID == p.PlaceID && lives {
			p.Turn, p.Since = old.Turn, old.Since
		}
		return old.PlaceID == p.PlaceID || !lives
	})
	s.lines[p.Scope] = append(s.lines[p.Scope], p)
	slices.SortFunc(s.lines[p.Scope], func(a, b state.Place) int { return cmp.Compare(a.Turn, b.Turn) })
	return p, nil
}

// LeavePlace ends a visit; see [state.State].
func (s *Store) LeavePlace(ctx context.Context, id state.PlaceID, visit uuid.UUID, d time.Duration) error {
	if err := s.enter(ctx, Writing); err != nil {
		return err
	}
	defer s.mu.Unlock()
	until := stamp(s.now().Add(d))
	s.dropPlaces(id.Scope, func(p *state.Place) bool {
		if p.PlaceID != id || p.Visit != visit {
			return false
		}
		p.Until, p.Visit, p.Proxy = until, uuid.Nil, uuid.Nil
		return d <= 0
	})
	return nil
}

// CountPlaces counts living places; see [state.State].
func (s *Store) CountPlaces(ctx context.Context, sc fence.Scope, turn int64, absent time.Duration) (before, all int, err error) {
	if err := s.enter(ctx, Reading); err != nil {
		return 0, 0, err
	}
	defer s.mu.Unlock()
	now := s.now()
	for i := range s.lines[sc] {
		p := &s.lines[sc][i]
		if !s.counts(p, now, absent) {
			continue
		}
		all++
		if p.Turn < turn {
			before++
		}
	}
	return before, all, nil
}

// ListPlaces returns lines; see [state.State].
func (s *Store) ListPlaces(ctx context.Context, scopes []fence.Scope, limit int, absent time.Duration) (map[fence.Scope]state.Line, error) {
	if err := s.enter(ctx, Reading); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	now := s.now()
	out := map[fence.Scope]state.Line{}
	for _, sc := range scopes {
		var l state.Line
		for _, p := range s.lines[sc] {
			if !s.counts(&p, now, absent) {
				continue
			}
			if l.Length++; l.Length <= limit {
				l.First = append(l.First, p)
			}
		}
		if l.Length > 0 {
			out[sc] = l
		}
	}
	return out, nil
}
