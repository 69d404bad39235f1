package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

func within(r state.Range, ref object.Ref) bool {
	return ref.Bucket == r.Bucket && ref.Key >= r.From && (r.To == "" || ref.Key < r.To)
}

func first[T any](list []T, limit int) []T { return list[:min(len(list), max(limit, 0))] }

// ListObjects lists objects in key order; see [state.State].
func (s *Store) ListObjects(ctx context.Context, r state.Range, limit int) ([]state.Object, error) {
	if err := s.enter(ctx, Reading); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var list []state.Object
	for ref, o := range s.objects {
		if within(r, ref) {
			list = append(list, copyObject(*o))
		}
	}
	slices.SortFunc(list, func(a, b state.Object) int { return strings.Compare(a.Key, b.Key) })
	return first(list, limit), nil
}

// ListUploads lists open uploads by key and id; see [state.State].
func (s *Store) ListUploads(ctx context.Context, r state.Range, afterID string, limit int) ([]state.Upload, error) {
	if err := s.enter(ctx, Reading); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var list []state.Upload
	for id, u := range s.uploads {
		if within(r, u.Ref) && !u.Completed && (u.Key > r.From || id > afterID) {
			list = append(list, copyUpload(u.Upload))
		}
	}
	slices.SortFunc(list, func(a, b state.Upload) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.ID, b.ID))
	})
	return first(list, limit), nil
}

// ListScopes lists scopes by written form, with the database's time; see
// [state.State].
func (s *Store) ListScopes(ctx context.Context, prefix, after string, limit int) ([]state.Scope, time.Time, error) {
	if err := s.enter(ctx, Reading); err != nil {
		return nil, time.Time{}, err
	}
	defer s.mu.Unlock()
	var list []state.Scope
	for sc, row := range s.scopes {
		if name := sc.String(); strings.HasPrefix(name, prefix) && name > after {
			list = append(list, row)
		}
	}
	slices.SortFunc(list, func(a, b state.Scope) int { return strings.Compare(a.Scope.String(), b.Scope.String()) })
	return first(list, limit), s.now(), nil
}

// ListClaims lists the claims of a job, by slot and backwards; see [state.State].
func (s *Store) ListClaims(ctx context.Context, job, before string, limit int) ([]state.Claim, error) {
	if err := s.enter(ctx, Reading); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var list []state.Claim
	for slot, c := range s.claims {
		if slot.Job == job && (before == "" || slot.Name < before) {
			list = append(list, *c)
		}
	}
	slices.SortFunc(list, func(a, b state.Claim) int { return strings.Compare(b.Name, a.Name) })
	return first(list, limit), nil
}

// ListGarbage lists garbage, oldest first, then by name; see [state.State].
func (s *Store) ListGarbage(ctx context.Context, bucket string, before time.Time, limit int) ([]state.Garbage, error) {
	if err := s.enter(ctx, Reading); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var list []state.Garbage
	for name, found := range s.garbage {
		if name.bucket == bucket && found.Before(before) {
			list = append(list, state.Garbage{Bucket: bucket, Physical: name.physical, Found: found})
		}
	}
	slices.SortFunc(list, func(a, b state.Garbage) int {
		return cmp.Or(a.Found.Compare(b.Found), strings.Compare(a.Physical, b.Physical))
	})
	return first(list, limit), nil
}

// ListEvents returns rows of the event log; see [state.State].
func (s *Store) ListEvents(ctx context.Context, q state.EventQuery) (state.EventPage, error) {
	if err := s.enter(ctx, Reading); err != nil {
		return state.EventPage{}, err
	}
	defer s.mu.Unlock()
	var rows []state.Event
	for i := range s.events {
		if len(rows) >= q.Limit && !q.Latest {
			break
		}
		if e := &s.events[i].value; q.Matches(e) {
			rows = append(rows, *e)
		}
	}
	var highest int64
	if n := len(s.events); n > 0 {
		highest = s.events[n-1].value.ID
	}
	return q.Page(rows[max(0, len(rows)-max(q.Limit, 0)):], highest, s.lastEvent), nil
}

// guardList is never nil.
func (s *Store) guardList() []fence.Guard {
	list := make([]fence.Guard, 0, len(s.guards))
	for _, id := range slices.Sorted(maps.Keys(s.guards)) {
		list = append(list, s.guards[id])
	}
	return list
}

// RenewGuards renews a proxy's lease on the guard list; see [state.State].
func (s *Store) RenewGuards(ctx context.Context, proxy uuid.UUID, acked, known int64) (int64, []fence.Guard, error) {
	if err := s.enter(ctx, Writing); err != nil {
		return 0, nil, err
	}
	defer s.mu.Unlock()
	s.proxies[proxy] = state.Proxy{ID: proxy, Acked: acked, Seen: s.now()}
	if known == s.version {
		return s.version, nil, nil
	}
	return s.version, s.guardList(), nil
}

// Proxies lists the proxies by id, with the database's time.
func (s *Store) Proxies(ctx context.Context) ([]state.Proxy, time.Time, error) {
	if err := s.enter(ctx, Reading); err != nil {
		return nil, time.Time{}, err
	}
	defer s.mu.Unlock()
	list := slices.SortedFunc(maps.Values(s.proxies), func(a, b state.Proxy) int {
		return strings.Compare(string(a.ID[:]), string(b.ID[:]))
	})
	return list, s.now(), nil
}

// ForgetProxy removes a proxy; one that is not there is fine.
func (s *Store) ForgetProxy(ctx context.Context, proxy uuid.UUID) error {
	if err := s.enter(ctx, Writing); err != nil {
		return err
	}
	defer s.mu.Unlock()
	delete(s.proxies, proxy)
	return nil
}

// Maintain drops what is older than keep; see [state.State].
func (s *Store) Maintain(ctx context.Context, keep time.Duration) error {
	if err := s.enter(ctx, Writing); err != nil {
		return err
	}
	defer s.mu.Unlock()
	cut := s.now().Add(-keep)
	maps.DeleteFunc(s.outcomes, func(_ uuid.UUID, o dated[state.Outcome]) bool { return o.at.Before(cut) })
	maps.DeleteFunc(s.retries, func(_ state.RetryID, r dated[[]byte]) bool { return r.at.Before(cut) })
	maps.DeleteFunc(s.uploads, func(_ string, u *uploadRow) bool { return u.Completed && u.changed.Before(cut) })
	maps.DeleteFunc(s.claims, func(_ state.Slot, c *state.Claim) bool { return c.KeepUntil.Before(s.now()) })
	maps.DeleteFunc(s.proxies, func(_ uuid.UUID, p state.Proxy) bool { return p.Seen.Before(cut) })
	now := s.now()
	for sc := range s.lines {
		s.dropPlaces(sc, func(p *state.Place) bool { return !p.Until.After(now) })
	}
	return nil
}

// MaintainEvents drops what is older than keep; see [state.State].
func (s *Store) MaintainEvents(ctx context.Context, keep time.Duration) error {
	if err := s.enter(ctx, Writing); err != nil {
		return err
	}
	defer s.mu.Unlock()
	cut := s.now().Add(-keep)
	s.events = slices.DeleteFunc(s.events, func(e dated[state.Event]) bool { return e.at.Before(cut) })
	return nil
}
