package postgres

import (
	"io/fs"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/pgtest"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/migrations"
)

// F1: a state of the first release keeps its marks and guards.
func TestUpgradeFromTheFirstSchema(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	pool := stdlib.OpenDB(*config)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	files, err := fs.Sub(migrations.Files, "postgres")
	require.NoError(t, err)
	provider, err := goose.NewProvider(goose.DialectPostgres, pool, files)
	require.NoError(t, err)
	_, err = provider.UpTo(t.Context(), 1)
	require.NoError(t, err)
	_, err = pool.ExecContext(t.Context(), `
		INSERT INTO scopes VALUES ('s3://data/jobs/', 2, 34, 'sealed', 3, 2, NULL, 'AKIA', 'ann', now(), now() + interval '1 hour', 30000000000);
		INSERT INTO guards VALUES (7, 's3://data/*/', 'sealed', 'optional', 's3fence', 5, 'active', NULL);
		UPDATE guard_list SET last_guard = 7`)
	require.NoError(t, err)

	_, _, err = Migrate(t.Context(), dsn)
	require.NoError(t, err)
	sc := testScope(t, "s3://data/jobs/")
	v, err := open(t, dsn, 2).Read(t.Context(), state.Query{Scopes: []fence.Scope{sc}, Guards: []fence.GuardID{7}, Lines: []fence.Scope{sc}})
	require.NoError(t, err)
	row := v.Scopes[sc]
	require.Equal(t, fence.Mark{Generation: 2, Token: 34}, row.Mark)
	require.Equal(t, "ann", row.Last.Owner)
	require.Empty(t, row.Ticket)
	require.Equal(t, fence.Optional, v.Guards[7].Tokens)
	require.Zero(t, v.Guards[7].LockDelay)
	require.Empty(t, v.Heads)
}
