package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/edge"
	"github.com/s3fence/s3fence/internal/eventlog"
	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/lockapi"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/s3api"
	"github.com/s3fence/s3fence/internal/sealed"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/state"
)

const (
	// pingTime bounds the first question to each store.
	pingTime = 10 * time.Second
	// farewell bounds each step of the end that asks the state, lastEvents the one
	// that records what has happened up to the end.
	farewell   = 10 * time.Second
	lastEvents = 5 * time.Second
)

// ErrListen is wrapped by errors about ports.
var ErrListen = errors.New("cannot listen")

// ErrSpool is wrapped by errors about the directory for bodies that must be kept.
var ErrSpool = errors.New("cannot keep bodies on disk")

// Options are what is not configuration.
type Options struct {
	// Logger defaults to slog.Default().
	Logger *slog.Logger
	// Observer is told of events beside the log.
	Observer events.Observer
}

// Proxy is a proxy that was made by [New] and is run by [Proxy.Run], once.
type Proxy struct {
	config   *config.Config
	log      *slog.Logger
	quiet    *quiet
	state    state.State
	buckets  *buckets
	store    *sealed.Store
	events   *eventlog.Log
	list     *guards.List
	admin    *guards.Admin
	guards   []fence.Guard
	ensure   func(context.Context) error
	listener net.Listener
	bounded  *edge.Listener // below TLS, where that is on
	health   net.Listener   // nil where off
	server   *http.Server
	phase    atomic.Value // phase
	serving  chan struct{}
	embedded Embedded
	// closers run in reverse order, once.
	closers   []func()
	closeOnce sync.Once
}

// phase is where a proxy is in its life.
type phase string

const (
	starting phase = "starting"
	running  phase = "running"
	draining phase = "draining"
)

// New makes a proxy and opens what it needs. ctx bounds the opening alone. The
// caller must Run or Close it.
func New(ctx context.Context, c *config.Config, o Options) (_ *Proxy, err error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	p := &Proxy{config: c, log: o.Logger, quiet: newQuiet(o.Logger), serving: make(chan struct{})}
	p.phase.Store(starting)
	p.ensure = func(ctx context.Context) error { return p.admin.Ensure(ctx, p.guards) }
	defer func() {
		if err != nil {
			p.Close()
		}
	}()

	if p.guards, err = guardsOf(c); err != nil {
		return nil, err
	}
	keyring, err := keyringOf(c)
	if err != nil {
		return nil, err
	}
	if err := tryDir(string(c.Limits.SpoolDir)); err != nil {
		return nil, err
	}
	if p.buckets, err = bucketsOf(c); err != nil {
		return nil, err
	}
	p.closers = append(p.closers, p.buckets.close)
	if p.state, err = openState(ctx, c.State, o.Logger); err != nil {
		return nil, err
	}
	p.closers = append(p.closers, func() { p.within("closing the state", p.state.Close) })
	// Partitions of today are attached before the first commit needs one.
	if err := p.state.Maintain(ctx, sealed.DefaultCollectAfter); err != nil {
		return nil, fmt.Errorf("maintaining the state: %w", err)
	}
	if err := p.state.MaintainEvents(ctx, c.EventsKeep); err != nil {
		return nil, fmt.Errorf("maintaining the event log: %w", err)
	}
	p.events = eventlog.New(p.state, eventlog.Options{Keep: c.EventsKeep, Name: hostName(c.Listen), Logger: o.Logger})
	p.closers = append(p.closers, p.closeEvents)
	observers := []events.Observer{events.Log(o.Logger), p.events}
	if o.Observer != nil {
		observers = append(observers, o.Observer)
	}
	if err := p.ping(ctx); err != nil {
		return nil, err
	}
	if err := p.listen(ctx); err != nil {
		return nil, err
	}
	return p, p.wire(ctx, keyring, events.Fan(observers...))
}

