package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
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

// State of a cluster.
type State string

const (
	PostgreSQL State = "postgres"
	SQLite     State = "sqlite"
)

// Guard is one guard of the cluster's bucket.
type Guard struct {
	// Prefix is the pattern below the bucket: "jobs/", "tenants/*/", "" for the
	// whole bucket.
	Prefix string
	// Tokens and Issuer are left to their defaults where empty, MaxJump where 0.
	Tokens, Issuer string
	MaxJump        int64
}

// Options of a cluster. The zero value is one proxy on PostgreSQL and MinIO
// without a guard.
type Options struct {
	// State is PostgreSQL where empty.
	State State
	// DSN, where set, is the PostgreSQL database to use, empty and of this test
	// alone: one behind PgBouncer, say. MigrateDSN is the way to it that migrate
	// takes, where another one.
	DSN, MigrateDSN string
	// Postgres and MinIO are servers of this test's own, where set.
	Postgres *pgtest.Server
	MinIO    *storetest.Server
	// Proxies is how many to start; 0 means 1.
	Proxies int
	// Guards stand in the configuration of every proxy.
	Guards []Guard
	// Credentials are added to Root's in the configuration.
	Credentials []map[string]any
	// Pause is the value of S3FENCE_PAUSE; it selects the armed build.
	Pause string
	// Build is Plain where empty and Pause is.
	Build Build
	// StoreFaults and StateFaults put a fault proxy before each proxy's store
	// and PostgreSQL.
	StoreFaults, StateFaults bool
	// TLS makes proxies serve https with a certificate that the harness's
	// clients trust.
	TLS bool
	// Config is merged over the configuration, key by key at the top.
	Config map[string]any
	// Disk is seen by the proxies, where set; SQLite's file lies on it.
	Disk *testserver.Disk
	// Arguments are added to those of dev.
	Arguments []string
}

// The credentials with every right that a cluster is configured with. [NewDev]
// has others: take [Cluster.AccessKey].
const (
	rootAccessKey = "e2e-root"
	rootSecretKey = "e2e-root-secret-0123456789"
)

// Cluster is a state, a store and proxies.
type Cluster struct {
	t *testing.T
	// Bucket is a bucket of this test alone. Options.Guards are in it.
	Bucket string
	// AccessKey and SecretKey may do everything.
	AccessKey, SecretKey string
	Proxies              []*Proxy
	// Store is the object store behind the proxies; nil for dev.
	Store *storetest.Server
	// DSN is the state's, without fault proxies; empty for SQLite and dev.
	DSN string
	// File is the SQLite database; empty for others and dev.
	File string

	options Options
	cert    *certificate
}

// Bounds of the harness's waits.
const (
	readyWait   = 60 * time.Second
	stopWait    = 40 * time.Second
	commandWait = 3 * time.Minute
	callWait    = 60 * time.Second
)

// NewCluster starts a cluster that ends with the test.
func NewCluster(t *testing.T, o Options) *Cluster {
	t.Helper()
	if o.Proxies == 0 {
		o.Proxies = 1
	}
	if o.Build == "" {
		o.Build = Plain
		if o.Pause != "" {
			o.Build = Armed
		}
	}
	c := &Cluster{t: t, AccessKey: rootAccessKey, SecretKey: rootSecretKey, Store: o.MinIO, options: o}
	if c.Store == nil {
		c.Store = storetest.MinIO(t)
	}
	c.Bucket = c.Store.Bucket(t)
	if o.TLS {
		c.cert = newCertificate(t)
	}
	state := c.openState()
	for i := range o.Proxies {
		c.Proxies = append(c.Proxies, c.newProxy(i, state))
	}
	migrate := c.Proxies[0]
	if o.MigrateDSN != "" {
		migrate = &Proxy{t: t, cluster: c, folder: serverFolder(t, "migrate")}
		writeConfig(t, migrate.folder, c.config(o.MigrateDSN, c.Store.Endpoint, "127.0.0.1:0", "127.0.0.1:0"))
	}
	migrate.local("migrate", "--config", "s3fence.yaml").Must(t)
	c.start()
	return c
}

