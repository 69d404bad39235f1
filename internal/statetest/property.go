package statetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// testProperty runs random transactions on the driver and on the in-memory
// reference, one after the other, and compares what they saw, how they ended
// and what stands afterwards. Guards and the counter are left to their own
// suites: their numbers depend on what other runs did to the same state.
func testProperty(t *testing.T, s Subject) {
	model := memory.New()
	ctx := t.Context()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(newBucket())
		for range rapid.IntRange(1, 12).Draw(rt, "transactions") {
			tx, changes, fail := w.draw(rt)
			if rapid.IntRange(0, 9).Draw(rt, "resolved first") == 0 {
				for _, st := range []state.State{s.State, model} {
					o, err := st.Resolve(ctx, tx.ID)
					require.NoError(rt, err)
					require.Equal(rt, state.Aborted, o)
				}
			}
			var views [2]*state.View
			var errs [2]error
			for i, st := range []state.State{s.State, model} {
				own := tx
				own.Decide = func(v *state.View) (state.Changes, error) {
					views[i] = v
					return changes, fail
				}
				errs[i] = st.Transact(ctx, &own)
			}
			require.False(rt, errors.Is(errs[1], memory.ErrContract), "the test itself breaks the contract: %v", errs[1])
			require.Equal(rt, errs[1] == nil, errs[0] == nil, "driver: %v, reference: %v", errs[0], errs[1])
			for _, sentinel := range []error{errDecided, state.ErrMarkFalls} {
				require.Equal(rt, errors.Is(errs[1], sentinel), errors.Is(errs[0], sentinel), "driver: %v, reference: %v", errs[0], errs[1])
			}
			sameView(rt, views[1], views[0])
			w.compare(rt, s.State, model)
		}
	})
}

// sameView compares what can be compared of two views: not clocks.
func sameView(t require.TestingT, want, got *state.View) {
	same(t, want.Scopes, got.Scopes, "scopes")
	same(t, want.Missed, got.Missed, "missed")
	same(t, want.Objects, got.Objects, "objects")
	same(t, want.Claims, got.Claims, "claims")
	same(t, want.Uploads, got.Uploads, "uploads")
	same(t, want.Retries, got.Retries, "retries")
	same(t, want.Referenced, got.Referenced, "referenced")
}

// world is the small set of names that one run of the property test uses.
type world struct {
	bucket   string
	scopes   []fence.Scope
	refs     [][]object.Ref // by scope
	uploads  []string
	retries  []state.RetryID
	requests []state.RetryID
	slots    []state.Slot
	garbage  []string
	attempts []uuid.UUID // all that were written
}

func newWorld(bucket string) *world {
	w := &world{bucket: bucket}
	for _, p := range []string{"a/", "b/"} {
		w.scopes = append(w.scopes, scopeOf(bucket, p))
		var refs []object.Ref
		for _, k := range []string{"", "k", "k\x00", "\xff", "é/"} {
			refs = append(refs, object.Ref{Bucket: bucket, Key: p + k})
		}
		w.refs = append(w.refs, refs)
	}
	for i := range 3 {
		w.uploads = append(w.uploads, fmt.Sprintf("%s-%d", bucket, i))
		w.retries = append(w.retries, state.RetryID([]byte(fmt.Sprintf("%-31s%d", bucket, i))))
		w.requests = append(w.requests, state.RetryID([]byte(fmt.Sprintf("%-31s%c", bucket, 'a'+i))))
		w.slots = append(w.slots, state.Slot{Job: bucket, Name: string(rune('a' + i))})
		w.garbage = append(w.garbage, fmt.Sprintf("g%d", i))
	}
	return w
}

