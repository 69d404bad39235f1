package locks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// Bounds of what may be asked for.
const (
	MinTTL     = time.Second
	MaxTTL     = 24 * time.Hour
	DefaultTTL = 30 * time.Second
	MaxWait    = 50 * time.Second
	// MaxOwner is the length of an owner label in bytes, MaxReason that of a
	// reason.
	MaxOwner  = 256
	MaxReason = 1024
	// BlockLabel begins the owner label of a lock that is held to keep everybody out
	// ("s3fence lock block"). It is for people: only messages look at it.
	BlockLabel = "a block by "
	// MaxLine is how many may wait for one scope in one process.
	MaxLine = 1024
	// MaxTicket is the length of a ticket in bytes. MaxKeep is the longest time for
	// which a place is kept between two calls, DefaultKeep what suits most: a client
	// that is answered asks again at once, and one whose proxy restarts soon.
	MaxTicket   = 64
	MaxKeep     = time.Minute
	DefaultKeep = 10 * time.Second
	// MaxWaiters is how many of each line List names.
	MaxWaiters = 10
	// DefaultAbsent is how long a proxy may not have been seen while the places of
	// its calls count.
	DefaultAbsent = 10 * time.Second
)

// State is the part of the state that a [Service] uses.
type State interface {
	state.Transactor
	Deployment(ctx context.Context) (state.Deployment, error)
	ListScopes(ctx context.Context, prefix, after string, limit int) ([]state.Scope, time.Time, error)
	ListClaims(ctx context.Context, job, before string, limit int) ([]state.Claim, error)
	KeepPlace(ctx context.Context, p state.Place, d time.Duration) (state.Place, error)
	LeavePlace(ctx context.Context, id state.PlaceID, visit uuid.UUID, d time.Duration) error
	CountPlaces(ctx context.Context, s fence.Scope, turn int64, absent time.Duration) (before, all int, err error)
	ListPlaces(ctx context.Context, scopes []fence.Scope, limit int, absent time.Duration) (map[fence.Scope]state.Line, error)
}

// Guards is the leased guard list; *guards.List is one.
type Guards interface {
	Current() (*fence.Guards, error)
	// Refresh makes Current show everything committed before the call.
	Refresh(ctx context.Context) error
}

// Witness outlives the state: it keeps, beside the objects, the highest token
// that was granted, so that a state restored from an old copy does not grant it
// again.
type Witness interface {
	// Stand makes the token stand as witnessed. It is called after a grant is
	// committed and before it is answered; if it fails, it is not answered.
	Stand(ctx context.Context, s fence.Scope, m fence.Mark) error
}

// Options are the settings of a [Service] that have defaults.
type Options struct {
	// Witness may be nil: tokens then rest on the state alone.
	Witness Witness
	// Observer is told of grants, losses and the like; events.Discard where nil.
	Observer events.Observer
	// Proxy is this process among the proxies that renew their lease on the guard
	// list. The places of its calls count as long as it is seen. Where zero, they
	// count until their calls would have ended, even if the process has died.
	Proxy uuid.UUID
	// Absent is how long a proxy may not have been seen while its places count; the
	// same in all processes. The lease on the guard list is right: a proxy that has
	// lost it grants nothing. DefaultAbsent where zero.
	Absent time.Duration
	// Jitter draws a duration from 0 to below its argument; rand.N where nil. Several
	// processes that wait for one lock do not look in step.
	Jitter func(time.Duration) time.Duration
}

// Service grants and ends leases. Safe for concurrent use.
type Service struct {
	state    State
	guards   Guards
	witness  Witness
	observer events.Observer
	proxy    uuid.UUID
	absent   time.Duration
	jitter   func(time.Duration) time.Duration
	lines    lines
	// stopping is closed by Drain.
	stopping chan struct{}
	drain    sync.Once
}

// New makes a Service.
func New(s State, g Guards, o Options) *Service {
	if o.Observer == nil {
		o.Observer = events.Discard
	}
	if o.Absent == 0 {
		o.Absent = DefaultAbsent
	}
	if o.Jitter == nil {
		o.Jitter = rand.N[time.Duration]
	}
	return &Service{
		state: s, guards: g, witness: o.Witness, observer: o.Observer, proxy: o.Proxy, absent: o.Absent, jitter: o.Jitter,
		lines:    lines{of: map[fence.Scope]*line{}, kick: make(chan struct{}, 1)},
		stopping: make(chan struct{}),
	}
}

// Drain ends every wait, those of later calls too, with an error that wraps
// state.ErrUnavailable, so that a process can stop. Places of tickets are kept.
func (s *Service) Drain() { s.drain.Do(func() { close(s.stopping) }) }

// Lease is a lock as it stands for its holder.
type Lease struct {
	Scope fence.Scope
	Mark  fence.Mark
	Owner string
	// TTL is the length of the lease, Granted and Expires when it was granted and
	// when it ends unless renewed, by the database's clock. Left is Expires as
	// seen at the moment of the answer; the holder counts it from before it asked.
	TTL     time.Duration
	Granted time.Time
	Expires time.Time
	Left    time.Duration
	// Settled says that no older write can take effect any more. In sealed scopes
	// that is so from the grant on.
	Settled bool
}

