package guards

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/boottime"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// Registry is the part of the state that a [List] asks.
type Registry interface {
	RenewGuards(ctx context.Context, proxy uuid.UUID, acked, known int64) (version int64, list []fence.Guard, err error)
	ForgetProxy(ctx context.Context, proxy uuid.UUID) error
}

// DefaultGrace is how long a mutation outside every guard may go on after a
// guard was added over its key.
const DefaultGrace = 10 * time.Second

// ListOptions are the settings of a [List] that have defaults.
type ListOptions struct {
	// Grace bounds how long a flight may go on after a guard covered its key;
	// DefaultGrace where zero. It never outlives the flight's lease.
	Grace time.Duration
	// Clock judges the lease; boottime.System where its fields are nil.
	Clock boottime.Clock
	// Logger is told when the lease is lost and had again; slog.Default() where
	// nil.
	Logger *slog.Logger
}

// List is this proxy's copy of the guard list, good only under a lease. Safe
// for concurrent use.
type List struct {
	registry Registry
	proxy    uuid.UUID
	lease    time.Duration
	grace    time.Duration
	clock    boottime.Clock
	log      *slog.Logger

	// current is nil until the first renewal.
	current atomic.Pointer[held]
	closed  atomic.Bool
	flights flights
	// blocking counts the flights that a guard of the current list covers.
	blocking atomic.Int64
	// kick asks Run for a renewal at once.
	kick chan struct{}

	// renewing is held by whoever renews. It guards the fields below.
	renewing chan struct{}
	acked    int64
	begun    atomic.Int64 // renewals begun, for Refresh to share
	shared   int64        // the latest begun one that succeeded
	failing  bool
	// why is what keeps the lease from being renewed, if it is something to be mended.
	// It says nothing of any transaction's outcome, as the whole error might.
	why atomic.Pointer[error]
}

// held is a copy of the list and the moment before it was asked for. Values
// are immutable.
type held struct {
	guards *fence.Guards
	asked  boottime.Instant
}

// NewList makes a list that has no lease yet: call Refresh or Run. proxy must
// be a fresh id for each start of a process; lease must be the same in every
// proxy of the deployment.
func NewList(registry Registry, proxy uuid.UUID, lease time.Duration, o ListOptions) *List {
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	system := boottime.System()
	if o.Clock.Now == nil {
		o.Clock.Now = system.Now
	}
	if o.Clock.Awake == nil {
		o.Clock.Awake = system.Awake
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &List{
		registry: registry, proxy: proxy, lease: lease, grace: o.Grace, clock: o.Clock, log: o.Logger,
		kick: make(chan struct{}, 1), renewing: make(chan struct{}, 1),
	}
}

// Current is the guard list as far as the lease lets it be known, or
// [ErrLeaseOver] (F9). It takes no lock and makes no system call; the clock
// that runs through suspend is left to [Flight.StillValid], which every
// mutation that relies on the list alone passes twice.
func (l *List) Current() (*fence.Guards, error) {
	h := l.current.Load()
	if h == nil || l.clock.Quickly(h.asked) >= l.lease || l.closed.Load() {
		return nil, l.over()
	}
	return h.guards, nil
}

// over is [ErrLeaseOver], with what somebody can mend where that is why.
func (l *List) over() error {
	if why := l.why.Load(); why != nil {
		return fmt.Errorf("%w: %w", ErrLeaseOver, *why)
	}
	return ErrLeaseOver
}

// Known is the last list that was seen, however old; nil before the first.
// Nothing may be changed by it: it is for unfenced reads, which go on while the
// state cannot be asked.
func (l *List) Known() *fence.Guards {
	if h := l.current.Load(); h != nil {
		return h.guards
	}
	return nil
}

// valid judges a lease by all clocks.
func (l *List) valid(h *held) bool {
	return h != nil && !l.closed.Load() && l.clock.Since(h.asked) < l.lease
}

// Run renews the lease every third of it until ctx ends, sooner when a renewal
// failed or something waits for this proxy's acknowledgement.
func (l *List) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-l.kick:
		}
		next := l.lease / 3
		if err := l.Refresh(ctx); err != nil {
			next = l.lease / 15
		}
		timer.Reset(next)
	}
}

// Refresh renews at once and acknowledges what it learns if nothing stands
// against it. When it returns nil, the list holds everything that was committed
// before it was called. Concurrent calls share a renewal. It takes at most half
// a lease.
func (l *List) Refresh(ctx context.Context) error {
	arrived := l.begun.Load()
	ctx, cancel := context.WithTimeout(ctx, l.lease/2)
	defer cancel()
	select {
	case l.renewing <- struct{}{}:
		defer func() { <-l.renewing }()
	case <-ctx.Done():
		return fmt.Errorf("renewing the lease on the guard list: %w", ctx.Err())
	}
	if l.shared > arrived {
		return nil
	}
	number := l.begun.Add(1)
	err := l.renew(ctx)
	l.tell(err)
	if err == nil {
		l.shared = number
	}
	return err
}

