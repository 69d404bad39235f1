package postgres

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/state"
)

// with sets parameters that a server or a database may have as defaults.
func with(t *testing.T, dsn string, settings map[string]string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	q := u.Query()
	for name, value := range settings {
		q.Set(name, value)
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String()
}

// TestIsolationIsOurs: whatever the database's defaults are, what a transaction
// reads after it waited for a lock is what was committed meanwhile (F4, F10), and it
// may write.
func TestIsolationIsOurs(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	plain := open(t, dsn, 4)
	sc := testScope(t, "s3://data/jobs/")
	require.NoError(t, plain.Transact(t.Context(), raise(sc, 1)))
	mark := fence.Token(1)
	for name, settings := range map[string]map[string]string{
		"repeatable read": {"default_transaction_isolation": "repeatable read"},
		"serializable":    {"default_transaction_isolation": "serializable"},
		"read only":       {"default_transaction_read_only": "on"},
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, with(t, dsn, settings), 2)
			watch := connect(t, dsn)
			held, release, raised := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			mark++
			next := raise(sc, mark)
			decide := next.Decide
			next.Decide = func(v *state.View) (state.Changes, error) {
				close(held)
				<-release
				return decide(v)
			}
			go func() { raised <- plain.Transact(t.Context(), next) }()
			<-held
			var seen fence.Token
			writer, ref := putOne(sc, uuid.NewString(), nil)
			put := writer.Decide
			writer.Decide = func(v *state.View) (state.Changes, error) {
				seen = v.Scope(sc, fence.Sealed).Mark.Token
				return put(v)
			}
			wrote := make(chan error, 1)
			go func() { wrote <- db.Transact(t.Context(), writer) }()
			const waiting = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
			require.Eventually(t, func() bool {
				var n int
				return watch.QueryRow(t.Context(), waiting).Scan(&n) == nil && n > 0
			}, 10*time.Second, 5*time.Millisecond)
			close(release)
			require.NoError(t, <-raised)
			require.NoError(t, <-wrote)
			require.Equal(t, mark, seen)
			require.True(t, exists(t, plain, ref))
		})
	}
}

// TestOutcomeIsOfTheDayOfItsID: whoever looks for an id, on whatever day and by
// whatever clock, looks where its transaction wrote (F7).
func TestOutcomeIsOfTheDayOfItsID(t *testing.T) {
	t.Parallel()
	midnight := time.Date(2031, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{midnight.Add(-time.Millisecond), midnight, midnight.Add(24*time.Hour - time.Millisecond), time.UnixMilli(0).UTC()} {
		var id uuid.UUID
		ms := at.UnixMilli()
		for i := range 6 {
			id[i] = byte(ms >> (40 - 8*i))
		}
		require.Equal(t, at.Truncate(24*time.Hour), outcomeDay(id).Time, "%v", at)
	}
}

// TestRetryAcrossMidnight: the answer that was written yesterday is found today (F7).
func TestRetryAcrossMidnight(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 2)
	conn := connect(t, dsn)
	retry := state.RetryID{1}
	tx, ref := putOne(testScope(t, "s3://data/jobs/"), "a", nil)
	put := tx.Decide
	tx.Decide = func(v *state.View) (state.Changes, error) {
		ch, err := put(v)
		ch.Retries = []state.Retry{{ID: retry, Result: []byte("first")}}
		return ch, err
	}
	require.NoError(t, db.Transact(t.Context(), tx))
	for found, day := false, ""; !found; {
		const yesterday = `UPDATE retries SET day = (clock_timestamp() AT TIME ZONE 'UTC')::date - 1 RETURNING day::text`
		require.NoError(t, conn.QueryRow(t.Context(), yesterday).Scan(&day))
		again, _ := putOne(testScope(t, "s3://data/jobs/"), "a", nil)
		again.Retries = []state.RetryID{retry}
		again.Decide = func(v *state.View) (state.Changes, error) {
			found = string(v.Retries[retry]) == "first"
			return state.Changes{}, nil
		}
		require.NoError(t, db.Transact(t.Context(), again))
		var still bool
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT $1::date = (clock_timestamp() AT TIME ZONE 'UTC')::date - 1`, day).Scan(&still))
		require.True(t, found || !still, "the answer of yesterday's try is not found")
	}
	require.True(t, exists(t, db, ref))
}
