package sealed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// named is op under an Idempotency-Key, as the S3 edge names it: each request of a
// client is a new one.
func named(op guarded.Op, key, operation string, ref object.Ref, parts ...string) guarded.Op {
	op.Named = idempotency.New(op.Caller, key, operation, ref.String())
	for i := 0; i+1 < len(parts); i += 2 {
		op.Named.Part(parts[i], parts[i+1])
	}
	return op
}

// wayToRepeat is a kind of write that can be sent again. do returns what it was
// answered; variant, where not empty, makes it another request.
type wayToRepeat struct {
	name string
	do   func(p *proxy, op guarded.Op, key, variant string) (string, error)
}

func answerOf(i object.Info) string {
	return fmt.Sprint(i.ETag, i.Size, i.Modified.UnixMicro(), i.Checksums, i.ChecksumType)
}

func waysToRepeat() []wayToRepeat {
	put := func(body string, known bool) func(*proxy, guarded.Op, string, string) (string, error) {
		return func(p *proxy, op guarded.Op, key, variant string) (string, error) {
			b := body + variant
			put := &guarded.Put{Op: named(op, key, "PutObject", at(op)), Ref: at(op), Body: strings.NewReader(b), Size: int64(len(b)),
				Attributes: object.Attributes{Checksums: map[string]string{"CRC32": "AAAAAA=="}, ChecksumType: "FULL_OBJECT"}}
			if !known {
				put.Size = -1
			}
			info, err := p.Put(context.Background(), put)
			return answerOf(info), err
		}
	}
	ref := func(op guarded.Op) guarded.UploadRef { return guarded.UploadRef{Op: op, Ref: at(op)} }
	return []wayToRepeat{
		{"put", put("again", true)},
		{"put streamed", put(large, true)},
		{"put of unknown length", put("again", false)},
		{"copy", func(p *proxy, op guarded.Op, key, variant string) (string, error) {
			info, err := p.Copy(context.Background(), &guarded.Copy{Op: named(op, key, "CopyObject", at(op), "the source", variant), Ref: at(op), Source: guarded.Source{Op: op, Ref: other(op)}})
			return answerOf(info), err
		}},
		{"create", func(p *proxy, op guarded.Op, key, variant string) (string, error) {
			return p.CreateUpload(context.Background(), &guarded.CreateUpload{Op: named(op, key, "CreateMultipartUpload", at(op), "the metadata", variant), Ref: at(op)})
		}},
		{"delete", func(p *proxy, op guarded.Op, key, variant string) (string, error) {
			return "", p.Delete(context.Background(), &guarded.Delete{Op: named(op, key, "DeleteObject", at(op), "the header if-match", variant), Items: []guarded.DeleteItem{{Ref: at(op)}}})[0]
		}},
		{"tags", func(p *proxy, op guarded.Op, key, variant string) (string, error) {
			o := named(op, key, "PutObjectTagging", at(op))
			o.Named.Body(sha256.Sum256([]byte("b" + variant)))
			return "", p.SetTags(context.Background(), &guarded.Tagging{Op: o, Ref: at(op), Tags: []object.Tag{{Key: "k", Value: "b" + variant}}})
		}},
		{"complete", func(p *proxy, op guarded.Op, key, variant string) (string, error) {
			// The upload is found again by its own name.
			u := ref(named(op, key+"-create", "CreateMultipartUpload", at(op)))
			id, err := p.CreateUpload(context.Background(), &guarded.CreateUpload{Op: u.Op, Ref: u.Ref})
			if err != nil {
				return "", err
			}
			u = ref(op)
			u.ID = id
			_, err = p.UploadPart(context.Background(), &guarded.Part{UploadRef: u, Number: 1, Body: strings.NewReader("tail"), Size: 4})
			if err != nil && !errors.Is(err, object.ErrNoSuchUpload) { // completed
				return "", err
			}
			sum := md5Hex("tail")
			u.Op = named(op, key, "CompleteMultipartUpload", at(op))
			u.Op.Named.Body(sha256.Sum256([]byte("one part" + variant)))
			u.Op.Request.Token = 0 // it belongs to its upload
			info, err := p.Complete(context.Background(), &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{{Number: 1, ETag: sum}}})
			return answerOf(info), err
		}},
	}
}

