package sealed

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/objectstore"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/upstream"
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// lab is a Store in front of a real object store, with an in-memory state.
type lab struct {
	*Store
	t      *testing.T
	st     state.State
	clock  *clock
	client *upstream.Client
	guards map[string]*fence.Guard
}

type oneStore struct{ client *upstream.Client }

func (o oneStore) Bucket(name string) (*upstream.Client, string, error) { return o.client, name, nil }

func newLab(t *testing.T, opts ...memory.Option) *lab {
	t.Helper()
	c := &clock{now: time.Now()}
	return newLabOn(t, memory.New(append([]memory.Option{memory.WithClock(c.Now)}, opts...)...), c, Options{})
}

func newLabOn(t *testing.T, st state.State, c *clock, o Options) *lab {
	t.Helper()
	back, err := objectstore.Open(t.Context(), t.TempDir(), objectstore.Options{AccessKey: "back", SecretKey: "back-secret"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = back.Close() })
	require.NoError(t, back.CreateBucket(t.Context(), "data"))
	srv := httptest.NewServer(back.Handler())
	t.Cleanup(srv.Close)
	client, err := upstream.New(upstream.Config{Name: "main", Endpoint: srv.URL, AccessKey: "back", SecretKey: "back-secret", PathStyle: true})
	require.NoError(t, err)
	s, err := New(t.Context(), st, oneStore{client}, o)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return &lab{Store: s, t: t, st: st, clock: c, client: client, guards: map[string]*fence.Guard{}}
}

// guard adds an active guard.
func (l *lab) guard(pattern string, set ...func(*fence.Guard)) *fence.Guard {
	l.t.Helper()
	p, err := fence.ParsePattern(pattern)
	require.NoError(l.t, err)
	g := &fence.Guard{Pattern: p, Writes: fence.Sealed, Tokens: fence.Required, Issuer: fence.Own, MaxJump: 100, State: fence.Active}
	for _, f := range set {
		f(g)
	}
	require.NoError(l.t, state.Run(l.t.Context(), l.st, &state.Tx{GuardList: true, Decide: func(*state.View) (state.Changes, error) {
		return state.Changes{PutGuards: []*fence.Guard{g}}, nil
	}}))
	l.guards[pattern] = g
	return g
}

func (l *lab) list() *fence.Guards {
	l.t.Helper()
	var all []fence.Guard
	for _, g := range l.guards {
		all = append(all, *g)
	}
	gs, err := fence.NewGuards(1, all)
	require.NoError(l.t, err)
	return gs
}

// grant gives the next token of a scope, as a lock would.
func (l *lab) grant(scope string) fence.Token {
	l.t.Helper()
	sc, err := fence.ParseScope(scope)
	require.NoError(l.t, err)
	var got fence.Token
	require.NoError(l.t, state.Run(l.t.Context(), l.st, &state.Tx{
		Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}},
		Decide: func(v *state.View) (state.Changes, error) {
			row := v.Scope(sc, fence.Sealed)
			tok, err := v.Draw()
			if err != nil {
				return state.Changes{}, err
			}
			got, row.Mark.Token, row.EpochSince = tok, tok, v.Now
			row.Last = fence.Grant{Holder: "k", Owner: "ann@host", At: v.Now}
			return state.Changes{Scopes: []state.Scope{row}}, nil
		},
	}))
	return got
}

func (l *lab) op(scope string, tok fence.Token) guarded.Op {
	l.t.Helper()
	sc, err := fence.ParseScope(scope)
	require.NoError(l.t, err)
	g, ok := l.list().ForScope(sc)
	require.True(l.t, ok, scope)
	return guarded.Op{Guard: g, Scope: sc, Request: fence.Request{Token: tok, Named: true, MayRaise: true}, Caller: "k"}
}

func (l *lab) put(op guarded.Op, key, body string, set ...func(*guarded.Put)) (object.Info, error) {
	l.t.Helper()
	p := &guarded.Put{Op: op, Ref: object.Ref{Bucket: op.Scope.Bucket(), Key: key}, Body: strings.NewReader(body), Size: int64(len(body))}
	for _, f := range set {
		f(p)
	}
	return l.Put(l.t.Context(), p)
}

