package sealed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mclient "github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/checksum"
	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/internal/storetest"
	"github.com/s3fence/s3fence/internal/upstream"
)

// completing drives Completes of one upload over a store whose ETags prove nothing.
// Its hooks run in the store, before and after a request of their kind is obeyed, and
// in the state, under the locks of a transaction.
type completing struct {
	*multipart
	beforeList, afterHead, beforeJoin, afterJoin hook
	beginning, deciding                          hook
	// hides: the store shows neither the upload nor the object, or no part of it.
	hides, hidesParts atomic.Bool
	// loses: the answer to a join.
	loses atomic.Bool
	// digests: its ETags are those of the bytes after all.
	digests atomic.Bool
}

// hook runs once after it was set.
type hook struct{ f atomic.Pointer[func() error] }

func (h *hook) set(f func() error) { h.f.Store(&f) }

func (h *hook) run() error {
	if f := h.f.Swap(nil); f != nil {
		return (*f)()
	}
	return nil
}

func newCompleting(t *testing.T) *completing {
	t.Helper()
	c := &completing{}
	l := odd(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			upload := r.URL.Query().Has("uploadId")
			list, join, head := upload && r.Method == http.MethodGet, upload && r.Method == http.MethodPost, r.Method == http.MethodHead
			switch {
			case list:
				_ = c.beforeList.run()
			case join:
				_ = c.beforeJoin.run()
			}
			changed(w, r, next, func(rec *httptest.ResponseRecorder) {
				switch {
				case c.hides.Load() && (list || head):
					rec.Code = 404
					rec.Body.Reset()
					rec.Header().Del("Content-Length")
					if list {
						rec.Body.WriteString("<Error><Code>NoSuchUpload</Code></Error>")
					}
				case join && c.loses.CompareAndSwap(true, false):
					rec.Code = 502
					rec.Body.Reset()
					rec.Header().Del("Content-Length")
				case list && c.hidesParts.Load():
					rec.Body.Reset()
					rec.Header().Del("Content-Length")
					rec.Body.WriteString("<ListPartsResult></ListPartsResult>")
				case head && rec.Code == 200 && !c.digests.Load():
					rec.Header().Set("X-Amz-Server-Side-Encryption", "aws:kms")
					rec.Header().Set("Etag", `"0123456789abcdef0123456789abcdef-1"`)
				}
			})
			switch {
			case join:
				_ = c.afterJoin.run()
			case head:
				_ = c.afterHead.run()
			}
		})
	}, memory.WithFaults(func(at memory.Stage) error {
		switch at {
		case memory.Beginning:
			return c.beginning.run()
		case memory.Deciding:
			return c.deciding.run()
		}
		return nil
	}))
	l.guard(jobs)
	c.multipart = &multipart{l, l.op(jobs, l.grant(jobs)), object.Ref{Bucket: "data", Key: "jobs/big"}}
	return c
}

// begin uploads a part and returns the Complete of it.
func (c *completing) begin(body string) *guarded.Complete {
	u := c.create("CRC64NVME", checksum.FullObject)
	return &guarded.Complete{UploadRef: u, Parts: []guarded.PartInfo{c.mustSend(u, 1, []byte(body), "CRC64NVME")}}
}

// try completes as one more request would.
func (c *completing) try(r *guarded.Complete) (object.Info, error) {
	again := *r
	return c.Complete(context.WithoutCancel(c.t.Context()), &again)
}

// outcome is how a request under way ends.
type outcome struct {
	info object.Info
	err  error
}

// held runs a try up to the transaction that would commit what it has joined; it goes
// on when release is called, and its outcome comes.
func (c *completing) held(r *guarded.Complete) (release func(), done <-chan outcome) {
	c.t.Helper()
	reached, gate := make(chan struct{}), make(chan struct{})
	c.afterJoin.set(func() error {
		c.deciding.set(func() error {
			close(reached)
			<-gate
			return nil
		})
		return nil
	})
	out := make(chan outcome, 1)
	go func() {
		info, err := c.try(r)
		out <- outcome{info, err}
	}()
	<-reached
	release = sync.OnceFunc(func() { close(gate) })
	c.t.Cleanup(release)
	return release, out
}

