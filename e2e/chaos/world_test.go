package chaos

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v3"

	"github.com/s3fence/s3fence/internal/faultproxy"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/storetest"
	"github.com/s3fence/s3fence/internal/testserver"
)

// Measures of a world.
const (
	proxies = 3
	// groups of workers have their own links to each proxy.
	groups    = 2
	readyWait = 90 * time.Second
)

// world is everything that can be hurt.
type world struct {
	t                    *testing.T
	postgres             *pgtest.Server
	store                *storetest.Server
	bucket               string
	accessKey, secretKey string
	proxies              []*proxy
	workers              []*worker
	records              string
}

// proxy is one s3fence with the fault proxies around it.
type proxy struct {
	name, folder, addr, admin, binary string

	mu      sync.Mutex // guards process and down
	process *testserver.Process
	// down: it was killed and is not to be started yet.
	down bool

	state, store *faultproxy.Proxy
	fronts       [groups]*faultproxy.Proxy
}

// build makes the program unless S3FENCE_TEST_BIN names a folder that has it.
func build(t *testing.T, name string, flags ...string) string {
	t.Helper()
	if dir := os.Getenv("S3FENCE_TEST_BIN"); dir != "" {
		return filepath.Join(dir, name)
	}
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build"}, flags...), "-o", path, "./cmd/proxy")...)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return path
}

// newWorld starts a database, a store and the proxies, nothing hurt.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, accessKey: "chaos", secretKey: rand.Text(), records: cmp.Or(*keep, t.TempDir())}
	// Durable: what was acknowledged has to survive the kill of everything.
	w.postgres = pgtest.Start(t, pgtest.Options{Durable: true})
	w.store = storetest.Start(t)
	w.bucket = w.store.Bucket(t)
	plain, race := build(t, "s3fence", "-trimpath"), build(t, "s3fence-race", "-race")
	dsn := w.database()
	for i := range proxies {
		p := &proxy{name: "p" + strconv.Itoa(i), folder: folder(t, "proxy"), addr: address(t), admin: address(t), binary: plain}
		if i == proxies-1 {
			p.binary = race
		}
		w.configure(p, dsn, i == 0)
		w.proxies = append(w.proxies, p)
	}
	migrate := exec.CommandContext(t.Context(), plain, "migrate", "--config", "s3fence.yaml")
	migrate.Dir, migrate.Env = w.proxies[0].folder, environment(w.proxies[0].folder)
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v\n%s", err, out)
	}
	t.Cleanup(w.close)
	if err := w.each(func(p *proxy) error { return errors.Join(p.launch(), p.ready(t.Context())) }); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) database() *url.URL {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), readyWait)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.postgres.DSN("postgres"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE chaos"); err != nil {
		w.t.Fatal(err)
	}
	dsn, err := url.Parse(w.postgres.DSN("chaos"))
	if err != nil {
		w.t.Fatal(err)
	}
	return dsn
}

// configure puts the fault proxies around a proxy and writes its configuration.
// One without named statements has COMMIT standing on the wire, where an answer to
// it can be swallowed.
func (w *world) configure(p *proxy, dsn *url.URL, unnamed bool) {
	w.t.Helper()
	p.store, p.state = w.link(strings.TrimPrefix(w.store.Endpoint, "http://")), w.link(dsn.Host)
	for g := range groups {
		p.fronts[g] = w.link(p.addr)
	}
	state := *dsn
	state.Host = p.state.Addr()
	if unnamed {
		q := state.Query()
		q.Set("default_query_exec_mode", "cache_describe")
		state.RawQuery = q.Encode()
	}
	text, err := yaml.Marshal(map[string]any{
		"listen": p.addr, "admin_listen": p.admin, "state": state.String(),
		"upstreams": map[string]any{"main": map[string]any{
			"endpoint": "http://" + p.store.Addr(), "region": storetest.Region, "path": "direct",
			"access_key": w.store.AccessKey, "secret_key": w.store.SecretKey,
		}},
		"credentials": []any{map[string]any{
			"access_key": w.accessKey, "secret_key": w.secretKey,
			"rights": []string{"read", "write", "lock", "admin"}, "buckets": []string{"*"},
		}},
		"guards":      []any{map[string]any{"pattern": "s3://" + w.bucket + "/jobs/*/"}},
		"guard_lease": "3s",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.folder, "s3fence.yaml"), text, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) link(target string) *faultproxy.Proxy {
	w.t.Helper()
	l, err := faultproxy.Listen(target)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close() })
	return l
}

