package sealed

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/objectstore"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/postgres"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// The tests of the files faults_* play two proxies: two Stores, each with a lock
// service of its own, that share a state and an object store and nothing else.

// proxy is one of them.
type proxy struct {
	*lab
	locks *locks.Service
}

// states are the kinds of state that the proxies share. Memory is the reference;
// PostgreSQL has what memory has not: sessions that outlive their proxy's step,
// and somebody who ends them.
var states = []string{"memory", "postgres"}

// openStates gives n handles on one new state.
func openStates(t *testing.T, kind string, n int) []state.State {
	t.Helper()
	handles := make([]state.State, n)
	switch kind {
	case "memory":
		st := memory.New()
		for i := range handles {
			handles[i] = st
		}
	case "postgres":
		dsn := pgtest.DSN(t)
		_, _, err := postgres.Migrate(t.Context(), dsn)
		require.NoError(t, err)
		for i := range handles {
			db, err := postgres.Open(t.Context(), dsn, postgres.Options{})
			require.NoError(t, err)
			t.Cleanup(func() { _ = db.Close() })
			handles[i] = db
		}
	default:
		t.Fatalf("no such state: %s", kind)
	}
	return handles
}

// openStore starts an embedded object store with the buckets data and
// external.
func openStore(t *testing.T) *upstream.Client {
	t.Helper()
	back, err := objectstore.Open(t.Context(), t.TempDir(), objectstore.Options{AccessKey: "back", SecretKey: "back-secret"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = back.Close() })
	for _, bucket := range []string{"data", "external"} {
		require.NoError(t, back.CreateBucket(t.Context(), bucket))
	}
	srv := httptest.NewServer(back.Handler())
	t.Cleanup(srv.Close)
	client, err := upstream.New(upstream.Config{Name: "main", Endpoint: srv.URL, AccessKey: "back", SecretKey: "back-secret", PathStyle: true})
	require.NoError(t, err)
	return client
}

// newProxies starts a proxy on each handle, with guards on the patterns.
func newProxies(t *testing.T, handles []state.State, client *upstream.Client, o Options, patterns ...string) []*proxy {
	t.Helper()
	var proxies []*proxy
	guards := map[string]*fence.Guard{}
	for _, st := range handles {
		s, err := New(t.Context(), st, oneStore{client}, o)
		require.NoError(t, err)
		t.Cleanup(s.Close)
		proxies = append(proxies, &proxy{lab: &lab{Store: s, t: t, st: st, client: client, guards: guards}})
	}
	for _, p := range patterns {
		proxies[0].guard(p)
	}
	list := fixed{proxies[0].list()}
	for _, p := range proxies {
		p.locks = locks.New(p.st, list, locks.Options{})
	}
	return proxies
}

// in gives the proxies to a subtest, which shares them with others and keeps to
// a scope of its own.
func in(t *testing.T, proxies []*proxy) []*proxy {
	mine := make([]*proxy, len(proxies))
	for i, p := range proxies {
		l := *p.lab
		l.t = t
		mine[i] = &proxy{&l, p.locks}
	}
	return mine
}

var scopes atomic.Int64

// newScope is a scope below the pattern s3://data/*/ that no other test has.
func newScope() string { return fmt.Sprintf("s3://data/%d/", scopes.Add(1)) }

const anyScope = "s3://data/*/"

// fixed is a guard list that does not change.
type fixed struct{ list *fence.Guards }

func (f fixed) Current() (*fence.Guards, error) { return f.list, nil }
func (fixed) Refresh(context.Context) error     { return nil }

// take is a takeover through this proxy, by the real lock service.
func (p *proxy) take(ctx context.Context, scope string) (fence.Token, error) {
	sc, err := fence.ParseScope(scope)
	if err != nil {
		return 0, err
	}
	lease, err := p.locks.Take(ctx, locks.Request{Scope: sc, Holder: "k", Owner: "ann@host", TTL: time.Minute}, "test")
	return lease.Mark.Token, err
}

// mustTake is a takeover that must work.
func (p *proxy) mustTake(scope string) fence.Token {
	p.t.Helper()
	tok, err := p.take(p.t.Context(), scope)
	require.NoError(p.t, err)
	return tok
}

// see reads a key and returns the object; it may run in any goroutine.
func (p *proxy) see(op guarded.Op, ref object.Ref) (string, error) {
	_, body, err := p.Get(context.WithoutCancel(p.t.Context()), op, ref, func(object.Info, func(int) (object.Part, error)) (*guarded.Range, error) { return nil, nil })
	if err != nil {
		return "", err
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	return string(b), err
}

// at is the object in a scope that these tests fight over, other one beside it.
func at(op guarded.Op) object.Ref {
	return object.Ref{Bucket: op.Scope.Bucket(), Key: op.Scope.Prefix() + "a"}
}
func other(op guarded.Op) object.Ref {
	return object.Ref{Bucket: op.Scope.Bucket(), Key: op.Scope.Prefix() + "other"}
}

var (
	large     = strings.Repeat("0123456789abcdef", maxBuffered/16) + "large"
	partBytes = bytes.Repeat([]byte("p"), minPartSize)
)

// seen is what a read shows: the body, or "" where there is no object.
func (p *proxy) seen(op guarded.Op) string {
	p.t.Helper()
	got, err := p.see(op, at(op))
	if errors.Is(err, object.ErrNoSuchKey) {
		return ""
	}
	require.NoError(p.t, err)
	return got
}

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
