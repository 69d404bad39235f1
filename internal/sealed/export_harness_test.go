package sealed

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/guards"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/objectstore"
	"github.com/s3fence/s3fence/internal/sqlite"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/storetest"
	"github.com/s3fence/s3fence/internal/upstream"
)

// leaver is a proxy as far as leaving goes: a Store and an Admin, in front of a store
// whose requests a test can hold, change and lose.
type leaver struct {
	*lab
	admin  *guards.Admin
	leased *guards.List
	// peers renew when this one asks, rather than at their time.
	peers  []*leaver
	bucket string // the store's for data
	// meddle, where set, is given each request to the store.
	meddle atomic.Pointer[meddling]
}

// renamed is a store with another name for the bucket.
type renamed struct {
	client *upstream.Client
	bucket string
}

func (r renamed) Bucket(string) (*upstream.Client, string, error) { return r.client, r.bucket, nil }

type meddling func(w http.ResponseWriter, r *http.Request, store http.Handler)

// shelf is a store that several leavers share.
type shelf struct {
	*objectstore.Store
	handler http.Handler
}

func newShelf(t *testing.T) shelf {
	t.Helper()
	back, err := objectstore.Open(t.Context(), t.TempDir(), objectstore.Options{AccessKey: "back", SecretKey: "back-secret"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = back.Close() })
	require.NoError(t, back.CreateBucket(t.Context(), "data"))
	return shelf{back, back.Handler()}
}

// leaveOptions are what a test changes.
type leaveOptions struct {
	state    state.State
	store    shelf
	balanced bool
	options  Options
	// mover wraps the runs of exports, held what they ask before they sign.
	mover func(guarded.Mover) guarded.Mover
	held  func(was func(context.Context) error) func(context.Context) error
	// real is a store that is not meddled with, and its bucket.
	real   *storetest.Server
	bucket string
}

const (
	exportValidity = 3 * time.Second
	exportLease    = time.Minute
)

