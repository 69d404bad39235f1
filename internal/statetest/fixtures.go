package statetest

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// patience bounds waits that must end by themselves.
const patience = 30 * time.Second

// errDecided is what Decide functions of the tests fail with.
var errDecided = errors.New("decided against")

var buckets atomic.Int64

// newBucket keeps the tests that share a state apart.
func newBucket() string { return fmt.Sprintf("bucket-%06d", buckets.Add(1)) }

func scopeOf(bucket, prefix string) fence.Scope {
	s, err := fence.ParseScope("s3://" + bucket + "/" + prefix)
	if err != nil {
		panic(err)
	}
	return s
}

func shared(s fence.Scope) []state.ScopeLock {
	return []state.ScopeLock{{Scope: s, Mode: state.Shared}}
}
func exclusive(s fence.Scope) []state.ScopeLock {
	return []state.ScopeLock{{Scope: s, Mode: state.Exclusive}}
}

// moment is a time that every database keeps exactly.
func moment(n int) time.Time {
	return time.Date(2031, 5, 6, 7, 8, 9, 123456000, time.UTC).Add(time.Duration(n) * 1000001 * time.Microsecond)
}

// full is an object with every field set, small one with as few as can be.
func full(s fence.Scope, key string, token fence.Token) state.Object {
	attempt := state.NewID()
	return state.Object{
		Info: object.Info{
			Ref: object.Ref{Bucket: s.Bucket(), Key: key}, Size: 1<<40 + 3, ETag: "0123abcd-7", Modified: moment(1),
			Attributes: attributes(),
		},
		Scope: s, Token: token, Attempt: attempt, Physical: ".s3fence/o/1/" + attempt.String(),
	}
}

func small(s fence.Scope, key string, token fence.Token) state.Object {
	attempt := state.NewID()
	return state.Object{
		Info:  object.Info{Ref: object.Ref{Bucket: s.Bucket(), Key: key}, ETag: "e", Modified: moment(2)},
		Scope: s, Token: token, Attempt: attempt, Physical: ".s3fence/o/1/" + attempt.String(),
	}
}

func attributes() object.Attributes {
	return object.Attributes{
		Headers:      map[string]string{"Content-Type": `text/plain; charset="utf-8"`, "Cache-Control": "no-store"},
		Meta:         map[string]string{"owner": "Zoë <&> \u2028 \\ \" '", "empty": ""},
		Checksums:    map[string]string{"CRC64NVME": "rosUhgp5mIg="},
		ChecksumType: "FULL_OBJECT",
		Tags:         []object.Tag{{Key: "b", Value: "2"}, {Key: "a", Value: ""}},
		Parts:        7,
		Class:        "REDUCED_REDUNDANCY",
	}
}

func upload(s fence.Scope, key, id string) state.Upload {
	attempt := state.NewID()
	return state.Upload{
		ID: id, Ref: object.Ref{Bucket: s.Bucket(), Key: key}, Scope: s, Token: 33, Generation: 2, Creator: "AKIA-ann",
		Attempt: attempt, Physical: ".s3fence/o/1/" + attempt.String(), Upstream: "up/" + id, Initiated: moment(3),
		Attributes: attributes(),
	}
}

// scopeRow is a scope's row with every field set.
func scopeRow(s fence.Scope, token fence.Token) state.Scope {
	return state.Scope{
		Scope: s, Mark: fence.Mark{Generation: 1, Token: token}, Writes: fence.Sealed,
		Epoch: 3, Horizon: 2, EpochSince: moment(4),
		Last:       fence.Grant{Holder: "AKIA-ann", Owner: "ann@host 'x'", At: moment(5)},
		LeaseUntil: moment(6), TTL: 1500 * time.Millisecond, Ticket: "34 t~ !",
	}
}

// tx begins a transaction that waits for its locks as long as it must.
func newTx(decide func(*state.View) (state.Changes, error)) *state.Tx {
	return &state.Tx{ID: state.NewID(), Wait: patience, Decide: decide}
}

