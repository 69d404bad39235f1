package proxy

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/postgres"
	"github.com/s3fence/s3fence/internal/sqlite"
	"github.com/s3fence/s3fence/internal/state"
)

// Migrate brings the schema of a state up to date. It may run while proxies
// serve, and by several at once; what it finds done it leaves.
func Migrate(ctx context.Context, s config.State) error {
	switch {
	case s.Postgres():
		_, _, err := postgres.Migrate(ctx, s.Reveal())
		return err
	case s.SQLite() != "":
		return sqlite.Migrate(ctx, s.SQLite())
	}
	return fmt.Errorf("state %s: neither a PostgreSQL URL nor sqlite:PATH", s)
}

// openState opens a state whose schema fits.
func openState(ctx context.Context, s config.State, log *slog.Logger) (state.State, error) {
	if path := s.SQLite(); path != "" {
		st, err := sqlite.Open(ctx, path, sqlite.Options{})
		if err != nil {
			return nil, fmt.Errorf("state %s: %w", s, err)
		}
		return st, nil
	}
	st, err := postgres.Open(ctx, s.Reveal(), postgres.Options{Logger: log})
	if err != nil {
		return nil, fmt.Errorf("state %s: %w", s, err)
	}
	if err := st.Check(ctx); err != nil {
		_ = st.Close()
		return nil, fmt.Errorf("state %s: %w", s, err)
	}
	return st, nil
}
