//go:build pausepoints

package sealed

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/pause"
	"github.com/s3fence/s3fence/internal/state"
)

// aging is two proxies whose database's clock the test moves.
type aging struct {
	a, b  *proxy
	clock *clock
}

const (
	longestHere = time.Hour
	graceHere   = 24 * time.Hour
)

func newAging(t *testing.T) *aging {
	t.Helper()
	c := &clock{now: time.Now()}
	st := memory.New(memory.WithClock(c.Now))
	two := newProxies(t, []state.State{st, st}, openStore(t), Options{LongestUpload: longestHere, CollectAfter: graceHere}, jobs)
	return &aging{two[0], two[1], c}
}

// age lets time pass and the collector of b run, until names of today lie below
// the horizon and, with grace, what nothing refers to is deleted.
func (w *aging) age(grace bool) {
	w.a.t.Helper()
	for range 3 {
		w.clock.Add(longestHere + time.Minute)
		require.NoError(w.a.t, w.b.CollectOnce(w.a.t.Context()))
	}
	if grace {
		w.clock.Add(graceHere + time.Hour)
		require.NoError(w.a.t, w.b.CollectOnce(w.a.t.Context()))
	}
}

// upload begins a multipart upload with one part through a.
func (w *aging) upload(op guarded.Op, body string) *guarded.Complete {
	t := w.a.t
	t.Helper()
	id, err := w.a.CreateUpload(t.Context(), &guarded.CreateUpload{Op: op, Ref: at(op)})
	require.NoError(t, err)
	u := guarded.UploadRef{Op: op, Ref: at(op), ID: id}
	part, err := w.a.UploadPart(t.Context(), &guarded.Part{UploadRef: u, Number: 1, Body: strings.NewReader(body), Size: int64(len(body))})
	require.NoError(t, err)
	return &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{part}}
}

func (w *aging) put(op guarded.Op, body string) <-chan error {
	return begin(func() error {
		_, err := w.a.Put(context.Background(), &guarded.Put{Op: op, Ref: at(op), Body: strings.NewReader(body), Size: int64(len(body))})
		return err
	})
}

// TestWriterFrozenPastTheCollector: its bytes are deleted while it stands between
// upload and commit. A small body is sent again, a large one is refused; a row
// never points at what is gone (F6).
func TestWriterFrozenPastTheCollector(t *testing.T) {
	t.Run("small", func(t *testing.T) {
		w := newAging(t)
		op := w.a.op(jobs, w.a.mustTake(jobs))
		frozen := freezeAt(t, pause.AfterUpload)
		done := w.put(op, "small")
		frozen.await(done)
		w.age(true)
		require.Empty(t, w.a.physical(), "the orphan")
		frozen.release()
		require.NoError(t, end(t, done))
		assert.Equal(t, "small", w.b.seen(op))
	})
	t.Run("small, and again", func(t *testing.T) { // F7: nothing happened, and the answer says so
		w := newAging(t)
		op := w.a.op(jobs, w.a.mustTake(jobs))
		first := freezeAt(t, pause.AfterUpload)
		done := w.put(op, "small")
		first.await(done)
		w.age(true)
		second := freezeAt(t, pause.AfterUpload)
		first.release()
		second.await(done)
		w.age(true)
		second.release()
		require.ErrorIs(t, end(t, done), state.ErrBusy)
		assert.Empty(t, w.b.seen(op))
	})
	t.Run("large", func(t *testing.T) {
		w := newAging(t)
		op := w.a.op(jobs, w.a.mustTake(jobs))
		_, err := w.a.Store.Put(t.Context(), &guarded.Put{Op: op, Ref: at(op), Body: strings.NewReader("base"), Size: 4})
		require.NoError(t, err)
		frozen := freezeAt(t, pause.AfterUpload)
		done := w.put(op, large)
		frozen.await(done)
		w.age(true)
		frozen.release()
		require.ErrorIs(t, end(t, done), state.ErrBusy)
		assert.Equal(t, "base", w.b.seen(op))
	})
	t.Run("upload ended under its complete", func(t *testing.T) {
		w := newAging(t)
		op := w.a.op(jobs, w.a.mustTake(jobs))
		c := w.upload(op, "late")
		frozen := freezeAt(t, pause.AfterUpload)
		done := begin(func() error { _, err := w.a.Complete(context.Background(), c); return err })
		frozen.await(done)
		w.clock.Add(uploadsKept*longestHere + time.Minute)
		w.age(true)
		require.Empty(t, w.a.physical())
		frozen.release()
		require.ErrorIs(t, end(t, done), object.ErrNoSuchUpload)
		assert.Empty(t, w.b.seen(op))
	})
}

