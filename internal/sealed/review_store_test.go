package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/guarded"
	"github.com/s3fence/s3fence/internal/memory"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/objectstore"
	"github.com/s3fence/s3fence/internal/upstream"
)

// odd is a lab whose store is asked through a handler that may answer for it.
func odd(t *testing.T, wrap func(next http.Handler) http.Handler, opts ...memory.Option) *lab {
	t.Helper()
	back, err := objectstore.Open(t.Context(), t.TempDir(), objectstore.Options{AccessKey: "back", SecretKey: "back-secret"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = back.Close() })
	require.NoError(t, back.CreateBucket(t.Context(), "data"))
	srv := httptest.NewServer(wrap(back.Handler()))
	t.Cleanup(srv.Close)
	client, err := upstream.New(upstream.Config{Name: "main", Endpoint: srv.URL, AccessKey: "back", SecretKey: "back-secret", PathStyle: true})
	require.NoError(t, err)
	c := &clock{now: time.Now()}
	st := memory.New(append([]memory.Option{memory.WithClock(c.Now)}, opts...)...)
	s, err := New(t.Context(), st, oneStore{client}, Options{})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return &lab{Store: s, t: t, st: st, clock: c, client: client, guards: map[string]*fence.Guard{}}
}

// changed answers as next does, but for what change does to the answer.
func changed(w http.ResponseWriter, r *http.Request, next http.Handler, change func(*httptest.ResponseRecorder)) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	change(rec)
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

// A bucket that encrypts by default has ETags which are no MD5 although they
// look like one, and says so in its answers.
func TestReviewStoreWithDefaultEncryption(t *testing.T) { // F6
	t.Parallel()
	l := odd(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			changed(w, r, next, func(rec *httptest.ResponseRecorder) {
				if r.Method == http.MethodPut && rec.Code == 200 {
					rec.Header().Set("X-Amz-Server-Side-Encryption", "aws:kms")
					rec.Header().Set("Etag", `"0123456789abcdef0123456789abcdef"`)
				}
			})
		})
	})
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	body := strings.Repeat("x", maxBuffered+5)
	_, err := l.put(op, "jobs/a", body)
	require.NoError(t, err)
	got, err := l.get(op, "jobs/a")
	require.NoError(t, err)
	assert.Equal(t, len(body), len(got))
}

// Every part of a body of unknown length is compared with what the store says
// it has.
func TestReviewPiecesAreCompared(t *testing.T) { // F6
	t.Parallel()
	l := odd(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			changed(w, r, next, func(rec *httptest.ResponseRecorder) {
				if r.Method == http.MethodPut && r.URL.Query().Get("partNumber") == "1" {
					rec.Header().Set("Etag", `"0123456789abcdef0123456789abcdef"`)
				}
			})
		})
	})
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	_, err := l.put(op, "jobs/a", "hello", func(p *guarded.Put) { p.Size = -1 })
	require.ErrorIs(t, err, guarded.ErrStore)
}

// A page without entries that is not the last one is a page like any other.
func TestReviewEmptyPagesOfTheStore(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	l := odd(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if r.Method != http.MethodGet || q.Get("list-type") == "" {
				next.ServeHTTP(w, r)
				return
			}
			if asked.Add(1) > 20 {
				http.Error(w, "enough", http.StatusForbidden)
				return
			}
			if q.Get("continuation-token") == "" {
				fmt.Fprint(w, `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>more</NextContinuationToken></ListBucketResult>`)
				return
			}
			fmt.Fprint(w, `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>pub/a</Key><Size>1</Size></Contents></ListBucketResult>`)
		})
	})
	l.guard(jobs)
	entries, _, more, err := l.List(t.Context(), l.list(), guarded.ListQuery{Bucket: "data", Prefix: "pub/", Limit: 10})
	require.NoError(t, err)
	require.Len(t, entries, 1)
	assert.False(t, more)
}

// Names of our own stay unseen whatever the delimiter is.
func TestReviewReservedNamesUnderAnyDelimiter(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	_, err := l.put(op, "jobs/a", "x")
	require.NoError(t, err)
	for _, d := range []string{"/", ".", "fen", "e/"} {
		for _, guards := range []*fence.Guards{l.list(), nil} {
			entries, _, more, err := l.List(t.Context(), guards, guarded.ListQuery{Bucket: "data", Prefix: ".", Delimiter: d, Limit: 10})
			require.NoError(t, err)
			assert.Empty(t, entries, d)
			assert.False(t, more)
		}
	}
	require.NoError(t, l.plain(".s3fence-not"))
	entries, _, _, err := l.List(t.Context(), l.list(), guarded.ListQuery{Bucket: "data", Delimiter: "fen", Limit: 10})
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Key)
	}
	assert.Equal(t, []string{".s3fen", "jobs/a"}, names)
}

func (l *lab) plain(key string) error {
	_, err := l.client.PutObject(l.t.Context(), "data", key, strings.NewReader("plain"), 5, upstream.PutOptions{})
	return err
}