func (l *lab) get(op guarded.Op, key string) (string, error) {
	l.t.Helper()
	_, body, err := l.Get(l.t.Context(), op, object.Ref{Bucket: op.Scope.Bucket(), Key: key}, func(object.Info, func(int) (object.Part, error)) (*guarded.Range, error) { return nil, nil })
	if err != nil {
		return "", err
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	return string(b), err
}

func (l *lab) physical() []string {
	l.t.Helper()
	page, err := l.client.ListObjects(l.t.Context(), "data", upstream.ListQuery{Prefix: objectsPrefix})
	require.NoError(l.t, err)
	var keys []string
	for _, e := range page.Entries {
		keys = append(keys, e.Key)
	}
	return keys
}

func refusal(t *testing.T, err error, want fence.Verdict) *fence.Refusal {
	t.Helper()
	var r *fence.Refusal
	require.ErrorAs(t, err, &r)
	assert.Equal(t, want, r.Verdict, "%v", err)
	return r
}

const jobs = "s3://data/jobs/"

func TestStaleTokenIsRefused(t *testing.T) { // F3, F4, F5
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	old := l.grant(jobs)
	_, err := l.put(l.op(jobs, old), "jobs/a", "one")
	require.NoError(t, err)
	now := l.grant(jobs)

	_, err = l.put(l.op(jobs, old), "jobs/a", "late")
	r := refusal(t, err, fence.Stale)
	assert.Equal(t, now, r.Mark.Token)
	assert.Contains(t, err.Error(), "ann@host")
	_, err = l.get(l.op(jobs, old), "jobs/a")
	refusal(t, err, fence.Stale)
	got, err := l.get(l.op(jobs, now), "jobs/a")
	require.NoError(t, err)
	assert.Equal(t, "one", got)
	// From now on this proxy knows, without asking anyone.
	op := l.op(jobs, old)
	assert.NotNil(t, l.KnownStale(&op))
	op = l.op(jobs, now)
	assert.Nil(t, l.KnownStale(&op))
}

func TestTokensThatCannotBe(t *testing.T) { // F8
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	l.guard("s3://data/ext/", func(g *fence.Guard) { g.Issuer = fence.External })
	tok := l.grant(jobs)
	_, err := l.put(l.op(jobs, tok+1000), "jobs/a", "x")
	refusal(t, err, fence.NeverGranted)
	_, err = l.put(l.op(jobs, 0), "jobs/a", "x")
	refusal(t, err, fence.Missing)

	_, err = l.put(l.op("s3://data/ext/", 1<<50), "ext/a", "first may be anything")
	require.NoError(t, err)
	_, err = l.put(l.op("s3://data/ext/", 1<<50+101), "ext/a", "x")
	refusal(t, err, fence.TooFar)
	_, err = l.put(l.op("s3://data/ext/", 1<<50+100), "ext/a", "raised")
	require.NoError(t, err)
	_, err = l.put(l.op("s3://data/ext/", 1<<50), "ext/a", "x")
	refusal(t, err, fence.Stale)
	// A read raises too, before it reads (F5).
	got, err := l.get(l.op("s3://data/ext/", 1<<50+150), "ext/a")
	require.NoError(t, err)
	assert.Equal(t, "raised", got)
	_, err = l.put(l.op("s3://data/ext/", 1<<50+100), "ext/a", "x")
	refusal(t, err, fence.Stale)
}

func TestBodiesOfEveryShape(t *testing.T) { // F6
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	for _, size := range []int{0, 1, 4096, maxBuffered, maxBuffered + 1, pieceSize + 17} {
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(rand.Uint32())
		}
		sum := md5.Sum(body)
		for _, known := range []bool{true, false} {
			info, err := l.put(op, "jobs/a", string(body), func(p *guarded.Put) {
				p.Meta = map[string]string{"who": "ann"}
				if !known {
					p.Size = -1
				}
			})
			require.NoError(t, err, size)
			assert.Equal(t, hex.EncodeToString(sum[:]), info.ETag)
			assert.EqualValues(t, size, info.Size)
			got, err := l.get(op, "jobs/a")
			require.NoError(t, err)
			assert.True(t, got == string(body))
			stat, err := l.Stat(t.Context(), op, object.Ref{Bucket: "data", Key: "jobs/a"})
			require.NoError(t, err)
			assert.Equal(t, "ann", stat.Meta["who"])
		}
	}
}