// A request that is sent again under its Idempotency-Key is answered as the first
// time, through whichever proxy, whatever was written since, and also when its
// token is stale by now: it did take effect (F7). Another request under the key
// takes no effect and is told what differs.
func TestNamedRequests(t *testing.T) {
	t.Parallel()
	for _, kind := range states {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			proxies := newProxies(t, openStates(t, kind, 2), openStore(t), Options{}, anyScope)
			for _, way := range waysToRepeat() {
				t.Run(way.name, func(t *testing.T) {
					t.Parallel()
					mine := in(t, proxies)
					a, b := mine[0], mine[1]
					scope := newScope()
					key := "key of " + scope
					op := a.op(scope, a.mustTake(scope))
					before := func() {
						for _, ref := range []object.Ref{at(op), other(op)} {
							_, err := a.put(op, ref.Key, "base")
							require.NoError(t, err)
						}
					}
					before()
					first, err := way.do(a, op, key, "")
					require.NoError(t, err)
					after := a.seen(op)

					_, err = way.do(b, op, key, "x")
					var reused *idempotency.ReusedError
					require.ErrorAs(t, err, &reused)
					assert.Len(t, reused.Differs, 1)
					assert.Contains(t, err.Error(), scope)
					if way.name != "delete" {
						assert.Equal(t, after, a.seen(op), "another request under the key took effect")
					}
					// Written since; nothing of the repetition may touch it.
					_, err = a.put(op, at(op).Key, "since")
					require.NoError(t, err)
					again, err := way.do(b, op, key, "")
					require.NoError(t, err)
					assert.Equal(t, first, again)
					assert.Equal(t, "since", b.seen(op))

					a.mustTake(scope)
					again, err = way.do(b, op, key, "")
					require.NoError(t, err, "the first answer, under a token that is stale by now")
					assert.Equal(t, first, again)
					_, err = way.do(b, op, key, "x")
					require.ErrorAs(t, err, &reused)
					_, err = way.do(b, op, "another"+key, "")
					refusal(t, err, fence.Stale)
					assert.Equal(t, "since", b.seen(a.op(scope, 0)))
				})
			}
		})
	}
}

// Of tries at the same time, through two proxies, one takes effect and all are
// given its answer; of other requests under the key, to other objects, none does.
func TestNamedRequestsAtOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range states {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			proxies := newProxies(t, openStates(t, kind, 2), openStore(t), Options{}, anyScope)
			scope := newScope()
			op := proxies[0].op(scope, proxies[0].mustTake(scope))
			const tries = 8
			for round := range 4 {
				key := fmt.Sprint("key", round)
				var mu sync.Mutex
				answers, effects := map[string]int{}, map[string]bool{}
				var g errgroup.Group
				for i := range tries {
					p := proxies[i%2]
					ref := object.Ref{Bucket: "data", Key: op.Scope.Prefix() + key}
					if i >= tries/2 {
						ref.Key += fmt.Sprint("-", i) // another request, with no lock in common but the key's
					}
					g.Go(func() error {
						info, err := p.Put(context.Background(), &guarded.Put{Op: named(op, key, "PutObject", ref), Ref: ref, Body: strings.NewReader("x"), Size: 1})
						mu.Lock()
						defer mu.Unlock()
						switch {
						case errors.Is(err, idempotency.ErrReused):
							answers["reused"]++
						case err != nil:
							return err
						default:
							effects[ref.Key] = true
							answers[answerOf(info)]++
						}
						return nil
					})
				}
				require.NoError(t, g.Wait(), "no other answer than the first one's, or that the key is used")
				require.Len(t, effects, 1)
				require.LessOrEqual(t, len(answers), 2)
				list, err := proxies[0].st.ListObjects(t.Context(), state.Range{Bucket: "data", From: op.Scope.Prefix() + key, To: op.Scope.Prefix() + key + "."}, 100)
				require.NoError(t, err)
				require.Len(t, list, 1, "exactly one of the requests under the key took effect")
			}
		})
	}
}

// What was refused or failed is no answer to give again: the request runs.
func TestNamedRequestsThatWereRefusedRunAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	p := &proxy{lab: l}
	tok := l.grant(jobs)
	op := l.op(jobs, tok)
	ref := at(op)
	put := func(op guarded.Op, body, match string) error {
		_, err := l.put(named(op, "key", "PutObject", ref, "the header if-match", match), ref.Key, body, func(p *guarded.Put) { p.IfMatch = match })
		return err
	}
	require.ErrorIs(t, put(op, "one", `"none"`), object.ErrNoSuchKey)
	refusal(t, put(l.op(jobs, tok+50), "one", ""), fence.NeverGranted)
	require.NoError(t, put(op, "two", ""), "another request: the first one under the key never took effect")
	require.ErrorIs(t, put(op, "two", `"none"`), idempotency.ErrReused)
	assert.Equal(t, "two", p.seen(op))
}

