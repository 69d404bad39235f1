package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/boottime"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/lockapi"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/s3api"
	"github.com/s3fence/s3fence/internal/sealed"
	"github.com/s3fence/s3fence/internal/session"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// Times of the deployment: short, so that leases and epochs end within a run.
const (
	lease         = 10 * time.Second
	longestUpload = 4 * time.Second
	collectAfter  = 3 * time.Second
	collectEvery  = 3 * time.Second
)

const (
	bucket = "data"
	region = "us-east-1"
)

// machine is where a proxy runs, one life after the other.
type machine struct {
	n     int
	c     *cluster
	lives int
	clock atomic.Int64 // how far it is off
	ahead atomic.Int64 // by how much it was set forward in all
	// noState and noStore are until when it cannot reach them; w.mu guards them, and
	// proxy, which is nil while it is down.
	noState, noStore time.Time
	proxy            *proxy
}

// proxy is one life of a proxy: the product, wired as in package proxy.
type proxy struct {
	*machine
	*actor
	handler http.Handler
	client  *upstream.Client
	store   *sealed.Store
	list    *guards.List
	admin   *guards.Admin
	locks   *locks.Service
	end     context.CancelFunc
	work    sync.WaitGroup
}

// cutFrom reports whether the proxy is cut from somebody now.
func (m *machine) cutFrom(until *time.Time) bool {
	m.c.w.mu.Lock()
	defer m.c.w.mu.Unlock()
	return !m.c.w.quiet && until.After(time.Now())
}

func (m *machine) now() time.Time { return time.Now().Add(time.Duration(m.clock.Load())) }

// guardClock is the clock of leases. A wall clock that is set back changes nothing,
// since the monotonic one counts; it cannot be had apart here, so only what was set
// forward shows.
func (m *machine) guardClock() boottime.Clock {
	if m.c.bend.clock != nil {
		return *m.c.bend.clock
	}
	return boottime.Clock{
		Now:   func() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())) },
		Awake: func() time.Duration { return time.Since(m.c.w.begun) },
	}
}

// Bucket implements the interfaces of the product.
func (p *proxy) Bucket(name string) (*upstream.Client, string, error) {
	if name != bucket {
		return nil, "", s3api.ErrNoSuchBucket
	}
	return p.client, bucket, nil
}

// Names implements s3api.Buckets.
func (*proxy) Names() []string { return []string{bucket} }

// Only implements s3api.Buckets.
func (p *proxy) Only() *upstream.Client { return p.client }

// start begins a life; it goes on asking until the state answers.
func (m *machine) start() {
	w := m.c.w
	w.mu.Lock()
	m.lives++
	p := &proxy{machine: m, actor: &actor{name: fmt.Sprintf("p%d.%d", m.n, m.lives)}}
	m.c.actors = append(m.c.actors, p.actor)
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	p.end = cancel
	p.work.Go(func() {
		for {
			err := p.serve(ctx)
			if err == nil {
				return
			}
			p.c.w.tell("%s does not serve: %v", p.name, err)
			rest(ctx, time.Second)
			if w.alive(p.actor) != nil || ctx.Err() != nil {
				return
			}
		}
	})
	w.mu.Lock()
	m.proxy = p
	w.mu.Unlock()
}

