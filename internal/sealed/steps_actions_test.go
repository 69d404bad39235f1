//go:build !pausepoints && !race

package sealed

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/idempotency"
	"github.com/s3fence/s3fence/internal/locks"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

func own(sc *scene) (fence.Scope, fence.Mark) {
	return sc.scope, fence.Mark{Generation: fence.FirstGeneration, Token: sc.mark}
}

func (p *proxy) own(sc *scene) guarded.Op { return p.op(sc.scope.String(), sc.mark) }

// putStep is a put of a body that tells who sent it.
func putStep(name, at, key string, cond object.Conditions) action {
	return action{name: name, at: at, under: own, do: func(p *proxy, sc *scene, who string) string {
		body := "of " + who
		_, err := p.Put(context.Background(), &guarded.Put{Op: p.own(sc), Ref: sc.ref(key), Body: strings.NewReader(body), Size: int64(len(body)), Conditions: cond})
		return said(err)
	}}
}

func deleteStep(name, at string, cond object.Conditions, keys ...string) action {
	return action{name: name, at: at, under: own, do: func(p *proxy, sc *scene, _ string) string {
		d := &guarded.Delete{Op: p.own(sc)}
		for _, k := range keys {
			d.Items = append(d.Items, guarded.DeleteItem{Ref: sc.ref(k), Conditions: cond})
		}
		return saidAll(p.Delete(context.Background(), d))
	}}
}

func saidAll(errs []error) string {
	all := make([]string, len(errs))
	for i, err := range errs {
		all[i] = said(err)
	}
	return strings.Join(all, ", ")
}

// openUpload gives the scene an open upload of a with one part.
func openUpload(t *testing.T, p *proxy, sc *scene) {
	t.Helper()
	if sc.upload.ID != "" {
		return
	}
	id, err := p.CreateUpload(t.Context(), &guarded.CreateUpload{Op: p.own(sc), Ref: sc.ref("a")})
	require.NoError(t, err)
	sc.upload = guarded.UploadRef{Op: p.own(sc), Ref: sc.ref("a"), ID: id}
	sc.part, err = p.UploadPart(t.Context(), &guarded.Part{UploadRef: sc.upload, Number: 1, Body: strings.NewReader("part"), Size: 4})
	require.NoError(t, err)
}

// TestStepsInAScope steps the actions on a scope whose tokens are s3fence's own (F1–F7,
// F10).
func TestStepsInAScope(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	base := object.Conditions{IfMatch: md5Hex("base")}
	take := func(p *proxy, sc *scene, who string) string {
		l, err := p.locks.Take(ctx, locks.Request{Scope: sc.scope, Holder: "k", Owner: who, TTL: time.Hour}, "a test")
		return said(err) + drawn(l.Mark.Token)
	}
	everyPair(t, []action{
		putStep("put", "object delete tags", "a", object.Conditions{}),
		putStep("put if it is the base", "object", "a", base),
		putStep("put if there is none", "object", "n", object.Conditions{IfNoneMatch: "*"}),
		deleteStep("delete", "delete", object.Conditions{}, "a"),
		deleteStep("delete if it is the base", "object", base, "a"),
		deleteStep("delete two", "delete", object.Conditions{}, "a", "n"),
		{name: "set tags", at: "tags", under: own, do: func(p *proxy, sc *scene, who string) string {
			return said(p.SetTags(ctx, &guarded.Tagging{Op: p.own(sc), Ref: sc.ref("a"), Tags: []object.Tag{{Key: "of", Value: who}}}))
		}},
		{name: "stat", at: "object", do: func(p *proxy, sc *scene, _ string) string {
			info, err := p.Stat(ctx, p.own(sc), sc.ref("a"))
			return said(err) + " " + info.ETag
		}},
		{name: "create an upload", at: "upload", do: func(p *proxy, sc *scene, _ string) string {
			_, err := p.CreateUpload(ctx, &guarded.CreateUpload{Op: p.own(sc), Ref: sc.ref("n")})
			return said(err)
		}},
		{name: "upload a part", at: "upload", prepare: openUpload, do: func(p *proxy, sc *scene, _ string) string {
			_, err := p.UploadPart(ctx, &guarded.Part{UploadRef: sc.upload, Number: 2, Body: strings.NewReader("part"), Size: 4})
			return said(err)
		}},
		{name: "keep a part", at: "upload", prepare: openUpload, do: func(p *proxy, sc *scene, _ string) string {
			// As a part whose bytes the store took before it was asked to complete.
			return said(p.st.KeepPart(ctx, state.UploadPart{Upload: sc.upload.ID, Number: 2, ETag: md5Hex("part"), Size: 4}))
		}},
		{name: "complete", at: "upload object delete", prepare: openUpload, under: own, do: func(p *proxy, sc *scene, _ string) string {
			info, err := p.Complete(ctx, &guarded.Complete{UploadRef: sc.upload, Parts: []guarded.PartInfo{sc.part}})
			return said(err) + " " + info.ETag
		}},
		{name: "abort", at: "upload", prepare: openUpload, do: func(p *proxy, sc *scene, _ string) string {
			u := sc.upload
			return said(p.Abort(ctx, &u))
		}},
		{name: "end an old upload", at: "upload", prepare: openUpload, do: func(p *proxy, sc *scene, _ string) string {
			v, err := p.st.Read(ctx, state.Query{Uploads: []string{sc.upload.ID}})
			if err != nil || v.Uploads[sc.upload.ID] == nil {
				return "false" + said(err)
			}
			ended, err := p.endUpload(ctx, sc.scope, *v.Uploads[sc.upload.ID])
			return fmt.Sprint(ended, said(err))
		}},
		{name: "raise the horizon and note", at: everywhere, prepare: func(_ *testing.T, _ *proxy, sc *scene) { sc.collected = true }, do: func(p *proxy, sc *scene, _ string) string {
			horizon, err := p.raiseHorizon(ctx, sc.scope)
			if err != nil {
				return said(err)
			}
			return fmt.Sprint("horizon ", horizon, said(p.note(ctx, sc.scope, []name{{Epoch: 1, Attempt: sc.a.Attempt, Key: sc.a.Physical}})))
		}},
		{name: "take", at: everywhere, do: take},
		{name: "acquire", at: "row", do: func(p *proxy, sc *scene, who string) string {
			l, err := p.locks.Acquire(ctx, locks.Request{Scope: sc.scope, Holder: "k", Owner: who, TTL: time.Hour})
			return said(err) + drawn(l.Mark.Token)
		}},
		{name: "renew", at: "row", do: func(p *proxy, sc *scene, _ string) string {
			l, err := p.locks.Renew(ctx, sc.scope, sc.mark, "k", 2*time.Hour)
			return said(err) + drawn(l.Mark.Token)
		}},
		{name: "release", at: "row", do: func(p *proxy, sc *scene, _ string) string {
			return said(p.locks.Release(ctx, sc.scope, sc.mark, "k"))
		}},
		{name: "raise", at: "row", do: func(p *proxy, sc *scene, _ string) string {
			m, err := p.locks.Raise(ctx, sc.scope, 0, "k", "a test", nil)
			return said(err) + drawn(m.Token)
		}},
		{name: "raise far", at: "row", do: func(p *proxy, sc *scene, _ string) string {
			m, err := p.locks.Raise(ctx, sc.scope, sc.far(), "k", "a test", nil)
			return said(err) + drawn(m.Token)
		}},
	})
}