// tryDir makes a file where bodies are kept, and removes it: a directory that cannot
// be written would else be found out by the first client whose body needs it.
func tryDir(dir string) error {
	f, err := os.CreateTemp(dir, "s3fence-start-*")
	if err != nil {
		return fmt.Errorf("%w: %w; set limits.spool_dir to a directory that s3fence can write", ErrSpool, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// hostName says which proxy of a deployment this is.
func hostName(listen string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "a proxy"
	}
	return host + " (" + listen + ")"
}

// closeEvents records what has happened up to the end.
func (p *Proxy) closeEvents() {
	ctx, cancel := context.WithTimeout(context.Background(), lastEvents)
	defer cancel()
	p.events.Close(ctx)
}

// wire makes the services and the handler over them.
func (p *Proxy) wire(ctx context.Context, keyring *auth.Keyring, observer events.Observer) error {
	c := p.config
	var err error
	p.store, err = sealed.New(ctx, p.state, p.buckets, sealed.Options{
		LongestUpload: c.LongestUpload, CollectAfter: c.CollectAfter, CollectEvery: c.CollectEvery, SettleBound: c.SettleBound, Logger: p.log,
	})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, p.store.Close)
	id := state.NewID()
	p.list = guards.NewList(p.state, id, c.GuardLease, guards.ListOptions{Logger: p.log})
	p.admin = guards.NewAdmin(p.state, p.store, c.GuardLease, guards.AdminOptions{
		Refresh: p.list.Refresh, Observer: observer,
		Mover: func(g fence.Guard, held func(context.Context) error, remove bool) guarded.Mover {
			return p.store.Export(g, sealed.ExportOptions{Held: held, Delete: remove})
		},
		Progress: func(g fence.Guard, what string) {
			p.log.Info("changing a guard", "guard", g.Pattern.String(), "step", what)
		},
	})
	sessions, err := p.sessions(ctx, keyring)
	if err != nil {
		return err
	}
	service := locks.New(p.state, p.list, locks.Options{Observer: observer, Proxy: id, Absent: c.GuardLease})

	verifier := sigv4.NewVerifier(sigv4.Options{Region: c.Region, Credentials: secrets{sessions}})
	tarry := edge.NewTarry()
	objects, err := s3api.New(s3api.Options{
		Region: c.Region, Domain: c.Domain, Keyring: sessions, Verifier: verifier, Guards: p.list, Buckets: p.buckets,
		Writers: map[fence.Writes]guarded.Writer{fence.Sealed: p.store}, Reader: p.store, Lister: p.store, Judge: p.store,
		Observer: observer, Answered: p.quiet.answered, Stranger: tarry.Wait, Logger: p.log,
		Limits: s3api.Limits{
			Concurrent: int(c.Limits.ConcurrentRequests), PerCredential: int(c.Limits.ConcurrentRequestsPerCredential),
			Deadline: c.Limits.RequestDeadline,
			Spool:    c.Limits.SpoolBytes, SpoolTotal: c.Limits.SpoolTotalBytes, SpoolDir: string(c.Limits.SpoolDir),
		},
	})
	if err != nil {
		return err
	}
	api := lockapi.New(lockapi.Options{Verifier: verifier, Principals: sessions, Sessions: sessions, Locks: service, Guards: p.admin, Events: p.events,
		Stranger: tarry.Wait, Unverified: edge.Unverified, Logger: p.log})
	p.server = edge.NewServer(route(c.Domain, api, objects), p.edge(), p.log)
	// Who waits for a lock, or for events, is told to ask elsewhere, rather than
	// waited for.
	p.server.RegisterOnShutdown(service.Drain)
	p.server.RegisterOnShutdown(p.events.StopWaiting)
	// An export ends with writers going on, not with their guard closed.
	p.server.RegisterOnShutdown(p.admin.Drain)
	return nil
}

// route gives what lies under /-/ on the endpoint's own host to the lock API; on
// a bucket's host that is a key.
func route(domain string, api, objects http.Handler) http.Handler {
	suffix := "." + strings.ToLower(domain)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/-/") {
			host := r.Host
			if h, _, err := net.SplitHostPort(host); err == nil {
				host = h
			}
			if domain == "" || !strings.HasSuffix(strings.ToLower(host), suffix) {
				api.ServeHTTP(w, r)
				return
			}
		}
		objects.ServeHTTP(w, r)
	})
}

// edge is what the configuration says of connections.
func (p *Proxy) edge() edge.Limits {
	l := p.config.Limits
	return edge.Limits{
		Connections: int(l.Connections), PerAddress: int(l.ConnectionsPerAddress),
		HeaderBytes: int(l.HeaderBytes), Headers: int(l.Headers), HeaderTime: l.HeaderTimeout, IdleTime: l.IdleTimeout,
		Stall: l.StallTimeout, MinRate: l.MinRate, Refused: p.quiet.connection,
	}
}

// ping asks every store for each bucket, all at once, and reports all that fail.
func (p *Proxy) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	type question struct{ store, bucket string }
	var ask []question
	if p.buckets.only != nil {
		ask = []question{{p.buckets.only.Name(), ""}}
	}
	for _, name := range p.buckets.names {
		at := p.buckets.named[name]
		ask = append(ask, question{at.client.Name(), at.bucket})
	}
	faults := make([]error, len(ask))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i, q := range ask {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			faults[i] = p.buckets.clients[q.store].Ping(ctx, q.bucket)
		})
	}
	wg.Wait()
	// One line for a store that cannot be had at all, however many its buckets.
	seen := map[string]bool{}
	faults = slices.DeleteFunc(faults, func(err error) bool {
		if err == nil || seen[err.Error()] {
			return true
		}
		seen[err.Error()] = true
		return false
	})
	return errors.Join(faults...)
}