// Under another token than the first time a repetition is judged like any request:
// a stale one is refused, and what is answered under a higher one of an external
// issuer keeps out lower ones from then on (F4).
func TestRepetitionUnderAnotherToken(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"name", "SDK"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			const ext = "s3://data/ext/"
			l.guard(ext, func(g *fence.Guard) { g.Issuer = fence.External })
			put := func(tok fence.Token) (object.Info, error) {
				op := l.op(ext, tok)
				if by == "SDK" {
					op.RetryID = "invocation"
				} else {
					op = named(op, "key", "PutObject", at(op))
				}
				return l.put(op, "ext/a", "x")
			}
			first, err := put(40)
			require.NoError(t, err)
			again, err := put(50)
			require.NoError(t, err)
			assert.Equal(t, answerOf(first), answerOf(again))
			_, err = l.put(l.op(ext, 45), "ext/b", "late")
			refusal(t, err, fence.Stale)
			_, err = put(45)
			refusal(t, err, fence.Stale)
			again, err = put(40)
			require.NoError(t, err, "the first try's own token")
			assert.Equal(t, answerOf(first), answerOf(again))
		})
	}
}

// A batch delete is one request: each of its keys is deleted once, also where the
// first try was cut off half way.
func TestNamedBatchDelete(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	ref := func(i int) object.Ref { return object.Ref{Bucket: "data", Key: fmt.Sprintf("jobs/%03d", i)} }
	const keys = 300 // more than share a transaction
	var items []guarded.DeleteItem
	for i := range keys {
		items = append(items, guarded.DeleteItem{Ref: ref(i)})
	}
	for _, i := range []int{0, 1, keys - 1} {
		_, err := l.put(op, ref(i).Key, "x")
		require.NoError(t, err)
	}
	send := func(key, body string, items []guarded.DeleteItem) []error {
		o := named(op, key, "DeleteObjects", object.Ref{Bucket: "data"})
		o.Named.Body(sha256.Sum256([]byte(body)))
		return l.Delete(t.Context(), &guarded.Delete{Op: o, Items: items})
	}
	exists := func(i int) bool {
		_, err := l.get(op, ref(i).Key)
		return err == nil
	}
	// The first try got as far as half of its keys.
	for _, err := range send("key", "all", items[:keys/2]) {
		require.NoError(t, err)
	}
	assert.False(t, exists(0))
	_, err := l.put(op, ref(1).Key, "since")
	require.NoError(t, err)
	for _, err := range send("key", "all", items) {
		require.NoError(t, err)
	}
	assert.True(t, exists(1), "deleted a second time")
	assert.False(t, exists(keys-1), "the rest was not done")
	for _, err := range send("key", "others", items[1:3]) {
		require.ErrorIs(t, err, idempotency.ErrReused)
	}
	assert.True(t, exists(1))
	for _, err := range send("new key", "all", items) {
		require.NoError(t, err)
	}
	assert.False(t, exists(1))
}

// One key may name an upload as a whole: Create, and the Complete of what it
// created.
func TestOneNameForAnUpload(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	p := &proxy{lab: l}
	create := func(key string) string {
		id, err := l.CreateUpload(t.Context(), &guarded.CreateUpload{Op: named(op, key, "CreateMultipartUpload", at(op)), Ref: at(op)})
		require.NoError(t, err)
		return id
	}
	id := create("key")
	require.Equal(t, id, create("key"))
	u := guarded.UploadRef{Op: op, Ref: at(op), ID: id}
	_, err := l.UploadPart(t.Context(), &guarded.Part{UploadRef: u, Number: 1, Body: bytes.NewReader(partBytes), Size: int64(len(partBytes))})
	require.NoError(t, err)
	complete := func(id, list string) (object.Info, error) {
		o := named(op, "key", "CompleteMultipartUpload", at(op), "the parameter uploadId", id)
		o.Named.Body(sha256.Sum256([]byte(list)))
		return l.Complete(t.Context(), &guarded.Complete{UploadRef: guarded.UploadRef{Op: o, Ref: at(op), ID: id},
			Parts: []guarded.PartInfo{{Number: 1, ETag: md5Hex(string(partBytes))}}})
	}
	foreign := create("another key")
	_, err = complete(foreign, "list")
	require.ErrorIs(t, err, idempotency.ErrReused, "the key names another upload")
	first, err := complete(id, "list")
	require.NoError(t, err)
	again, err := complete(id, "list")
	require.NoError(t, err)
	assert.Equal(t, answerOf(first), answerOf(again))
	_, err = complete(id, "another list")
	require.ErrorIs(t, err, idempotency.ErrReused)
	require.Equal(t, id, create("key"), "the beginning keeps its answer")
	_, err = l.put(named(op, "key", "PutObject", at(op)), at(op).Key, "x")
	require.ErrorIs(t, err, idempotency.ErrReused)
	assert.Equal(t, string(partBytes), p.seen(op))
}