func newLeaver(t *testing.T, o leaveOptions) *leaver {
	t.Helper()
	if o.state == nil {
		o.state = memory.New()
	}
	if o.store.Store == nil {
		o.store = newShelf(t)
	}
	if o.options.SettleBound == 0 {
		o.options.SettleBound = time.Second
	}
	l := &leaver{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m := l.meddle.Load(); m != nil {
			(*m)(w, r, o.store.handler)
			return
		}
		o.store.handler.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	config := upstream.Config{Name: "main", Endpoint: srv.URL, AccessKey: "back", SecretKey: "back-secret", PathStyle: true,
		Validity: exportValidity, Direct: !o.balanced}
	l.bucket = "data"
	if o.real != nil {
		config.Endpoint, config.AccessKey, config.SecretKey, l.bucket = o.real.Endpoint, o.real.AccessKey, o.real.SecretKey, o.bucket
	}
	client, err := upstream.New(config)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	s, err := New(t.Context(), o.state, renamed{client, l.bucket}, o.options)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	l.lab = &lab{Store: s, t: t, st: o.state, client: client, guards: map[string]*fence.Guard{}}
	l.leased = guards.NewList(o.state, state.NewID(), exportLease, guards.ListOptions{})
	require.NoError(t, l.leased.Refresh(t.Context()))
	t.Cleanup(func() { _ = l.leased.Close(context.Background()) })
	l.admin = guards.NewAdmin(o.state, s, exportLease, guards.AdminOptions{
		Refresh: func(ctx context.Context) error {
			for _, p := range l.peers {
				_ = p.leased.Refresh(ctx)
			}
			return l.leased.Refresh(ctx)
		},
		Mover: func(g fence.Guard, held func(context.Context) error, remove bool) guarded.Mover {
			if o.held != nil {
				held = o.held(held)
			}
			m := s.Export(g, ExportOptions{Held: held, Delete: remove})
			if o.mover != nil {
				m = o.mover(m)
			}
			return m
		},
	})
	return l
}

func (l *leaver) interfere(m meddling) { l.meddle.Store(&m) }

func (l *leaver) behave() { l.meddle.Store(nil) }

// changes reports whether a request to the store writes a plain key.
func changes(r *http.Request) bool {
	if strings.Contains(r.URL.Path, "/"+fence.Reserved) || r.URL.Query().Has("partNumber") || r.URL.Query().Has("uploads") {
		return false
	}
	return r.Method == http.MethodPut || r.Method == http.MethodDelete || r.Method == http.MethodPost
}

// add puts a guard into force and lets the lab know it.
func (l *leaver) add(p string, set ...func(*fence.Guard)) *fence.Guard {
	l.t.Helper()
	pattern, err := fence.ParsePattern(p)
	require.NoError(l.t, err)
	g := fence.Guard{Pattern: pattern}
	for _, f := range set {
		f(&g)
	}
	g, err = l.admin.Add(l.t.Context(), g)
	require.NoError(l.t, err)
	l.guards[p] = &g
	return &g
}

// again is the guard as it is committed now.
func (l *leaver) again(p string) (fence.Guard, bool) {
	l.t.Helper()
	list, err := l.admin.List(l.t.Context())
	require.NoError(l.t, err)
	for _, g := range list {
		if g.Pattern.String() == p {
			return g, true
		}
	}
	return fence.Guard{}, false
}

func (l *leaver) export(p string, remove bool) (guards.Exported, error) {
	l.t.Helper()
	return l.exportUnder(l.t.Context(), p, guards.ExportOptions{Remove: remove})
}

func (l *leaver) exportUnder(ctx context.Context, p string, o guards.ExportOptions) (guards.Exported, error) {
	pattern, err := fence.ParsePattern(p)
	if err != nil {
		return guards.Exported{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	return l.admin.Export(ctx, pattern, o)
}

// plain reads a key of the store itself.
func (l *leaver) plain(key string) (string, *upstream.Info, error) {
	l.t.Helper()
	got, err := l.client.GetObject(l.t.Context(), l.bucket, key, "", nil)
	if err != nil {
		return "", nil, err
	}
	defer got.Body.Close()
	b, err := io.ReadAll(got.Body)
	return string(b), &got.Info, err
}

// holds fails unless a plain key has this body.
func (l *leaver) holds(key, body string) {
	l.t.Helper()
	got, _, err := l.plain(key)
	require.NoError(l.t, err, key)
	require.Equal(l.t, body, got, key)
}

// plainly are the plain keys of the store.
func (l *leaver) plainly() []string {
	l.t.Helper()
	var keys []string
	for _, key := range l.under("") {
		if !fence.IsReserved(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// under are the keys of the store below a prefix.
func (l *leaver) under(prefix string) []string {
	l.t.Helper()
	var keys []string
	q := upstream.ListQuery{Prefix: prefix}
	for {
		page, err := l.client.ListObjects(l.t.Context(), l.bucket, q)
		require.NoError(l.t, err)
		for _, e := range page.Entries {
			keys = append(keys, e.Key)
		}
		if page.Next == "" {
			return keys
		}
		q.Continuation = page.Next
	}
}

func (l *leaver) rows() []state.Object {
	l.t.Helper()
	rows, err := l.st.ListObjects(l.t.Context(), state.Range{Bucket: "data"}, 10_000)
	require.NoError(l.t, err)
	return rows
}

func (l *leaver) writePlain(key, body string) {
	l.t.Helper()
	_, err := l.client.PutObject(l.t.Context(), l.bucket, key, strings.NewReader(body), int64(len(body)), upstream.PutOptions{})
	require.NoError(l.t, err)
}

func (l *leaver) mustPut(op guarded.Op, key, body string, set ...func(*guarded.Put)) {
	l.t.Helper()
	_, err := l.put(op, key, body, set...)
	require.NoError(l.t, err)
}

func (l *leaver) remove(op guarded.Op, key string) {
	l.t.Helper()
	for _, err := range l.Delete(l.t.Context(), &guarded.Delete{Op: op, Items: []guarded.DeleteItem{{Ref: object.Ref{Bucket: "data", Key: key}}}}) {
		require.NoError(l.t, err)
	}
}

// exportStates opens a state of each kind.
func exportStates(t *testing.T, kind string) state.State {
	t.Helper()
	if kind != "sqlite" {
		return openStates(t, kind, 1)[0]
	}
	path := filepath.Join(t.TempDir(), "state.db")
	require.NoError(t, sqlite.Migrate(t.Context(), path))
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// known is the guard list as this proxy holds it.
func (l *leaver) known() *fence.Guards { return l.leased.Known() }

// see reads an object; it may run in any goroutine.
func (l *leaver) see(op guarded.Op, key string) (string, error) {
	_, body, err := l.Get(l.t.Context(), op, object.Ref{Bucket: "data", Key: key}, func(object.Info, func(int) (object.Part, error)) (*guarded.Range, error) { return nil, nil })
	if err != nil {
		return "", err
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	return string(b), err
}

// writeBy and plainlyBy go past whoever meddles.
func (l *leaver) writeBy(store http.Handler, key, body string) {
	l.t.Helper()
	s := l.behind(store)
	_, err := s.PutObject(l.t.Context(), "data", key, strings.NewReader(body), int64(len(body)), upstream.PutOptions{})
	require.NoError(l.t, err)
}

func (l *leaver) plainlyBy(store http.Handler) []string {
	l.t.Helper()
	page, err := l.behind(store).ListObjects(l.t.Context(), "data", upstream.ListQuery{})
	require.NoError(l.t, err)
	var keys []string
	for _, e := range page.Entries {
		if !fence.IsReserved(e.Key) {
			keys = append(keys, e.Key)
		}
	}
	return keys
}

func (l *leaver) behind(store http.Handler) *upstream.Client {
	l.t.Helper()
	srv := httptest.NewServer(store)
	l.t.Cleanup(srv.Close)
	client, err := upstream.New(upstream.Config{Name: "behind", Endpoint: srv.URL, AccessKey: "back", SecretKey: "back-secret", PathStyle: true})
	require.NoError(l.t, err)
	l.t.Cleanup(client.Close)
	return client
}

// stateRun puts a guard's row.
func stateRun(t *testing.T, l *leaver, g fence.Guard) error {
	t.Helper()
	return state.Run(t.Context(), l.st, &state.Tx{GuardList: true, Guards: []fence.GuardID{g.ID}, GuardMode: state.Exclusive, Decide: func(*state.View) (state.Changes, error) {
		return state.Changes{PutGuards: []*fence.Guard{&g}}, nil
	}})
}