// draw makes a transaction that keeps the contract, with what it will write.
func (w *world) draw(rt *rapid.T) (tx state.Tx, c state.Changes, fail error) {
	tx = state.Tx{ID: state.NewID(), Wait: patience, Try: rapid.Bool().Draw(rt, "try")}
	yes := func(label string) bool { return rapid.Bool().Draw(rt, label) }
	when := func(label string) time.Time {
		n := rapid.IntRange(-1, 3).Draw(rt, label)
		if n < 0 {
			return time.Time{}
		}
		return moment(n)
	}
	locked := -1
	for i, sc := range w.scopes {
		if !yes("scope") {
			continue
		}
		mode := rapid.SampledFrom([]state.Mode{state.Shared, state.Exclusive}).Draw(rt, "mode")
		tx.Scopes = append(tx.Scopes, state.ScopeLock{Scope: sc, Mode: mode})
		locked = i
		if mode == state.Exclusive && yes("write scope") {
			c.Scopes = append(c.Scopes, state.Scope{
				Scope: sc,
				Mark: fence.Mark{
					Generation: fence.Generation(rapid.IntRange(1, 2).Draw(rt, "generation")),
					Token:      fence.Token(rapid.IntRange(0, 3).Draw(rt, "token")),
				},
				Writes: rapid.SampledFrom([]fence.Writes{fence.Sealed, fence.InPlace}).Draw(rt, "writes"),
				Epoch:  1, Horizon: 1, EpochSince: when("since"), LeaseUntil: when("lease"),
				TTL:    time.Duration(rapid.IntRange(0, 2).Draw(rt, "ttl")) * time.Second,
				Last:   fence.Grant{Holder: rapid.SampledFrom([]string{"", "h"}).Draw(rt, "holder"), At: when("granted")},
				Ticket: rapid.SampledFrom([]string{"", "3 t"}).Draw(rt, "ticket"),
			})
		}
		for _, ref := range w.refs[i] {
			switch rapid.IntRange(0, 4).Draw(rt, "object") {
			case 0:
				tx.Keys = append(tx.Keys, ref)
				o := small(sc, ref.Key, fence.Token(len(w.attempts)))
				if yes("full") {
					o = full(sc, ref.Key, 3)
				}
				w.attempts = append(w.attempts, o.Attempt)
				c.PutObjects = append(c.PutObjects, o)
			case 1:
				tx.Keys = append(tx.Keys, ref)
				c.DropObjects = append(c.DropObjects, ref)
			case 2:
				tx.Keys = append(tx.Keys, ref)
			}
		}
	}
	if locked >= 0 && len(tx.Keys) > 0 {
		tx.Uploads, tx.Retries = w.uploads, w.retries
		for _, id := range w.uploads {
			switch rapid.IntRange(0, 3).Draw(rt, "upload") {
			case 0:
				u := upload(w.scopes[locked], tx.Keys[0].Key, id)
				u.Completed = yes("completed")
				w.attempts = append(w.attempts, u.Attempt)
				c.PutUploads = append(c.PutUploads, u)
			case 1:
				c.DropUploads = append(c.DropUploads, id)
			}
		}
		if rapid.IntRange(0, 3).Draw(rt, "retry") == 0 {
			id := rapid.SampledFrom(w.retries).Draw(rt, "retry id")
			c.Retries = append(c.Retries, state.Retry{ID: id, Result: []byte{byte(len(w.attempts))}})
		}
	}
	for _, slot := range w.slots {
		switch rapid.IntRange(0, 3).Draw(rt, "slot") {
		case 0:
			tx.Slots = append(tx.Slots, slot)
			cl := claimOf(slot.Job, slot.Name, fmt.Sprint(len(w.attempts)))
			cl.At = moment(rapid.IntRange(0, 1).Draw(rt, "claimed"))
			c.Claims = append(c.Claims, cl)
		case 1:
			tx.Slots = append(tx.Slots, slot)
		}
	}
	for _, id := range w.requests {
		switch rapid.IntRange(0, 5).Draw(rt, "request") {
		case 0:
			tx.Requests = append(tx.Requests, state.Request{ID: id})
			c.Retries = append(c.Retries, state.Retry{ID: id, Result: []byte{byte(len(w.attempts))}})
		case 1:
			tx.Requests = append(tx.Requests, state.Request{ID: id})
		}
	}
	for _, physical := range w.garbage {
		g := state.Garbage{Bucket: w.bucket, Physical: physical, Found: moment(rapid.IntRange(0, 3).Draw(rt, "found"))}
		switch rapid.IntRange(0, 3).Draw(rt, "garbage") {
		case 0:
			c.AddGarbage = append(c.AddGarbage, g)
		case 1:
			c.DropGarbage = append(c.DropGarbage, g)
		}
	}
	tx.Attempts = w.attempts
	if rapid.IntRange(0, 7).Draw(rt, "fail") == 0 {
		fail = errDecided
	}
	return tx, c, fail
}

// compare compares everything that can be seen of the world.
func (w *world) compare(rt *rapid.T, got, want state.State) {
	ctx := rt.Context()
	q := state.Query{Scopes: w.scopes, Slots: w.slots, Uploads: w.uploads, Attempts: w.attempts}
	for _, refs := range w.refs {
		q.Objects = append(q.Objects, refs...)
	}
	vw, err := want.Read(ctx, q)
	require.NoError(rt, err)
	vg, err := got.Read(ctx, q)
	require.NoError(rt, err)
	sameView(rt, vw, vg)

	limit := rapid.IntRange(1, 6).Draw(rt, "limit")
	ends := []string{"", "a", "a/", "a/k", "a/k\x00", "b/", "b/\xff", "c"}
	r := state.Range{Bucket: w.bucket, From: rapid.SampledFrom(ends).Draw(rt, "from"), To: rapid.SampledFrom(ends).Draw(rt, "to")}
	after := rapid.SampledFrom(append([]string{""}, w.uploads...)).Draw(rt, "after")

	ow, err := want.ListObjects(ctx, r, limit)
	require.NoError(rt, err)
	og, err := got.ListObjects(ctx, r, limit)
	require.NoError(rt, err)
	same(rt, ow, og, "ListObjects %q limit %d", r, limit)

	uw, err := want.ListUploads(ctx, r, after, limit)
	require.NoError(rt, err)
	ug, err := got.ListUploads(ctx, r, after, limit)
	require.NoError(rt, err)
	same(rt, uw, ug, "ListUploads %q after %q limit %d", r, after, limit)

	sw, _, err := want.ListScopes(ctx, "s3://"+w.bucket+"/", "", limit)
	require.NoError(rt, err)
	sg, _, err := got.ListScopes(ctx, "s3://"+w.bucket+"/", "", limit)
	require.NoError(rt, err)
	same(rt, sw, sg, "ListScopes")

	below := rapid.SampledFrom([]string{"", "b", "c"}).Draw(rt, "below")
	cw, err := want.ListClaims(ctx, w.bucket, below, limit)
	require.NoError(rt, err)
	cg, err := got.ListClaims(ctx, w.bucket, below, limit)
	require.NoError(rt, err)
	same(rt, cw, cg, "ListClaims below %q limit %d", below, limit)

	before := moment(rapid.IntRange(0, 4).Draw(rt, "before"))
	gw, err := want.ListGarbage(ctx, w.bucket, before, limit)
	require.NoError(rt, err)
	gg, err := got.ListGarbage(ctx, w.bucket, before, limit)
	require.NoError(rt, err)
	same(rt, gw, gg, "ListGarbage")
}
