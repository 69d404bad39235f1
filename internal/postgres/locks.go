package postgres

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// The domains of lock names: a scope and a key that are spelt alike are two
// locks. Locks of one database are shared by everyone in it, hence the prefix.
const (
	listDomain    = "s3fence/guards"
	guardDomain   = "s3fence/guard"
	scopeDomain   = "s3fence/scope"
	keyDomain     = "s3fence/key"
	slotDomain    = "s3fence/slot"
	requestDomain = "s3fence/request"
	txDomain      = "s3fence/transaction"
	counterDomain = "s3fence/counter"
	upkeepDomain  = "s3fence/upkeep"
	schemaDomain  = "s3fence/schema"
	eventsDomain  = "s3fence/events"
)

// lockID is the 64-bit number of an advisory lock. All proxies must compute the
// same one, of whatever version they are: never change this function.
func lockID(domain string, names ...string) int64 {
	h := sha256.New()
	h.Write([]byte(domain))
	for _, name := range names {
		h.Write([]byte{0})
		h.Write([]byte(name))
	}
	return int64(binary.BigEndian.Uint64(h.Sum(nil)))
}

func guardLock(id fence.GuardID) int64   { return lockID(guardDomain, strconv.FormatInt(int64(id), 10)) }
func scopeLock(s fence.Scope) int64      { return lockID(scopeDomain, s.String()) }
func requestLock(id state.RetryID) int64 { return lockID(requestDomain, string(id[:])) }
func txLock(id uuid.UUID) int64          { return lockID(txDomain, string(id[:])) }

// locks are numbers with their modes, sorted and without repetition: everyone
// takes the locks of a kind in the same order, so that nobody deadlocks.
type locks struct {
	ids       []int64
	exclusive []bool
}

// sortLocks makes locks of numbers with their modes. Where two names share a
// number the map has kept the stronger mode: asking for both would upgrade.
func sortLocks(modes map[int64]bool) locks {
	l := locks{ids: slices.Sorted(maps.Keys(modes))}
	for _, id := range l.ids {
		l.exclusive = append(l.exclusive, modes[id])
	}
	return l
}

// plan is everything that a transaction locks, by kind.
type plan struct {
	list     bool
	guards   locks
	scopes   locks
	keys     locks
	slots    locks
	requests locks
	events   bool
	// named finds the scopes of a number again.
	named map[int64][]fence.Scope
}

func planLocks(tx *state.Tx) plan {
	p := plan{list: tx.GuardList, events: tx.EventLog, named: map[int64][]fence.Scope{}}
	modes := map[int64]bool{}
	exclusive := cmp.Or(tx.GuardMode, state.Shared) == state.Exclusive
	for _, g := range tx.Guards {
		modes[guardLock(g)] = exclusive
	}
	p.guards = sortLocks(modes)

	clear(modes)
	for _, s := range tx.Scopes {
		id := scopeLock(s.Scope)
		modes[id] = modes[id] || s.Mode == state.Exclusive
		p.named[id] = append(p.named[id], s.Scope)
	}
	p.scopes = sortLocks(modes)

	clear(modes)
	for _, k := range tx.Keys {
		modes[lockID(keyDomain, k.Bucket, k.Key)] = true
	}
	p.keys = sortLocks(modes)

	clear(modes)
	for _, s := range tx.Slots {
		modes[lockID(slotDomain, s.Job, s.Name)] = true
	}
	p.slots = sortLocks(modes)

	clear(modes)
	for _, r := range tx.Requests {
		modes[requestLock(r.ID)] = true
	}
	p.requests = sortLocks(modes)
	return p
}

// urgent lists the locks for whose sake stuck sessions are ended soon: those that
// a takeover or a change of guards takes exclusively.
func (p *plan) urgent(try bool) []int64 {
	var ids []int64
	if p.list {
		ids = append(ids, lockID(listDomain))
	}
	for i, id := range p.guards.ids {
		if p.guards.exclusive[i] {
			ids = append(ids, id)
		}
	}
	for i, id := range p.scopes.ids {
		if p.scopes.exclusive[i] && !try {
			ids = append(ids, id)
		}
	}
	return ids
}

// others lists the locks for whose sake stuck sessions are ended later, and only
// if they hold them exclusively: keys, slots, requests, the event
// log, and what is only shared
// here.
func (p *plan) others(try bool) []int64 {
	ids := slices.Concat(p.keys.ids, p.slots.ids, p.requests.ids)
	if p.events {
		ids = append(ids, lockID(eventsDomain))
	}
	for i, id := range p.guards.ids {
		if !p.guards.exclusive[i] {
			ids = append(ids, id)
		}
	}
	for i, id := range p.scopes.ids {
		if !p.scopes.exclusive[i] && !try {
			ids = append(ids, id)
		}
	}
	return ids
}

// takeLocks takes advisory locks in the order of the array and gives no rows: a
// filter runs once for each row of the array, in its order. The CASE decides the
// mode before the lock is asked for. Nothing is read here: this statement's
// snapshot is from before its waits.
const takeLocks = `
SELECT FROM unnest($1::bigint[], $2::boolean[]) AS l (id, exclusive)
 WHERE CASE WHEN l.exclusive THEN pg_advisory_xact_lock(l.id) ELSE pg_advisory_xact_lock_shared(l.id) END IS NULL`

// tryLocks takes the locks that can be had at once and gives the others. A shared
// request also fails where an exclusive one is already waiting, so that writers
// who try cannot starve a takeover.
const tryLocks = `
SELECT l.id FROM unnest($1::bigint[], $2::boolean[]) AS l (id, exclusive)
 WHERE NOT CASE WHEN l.exclusive THEN pg_try_advisory_xact_lock(l.id) ELSE pg_try_advisory_xact_lock_shared(l.id) END`

// take adds the statements that take the locks, in the global order: guard list,
// guards, scopes, keys, slots, requests, event log. Each waits for at most
// lock_timeout.
func (p *plan) take(f *pipeline, try bool, missed map[fence.Scope]bool) {
	if p.list {
		f.exec(takeLocks, []int64{lockID(listDomain)}, []bool{true})
	}
	if len(p.guards.ids) > 0 {
		f.exec(takeLocks, p.guards.ids, p.guards.exclusive)
	}
	switch {
	case len(p.scopes.ids) == 0:
	case try:
		f.query(func(rows pgx.Rows) error {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			for _, s := range p.named[id] {
				missed[s] = true
			}
			return nil
		}, tryLocks, p.scopes.ids, p.scopes.exclusive)
	default:
		f.exec(takeLocks, p.scopes.ids, p.scopes.exclusive)
	}
	for _, l := range []locks{p.keys, p.slots, p.requests} {
		if len(l.ids) > 0 {
			f.exec(takeLocks, l.ids, l.exclusive)
		}
	}
	if p.events {
		f.exec(takeLocks, []int64{lockID(eventsDomain)}, []bool{true})
	}
}