// While a try stands between what it has joined and its commit, its repetition is
// answered as it will be. 409, as it was once, said that neither would take effect.
func TestCompleteRepeatedBeforeTheFirstCommits(t *testing.T) { // F7
	t.Parallel()
	c := newCompleting(t)
	r := c.begin("body")
	release, first := c.held(r)
	c.beginning.set(func() error { release(); return nil }) // the second waits for the key that the first has
	info, err := c.try(r)
	require.NoError(t, err)
	for _, o := range []outcome{<-first, {info, err}} {
		require.NoError(t, o.err)
		require.Equal(t, map[string]string{"CRC64NVME": sumOf("CRC64NVME", []byte("body"))}, o.info.Checksums)
	}
	got, err := c.get(c.op, c.ref.Key)
	require.NoError(t, err)
	require.Equal(t, "body", got)
}

// A try that died between joining and committing leaves an upload that a repetition
// completes.
func TestCompleteRepeatedAfterTheFirstDied(t *testing.T) { // F7
	t.Parallel()
	c := newCompleting(t)
	r := c.begin("body")
	c.afterJoin.set(func() error {
		c.deciding.set(func() error { return errors.New("cut off") })
		return nil
	})
	_, err := c.try(r)
	require.ErrorIs(t, err, state.ErrUnavailable)
	info, err := c.try(r)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"CRC64NVME": sumOf("CRC64NVME", []byte("body"))}, info.Checksums)
}

// Where a store's ETags prove nothing, an upload for which two lists have left is not
// taken for what either would have made of it, and either may have: 504 until it is
// aborted.
func TestUploadJoinedFromAnotherList(t *testing.T) { // F6, F7
	t.Parallel()
	c := newCompleting(t)
	mine := c.begin("mine")
	c.beforeJoin.set(func() error {
		theirs := *mine
		theirs.Parts = []guarded.PartInfo{c.mustSend(mine.UploadRef, 1, []byte("ours"), "CRC64NVME")}
		c.afterJoin.set(func() error {
			c.deciding.set(func() error { return errors.New("cut off") })
			return nil
		})
		_, err := c.try(&theirs)
		assert.ErrorIs(t, err, state.ErrUnavailable)
		return nil
	})
	for range 2 {
		_, err := c.try(mine)
		require.ErrorIs(t, err, guarded.ErrUndecided)
	}
	_, err := c.Stat(t.Context(), c.op, c.ref)
	require.ErrorIs(t, err, object.ErrNoSuchKey)
	require.NoError(t, c.Abort(t.Context(), &mine.UploadRef))
	_, err = c.try(mine)
	require.ErrorIs(t, err, object.ErrNoSuchUpload)
}

// Nor is it, where this one's answer is lost and what the other made has the right size.
func TestLostAnswerToAnUploadJoinedFromAnotherList(t *testing.T) { // F6, F7
	t.Parallel()
	c := newCompleting(t)
	mine := c.begin("mine")
	c.beforeJoin.set(func() error {
		theirs := *mine
		theirs.Parts = []guarded.PartInfo{c.mustSend(mine.UploadRef, 1, []byte("ours"), "CRC64NVME")}
		c.afterJoin.set(func() error {
			c.deciding.set(func() error { return errors.New("cut off") })
			return nil
		})
		_, err := c.try(&theirs)
		assert.ErrorIs(t, err, state.ErrUnavailable)
		c.loses.Store(true)
		return nil
	})
	_, err := c.try(mine)
	require.ErrorIs(t, err, guarded.ErrUndecided)
}

// One of which no try has left for the store will never take effect, whoever else
// joined the upload: 404.
func TestUploadJoinedFromAnotherListAlone(t *testing.T) { // F7
	t.Parallel()
	c := newCompleting(t)
	mine := c.begin("mine")
	theirs := *mine
	theirs.Parts = []guarded.PartInfo{c.mustSend(mine.UploadRef, 1, []byte("ours"), "CRC64NVME")}
	release, done := c.held(&theirs)
	c.afterHead.set(func() error { release(); return nil })
	_, err := c.try(mine)
	require.ErrorIs(t, err, object.ErrNoSuchUpload)
	release()
	require.NoError(t, (<-done).err)
}

// A Complete that finds nothing to join any more, because its own first try took
// effect at that moment, is answered as that was.
func TestCompleteOvertakenByItsFirstTry(t *testing.T) { // F7
	t.Parallel()
	c := newCompleting(t)
	r := c.begin("mine")
	var first object.Info
	c.beforeList.set(func() error {
		var err error
		first, err = c.try(r)
		assert.NoError(t, err)
		return nil
	})
	second, err := c.try(r)
	require.NoError(t, err)
	require.Equal(t, first.ETag, second.ETag)
	require.Equal(t, first.Checksums, second.Checksums)
}