// serve wires the services and opens the door, or fails.
func (p *proxy) serve(ctx context.Context) (err error) {
	var st state.State = &dbSession{p.c.db, p}
	if p.c.bend.state != nil {
		st = p.c.bend.state(st)
	}
	dep, err := st.Deployment(ctx)
	if err != nil {
		return err
	}
	if p.client, err = upstream.New(upstream.Config{Name: "store", Endpoint: "http://store", AccessKey: "k", SecretKey: "s", PathStyle: true},
		upstream.WithClock(p.now), upstream.WithTransport(&transport{p, p.c.store})); err != nil {
		return err
	}
	turn := func(what string) { _ = p.c.w.step(p.actor, "joins for "+what) }
	if p.store, err = sealed.New(ctx, st, p, sealed.Options{LongestUpload: longestUpload, CollectAfter: collectAfter, CollectEvery: collectEvery, Turn: turn}); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer func() {
		if err != nil {
			stop()
			p.store.Close()
		}
	}()
	id := state.NewID()
	p.list = guards.NewList(st, id, lease, guards.ListOptions{Clock: p.guardClock(), Logger: p.c.log})
	p.admin = guards.NewAdmin(st, p.store, cmp.Or(p.c.bend.patience, lease), guards.AdminOptions{Refresh: p.list.Refresh})
	ring, err := ringOf(p.c.keys, dep.ID.String(), p.now)
	if err != nil {
		return err
	}
	n := 0
	jitter := func(d time.Duration) time.Duration {
		n++
		return time.Duration(draw(p.c.w.seed, p.name+" jitter", n) % uint64(d))
	}
	p.locks = locks.New(st, p.list, locks.Options{Proxy: id, Absent: lease, Jitter: jitter})
	verifier := sigv4.NewVerifier(sigv4.Options{Region: region, Credentials: secrets{ring}, Now: p.now})
	objects, err := s3api.New(s3api.Options{
		Region: region, Keyring: ring, Verifier: verifier, Guards: p.list, Buckets: p,
		Writers: map[fence.Writes]guarded.Writer{fence.Sealed: p.store}, Reader: p.store, Lister: p.store, Judge: p.store,
	})
	if err != nil {
		return err
	}
	api := lockapi.New(lockapi.Options{Verifier: verifier, Principals: ring, Sessions: ring, Locks: p.locks, Guards: p.admin, Logger: p.c.log})
	if err := p.list.Refresh(ctx); err != nil {
		return err
	}
	p.work.Go(func() { p.list.Run(ctx) })
	if err := p.admin.Ensure(ctx, p.c.guards); err != nil {
		return err
	}
	p.work.Go(func() { p.collect(ctx) })
	p.c.w.mu.Lock()
	defer p.c.w.mu.Unlock()
	p.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, lockapi.Prefix) {
			api.ServeHTTP(w, r)
			return
		}
		objects.ServeHTTP(w, r)
	})
	return nil
}

// collect is sealed.Store.Collect with a pause that the seed decides.
func (p *proxy) collect(ctx context.Context) {
	for ctx.Err() == nil {
		_ = p.store.CollectOnce(ctx) // it goes on at its next run
		rest(ctx, collectEvery+p.c.w.within(collectEvery, p.name+" collects"))
	}
}

// crash ends a life without a word.
func (m *machine) crash() {
	w := m.c.w
	w.mu.Lock()
	p := m.proxy
	m.proxy = nil
	w.mu.Unlock()
	if p == nil {
		return
	}
	w.kill(p.actor)
	w.wake()
	w.wg.Go(p.bury)
}

// bury ends the goroutines of a life.
func (p *proxy) bury() {
	p.end()
	if p.locks != nil {
		p.locks.Drain()
	}
	p.work.Wait()
	if p.store != nil {
		p.store.Close()
	}
}

// ringOf makes the keyring that knows fenced credentials.
func ringOf(keys *auth.Keyring, deployment string, now func() time.Time) (*session.Ring, error) {
	return session.New(keys, session.Options{Deployment: deployment, Secret: "a secret of all proxies", Now: now})
}

// secrets lets the verifier of signatures ask a session.Ring, as in package proxy.
type secrets struct{ ring *session.Ring }

// Lookup implements sigv4.CredentialSource.
func (s secrets) Lookup(ctx context.Context, accessKey, sessionToken string) (string, error) {
	key, err := s.ring.SecretKey(ctx, accessKey, sessionToken)
	switch {
	case errors.Is(err, auth.ErrUnknownKey):
		return "", fmt.Errorf("%w: %w", sigv4.ErrUnknownKey, err)
	case errors.Is(err, auth.ErrExpired):
		return "", fmt.Errorf("%w: %w", sigv4.ErrExpiredSession, err)
	case err != nil:
		return "", fmt.Errorf("%w: %w", sigv4.ErrBadSessionToken, err)
	}
	return key, nil
}
