package postgres

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/state"
)

const (
	waitLong = 10 * time.Second
	waitTick = 20 * time.Millisecond
)

func TestMigrateFromEmpty(t *testing.T) {
	t.Parallel()
	for name, through := range map[string]func(string) string{
		"direct":    func(dsn string) string { return dsn },
		"pgbouncer": func(dsn string) string { return pgtest.Bouncer(t, dsn) },
	} {
		t.Run(name, func(t *testing.T) {
			dsn := through(pgtest.DSN(t))
			db := open(t, dsn, 2)
			err := db.Check(t.Context())
			require.ErrorIs(t, err, state.ErrSchema)
			require.ErrorContains(t, err, "run: s3fence migrate")
			err = db.Transact(t.Context(), raise(testScope(t, "s3://data/jobs/"), 1))
			require.ErrorIs(t, err, state.ErrUnavailable, "fails closed (F9)")
			require.ErrorIs(t, err, state.ErrSchema)
			require.ErrorContains(t, err, "run: s3fence migrate")

			from, to, err := Migrate(t.Context(), dsn)
			require.NoError(t, err)
			require.Zero(t, from)
			require.Equal(t, known, to)
			require.NoError(t, db.Check(t.Context()))
			from, to, err = Migrate(t.Context(), dsn)
			require.NoError(t, err)
			require.Equal(t, []int64{known, known}, []int64{from, to}, "a second time there is nothing to do")
			require.NoError(t, db.Transact(t.Context(), raise(testScope(t, "s3://data/jobs/"), 1)))
		})
	}
}

// TestMigrateAtOnce: of several that begin together one does the work.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	through := pgtest.Bouncer(t, dsn)
	var g errgroup.Group
	worked := make(chan int64, 6)
	for n := range 6 {
		at := dsn
		if n%2 == 1 {
			at = through
		}
		g.Go(func() error {
			from, to, err := Migrate(t.Context(), at)
			worked <- to - from
			return err
		})
	}
	require.NoError(t, g.Wait())
	var sum int64
	for range 6 {
		sum += <-worked
	}
	require.Equal(t, known, sum)
}

// TestOtherSchemas: older ones name the remedy, newer ones are left alone.
func TestOtherSchemas(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 2)
	conn := connect(t, dsn)
	_, err := conn.Exec(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, true)", known+1)
	require.NoError(t, err)
	err = db.Check(t.Context())
	require.ErrorIs(t, err, state.ErrSchema)
	require.ErrorContains(t, err, "knows "+strconv.FormatInt(known, 10)+" at most")
	_, to, err := Migrate(t.Context(), dsn)
	require.ErrorIs(t, err, state.ErrSchema)
	require.Equal(t, known+1, to)
	require.ErrorContains(t, misfit(known-1), "run: s3fence migrate")
}