func leaseOf(row *state.Scope, now time.Time) Lease {
	return Lease{
		Scope: row.Scope, Mark: row.Mark, Owner: row.Last.Owner, TTL: row.TTL,
		Granted: row.Last.At, Expires: row.LeaseUntil, Left: row.LeaseUntil.Sub(now), Settled: true,
	}
}

// guardOf finds the guard that makes s a scope, asking the state again before it
// says that there is none.
func (s *Service) guardOf(ctx context.Context, sc fence.Scope) (fence.Guard, error) {
	if sc.IsZero() {
		return fence.Guard{}, invalid("no scope is named")
	}
	list, err := s.guards.Current()
	if err == nil {
		if g, err := lookUp(list, sc); err == nil {
			return g, nil
		}
	}
	if err := s.guards.Refresh(ctx); err != nil {
		return fence.Guard{}, unavailable(err)
	}
	if list, err = s.guards.Current(); err != nil {
		return fence.Guard{}, unavailable(err)
	}
	return lookUp(list, sc)
}

// underGuard does something under the guard of a scope, and does it again where
// the state says that the guard has gone and another one governs the scope now:
// it was removed and added again since this process last looked.
func underGuard[T any](ctx context.Context, s *Service, sc fence.Scope, do func(fence.Guard) (T, error)) (T, error) {
	var none T
	g, err := s.guardOf(ctx, sc)
	if err != nil {
		return none, err
	}
	for {
		out, err := do(g)
		if !errors.Is(err, ErrNoSuchGuard) {
			return out, err
		}
		if err := s.guards.Refresh(ctx); err != nil {
			return none, unavailable(err)
		}
		now, gone := s.guardOf(ctx, sc)
		switch {
		case gone != nil:
			return none, gone
		case now.ID == g.ID:
			return none, err
		}
		g = now
	}
}

func lookUp(list *fence.Guards, sc fence.Scope) (fence.Guard, error) {
	if g, ok := list.ForScope(sc); ok {
		return *g, nil
	}
	if g, parent, ok := list.Find(sc.Bucket(), sc.Prefix()); ok {
		return fence.Guard{}, &ScopeOverlapError{Scope: sc, Parent: parent, Guard: g.Pattern}
	}
	if p, err := fence.ParsePattern(sc.String()); err == nil {
		if g, ok := list.Overlapping(p); ok {
			return fence.Guard{}, &ScopeOverlapError{Scope: sc, Guard: g.Pattern}
		}
	}
	return fence.Guard{}, &NoSuchGuardError{sc}
}

// unavailable makes an error one that callers answer with "try again".
func unavailable(err error) error { return fmt.Errorf("%w: %w", state.ErrUnavailable, err) }

// guardIn is the guard as the transaction sees it: what was looked up before may
// have changed since.
func guardIn(v *state.View, g fence.Guard, sc fence.Scope) (fence.Guard, error) {
	row, ok := v.Guards[g.ID]
	switch {
	case !ok || !row.Pattern.Governs(sc):
		return row, &NoSuchGuardError{sc}
	case row.State != fence.Active:
		return row, fmt.Errorf("%w: the guard %s is %s; try again when that is done", ErrNotActive, row.Pattern, row.State)
	}
	return row, nil
}

// locksIn is guardIn for a guard whose locks are granted here.
func locksIn(v *state.View, g fence.Guard, sc fence.Scope) (fence.Guard, error) {
	row, err := guardIn(v, g, sc)
	switch {
	case err != nil:
		return row, err
	case row.Tokens == fence.None:
		return row, fmt.Errorf("%w: guard %s has tokens: none; write there without a lock, with If-Match and If-None-Match", ErrNoLocks, row.Pattern)
	case row.Issuer != fence.Own:
		return row, fmt.Errorf("%w: the tokens of guard %s come from an external issuer; ask that for its lock", ErrNoLocks, row.Pattern)
	}
	return row, nil
}

func checkTTL(ttl time.Duration) error {
	if ttl < MinTTL || ttl > MaxTTL {
		return invalid("ttl is %v; it must be from %v to %v", ttl, MinTTL, MaxTTL)
	}
	return nil
}

func checkText(name, text string, most int) error {
	if len(text) > most {
		return invalid("%s has %d bytes; at most %d are taken", name, len(text), most)
	}
	if !utf8.ValidString(text) {
		return invalid("%s is not UTF-8", name)
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return invalid("%s has the character %U, which cannot be printed", name, r)
		}
	}
	return nil
}

func checkTicket(ticket string) error {
	if len(ticket) > MaxTicket {
		return invalid("ticket has %d bytes; at most %d are taken", len(ticket), MaxTicket)
	}
	if strings.ContainsFunc(ticket, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return invalid("ticket has other characters than letters, digits and punctuation of ASCII")
	}
	return nil
}

func (s *Service) tell(ctx context.Context, e events.Event) { s.observer.Observe(ctx, e) }
