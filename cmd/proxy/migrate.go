package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/proxy"
)

func newMigrate() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the state's schema up to date",
		Long: `migrate prepares the state database that the configuration names, PostgreSQL or
SQLite, or brings it up to date. It may run while proxies serve, and more than
once. Of the configuration it needs the state alone.`,
		Example: `  s3fence migrate --config /etc/s3fence.yaml
  S3FENCE_STATE=postgres://s3fence@db/s3fence s3fence migrate
  S3FENCE_STATE=sqlite:/var/lib/s3fence/state.db s3fence migrate`,
		Args: takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := config.LoadState(configFile(file), os.Environ())
			if err != nil {
				return err
			}
			if err := proxy.Migrate(c.Context(), s); err != nil {
				return fmt.Errorf("state %s: %w", s, err)
			}
			_, _ = fmt.Fprintf(c.ErrOrStderr(), "the schema of %s is up to date\n", s)
			return nil
		},
	}
	configFlag(c, &file)
	return c
}