func folder(t *testing.T, name string) string {
	t.Helper()
	f, err := testserver.Folder(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(f) })
	return f
}

func address(t *testing.T) string {
	t.Helper()
	port, err := testserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1:" + strconv.Itoa(port)
}

func environment(home string, more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C.UTF-8", "TZ=UTC", "GORACE=halt_on_error=1"}, more...)
}

func (p *proxy) log() string { return filepath.Join(p.folder, "log") }

// launch starts the proxy.
func (p *proxy) launch() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
	return p.start()
}

// keep starts a proxy again that ended by itself, as one does that finds no database
// when it begins.
func (p *proxy) keep() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down || p.process.Alive() {
		return nil
	}
	return p.start()
}

func (p *proxy) kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	return p.process.Kill()
}

func (p *proxy) start() (err error) {
	p.process, err = testserver.Launch(testserver.Spec{
		Name: p.name, Path: p.binary, Args: []string{"serve", "--config", "s3fence.yaml"},
		Env: environment(p.folder), Dir: p.folder, Log: p.log(),
	})
	return err
}

func (p *proxy) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s is not ready: %w; its log ends:\n%s", p.name, err, testserver.Tail(p.log()))
		}
		if err := p.keep(); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// each does something to all proxies at once.
func (w *world) each(f func(p *proxy) error) error {
	failed := make([]error, len(w.proxies))
	var all sync.WaitGroup
	for i, p := range w.proxies {
		all.Go(func() { failed[i] = f(p) })
	}
	all.Wait()
	return errors.Join(failed...)
}

// heal ends every fault and waits until all proxies are ready. What is dead was
// started again by whoever killed it.
func (w *world) heal() error {
	failed := errors.Join(w.postgres.Resume(), w.store.Resume())
	return errors.Join(failed, w.each(func(p *proxy) error {
		for _, l := range p.links() {
			if err := l.Pass(); err != nil {
				return err
			}
		}
		if err := p.process.Resume(); err != nil {
			return err
		}
		return p.ready(w.t.Context())
	}))
}

func (p *proxy) links() []*faultproxy.Proxy {
	return append([]*faultproxy.Proxy{p.state, p.store}, p.fronts[:]...)
}

// close ends what still runs and looks at what the proxies said.
func (w *world) close() {
	for _, k := range w.workers {
		if err := k.process.Kill(); err != nil {
			w.t.Error(err)
		}
	}
	for _, p := range w.proxies {
		if p.process != nil {
			if err := p.kill(); err != nil {
				w.t.Error(err)
			}
		}
		text, err := os.ReadFile(p.log())
		if err != nil {
			w.t.Error(err)
			continue
		}
		for _, sign := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if at := strings.Index(string(text), sign); at >= 0 {
				w.t.Errorf("%s said:\n%s", p.name, text[at:min(len(text), at+4<<10)])
				break
			}
		}
		if w.t.Failed() {
			w.t.Logf("the log of %s ends:\n%s", p.name, testserver.Tail(p.log()))
		}
	}
}

// worker is one process of workers; starts gives each its own name.
type worker struct {
	orders  orders
	index   int
	folder  string
	starts  int
	process *testserver.Process
}

// launch starts a worker, or starts it again.
func (k *worker) launch() error {
	o := k.orders
	o.Name = fmt.Sprint("w", k.index)
	if k.starts > 0 {
		o.Name += strings.Repeat("'", k.starts)
	}
	k.starts++
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	k.process, err = testserver.Launch(testserver.Spec{
		Name: o.Name, Path: self, Env: environment(k.folder, workerEnvironment+"="+string(text)),
		Dir: k.folder, Log: filepath.Join(k.folder, "log"),
	})
	return err
}

// ended waits until a worker has ended by itself, with nothing to say: one that
// complains or panics has left a history with holes.
func (k *worker) ended() error {
	if err := k.process.WaitExit(readyWait); err != nil {
		return err
	}
	if said := k.process.Log(); said != "" {
		return fmt.Errorf("worker %d said:\n%s", k.index, said)
	}
	return nil
}