// Run runs a subtest whose failures, those of the cluster's own methods among
// them, are the subtest's. Not for parallel subtests.
func (c *Cluster) Run(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		outer := c.t
		c.bind(t)
		defer c.bind(outer)
		f(t)
	})
}

func (c *Cluster) bind(t *testing.T) {
	c.t = t
	for _, p := range c.Proxies {
		p.t = t
	}
}

// start starts all proxies at once.
func (c *Cluster) start() {
	c.t.Helper()
	failed := make([]error, len(c.Proxies))
	var all sync.WaitGroup
	for i, p := range c.Proxies {
		all.Go(func() { failed[i] = p.start() })
	}
	all.Wait()
	for i, err := range failed {
		if err != nil {
			c.t.Fatalf("start proxy %d: %v", i, err)
		}
	}
}

// openState makes the empty state and returns the value of the key state.
func (c *Cluster) openState() string {
	o := &c.options
	switch {
	case o.State == SQLite && o.Disk != nil:
		return "sqlite:" + o.Disk.Inside("state.db")
	case o.State == SQLite:
		c.File = filepath.Join(serverFolder(c.t, "state"), "state.db")
		return "sqlite:" + c.File
	case o.DSN != "":
		c.DSN = o.DSN
	case o.Postgres != nil:
		c.DSN = createDatabase(c.t, o.Postgres)
	default:
		c.DSN = pgtest.DSN(c.t)
	}
	return c.DSN
}

// createDatabase makes a database of its own on a private server.
func createDatabase(t *testing.T, server *pgtest.Server) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callWait)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	name := "e2e_" + strings.ToLower(rand.Text()[:10])
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return server.DSN(name)
}

func (c *Cluster) newProxy(i int, state string) *Proxy {
	c.t.Helper()
	p := &Proxy{t: c.t, cluster: c, index: i, folder: serverFolder(c.t, "proxy"), Env: map[string]string{}, args: []string{"serve", "--config", "s3fence.yaml"}}
	p.addr, p.admin = freeAddress(c.t), freeAddress(c.t)
	endpoint := c.Store.Endpoint
	if c.options.StoreFaults {
		p.Store = listenFaults(c.t, strings.TrimPrefix(endpoint, "http://"))
		endpoint = "http://" + p.Store.Addr()
	}
	if c.options.StateFaults {
		u, err := url.Parse(state)
		if err != nil {
			c.t.Fatal(err)
		}
		p.State = listenFaults(c.t, u.Host)
		u.Host = p.State.Addr()
		// With named statements COMMIT does not stand on the wire, and tests look
		// for it there.
		q := u.Query()
		q.Set("default_query_exec_mode", "cache_describe")
		u.RawQuery = q.Encode()
		state = u.String()
	}
	if c.options.Pause != "" {
		p.Env["S3FENCE_PAUSE"] = c.options.Pause
		p.Env["S3FENCE_PAUSE_DIR"] = serverFolder(c.t, "pause")
	}
	scheme := "http"
	if c.options.TLS {
		scheme = "https"
	}
	p.URL = scheme + "://" + p.addr
	writeConfig(c.t, p.folder, c.config(state, endpoint, p.addr, p.admin))
	return p
}

func listenFaults(t *testing.T, target string) *faultproxy.Proxy {
	t.Helper()
	faults, err := faultproxy.Listen(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = faults.Close() })
	return faults
}

// config is what s3fence.yaml says.
func (c *Cluster) config(state, endpoint, listen, admin string) map[string]any {
	config := map[string]any{
		"listen":       listen,
		"admin_listen": admin,
		"state":        state,
		"upstreams": map[string]any{"main": map[string]any{
			"endpoint": endpoint, "region": storetest.Region, "path": "direct",
			"access_key": c.Store.AccessKey, "secret_key": c.Store.SecretKey,
		}},
		"credentials": append([]map[string]any{{
			"access_key": c.AccessKey, "secret_key": c.SecretKey,
			"rights": []string{"read", "write", "lock", "admin"}, "buckets": []string{"*"},
		}}, c.options.Credentials...),
	}
	var guards []map[string]any
	for _, g := range c.options.Guards {
		guards = append(guards, g.config(c.Bucket))
	}
	if guards != nil {
		config["guards"] = guards
	}
	if c.cert != nil {
		config["tls"] = map[string]any{"cert_file": c.cert.certFile, "key_file": c.cert.keyFile}
	}
	maps.Copy(config, c.options.Config)
	return config
}