// So is one whose token was passed just after its first try took effect: 412 would
// say that it did not.
func TestCompleteOvertakenAndPassed(t *testing.T) { // F4, F7
	t.Parallel()
	c := newCompleting(t)
	c.digests.Store(true)
	r := c.begin("body")
	release, first := c.held(r)
	c.afterHead.set(func() error {
		release()
		assert.NoError(t, (<-first).err)
		c.grant(jobs)
		return nil
	})
	_, err := c.try(r)
	require.NoError(t, err)
}

// A store that joins shows neither the upload nor the object, or no parts of it, for
// as long as it copies bytes. Whoever repeats the Complete meanwhile is not told that
// the upload does not exist, or its list is wrong.
func TestCompleteRepeatedWhileTheStoreJoins(t *testing.T) { // F7
	t.Parallel()
	for name, hides := range map[string]func(*completing) *atomic.Bool{
		"nothing is shown":   func(c *completing) *atomic.Bool { return &c.hides },
		"no parts are shown": func(c *completing) *atomic.Bool { return &c.hidesParts },
	} {
		for _, ends := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, and it ends: %v", name, ends), func(t *testing.T) {
				t.Parallel()
				c := newCompleting(t)
				r := c.begin("body")
				reached, gate := make(chan struct{}), make(chan struct{})
				release := sync.OnceFunc(func() { hides(c).Store(false); close(gate) })
				t.Cleanup(release)
				c.beforeJoin.set(func() error {
					hides(c).Store(true)
					close(reached)
					<-gate
					return nil
				})
				first := make(chan outcome, 1)
				go func() {
					info, err := c.try(r)
					first <- outcome{info, err}
				}()
				<-reached
				if ends {
					c.beforeList.set(func() error {
						c.beforeList.set(func() error { release(); return nil })
						return nil
					})
				}
				begun := time.Now()
				_, err := c.try(r)
				require.Less(t, time.Since(begun), 10*time.Second, "the wait is bounded")
				release()
				require.NoError(t, (<-first).err)
				if ends {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, guarded.ErrUndecided)
				}
			})
		}
	}
}

// An upload that its store has ended, and no Complete has left for, is no more.
func TestUploadEndedByItsStore(t *testing.T) { // F7
	t.Parallel()
	c := newCompleting(t)
	r := c.begin("body")
	c.hides.Store(true)
	_, err := c.try(r)
	require.ErrorIs(t, err, object.ErrNoSuchUpload)
}

// Completes of one upload at the same time, on real stores, are answered alike.
// versitygw answers 200 to all but one of them before the object is there.
func TestSimultaneousCompletes(t *testing.T) { // F6, F7
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *storetest.Server{"versitygw": storetest.Versitygw, "encrypting": storetest.StartEncrypting} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			err := server.Client(t).MakeBucket(t.Context(), "data", mclient.MakeBucketOptions{Region: storetest.Region})
			require.NoError(t, err)
			client, err := upstream.New(upstream.Config{Name: "main", Endpoint: server.Endpoint, AccessKey: server.AccessKey, SecretKey: server.SecretKey, Region: storetest.Region, PathStyle: true})
			require.NoError(t, err)
			st := memory.New()
			s, err := New(t.Context(), st, oneStore{client}, Options{})
			require.NoError(t, err)
			t.Cleanup(s.Close)
			l := &lab{Store: s, t: t, st: st, client: client, guards: map[string]*fence.Guard{}}
			l.guard(jobs)
			op := l.op(jobs, l.grant(jobs))
			for round := range 8 {
				m := &multipart{l, op, object.Ref{Bucket: "data", Key: fmt.Sprintf("jobs/%d", round)}}
				u := m.create("CRC64NVME", checksum.FullObject)
				parts := []guarded.PartInfo{m.mustSend(u, 1, filled(minPartSize, 1), "CRC64NVME"), m.mustSend(u, 2, []byte("x"), "CRC64NVME")}
				var all sync.WaitGroup
				answers := make([]outcome, 6)
				for i := range answers {
					all.Go(func() {
						answers[i].info, answers[i].err = m.Complete(context.WithoutCancel(t.Context()), &guarded.Complete{UploadRef: u, Parts: parts})
					})
				}
				all.Wait()
				for _, a := range answers {
					require.NoError(t, a.err)
					require.Equal(t, answers[0].info.Checksums, a.info.Checksums)
				}
				got, err := l.get(op, m.ref.Key)
				require.NoError(t, err)
				require.Len(t, got, minPartSize+1)
			}
		})
	}
}
