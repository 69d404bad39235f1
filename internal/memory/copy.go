package memory

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// records is all that a Store keeps. Values behind pointers are never changed in
// place.
type records struct {
	deployment state.Deployment
	counter    int64
	version    int64 // of the guard list
	lastGuard  fence.GuardID
	guards     map[fence.GuardID]fence.Guard
	scopes     map[fence.Scope]state.Scope
	objects    map[object.Ref]*state.Object
	attempts   map[uuid.UUID]object.Ref // of the objects: no two share one
	uploads    map[string]*uploadRow
	parts      map[string]map[partName]state.UploadPart // by upload
	made       map[uuid.UUID][]object.Part              // of the objects, by attempt
	claims     map[state.Slot]*state.Claim
	retries    map[state.RetryID]dated[[]byte]
	garbage    map[garbageName]time.Time
	outcomes   map[uuid.UUID]dated[state.Outcome]
	proxies    map[uuid.UUID]state.Proxy
	lines      map[fence.Scope][]state.Place // by turn
	lastTurn   int64
	events     []dated[state.Event] // by id
	lastEvent  int64
}

func (r *records) copy() records {
	c := *r
	c.guards, c.scopes, c.objects, c.attempts = maps.Clone(r.guards), maps.Clone(r.scopes), maps.Clone(r.objects), maps.Clone(r.attempts)
	c.uploads, c.made, c.claims, c.retries = maps.Clone(r.uploads), maps.Clone(r.made), maps.Clone(r.claims), maps.Clone(r.retries)
	c.garbage, c.outcomes, c.proxies = maps.Clone(r.garbage), maps.Clone(r.outcomes), maps.Clone(r.proxies)
	c.parts = make(map[string]map[partName]state.UploadPart, len(r.parts))
	for id, parts := range r.parts {
		c.parts[id] = maps.Clone(parts)
	}
	c.lines = make(map[fence.Scope][]state.Place, len(r.lines))
	for sc, line := range r.lines {
		c.lines[sc] = slices.Clone(line)
	}
	c.events = slices.Clone(r.events)
	return c
}

// Snapshot keeps what is committed now. The function that it returns brings that back,
// once: what was committed since is lost, as where a replica takes over that had not
// heard of it, and commits that were late are gone. Locks stay with those who have
// them; it is the caller's matter to end their transactions, by the hook.
func (s *Store) Snapshot() (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.records.copy()
	return func() {
		s.Deliver()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.records = kept
	}
}