// A repetition costs the store nothing.
func TestRepetitionStoresNothing(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"small", large} {
		l := newLab(t)
		l.guard(jobs)
		op := l.op(jobs, l.grant(jobs))
		for range 3 {
			_, err := l.put(named(op, "key", "PutObject", at(op)), at(op).Key, body)
			require.NoError(t, err)
		}
		assert.Len(t, l.physical(), 1)
	}
}

// Two requests under one key never share a transaction: neither would see what the
// other did. The operations of one request may.
func TestRequestsOfOneNameDoNotShareATransaction(t *testing.T) {
	t.Parallel()
	c, _, g, stop := desk(t)
	defer stop()
	sc := parseScope(t, "s3://data/a/")
	ask := func(key string, n *idempotency.Request) *operation {
		o := write(g, sc, "a/"+key)
		o.named, o.answer, o.replay = n, func() result { return result{} }, func(*result) {}
		return o
	}
	request := func(key string) *idempotency.Request { return idempotency.New("k", "key", "PutObject", key) }
	one, other := request("1"), request("2")
	batch, rest := pick([]*operation{ask("1", one), ask("2", other), ask("3", one), ask("4", nil), write(g, sc, "a/5")})
	assert.Len(t, batch, 4)
	assert.Len(t, rest, 1)
	ops := []*operation{ask("1", one), ask("2", other), ask("3", request("3"))}
	c.doAll(ops)
	took := 0
	for _, o := range ops {
		if o.err == nil {
			took++
		} else {
			require.ErrorIs(t, o.err, idempotency.ErrReused)
		}
	}
	assert.Equal(t, 1, took)
}

// A Complete that was answered is answered again, but not under a token that is not
// the upload's: it would be an answer under a mark that never rose (F4).
func TestRepeatedCompleteUnderAnotherToken(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"nothing", "name"} {
		t.Run("known again by "+by, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			const ext = "s3://data/ext/"
			l.guard(ext, func(g *fence.Guard) { g.Issuer = fence.External })
			op := l.op(ext, 40)
			id, err := l.CreateUpload(t.Context(), &guarded.CreateUpload{Op: op, Ref: at(op)})
			require.NoError(t, err)
			u := guarded.UploadRef{Op: op, Ref: at(op), ID: id}
			_, err = l.UploadPart(t.Context(), &guarded.Part{UploadRef: u, Number: 1, Body: bytes.NewReader(partBytes), Size: int64(len(partBytes))})
			require.NoError(t, err)
			complete := func(tok fence.Token) error {
				o := l.op(ext, tok)
				if by == "name" {
					o = named(o, "key", "CompleteMultipartUpload", at(o))
				}
				_, err := l.Complete(t.Context(), &guarded.Complete{UploadRef: guarded.UploadRef{Op: o, Ref: at(o), ID: id},
					Parts: []guarded.PartInfo{{Number: 1, ETag: md5Hex(string(partBytes))}}})
				return err
			}
			require.NoError(t, complete(40))
			require.ErrorIs(t, complete(50), guarded.ErrOtherToken)
			require.NoError(t, complete(40))
			require.NoError(t, complete(0), "it needs no token of its own")
		})
	}
}

// An upload belongs to the token that created it, so a Create that comes again under
// another one cannot be given it: its parts would be refused one by one.
func TestRepeatedCreateUnderAnotherToken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	create := func(tok fence.Token) (string, error) {
		op := l.op(jobs, tok)
		return l.CreateUpload(t.Context(), &guarded.CreateUpload{Op: named(op, "key", "CreateMultipartUpload", at(op)), Ref: at(op)})
	}
	old := l.grant(jobs)
	first, err := create(old)
	require.NoError(t, err)
	now := l.grant(jobs)
	_, err = create(now)
	require.ErrorIs(t, err, guarded.ErrOtherToken)
	again, err := create(old)
	require.NoError(t, err)
	assert.Equal(t, first, again)
}