func TestBodyThatFailsWritesNothing(t *testing.T) { // F7
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	boom := fmt.Errorf("the checksum is wrong")
	for _, size := range []int64{100, maxBuffered + 100, -1} {
		n := int64(90)
		if size > maxBuffered {
			n = maxBuffered + 90
		}
		body := io.MultiReader(io.LimitReader(zeros{}, n), failing{boom})
		_, err := l.Put(t.Context(), &guarded.Put{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/a"}, Body: body, Size: size})
		require.ErrorIs(t, err, boom)
		_, err = l.get(op, "jobs/a")
		require.ErrorIs(t, err, object.ErrNoSuchKey)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestConditionsHaveOneWinner(t *testing.T) { // F10
	t.Parallel()
	l := newLab(t)
	l.guard("s3://data/cas/", func(g *fence.Guard) { g.Tokens = fence.None })
	const writers, rounds = 16, 10
	etag := ""
	for round := range rounds {
		var mu sync.Mutex
		var won []string
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				info, err := l.put(l.op("s3://data/cas/", 0), "cas/k", fmt.Sprint(round, w), func(p *guarded.Put) {
					if etag == "" {
						p.IfNoneMatch = "*"
					} else {
						p.IfMatch = `"` + etag + `"`
					}
				})
				if err == nil {
					mu.Lock()
					won = append(won, info.ETag)
					mu.Unlock()
					return
				}
				assert.ErrorIs(t, err, object.ErrPreconditionFailed)
			})
		}
		wg.Wait()
		require.Len(t, won, 1, "round %d", round)
		etag = won[0]
	}
	_, err := l.put(l.op("s3://data/cas/", 0), "cas/none", "x", func(p *guarded.Put) { p.IfMatch = etag })
	require.ErrorIs(t, err, object.ErrNoSuchKey)
	_, err = l.put(l.op("s3://data/cas/", 7), "cas/k", "x")
	refusal(t, err, fence.NotTaken)
}

func TestRetriesGetTheFirstAnswer(t *testing.T) { // F7
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	op.RetryID = "invocation-1"
	once := func(p *guarded.Put) { p.IfNoneMatch = "*" }
	first, err := l.put(op, "jobs/a", "x", once)
	require.NoError(t, err)
	again, err := l.put(op, "jobs/a", "x", once)
	require.NoError(t, err, "the same request again is not a lost race")
	assert.Equal(t, first.Modified.UnixMicro(), again.Modified.UnixMicro())
	_, err = l.put(op, "jobs/a", "other bytes", once)
	require.ErrorIs(t, err, object.ErrPreconditionFailed, "an id used for other bytes is another request")
	op.RetryID = "invocation-2"
	_, err = l.put(op, "jobs/a", "x", once)
	require.ErrorIs(t, err, object.ErrPreconditionFailed)
}

func TestLostCommitAnswers(t *testing.T) { // F7
	t.Parallel()
	for _, tc := range []struct {
		name  string
		stage memory.Stage
		fault error
		want  bool
	}{
		{"lost after it was applied", memory.Committed, state.ErrUnknown, true},
		{"lost before it was applied", memory.Committing, state.ErrUnknown, false},
		{"still on its way", memory.Committing, memory.ErrLate, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			armed := false
			l := newLab(t, memory.WithFaults(func(at memory.Stage) error {
				mu.Lock()
				defer mu.Unlock()
				if armed && at == tc.stage {
					armed = false
					return tc.fault
				}
				return nil
			}))
			l.guard(jobs)
			op := l.op(jobs, l.grant(jobs))
			_, err := l.put(op, "jobs/warm", "x")
			require.NoError(t, err)
			mu.Lock()
			armed = true
			mu.Unlock()
			_, err = l.put(op, "jobs/a", "x")
			_, gerr := l.get(op, "jobs/a")
			if tc.want {
				require.NoError(t, err)
				require.NoError(t, gerr)
				return
			}
			require.ErrorIs(t, err, state.ErrUnavailable)
			require.ErrorIs(t, gerr, object.ErrNoSuchKey)
			l.st.(*memory.Store).Deliver()
			_, gerr = l.get(op, "jobs/a")
			require.ErrorIs(t, gerr, object.ErrNoSuchKey, "answered 503, so it must never happen")
		})
	}
}