// external is an operation under a token of another issuer.
func (p *proxy) external(sc *scene, token fence.Token) guarded.Op {
	return p.op(sc.external.String(), token)
}

// TestStepsOfExternalTokens steps the actions on a scope whose tokens are somebody else's:
// a higher one raises the mark, in the transaction that writes or before the read (F3–F5,
// F8).
func TestStepsOfExternalTokens(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	under := func(token fence.Token) func(sc *scene) (fence.Scope, fence.Mark) {
		return func(sc *scene) (fence.Scope, fence.Mark) {
			return sc.external, fence.Mark{Generation: fence.FirstGeneration, Token: token}
		}
	}
	put := func(token fence.Token, cond object.Conditions) action {
		name := fmt.Sprintf("put under %d", token)
		if cond.Any() {
			name += " if it is the base"
		}
		return action{name: name, at: everywhere, under: under(token), do: func(p *proxy, sc *scene, who string) string {
			body := "of " + who
			_, err := p.Put(ctx, &guarded.Put{Op: p.external(sc, token), Ref: sc.ext("a"), Body: strings.NewReader(body), Size: int64(len(body)), Conditions: cond})
			return said(err)
		}}
	}
	everyPair(t, []action{
		put(33, object.Conditions{}),
		put(34, object.Conditions{}),
		put(34, object.Conditions{IfMatch: md5Hex("base")}),
		put(35, object.Conditions{}),
		{name: "delete under 34", at: everywhere, under: under(34), do: func(p *proxy, sc *scene, _ string) string {
			// One item: a token that raises the mark goes first and alone, so that more would
			// be two transactions, answered one by one.
			return saidAll(p.Delete(ctx, &guarded.Delete{Op: p.external(sc, 34), Items: []guarded.DeleteItem{{Ref: sc.ext("a")}}}))
		}},
		{name: "stat under 34", at: everywhere, do: func(p *proxy, sc *scene, _ string) string {
			info, err := p.Stat(ctx, p.external(sc, 34), sc.ext("a"))
			return said(err) + " " + info.ETag
		}},
		{name: "raise to 40", at: everywhere, do: func(p *proxy, sc *scene, _ string) string {
			m, err := p.locks.Raise(ctx, sc.external, 40, "k", "a test", nil)
			return fmt.Sprint(said(err), m)
		}},
		{name: "reset", at: everywhere, do: func(p *proxy, sc *scene, _ string) string {
			m, err := p.locks.Reset(ctx, sc.external, "k", "a test", nil)
			return fmt.Sprint(said(err), m)
		}},
	})
}

