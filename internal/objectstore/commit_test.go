package objectstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func openTest(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, Options{AccessKey: "key", SecretKey: "secret"})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func putBytes(s *Store, key string, n int) error {
	_, err := s.put(context.Background(), "bucket", []byte(key), head{}, &body{inlined: make([]byte, n), size: int64(n)}, conditions{})
	return err
}

func TestRefusedWriteLeavesItsBatchAlone(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	require.NoError(t, s.CreateBucket(t.Context(), "bucket"))
	refusal := errors.New("refused")
	// Holding the committer in a write makes the others share a batch.
	entered, leave := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		s.commits.do(t.Context(), func(*txn) error { close(entered); <-leave; return nil })
	})
	<-entered
	results := make([]error, 40)
	for i := range results {
		wg.Go(func() {
			key := fmt.Sprint("k", i)
			if i%2 == 0 {
				results[i] = putBytes(s, key, 10)
				return
			}
			results[i] = s.commits.do(t.Context(), func(tx *txn) error {
				id, _, err := tx.lookup("bucket", []byte(key))
				if err == nil {
					err = tx.replace(id, []byte(key), nil, &object{body: -1, etag: "x", head: []byte("{}")})
				}
				return errors.Join(err, refusal)
			})
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	// Where the queue has room, the committer must pass to tell that it is withdrawn.
	var withdrawn error
	wg.Go(func() {
		withdrawn = s.commits.do(gone, func(*txn) error { t.Error("a withdrawn write ran"); return nil })
	})
	close(leave)
	wg.Wait()
	require.ErrorIs(t, withdrawn, context.Canceled)
	for i, err := range results {
		_, found := s.stat(t.Context(), "bucket", fmt.Append(nil, "k", i))
		if i%2 == 0 {
			require.NoError(t, err)
			require.NoError(t, found)
		} else {
			require.ErrorIs(t, err, refusal)
			require.True(t, isCode(found, "NoSuchKey"), "a refused write is invisible")
		}
	}
}

func TestFullDatabaseRefusesAndRecovers(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	require.NoError(t, s.CreateBucket(t.Context(), "bucket"))
	require.NoError(t, putBytes(s, "old", 20<<10))
	limit := func(pages int) {
		t.Helper()
		require.NoError(t, s.commits.do(t.Context(), func(tx *txn) error {
			var got int
			return tx.row(fmt.Sprintf(`PRAGMA max_page_count = %d`, pages)).Scan(&got)
		}))
	}
	limit(1) // SQLite raises it to what is in use
	var failed error
	for i := 0; failed == nil && i < 50; i++ {
		failed = putBytes(s, fmt.Sprint("fill", i), 20<<10)
	}
	require.Error(t, failed)
	require.NotErrorIs(t, failed, errUndecided)
	limit(1 << 20)
	require.NoError(t, putBytes(s, "new", 20<<10), "writing goes on when there is room")
	c, err := s.open(t.Context(), "bucket", []byte("old"))
	require.NoError(t, err)
	require.Len(t, c.bytes, 20<<10)
}

// After a commit that failed for an unknown reason nothing more is
// acknowledged until the store is opened again.
func TestFailedCommitStopsWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openTest(t, dir)
	require.NoError(t, s.CreateBucket(t.Context(), "bucket"))
	require.NoError(t, putBytes(s, "old", 10))
	err := s.commits.do(t.Context(), func(tx *txn) error {
		// A foreign key that is judged at COMMIT makes the COMMIT fail.
		if err := tx.exec(`PRAGMA defer_foreign_keys = ON`); err != nil {
			return err
		}
		return tx.replace(999, []byte("k"), nil, &object{body: -1, etag: "x", head: []byte("{}")})
	})
	require.ErrorIs(t, err, errUndecided)
	err = putBytes(s, "late", 10)
	require.ErrorIs(t, err, ErrBroken)
	require.NotErrorIs(t, err, errUndecided)
	_, err = s.stat(t.Context(), "bucket", []byte("old"))
	require.NoError(t, err, "reads go on")
	require.NoError(t, s.Close())
	again := openTest(t, dir)
	require.NoError(t, putBytes(again, "late", 10))
	_, err = again.stat(t.Context(), "bucket", []byte("old"))
	require.NoError(t, err)
}