func TestDeleteAndTags(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	old := l.op(jobs, l.grant(jobs))
	for i := range 5 {
		_, err := l.put(old, fmt.Sprintf("jobs/%d", i), "x")
		require.NoError(t, err)
	}
	op := l.op(jobs, l.grant(jobs))
	item := func(k string) guarded.DeleteItem { return guarded.DeleteItem{Ref: object.Ref{Bucket: "data", Key: k}} }
	for _, err := range l.Delete(t.Context(), &guarded.Delete{Op: old, Items: []guarded.DeleteItem{item("jobs/0"), item("jobs/1")}}) {
		refusal(t, err, fence.Stale)
	}
	wrong := item("jobs/2")
	wrong.IfMatch = "nonsense"
	errs := l.Delete(t.Context(), &guarded.Delete{Op: op, Items: []guarded.DeleteItem{item("jobs/0"), item("jobs/none"), wrong, item("jobs/0")}})
	require.NoError(t, errs[0])
	require.NoError(t, errs[1])
	require.ErrorIs(t, errs[2], object.ErrPreconditionFailed)
	require.NoError(t, errs[3])
	_, err := l.get(op, "jobs/0")
	require.ErrorIs(t, err, object.ErrNoSuchKey)
	_, err = l.get(op, "jobs/2")
	require.NoError(t, err)

	ref := object.Ref{Bucket: "data", Key: "jobs/2"}
	require.NoError(t, l.SetTags(t.Context(), &guarded.Tagging{Op: op, Ref: ref, Tags: []object.Tag{{Key: "a", Value: "b"}}}))
	info, err := l.Stat(t.Context(), op, ref)
	require.NoError(t, err)
	assert.Equal(t, []object.Tag{{Key: "a", Value: "b"}}, info.Tags)
	refusal(t, l.SetTags(t.Context(), &guarded.Tagging{Op: old, Ref: ref}), fence.Stale)
}

func TestUploads(t *testing.T) { // F4, F6
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	ref := object.Ref{Bucket: "data", Key: "jobs/big"}
	create := func(op guarded.Op) guarded.UploadRef {
		id, err := l.CreateUpload(t.Context(), &guarded.CreateUpload{Op: op, Ref: ref, Attributes: object.Attributes{Headers: map[string]string{"Content-Type": "text/x"}}})
		require.NoError(t, err)
		bare := op
		bare.Request.Token = 0 // an upload carries its token
		return guarded.UploadRef{Op: bare, Ref: ref, ID: id}
	}
	part := func(u guarded.UploadRef, n int, b []byte) guarded.PartInfo {
		p, err := l.UploadPart(t.Context(), &guarded.Part{UploadRef: u, Number: n, Body: bytes.NewReader(b), Size: int64(len(b))})
		require.NoError(t, err)
		return p
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), minPartSize/16)

	u := create(op)
	parts := []guarded.PartInfo{part(u, 1, big), part(u, 3, []byte("tail"))}
	have, err := l.ListParts(t.Context(), &u, 0, 10)
	require.NoError(t, err)
	assert.Len(t, have.Parts, 2)
	assert.False(t, have.More)
	bad := []guarded.PartInfo{parts[1], parts[0]}
	_, err = l.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: bad})
	require.ErrorIs(t, err, object.ErrInvalidPartOrder)
	_, err = l.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{{Number: 1, ETag: parts[1].ETag}}})
	require.ErrorIs(t, err, object.ErrInvalidPart)
	info, err := l.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: parts})
	require.NoError(t, err)
	assert.EqualValues(t, len(big)+4, info.Size)
	got, err := l.get(op, "jobs/big")
	require.NoError(t, err)
	assert.True(t, got == string(big)+"tail")
	again, err := l.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: parts})
	require.NoError(t, err, "a repeated Complete gets its first answer")
	assert.Equal(t, info.ETag, again.ETag)

	// A takeover between the parts and the Complete.
	u = create(op)
	parts = []guarded.PartInfo{part(u, 1, []byte("old holder"))}
	other := l.op(jobs, l.grant(jobs))
	_, err = l.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: parts})
	refusal(t, err, fence.Stale)
	_, err = l.UploadPart(t.Context(), &guarded.Part{UploadRef: u, Number: 2, Body: strings.NewReader("x"), Size: 1})
	refusal(t, err, fence.Stale)
	wrong := u
	wrong.Request.Token = other.Request.Token
	_, err = l.Complete(t.Context(), &guarded.Complete{UploadRef: wrong, Parts: parts})
	require.ErrorIs(t, err, guarded.ErrOtherToken)
	require.NoError(t, l.Abort(t.Context(), &u), "one's own upload may be aborted under a stale token")
	require.ErrorIs(t, l.Abort(t.Context(), &u), object.ErrNoSuchUpload)
	got, err = l.get(other, "jobs/big")
	require.NoError(t, err)
	assert.True(t, strings.HasSuffix(got, "tail"))

	// A condition that fails leaves the upload open.
	u = create(other)
	parts = []guarded.PartInfo{part(u, 1, []byte("new"))}
	_, err = l.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: parts, Conditions: object.Conditions{IfNoneMatch: "*"}})
	require.ErrorIs(t, err, object.ErrPreconditionFailed)
	_, err = l.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: parts, Conditions: object.Conditions{IfMatch: info.ETag}})
	require.NoError(t, err)
	_, err = l.UploadPart(t.Context(), &guarded.Part{UploadRef: guarded.UploadRef{Op: other, Ref: ref, ID: "unknown"}, Number: 1, Body: strings.NewReader("x"), Size: 1})
	require.ErrorIs(t, err, object.ErrNoSuchUpload)
}

