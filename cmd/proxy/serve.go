package main

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/s3fence/s3fence/internal/config"
	"github.com/s3fence/s3fence/internal/proxy"
)

// defaultConfig is read where no other file is named, and need not be there.
const defaultConfig = "s3fence.yaml"

func newServe() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `serve runs the proxy that the configuration describes. It checks state, stores,
credentials, buckets and ports first; where one is not as it should be it says
which and what to do, and starts nothing. SIGTERM or Ctrl-C ends it in good
order, a second one at once.

The state must have been prepared with s3fence migrate.`,
		Example: `  s3fence serve --config /etc/s3fence.yaml
  S3FENCE_STATE=postgres://s3fence@db/s3fence s3fence serve`,
		Args: takes(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := load(file)
			if err != nil {
				return err
			}
			log := proxy.NewLogger(cfg.Log, c.ErrOrStderr())
			for _, key := range cfg.Unused() {
				log.Warn("a setting does nothing in this version", "key", key)
			}
			p, err := proxy.New(c.Context(), cfg, proxy.Options{Logger: log})
			if err != nil {
				return err
			}
			return p.Run(c.Context())
		},
	}
	configFlag(c, &file)
	return c
}

func configFlag(c *cobra.Command, file *string) {
	c.Flags().StringVar(file, "config", os.Getenv("S3FENCE_CONFIG"), "the configuration `file` (default "+defaultConfig+" where it exists)")
}

// configFile is the file to read, "" for none.
func configFile(named string) string {
	if named != "" {
		return named
	}
	if info, err := os.Stat(defaultConfig); err == nil && info.Mode()&fs.ModeType == 0 {
		return defaultConfig
	}
	return ""
}

func load(named string) (*config.Config, error) {
	file := configFile(named)
	c, err := config.Load(file, os.Environ())
	switch {
	case err != nil && file == "":
		return nil, fmt.Errorf("there is no %s here and no --config names another; of the environment alone:\n%w", defaultConfig, err)
	case err != nil:
		return nil, err
	}
	return c, proxy.Check(c)
}