func (g Guard) config(bucket string) map[string]any {
	config := map[string]any{"pattern": "s3://" + bucket + "/" + g.Prefix}
	if g.Tokens != "" {
		config["tokens"] = g.Tokens
	}
	if g.Issuer != "" {
		config["issuer"] = g.Issuer
	}
	if g.MaxJump != 0 {
		config["max_jump"] = g.MaxJump
	}
	return config
}

func writeConfig(t *testing.T, folder string, config map[string]any) {
	t.Helper()
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "s3fence.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// NewDev starts "s3fence dev" in an empty folder: SQLite and the embedded store
// in one process. Its bucket is demo, where every first-level folder is a scope.
// Guards of Options are added over the command line.
func NewDev(t *testing.T, o Options) *Cluster {
	t.Helper()
	if o.Build == "" {
		o.Build = Plain
		if o.Pause != "" {
			o.Build = Armed
		}
	}
	c := &Cluster{t: t, AccessKey: "s3fence-dev", SecretKey: "s3fence-dev-secret", Bucket: "demo", options: o}
	p := &Proxy{t: t, cluster: c, folder: serverFolder(t, "dev"), addr: freeAddress(t), Env: map[string]string{}}
	p.URL = "http://" + p.addr
	p.args = append([]string{"dev", "--listen", p.addr}, o.Arguments...)
	if o.Pause != "" {
		p.Env["S3FENCE_PAUSE"] = o.Pause
		p.Env["S3FENCE_PAUSE_DIR"] = serverFolder(t, "pause")
	}
	c.Proxies = []*Proxy{p}
	c.start()
	for _, g := range o.Guards {
		c.AddGuard(p, g)
	}
	return c
}

// AddGuard adds a guard over the command line.
func (c *Cluster) AddGuard(p *Proxy, g Guard) {
	c.t.Helper()
	args := []string{"guard", "add", c.Scope(g.Prefix)}
	if g.Tokens != "" {
		args = append(args, "--tokens", g.Tokens)
	}
	if g.Issuer != "" {
		args = append(args, "--issuer", g.Issuer)
	}
	if g.MaxJump != 0 {
		args = append(args, "--max-jump", fmt.Sprint(g.MaxJump))
	}
	p.CLI(args...).Must(c.t)
}

// Scope is the name of a scope, or the pattern of a guard, in the cluster's
// bucket.
func (c *Cluster) Scope(prefix string) string { return "s3://" + c.Bucket + "/" + prefix }

// NewBucket makes another bucket through proxy 0.
func (c *Cluster) NewBucket() string {
	c.t.Helper()
	name := "test-" + strings.ToLower(rand.Text())
	c.Proxies[0].Send(c.t, Request{Method: "PUT", Bucket: name}).Want(c.t, 200)
	return name
}

// serverFolder makes a folder in which one server works.
func serverFolder(t *testing.T, name string) string {
	t.Helper()
	folder, err := testserver.Folder(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := testserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
}

// environment of every program that the harness starts: nothing of the
// caller's but PATH, and no file of the caller's that AWS clients read.
func environment(home string, more map[string]string) []string {
	env := map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": home, "LC_ALL": "C.UTF-8", "TZ": "UTC",
		"AWS_EC2_METADATA_DISABLED": "true",
		"GORACE":                    "halt_on_error=1",
	}
	// Version managers of Python find themselves by it.
	if root := os.Getenv("PYENV_ROOT"); root != "" {
		env["PYENV_ROOT"] = root
	} else if real, err := os.UserHomeDir(); err == nil {
		if _, err := os.Stat(filepath.Join(real, ".pyenv")); err == nil {
			env["PYENV_ROOT"] = filepath.Join(real, ".pyenv")
		}
	}
	maps.Copy(env, more)
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		pairs = append(pairs, name+"="+env[name])
	}
	return pairs
}
