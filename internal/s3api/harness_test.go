package s3api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"
	"github.com/minio/minio-go/v7"
	miniocreds "github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
	"go.uber.org/goleak"

	"github.com/s3fence/s3fence/internal/auth"
	"github.com/s3fence/s3fence/internal/boottime"
	"github.com/s3fence/s3fence/internal/events"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/sigv4"
	"github.com/s3fence/s3fence/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLease outlasts a slow machine; tests end it by their clock.
const testLease = 10 * time.Minute

const (
	testKey    = "AKTEST"
	testSecret = "test/secret+with=signs"
	// carriedKey's session token is a carried fencing token, see [ring].
	carriedKey = "AKCARRIED"
	readerKey  = "AKREADER"
	storeKey   = "AKSTORE"
)

// ring is a keyring whose session tokens are scopes with tokens, in the clear.
type ring struct{ *auth.Keyring }

func (r ring) Principal(ctx context.Context, key, session string) (*auth.Principal, error) {
	if session == "" {
		return r.Keyring.Principal(ctx, key, "")
	}
	p, err := r.Keyring.Principal(ctx, key, "")
	if err != nil {
		return nil, err
	}
	scope, token, _ := strings.Cut(session, "#")
	sc, g, err := fence.ParseScopeRef(scope)
	if err != nil {
		return nil, auth.ErrBadToken
	}
	t, err := fence.ParseToken(token)
	return &auth.Principal{Credential: p.Credential, Carried: &auth.Carried{Scope: sc, Generation: max(g, 1), Token: t}}, err
}

// Lookup implements sigv4.CredentialSource.
func (r ring) Lookup(ctx context.Context, key, session string) (string, error) {
	p, err := r.Principal(ctx, key, session)
	if errors.Is(err, auth.ErrUnknownKey) {
		return "", sigv4.ErrUnknownKey
	}
	if err != nil {
		return "", sigv4.ErrBadSessionToken
	}
	return p.SecretKey, nil
}

// registry is the state of a guard list, in memory.
type registry struct {
	mu      sync.Mutex
	version int64
	list    []fence.Guard
}

func (r *registry) RenewGuards(_ context.Context, _ uuid.UUID, _, known int64) (int64, []fence.Guard, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known == r.version {
		return r.version, nil, nil
	}
	return r.version, r.list, nil
}

func (r *registry) ForgetProxy(context.Context, uuid.UUID) error { return nil }

// bucketMap maps names; only is the store of all others.
type bucketMap struct {
	named map[string]string
	only  *upstream.Client
	gone  map[string]bool
	// far are buckets of other stores.
	far map[string]*upstream.Client
}

func (m *bucketMap) Bucket(name string) (*upstream.Client, string, error) {
	if m.gone[name] {
		return nil, "", ErrNoSuchBucket
	}
	if c := m.far[name]; c != nil {
		return c, name, nil
	}
	if to, ok := m.named[name]; ok {
		return m.only, to, nil
	}
	return m.only, name, nil
}

func (m *bucketMap) Names() []string {
	var names []string
	for n := range m.named {
		names = append(names, n)
	}
	return names
}

func (m *bucketMap) Only() *upstream.Client { return m.only }

// bench is a server under test with everything around it.
type bench struct {
	*Server
	url   string
	store *upstream.Client
	// transport, where set, keeps connections over the calls of a test.
	transport *http.Transport
	fake      *fakeObjects
	// raise grants a token of a scope by whatever way to write is under test.
	raise   func(scope string, token fence.Token)
	clock   *clock
	list    *guards.List
	reg     *registry
	mu      sync.Mutex
	records []Record
	events  []events.Event
}

type clock struct {
	mu  sync.Mutex
	add time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.add)
}

func (c *clock) leap(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add += d
}

