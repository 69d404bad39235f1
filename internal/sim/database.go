package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

const (
	// idleLimit is how long the database lets a transaction stand that says nothing,
	// as package postgres asks it to.
	idleLimit = 5 * time.Second
	// lateMost is how late a commit comes at most.
	lateMost = 20 * time.Second
)

var errSession = errors.New("sim: the session has ended")

// database is the state that all proxies share: the one in memory, with what lies
// between it and them.
type database struct {
	*actor
	w     *world
	mem   *memory.Store
	clock atomic.Int64 // how far it is off
	// down is until when it answers nobody; w.mu guards it.
	down time.Time
	// changed is called after each transaction that took effect.
	changed func()
}

func newDatabase(w *world) *database {
	d := &database{actor: &actor{name: "state"}, w: w}
	d.mem = memory.New(memory.WithHook(d.hook), memory.WithClock(d.now))
	return d
}

func (d *database) now() time.Time { return time.Now().Add(time.Duration(d.clock.Load())) }

func (d *database) dead() bool {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	return d.down.After(time.Now())
}

type sessionKey struct{}

// inside is what a transaction's session is about, in its context.
type inside struct {
	p    *proxy
	name string
}

// hook is called by the state in memory within the calls of sessions.
func (d *database) hook(ctx context.Context, at memory.Stage) error {
	in, ok := ctx.Value(sessionKey{}).(*inside)
	if !ok {
		return nil // the simulation itself
	}
	switch at {
	case memory.Waited:
		return d.w.step(d.actor, "locks for "+in.name)
	case memory.Deciding:
		// The locks are held, and the proxy is asked what to write. One that says
		// nothing loses its session.
		if err := d.w.stepWithin(in.p.actor, "decides "+in.name, idleLimit); err != nil {
			return err
		}
		if in.p.cutFrom(&in.p.noState) {
			rest(context.Background(), idleLimit)
			return errSession
		}
		if d.dead() {
			return errSession
		}
	case memory.Committing:
		// COMMIT is on its way, whatever becomes of the proxy.
		if d.w.chance(CommitLate, in.name) {
			d.w.wg.Go(func() {
				time.Sleep(d.w.within(lateMost, "late "+in.name))
				_ = d.w.step(d.actor, "commits late "+in.name)
				d.mem.Deliver()
				d.changed()
			})
			return memory.ErrLate
		}
		_ = d.w.step(d.actor, "commits "+in.name)
		if d.dead() || d.w.chance(CommitLost, in.name) {
			return errSession
		}
	case memory.Committed:
		d.changed()
		if in.p.cutFrom(&in.p.noState) || d.w.chance(CommitUnheard, in.name) {
			return errSession
		}
	}
	return nil
}

// session is the state as one proxy sees it.
type dbSession struct {
	d *database
	p *proxy
}

var _ state.State = (*dbSession)(nil)

// away waits as long as it takes to find out that the state cannot be reached.
func (s *dbSession) away(ctx context.Context) error {
	rest(ctx, dialTime)
	return fmt.Errorf("%w: %w", state.ErrUnavailable, errUnreachable)
}

// ask sends one statement and hears its answer. Where the answer is lost it may have
// taken effect.
func ask[T any](ctx context.Context, s *dbSession, name string, do func() (T, error)) (T, error) {
	var none T
	w := s.d.w
	if err := w.step(s.p.actor, "asks "+name); err != nil {
		return none, fmt.Errorf("%w: %w", state.ErrUnavailable, err)
	}
	if s.p.cutFrom(&s.p.noState) || s.d.dead() {
		return none, s.away(ctx)
	}
	out, err := do()
	if err := w.step(s.p.actor, "is told "+name); err != nil {
		return none, fmt.Errorf("%w: %w", state.ErrUnavailable, err)
	}
	if s.p.cutFrom(&s.p.noState) || s.d.dead() || w.chance(StateUnheard, name) {
		return none, s.away(ctx)
	}
	return out, err
}