// key is a request under one of the scene's keys. Objects and locks have one each: where
// a token has become stale and the key another's, either may be told.
func (sc *scene) key(of, operation, target string) *idempotency.Request {
	return idempotency.New("k", fmt.Sprintf("key-%d-%s", sc.number, of), operation, target)
}

// TestStepsOfNamedRequests steps requests under one Idempotency-Key, and claims of one
// slot: of all tries one takes effect, and what is another request under the key is
// refused (F7).
func TestStepsOfNamedRequests(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	put := func(name, key string) action {
		return action{name: name, at: everywhere, under: own, do: func(p *proxy, sc *scene, _ string) string {
			op := p.own(sc)
			op.Named = sc.key("objects", "PutObject", sc.ref(key).String())
			info, err := p.Put(ctx, &guarded.Put{Op: op, Ref: sc.ref(key), Body: strings.NewReader("named"), Size: 5})
			return said(err) + info.ETag
		}}
	}
	claim := func(named bool) func(p *proxy, sc *scene, who string) string {
		return func(p *proxy, sc *scene, who string) string {
			r := locks.ClaimRequest{Job: sc.slot().Job, Slot: sc.slot().Name, Holder: "k", Owner: who}
			if named {
				r.Owner, r.Retry = "ann", sc.key("locks", "Claim", "slot")
			}
			c, err := p.locks.Claim(ctx, r)
			return said(err) + " " + c.Owner
		}
	}
	everyPair(t, []action{
		put("put a", "a"),
		put("put n", "n"),
		{name: "delete", at: everywhere, under: own, do: func(p *proxy, sc *scene, _ string) string {
			op := p.own(sc)
			op.Named = sc.key("objects", "DeleteObjects", "two")
			return saidAll(p.Delete(ctx, &guarded.Delete{Op: op, Items: []guarded.DeleteItem{{Ref: sc.ref("a"), Conditions: object.Conditions{IfMatch: md5Hex("base")}}, {Ref: sc.ref("n")}}}))
		}},
		{name: "acquire", at: everywhere, do: func(p *proxy, sc *scene, _ string) string {
			l, err := p.locks.Acquire(ctx, locks.Request{Scope: sc.scope, Holder: "k", Owner: "ann", TTL: time.Hour, Retry: sc.key("locks", "Acquire", sc.scope.String())})
			return said(err) + drawn(l.Mark.Token)
		}},
		{name: "release", at: everywhere, do: func(p *proxy, sc *scene, _ string) string {
			return said(p.locks.ReleaseOnce(ctx, sc.scope, sc.mark, "k", sc.key("locks", "Release", sc.scope.String())))
		}},
		{name: "raise", at: everywhere, do: func(p *proxy, sc *scene, _ string) string {
			m, err := p.locks.Raise(ctx, sc.scope, 0, "k", "a test", sc.key("locks", "Raise", sc.scope.String()))
			return said(err) + drawn(m.Token)
		}},
		{name: "claim by name", at: "claim", do: claim(true)},
		{name: "claim", at: "claim", do: claim(false)},
	})
}

// TestStepsInALine steps those who wait for a lock that is free: grants go to the first
// place, and drop it.
func TestStepsInALine(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	free := func(t *testing.T, p *proxy, sc *scene) {
		t.Helper()
		if sc.line {
			return
		}
		sc.line = true
		require.NoError(t, p.locks.Release(t.Context(), sc.scope, sc.mark, "k"))
		_, err := p.st.KeepPlace(t.Context(), state.Place{PlaceID: sc.place("first"), Owner: "first"}, time.Hour)
		require.NoError(t, err)
	}
	keep := func(ticket string) action {
		return action{name: "keep the place " + ticket, at: everywhere, prepare: free, do: func(p *proxy, sc *scene, _ string) string {
			_, err := p.st.KeepPlace(ctx, state.Place{PlaceID: sc.place(ticket), Owner: ticket}, time.Hour)
			return said(err)
		}}
	}
	acquire := func(ticket string) action {
		return action{name: "acquire with the ticket " + ticket, at: everywhere, prepare: free, do: func(p *proxy, sc *scene, _ string) string {
			l, err := p.locks.Acquire(ctx, locks.Request{Scope: sc.scope, Holder: "k", Owner: "ann", TTL: time.Hour, Ticket: ticket})
			return said(err) + drawn(l.Mark.Token)
		}}
	}
	everyPair(t, []action{
		keep("first"), keep("second"), acquire("first"), acquire("second"),
		{name: "leave the first", at: everywhere, prepare: free, do: func(p *proxy, sc *scene, _ string) string {
			return said(p.st.LeavePlace(ctx, sc.place("first"), uuid.Nil, 0))
		}},
		{name: "count", at: everywhere, prepare: free, do: func(p *proxy, sc *scene, _ string) string {
			_, n, err := p.st.CountPlaces(ctx, sc.scope, 0, time.Hour)
			return fmt.Sprint(n, said(err))
		}},
	})
}

func (sc *scene) place(ticket string) state.PlaceID {
	return state.PlaceID{Scope: sc.scope, Holder: "k", Ticket: ticket}
}