// listen takes the ports.
func (p *Proxy) listen(ctx context.Context) (err error) {
	var cert *certificate
	if t := p.config.TLS; t.CertFile != "" {
		if cert, err = loadCertificate(string(t.CertFile), string(t.KeyFile), p.log); err != nil {
			return err
		}
	}
	l, err := open(ctx, "listen", p.config.Listen)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func() { _ = l.Close() })
	p.bounded = edge.Listen(l, p.edge())
	p.listener = p.bounded
	if cert != nil {
		p.listener = tls.NewListener(p.listener, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cert.get, NextProtos: []string{"http/1.1"}})
	}
	if p.config.AdminListen == "off" {
		return nil
	}
	if p.health, err = open(ctx, "admin_listen", p.config.AdminListen); err != nil {
		return err
	}
	p.closers = append(p.closers, func() { _ = p.health.Close() })
	return nil
}

func open(ctx context.Context, key, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%w on %s: the port is taken by another program; stop that, or choose another port for %s", ErrListen, address, key)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%w on %s: not permitted; set %s to a port above 1023", ErrListen, address, key)
	case err != nil:
		return nil, fmt.Errorf("%w on %s: %w; check %s", ErrListen, address, err, key)
	}
	return l, nil
}

// Addr is where S3 and the lock API are served; AdminAddr where health is, nil
// where that is off.
func (p *Proxy) Addr() net.Addr { return p.listener.Addr() }

// AdminAddr is nil where no admin listener is configured.
func (p *Proxy) AdminAddr() net.Addr {
	if p.health == nil {
		return nil
	}
	return p.health.Addr()
}

// Serving is closed when the first request can be answered.
func (p *Proxy) Serving() <-chan struct{} { return p.serving }

// Run serves until ctx ends, then ends in good order; nil then. Any other error
// ended it. Afterwards everything is closed.
func (p *Proxy) Run(ctx context.Context) error {
	defer p.Close()
	// Renewals and the collector go on while requests are drained.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	if p.health != nil {
		health := edge.NewServer(p.healthHandler(), edge.Limits{}, p.log)
		var answering sync.WaitGroup
		answering.Go(func() { _ = health.Serve(edge.Listen(p.health, edge.Limits{})) })
		defer func() {
			_ = health.Close()
			answering.Wait()
		}()
	}
	defer func() {
		stop()
		wg.Wait()
		p.farewell()
	}()
	if err := p.list.Refresh(ctx); err != nil {
		return endedBy(ctx, err)
	}
	wg.Go(func() { p.list.Run(work) })
	if err := p.ensure(ctx); err != nil {
		return endedBy(ctx, err)
	}
	wg.Go(func() { p.store.Collect(work) })
	wg.Go(func() { p.events.Maintain(work) })

	served := make(chan error, 1)
	wg.Go(func() { served <- p.server.Serve(p.listener) })
	p.phase.Store(running)
	close(p.serving)
	p.log.Info("serving", "address", p.Addr().String(), "tls", p.config.TLS.CertFile != "", "state", p.config.State.String())
	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	p.drain()
	return nil
}

// endedBy is nil where what failed, failed because the caller ended it.
func endedBy(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // an end that was asked for is no failure
	}
	return err
}

// drain stops accepting and waits for running requests, then cuts the rest.
func (p *Proxy) drain() {
	p.phase.Store(draining)
	p.log.Info("stopping", "drain_timeout", p.config.Limits.DrainTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), p.config.Limits.DrainTimeout)
	defer cancel()
	if err := p.server.Shutdown(ctx); err != nil {
		p.log.Warn("requests were still running and are cut", "after", p.config.Limits.DrainTimeout)
		_ = p.server.Close()
	}
}

// farewell gives the lease on the guard list back. From there on this proxy
// changes nothing, whatever still runs.
func (p *Proxy) farewell() {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if err := p.list.Close(ctx); err != nil {
		p.log.Warn("others may wait for this proxy for one guard_lease", "error", err)
	}
}

// within bounds a step that takes no context.
func (p *Proxy) within(doing string, f func() error) {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err != nil {
			p.log.Warn(doing+" failed", "error", err)
		}
	case <-time.After(farewell):
		p.log.Warn(doing+" took too long and was left", "after", farewell)
	}
}

// Close closes what New opened. Run does it itself.
func (p *Proxy) Close() {
	p.closeOnce.Do(func() {
		for _, f := range slices.Backward(p.closers) {
			f()
		}
	})
}

// healthHandler answers /healthz (the process lives) and /readyz (requests can
// be answered now, changes included).
func (p *Proxy) healthHandler() http.Handler {
	answer := func(w http.ResponseWriter, status int, text string) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_, _ = fmt.Fprintln(w, text)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if at := p.phase.Load().(phase); at != running {
			answer(w, http.StatusServiceUnavailable, string(at))
			return
		}
		if _, err := p.list.Current(); err != nil {
			answer(w, http.StatusServiceUnavailable, cmp.Or(err.Error(), "not ready"))
			return
		}
		answer(w, http.StatusOK, "ok")
	})
	return mux
}