// TestCollectorFrozen: it stands still between two of its steps while others
// commit, and goes on. Nothing that a row refers to is deleted (F6).
func TestCollectorFrozen(t *testing.T) {
	t.Run("above the horizon, before it looks/old name committed", func(t *testing.T) {
		w := newAging(t)
		op := w.a.op(jobs, w.a.mustTake(jobs))
		writer := freezeAt(t, pause.AfterUpload)
		done := w.put(op, "late")
		writer.await(done)
		w.clock.Add(longestHere + time.Minute)
		require.NoError(t, w.b.CollectOnce(t.Context())) // closes the name's epoch
		w.clock.Add(longestHere + time.Minute)
		collector := freezeAt(t, pause.CollectHorizon)
		collected := begin(func() error { return w.b.CollectOnce(context.Background()) })
		collector.await(collected) // the name is below the horizon now
		writer.release()
		require.NoError(t, end(t, done))
		collector.release()
		require.NoError(t, end(t, collected))
		w.age(true)
		assert.Equal(t, "late", w.b.seen(op))
		assert.Len(t, w.a.physical(), 1)
	})
	t.Run("above the horizon, before it looks/old upload completed", func(t *testing.T) {
		w := newAging(t)
		op := w.a.op(jobs, w.a.mustTake(jobs))
		c := w.upload(op, "part")
		w.age(false)
		w.clock.Add(longestHere + time.Minute)
		collector := freezeAt(t, pause.CollectHorizon)
		collected := begin(func() error { return w.b.CollectOnce(context.Background()) })
		collector.await(collected)
		_, err := w.a.Complete(t.Context(), c)
		require.NoError(t, err, "an open upload holds its name")
		collector.release()
		require.NoError(t, end(t, collected))
		w.age(true)
		assert.Equal(t, "part", w.b.seen(op))
	})
	t.Run("between the list and its note/old upload completed", func(t *testing.T) {
		w := newAging(t)
		op := w.a.op(jobs, w.a.mustTake(jobs))
		_, err := w.a.Store.Put(t.Context(), &guarded.Put{Op: op, Ref: at(op), Body: strings.NewReader("one"), Size: 3})
		require.NoError(t, err)
		c := w.upload(op, "part")
		w.age(false)
		w.clock.Add(longestHere + time.Minute)
		collector := freezeAt(t, pause.CollectNote)
		collected := begin(func() error { return w.b.CollectOnce(context.Background()) })
		collector.await(collected)
		_, err = w.a.Complete(t.Context(), c) // replaces "one", whose name was listed
		require.NoError(t, err)
		collector.release()
		require.NoError(t, end(t, collected))
		w.age(true)
		assert.Equal(t, "part", w.b.seen(op))
		assert.Len(t, w.a.physical(), 1, "the replaced object's bytes are collected")
	})
	t.Run("between choice and delete", func(t *testing.T) {
		w := newAging(t)
		op := w.a.op(jobs, w.a.mustTake(jobs))
		for _, body := range []string{"one", "two"} {
			_, err := w.a.Store.Put(t.Context(), &guarded.Put{Op: op, Ref: at(op), Body: strings.NewReader(body), Size: 3})
			require.NoError(t, err)
		}
		_, err := w.a.Store.Put(t.Context(), &guarded.Put{Op: op, Ref: other(op), Body: strings.NewReader("kept"), Size: 4})
		require.NoError(t, err)
		w.age(false)
		w.clock.Add(graceHere + time.Hour)
		collector := freezeAt(t, pause.CollectDelete)
		collected := begin(func() error { return w.b.CollectOnce(context.Background()) })
		collector.await(collected)
		// Its other proxy finds the same names and deletes them first.
		require.NoError(t, w.a.CollectOnce(t.Context()))
		_, err = w.a.Store.Put(t.Context(), &guarded.Put{Op: op, Ref: at(op), Body: strings.NewReader("three"), Size: 5})
		require.NoError(t, err)
		collector.release()
		require.NoError(t, end(t, collected))
		assert.Equal(t, "three", w.b.seen(op))
		got, err := w.b.see(op, other(op))
		require.NoError(t, err)
		assert.Equal(t, "kept", got)
	})
}

// TestReaderFrozenPastTheCollector: the object is replaced and its bytes are
// collected while a reader stands between the row and the bytes. It reads the
// row again; a client never sees a 404 (F6).
func TestReaderFrozenPastTheCollector(t *testing.T) {
	w := newAging(t)
	op := w.a.op(jobs, w.a.mustTake(jobs))
	_, err := w.a.Store.Put(t.Context(), &guarded.Put{Op: op, Ref: at(op), Body: strings.NewReader("one"), Size: 3})
	require.NoError(t, err)
	chosen := 0
	_, body, err := w.a.Get(t.Context(), op, at(op), func(object.Info, func(int) (object.Part, error)) (*guarded.Range, error) {
		if chosen++; chosen == 1 {
			_, err := w.b.Put(t.Context(), &guarded.Put{Op: op, Ref: at(op), Body: strings.NewReader("two"), Size: 3})
			require.NoError(t, err)
			w.age(true)
		}
		return nil, nil
	})
	require.NoError(t, err)
	defer body.Close()
	var got bytes.Buffer
	_, err = got.ReadFrom(body)
	require.NoError(t, err)
	assert.Equal(t, "two", got.String())
	assert.Equal(t, 2, chosen)
}