func guard(t testing.TB, id int64, pattern string, change ...func(*fence.Guard)) fence.Guard {
	t.Helper()
	p, err := fence.ParsePattern(pattern)
	if err != nil {
		t.Fatal(err)
	}
	g := fence.Guard{ID: fence.GuardID(id), Pattern: p, Writes: fence.Sealed, Tokens: fence.Required, Issuer: fence.Own, MaxJump: fence.DefaultMaxJump, State: fence.Active}
	for _, f := range change {
		f(&g)
	}
	return g
}

// newStore runs a store in memory that checks signatures, with buckets.
func newStore(t testing.TB, wrap func(http.Handler) http.Handler, buckets ...string) *upstream.Client {
	t.Helper()
	faker := gofakes3.New(s3mem.New(), gofakes3.WithV4Auth(map[string]string{storeKey: testSecret}))
	h := faker.Server()
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return newUpstream(t, srv.URL, buckets...)
}

func newUpstream(t testing.TB, url string, buckets ...string) *upstream.Client {
	t.Helper()
	c, err := upstream.New(upstream.Config{Name: "main", Endpoint: url, AccessKey: storeKey, SecretKey: testSecret, PathStyle: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for _, b := range buckets {
		if _, err := c.CreateBucket(t.Context(), b, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func newBench(t testing.TB, store *upstream.Client, list []fence.Guard, change ...func(*Options)) *bench {
	t.Helper()
	keyring, err := auth.NewKeyring([]auth.Credential{
		{AccessKey: testKey, SecretKey: testSecret, Grants: []auth.Grant{{Bucket: auth.Anywhere, Rights: auth.All}}},
		{AccessKey: carriedKey, SecretKey: testSecret, Grants: []auth.Grant{{Bucket: auth.Anywhere, Rights: auth.All}}},
		{AccessKey: readerKey, SecretKey: testSecret, Grants: []auth.Grant{{Bucket: "data", Prefix: "open/", Rights: auth.Read}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{store: store, clock: &clock{}, reg: &registry{version: 1, list: list}}
	b.fake = newFake(store)
	b.raise = func(scope string, token fence.Token) { b.fake.grant(scope, token, false) }
	b.list = guards.NewList(b.reg, uuid.New(), testLease, guards.ListOptions{Clock: boottime.Clock{Now: b.clock.now, Awake: func() time.Duration { return 0 }}})
	if err := b.list.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Region: "us-east-1", Domain: "s3.test", Keyring: ring{keyring}, Guards: b.list, Buckets: &bucketMap{only: store, named: map[string]string{"alias": "realname"}},
		Verifier: sigv4.NewVerifier(sigv4.Options{Credentials: ring{keyring}}),
		Writers:  map[fence.Writes]guarded.Writer{fence.Sealed: b.fake}, Reader: b.fake, Lister: b.fake, Judge: b.fake,
		Answered: func(_ context.Context, r *Record) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.records = append(b.records, *r)
		},
		Observer: events.Func(func(_ context.Context, e events.Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, e)
		}),
	}
	for _, f := range change {
		f(&o)
	}
	if b.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(b)
	t.Cleanup(func() {
		srv.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	b.url = srv.URL
	return b
}

// sdk is the AWS client, path-style, without retries. It signs with key, and
// with a carried token where one is given.
func (b *bench) sdk(t testing.TB, key, carried string, opts ...func(*s3.Options)) *s3.Client {
	t.Helper()
	tr := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(tr.CloseIdleConnections)
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(b.url), Region: "us-east-1", UsePathStyle: true, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(key, testSecret, carried), HTTPClient: &http.Client{Transport: tr},
	}, opts...)
}

func (b *bench) minio(t testing.TB) *minio.Client {
	t.Helper()
	tr := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(tr.CloseIdleConnections)
	c, err := minio.New(strings.TrimPrefix(b.url, "http://"), &minio.Options{
		Creds: miniocreds.NewStaticV4(testKey, testSecret, ""), Region: "us-east-1", Transport: tr, MaxRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// last is the record of the request that was answered last.
func (b *bench) last(t testing.TB) Record {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.records) == 0 {
		t.Fatal("nothing was recorded")
	}
	return b.records[len(b.records)-1]
}

var putOptions upstream.PutOptions