func does(ctx context.Context, s *dbSession, name string, do func() error) error {
	_, err := ask(ctx, s, name, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

func (s *dbSession) Transact(ctx context.Context, tx *state.Tx) error {
	name := s.p.name + " " + nameOf(tx)
	w := s.d.w
	if err := w.step(s.p.actor, "begins "+name); err != nil {
		return fmt.Errorf("%w: %w", state.ErrUnavailable, err)
	}
	if s.p.cutFrom(&s.p.noState) || s.d.dead() {
		return s.away(ctx)
	}
	err := s.d.mem.Transact(context.WithValue(ctx, sessionKey{}, &inside{s.p, name}), tx)
	if dead := w.step(s.p.actor, "has "+name); dead != nil {
		return fmt.Errorf("%w: %w", state.ErrUnknown, dead)
	}
	return err
}

// nameOf is what a transaction is about, without the random parts.
func nameOf(tx *state.Tx) string {
	var parts []string
	if tx.GuardList {
		parts = append(parts, "the guards")
	}
	for _, g := range tx.Guards {
		parts = append(parts, fmt.Sprintf("guard %d", g))
	}
	for _, sc := range tx.Scopes {
		mode := ""
		if sc.Mode == state.Exclusive {
			mode = "!"
		}
		parts = append(parts, sc.Scope.Prefix()+mode)
	}
	for _, k := range tx.Keys {
		parts = append(parts, k.Key)
	}
	if n := len(tx.Requests); n > 0 {
		parts = append(parts, fmt.Sprintf("%d requests", n))
	}
	slices.Sort(parts)
	return "[" + strings.Join(parts, ", ") + "]"
}

func nameOfQuery(q state.Query) string {
	var parts []string
	for _, sc := range q.Scopes {
		parts = append(parts, sc.Prefix())
	}
	for _, k := range q.Objects {
		parts = append(parts, k.Key)
	}
	parts = append(parts, fmt.Sprintf("%d guards", len(q.Guards)))
	if n := len(q.Attempts); n > 0 {
		parts = append(parts, fmt.Sprintf("%d attempts", n))
	}
	if n := len(q.Uploads); n > 0 {
		parts = append(parts, fmt.Sprintf("%d uploads", n))
	}
	slices.Sort(parts)
	return "[" + strings.Join(parts, ", ") + "]"
}

func (s *dbSession) Resolve(ctx context.Context, id uuid.UUID) (state.Outcome, error) {
	return ask(ctx, s, "an outcome", func() (state.Outcome, error) { return s.d.mem.Resolve(ctx, id) })
}

func (s *dbSession) Read(ctx context.Context, q state.Query) (*state.View, error) {
	return ask(ctx, s, "a read of "+nameOfQuery(q), func() (*state.View, error) { return s.d.mem.Read(ctx, q) })
}

func (s *dbSession) Deployment(ctx context.Context) (state.Deployment, error) {
	return ask(ctx, s, "the deployment", func() (state.Deployment, error) { return s.d.mem.Deployment(ctx) })
}

func (s *dbSession) ListObjects(ctx context.Context, r state.Range, limit int) ([]state.Object, error) {
	return ask(ctx, s, "the objects of "+r.From, func() ([]state.Object, error) { return s.d.mem.ListObjects(ctx, r, limit) })
}

func (s *dbSession) ListUploads(ctx context.Context, r state.Range, afterID string, limit int) ([]state.Upload, error) {
	return ask(ctx, s, "the uploads of "+r.From, func() ([]state.Upload, error) { return s.d.mem.ListUploads(ctx, r, afterID, limit) })
}

func (s *dbSession) ListScopes(ctx context.Context, prefix, after string, limit int) ([]state.Scope, time.Time, error) {
	type page struct {
		rows []state.Scope
		now  time.Time
	}
	p, err := ask(ctx, s, "the scopes of "+prefix, func() (page, error) {
		rows, now, err := s.d.mem.ListScopes(ctx, prefix, after, limit)
		return page{rows, now}, err
	})
	return p.rows, p.now, err
}

func (s *dbSession) ListClaims(ctx context.Context, job, before string, limit int) ([]state.Claim, error) {
	return ask(ctx, s, "the claims of "+job, func() ([]state.Claim, error) { return s.d.mem.ListClaims(ctx, job, before, limit) })
}

func (s *dbSession) ListGarbage(ctx context.Context, bucket string, before time.Time, limit int) ([]state.Garbage, error) {
	return ask(ctx, s, "the garbage", func() ([]state.Garbage, error) { return s.d.mem.ListGarbage(ctx, bucket, before, limit) })
}

func (s *dbSession) ListEvents(ctx context.Context, q state.EventQuery) (state.EventPage, error) {
	return ask(ctx, s, "the events", func() (state.EventPage, error) { return s.d.mem.ListEvents(ctx, q) })
}

func (s *dbSession) KeepPlace(ctx context.Context, p state.Place, d time.Duration) (state.Place, error) {
	return ask(ctx, s, "a place of "+p.Owner, func() (state.Place, error) { return s.d.mem.KeepPlace(ctx, p, d) })
}

func (s *dbSession) LeavePlace(ctx context.Context, id state.PlaceID, visit uuid.UUID, d time.Duration) error {
	return does(ctx, s, "to leave a place of "+id.Holder, func() error { return s.d.mem.LeavePlace(ctx, id, visit, d) })
}

func (s *dbSession) CountPlaces(ctx context.Context, sc fence.Scope, turn int64, absent time.Duration) (before, all int, err error) {
	n, err := ask(ctx, s, "the line of "+sc.Prefix(), func() (n [2]int, err error) {
		n[0], n[1], err = s.d.mem.CountPlaces(ctx, sc, turn, absent)
		return n, err
	})
	return n[0], n[1], err
}

func (s *dbSession) ListPlaces(ctx context.Context, scopes []fence.Scope, limit int, absent time.Duration) (map[fence.Scope]state.Line, error) {
	return ask(ctx, s, "the lines", func() (map[fence.Scope]state.Line, error) { return s.d.mem.ListPlaces(ctx, scopes, limit, absent) })
}

func (s *dbSession) KeepPart(ctx context.Context, p state.UploadPart) error {
	return does(ctx, s, "to keep a part", func() error { return s.d.mem.KeepPart(ctx, p) })
}

func (s *dbSession) UploadParts(ctx context.Context, upload string, names []state.PartName) ([]state.UploadPart, error) {
	return ask(ctx, s, "parts of an upload", func() ([]state.UploadPart, error) { return s.d.mem.UploadParts(ctx, upload, names) })
}

func (s *dbSession) ObjectParts(ctx context.Context, attempt uuid.UUID, skip, limit int) ([]object.Part, error) {
	return ask(ctx, s, "parts of an object", func() ([]object.Part, error) { return s.d.mem.ObjectParts(ctx, attempt, skip, limit) })
}

func (s *dbSession) RenewGuards(ctx context.Context, id uuid.UUID, acked, known int64) (version int64, list []fence.Guard, err error) {
	type guards struct {
		version int64
		list    []fence.Guard
	}
	g, err := ask(ctx, s, "the guards", func() (g guards, err error) {
		g.version, g.list, err = s.d.mem.RenewGuards(ctx, id, acked, known)
		return g, err
	})
	return g.version, g.list, err
}

func (s *dbSession) Proxies(ctx context.Context) ([]state.Proxy, time.Time, error) {
	type page struct {
		list []state.Proxy
		now  time.Time
	}
	p, err := ask(ctx, s, "the proxies", func() (p page, err error) {
		p.list, p.now, err = s.d.mem.Proxies(ctx)
		return p, err
	})
	return p.list, p.now, err
}

func (s *dbSession) ForgetProxy(ctx context.Context, id uuid.UUID) error {
	return does(ctx, s, "to be forgotten", func() error { return s.d.mem.ForgetProxy(ctx, id) })
}

func (s *dbSession) Maintain(ctx context.Context, keep time.Duration) error {
	return does(ctx, s, "to maintain", func() error { return s.d.mem.Maintain(ctx, keep) })
}

func (s *dbSession) MaintainEvents(ctx context.Context, keep time.Duration) error {
	return does(ctx, s, "to maintain events", func() error { return s.d.mem.MaintainEvents(ctx, keep) })
}

func (*dbSession) Check(context.Context) error { return nil }
func (*dbSession) Close() error                { return nil }
