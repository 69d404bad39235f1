package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/edge"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/objectstore"
)

// What `s3fence dev` has.
const (
	DevBucket    = "demo"
	DevGuard     = "s3://demo/*/"
	DevAccessKey = "s3fence-dev"
	DevSecretKey = "s3fence-dev-secret" //nolint:gosec // printed on purpose
	DevRegion    = "us-east-1"
)

// DevOptions are the settings of [NewDev].
type DevOptions struct {
	// Dir keeps state and objects; it is made where absent.
	Dir string
	// Listen is the address of the proxy.
	Listen string
	Options
}

// Embedded is the way to the object store of [NewDev] past the fence.
type Embedded struct{ Endpoint, AccessKey, SecretKey string }

// Embedded is for those who show what happens without the fence; empty unless
// the proxy is NewDev's. Nothing tells it to clients.
func (p *Proxy) Embedded() Embedded { return p.embedded }

// NewDev makes a proxy with everything embedded: an SQLite state and an object
// store, both durable, in one directory. The store listens on a loopback port
// of its own, with a key that is drawn anew at each start, so that what goes
// through the proxy there goes the same way as everywhere.
func NewDev(ctx context.Context, o DevOptions) (_ *Proxy, err error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the data directory cannot be made: %w", err)
	}
	var closers []func()
	defer func() {
		if err != nil {
			for i := range closers {
				closers[len(closers)-1-i]()
			}
		}
	}()
	key, secret := "embedded", rand.Text()
	store, err := objectstore.Open(ctx, filepath.Join(o.Dir, "objects"), objectstore.Options{AccessKey: key, SecretKey: secret, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	closers = append(closers, func() { _ = store.Close() })
	if err := store.CreateBucket(ctx, DevBucket); err != nil && !errors.Is(err, objectstore.ErrBucketExists) {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("%w on a loopback port: %w", ErrListen, err)
	}
	server := &http.Server{Handler: store.Handler(), ReadHeaderTimeout: edge.DefaultHeaderTime}
	closers = append(closers, func() { _ = server.Close() })
	go server.Serve(l) //nolint:errcheck // ends with Close

	database := filepath.Join(o.Dir, "state.db")
	if err := Migrate(ctx, config.State("sqlite:"+database)); err != nil {
		return nil, err
	}
	if err := forgetProxies(ctx, config.State("sqlite:"+database), o); err != nil {
		return nil, err
	}
	c, err := config.Load("", []string{
		"S3FENCE_LISTEN=" + o.Listen, "S3FENCE_ADMIN_LISTEN=off", "S3FENCE_REGION=" + DevRegion,
		"S3FENCE_STATE=sqlite:" + database,
		"S3FENCE_UPSTREAMS__EMBEDDED__ENDPOINT=http://" + l.Addr().String(),
		"S3FENCE_UPSTREAMS__EMBEDDED__ACCESS_KEY=" + key, "S3FENCE_UPSTREAMS__EMBEDDED__SECRET_KEY=" + secret,
		"S3FENCE_UPSTREAMS__EMBEDDED__PATH=direct",
		"S3FENCE_CREDENTIALS__0__ACCESS_KEY=" + DevAccessKey, "S3FENCE_CREDENTIALS__0__SECRET_KEY=" + DevSecretKey,
		"S3FENCE_CREDENTIALS__0__RIGHTS=read,write,lock,admin", "S3FENCE_CREDENTIALS__0__BUCKETS=*",
	})
	if err != nil {
		return nil, err
	}
	p, err := New(ctx, c, o.Options)
	if err != nil {
		return nil, err
	}
	// The proxy is closed before what it stands on.
	p.closers = append(closers, p.closers...)
	p.ensure = p.ensureDemo
	p.embedded = Embedded{Endpoint: "http://" + l.Addr().String(), AccessKey: key, SecretKey: secret}
	return p, nil
}

// forgetProxies removes the rows that killed starts left, for which a change of
// guards would wait. The lock on the data directory says that none of them runs.
func forgetProxies(ctx context.Context, database config.State, o DevOptions) error {
	st, err := openState(ctx, database, o.Logger)
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	dead, _, err := st.Proxies(ctx)
	if err != nil {
		return err
	}
	for _, d := range dead {
		if err := st.ForgetProxy(ctx, d.ID); err != nil {
			return err
		}
	}
	return nil
}

// ensureDemo adds the guard of the demo unless the bucket has guards already:
// what somebody changed there stays as it is.
func (p *Proxy) ensureDemo(ctx context.Context) error {
	list, err := p.admin.List(ctx)
	if err != nil {
		return err
	}
	for _, g := range list {
		// A pending one is one that a killed start left; adding it again goes on.
		if g.Pattern.Bucket() == DevBucket && (g.Pattern.String() != DevGuard || g.State != fence.Pending) {
			return nil
		}
	}
	pattern, err := fence.ParsePattern(DevGuard)
	if err != nil {
		return err
	}
	return p.admin.Ensure(ctx, []fence.Guard{{Pattern: pattern}})
}