// write commits changes under the locks of tx.
func write(t testing.TB, st state.State, tx *state.Tx, c state.Changes) {
	t.Helper()
	if tx.ID == uuid.Nil {
		tx.ID = state.NewID()
	}
	tx.Wait = patience
	tx.Decide = func(*state.View) (state.Changes, error) { return c, nil }
	require.NoError(t, st.Transact(t.Context(), tx))
}

// putObjects commits objects of one scope.
func putObjects(t testing.TB, st state.State, s fence.Scope, objects ...state.Object) {
	t.Helper()
	tx := &state.Tx{Scopes: shared(s)}
	for _, o := range objects {
		tx.Keys = append(tx.Keys, o.Ref)
	}
	write(t, st, tx, state.Changes{PutObjects: objects})
}

// setMark commits a mark.
func setMark(t testing.TB, st state.State, s fence.Scope, m fence.Mark) {
	t.Helper()
	row := state.NewScope(s, fence.Sealed)
	row.Mark = m
	write(t, st, &state.Tx{Scopes: exclusive(s)}, state.Changes{Scopes: []state.Scope{row}})
}

func read(t testing.TB, st state.State, q state.Query) *state.View {
	t.Helper()
	v, err := st.Read(t.Context(), q)
	require.NoError(t, err)
	return v
}

// seen is what a read sees of an object; nil if it is not there.
func seen(t testing.TB, st state.State, ref object.Ref) *state.Object {
	t.Helper()
	return read(t, st, state.Query{Objects: []object.Ref{ref}}).Objects[ref]
}

func scopeSeen(t testing.TB, st state.State, s fence.Scope) state.Scope {
	t.Helper()
	v := read(t, st, state.Query{Scopes: []fence.Scope{s}})
	return v.Scope(s, fence.Sealed)
}

// hold runs tx in the background and returns once its Decide holds the locks.
// The function it returns lets Decide go and waits for the end; the test's
// clean-up calls it too.
func hold(t testing.TB, st state.State, tx *state.Tx) (release func()) {
	t.Helper()
	entered, let, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	own, decide := *tx, tx.Decide
	own.ID, own.Wait = state.NewID(), patience
	own.Decide = func(v *state.View) (state.Changes, error) {
		close(entered)
		<-let
		if decide == nil {
			return state.Changes{}, nil
		}
		return decide(v)
	}
	ctx := t.Context()
	go func() { done <- st.Transact(ctx, &own) }()
	select {
	case <-entered:
	case err := <-done:
		require.NoError(t, err)
		t.Fatal("the transaction ended without Decide")
	}
	release = sync.OnceFunc(func() {
		close(let)
		if err := <-done; err != nil {
			t.Errorf("the holding transaction: %v", err)
		}
	})
	t.Cleanup(release)
	return release
}

// tidy brings records into the one form that can be compared: times in UTC
// without a monotonic part, empty maps and slices nil.
func tidy[T any](v T) T {
	p := reflect.New(reflect.TypeFor[T]())
	p.Elem().Set(tidied(reflect.ValueOf(&v).Elem()))
	return p.Elem().Interface().(T)
}

func tidied(v reflect.Value) reflect.Value {
	if t, ok := v.Interface().(time.Time); ok {
		if t.IsZero() {
			return reflect.ValueOf(time.Time{})
		}
		return reflect.ValueOf(t.UTC().Round(0))
	}
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(tidied(v.Elem()))
		}
	case reflect.Slice:
		if v.Len() > 0 {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(tidied(v.Index(i)))
			}
		}
	case reflect.Map:
		if v.Len() > 0 {
			out.Set(reflect.MakeMap(v.Type()))
			for it := v.MapRange(); it.Next(); {
				out.SetMapIndex(it.Key(), tidied(it.Value()))
			}
		}
	case reflect.Struct:
		out.Set(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				out.Field(i).Set(tidied(v.Field(i)))
			}
		}
	default:
		out.Set(v)
	}
	return out
}

// same compares records; what databases cannot tell apart is equal.
func same[T any](t require.TestingT, want, got T, msg ...any) {
	if h, ok := t.(interface{ Helper() }); ok {
		h.Helper()
	}
	require.Equal(t, tidy(want), tidy(got), msg...)
}