func TestCopies(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	_, err := l.put(op, "jobs/a", "sealed", func(p *guarded.Put) {
		p.Meta = map[string]string{"m": "1"}
		p.Headers = map[string]string{"Content-Type": "text/a", object.WebsiteRedirect: "/old"}
		p.Tags = []object.Tag{{Key: "t", Value: "1"}}
	})
	require.NoError(t, err)
	_, err = l.client.PutObject(t.Context(), "data", "plain", strings.NewReader("plain"), 5, upstream.PutOptions{})
	require.NoError(t, err)

	info, err := l.Copy(t.Context(), &guarded.Copy{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/b"},
		Source: guarded.Source{Ref: object.Ref{Bucket: "data", Key: "jobs/a"}, Op: op}})
	require.NoError(t, err)
	assert.Equal(t, "1", info.Meta["m"])
	assert.Equal(t, "text/a", info.Headers["Content-Type"])
	assert.Len(t, info.Tags, 1)
	assert.NotContains(t, info.Meta, "s3fence-key")
	assert.NotContains(t, info.Headers, object.WebsiteRedirect)
	info, err = l.Copy(t.Context(), &guarded.Copy{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/b"},
		Attributes: object.Attributes{Headers: map[string]string{object.WebsiteRedirect: "/new"}}, Source: guarded.Source{Ref: object.Ref{Bucket: "data", Key: "jobs/a"}, Op: op}})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"Content-Type": "text/a", object.WebsiteRedirect: "/new"}, info.Headers)
	info, err = l.Copy(t.Context(), &guarded.Copy{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/a"}, ReplaceMeta: true,
		Attributes: object.Attributes{Meta: map[string]string{"m": "2"}}, Source: guarded.Source{Ref: object.Ref{Bucket: "data", Key: "jobs/a"}, Op: op}})
	require.NoError(t, err)
	assert.Equal(t, "2", info.Meta["m"])
	_, err = l.Copy(t.Context(), &guarded.Copy{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/p"}, Source: guarded.Source{Ref: object.Ref{Bucket: "data", Key: "plain"}}})
	require.NoError(t, err)
	got, err := l.get(op, "jobs/p")
	require.NoError(t, err)
	assert.Equal(t, "plain", got)
	_, err = l.Copy(t.Context(), &guarded.Copy{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/p"}, Source: guarded.Source{Ref: object.Ref{Bucket: "data", Key: "nothing"}}})
	require.ErrorIs(t, err, object.ErrNoSuchKey)
	_, err = l.Copy(t.Context(), &guarded.Copy{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/p"},
		Source: guarded.Source{Ref: object.Ref{Bucket: "data", Key: "jobs/a"}, Op: op, Conditions: object.Conditions{IfMatch: "no"}}})
	require.ErrorIs(t, err, object.ErrPreconditionFailed)
	l.grant(jobs)
	_, err = l.Copy(t.Context(), &guarded.Copy{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/b"}, Source: guarded.Source{Ref: object.Ref{Bucket: "data", Key: "plain"}}})
	refusal(t, err, fence.Stale)
}

func TestCollector(t *testing.T) { // F6
	t.Parallel()
	c := &clock{now: time.Now()}
	l := newLabOn(t, memory.New(memory.WithClock(c.Now)), c, Options{LongestUpload: time.Hour, CollectAfter: 24 * time.Hour})
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	for i := range 3 {
		_, err := l.put(op, "jobs/a", fmt.Sprint(i))
		require.NoError(t, err)
	}
	_, err := l.put(op, "jobs/keep", "keep")
	require.NoError(t, err)
	up, err := l.CreateUpload(t.Context(), &guarded.CreateUpload{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/up"}})
	require.NoError(t, err)
	u := guarded.UploadRef{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/up"}, ID: up}
	p, err := l.UploadPart(t.Context(), &guarded.Part{UploadRef: u, Number: 1, Body: strings.NewReader("part"), Size: 4})
	require.NoError(t, err)
	require.Len(t, l.physical(), 4)

	for range 3 { // horizon moves past the names
		c.Add(61 * time.Minute)
		require.NoError(t, l.CollectOnce(t.Context()))
	}
	require.Len(t, l.physical(), 4, "nothing goes before its grace")
	c.Add(25 * time.Hour)
	require.NoError(t, l.CollectOnce(t.Context()))
	require.Len(t, l.physical(), 2)
	got, err := l.get(op, "jobs/a")
	require.NoError(t, err)
	assert.Equal(t, "2", got)
	// The open upload held its own name, and this proxy's epoch is refreshed.
	_, err = l.Complete(t.Context(), &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{p}})
	require.ErrorIs(t, err, object.ErrNoSuchUpload, "an upload open for longer than uploadsKept is ended")
	_, err = l.put(op, "jobs/new", "x")
	require.NoError(t, err)
}

func TestOldNameIsRefused(t *testing.T) { // F6: a committer paused past the collector's grace
	t.Parallel()
	c := &clock{now: time.Now()}
	st := memory.New(memory.WithClock(c.Now))
	l := newLabOn(t, st, c, Options{LongestUpload: time.Hour})
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	_, err := l.put(op, "jobs/a", "x")
	require.NoError(t, err)
	ref := object.Ref{Bucket: "data", Key: "jobs/late"}
	nm := l.names.fresh(op.Scope, 1, state.NewID())
	for range 3 {
		c.Add(61 * time.Minute)
		require.NoError(t, l.CollectOnce(t.Context()))
	}
	_, err = l.commitObject(&op, "PutObject", object.Conditions{}, object.Info{Ref: ref}, stored{name: nm}, nil)
	require.ErrorIs(t, err, errOldName)
	// Another proxy, which has not seen the scope since, sends small bodies again.
	other := newLabOn(t, st, c, Options{})
	other.client = l.client
	other.buckets = oneStore{l.client}
	other.guards = l.guards
	row := state.NewScope(op.Scope, fence.Sealed)
	row.Mark.Token = op.Request.Token
	other.known.learn(time.Now(), row)
	_, err = other.put(op, "jobs/late", "again")
	require.NoError(t, err)
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for i := range 30 {
		_, err := l.client.PutObject(t.Context(), "data", fmt.Sprintf("jobs/%d", i), strings.NewReader("v"), 1, upstream.PutOptions{Header: map[string][]string{"X-Amz-Meta-N": {fmt.Sprint(i)}}})
		require.NoError(t, err)
	}
	_, err := l.client.PutObject(t.Context(), "data", "jobsx", strings.NewReader("v"), 1, upstream.PutOptions{})
	require.NoError(t, err)
	g := l.guard(jobs, func(g *fence.Guard) { g.State = fence.Pending })
	pending, err := l.Pending(t.Context(), g)
	require.NoError(t, err)
	assert.True(t, pending)
	n, err := l.Adopt(t.Context(), *g, nil)
	require.NoError(t, err)
	assert.Equal(t, 30, n)
	n, err = l.Adopt(t.Context(), *g, nil) // again, as after a crash
	require.NoError(t, err)
	assert.Equal(t, 30, n)
	assert.Len(t, l.physical(), 30)
	g.State = fence.Active
	require.NoError(t, state.Run(t.Context(), l.st, &state.Tx{GuardList: true, Decide: func(*state.View) (state.Changes, error) {
		return state.Changes{PutGuards: []*fence.Guard{g}}, nil
	}}))
	info, err := l.Stat(t.Context(), l.op(jobs, 0), object.Ref{Bucket: "data", Key: "jobs/7"})
	require.NoError(t, err)
	assert.Equal(t, "7", info.Meta["n"])
	ref, ok, err := l.Plain(t.Context(), *g)
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, "jobs/0", ref.Key)
	op := l.op(jobs, l.grant(jobs))
	for _, err := range l.Delete(t.Context(), &guarded.Delete{Op: op, Items: []guarded.DeleteItem{{Ref: object.Ref{Bucket: "data", Key: "jobs/7"}}}}) {
		require.NoError(t, err)
	}
	entries, _, _, err := l.List(t.Context(), l.list(), guarded.ListQuery{Bucket: "data", Limit: 1000})
	require.NoError(t, err)
	assert.Len(t, entries, 30, "29 sealed ones and jobsx; the plain originals stay hidden")
}

func TestWritersThroughAHeldScope(t *testing.T) { // F4: a held scope delays itself only
	t.Parallel()
	l := newLab(t)
	l.guard("s3://data/a/")
	l.guard("s3://data/b/")
	a, b := l.op("s3://data/a/", l.grant("s3://data/a/")), l.op("s3://data/b/", l.grant("s3://data/b/"))
	_, err := l.put(a, "a/warm", "x")
	require.NoError(t, err)
	_, err = l.put(b, "b/warm", "x")
	require.NoError(t, err)
	held, release := make(chan struct{}), make(chan struct{})
	go func() {
		_ = state.Run(context.Background(), l.st, &state.Tx{
			Scopes: []state.ScopeLock{{Scope: a.Scope, Mode: state.Exclusive}},
			Decide: func(*state.View) (state.Changes, error) { close(held); <-release; return state.Changes{}, nil },
		})
	}()
	<-held
	done := make(chan error, 8)
	for i := range 8 {
		go func() { _, err := l.put(a, fmt.Sprintf("a/%d", i), "x"); done <- err }()
	}
	for i := range 20 {
		_, err := l.put(b, fmt.Sprintf("b/%d", i), "x")
		require.NoError(t, err)
	}
	select {
	case err := <-done:
		t.Fatalf("a write went past a held scope: %v", err)
	default:
	}
	close(release)
	for range 8 {
		require.NoError(t, <-done)
	}
}

func TestRaiseEndsAnOldLease(t *testing.T) { // F3: the holder of a lower token cannot renew
	t.Parallel()
	l := newLab(t)
	l.guard(jobs, func(g *fence.Guard) { g.Issuer = fence.External })
	sc, err := fence.ParseScope(jobs)
	require.NoError(t, err)
	require.NoError(t, state.Run(t.Context(), l.st, &state.Tx{
		Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}},
		Decide: func(v *state.View) (state.Changes, error) {
			row := v.Scope(sc, fence.Sealed)
			row.Mark.Token, row.LeaseUntil, row.TTL = 5, v.Now.Add(time.Hour), time.Hour
			return state.Changes{Scopes: []state.Scope{row}}, nil
		},
	}))
	_, err = l.put(l.op(jobs, 6), "jobs/a", "x")
	require.NoError(t, err)
	v, err := l.st.Read(t.Context(), state.Query{Scopes: []fence.Scope{sc}})
	require.NoError(t, err)
	row := v.Scopes[sc]
	assert.Equal(t, fence.Token(6), row.Mark.Token)
	assert.False(t, row.Held(v.Now))
}

func TestListOfABucketThatIsNotThere(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, _, _, err := l.List(t.Context(), l.list(), guarded.ListQuery{Bucket: "absent", Limit: 10})
	assert.True(t, upstream.HasCode(err, "NoSuchBucket"), "%v", err)
}