// tell logs changes between having the lease and failing to renew it.
func (l *List) tell(err error) {
	l.why.Store(nil)
	for _, why := range []error{state.ErrDiskFull, state.ErrNoConnection} {
		if errors.Is(err, why) {
			l.why.Store(&why)
		}
	}
	switch {
	case err != nil && !l.failing && !errors.Is(err, context.Canceled):
		l.failing = true
		l.log.Warn("the lease on the guard list was not renewed; mutations are refused once it is over", "error", err)
	case err == nil && l.failing:
		l.failing = false
		l.log.Info("the lease on the guard list is renewed again")
	}
}

func (l *List) renew(ctx context.Context) error {
	if l.closed.Load() {
		return ErrLeaseOver
	}
	if !l.valid(l.current.Load()) {
		// Without a lease this proxy's row may be missing. A renewal that both makes
		// the row and reads the list could read before a guard was committed and
		// show its row after the adder looked for proxies: nobody would wait for it.
		// So the row is committed first, and the lease begins with a second call.
		if _, _, err := l.registry.RenewGuards(ctx, l.proxy, l.acked, l.version()); err != nil {
			return fmt.Errorf("registering at the guard list: %w", err)
		}
	}
	changed, err := l.ask(ctx)
	if err != nil {
		return err
	}
	if changed && l.blocking.Load() == 0 {
		_, err = l.ask(ctx)
	}
	return err
}

// version is that of the current copy; -1, which no list has, before the first.
func (l *List) version() int64 {
	if h := l.current.Load(); h != nil {
		return h.guards.Version()
	}
	return -1
}

// ask makes one renewal, from its asking to its effect on the flights.
func (l *List) ask(ctx context.Context) (changed bool, err error) {
	known := l.version()
	asking := known
	if !l.valid(l.current.Load()) {
		// While this proxy slept the state may have been restored from an old copy and
		// have come to the same version again by other changes: the whole list is
		// compared.
		asking = -1
	}
	if l.blocking.Load() == 0 && known > l.acked {
		l.acked = known
	}
	asked := l.clock.Instant()
	version, list, err := l.registry.RenewGuards(ctx, l.proxy, l.acked, asking)
	switch {
	case err != nil:
		return false, fmt.Errorf("renewing the lease on the guard list: %w", err)
	case version < known:
		return false, fmt.Errorf("%w (version %d, seen %d)", ErrWentBack, version, known)
	case version == known && list != nil && !slices.EqualFunc(list, l.current.Load().guards.All(), sameGuard):
		return false, fmt.Errorf("%w (version %d has other guards than when it was seen)", ErrWentBack, version)
	case version == known:
		l.current.Store(&held{l.current.Load().guards, asked})
		return false, nil
	}
	guards, err := fence.NewGuards(version, list)
	if err != nil {
		return false, fmt.Errorf("the guard list of the state, version %d: %w", version, err)
	}
	l.install(guards, asked)
	return true, nil
}

func sameGuard(g, h fence.Guard) bool {
	return g.ID == h.ID && g.State == h.State && g.Created.Equal(h.Created) && g.SameRule(h)
}

// install puts a changed list into force. The order matters: new flights must
// meet the new guards before the running ones are looked through, and a flight
// that is covered must not be lent the new lease for a moment.
func (l *List) install(guards *fence.Guards, asked boottime.Instant) {
	old := l.current.Load()
	if old == nil {
		l.current.Store(&held{guards, asked})
		return
	}
	l.current.Store(&held{guards, old.asked})
	// After a gap in the lease guards may have come and gone unseen.
	lapsed := !l.valid(old)
	left := min(l.grace, l.lease-l.clock.Since(old.asked))
	l.flights.each(func(f *Flight) {
		if f.bound.Load() == nil && (lapsed || f.coveredBy(guards)) {
			l.blocking.Add(1)
			f.bound.Store(old)
			f.timer = time.AfterFunc(left, f.cut)
		}
	})
	l.current.Store(&held{guards, asked})
}

// Close gives the lease back: from here on every mutation is refused, and the
// state is told not to wait for this proxy. Let Run end first.
func (l *List) Close(ctx context.Context) error {
	l.closed.Store(true)
	select {
	case l.renewing <- struct{}{}:
		defer func() { <-l.renewing }()
	case <-ctx.Done():
		return fmt.Errorf("giving the lease on the guard list back: %w", ctx.Err())
	}
	// The row may go while flights still run, since none of them can answer
	// success any more.
	if err := l.registry.ForgetProxy(ctx, l.proxy); err != nil {
		return fmt.Errorf("giving the lease on the guard list back: %w", err)
	}
	return nil
}
