package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

// TestPartsDoNotOvertakeTheCompletion: who completes an upload has its turn behind the
// part that is being recorded, and before those that come later. It holds the locks of
// other requests' scopes meanwhile.
func TestPartsDoNotOvertakeTheCompletion(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 0)
	sc, err := fence.ParseScope("s3://parts/hot/")
	require.NoError(t, err)
	at := state.NewID()
	up := state.Upload{ID: "0123456789abcdef0123456789abcdef", Ref: object.Ref{Bucket: "parts", Key: "hot/a"}, Scope: sc, Attempt: at, Physical: "p/" + at.String(), Upstream: "x"}
	put := func() error {
		return state.Run(context.WithoutCancel(t.Context()), db, &state.Tx{
			Scopes: []state.ScopeLock{{Scope: sc, Mode: state.Shared}}, Keys: []object.Ref{up.Ref}, Uploads: []string{up.ID},
			Decide: func(v *state.View) (state.Changes, error) {
				up.Initiated = v.Now
				return state.Changes{PutUploads: []state.Upload{up}}, nil
			},
		})
	}
	require.NoError(t, put())

	first := connect(t, dsn)
	tx, err := first.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), keepPart, up.ID, 1, "e1", int64(4), "", "")
	require.NoError(t, err)
	look := connect(t, dsn)
	waiting := func(n int) func() bool {
		return func() bool {
			var have int
			err := look.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&have)
			return err == nil && have == n
		}
	}
	up.Completed = true
	completed, second := make(chan error, 1), make(chan error, 1)
	go func() { completed <- put() }()
	require.Eventually(t, waiting(1), 4*time.Second, time.Millisecond, "the completion waits for the first part")
	go func() {
		second <- db.KeepPart(context.WithoutCancel(t.Context()), state.UploadPart{Upload: up.ID, Number: 2, ETag: "e2", Size: 4})
	}()
	require.Eventually(t, waiting(2), 4*time.Second, time.Millisecond, "the second part waits for the completion")
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-completed)
	require.ErrorIs(t, <-second, object.ErrNoSuchUpload)
}