// One name that the store does not delete must not keep the others.
func TestReviewOneKeyThatCannotBeDeleted(t *testing.T) {
	t.Parallel()
	stuck := ""
	var l *lab
	l = odd(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !r.URL.Query().Has("delete") {
				next.ServeHTTP(w, r)
				return
			}
			doc, _ := io.ReadAll(r.Body)
			if !strings.Contains(string(doc), stuck) {
				r.Body = io.NopCloser(bytes.NewReader(doc))
				next.ServeHTTP(w, r)
				return
			}
			for _, key := range regexp.MustCompile("<Key>([^<]+)</Key>").FindAllStringSubmatch(string(doc), -1) {
				if key[1] != stuck {
					_ = l.client.DeleteObject(r.Context(), "data", key[1])
				}
			}
			fmt.Fprintf(w, `<DeleteResult><Error><Key>%s</Key><Code>AccessDenied</Code></Error></DeleteResult>`, stuck)
		})
	})
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	for range 3 {
		_, err := l.put(op, "jobs/a", "x")
		require.NoError(t, err)
	}
	stuck = l.physical()[0]
	var passed error
	for range 4 {
		l.clock.Add(8 * 24 * time.Hour)
		passed = errors.Join(passed, l.CollectOnce(t.Context()))
	}
	require.Error(t, passed, "what cannot be deleted is told")
	assert.Len(t, l.physical(), 2, "the one that stands and the object's own")
	list, err := l.st.ListGarbage(t.Context(), "data", l.clock.Now().Add(time.Hour), 10)
	require.NoError(t, err)
	for _, g := range list {
		assert.Equal(t, stuck, g.Physical, "nothing waits behind it")
	}
}

// What clients call their metadata must not pass for ours.
func TestReviewMetadataCannotBeForged(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	_, err := l.put(op, "jobs/a", "x", func(p *guarded.Put) {
		p.Meta = map[string]string{"s3fence-token": "999", "s3fence-key": "b3RoZXI", "who": "ann"}
	})
	require.NoError(t, err)
	head, err := l.client.HeadObject(t.Context(), "data", l.physical()[0], nil)
	require.NoError(t, err)
	assert.Equal(t, op.Request.Token.String(), head.Header.Get(metaToken))
	assert.Equal(t, "1", head.Header.Get(metaPartial))
	info, err := l.Stat(t.Context(), op, object.Ref{Bucket: "data", Key: "jobs/a"})
	require.NoError(t, err)
	assert.Equal(t, "999", info.Meta["s3fence-token"])
}

// endless is a body whose Read waits until it is told to fail.
type endless struct {
	begun, free, ended chan struct{}
	left               int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left > 0 {
		n := min(e.left, len(p))
		e.left -= n
		return n, nil
	}
	select {
	case <-e.begun:
	default:
		close(e.begun)
	}
	<-e.free
	defer close(e.ended)
	return 0, io.ErrUnexpectedEOF
}

// A store that answers before it has the body leaves a Read of the body running
// behind the answer; how that ends concerns nobody any more. For the race
// detector.
func TestReviewStoreAnswersEarly(t *testing.T) {
	t.Parallel()
	body := &endless{begun: make(chan struct{}), free: make(chan struct{}), ended: make(chan struct{}), left: 1 << 20}
	l := odd(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPut {
				next.ServeHTTP(w, r)
				return
			}
			<-body.begun
			_ = http.NewResponseController(w).EnableFullDuplex()
			w.WriteHeader(http.StatusServiceUnavailable)
			w.(http.Flusher).Flush()
			// Not ordered with the answer by anything but time, on purpose.
			time.AfterFunc(100*time.Millisecond, func() { close(body.free) })
		})
	})
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	_, err := l.Put(t.Context(), &guarded.Put{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/a"}, Body: body, Size: 8 << 20})
	require.Error(t, err)
	<-body.ended
}

// Bytes that the store has lost are an alarm for a copy as for a read.
func TestReviewCopyOfLostBytes(t *testing.T) { // F6, F7
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	_, err := l.put(op, "jobs/a", "x")
	require.NoError(t, err)
	require.NoError(t, l.client.DeleteObject(t.Context(), "data", l.physical()[0]))
	_, err = l.Copy(t.Context(), &guarded.Copy{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/b"},
		Source: guarded.Source{Ref: object.Ref{Bucket: "data", Key: "jobs/a"}, Op: op}})
	require.ErrorIs(t, err, guarded.ErrLostBytes)
}

func TestReviewRangeThatOverflows(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.guard(jobs)
	op := l.op(jobs, l.grant(jobs))
	_, err := l.put(op, "jobs/a", "hello")
	require.NoError(t, err)
	up := guarded.UploadRef{Op: op, Ref: object.Ref{Bucket: "data", Key: "jobs/b"}}
	up.ID, err = l.CreateUpload(t.Context(), &guarded.CreateUpload{Op: op, Ref: up.Ref})
	require.NoError(t, err)
	for _, r := range []guarded.Range{{Offset: 0, Length: -1 << 63}, {Offset: 1<<63 - 1, Length: 5}, {Offset: 0, Length: 0}, {Offset: 3, Length: 3}} {
		_, err = l.CopyPart(t.Context(), &guarded.PartCopy{UploadRef: up, Number: 1, Source: guarded.Source{Ref: object.Ref{Bucket: "data", Key: "jobs/a"}, Op: op, Range: &r}})
		assert.ErrorIs(t, err, object.ErrSourceRange, r)
	}
}
